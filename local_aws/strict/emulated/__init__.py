"""Rules that change MiniStack while it runs, a module for each service. MiniStack's functions are replaced by name:
docs/decisions.md says why, and what a new version of it needs.
"""

from local_aws.strict.rules import Rule

RULES: list[Rule] = []


def apply() -> None:
    """Put every rule into the MiniStack of this process."""
    from local_aws.strict.emulated import athena, cloudformation, glue, iam, limits, s3, sqs  # noqa: F401

    for each in RULES:
        each.apply()
