"""Whether a text mentions an address in any spelling; and files without what mentions it. Pure."""

import base64
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO, StringIO
from typing import NamedTuple
from urllib.parse import unquote

from arro3.core import Array, DataType
from arro3.io import read_parquet

from bird_webhooks.operate.gzip_pieces import Kind, Piece, Unpacked, unpacked
from bird_webhooks.operate.spellings import names
from process.closing import to_file
from process.elements import UnreadableBatchError, repaired, split
from process.normalise import Element, UnreadableElementError, content_key, element, normalise
from process.rows import REPAIRABLE
from process.table import ENCODED, to_parquet

csv.field_size_limit(sys.maxsize)

# What identifies an event everywhere: account, class, type, key; '' for a missing one.
type Identity = tuple[str, str, str, str]
IDENTITY = ("customer_id", "event_class", "type", "event_key")


# Letters, digits and signs that are variants of ASCII's (full-width, circled, mathematical ...), and their escapes.
COMPATIBLE = (
    "[\u02b0-\u02e4\u1d2c-\u1d6a\u2070-\u209c\u2100-\u2129\u212b-\u218b\u2460-\u24ff\u3200-\u33ff\ufe50-\uffef"
    "\U0001d400-\U0001d7ff\U0001f100-\U0001f1ff]"
    r"|\\u(?:017f|02|1d|2[014]|3[23]|f[ef]|d83)|%(?:c5|cb|e1|e2|e3|ef|f0)|&#0*[0-9]{3,}|&#x0*[0-9a-f]{3,}"
)

MAX_UNZIPPED_BYTES = 64 * 1024 * 1024


class UnreadableError(Exception):
    """The address was not found in the object, and not all of it could be searched; or it cannot be taken out."""


class Remainder(NamedTuple):
    """A file without `erased` of its events; `body` is None if no event is left and the file can be deleted.

    `batches`: ids of the batches that brought the erased rows.
    """

    body: bytes | None
    erased: int
    batches: frozenset[str] = frozenset()


@dataclass
class Person:
    """An address, its hashes in the rows, and the events known to be of it, whose rows may not hold the address."""

    address: str
    hashes: frozenset[str] = frozenset()
    events: set[Identity] = field(default_factory=set)

    def in_text(self, text: str) -> bool:
        """For text of any length, JSON or not."""
        return (self.possibly_in(text) and names(text, self.address)) or any(hashed in text for hashed in self.hashes)

    def in_bytes(self, body: bytes) -> bool:
        return self.in_text(body.decode(errors="replace"))

    def in_any(self, chunks: Iterable[bytes]) -> bool:
        """For a file that is too large for memory."""
        before = b""
        for chunk in chunks:
            if self.in_bytes(before + chunk):
                return True
            before = (before + chunk)[-4096:]
        return False

    def possibly_in(self, text: str) -> bool:
        """A fast check: False for most texts that do not name the address, and never for one that does."""
        # A case-insensitive pattern with the long s and the Kelvin sign would match every s and k.
        return (
            self.certain in text.lower()
            or self._hidden.search(text) is not None
            or any(sign in text for sign in ("\u017f", "\u212a"))
        )

    @cached_property
    def certain(self) -> str:
        """The longest run of letters and digits in the address: if a text lacks it, one of them is encoded."""
        return max(re.findall(r"[a-z0-9]+", self.address.partition("@")[0].lower()), key=len, default="")

    @cached_property
    def hidden(self) -> str:
        return hidden(self.certain)

    @cached_property
    def _hidden(self) -> re.Pattern[str]:
        return re.compile(self.hidden, re.IGNORECASE)


def hidden(characters: str) -> str:
    """A pattern for an encoded one of them or of an escape; for Python and PostgreSQL, ignoring case."""
    codes = {ord(way) for one in characters for way in (one, one.upper())} | set(b"\\%&#=u")
    hexadecimal = "|".join(sorted(f"{code:02x}" for code in codes))
    decimal = "|".join(map(str, sorted(codes)))
    encoded = rf"(?:\\u00|%|&#x0*|=)(?:{hexadecimal})|&#0*(?:{decimal})(?![0-9])|&[a-z]+;"
    quoted = "|".join(re.escape(one) for one in sorted(set(characters))) or "(?!)"
    return rf"{encoded}|\\(?:{quoted})|{COMPATIBLE}|=\?[^ ?]+\?[bq]\?"


def batch_without(body: bytes, person: Person) -> Remainder | None:
    """A raw batch with the other events byte for byte; notes the erased ones. None if there is nothing to erase.

    A body that is not a JSON array is erased as a whole, because its parts are not known. An empty batch stays, so that
    Bird cannot deliver it again.
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
            event = readable(raw)
        except UnreadableElementError:
            continue
        values, _ = normalise(event)
        key = values.get("event_id") or content_key(event.raw)
        person.events.add((values.get("customer_id") or "", event.event_class, values.get("type") or "", key))
    return Remainder(b"[%b]" % b",".join(kept), len(elements) - len(kept))


def readable(raw: bytes) -> Element:
    """The element as process reads it, repaired if necessary. Errors: UnreadableElementError."""
    try:
        return element(raw)
    except UnreadableElementError as error:
        if str(error) not in REPAIRABLE:
            raise
        return element(repaired(raw))


def parquet_without(body: bytes, person: Person, *, closed: bool = False, texts: bool = True) -> Remainder | None:
    """The other rows in their order, written as process writes them, or as closing does.

    Without `texts`, the rows of the events that are known, and no text is read.
    """
    if not body.startswith(b"PAR1") or not body.endswith(b"PAR1"):
        raise ValueError("not Parquet")
    rows = read_parquet(BytesIO(body)).read_all()
    erased: set[int] = set()
    for name in rows.schema.names if texts else ():  # one at a time, because all of them take much memory
        if rows.schema.field(name).type == DataType.utf8():
            values = rows[name].to_pylist()
            if person.possibly_in("\n".join(filter(None, values))) or person.hashes:
                erased |= {row for row, value in enumerate(values) if value and person.in_text(value)}
    if person.events:
        identities = zip(*([value or "" for value in rows[name].to_pylist()] for name in IDENTITY), strict=True)
        erased |= {row for row, identity in enumerate(identities) if identity in person.events}
    if not erased:
        return None
    kept = Array([row for row in range(rows.num_rows) if row not in erased], DataType.uint32())
    ids = rows["batch_id"].to_pylist()
    batches = frozenset(ids[row] for row in erased if ids[row])
    if not len(kept):
        return Remainder(None, len(erased), batches)
    (whole,) = rows.combine_chunks().to_batches()
    rest = whole.take(kept)
    file = to_file(rest) if closed else to_parquet(rest)
    return Remainder(file, len(erased), batches)


def csv_without(body: bytes, person: Person) -> Remainder | None:
    """The header and the other rows, byte for byte."""
    header, *records = _records(body.decode())
    columns = next(csv.reader([header.rstrip("\r\n")]))
    kept, batches = [], set()
    for record in records:
        row = dict(zip(columns, _values(record), strict=True))
        if _is_of(record, row, person):
            batches.add(row["batch_id"])
        else:
            kept.append(record)
    if len(kept) == len(records):
        return None
    rest = "".join([header, *kept]).encode() if kept else None
    return Remainder(rest, len(records) - len(kept), frozenset(batches))


def _records(text: str) -> Iterator[str]:
    """Records with their line ends. A quoted field may span lines."""
    record, quotes = "", 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        record += line
        quotes += line.count('"')
        if quotes % 2 == 0:
            yield record
            record, quotes = "", 0


def _values(record: str) -> list[str]:
    return [
        unquote(value.removeprefix(ENCODED)) if value.startswith(ENCODED) else value
        for value in next(csv.reader(StringIO(record, newline="")))
    ]


def _is_of(record: str, row: Mapping[str, str], person: Person) -> bool:
    return tuple(row[name] for name in IDENTITY) in person.events or (
        (person.possibly_in(record) or bool(person.hashes)) and any(map(person.in_text, row.values()))
    )


def quarantine_without(body: bytes, person: Person) -> Remainder | None:
    """Errors: UnreadableError if there is nothing to erase, and an original that cannot be searched."""
    kept, unknown = [], False
    lines = body.splitlines(keepends=True)
    for line in lines:
        original = unpacked(_original(line), MAX_UNZIPPED_BYTES)
        if person.in_bytes(line) or mentioned_in(original, person):
            continue
        kept.append(line)
        unknown = unknown or is_unknown(original)
    if len(kept) < len(lines):
        return Remainder(b"".join(kept) or None, len(lines) - len(kept))
    if unknown:
        raise UnreadableError
    return None


def _original(line: bytes) -> bytes:
    """The original's bytes if it is not text; text is in the line as it is."""
    try:
        return base64.b64decode(json.loads(line).get("original_base64", ""))
    except (ValueError, AttributeError, TypeError, RecursionError):  # not as process writes it
        return b""


def mentioned_in(original: Unpacked, person: Person) -> bool:
    return person.in_bytes(original.body) or any(piece_mentions(piece, person) for piece in original.rest)


def piece_mentions(piece: Piece, person: Person) -> bool:
    """Decompressed, and damaged pieces also as they are: it may be text that only begins as gzip does."""
    return person.in_bytes(piece.text) or (piece.kind is Kind.DAMAGED and person.in_bytes(piece.raw))


def is_unknown(original: Unpacked) -> bool:
    """Whether some of it could not be searched."""
    return original.too_large or any(piece.kind is Kind.DAMAGED for piece in original.rest)
