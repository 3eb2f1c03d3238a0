"""Events -> Arrow columns -> one table in the order of the lake, as Parquet or CSV bytes. Pure."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import quote

from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import write_csv, write_parquet
from msgspec import DecodeError, Raw, json
from msgspec.structs import astuple

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.layouts import UNIX_TIMES, Layout, Members
from process.normalise import (
    StoredBatch,
    UnfitValueError,
    json_object,
    read_bigint,
    read_boolean,
    read_double,
    read_timestamp,
)

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
# A file of fewer rows is smaller without dictionaries, as each has a page and a footer entry of its own. From some
# thousand rows on they halve what a reader has to do.
ROWS_FOR_DICTIONARIES = 500
# One or two events: each column is a few bytes, which zstd makes no shorter, and takes 30 µs for.
BYTES_TO_COMPRESS = 32 * 1024
# Hardly ever the same twice: a dictionary of their values costs a third of the writing and makes the file larger.
_WITHOUT_DICTIONARY = (
    *("event_id", "event_key", "message_id", "rcpt_to", "raw_rcpt_to", "rcpt_hash", "rcpt_meta"),
    *("injection_time", "queue_time", "msg_size"),
)

# So many values of a column tell whether most are null, and that not all are the same.
SAMPLE = 32

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


def columns_of_events(layout: Layout, fields: Sequence[Sequence[Any]]) -> tuple[Columns, Counter[str]]:
    """Values of one layout, by position -> the columns with values, and how often which field went into `extra`."""
    columns: Columns = {}
    extras: Extras = {}
    _add_members(layout.members, fields, columns, extras)
    if extras:
        columns["extra"] = _text_array(
            [json_object(extras[row]) if row in extras else None for row in range(len(fields[0]))]
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


def add_ours(
    columns: Columns,
    event_classes: Sequence[str],
    event_keys: Sequence[str],
    batches: Sequence[tuple[StoredBatch, int]],
) -> None:
    """The columns that Bird's events do not have; `batches` with the number of rows that each brought."""
    columns["event_class"] = _texts(event_classes)
    columns["event_key"] = _text_array(event_keys)
    numbers = array("I")
    for number, (_, rows) in enumerate(batches):
        numbers.extend(array("I", [number]) * rows)
    batch_of_row = Array.from_buffer(numbers)
    columns["batch_id"] = _text_array([batch.batch_id for batch, _ in batches]).take(batch_of_row)
    columns["received_at"] = _array(TIMESTAMP, [batch.received_at for batch, _ in batches]).take(batch_of_row)


def together(parts: Sequence[Columns]) -> Columns:
    """The rows of one after those of the other, in the columns that any of them has."""
    if len(parts) == 1:
        return parts[0]
    named = {name for part in parts for name in part}
    columns = [column for column in COLUMNS if column.name in named]
    fields = Schema([_field(column) for column in columns])
    batches = [RecordBatch.from_arrays(_arrays(part, columns, len(part["event_key"])), schema=fields) for part in parts]
    (whole,) = Table.from_batches(batches, schema=fields).combine_chunks().to_batches()
    return dict(zip(whole.column_names, whole.columns, strict=True))


def in_order(columns: Columns, order: Sequence[int]) -> Table:
    """These rows in this order, in all of COLUMNS."""
    rows = Array.from_buffer(array("I", order))
    taken = {name: column.take(rows) for name, column in columns.items()}
    whole = RecordBatch.from_arrays(_arrays(taken, COLUMNS, len(order)), schema=schema())
    return Table.from_batches([whole], schema=schema())


def _arrays(columns: Columns, wanted: Iterable[Column], length: int) -> list[Array]:
    nulls = {column_type: _nulls(column_type, length) for column_type in ColumnType}
    return [columns.get(column.name, nulls[column.type]) for column in wanted]


def to_parquet(rows: Table, *, compression: str = "zstd(1)", rows_per_row_group: int = ROWS_PER_ROW_GROUP) -> bytes:
    """The footer has Parquet's own schema only, which says all that Arrow's (7 kB in each file) would say again."""
    file = BytesIO()
    write_parquet(
        rows,
        file,
        compression=compression if rows.nbytes >= BYTES_TO_COMPRESS else "uncompressed",
        dictionary_enabled=rows.num_rows >= ROWS_FOR_DICTIONARIES,
        column_dictionary_enabled=dict.fromkeys(_WITHOUT_DICTIONARY, False),
        max_row_group_size=rows_per_row_group,
        created_by="bird-webhooks",
        skip_arrow_metadata=True,
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


def _add_members(members: Members, by_position: Sequence[Sequence[Any]], columns: Columns, extras: Extras) -> None:
    for position, column in members.columns:
        values = by_position[position]
        if not any(values) and values.count(None) == len(values):
            continue
        name = (column.field or column.name).rpartition(".")[2]
        some = values[:: 1 + len(values) // SAMPLE]
        if column.type is TEXT or some.count(None) * 2 < len(some):
            columns[column.name] = _ARRAYS[column.type](values, name, extras)
        else:  # a null costs as much as a value, but for text
            rows = [row for row, value in enumerate(values) if value is not None]
            rest: Extras = {}
            few = _ARRAYS[column.type]([*(values[row] for row in rows), None], name, rest)
            columns[column.name] = few.take(_places(rows, len(values)))
            for place, found in rest.items():
                extras.setdefault(rows[place], {}).update(found)
    for position, name, inner in members.nested:
        _add_nested(name, inner, by_position[position], columns, extras)
    for position, name in members.unknown:
        values = by_position[position]
        if any(values):
            for row, value in enumerate(values):
                if value is not None:
                    extras.setdefault(row, {})[name] = str(value, "utf-8")


def _add_nested(name: str, inner: Members, objects: Sequence[Any], columns: Columns, extras: Extras) -> None:
    """The members of an object as columns of their own; what has none goes into `extra` as an object of that name."""
    if not any(objects):
        return
    rows = [row for row, value in enumerate(objects) if value is not None]
    few: Columns = {}
    rest: Extras = {}
    tuples = [*(astuple(objects[row]) for row in rows), astuple(inner.struct())]
    _add_members(inner, list(zip(*tuples, strict=True)), few, rest)
    places = _places(rows, len(objects))
    columns |= {column: values.take(places) for column, values in few.items()}
    for place, found in rest.items():
        extras.setdefault(rows[place], {})[name] = json_object(found)


def _places(rows: Sequence[int], length: int) -> Array:
    """Where each of all rows has its value, if only those of some rows became an array, and after them a null."""
    places = array("I", [len(rows)]) * length
    for place, row in enumerate(rows):
        places[row] = place
    return Array.from_buffer(places)


def _bigint_array(values: Sequence[int | str | None], name: str, extras: Extras) -> Array:
    """At once if all are text, as Bird writes them, or all are numbers; otherwise one by one."""
    with suppress(TypeError):
        texts = _text_array(values)
        numbers = texts.cast(DataType.int64())
        if numbers.cast(DataType.utf8()) == texts:  # not so with +5 and 007, which arrow takes for numbers
            return numbers
    with suppress(TypeError):
        return Array(values, DataType.int64())
    return _array(BIGINT, _one_by_one(read_bigint, values, name, extras))


def _boolean_array(values: Sequence[bool | int | str | None], name: str, extras: Extras) -> Array:
    with suppress(TypeError):
        return Array(values, DataType.bool())
    with suppress(KeyError):
        return _array(BOOLEAN, list(map(_FLAGS.__getitem__, values)))
    return _array(BOOLEAN, _one_by_one(read_boolean, values, name, extras))


def _one_by_one(read: Callable[[bytes], Any], values: Sequence[Any], name: str, extras: Extras) -> list[Any]:
    """Each as the lenient way reads it; what does not fit goes into `extras`."""
    found: list[Any] = []
    for row, value in enumerate(values):
        raw = json.encode(value)
        try:
            found.append(None if value is None else read(raw))
        except (DecodeError, UnfitValueError):
            found.append(None)
            extras.setdefault(row, {})[name] = raw.decode()
    return found


def _time_array(values: Sequence[int | str | None], name: str, extras: Extras) -> Array:
    """At once if all are written as Bird writes them, ISO 8601 or Unix seconds; otherwise one by one."""
    texts = [value for value in values if value is not None]
    if name in UNIX_TIMES:
        if are_seconds(texts):
            return _text_array(values).cast(DataType.int64()).cast(_UTC_SECONDS).cast(_UTC_MILLISECONDS)
    elif _are_milliseconds(texts):  # type: ignore[arg-type]
        times = _text_array(values).cast(_UTC_MILLISECONDS)
        if times.null_count == len(values) - len(texts):
            return times
    timestamps: list[int | None] = []
    for row, value in enumerate(values):
        timestamp, whole = (None, True) if value is None else read_timestamp(str(value))
        timestamps.append(timestamp)
        if not whole:
            extras.setdefault(row, {})[name] = json.encode(value).decode()
    return _array(TIMESTAMP, timestamps)


def milliseconds(values: Sequence[int | str | None]) -> list[int | None]:
    """Of a column of Unix seconds, as _time_array reads them."""
    if are_seconds(values):
        return [int(text) * 1000 for text in values]  # type: ignore[arg-type]
    return [None if value is None else read_timestamp(str(value))[0] for value in values]


def are_seconds(values: Sequence[Any]) -> bool:
    """Whether all are text of ten digits, which begin with 1 to 6: the years 2001 to 2191."""
    try:
        joined = "".join(values)
    except TypeError:
        return False
    return set(map(len, values)) == {10} and joined.isascii() and joined.isdigit() and not joined[::10].strip("123456")


def _are_milliseconds(texts: Sequence[str]) -> bool:
    """Whether all are in the form of 2016-04-18T14:25:07.000Z; whether they are dates, the cast says.

    Years beyond 2000 to 2099 are read one by one, because some of them are left out.
    """
    count = len(texts)
    joined = "".join(texts)
    return (
        len(joined) == 24 * count
        and joined[10::24] == "T" * count
        and joined[0::24] == "2" * count
        and joined[1::24] == "0" * count
        and joined[19::24] == "." * count
        and joined[23::24] == "Z" * count
        # What arrow takes and Python does not: letters of a time zone (NZ) for digits, the second 60.
        and (joined[20::24] + joined[21::24] + joined[22::24]).isdigit()
        and "6" not in joined[17::24]
    )


def _double_array(some_raws: Sequence[Raw | None], name: str, extras: Extras) -> Array:
    """At once if all are short enough to be exact, otherwise one by one; what does not fit goes into `extras`."""
    raws = _null_raws(some_raws)
    joined = b",".join([*raws, b""]).decode()
    if _SHORT_DOUBLES.fullmatch(joined):
        texts = joined.replace('"', "").split(",")[:-1]
        return _array(DOUBLE, [None if text == "null" else float(text) for text in texts])
    values: list[float | None] = []
    for row, raw in enumerate(raws):
        try:
            values.append(None if raw == _NULL_RAW else read_double(raw))
        except (DecodeError, UnfitValueError):
            values.append(None)
            extras.setdefault(row, {})[name] = str(raw, "utf-8")
    return _array(DOUBLE, values)


def _json_array(raws: Sequence[Raw | None], name: str, extras: Extras) -> Array:
    texts: list[str | None] = b"\0".join(_null_raws(raws)).decode().split("\0")  # type: ignore[assignment]  # no JSON has it
    if "null" in texts:
        texts = [None if text == "null" else text for text in texts]
    return _text_array(texts)


def _null_raws(raws: Sequence[Raw | None]) -> Sequence[Raw]:
    return [_NULL_RAW if raw is None else raw for raw in raws]


def _texts(values: Sequence[str | None], name: str = "", extras: Extras | None = None) -> Array:
    """At once if all are the same, as the account and the domain mostly are."""
    first = values[0]
    some = values[:: 1 + len(values) // SAMPLE]
    if first is not None and some.count(first) == len(some) and values.count(first) == len(values):
        return _constant(first, len(values))
    return _text_array(values)


def _text_array(values: Sequence[Any]) -> Array:
    """Errors: TypeError, if any is neither text nor None."""
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


_FLAGS: dict[Any, bool | None] = {None: None, "1": True, "0": False, "true": True, "false": False}
_FLAGS |= {True: True, False: False}  # and the numbers 1 and 0, which are equal to them
_NULL_RAW = Raw(b"null")
_ARRAYS: dict[ColumnType, Callable[[Sequence[Any], str, Extras], Array]] = {
    TEXT: _texts,
    BIGINT: _bigint_array,
    DOUBLE: _double_array,
    BOOLEAN: _boolean_array,
    TIMESTAMP: _time_array,
    JSON: _json_array,
}


@cache
def schema() -> Schema:
    """All of COLUMNS, in their order; all may be null."""
    return Schema(list(map(_field, COLUMNS)))


@cache
def _field(column: Column) -> Field:
    return Field(column.name, _ARROW_TYPES[column.type], nullable=True)
