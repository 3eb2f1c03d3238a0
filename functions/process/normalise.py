"""Stored batches -> typed events, ready to become columns. Pure: bytes in, values out.

Two ways lead to a row. The quick one decodes an event straight into a struct whose members are the fields that events
of its type usually carry. Whatever does not fit it (a new field, a number where text was, a date with microseconds)
goes the lenient way, field by field, which puts what has no column into `extra` as it came. A test holds the two equal.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType

DAY_MILLISECONDS = 86_400_000
# Dates that the table's partition projection reaches; an event dated outside files under its arrival's date.
FIRST_EVENT_DAY = (datetime(2014, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days

_MAX_INT64 = 2**63 - 1
_MAX_DOUBLE = 1.7976931348623157e308
# Years 1 to 9999, the range of every reader of the rows.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799

_Int64 = Annotated[int, Meta(ge=-_MAX_INT64 - 1, le=_MAX_INT64)]
_Finite = Annotated[float, Meta(ge=-_MAX_DOUBLE, le=_MAX_DOUBLE)]
_UnixSeconds = Annotated[int, Meta(ge=_FIRST_SECOND, le=_LAST_SECOND)]
# 2016-04-18T14:25:07.000Z, the only form of ISO 8601 seen from Bird; others go the lenient way.
_IsoMilliseconds = Annotated[str, Meta(min_length=24, max_length=24)]

_NULL = Raw(b"null")


class StoredBatch(NamedTuple):
    """A raw object as read: `body` is no longer compressed, `received_at` is Unix milliseconds."""

    batch_id: str
    raw_key: str
    received_at: int
    body: bytes


class Quarantined(NamedTuple):
    """A part of a batch that is no event: its original bytes, its place in the batch (None for all of it), and why."""

    batch: StoredBatch
    position: int | None
    reason: str
    original: bytes


class Event(NamedTuple):
    """One event. `values` is a struct of the layout (the quick way) or a dict by column name (the lenient way).

    Sorts by time, then by place: `order` is unique within a run, so later members are never compared.
    """

    moment: int
    order: int
    values: Any
    event_key: str
    batch: StoredBatch


class _Element(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    msys: dict[str, Raw]


_element_list = msgspec.json.Decoder(list[_Element])
_raw_list = msgspec.json.Decoder(list[Raw])
_raw_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int | float)
_bigint = msgspec.json.Decoder(_Int64, strict=False)
_double = msgspec.json.Decoder(_Finite, strict=False)
_boolean = msgspec.json.Decoder(bool, strict=False)
_tolerant = json.JSONDecoder(strict=False)


class _NoFitError(ValueError):
    """A value that its column cannot hold."""


# --- A batch into elements ------------------------------------------------------------------------------------------


class Element(NamedTuple):
    position: int
    event_class: str
    raw: Raw | bytes
    siblings: dict[str, Raw]


def elements(batch: StoredBatch) -> Iterator[Element | Quarantined]:
    """Take a batch apart, in the sender's order; never raises on what a sender may have written."""
    try:
        batch.body.decode()
        quick = _element_list.decode(batch.body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        quick = []
    if not quick or any(len(element.msys) != 1 for element in quick):
        yield from _elements_one_by_one(batch)
        return
    for index, element in enumerate(quick):
        ((event_class, raw),) = element.msys.items()
        yield Element(index, event_class, raw, {})


def _elements_one_by_one(batch: StoredBatch) -> Iterator[Element | Quarantined]:
    try:
        raws = [bytes(raw) for raw in _raw_list.decode(batch.body)]
    except msgspec.ValidationError:
        yield Quarantined(batch, None, "not a JSON array", batch.body)
        return
    except RecursionError:  # Bird's metadata, at most 10 kB, cannot nest so deeply
        yield Quarantined(batch, None, "nested too deeply", batch.body)
        return
    except msgspec.DecodeError:
        # One event with, say, half of a surrogate pair spoils the array for the strict reader only.
        tolerated = _split_tolerantly(batch.body)
        if tolerated is None:
            yield Quarantined(batch, None, "not JSON", batch.body)
            return
        raws = tolerated
    for index, raw in enumerate(raws):
        yield _element(batch, index, raw)


def _split_tolerantly(body: bytes) -> list[bytes] | None:
    """The items of an array that is JSON only to a tolerant reader; None where it is no array to anybody."""
    text = body.decode(errors="surrogateescape").strip(" \t\r\n")
    if not text.startswith("["):
        return None
    items, position = [], 1
    try:
        while True:
            while text[position] in " \t\r\n":
                position += 1
            _, end = _tolerant.raw_decode(text, position)
            items.append(text[position:end].encode(errors="surrogateescape"))
            position = end
            while text[position] in " \t\r\n":
                position += 1
            if text[position] == "]":
                return items if position == len(text) - 1 else None
            if text[position] != ",":
                return None
            position += 1
    except (ValueError, IndexError, RecursionError):
        return None


def _element(batch: StoredBatch, index: int, raw: bytes) -> Element | Quarantined:
    try:
        raw.decode()
        members = _raw_object.decode(raw)
        siblings = {name: value for name, value in members.items() if name != "msys"}
        classes = _raw_object.decode(members["msys"])
    except UnicodeDecodeError:
        return Quarantined(batch, index, "not UTF-8", raw)
    except KeyError:
        return Quarantined(batch, index, "no msys", raw)
    except msgspec.ValidationError:
        return Quarantined(batch, index, "not an object with an object msys", raw)
    except msgspec.DecodeError:
        return Quarantined(batch, index, "not JSON", raw)
    if len(classes) != 1:
        return Quarantined(batch, index, f"msys has {len(classes)} classes, expected one", raw)
    ((event_class, value),) = classes.items()
    return Element(index, event_class, value, siblings)


# --- An element into values, the lenient way ------------------------------------------------------------------------


def normalise_leniently(raw: Raw | bytes, siblings: dict[str, Raw]) -> tuple[dict[str, Any], list[str]]:
    """Column values of one event by name (timestamps in Unix milliseconds, JSON as text), and the fields in `extra`.

    Errors: msgspec.DecodeError if the event is no JSON object.
    """
    fields = _raw_object.decode(raw)
    values: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, value in fields.items():
        nested = _nested_columns().get(name)
        if nested is not None:
            rest = _normalise_members(nested, value, values)
            if rest is not None:
                extra[name] = rest
            continue
        column = _plain_columns().get(name)
        if column is None or not _convert_into(values, column, value):
            extra[name] = _text(value)
    for name, value in siblings.items():
        extra[name if name not in extra else f"{name} (beside msys)"] = _text(value)
    if extra:
        values["extra"] = _json_object(extra)
    return values, list(extra)


def _normalise_members(columns: dict[str, Column], value: Raw, values: dict[str, Any]) -> str | None:
    """Flatten one object into `values`; return the JSON of what found no column."""
    try:
        members = _raw_object.decode(value)
    except msgspec.DecodeError:
        return None if value == _NULL else _text(value)
    rest = {
        name: _text(member)
        for name, member in members.items()
        if name not in columns or not _convert_into(values, columns[name], member)
    }
    return _json_object(rest) if rest else None


def _convert_into(values: dict[str, Any], column: Column, raw: Raw) -> bool:
    """Set the column's value; False if `extra` has to keep the original."""
    if raw == _NULL:
        return True
    try:
        values[column.name] = _CONVERTERS[column.type](raw)
    except _InexactTimestampError as error:
        values[column.name] = error.milliseconds
        return False
    except (msgspec.DecodeError, _NoFitError):
        return False
    return True


class _InexactTimestampError(Exception):
    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds


def _to_text(raw: Raw) -> str:
    try:
        return _string.decode(raw)
    except msgspec.ValidationError:
        _number.decode(raw)  # a number keeps its digits; anything else does not fit
        return _text(raw)


def _to_timestamp(raw: Raw) -> int:
    text = _to_text(raw)
    try:
        seconds = Decimal(text)
        if not _FIRST_SECOND <= seconds < _LAST_SECOND + 1:  # also what is not finite; before any arithmetic overflows
            raise _NoFitError
    except InvalidOperation:
        return _iso_milliseconds(text)
    exact = seconds * 1000
    milliseconds = int(exact.to_integral_value(rounding="ROUND_FLOOR"))
    if milliseconds != exact:
        raise _InexactTimestampError(milliseconds)
    return milliseconds


def _iso_milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        microseconds = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise _NoFitError from None
    milliseconds, below = divmod(microseconds, 1000)
    if not _FIRST_SECOND <= milliseconds // 1000 <= _LAST_SECOND:
        raise _NoFitError
    # fromisoformat drops digits after the sixth without a word.
    if below or len(text.partition(".")[2].partition("+")[0]) > 7 or "," in text:
        raise _InexactTimestampError(milliseconds)
    return milliseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution


def _text(raw: Raw | bytes) -> str:
    return str(raw, "utf-8")


def _json_object(members: dict[str, str]) -> str:
    """An object from JSON texts, without touching them."""
    return "{" + ",".join(f"{msgspec.json.encode(name).decode()}:{text}" for name, text in members.items()) + "}"


_CONVERTERS: dict[ColumnType, Callable[[Raw], Any]] = {
    TEXT: _to_text,
    BIGINT: _bigint.decode,
    DOUBLE: _double.decode,
    BOOLEAN: _boolean.decode,
    TIMESTAMP: _to_timestamp,
    JSON: _text,
}


@cache
def _plain_columns() -> dict[str, Column]:
    return {column.field: column for column in COLUMNS if column.field and "." not in column.field}


@cache
def _nested_columns() -> dict[str, dict[str, Column]]:
    nested: dict[str, dict[str, Column]] = {}
    for column in COLUMNS:
        if column.field and "." in column.field:
            name, _, member = column.field.partition(".")
            nested.setdefault(name, {})[member] = column
    return nested


# --- An element into values, the quick way --------------------------------------------------------------------------


class Layout:
    """The fields that events of one type carry, in the order in which Bird writes them, and a decoder for just those.

    Learnt from the events themselves, so that no list of fields per type has to be kept; it decides speed only.
    """

    def __init__(self, fields: dict[str, bool]) -> None:
        """`fields`: known fields in order of appearance; for a timestamp, whether it is written as ISO 8601."""
        self.fields = fields
        members: list[Any] = []
        for name, is_iso in fields.items():
            if name in _nested_columns():
                annotation: Any = _nested_struct(name) | None
            else:
                annotation = _quick_type(_plain_columns()[name].type, is_iso)
            members.append((name, annotation, _NULL if annotation is Raw else None))
        # What every event is asked for.
        members += [(name, str | None, None) for name in ("type", "event_id") if name not in fields]
        if "timestamp" not in fields:
            members.append(("timestamp", _UnixSeconds | None, None))
        self.names = [name for name, *_ in members]
        self._iso_names = [name for name, is_iso in fields.items() if is_iso]
        struct = msgspec.defstruct("Event", members, forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.json.Decoder(struct, strict=False).decode

    def decode(self, raw: Raw | bytes) -> Any:
        """A struct with the members `names`: timestamps in milliseconds if written as ISO 8601, else in seconds.

        Errors: ValueError (msgspec.ValidationError is one) if the event has to go the lenient way.
        """
        values = self._decode(raw)
        for name in self._iso_names:
            text = getattr(values, name)
            if text is not None:
                setattr(values, name, _quick_iso_milliseconds(text))
        return values

    def milliseconds(self, name: str, value: int | None) -> int | None:
        return value if value is None or self.fields.get(name) else value * 1000

    def extended(self, fields: dict[str, bool]) -> "Layout":
        return Layout({**self.fields, **fields})


def _quick_type(column_type: ColumnType, is_iso: bool) -> Any:
    if column_type is TIMESTAMP:
        return (_IsoMilliseconds if is_iso else _UnixSeconds) | None
    types: dict[ColumnType, Any] = {TEXT: str | None, BIGINT: _Int64 | None, DOUBLE: _Finite | None}
    types |= {BOOLEAN: bool | None, JSON: Raw}
    return types[column_type]


@cache
def _nested_struct(name: str) -> Any:
    members = [(member, _quick_type(column.type, False), None) for member, column in _nested_columns()[name].items()]
    return msgspec.defstruct(name, members, forbid_unknown_fields=True, gc=False)


def known_fields(raw: Raw | bytes) -> dict[str, bool]:
    """The fields of an event that have columns, in its order, as Layout wants them; none if it is no object."""
    try:
        fields = _raw_object.decode(raw)
    except msgspec.DecodeError:
        return {}
    return {
        name: name in _plain_columns() and _plain_columns()[name].type is TIMESTAMP and len(bytes(value)) == 26
        for name, value in fields.items()
        if name in _plain_columns() or name in _nested_columns()
    }


def _quick_iso_milliseconds(text: str) -> int:
    """Errors: ValueError if the lenient way should have it."""
    if text[10] != "T" or text[19] != "." or text[23] != "Z":
        raise ValueError("another form of ISO 8601")
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


_MILLISECOND = datetime.resolution * 1000


def content_key(raw: Raw | bytes) -> str:
    """The key of an event without an id: equal for every delivery of the same event."""
    return hashlib.sha256(raw).hexdigest()
