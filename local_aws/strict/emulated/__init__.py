"""Rules that change MiniStack at run time, one module for each service. They replace MiniStack's functions by name:
docs/decisions.md says why, and what to do for a new version of MiniStack.
"""

from local_aws.strict.rules import Rule

RULES: list[Rule] = []


def apply() -> None:
    """Put every rule into the MiniStack of this process."""
    from local_aws.strict.emulated import athena, cloudformation, glue, iam, kms, limits, network, s3, sqs  # noqa: F401

    for each in RULES:
        each.apply()
