"""Events -> Arrow columns -> one record batch in the order of the lake, as Parquet or CSV bytes. Pure."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import quote

from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import write_csv, write_parquet
from msgspec import DecodeError, Raw, json
from msgspec.structs import astuple

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.layouts import UNIX_TIMES, Layout, Members
from process.normalise import (
    Normalised,
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
# thousand rows on they halve what a reader has to do. And zstd takes 30 µs for each column, however short it is.
ROWS_FOR_DICTIONARIES = 500
# Hardly ever the same twice: a dictionary of their values costs a third of the writing and makes the file larger.
_NO_DICTIONARY: dict[str | Sequence[str], bool] = dict.fromkeys(
    (
        *("event_id", "event_key", "message_id", "rcpt_to", "raw_rcpt_to", "rcpt_hash", "rcpt_meta"),
        *("injection_time", "queue_time", "msg_size"),
    ),
    False,
)

# Each array takes 10 µs to make, whatever its length, and a slice of one 3. From so many rows on, putting the values
# together takes longer.
LONG = 500

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


class Values(NamedTuple):
    """One column's values in all rows, and by row what does not fit, under Bird's name."""

    column: Column
    name: str
    values: Sequence[Any]
    extras: Extras

    @property
    def kind(self) -> tuple[Any, ...]:
        """What is converted together with it: short columns of the same type that are written in the same way."""
        if len(self.values) >= LONG:
            return (self.column.name,)
        first = next(value for value in self.values if value is not None)
        return self.column.type, self.name in UNIX_TIMES, type(first)

    @property
    def has_few(self) -> bool:
        """Whether most are null, which costs as much as a value, but for text."""
        some = self.values[:: 1 + len(self.values) // SAMPLE]
        return self.column.type is not TEXT and some.count(None) * 2 >= len(some)


def columns_of_events(layout: Layout, fields: Sequence[Sequence[Any]]) -> tuple[Columns, Counter[str]]:
    """Values of one layout, by position -> the columns with values, and how often which field went into `extra`."""
    columns: Columns = {}
    extras: Extras = {}
    extras_of_objects: dict[str, Extras] = {}
    found = list(_values(layout.members, fields, extras))
    for position, name, inner in layout.members.nested:
        objects = fields[position]
        if any(objects):
            nothing = astuple(inner.struct())
            members = list(zip(*(nothing if one is None else astuple(one) for one in objects), strict=True))
            found += _values(inner, members, extras_of_objects.setdefault(name, {}))
    by_kind: dict[tuple[Any, ...], list[Values]] = defaultdict(list)
    for one in found:
        if one.column.type is TEXT and _all_the_same(one.values):
            columns[one.column.name] = _constant(one.values[0], len(one.values))
        else:
            by_kind[one.kind].append(one)
    for some in by_kind.values():
        columns.update(zip((one.column.name for one in some), _converted(some), strict=True))
    for name, rest in extras_of_objects.items():
        for row, members_of_row in rest.items():
            extras.setdefault(row, {})[name] = json_object(members_of_row)
    if extras:
        columns["extra"] = _text_array(
            [json_object(extras[row]) if row in extras else None for row in range(len(fields[0]))]
        )
    return columns, Counter(name for found in extras.values() for name in found)


def columns_of_values(rows: Sequence[Normalised]) -> tuple[Columns, Counter[str]]:
    """Values by column name -> the columns with values, and how often which field went into `extra`."""
    names = {name for row in rows for name in row.values}
    columns = {
        column.name: _array(column.type, [row.values.get(column.name) for row in rows])
        for column in COLUMNS
        if column.name in names
    }
    return columns, Counter(name for row in rows for name in row.extra_fields)


def add_ours(
    columns: Columns,
    event_classes: Sequence[str],
    event_keys: Sequence[str],
    batches: Sequence[StoredBatch],
    batch_numbers: Sequence[int],
) -> None:
    """The columns that Bird's events do not have; `batch_numbers` says which of the batches brought which row."""
    columns["event_class"] = _text_array(event_classes)
    columns["event_key"] = _text_array(event_keys)
    batch_of_row = Array.from_buffer(array("I", batch_numbers))
    columns["batch_id"] = _text_array([batch.batch_id for batch in batches]).take(batch_of_row)
    columns["received_at"] = _array(TIMESTAMP, [batch.received_at for batch in batches]).take(batch_of_row)


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


def in_order(columns: Columns, order: Sequence[int]) -> RecordBatch:
    """These rows in this order, in all of COLUMNS."""
    rows = Array.from_buffer(array("I", order))
    return in_all_columns({name: column.take(rows) for name, column in columns.items()})


def in_all_columns(columns: Columns) -> RecordBatch:
    return RecordBatch.from_arrays(_arrays(columns, COLUMNS, len(columns["event_key"])), schema=schema())


def _arrays(columns: Columns, wanted: Iterable[Column], length: int) -> list[Array]:
    nulls = {column_type: _nulls(column_type, length) for column_type in ColumnType}
    return [columns.get(column.name, nulls[column.type]) for column in wanted]


def to_parquet(
    rows: RecordBatch, *, compression: str | None = None, rows_per_row_group: int = ROWS_PER_ROW_GROUP
) -> bytes:
    """The footer has Parquet's own schema only, which says all that Arrow's (7 kB in each file) would say again."""
    file = BytesIO()
    few = rows.num_rows < ROWS_FOR_DICTIONARIES
    write_parquet(
        rows,
        file,
        compression=compression or ("snappy" if few else "zstd(1)"),
        dictionary_enabled=not few,
        column_dictionary_enabled={} if few else _NO_DICTIONARY,
        max_row_group_size=rows_per_row_group,
        created_by="bird-webhooks",
        skip_arrow_metadata=True,
    )
    return file.getvalue()


def to_csv(rows: RecordBatch) -> bytes:
    """RFC 4180 with a header and one line a row; a missing value is an empty field, times are ISO 8601 in UTC.

    Athena's readers split a file at line ends before they look for quotation marks, so that a line break in a value
    would be a row of the sender's choosing. Text with one in it, and an empty text, which would be a missing value,
    are written as ENCODED and the text in percent-encoding.
    """
    file = _csv(rows)
    if not _as_it_is(file, rows):
        columns = zip(COLUMNS, rows.columns, strict=True)
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


def _values(members: Members, by_position: Sequence[Sequence[Any]], extras: Extras) -> Iterator[Values]:
    """Of the columns that have any; unknown members go into `extras`."""
    for position, column in members.columns:
        values = by_position[position]
        if any(values) or values.count(None) < len(values):
            yield Values(column, (column.field or "").rpartition(".")[2], values, extras)
    for position, name in members.unknown:
        values = by_position[position]
        if any(values):
            for row, value in enumerate(values):
                if value is not None:
                    extras.setdefault(row, {})[name] = str(value, "utf-8")


def _converted(some: Sequence[Values]) -> list[Array]:
    """Columns of one kind as one long array that is cut into theirs; each by itself if one does not fit."""
    column_type, length, few = some[0].column.type, len(some[0].values), len(some[0].values) >= LONG and some[0].has_few
    values = list(chain.from_iterable(one.values for one in some)) if len(some) > 1 else some[0].values
    rows = [row for row, value in enumerate(values) if value is not None] if few else []
    whole = _AT_ONCE[column_type]([*(values[row] for row in rows), None] if few else values)
    if whole is None:
        if len(some) > 1:
            return [array for one in some for array in _converted([one])]
        return [_ONE_BY_ONE[column_type](some[0])]
    if few:
        whole = whole.take(_places(rows, len(values)))
    if len(some) == 1:
        return [whole]
    return [whole.slice(number * length, length) for number in range(len(some))]


def _places(rows: Sequence[int], length: int) -> Array:
    """Where each of all rows has its value, if only those of some rows became an array, and after them a null."""
    places = array("I", [len(rows)]) * length
    for place, row in enumerate(rows):
        places[row] = place
    return Array.from_buffer(places)


def _bigints(values: Sequence[int | str | None]) -> Array | None:
    """If all are text, as Bird writes them, or all are numbers."""
    with suppress(TypeError):
        texts = _text_array(values)
        numbers = texts.cast(DataType.int64())
        if numbers.cast(DataType.utf8()) == texts:  # not so with +5 and 007, which arrow takes for numbers
            return numbers
    with suppress(TypeError):
        return Array(values, DataType.int64())
    return None


def _booleans(values: Sequence[bool | int | str | None]) -> Array | None:
    with suppress(TypeError):
        return Array(values, DataType.bool())
    with suppress(KeyError):
        return _array(BOOLEAN, list(map(_FLAGS.__getitem__, values)))
    return None


def _times(values: Sequence[int | str | None]) -> Array | None:
    """If all are written as Bird writes them, ISO 8601 or Unix seconds."""
    texts = [value for value in values if value is not None]
    if are_seconds(texts):
        return _text_array(values).cast(DataType.int64()).cast(_UTC_SECONDS).cast(_UTC_MILLISECONDS)
    if _are_milliseconds(texts):
        times = _text_array(values).cast(_UTC_MILLISECONDS)
        if times.null_count == len(values) - len(texts):
            return times
    return None


def _each(read: Callable[[bytes], Any], column: Values) -> Array:
    """Each value as the lenient way reads it."""
    found: list[Any] = []
    for row, value in enumerate(column.values):
        raw = value if isinstance(value, Raw) else json.encode(value)
        try:
            found.append(None if value is None or raw == _NULL_RAW else read(raw))
        except (DecodeError, UnfitValueError):
            found.append(None)
            column.extras.setdefault(row, {})[column.name] = str(raw, "utf-8")
    return _array(column.column.type, found)


def _each_time(column: Values) -> Array:
    timestamps: list[int | None] = []
    for row, value in enumerate(column.values):
        timestamp, whole = (None, True) if value is None else read_timestamp(str(value))
        timestamps.append(timestamp)
        if not whole:
            column.extras.setdefault(row, {})[column.name] = json.encode(value).decode()
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


def _are_milliseconds(texts: Sequence[Any]) -> bool:
    """Whether all are in the form of 2016-04-18T14:25:07.000Z; whether they are dates, the cast says.

    Years beyond 2000 to 2099 are read one by one, because some of them are left out.
    """
    count = len(texts)
    try:
        joined = "".join(texts)
    except TypeError:
        return False
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


def _doubles(values: Sequence[Raw | None]) -> Array | None:
    """If all are short enough to be exact."""
    joined = b",".join([*_null_raws(values), b""]).decode()
    if not _SHORT_DOUBLES.fullmatch(joined):
        return None
    texts = joined.replace('"', "").split(",")[:-1]
    return _array(DOUBLE, [None if text == "null" else float(text) for text in texts])


def _jsons(values: Sequence[Raw | None]) -> Array:
    texts: list[str | None] = b"\0".join(_null_raws(values)).decode().split("\0")  # type: ignore[assignment]  # no JSON has it
    if "null" in texts:
        texts = [None if text == "null" else text for text in texts]
    return _text_array(texts)


def _null_raws(raws: Sequence[Raw | None]) -> Sequence[Raw]:
    return [_NULL_RAW if raw is None else raw for raw in raws]


def _all_the_same(values: Sequence[str | None]) -> bool:
    """As the account and the domain mostly are. Not worth asking of few values."""
    if len(values) < LONG or values[0] is None:
        return False
    some = values[:: 1 + len(values) // SAMPLE]
    return some.count(values[0]) == len(some) and values.count(values[0]) == len(values)


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
_AT_ONCE: dict[ColumnType, Callable[[Sequence[Any]], Array | None]] = {
    TEXT: _text_array,
    BIGINT: _bigints,
    DOUBLE: _doubles,
    BOOLEAN: _booleans,
    TIMESTAMP: _times,
    JSON: _jsons,
}
_ONE_BY_ONE: dict[ColumnType, Callable[[Values], Array]] = {
    BIGINT: partial(_each, read_bigint),
    DOUBLE: partial(_each, read_double),  # type: ignore[arg-type]
    BOOLEAN: partial(_each, read_boolean),
    TIMESTAMP: _each_time,
}


@cache
def schema() -> Schema:
    """All of COLUMNS, in their order; all may be null."""
    return Schema(list(map(_field, COLUMNS)))


@cache
def _field(column: Column) -> Field:
    return Field(column.name, _ARROW_TYPES[column.type], nullable=True)
