"""What a sender has stored -> elements of Bird's webhook, told apart by content, never by name. Pure.

Read are: webhook arrays, in one file or many, glued together, or as the objects with numeric keys that PHP makes of
them; one element or array a line; invocation events of a load balancer; pages of Bird's Events API; events alone, as
connectors have them; and rows of tables (CSV, Parquet, JSON) with any of these in a column.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from bird_webhooks.moving import flat
from bird_webhooks.moving.byte_stream import byte_stream
from bird_webhooks.moving.documents import MAX_VALUE_BYTES, MEBIBYTE, Damaged, UnreadableError, begin, unpacked, values
from bird_webhooks.moving.flat import Account, RefusedError, ShiftedError
from bird_webhooks.moving.parquet_rows import parquet_rows
from ingest.webhook import BATCH_ID_HEADER, UnreadableRequestError, parse_request
from process.elements import UnreadableBatchError, is_probe, parts, repaired
from process.normalise import UnreadableElementError, element, read_timestamp
from process.rows import REPAIRABLE

# Up to this size an array is read with what is damaged in it, and a table is refused as a whole.
WHOLE_BYTES = 16 * MEBIBYTE
_HEADER_BYTES = 64 * 1024
_MAX_NESTED = 5
_MAX_DIGITS = 15  # of Unix milliseconds, and of what counts elements: all are exact
_MSYS = re.compile(rb'\s*+\{\s*+"msys"\s*+:')
_CSV_ROW = re.compile(rb'(?:[^"{\[\r\n]*,)?"[{\[]{1,2}""')
_ARRAY_AFTER_BOM = re.compile(rb"\]\s*+\xef\xbb\xbf\s*+\[")
_CANONICAL = re.compile(rb'\{\s*+"\$number(?:Int|Long|Double)"')
_TAR, _TAR_AT = b"ustar", 257
_BATCH_ID_IN_HEAD = re.compile(rf"{BATCH_ID_HEADER}\W{{1,6}}([\w.-]+)", re.IGNORECASE)
# Where tables and connectors have the event, or a whole batch of them.
_PAYLOADS = ("_airbyte_data", "record", "eventData", "event", "batch", "payload", "data", "body")
_TIMES = ("received_at", "receivedAt", "when", "loaded_at", "created_at")
_BATCH_IDS = ("batch_uuid", "batch_id", "batchId")
# Lines of the Singer protocol that are not events. https://github.com/singer-io/getting-started/blob/master/docs/SPEC.md
_SINGER = ("SCHEMA", "STATE", "ACTIVATE_VERSION")

INSTEAD = "bring the webhook's batches or events of Bird's Events API instead"
SEGMENT = f"a call of Segment, which keeps no event_id: {INSTEAD}"
METRICS = f"metrics, which are counts and not events: {INSTEAD}"
NOT_AN_EVENT = "not an event of Bird's"
NOT_UTF_8 = "not UTF-8"
LARGE_TABLE = (
    f"a table of single columns larger than {WHOLE_BYTES // MEBIBYTE} MB, of which a row far down may show that the "
    "columns shift: split it into smaller files, each with the header, or bring JSON lines or Parquet"
)
COPY_TEXT = "made by COPY in text format, which changes backslashes: export it with `csv header`"
NO_HEADER = "CSV without the line that names its columns: export it with `csv header`"
UNQUOTED = "rows do not fit the header, as in what a database prints for people: export it with `csv header`"
NAMED_TWICE = "a header that names a column twice"
CANONICAL = "MongoDB's canonical JSON, in which numbers are objects: export it with --jsonFormat=relaxed"
API_ERROR = "an error that Bird's API answered, and not a page of events"
PACKED = "{}: unpack it first, or compress it by gzip"
OTHER_FORMAT = "{}: bring JSON lines, CSV or Parquet"
# How files begin that are not read. Firehose and connectors can write most of them.
_NOT_READ = {
    b"PK\x03\x04": PACKED.format("a zip archive"),
    b"\x28\xb5\x2f\xfd": PACKED.format("compressed by zstd"),
    b"BZh": PACKED.format("compressed by bzip2"),
    b"\xfd7zXZ\0": PACKED.format("compressed by xz"),
    b"\xff\x06\0\0sNaPpY": PACKED.format("compressed by Snappy"),
    b"Obj\x01": OTHER_FORMAT.format("Avro"),
    b"ORC": OTHER_FORMAT.format("ORC"),
    b"\xff\xfe": OTHER_FORMAT.format("text in UTF-16"),
    b"\xfe\xff": OTHER_FORMAT.format("text in UTF-16"),
}


class Row(NamedTuple):
    """What the origin says of a batch, beside its events."""

    received_at: datetime | None = None
    batch_id: str | None = None


class Found(NamedTuple):
    """An event. `timestamp` in Unix milliseconds; `has_key`: its id, or its own bytes, say which event it is; `has_id`:
    its id does."""

    element: bytes
    event_class: str
    type: str
    timestamp: int | None
    addresses: tuple[str, ...]
    account: str | None
    has_key: bool
    has_id: bool
    row: Row


class Probe(NamedTuple):
    """Nothing to bring in, and nothing wrong: Bird's test of a webhook, an empty batch, a connector's own line."""


class Refusal(NamedTuple):
    """`place` counts from 1 what the object holds; None for all of the object, or what is left of it."""

    reason: str
    place: int | None


type Item = Found | Probe | Refusal


def fault(error: Exception) -> Refusal:
    """What nobody foresaw costs one object. Of the error its kind alone is shown, because its text may hold values."""
    return Refusal(f"cannot be read, by a fault of this program: {type(error).__name__}", None)


class _Inner(msgspec.Struct):
    type: str | None = None
    timestamp: Raw = Raw(b"null")
    customer_id: str | int | None = None
    event_id: str | int | None = None
    rcpt_to: str | None = None
    raw_rcpt_to: str | None = None


class _Sent(msgspec.Struct):
    msys: dict[str, _Inner]


_sent = msgspec.json.Decoder(_Sent)
_sent_list = msgspec.json.Decoder(list[_Sent])
_raws = msgspec.json.Decoder(list[Raw])
_members = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_scalar: msgspec.json.Decoder[str | int | float] = msgspec.json.Decoder(str | int | float)


def read(chunks: Iterable[bytes], account: Account, row: Row | None = None) -> Iterator[Item]:
    """What an object holds, in its order. `row` is for the whole object."""
    try:
        yield from _read(unpacked(chunks), account, row or Row())
    except UnreadableError as error:
        yield Refusal(str(error), None)


def _read(chunks: Iterator[bytes], account: Account, row: Row) -> Iterator[Item]:
    first, chunks = begin(chunks, _HEADER_BYTES)
    if first.startswith(b"PAR1"):
        yield from _of_rows(parquet_rows(chunks), account)
        return
    if reason := _why_not_read(first):
        raise UnreadableError(reason)
    if (delimiter := _table(first)) is not None:
        yield from _of_table(chunks, delimiter, account)
        return
    whole, chunks = begin(chunks, WHOLE_BYTES + 1)
    if not whole.strip(b" \t\r\n\xef\xbb\xbf"):
        yield Probe()
    elif len(whole) <= WHOLE_BYTES and _is_array(whole):
        yield from _of_array(whole, account, row)
    else:
        found = values(chunks)
        yield from _of_values(_no_copy_text(found) if b'\\\\"' in first else found, account, row, 0)


def _is_array(whole: bytes) -> bool:
    """Not of files that were joined, each with a byte order mark: they are several values."""
    return whole.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"[") and not _ARRAY_AFTER_BOM.search(whole)


def _why_not_read(first: bytes) -> str:
    """Empty for what may be text."""
    if first.startswith(_TAR, _TAR_AT):
        return PACKED.format("a tar archive")
    for begin_of_file, reason in _NOT_READ.items():
        if first.startswith(begin_of_file):
            return reason
    if b"\0" in first[:1024]:
        return "neither text in UTF-8 nor a format that is known"
    return NO_HEADER if _CSV_ROW.match(first.removeprefix(b"\xef\xbb\xbf")) else ""


def _no_copy_text(found: Iterator[bytes | Damaged]) -> Iterator[bytes]:
    """Errors: UnreadableError, for all of it: a value with changed backslashes may be JSON and another value."""
    try:
        for raw in found:
            if isinstance(raw, Damaged):
                raise UnreadableError(COPY_TEXT)
            yield raw
    except UnreadableError:
        raise UnreadableError(COPY_TEXT) from None


def _of_values(raws: Iterable[bytes | Damaged], account: Account, row: Row, nested: int) -> Iterator[Item]:
    for place, raw in enumerate(raws, 1):
        if isinstance(raw, Damaged):
            yield Refusal(raw.reason, place)
        else:
            yield from _placed(_of_value(raw, account, row, nested), place)


def _placed(items: Iterable[Item], place: int) -> Iterator[Item]:
    for item in items:
        yield Refusal(item.reason, place) if isinstance(item, Refusal) else item


# --- Arrays as Bird sends them ----------------------------------------------------------------------------------------


def _of_array(body: bytes, account: Account, row: Row) -> Iterator[Item]:
    quick = _quick(body, row)
    if quick is not None:
        yield from quick
        return
    place = 0
    try:
        for place, part in enumerate(parts(body), 1):
            if part.damage is not None:
                yield Refusal(part.damage, place)
            else:
                yield from _placed(_of_value(part.raw, account, row, 0), place)
    except UnreadableBatchError as error:
        yield Refusal(str(error), None)
    if place == 0:
        yield Probe()


def _quick(body: bytes, row: Row) -> list[Item] | None:
    """All elements, if each is what Bird sends: ten times quicker than one by one."""
    try:
        sent = _sent_list.decode(body)
        raws = _raws.decode(body)
    except (ValueError, RecursionError):  # of UTF-8, too
        return None
    items = [_of_sent(one, raw, row) for one, raw in zip(sent, raws, strict=True)]
    return None if None in items else [item for item in items if item] or [Probe()]


def _of_sent(sent: _Sent, raw: Raw, row: Row) -> Item | None:
    """None for what has to be looked at more closely."""
    if not sent.msys:
        return Probe() if is_probe(bytes(raw)) else None
    if len(sent.msys) > 1:
        return None
    ((event_class, inner),) = sent.msys.items()
    return _found(bytes(raw), event_class, inner, row) if inner.type is not None else None


def _found(raw: bytes, event_class: str, inner: _Inner, row: Row, *, has_key: bool = True) -> Found:
    addresses = tuple(filter(None, (inner.rcpt_to, inner.raw_rcpt_to)))
    account = None if inner.customer_id is None else str(inner.customer_id)
    moment = _milliseconds(inner.timestamp)
    has_id = inner.event_id not in (None, "")
    return Found(raw, event_class, inner.type or "", moment, addresses, account, has_key, has_id, row)


def _milliseconds(raw: Raw) -> int | None:
    try:
        return read_timestamp(str(_scalar.decode(raw)))[0]
    except ValueError:
        return None


def _of_element(raw: bytes, row: Row) -> Item:
    """One element of the webhook, as process would read it, repaired if necessary."""
    if is_probe(raw):
        return Probe()
    try:
        found = _of_sent(_sent.decode(raw), Raw(raw), row)
        if found is not None:
            return found
    except (ValueError, RecursionError):  # of UTF-8, too
        pass
    try:
        try:
            event = element(raw)
        except UnreadableElementError as error:
            if str(error) not in REPAIRABLE:
                raise
            event = element(repaired(raw))
    except UnreadableElementError as error:
        return Refusal(str(error), None)
    texts = {name: _text(event.fields.get(name)) for name in _Inner.__struct_fields__}
    moment = _milliseconds(event.fields.get("timestamp", Raw(b"null")))
    addresses = tuple(filter(None, (texts["rcpt_to"], texts["raw_rcpt_to"])))
    account, has_id = texts["customer_id"] or None, bool(texts["event_id"])
    return Found(raw, event.event_class, texts["type"], moment, addresses, account, True, has_id, row)


# --- Everything else --------------------------------------------------------------------------------------------------


def _of_value(raw: bytes, account: Account, row: Row, nested: int) -> Iterator[Item]:
    first = raw.lstrip()[:1]
    if nested > _MAX_NESTED:
        yield Refusal("nested too deeply", None)
    elif _MSYS.match(raw):
        yield _of_element(raw, row)
    elif first == b"[":
        yield from _of_array(raw, account, row)
    elif first == b'"':
        try:
            text = _string.decode(raw)
        except ValueError:
            yield Refusal(NOT_UTF_8, None)
            return
        yield from _of_text(text, account, row, nested)
    elif first == b"{":
        yield from _of_object(raw, account, row, nested)
    else:
        yield Refusal(NOT_AN_EVENT, None)


def _of_text(text: str, account: Account, row: Row, nested: int) -> Iterator[Item]:
    """JSON as a text, as in a column of a table or after json.dumps was called twice."""
    try:
        body = bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()  # bytea of PostgreSQL
    except ValueError:
        body = text.encode(errors="replace")
    if not body.strip():
        yield Probe()
        return
    if body.lstrip()[:1] == b"[":
        yield from _of_array(body, account, row)
        return
    try:
        yield from _of_values(values([body]), account, row, nested + 1)
    except UnreadableError as error:
        yield Refusal(str(error), None)


def _of_object(raw: bytes, account: Account, row: Row, nested: int) -> Iterator[Item]:
    try:
        members = _members.decode(raw)
    except (ValueError, RecursionError):
        yield Refusal("not JSON", None)
        return
    yield from _of_members(members, account, row, nested)


def _of_members(members: Mapping[str, Raw], account: Account, row: Row, nested: int) -> Iterator[Item]:
    members = _lowered(members)
    if "msys" in members:
        yield _of_element(msgspec.json.encode(members), row)
    elif "results" in members and _first(members["results"]) == b"[":
        yield from _of_array(bytes(members["results"]), account, row)
    elif "body" in members and ("requestContext" in members or "httpMethod" in members):
        yield from _of_request(members, account, row, nested)
    elif numeric := _numeric(members):
        yield from _of_values(map(bytes, numeric), account, row, nested + 1)
    elif _text(members.get("type")) in _SINGER and "event_id" not in members:
        yield Probe()
    elif payload := next((name for name in _PAYLOADS if _first(members.get(name)) in _CONTAINERS), None):
        if _CANONICAL.search(members[payload]):
            yield Refusal(CANONICAL, None)
            return
        inner = _row_of(members) if nested == 0 else row
        yield from _of_value(bytes(members[payload]), account, inner, nested + 1)
    elif flat.is_event(members):
        yield _of_flat(members, account, row)
    elif "event" in members and ("userId" in members or "anonymousId" in members or "messageId" in members):
        yield Refusal(SEGMENT, None)
    elif any(name.startswith("count_") for name in members):
        yield Refusal(METRICS, None)
    elif members.keys() == {"errors"}:
        yield Refusal(API_ERROR, None)
    else:
        yield Refusal(NOT_AN_EVENT, None)


def _lowered(members: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """Some warehouses write the names of all columns in capital letters."""
    if not members or any(name != name.upper() for name in members):
        return members
    return {name.lower(): raw for name, raw in members.items()}


_CONTAINERS = (b"{", b"[", b'"{', b'"[', b'"\\')


def _first(raw: Raw | None) -> bytes:
    """What a container begins with, also one in a text, or a bytea in a text."""
    text = bytes(raw or b"")[:64].replace(b" ", b"")
    return text[:2] if text.startswith(b'"') else text[:1]


def _of_flat(members: Mapping[str, Raw], account: Account, row: Row) -> Item:
    try:
        made = flat.element(members, account)
        ((event_class, inner),) = _sent.decode(made.element).msys.items()
    except RefusedError as error:
        return Refusal(str(error), None)
    except UnicodeDecodeError:
        return Refusal(NOT_UTF_8, None)
    return _found(made.element, event_class, inner, row._replace(batch_id=None), has_key=made.has_id)


def _of_request(members: Mapping[str, Raw], account: Account, row: Row, nested: int) -> Iterator[Item]:
    """The invocation event of a load balancer or an API, stored as it was."""
    try:
        request = parse_request(msgspec.json.decode(msgspec.json.encode(members)))
    except (UnreadableRequestError, ValueError):
        yield Refusal("a request whose body cannot be read", None)
        return
    inner = row._replace(batch_id=request.header(BATCH_ID_HEADER) or row.batch_id)
    if not request.body:
        yield Probe()
        return
    try:
        items = read([request.body], account, inner) if nested < _MAX_NESTED else iter([Refusal(NOT_AN_EVENT, None)])
        yield from items
    except UnreadableError as error:
        yield Refusal(str(error), None)


def _numeric(members: Mapping[str, Raw]) -> list[Raw]:
    """PHP makes an object of an array with a gap; others add members that begin with an @."""
    numbers = [name for name in members if name.isascii() and name.isdecimal() and len(name) <= _MAX_DIGITS]
    others = members.keys() - set(numbers)
    if not numbers or any(not name.startswith("@") for name in others):
        return []
    return [members[name] for name in sorted(numbers, key=int)]


def _row_of(members: Mapping[str, Raw]) -> Row:
    moments = (_moment(members[name]) for name in _TIMES if name in members)
    ids = (_text(members[name]) for name in _BATCH_IDS if name in members)
    head = _BATCH_ID_IN_HEAD.search(bytes(members.get("head", b"")).decode(errors="replace"))
    batch_id = next(filter(None, ids), None) or (head[1] if head else None)
    return Row(next(filter(None, moments), None), batch_id)


def _moment(raw: Raw) -> datetime | None:
    """Of a text, a number, or MongoDB's `{"$date": …}`."""
    if _first(raw) == b"{":
        try:
            return _moment(_members.decode(raw).get("$date", Raw(b"null")))
        except (ValueError, RecursionError):
            return None
    text = _text(raw).removesuffix(" UTC")
    if text.isdecimal() and 12 <= len(text) <= _MAX_DIGITS:  # milliseconds
        text = str(int(text) / 1000)
    found = read_timestamp(text)[0]
    return None if found is None else datetime.fromtimestamp(found / 1000, UTC)


def _text(raw: Raw | None) -> str:
    try:
        return "" if raw is None else str(_scalar.decode(raw))
    except ValueError:
        return ""


# --- Tables -----------------------------------------------------------------------------------------------------------

_NULL = "\\N"  # of MySQL and PostgreSQL
_KNOWN_NAMES = {*_PAYLOADS, *_TIMES, *_BATCH_IDS, "type", "event_id", "timestamp", "rcpt_to", "message_id"}


def _table(first: bytes) -> str | None:
    """The delimiter, if the first line is the header of a table."""
    line = re.split(rb"[\r\n]", first.removeprefix(b"\xef\xbb\xbf"), maxsplit=1)[0].strip()
    if not line or line[:1] in b"{[":
        return None
    for delimiter in ",\t;":
        names = [name.lower() for name in next(csv.reader([line.decode(errors="replace")], delimiter=delimiter))]
        plain = all(re.fullmatch(r"[\w$. -]{1,64}", name) for name in names)
        if plain and (len(names) > 1 or {*names} & _KNOWN_NAMES):
            return delimiter
    return None


def _of_table(chunks: Iterator[bytes], delimiter: str, account: Account) -> Iterator[Item]:
    whole, chunks = begin(chunks, WHOLE_BYTES + 1)
    if len(whole) <= WHOLE_BYTES:
        yield from list(_of_csv(chunks, delimiter, account, is_whole=True))
    else:
        yield from _of_csv(chunks, delimiter, account, is_whole=False)


def _of_csv(chunks: Iterator[bytes], delimiter: str, account: Account, *, is_whole: bool) -> Iterator[Item]:
    """`is_whole`: if any row is shifted, none of them is brought in. Errors: UnreadableError."""
    csv.field_size_limit(MAX_VALUE_BYTES)
    lines = _Lines(TextIOWrapper(byte_stream(chunks), encoding="utf-8-sig", newline=""))
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(records)]
        if all(name == name.upper() for name in names):
            names = [name.lower() for name in names]
        _check_header(names)
        has_payload = not {*names}.isdisjoint(_PAYLOADS)
        if not has_payload and not is_whole:
            raise UnreadableError(LARGE_TABLE)
        for place, record in enumerate(records, 1):
            lines.bytes_of_record = 0
            if not record:
                continue
            if len(record) != len(names):
                raise UnreadableError(UNQUOTED) if has_payload else ShiftedError
            row = {name: text for name, text in zip(names, record, strict=True) if text != _NULL}
            if has_payload:
                members = {name: Raw(msgspec.json.encode(text)) for name, text in row.items() if text}
            else:
                members = flat.from_texts(row)
            yield from _placed(_of_members(members, account, Row(), 0), place)
    except UnicodeDecodeError:
        raise UnreadableError(NOT_UTF_8) from None
    except csv.Error:
        raise UnreadableError("not CSV") from None
    except ShiftedError as error:
        raise UnreadableError(str(error)) from None


def _check_header(names: list[str]) -> None:
    """Errors: UnreadableError."""
    if len({*names}) < len(names):
        raise UnreadableError(NAMED_TWICE)
    if {*names} & {*_PAYLOADS} or {"type", "event_id"} <= {*names} or {"type", "timestamp"} <= {*names}:
        return
    if any(name.startswith("count_") for name in names):
        raise UnreadableError(METRICS)
    raise UnreadableError("a table without the columns of Bird's events (type, event_id) and without their JSON")


class _Lines:
    """A quotation mark that nothing closes would take in the rest of a file."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = iter(lines)
        self.bytes_of_record = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.bytes_of_record += len(line)
        if self.bytes_of_record > MAX_VALUE_BYTES:
            raise UnreadableError(f"one row is larger than {MAX_VALUE_BYTES // MEBIBYTE} MB")
        return line


def _of_rows(rows: Iterable[Mapping[str, Any]], account: Account) -> Iterator[Item]:
    """Rows of Parquet, which have types."""
    for place, row in enumerate(rows, 1):
        members = {name: Raw(msgspec.json.encode(value)) for name, value in row.items() if value is not None}
        yield from _placed(_of_members(members, account, Row(), 0), place)
