"""Persons who were erased, and when: a copy of what process.tombstones has, and the reading of it from the lake bucket.

Filling leaves out what these persons did before they were erased.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from reconcile.addresses import normalised

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "erased/"
# An erasure leaves its tombstone first, and looks through everything once more five minutes later.
READ_AGAIN_SECONDS = 60


class UnknownKeyError(Exception):
    """Tombstones of another key: whom they are of cannot be told. Nothing should be brought in until they can be."""


class Tombstone(msgspec.Struct, frozen=True):
    """`key_id` tells keys apart, and not what they are. `unfinished`: raw batches in which an erasure that was cut
    short had found the person, and which it may not have written back yet."""

    erased_at: datetime
    key_id: str
    unfinished: list[str] = []


def name(address: str, key: bytes) -> str:
    """The object's key in the lake bucket."""
    person = "@".join(normalised(address)).encode(errors="surrogatepass")
    return f"{PREFIX}{hmac.digest(key, person, 'sha256').hex()}.json"


def key_id(key: bytes) -> str:
    return hmac.digest(key, b"key id", hashlib.sha256).hex()[:16]


def decode(body: bytes) -> Tombstone:
    """Errors: msgspec.MsgspecError."""
    return msgspec.json.decode(body, type=Tombstone)


@dataclass(frozen=True)
class Tombstones:
    key: bytes
    erased_at: Mapping[str, datetime]

    def covers(self, address: str | None, event_time: datetime | None) -> bool:
        """Whether the event is to be left out. One without a time cannot be shown to be new, and is."""
        if not address or not self.erased_at:
            return False
        erased_at = self.erased_at.get(name(address, self.key))
        return erased_at is not None and (event_time is None or event_time <= erased_at)


def read(objects: Iterable[tuple[str, bytes]], key: bytes) -> Tombstones:
    """Of all objects under PREFIX, as key and body. Errors: UnknownKeyError, msgspec.MsgspecError."""
    found = {object_key: decode(body) for object_key, body in objects}
    if any(tombstone.key_id != key_id(key) for tombstone in found.values()):
        raise UnknownKeyError("tombstones were made with another key than the stack's")
    return Tombstones(key, {object_key: tombstone.erased_at for object_key, tombstone in found.items()})


@dataclass
class Erased:
    """Called, it gives the tombstones in the lake bucket, read again after a minute. Errors: UnknownKeyError."""

    s3: "S3Client"
    bucket: str
    key: bytes
    clock: Callable[[], float] = time.monotonic
    _read_at: float | None = None
    _known: Tombstones | None = None

    def __call__(self) -> Tombstones:
        now = self.clock()
        if self._known is None or self._read_at is None or now - self._read_at >= READ_AGAIN_SECONDS:
            self._known, self._read_at = read(self._objects(), self.key), now
        return self._known

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX):
            for item in page.get("Contents", []):
                yield item["Key"], self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read()
