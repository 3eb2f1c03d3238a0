"""Events -> Arrow columns -> one table in the order of the lake, as Parquet or CSV bytes. Pure."""

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote

from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import write_csv, write_parquet
from msgspec import DecodeError, Raw, json
from msgspec.structs import astuple

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, ColumnType
from process.layouts import ABSENT, UNIX_TIMES, Layout, Members
from process.normalise import StoredBatch, UnfitValueError, json_object, read_double, read_timestamp

_UTC_MILLISECONDS = DataType.timestamp("ms", tz="UTC")
_UTC_SECONDS = DataType.timestamp("s", tz="UTC")
_ARROW_TYPES: dict[ColumnType, DataType] = {
    TEXT: DataType.utf8(),
    BIGINT: DataType.int64(),
    DOUBLE: DataType.float64(),
    BOOLEAN: DataType.bool(),
    TIMESTAMP: _UTC_MILLISECONDS,
    JSON: DataType.utf8(),
}
# Small enough for a reader to skip most of a file by its type and time, large enough to compress.
ROWS_PER_ROW_GROUP = 20_000
# Hardly ever the same twice: a dictionary of their values costs a quarter of the writing and makes the file larger.
_WITHOUT_DICTIONARY = ("event_id", "event_key", "message_id", "rcpt_to", "raw_rcpt_to", "rcpt_hash")

_SHORT = r"-?+(?:0|[1-9][0-9]{0,6}+)(?:\.[0-9]{1,8}+)?+"  # no two numbers of up to 15 digits are the same double
_SHORT_DOUBLES = re.compile(rf'(?:(?:{_SHORT}|"{_SHORT}"|null),)*+')

# What a value in CSV begins with that is percent-encoded behind it; `+` is too, for readers that take it for a blank.
ENCODED = "%:"
# Where one reader or another ends a line (str.splitlines knows them all), and what ends a text in C.
_LINE_ENDS = "\0\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Stands for null while CSV is written, which then tells null from an empty text.
_NULL = b"\x01"
_ENDS = [end.encode() for end in _LINE_ENDS if end.isascii() and end != "\n"]
_WIDE = [*(end for end in _LINE_ENDS if not end.isascii()), "\ue000"]
# What the table's serde takes for an escape (template.yaml): it would take the character after it as it is.
_ESCAPE = "\ue000"
_SPECIAL = re.compile(f"[\x01{_ESCAPE}{_LINE_ENDS}]")
_TO_ENCODE = re.compile(f"[%+\x01{_ESCAPE}{_LINE_ENDS}]")

type Columns = dict[str, Array]
# Bird's names and the JSON of values without a column, for each event that has any.
type Extras = dict[int, dict[str, str]]


class RowsInOrder(NamedTuple):
    rows: RecordBatch
    timestamps: list[int]


def columns_of_events(layout: Layout, events: Sequence[tuple[Any, ...]]) -> tuple[Columns, Counter[str]]:
    """Structs of one layout, as tuples -> its columns, and how often which field went into `extra`."""
    columns: Columns = {"type": _constant(layout.event_type, len(events))}
    extras: Extras = {}
    _add_members(layout.members, events, columns, extras)
    if extras:
        columns["extra"] = _text_array(
            [json_object(extras[row]) if row in extras else None for row in range(len(events))]
        )
    return columns, Counter(name for found in extras.values() for name in found)


def columns_of_values(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Values by column name, as normalise gives them -> columns."""
    names = {name for row in rows for name in row}
    return {
        column.name: _array(column.type, [row.get(column.name) for row in rows])
        for column in COLUMNS
        if column.name in names
    }


def record_batch(
    columns: Columns, event_class: str, event_keys: Sequence[str], batches: Sequence[StoredBatch]
) -> RecordBatch:
    """All of COLUMNS, in their order; `batches` says which brought each event."""
    length = len(event_keys)
    columns["event_class"] = _constant(event_class, length)
    columns["event_key"] = _text_array(event_keys)
    columns["batch_id"] = _text_array([batch.batch_id for batch in batches])
    columns["received_at"] = _array(TIMESTAMP, [batch.received_at for batch in batches])
    nulls = {column_type: _nulls(column_type, length) for column_type in ColumnType}
    arrays = [columns.get(column.name, nulls[column.type]) for column in COLUMNS]
    return RecordBatch.from_arrays(arrays, schema=schema())


def merged(parts: Sequence[RowsInOrder]) -> RecordBatch:
    """One batch of several that are each in the order of their timestamps."""
    if len(parts) == 1:
        return parts[0].rows
    timestamps = [timestamp for part in parts for timestamp in part.timestamps]
    order = array("I", sorted(range(len(timestamps)), key=timestamps.__getitem__))
    (whole,) = table([part.rows for part in parts]).combine_chunks().to_batches()
    return whole.take(Array.from_buffer(order))


def table(batches: Sequence[RecordBatch]) -> Table:
    return Table.from_batches(batches, schema=schema())


def to_parquet(rows: Table, *, compression: str = "zstd(1)", rows_per_row_group: int = ROWS_PER_ROW_GROUP) -> bytes:
    file = BytesIO()
    write_parquet(
        rows,
        file,
        compression=compression,
        column_dictionary_enabled=dict.fromkeys(_WITHOUT_DICTIONARY, False),
        max_row_group_size=rows_per_row_group,
        created_by="bird-webhooks",
    )
    return file.getvalue()


def to_csv(rows: Table) -> bytes:
    """RFC 4180 with a header and one line a row; a missing value is an empty field, times are ISO 8601 in UTC.

    Athena's readers split a file at line ends before they look for quotation marks, so that a line break in a value
    would be a row of the sender's choosing. Text with one in it, and an empty text, which would be a missing value,
    are written as ENCODED and the text in percent-encoding.
    """
    (whole,) = rows.combine_chunks().to_batches()
    file = _csv(whole)
    if not _as_it_is(file, whole):
        columns = zip(COLUMNS, whole.columns, strict=True)
        encoded = [_encoded(array) if column.type in (TEXT, JSON) else array for column, array in columns]
        file = _csv(RecordBatch.from_arrays(encoded, schema=rows.schema))
    return file.replace(_NULL, b"")


def _csv(rows: RecordBatch) -> bytes:
    file = BytesIO()
    write_csv(rows, file, header=True, null=_NULL.decode())
    return file.getvalue()


def _as_it_is(file: bytes, rows: RecordBatch) -> bool:
    """Whether nothing in the file needs encoding; it may deny that of files in which nothing does."""
    return (
        file.count(b"\n") == rows.num_rows + 1
        and file.count(_NULL) == sum(column.null_count for column in rows.columns)
        and not any(end in file for end in _ENDS)
        and (file.isascii() or not any(map(file.decode().__contains__, _WIDE)))
        and not (b"%" in file and ENCODED.encode() in file)
        and b",," not in file  # an empty text
        and b",\n" not in file  # the same in the last column
        and "" not in rows["event_class"].to_pylist()  # and in the first
    )


def _encoded(column: Array) -> Array:
    if column.null_count == len(column):
        return column
    return _text_array([text if text is None else _encoded_text(text) for text in column.to_pylist()])


def _encoded_text(text: str) -> str:
    if text and not _SPECIAL.search(text) and not text.startswith(ENCODED):
        return text
    return ENCODED + _TO_ENCODE.sub(lambda found: quote(found[0], safe=""), text)


def _add_members(members: Members, rows: Sequence[tuple[Any, ...]], columns: Columns, extras: Extras) -> None:
    by_position = list(zip(*rows, strict=True))
    for position, column in members.columns:
        values = by_position[position]
        if column.type is JSON:
            columns[column.name] = _json_array(values)
        elif column.type is DOUBLE:
            columns[column.name] = _double_array(values, (column.field or column.name).rpartition(".")[2], extras)
        elif column.type is TEXT:
            columns[column.name] = _texts(values)
        elif column.type is not TIMESTAMP:
            columns[column.name] = Array(values, _ARROW_TYPES[column.type])
        elif column.field in UNIX_TIMES:
            columns[column.name] = Array(values, DataType.int64()).cast(_UTC_SECONDS).cast(_UTC_MILLISECONDS)
        else:
            columns[column.name] = _time_array(values, column.field or column.name, extras)
    for position, name, inner in members.nested:
        _add_nested(name, inner, by_position[position], columns, extras)
    for position, name in members.unknown:
        for row, value in enumerate(by_position[position]):
            if value is not None:
                extras.setdefault(row, {})[name] = str(value, "utf-8")


def _add_nested(name: str, inner: Members, objects: Sequence[Any], columns: Columns, extras: Extras) -> None:
    """The members of an object as columns of their own; what has none goes into `extra` as an object of that name."""
    missing = astuple(inner.struct())
    rest: Extras = {}
    _add_members(inner, [missing if value is None else astuple(value) for value in objects], columns, rest)
    for row, found in rest.items():
        extras.setdefault(row, {})[name] = json_object(found)


def _time_array(texts: Sequence[str | None], name: str, extras: Extras) -> Array:
    """ISO 8601: all at once if all are written as Bird writes them, otherwise one by one."""
    if None not in texts and _are_milliseconds(texts):  # type: ignore[arg-type]
        times = _text_array(texts).cast(_UTC_MILLISECONDS)
        if not times.null_count:
            return times
    values: list[int | None] = []
    for row, text in enumerate(texts):
        timestamp, whole = (None, True) if text is None else read_timestamp(text)
        values.append(timestamp)
        if not whole:
            extras.setdefault(row, {})[name] = json.encode(text).decode()
    return _array(TIMESTAMP, values)


def _are_milliseconds(texts: Sequence[str]) -> bool:
    """Whether all are in the form of 2016-04-18T14:25:07.000Z; whether they are dates, the cast says."""
    count = len(texts)
    joined = "".join(texts)
    return (
        len(joined) == 24 * count
        and joined[10::24] == "T" * count
        and joined[19::24] == "." * count
        and joined[23::24] == "Z" * count
        # What arrow takes and Python does not: letters of a time zone (NZ) for digits, the year 0, the second 60.
        and (joined[20::24] + joined[21::24] + joined[22::24]).isdigit()
        and "0" not in joined[0::24]
        and "6" not in joined[17::24]
    )


def _double_array(raws: Sequence[Raw], name: str, extras: Extras) -> Array:
    """At once if all are short enough to be exact, otherwise one by one; what does not fit goes into `extras`."""
    joined = b",".join([*raws, b""]).decode()
    if _SHORT_DOUBLES.fullmatch(joined):
        texts = joined.replace('"', "").split(",")[:-1]
        return _array(DOUBLE, [None if text == "null" else float(text) for text in texts])
    values: list[float | None] = []
    for row, raw in enumerate(raws):
        try:
            values.append(None if raw == ABSENT else read_double(raw))
        except (DecodeError, UnfitValueError):
            values.append(None)
            extras.setdefault(row, {})[name] = str(raw, "utf-8")
    return _array(DOUBLE, values)


def _json_array(raws: Sequence[Raw]) -> Array:
    texts: list[str | None] = b"\0".join(raws).decode().split("\0")  # type: ignore[assignment]  # no JSON has it
    if "null" in texts:
        texts = [None if text == "null" else text for text in texts]
    return _text_array(texts)


def _texts(values: Sequence[str | None]) -> Array:
    """At once if all are the same, as the account and the domain mostly are."""
    first = values[0]
    if first is not None and first == values[-1] and values.count(first) == len(values):
        return _constant(first, len(values))
    return _text_array(values)


def _text_array(values: Sequence[str | None]) -> Array:
    return Array(values, DataType.utf8())


def _array(column_type: ColumnType, values: Sequence[Any]) -> Array:
    if column_type is TIMESTAMP:
        return Array(values, DataType.int64()).cast(_UTC_MILLISECONDS)
    return Array(values, _ARROW_TYPES[column_type])


def _constant(value: str, length: int) -> Array:
    return _text_array([value]).take(_zeros(1 << length.bit_length()).slice(0, length))


def _nulls(column_type: ColumnType, length: int) -> Array:
    return _many_nulls(column_type, 1 << length.bit_length()).slice(0, length)


@cache
def _zeros(length: int) -> Array:
    return Array.from_buffer(array("I", [0]) * length)


@cache
def _many_nulls(column_type: ColumnType, length: int) -> Array:
    return _array(column_type, [None] * length)


@cache
def schema() -> Schema:
    """All of COLUMNS, in their order; all may be null."""
    return Schema([Field(column.name, _ARROW_TYPES[column.type], nullable=True) for column in COLUMNS])
