"""Whether a text mentions an address, however it is written there; and files without what mentions it. Pure."""

import base64
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

from arro3.core import Array, DataType, Table
from arro3.io import read_parquet

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "functions"))

from process.normalise import (
    UnreadableBatchError,
    UnreadableElementError,
    content_key,
    element,
    normalise,
    split,
)
from process.table import to_parquet

# A character that is not part of a name, as percent-encoding and JSON write it.
_PUNCTUATION = "(?:[01][0-9a-f]|2[0-9acf]|3[a-f]|5[bd]|7[bd])"
# Not in the midst of a longer address. Python and PostgreSQL both read these.
_BEFORE = (
    r"(?:(?<![\w.+-])"
    rf"|(?<=%{_PUNCTUATION})|(?<=%25{_PUNCTUATION})|(?<=\\u00{_PUNCTUATION})"
    r"|(?<=\\[bfnrt]))"
)
_AFTER = r"(?![\w-]|\.\w)"

# What an event is known by in every place: class, type, key.
type Identity = tuple[str, str, str]


class Remainder(NamedTuple):
    """A file without `erased` of its events; `body` is None where none is left, and the file may go."""

    body: bytes | None
    erased: int


@dataclass
class Person:
    """An address, its hashes in the rows, and the events known to be of it: their rows may hold the address no more."""

    address: str
    hashes: frozenset[str] = frozenset()
    events: set[Identity] = field(default_factory=set)

    @cached_property
    def expression(self) -> str:
        """In any case, with JSON's escapes, percent-encoded; a regular expression to be read without case."""
        return _BEFORE + "".join(map(_written, self.address)) + _AFTER

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.expression, re.IGNORECASE)

    @cached_property
    def _certain(self) -> str:
        """What every way of writing it has in it: a search for it is quick, and mostly in vain."""
        return max(re.findall(r"[a-z0-9]+", self.address.partition("@")[0].lower()), key=len, default="")

    def in_text(self, text: str) -> bool:
        return (self._certain in text.lower() and self._pattern.search(text) is not None) or any(
            hashed in text for hashed in self.hashes
        )

    def in_bytes(self, body: bytes) -> bool:
        if self._certain.encode() not in body.lower() and not any(hashed.encode() in body for hashed in self.hashes):
            return False  # and nothing had to be decoded
        return self.in_text(body.decode(errors="replace"))

    def in_any(self, chunks: Iterable[bytes]) -> bool:
        """Of a file too large to be held."""
        before = b""
        for chunk in chunks:
            if self.in_bytes(before + chunk):
                return True
            before = (before + chunk)[-4096:]
        return False


def _written(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    ways = [re.escape(character)]
    for one in dict.fromkeys([character, character.lower(), character.upper()]):
        ways.append("".join(f"%(?:25)*{byte:02x}" for byte in one.encode()))
        units = one.encode("utf-16-be").hex()
        ways.append("".join(rf"\\+u{units[start : start + 4]}" for start in range(0, len(units), 4)))
    return f"(?:{'|'.join(ways)})"


def batch_without(body: bytes, person: Person) -> Remainder | None:
    """A raw batch, the other events byte for byte; its erased events are noted. None where there is nothing to erase.

    What is no JSON array is of no use without its parts, and goes as a whole. An empty batch stays one, so that Bird
    cannot deliver it once more.
    """
    if not person.in_bytes(body):
        return None
    try:
        elements = split(body)
    except UnreadableBatchError:
        return Remainder(b"[]", 1)
    kept = []
    for raw in elements:
        if not person.in_bytes(raw):
            kept.append(raw)
            continue
        try:
            event = element(raw)
        except UnreadableElementError:
            continue
        values, _ = normalise(event)
        key = values.get("event_id") or content_key(event.raw)
        person.events.add((event.event_class, values.get("type") or "", key))
    return Remainder(b"[%b]" % b",".join(kept), len(elements) - len(kept))


def parquet_without(body: bytes, person: Person) -> Remainder | None:
    """The other rows in their order, written as process writes them."""
    if not body.startswith(b"PAR1") or not body.endswith(b"PAR1"):
        raise ValueError("not Parquet")
    rows = read_parquet(BytesIO(body)).read_all()
    erased: set[int] = set()
    for name in rows.schema.names:  # one at a time, for all of them take much memory
        if rows.schema.field(name).type == DataType.utf8():
            values = rows[name].to_pylist()
            if person.in_text("\n".join(filter(None, values))):
                erased |= {row for row, value in enumerate(values) if value and person.in_text(value)}
    if person.events:
        identities = zip(*(rows[name].to_pylist() for name in ("event_class", "type", "event_key")), strict=True)
        erased |= {row for row, (of, kind, key) in enumerate(identities) if (of, kind or "", key) in person.events}
    if not erased:
        return None
    kept = Array([row for row in range(rows.num_rows) if row not in erased], DataType.uint32())
    if not len(kept):
        return Remainder(None, len(erased))
    (whole,) = rows.combine_chunks().to_batches()
    return Remainder(to_parquet(Table.from_batches([whole.take(kept)], schema=rows.schema)), len(erased))


def csv_without(body: bytes, person: Person) -> Remainder | None:
    """The header and the other rows, byte for byte."""
    header, *records = _records(body.decode())
    places = [next(csv.reader([header.rstrip("\r\n")])).index(name) for name in ("event_class", "type", "event_key")]
    kept = [
        record for record in records if not person.in_text(record) and _identity(record, places) not in person.events
    ]
    if len(kept) == len(records):
        return None
    return Remainder("".join([header, *kept]).encode() if kept else None, len(records) - len(kept))


def _records(text: str) -> Iterator[str]:
    """With the ends of their lines. A quoted field may span lines."""
    record, quotes = "", 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        record += line
        quotes += line.count('"')
        if quotes % 2 == 0:
            yield record
            record, quotes = "", 0


def _identity(record: str, places: list[int]) -> Identity:
    fields = next(csv.reader(StringIO(record, newline="")))
    of, kind, key = (fields[place] for place in places)
    return of, kind, key


def quarantine_without(body: bytes, person: Person) -> Remainder | None:
    lines = body.splitlines(keepends=True)
    kept = [line for line in lines if not _quarantined_mentions(line, person)]
    if len(kept) == len(lines):
        return None
    return Remainder(b"".join(kept) or None, len(lines) - len(kept))


def _quarantined_mentions(line: bytes, person: Person) -> bool:
    encoded = json.loads(line).get("original_base64", "")
    return person.in_bytes(line) or person.in_bytes(base64.b64decode(encoded))
