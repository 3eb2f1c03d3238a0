"""Persons who were erased, and when, without their addresses: for all that brings in events from elsewhere. Pure.

`erase` leaves one object for each person in the lake bucket, `erased/<HMAC-SHA256 of the address>.json`. What fills in,
imports or restores events reads them all with `read`, asks `covers` for each address of an event, and leaves the event
out if it does: what the person did before the erasure. What they did afterwards is new, and stays.

The key is a secret of the stack: without it an object tells nothing, with it an address can be tested. It is never
rotated, because the names of all tombstones are made with it.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from process.addresses import normalised

PREFIX = "erased/"


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


def encode(tombstone: Tombstone) -> bytes:
    return msgspec.json.encode(tombstone)


def decode(body: bytes) -> Tombstone:
    """Errors: msgspec.MsgspecError."""
    return msgspec.json.decode(body, type=Tombstone)


def renewed(before: Tombstone | None, erased_at: datetime, key: bytes, unfinished: Iterable[str]) -> Tombstone:
    """Of an erasure; the time never goes back, whichever of two erasures writes last."""
    latest = max(erased_at, before.erased_at) if before else erased_at
    return Tombstone(latest, key_id(key), sorted(unfinished))


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
