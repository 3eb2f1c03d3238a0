"""The lease of the table's maintenance (docs/lake.md): while a command has it, no closed date gets a new version.

It is renewed as long as the program runs, so that one that was killed keeps it for minutes, not for hours.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import say
from process.lease import LEASE, Lease

LASTS = timedelta(minutes=10)
RENEWED_AFTER_SECONDS = 120
# A run of the maintenance ends after 15 minutes, and its lease after 16.
WAIT_SECONDS = 17 * 60
PAUSE_SECONDS = 5
MISSING = ("NoSuchKey", "404")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


@contextmanager
def no_maintenance(stack: Stack, command: str) -> Iterator[None]:
    """`command` has the lease, and is named by `status`.

    Errors: OperateError, if another has it for long, or took it because this machine stood still.
    """
    held = _waited_for(stack, command)
    keeper = threading.Thread(target=held.keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        held.ended.set()
        keeper.join()
        held.give_back()
    if held.lost:
        raise OperateError(
            "this machine stood still for minutes, and the table's maintenance ran: give the command again"
        )


def holder(stack: Stack) -> Lease | None:
    """Who is at work, and until when at the latest; None if none is."""
    lease, _ = _read(stack)
    return lease if lease and lease.until > datetime.now(UTC) else None


def named(lease: Lease) -> str:
    """Such as `check-lake, until 12:34 UTC at the latest`."""
    return f"{lease.owner.partition(' ')[0]}, until {lease.until:%H:%M} UTC at the latest"


class Held:
    """The lease while this program has it. `lost`: another has taken it."""

    def __init__(self, stack: Stack, owner: str, etag: str) -> None:
        self.stack, self.owner, self.etag = stack, owner, etag
        self.ended, self.lost = threading.Event(), False

    def keep(self) -> None:
        while not self.ended.wait(RENEWED_AFTER_SECONDS):
            try:
                self.renew()
            except (BotoCoreError, ClientError):
                continue  # it lasts for some more tries
            if self.lost:
                return

    def renew(self) -> None:
        try:
            self._put(datetime.now(UTC) + LASTS)
        except ClientError as error:
            if error.response["Error"]["Code"] not in TAKEN:
                raise
            lease, etag = _read(self.stack)
            if lease is None or etag is None or lease.owner != self.owner:
                self.lost = True
            else:  # an earlier request was answered too late
                self.etag = etag

    def give_back(self) -> None:
        with suppress(BotoCoreError, ClientError):  # it ends by itself
            self._put(datetime.now(UTC))

    def _put(self, until: datetime) -> None:
        self.etag = _put(self.stack, Lease(self.owner, until), IfMatch=self.etag)


def _waited_for(stack: Stack, command: str) -> Held:
    ends, said = time.monotonic() + WAIT_SECONDS, ""
    while True:
        now = datetime.now(UTC)
        lease, etag = _read(stack)
        if lease is None or lease.until <= now:
            owner = f"{command} {uuid.uuid4()}"
            condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
            try:
                return Held(stack, owner, _put(stack, Lease(owner, now + LASTS), **condition))
            except ClientError as error:
                if error.response["Error"]["Code"] not in TAKEN:
                    raise
        else:
            if time.monotonic() > ends:
                raise OperateError(f"at work is {named(lease)}: give the command again then")
            if lease.owner != said:
                said = lease.owner
                say(f"waiting: at work is {named(lease)}")
        time.sleep(PAUSE_SECONDS)


def _read(stack: Stack) -> tuple[Lease | None, str | None]:
    try:
        found = stack.s3.get_object(Bucket=stack.output("LakeBucketName"), Key=LEASE)
    except ClientError as error:
        if error.response["Error"]["Code"] not in MISSING:
            raise
        return None, None
    return msgspec.json.decode(found["Body"].read(), type=Lease), str(found["ETag"])


def _put(stack: Stack, lease: Lease, **condition: Any) -> str:
    body = msgspec.json.encode(lease)
    answer = stack.s3.put_object(Bucket=stack.output("LakeBucketName"), Key=LEASE, Body=body, **condition)
    return str(answer["ETag"])
