"""Makes the local AWS as strict as AWS: a rule for each case in which AWS refuses, or differs, and MiniStack does not.

`emulated` has the rules that change MiniStack at run time: local_aws/ministack.py applies them. `template` has those
for the transformed template: `make check` applies them. docs/local-aws.md lists all rules.
"""
