"""A stored batch -> its events -> values by column, field by field. Pure: bytes in, values out.

This is the lenient way: it reads anything a sender may have written. A value without a column, or one that does not fit
its column, goes into `extra` unchanged. layouts.py is the quick way, for batches that look like earlier ones.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cache
from math import floor, isinf
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw

from process.bounds import MAX_MEMBERS
from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType

DAY_MILLISECONDS = 86_400_000
# An event dated before, or after tomorrow, files under its arrival's date: each date is a partition of the table.
FIRST_EVENT_DAY = (datetime(2014, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days

_MAX_INT64 = 2**63 - 1
# The years 1900 to 2199, which every reader holds: Spark 3 refuses a file of another writer with a time before 1900
# (datetimeRebaseModeInRead), pandas and awswrangler in nanoseconds end in 2262, ClickHouse's DateTime64 began in 1900.
_FIRST_SECOND, _LAST_SECOND = -2_208_988_800, 7_258_118_399

# Fits no double. In a union with an integer it makes msgspec refuse 9007199254740993.0 and "1e0", which it would
# otherwise read as a double, and round.
_NEVER = Annotated[float, Meta(gt=0, lt=0)]
INT64 = Annotated[int, Meta(ge=-_MAX_INT64 - 1, le=_MAX_INT64)] | _NEVER

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

_NULL = Raw(b"null")
# Behind the name, in `extra`, of what stood beside `msys` while a field of the event has that name.
BESIDE_MSYS = " (beside msys)"


class StoredBatch(NamedTuple):
    """A raw object as read: `body` is no longer compressed, times are Unix milliseconds."""

    batch_id: str
    raw_key: str
    received_at: int
    body: bytes
    stored_at: int | None = None  # of the object itself, from which it expires
    raw_bucket: str = ""


class Quarantined(NamedTuple):
    """A part of a batch that is not an event: its original bytes, its place in the batch (None for the whole), and why.

    Of a batch beyond the limits there are no bytes here: its raw object has them.
    """

    batch: StoredBatch
    position: int | None
    reason: str
    original: bytes | None


_raw = msgspec.json.Decoder(Raw)
_raw_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int | float)
_bigint: msgspec.json.Decoder[int] = msgspec.json.Decoder(INT64, strict=False)
read_boolean = msgspec.json.Decoder(bool, strict=False).decode
# An object becomes its members, repeated ones too; numbers stay text, for Python takes no more than 4,300 digits.
_pairs = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str)


class UnreadableElementError(Exception):
    """An element that is not an event; the text is the reason."""


class UnfitValueError(Exception):
    """A value that its column cannot hold as it is."""


# --- An element into its event ---------------------------------------------------------------------------------------


class Element(NamedTuple):
    """`raw` is the event as it came, `fields` its members, `siblings` what stood beside `msys`."""

    event_class: str
    raw: bytes
    fields: dict[str, Raw]
    siblings: dict[str, Raw]


def element(raw: bytes) -> Element:
    """Errors: UnreadableElementError."""
    if len(raw) > MAX_MEMBERS and raw.count(b":") > MAX_MEMBERS:
        raise UnreadableElementError(f"more than {MAX_MEMBERS} members")
    try:
        raw.decode()
        members = _members(raw)
        siblings = {name: value for name, value in members.items() if name != "msys"}
        if siblings:  # which `extra` will hold, and readers of it may be deeper in calls than this one
            _raw.decode(b"[[[[[%b]]]]]" % raw)
        classes = _members(members["msys"])
    except UnicodeDecodeError:
        raise UnreadableElementError("not UTF-8") from None
    except KeyError:
        raise UnreadableElementError("no msys") from None
    except msgspec.ValidationError:
        raise UnreadableElementError("not an object with an object msys") from None
    except msgspec.DecodeError:
        raise UnreadableElementError("not JSON") from None
    except RecursionError:  # Bird's metadata, at most 10 kB, cannot nest so deeply
        raise UnreadableElementError("nested too deeply") from None
    if len(classes) != 1:
        count = len(classes) if len(classes) < 10 else "many"  # reasons are counted: there must not be thousands
        raise UnreadableElementError(f"msys has {count} classes, expected one")
    ((event_class, event),) = classes.items()
    try:
        fields = _members(event)
    except msgspec.DecodeError:
        raise UnreadableElementError("event is not an object") from None
    return Element(event_class, bytes(event), fields, siblings)


def _members(raw: bytes | Raw) -> dict[str, Raw]:
    """Errors: msgspec.DecodeError, UnreadableElementError."""
    members = _raw_object.decode(raw)
    if repeats_a_name(raw, members):
        raise UnreadableElementError("a name is repeated")
    return members


def repeats_a_name(raw: bytes | Raw, members: Mapping[str, Raw]) -> bool:
    """Whether an object has more members that are not null than the dictionary of the last of each name."""
    # Two quotation marks, a colon and a comma or bracket for each: what is as short as that has no other members.
    values = b"".join(members.values())
    shortest = len("".join(members).encode(errors="surrogatepass")) + len(values) + 4 * len(members) + 1
    if len(bytes(raw)) <= shortest:
        return False
    try:
        pairs = _pairs.decode(_text(raw))
    except (ValueError, RecursionError):  # msgspec accepts it, Python does not: assume that a name is repeated
        return True
    return sum(value is not None for _, value in pairs) != sum(value != _NULL for value in members.values())


# --- An event into values --------------------------------------------------------------------------------------------


class Normalised(NamedTuple):
    """Column values by name (times in Unix milliseconds, JSON as text), and the names of what went into `extra`."""

    values: dict[str, Any]
    extra_fields: list[str]


def normalise(event: Element) -> Normalised:
    values: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, value in event.fields.items():
        nested = nested_columns().get(name)
        if nested is not None:
            rest = _normalise_members(nested, value, values)
            if rest is not None:
                extra[name] = rest
            continue
        column = plain_columns().get(name)
        if column is None or not _convert_into(values, column, value):
            extra[name] = _text(value)
    for name, value in event.siblings.items():
        extra[name if name not in extra else f"{name}{BESIDE_MSYS}"] = _text(value)
    if extra:
        values["extra"] = json_object(extra)
    return Normalised(values, list(extra))


def _normalise_members(columns: dict[str, Column], value: Raw, values: dict[str, Any]) -> str | None:
    """Flatten one object into `values`; return the JSON of what found no column."""
    try:
        members = _raw_object.decode(value)
    except msgspec.DecodeError:
        return None if value == _NULL else _text(value)
    if repeats_a_name(value, members):
        return _text(value)  # all of it, as it came
    rest = {
        name: _text(member)
        for name, member in members.items()
        if name not in columns or not _convert_into(values, columns[name], member)
    }
    return json_object(rest) if rest else None


def _convert_into(values: dict[str, Any], column: Column, raw: Raw) -> bool:
    """Set the column's value; False if `extra` has to keep the original."""
    if raw == _NULL:
        return True
    try:
        if column.type is not TIMESTAMP:
            values[column.name] = _CONVERTERS[column.type](raw)
            return True
        values[column.name], whole = read_timestamp(_to_text(raw))
        return whole
    except (msgspec.DecodeError, UnfitValueError):
        return False


def _to_text(raw: Raw | bytes) -> str:
    try:
        return _string.decode(raw)
    except msgspec.ValidationError:
        _number.decode(raw)  # a number keeps its digits; anything else does not fit
        return _text(raw)


def read_bigint(raw: Raw | bytes) -> int:
    """Errors: UnfitValueError, msgspec.DecodeError."""
    try:
        return _bigint.decode(raw)
    except msgspec.DecodeError:
        number = _number_in(_to_text(raw))
        if number.adjusted() > 18:
            raise UnfitValueError from None
        whole = int(number)
        if whole != number or not -_MAX_INT64 - 1 <= whole <= _MAX_INT64:
            raise UnfitValueError from None
        return whole


def read_double(raw: Raw) -> float:
    """The double that a JSON number, or a text that is one, stands for.

    Errors: UnfitValueError, msgspec.DecodeError. A number that says more than the double does not fit; one of up to 17
    digits, as programs write doubles, does.
    """
    text = _to_text(raw)
    number = _number_in(text)
    double = float(text)
    if isinf(double) or number not in (
        Decimal(double),
        *map(Decimal, (repr(double), f"{double:.15e}", f"{double:.16e}")),
    ):
        raise UnfitValueError
    return double


def _number_in(text: str) -> Decimal:
    """Written as in JSON: Python would also take blanks, underscores and the digits of other scripts."""
    if not _NUMBER.fullmatch(text):
        raise UnfitValueError
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 19 digits
        raise UnfitValueError from None


def read_timestamp(text: str) -> tuple[int | None, bool]:
    """Unix milliseconds of Unix seconds or ISO 8601, and whether they are all of the value.

    None if it is neither, or not of the years that every reader holds.
    """
    if not _NUMBER.fullmatch(text):
        return _read_iso(text)
    try:
        seconds = _number_in(text)
    except UnfitValueError:
        return None, False
    if not _FIRST_SECOND <= seconds < _LAST_SECOND + 1:
        return None, False
    exact = _EXACT.multiply(seconds, 1000)
    milliseconds = floor(exact)
    return milliseconds, milliseconds == exact


def _read_iso(text: str) -> tuple[int | None, bool]:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        microseconds = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None, False
    milliseconds, below = divmod(microseconds, 1000)
    if not _FIRST_SECOND <= milliseconds // 1000 <= _LAST_SECOND:
        return None, False
    # fromisoformat drops digits after the sixth without a word.
    dropped = any(digits[6:].strip("0") for digits in _FRACTIONS.findall(text))
    return milliseconds, not below and not dropped


_FRACTIONS = re.compile(r"[.,]([0-9]+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution


def _text(raw: Raw | bytes) -> str:
    return str(raw, "utf-8")


def json_object(members: Mapping[str, str]) -> str:
    """An object from JSON texts, without touching them; by name, so that the same members make the same text."""
    return (
        "{" + ",".join(f"{msgspec.json.encode(name).decode()}:{text}" for name, text in sorted(members.items())) + "}"
    )


_CONVERTERS: dict[ColumnType, Callable[[Raw], Any]] = {
    TEXT: _to_text,
    BIGINT: read_bigint,
    DOUBLE: read_double,
    BOOLEAN: read_boolean,
    JSON: _text,
}


@cache
def plain_columns() -> dict[str, Column]:
    return {column.field: column for column in COLUMNS if column.field and "." not in column.field}


@cache
def nested_columns() -> dict[str, dict[str, Column]]:
    nested: dict[str, dict[str, Column]] = {}
    for column in COLUMNS:
        if column.field and "." in column.field:
            name, _, member = column.field.partition(".")
            nested.setdefault(name, {})[member] = column
    return nested


def content_key(raw: bytes) -> str:
    """The key of an event without an id: equal for every delivery of the same event."""
    return hashlib.sha256(raw).hexdigest()
