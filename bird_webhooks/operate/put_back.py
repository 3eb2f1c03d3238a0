"""When raw batches were stored that an erasure has put back since: S3 then says the time of the erasure.

For each of them the lake bucket has an empty object whose key holds that time and the key of the batch, so that one
request lists a thousand. It is written before the batch is put back. Keys of raw batches hold no personal data.
"""

from datetime import UTC, datetime

from bird_webhooks.operate.dates import listed
from bird_webhooks.stack import Stack

PREFIX = "maintenance/put-back/"


def remember(stack: Stack, key: str, stored_at: datetime) -> None:
    name = f"{PREFIX}{stored_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}/{key}"
    stack.s3.put_object(Bucket=stack.output("LakeBucketName"), Key=name, Body=b"")


def times(stack: Stack) -> dict[str, datetime]:
    """By key of the batch. Of one that was put back several times, the first is when it was stored."""
    found: dict[str, datetime] = {}
    for page in listed(stack, PREFIX):
        for item in page.get("Contents", []):  # in the order of their keys, so the earliest comes first
            time, _, key = item["Key"].removeprefix(PREFIX).partition("/")
            found.setdefault(key, datetime.fromisoformat(time))
    return found
