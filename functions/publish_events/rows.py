"""A file of rows, Parquet or CSV -> its rows of the chosen types, as values by column. Pure.

A file is decoded some thousand rows at a time, and only rows of those types become Python values, so a file without
such rows costs only its decoding. (arro3 reads neither single columns nor the statistics of row groups.)
"""

from array import array
from collections.abc import Collection, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_csv, read_parquet

from publish_events.columns import KINDS, Kind

ROWS_AT_ONCE = 4096
_PARQUET_MAGIC = b"PAR1"
# The prefix of a text that process percent-encoded, because it is empty or contains a line end.
_ENCODED = "%:"
_ARROW_TYPES = {
    Kind.BIGINT: DataType.int64(),
    Kind.DOUBLE: DataType.float64(),
    Kind.BOOLEAN: DataType.bool(),
    Kind.TIMESTAMP: DataType.timestamp("ms", tz="UTC"),
    Kind.JSON: DataType.utf8(),
}

type Row = dict[str, Any]


class UnreadableFileError(Exception):
    """A file that is not Parquet or CSV, or not of rows."""


def rows_of_types(
    body: bytes, types: Collection[str], *, csv: bool, seen: set[str | None] | None = None
) -> Iterator[Row]:
    """In the order of the file; a missing value is None. All types in the file are added to `seen`.

    Errors: UnreadableFileError.
    """
    for batch in _record_batches(body, csv=csv):
        kinds = batch.column("type").to_pylist()
        if seen is not None:
            seen.update(kinds)
        wanted = [index for index, kind in enumerate(kinds) if kind in types]
        if wanted:
            chosen = batch.take(Array.from_buffer(array("I", wanted)))
            columns = [chosen.column(name).to_pylist() for name in chosen.column_names]
            if csv:
                columns = [[_decoded(value) for value in column] for column in columns]
            for values in zip(*columns, strict=True):
                yield dict(zip(chosen.column_names, values, strict=True))


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_ENCODED):
        return unquote(value.removeprefix(_ENCODED))
    return value


def _record_batches(body: bytes, *, csv: bool) -> Iterator[RecordBatch]:
    batches: RecordBatchReader | None = None
    while True:
        try:
            if batches is None:
                batches = _open_csv(body) if csv else _open_parquet(body)
                if not {"event_class", "type", "event_key"} <= set(batches.schema.names):
                    raise UnreadableFileError("not a file of rows")
            batch = next(batches, None)
        except (UnreadableFileError, KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # arro3 panics on a corrupt file, and a panic is not an Exception
            raise UnreadableFileError(type(error).__name__) from error
        if batch is None:
            return
        yield batch


def _open_parquet(body: bytes) -> RecordBatchReader:
    if len(body) < 12 or body[:4] != _PARQUET_MAGIC or body[-4:] != _PARQUET_MAGIC:
        raise UnreadableFileError("not Parquet")
    return read_parquet(BytesIO(body), batch_size=ROWS_AT_ONCE)


def _open_csv(body: bytes) -> RecordBatchReader:
    """With the columns' types, which CSV does not keep; an empty field is a missing value."""
    names = body.partition(b"\n")[0].decode().rstrip("\r").split(",")
    fields = [Field(name, _ARROW_TYPES[KINDS[name]] if name in KINDS else DataType.utf8()) for name in names]
    return read_csv(BytesIO(body), Schema(fields), has_header=True, batch_size=ROWS_AT_ONCE)
