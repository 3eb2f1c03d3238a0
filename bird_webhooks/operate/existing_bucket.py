"""What a bucket lacks that the stack has not made, and does not change. What the stack makes has all of it."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.stack import Stack

NONE = (
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
)
# Prefixes of the lake that would grow for ever: what the stack's own lake bucket expires.
EXPIRING = ("athena-results/", "maintenance/work/")


def lacks(stack: Stack, bucket: str, *, raw: bool) -> list[str]:
    """In words, each with where it leads."""
    s3 = stack.s3
    policy = json.loads(_or_none(lambda: s3.get_bucket_policy(Bucket=bucket)["Policy"]) or "{}")
    rules = _or_none(lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]) or []
    blocked = _or_none(lambda: s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]) or {}
    found = []
    if not any(_denies_plain_http(one) for one in _statements(policy)):
        found.append("its policy does not refuse plain HTTP")
    others = [str(one.get("Sid", "without a Sid")) for one in _statements(policy) if _may_deny_us(one)]
    if others:
        found.append(f"its policy denies by {', '.join(others)}: the stack's roles need to be exempt")
    if not blocked or not all(blocked.values()):
        found.append("public access is not blocked")
    prefixes = [_prefix(rule) for rule in rules if rule.get("Status") == "Enabled" and "Expiration" in rule]
    if raw and s3.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
        found.append("it keeps no versions, so a batch deleted by mistake is gone")
    elif raw and not any("NoncurrentVersionExpiration" in rule for rule in rules):
        found.append("no lifecycle rule deletes old versions, which hold what was deleted")
    parameters = stack.parameters()
    days = int(parameters.get("RawRetentionDays", "0"))
    if raw and bool(days) != any(f"{stack.raw_prefix}/".startswith(prefix) for prefix in prefixes):
        found.append(
            f"no lifecycle rule deletes batches after the {days} days of RawRetentionDays"
            if days
            else "a lifecycle rule deletes batches: give RawRetentionDays its days"
        )
    expiring = [*EXPIRING, *(["quarantine/"] if parameters.get("QuarantineRetentionDays", "0") != "0" else [])]
    if not raw and (grows := [name for name in expiring if not any(name.startswith(prefix) for prefix in prefixes)]):
        found.append(f"no lifecycle rule deletes {', '.join(grows)}")
    return found


def _or_none[T](read: Callable[[], T]) -> T | None:
    try:
        return read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in NONE:
            raise
        return None


def _statements(policy: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = policy.get("Statement", [])
    yield from found if isinstance(found, list) else [found]


def _denies_plain_http(statement: Mapping[str, Any]) -> bool:
    condition = json.dumps(statement.get("Condition", {})).lower()
    return statement["Effect"] == "Deny" and "aws:securetransport" in condition and "false" in condition


def _may_deny_us(statement: Mapping[str, Any]) -> bool:
    return statement["Effect"] == "Deny" and not _denies_plain_http(statement)


def _prefix(rule: Mapping[str, Any]) -> str:
    """Empty for all of the bucket."""
    chosen = rule.get("Filter", {})
    return str(chosen.get("And", chosen).get("Prefix", rule.get("Prefix", "")))
