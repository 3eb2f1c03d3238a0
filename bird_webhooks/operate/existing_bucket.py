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
# What has to stay: rows; who was erased; where data lies, and what was imported; what is proved complete.
KEPT = ("events/", "events-csv/", "closed/", "erased/", "maintenance/", "completeness/")
# Of that, what may go, as from the stack's own lake bucket.
GOING = (
    "maintenance/work/",
    "maintenance/put-back/",
    "maintenance/unshown/2",
    "maintenance/unshown/event_date=",
)


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
    expiring = [one for rule in rules if (one := _expiring(rule))]
    if raw and s3.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
        found.append("it keeps no versions, so a batch deleted by mistake is gone")
    elif raw and not any("NoncurrentVersionExpiration" in rule for rule in rules if rule.get("Status") == "Enabled"):
        found.append("no lifecycle rule deletes old versions, which hold what was deleted")
    parameters = stack.parameters
    if raw:
        folder = f"{stack.raw_prefix}/"
        after = [days for prefix, days in expiring if folder.startswith(prefix)]
        inside = [prefix for prefix, _ in expiring if prefix.startswith(folder) and prefix != folder]
        found += [f"a lifecycle rule deletes batches under {prefix}" for prefix in inside]
        found += _retention(after, int(parameters.get("RawRetentionDays", "0")))
    else:
        wanted = [*EXPIRING, *(["quarantine/"] if parameters.get("QuarantineRetentionDays", "0") != "0" else [])]
        if grows := [name for name in wanted if not any(name.startswith(prefix) for prefix, _ in expiring)]:
            found.append(f"no lifecycle rule deletes {', '.join(grows)}")
        lost = [name for name in KEPT if any(name.startswith(prefix) for prefix, _ in expiring)]
        lost += [prefix for prefix, _ in expiring if prefix.startswith(KEPT) and not prefix.startswith((*lost, *GOING))]
        if lost:
            found.append(f"a lifecycle rule deletes {', '.join(lost)}")
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


def _expiring(rule: Mapping[str, Any]) -> tuple[str, int] | None:
    """The prefix of which a rule deletes all objects, empty for the whole bucket, and after how many days: 0 for a rule
    with a date, which deletes new objects too once the date has passed.

    None for another rule: one that also chooses by tag or size, that deletes old versions or delete markers only.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    expiration, chosen = rule.get("Expiration", {}), rule.get("Filter", {})
    if rule.get("Status") != "Enabled" or not {"Days", "Date"} & expiration.keys() or chosen.keys() - {"Prefix"}:
        return None
    return str(chosen.get("Prefix", rule.get("Prefix", ""))), int(expiration.get("Days", 0))


def _retention(after: list[int], wanted: int) -> list[str]:
    """`after`: days of the rules that delete batches, of which S3 takes the shortest."""
    if not after:
        return [f"no lifecycle rule deletes batches after the {wanted} days of RawRetentionDays"] if wanted else []
    shortest = min(after)
    if not shortest:
        return ["a lifecycle rule deletes all batches at a date"]
    if not wanted:
        return [f"a lifecycle rule deletes batches after {shortest} days: give RawRetentionDays the same"]
    if shortest != wanted:
        return [f"a lifecycle rule deletes batches after {shortest} days, and RawRetentionDays is {wanted}"]
    return []
