"""The rows of one date, read from many small files -> each event once, in order, as large files. Pure.

Which copy of an event stays is what the view `events_deduplicated` decides: the least of received_at, batch_id and
extra, with no extra first. Copies that are equal in these three come from one batch; of them the one that was read
last stays, which is the newest file's.
"""

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple

from arro3.core import Array, ChunkedArray, DataType, RecordBatch, Table
from arro3.io import read_ipc_stream, read_parquet, write_ipc_stream

from process.columns import COLUMNS
from process.table import schema, to_parquet

IDENTITY = ("customer_id", "event_class", "type", "event_key")
# Files are cut near this many rows, so that a reader of a large day can share the work among its processes.
ROWS_PER_FILE = 1_000_000
# Large row groups compress better, and a reader still skips most of a file by type and time.
ROWS_PER_ROW_GROUP = 50_000
ROWS_PER_READ = 65_536
_NO_MOMENT = -(2**63)  # before all others
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

type Key = tuple[str | None, ...]


class UnknownColumnsError(Exception):
    """A file has columns that this version does not know: a newer one wrote it. Its values must not be lost."""


class DifferentError(Exception):
    """What was read back is not what was written."""


class Piece(NamedTuple):
    """Rows of one slice, among others in one object: where they are in it."""

    offset: int
    length: int
    rows: int


def rows_of(file: bytes) -> list[RecordBatch]:
    """A Parquet file in today's columns; those that it lacks are null. Errors: UnknownColumnsError."""
    reader = read_parquet(file, batch_size=ROWS_PER_READ)
    unknown = set(reader.schema.names) - {column.name for column in COLUMNS}
    if unknown:
        raise UnknownColumnsError(f"{len(unknown)} columns")
    return [_conformed(batch) for batch in reader]


def combined(batches: Sequence[RecordBatch]) -> list[RecordBatch]:
    """One batch of many: a hundred columns take 100 kB, however few rows they have."""
    return (
        Table.from_batches(batches, schema=schema()).combine_chunks().to_batches() if len(batches) > 1 else [*batches]
    )


def size(batches: Sequence[RecordBatch]) -> int:
    """Bytes in memory."""
    return sum(batch.nbytes for batch in batches)


def distinct(batches: Sequence[RecordBatch], unshown: set[str] | None = None) -> array[int]:
    """Places of the rows that stay, in the order of the closed file: by type and time, then by identity.

    `unshown` takes the ids of batches of which a row goes because another batch's stays.
    """
    by_group: dict[Key, dict[str, int]] = {}
    moments: array[int] = array("q")
    ranks = _Ranks(batches)
    place = 0
    for batch in batches:
        moments.extend(_moments(batch))
        *groups, keys = (batch[name].to_pylist() for name in IDENTITY)
        for group, key in zip(zip(*groups, strict=True), keys, strict=True):
            kept = by_group.get(group)
            if kept is None:
                kept = by_group[group] = {}
            other = kept.setdefault(key, place)
            if other != place:
                ours, theirs = ranks.of(place), ranks.of(other)
                if ours <= theirs:
                    kept[key] = place
                if unshown is not None and ours[BATCH_ID] != theirs[BATCH_ID]:
                    unshown.add(max(ours, theirs)[BATCH_ID])
            place += 1
    by_type: dict[str | None, list[tuple[Key, dict[str, int]]]] = {}
    for group, kept in sorted(by_group.items(), key=lambda item: [(part is not None, part or "") for part in item[0]]):
        by_type.setdefault(group[2], []).append((group, kept))
    order: array[int] = array("I")
    for event_type in sorted(by_type, key=lambda one: (one is not None, one or "")):
        rows = [
            (moments[row], number, key or "", row)
            for number, (_, kept) in enumerate(by_type.pop(event_type))
            for key, row in kept.items()
        ]
        rows.sort()
        order.extend(row for *_, row in rows)
    return order


def by_slice(batches: Sequence[RecordBatch], slices: int) -> list[array[int]]:
    """Places of the rows of each slice, in their order; all copies of an event are in one slice."""
    found: list[array[int]] = [array("I") for _ in range(slices)]
    place = 0
    for batch in batches:
        columns = (batch[name].to_pylist() for name in IDENTITY)
        for identity in zip(*columns, strict=True):
            found[zlib.crc32(repr(identity).encode()) % slices].append(place)
            place += 1
    return found


def taken(batches: list[RecordBatch], order: array[int]) -> RecordBatch:
    """The rows in that order. `batches` is emptied, column by column, so that no row is in memory twice."""
    columns: list[ChunkedArray | None] = [*Table.from_batches(batches, schema=schema()).columns]
    batches.clear()
    indices = Array.from_buffer(order)
    arrays: list[Array] = []
    for number, column in enumerate(columns):
        columns[number] = None
        assert column is not None  # noqa: S101  # each is taken once
        whole = column.combine_chunks()
        del column
        arrays.append(whole.take(indices))
    return RecordBatch.from_arrays(arrays, schema=schema())


def cut(rows: RecordBatch) -> Iterator[RecordBatch]:
    """Pieces of about ROWS_PER_FILE, none much smaller than the others."""
    pieces = max(1, round(rows.num_rows / ROWS_PER_FILE))
    each = -(-rows.num_rows // pieces)
    for begin in range(0, rows.num_rows, each):
        yield rows.slice(begin, min(each, rows.num_rows - begin))


def to_file(rows: RecordBatch) -> bytes:
    return to_parquet(rows, compression="zstd(3)", rows_per_row_group=ROWS_PER_ROW_GROUP)


def compare(file: bytes, rows: RecordBatch) -> None:
    """Errors: DifferentError."""
    begin = 0
    for batch in read_parquet(file, batch_size=ROWS_PER_READ):
        if begin + batch.num_rows > rows.num_rows:
            raise DifferentError("more rows")
        written = rows.slice(begin, batch.num_rows)
        for column, read in zip(written.columns, batch.columns, strict=True):
            if not ChunkedArray([read]).equals(ChunkedArray([column])):
                raise DifferentError("other values")
        begin += batch.num_rows
    if begin != rows.num_rows:
        raise DifferentError("fewer rows")


def to_pieces(rows: RecordBatch, sizes: Sequence[int]) -> tuple[bytes, list[Piece]]:
    """Rows of several slices, one after the other, as one object."""
    file, pieces, begin = BytesIO(), [], 0
    for size_of_slice in sizes:
        offset = file.tell()
        if size_of_slice:
            write_ipc_stream(rows.slice(begin, size_of_slice), file, compression="ZSTD")
        pieces.append(Piece(offset, file.tell() - offset, size_of_slice))
        begin += size_of_slice
    return file.getvalue(), pieces


def rows_of_piece(body: bytes) -> list[RecordBatch]:
    return list(read_ipc_stream(BytesIO(body)))


def _conformed(batch: RecordBatch) -> RecordBatch:
    if batch.schema.names == schema().names and batch.schema == schema():
        return batch
    names = set(batch.schema.names)
    arrays = []
    for field in map(schema().field, range(len(COLUMNS))):
        if field.name in names:
            found = batch[field.name]
            arrays.append(found if found.type == field.type else found.cast(field.type))
        else:
            arrays.append(Array([None] * batch.num_rows, field.type))
    return RecordBatch.from_arrays(arrays, schema=schema())


def _moments(batch: RecordBatch) -> list[int]:
    found: list[Any] = batch["timestamp"].cast(DataType.int64()).to_pylist()
    return [_NO_MOMENT if moment is None else moment for moment in found] if None in found else found


# Its place in a rank.
BATCH_ID = 3


class _Ranks:
    """What the view orders copies by, looked up for copies only."""

    def __init__(self, batches: Sequence[RecordBatch]) -> None:
        self._ends: array[int] = array("Q")
        end = 0
        for batch in batches:
            end += batch.num_rows
            self._ends.append(end)
        self._columns = [tuple(batch[name] for name in ("received_at", "batch_id", "extra")) for batch in batches]

    def of(self, place: int) -> tuple[Any, ...]:
        number = bisect_right(self._ends, place)
        row = place - (self._ends[number - 1] if number else 0)
        received_at, batch_id, extra = (column[row].as_py() for column in self._columns[number])
        return (
            received_at is None,
            received_at or _EPOCH,
            batch_id is None,
            batch_id or "",
            extra is not None,
            extra or "",
        )
