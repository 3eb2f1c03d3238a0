"""A local AWS that says no: one rule for each behaviour in which AWS refuses, or differs, and MiniStack does not.

`emulated` holds the rules that change MiniStack while it runs: local_aws/ministack.py applies them. `template` holds
those that read the transformed template: `make check` applies them. docs/local-aws.md lists all of them.
"""
