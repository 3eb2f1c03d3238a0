"""What was handed to the import queue, in the lake bucket, so that a second run, or one after a cut, repeats nothing.

One object for each message that was sent, written after it. What was stored and is in no such object is handed over by
the next run: at worst twice, which makes the same rows.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import names
from bird_webhooks.stack import Stack

PREFIX = "maintenance/imported/"
READ_AT_ONCE = 16


class Done(msgspec.Struct, frozen=True):
    """An object of the source of which all events were handed over; `events` of it are counted as here already."""

    fingerprint: str
    events: int
    probes: int = 0


class Handed(msgspec.Struct, frozen=True):
    """One message: the batches that it names, and the objects that are complete with it."""

    batches: list[str]
    done: list[Done]


class Counted(NamedTuple):
    events: int
    probes: int


@dataclass
class Ledger:
    """`identities` of batches, and objects by their fingerprint."""

    stack: Stack
    identities: set[str] = field(default_factory=set)
    done: dict[str, Counted] = field(default_factory=dict)

    @classmethod
    def read(cls, stack: Stack) -> "Ledger":
        """Errors: OperateError."""
        ledger = cls(stack)
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            for handed in pool.map(ledger._read, ledger._keys()):
                ledger._take(handed)
        return ledger

    def write(self, batches: list[str], done: list[Done]) -> None:
        """After the message was sent."""
        handed = Handed(sorted(batches), sorted(done, key=lambda one: one.fingerprint))
        body = msgspec.json.encode(handed)
        key = f"{PREFIX}{hashlib.sha256(body).hexdigest()[:32]}.json"
        self.stack.s3.put_object(
            Bucket=self.stack.output("LakeBucketName"), Key=key, Body=body, ContentType="application/json"
        )
        self._take(handed)

    def _take(self, handed: Handed) -> None:
        self.identities.update(filter(None, map(names.identity, handed.batches)))
        self.done.update((one.fingerprint, Counted(one.events, one.probes)) for one in handed.done)

    def _keys(self) -> Iterator[str]:
        pages = self.stack.s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.stack.output("LakeBucketName"), Prefix=PREFIX):
            yield from (item["Key"] for item in page.get("Contents", []))

    def _read(self, key: str) -> Handed:
        body = self.stack.s3.get_object(Bucket=self.stack.output("LakeBucketName"), Key=key)["Body"].read()
        try:
            return msgspec.json.decode(body, type=Handed)
        except msgspec.DecodeError as error:
            raise OperateError(f"{key} of the lake bucket is not what an import writes: {error}") from error
