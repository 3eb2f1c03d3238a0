"""The test event of `verify`: how it is told from Bird's, and how it is taken out again.

Its class and type are none of Bird's 27, so no view, list or rate counts it and the bus has no rule for it. It has no
address, message or account. Batch and event have one id, which begins with a mark and says when it was made: what an
interrupted run has left is found by its key in the raw bucket, and removed by the next run.
"""

import json
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import closed_dates, erase
from bird_webhooks.operate.lease import no_maintenance
from bird_webhooks.operate.mentions import Person
from bird_webhooks.operate.stored import RAW, ROWS, Stored
from bird_webhooks.stack import Stack

EVENT_CLASS, EVENT_TYPE = "verify_event", "bird_webhooks_verify"
MARK = "bird-webhooks-verify-"
EMPTY_BYTES = len(b"[]")  # what `erase` leaves of a batch of which nothing is left
# Another run may be under way: what is younger is its own.
LEFT_BEHIND_AFTER = timedelta(minutes=15)
# A message about an empty batch may still wait (14 days); one about a batch that is gone would be quarantined.
EMPTY_FOR = timedelta(days=15)
CLOCKS_APART = timedelta(minutes=1)
LOOKS = 3
ROW_FOLDERS = ("events", "events-csv", "closed")


class VerifyEvent(NamedTuple):
    """One batch with one event. `id` is that of both."""

    id: str

    @property
    def made_at(self) -> datetime:
        return datetime.strptime(self.id.removeprefix(MARK)[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    @property
    def body(self) -> bytes:
        event = {"type": EVENT_TYPE, "event_id": self.id, "timestamp": str(int(self.made_at.timestamp()))}
        return json.dumps([{"msys": {EVENT_CLASS: event}}]).encode()

    @property
    def person(self) -> Person:
        """What `erase` goes by: the id, in the place of a hash of the address, and the identity of the event's rows."""
        identity = ("", EVENT_CLASS, EVENT_TYPE, self.id)
        return Person(f"{self.id}@example.com", frozenset({self.id}), {identity})


def new(now: datetime) -> VerifyEvent:
    return VerifyEvent(f"{MARK}{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}")


def raw_key(stack: Stack, event: VerifyEvent) -> str:
    return f"{stack.raw_prefix}/{event.id}.json"


def remove(stack: Stack, own: Iterable[VerifyEvent], now: datetime) -> tuple[int, int]:
    """How many rows were removed, and how many batches were emptied. Errors: OperateError if a row stays.

    Rows first: the raw batch is what a run that is cut short is known by.
    """
    rows = batches = 0
    mine = {event.id for event in own}
    bucket = stack.output("RawBucketName")
    for event, versions in _raw_batches(stack, bucket):
        newest = max(version.modified for version in versions)
        if event.id not in mine and now - newest < LEFT_BEHIND_AFTER:
            continue
        if all(version.size <= EMPTY_BYTES for version in versions):
            if now - newest >= EMPTY_FOR:
                for version in versions:
                    stack.s3.delete_object(Bucket=bucket, Key=version.key, VersionId=version.version)
            continue
        since = min(version.modified for version in versions) - CLOCKS_APART
        rows += _remove_rows(stack, event, since)
        for version in versions:
            if version.size > EMPTY_BYTES:
                erase.take_out_of(stack, event.person, version, keep_time=False)
        batches += 1
    return rows, batches


def _raw_batches(stack: Stack, bucket: str) -> Iterator[tuple[VerifyEvent, list[Stored]]]:
    by_event: dict[str, list[Stored]] = {}
    pages = stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{stack.raw_prefix}/{MARK}")
    for page in pages:
        for item in page.get("Versions", []):
            known = item["Key"].rpartition("/")[2].removesuffix(".json")
            if re.fullmatch(rf"{MARK}\d{{8}}T\d{{6}}-[0-9a-f]{{8}}", known):
                by_event.setdefault(known, []).append(Stored.listed(RAW, bucket, item))
    yield from ((VerifyEvent(known), versions) for known, versions in by_event.items())


def _remove_rows(stack: Stack, event: VerifyEvent, since: datetime) -> int:
    """From files of the event's day that were written since it was stored: each keeps the rows of others."""
    removed = 0
    for _ in range(LOOKS):
        with ThreadPoolExecutor(erase.AT_ONCE) as pool:
            files = list(_files(stack, event, since))
            found = zip(files, pool.map(lambda file: erase.look_at(stack, event.person, file), files), strict=True)
            holding = [(file, rows) for file, rows in found if rows is not None and rows != erase.UNREADABLE]
        if not holding:
            return removed

        def take_out(file: Stored) -> None:
            erase.take_out_of(stack, event.person, file)

        # Only what a run that was cut short left for hours can be in a closed file.
        closed = [file for file, _ in holding if closed_dates.is_of_one(file)]
        with no_maintenance(stack, "verify") if closed else nullcontext(), ThreadPoolExecutor(erase.AT_ONCE) as pool:
            deque(closed_dates.take_out(stack, event.person, closed, lambda _: True, take_out, pool), maxlen=0)
            closed_dates.delete_replaced(stack, closed)
            for file, _ in holding:
                if file not in closed:
                    take_out(file)
        removed += sum(rows for _, rows in holding)
    raise OperateError(f"the row of {event.id} comes again and again")


def _files(stack: Stack, event: VerifyEvent, since: datetime) -> Iterator[Stored]:
    bucket = stack.output("LakeBucketName")
    for folder in ROW_FOLDERS:
        prefix = f"{folder}/event_date={event.made_at:%Y-%m-%d}/"
        for page in stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                if item["LastModified"] >= since and not item["Key"].endswith("/"):
                    yield Stored.listed(ROWS, bucket, item)
