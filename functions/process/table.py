"""Groups of events -> one Arrow table, as Parquet or CSV bytes."""

from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from itertools import groupby
from typing import Any

from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import write_csv, write_parquet
from msgspec import Raw
from msgspec.structs import astuple

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, ColumnType
from process.rows import RowGroup

_UTC_MILLISECONDS = DataType.timestamp("ms", tz="UTC")
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


def to_table(groups: Iterable[RowGroup]) -> Table:
    """Rows in the order of `type`, `timestamp`; every column of COLUMNS, in its order."""
    batches = []
    for _, same_type in groupby(groups, key=lambda group: group.event_type):
        parts = list(same_type)
        batches.append(_to_record_batch(parts[0]) if len(parts) == 1 else _merge(parts))
    return Table.from_batches(batches, schema=_schema())


def _merge(groups: list[RowGroup]) -> RecordBatch:
    """One batch of groups that are sorted each for itself."""
    events = [event for group in groups for event in group.events]
    order = Array(sorted(range(len(events)), key=lambda row: events[row][:2]), DataType.uint64())
    whole = Table.from_batches([_to_record_batch(group) for group in groups], schema=_schema()).combine_chunks()
    return whole.to_batches()[0].take(order)


def to_parquet(table: Table) -> bytes:
    file = BytesIO()
    write_parquet(table, file, compression="zstd(1)", max_row_group_size=ROWS_PER_ROW_GROUP, created_by="bird-webhooks")
    return file.getvalue()


def to_csv(table: Table) -> bytes:
    """RFC 4180 with a header; a missing value is an empty field, times are ISO 8601 in UTC."""
    file = BytesIO()
    write_csv(table, file, header=True)
    return file.getvalue()


@cache
def _schema() -> Schema:
    return Schema([Field(column.name, _ARROW_TYPES[column.type], nullable=True) for column in COLUMNS])


def _to_record_batch(group: RowGroup) -> RecordBatch:
    events = group.events
    values = _values_by_column(group)
    values["event_class"] = [group.event_class] * len(events)
    values["event_key"] = [event.event_key for event in events]
    values["batch_id"] = [event.batch.batch_id for event in events]
    values["received_at"] = [event.batch.received_at for event in events]
    arrays = [
        _array(column.type, values[column.name]) if column.name in values else _nulls(column.type, len(events))
        for column in COLUMNS
    ]
    return RecordBatch.from_arrays(arrays, schema=_schema())


def _values_by_column(group: RowGroup) -> dict[str, Sequence[Any]]:
    rows = [event.values for event in group.events]
    if group.layout is None:
        return {name: [row.get(name) for row in rows] for name in {name for row in rows for name in row}}
    columns: dict[str, Sequence[Any]] = {}
    by_field = dict(zip(group.layout.names, zip(*map(astuple, rows), strict=True), strict=True))
    for column in COLUMNS:
        if column.field is None:
            continue
        name, _, member = column.field.partition(".")
        if name not in by_field:
            continue
        values = by_field[name]
        if member:
            columns[column.name] = [None if value is None else getattr(value, member) for value in values]
        elif column.type is JSON:
            columns[column.name] = [_json_text(value) for value in values]
        elif column.type is TIMESTAMP and not group.layout.fields.get(name):
            columns[column.name] = [None if value is None else value * 1000 for value in values]
        else:
            columns[column.name] = values
    return columns


def _json_text(raw: Raw) -> str | None:
    text = str(raw, "utf-8")
    return None if text == "null" else text


def _array(column_type: ColumnType, values: Sequence[Any]) -> Array:
    if column_type is TIMESTAMP:
        return Array(values, DataType.int64()).cast(_UTC_MILLISECONDS)
    return Array(values, _ARROW_TYPES[column_type])


def _nulls(column_type: ColumnType, length: int) -> Array:
    return _many_nulls(column_type, 1 << length.bit_length()).slice(0, length)


@cache
def _many_nulls(column_type: ColumnType, length: int) -> Array:
    return _array(column_type, [None] * length)
