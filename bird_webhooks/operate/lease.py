"""The lease of the table's maintenance (docs/lake.md): while an erasure has it, no closed date gets a new version."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import say
from process.lease import LEASE, Lease

OWNER = "erase"
# For the largest lake. An erasure that was cut short is given again, and takes its own lease over.
HOURS = 6
# A run of the maintenance ends after 15 minutes, and its lease after 16.
WAIT_SECONDS = 17 * 60
PAUSE_SECONDS = 5
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


@contextmanager
def no_maintenance(stack: Stack) -> Iterator[None]:
    """Errors: OperateError, if the maintenance does not come to its end."""
    ends = time.monotonic() + WAIT_SECONDS
    while not (etag := take(stack)):
        if time.monotonic() > ends:
            raise OperateError("the table's maintenance is still at work: give the command again later")
        say("waiting for the table's maintenance to end")
        time.sleep(PAUSE_SECONDS)
    try:
        yield
    finally:
        with suppress(ClientError):  # it ends by itself
            put(stack, datetime.now(UTC), IfMatch=etag)


def take(stack: Stack) -> str | None:
    """Its ETag; None while another has it."""
    now = datetime.now(UTC)
    try:
        found = stack.s3.get_object(Bucket=stack.output("LakeBucketName"), Key=LEASE)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        condition = {"IfNoneMatch": "*"}
    else:
        lease = msgspec.json.decode(found["Body"].read(), type=Lease)
        if lease.until > now and lease.owner != OWNER:
            return None
        condition = {"IfMatch": found["ETag"]}
    try:
        return put(stack, now + timedelta(hours=HOURS), **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] not in TAKEN:
            raise
        return None


def put(stack: Stack, until: datetime, **condition: Any) -> str:
    body = msgspec.json.encode(Lease(OWNER, until))
    answer = stack.s3.put_object(Bucket=stack.output("LakeBucketName"), Key=LEASE, Body=body, **condition)
    return str(answer["ETag"])
