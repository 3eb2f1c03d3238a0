"""One date: its small files -> few large ones, step by step. Each step is recorded before it shows.

    begin      the state names the version that is to be written, and the files that go into it
    gather     small files are read; what is too much for memory at once goes to maintenance/work/, by slice
    merge      slice by slice: each event once, in order, written under closed/, read back and compared
    commit     the state names the new version as the current one
    point      the partition is moved there, in one call
    announce   subscribers are told; the state says so

A run that ends anywhere, for want of time or by a crash, is taken up by the next one where the state says that it is.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate, batched
from typing import NamedTuple

from arro3.core import RecordBatch

from process import day_state, unshown
from process.closing import (
    Piece,
    by_slice,
    combined,
    compare,
    cut,
    distinct,
    rows_of,
    rows_of_piece,
    size,
    taken,
    to_file,
    to_pieces,
)
from process.columns import COLUMNS
from process.day_state import Attempt, DayState, File, Part, Small
from process.lake_files import LakeFiles

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MEBIBYTE = 1024 * 1024
# Rows that are in memory at once, as Arrow has them; Bird's take about 1 kB. The process takes 2.2 times as much at its
# peak (measured with a million rows of 8,560 files), and the function has 3,008 MB.
HELD_BYTES = 900 * MEBIBYTE
# A slice is planned for less, because the number of slices is told from the first files of a day.
SLICE_BYTES = 600 * MEBIBYTE
PART_BYTES = 400 * MEBIBYTE
MOST_SLICES = 512
READ_AT_ONCE = 16
# Compressed, of pieces that are read at once; a larger one is read by itself.
PIECES_BYTES = 64 * MEBIBYTE
JOINED_AT_ONCE = 64
# The longest step that cannot be cut short: to write a slice and to read it back.
RESERVED_SECONDS = 150
PARQUET = "application/vnd.apache.parquet"


class OutOfTimeError(Exception):
    """The next run goes on from what the state says."""


class LostError(Exception):
    """A part that the attempt needs is not there, or not as it was: it has to begin again."""


class FileGoneError(Exception):
    """A closed file is not there. It may be the only copy of its rows, so no version is made without it by itself."""


class Limits(NamedTuple):
    held_bytes: int = HELD_BYTES
    slice_bytes: int = SLICE_BYTES
    part_bytes: int = PART_BYTES


LIMITS = Limits()


@dataclass
class CloseDay:
    """`state` and `etag` are as in the lake after each step. `stop_at` is by the monotonic clock.

    `without_lost`: go on where a closed file is gone, as the operator has said.
    """

    files: LakeFiles
    state: DayState
    etag: str | None
    stop_at: float
    now: Callable[[], datetime]
    limits: Limits = LIMITS
    without_lost: bool = False

    @property
    def day(self) -> date:
        return self.state.event_date

    @property
    def folder(self) -> str:
        return small_folder(self.day)

    def save(self) -> None:
        """Errors: ChangedError, if another run was faster; nothing is done on its back then."""
        self.etag = self.files.write_state(self.state, self.etag)

    def close(self, small: Sequence[Small]) -> bool:
        """Make the next version of these files, or of those of an attempt that was begun. Whether there is one.

        Errors: OutOfTimeError, ChangedError, FileGoneError, UnknownColumnsError, DifferentError, LakeUnavailableError,
        and what arro3 raises for a file that is not Parquet.
        """
        if self.state.attempt and not self._goes_on():
            self._give_up()
            if not small:  # an erasure's that was cut short
                return False
        if self.state.attempt is None:
            day_state.begin(self.state, small, len(COLUMNS))
            self.save()
        try:
            made = self._make(self._attempt)
        except LostError:
            logger.warning("closing begins again", extra={"event_date": str(self.day)})
            self._give_up()
            raise OutOfTimeError from None
        if not made:
            self._give_up()
            return False
        self._clear()
        work = self._parts()
        day_state.commit(self.state, self.now())
        self.save()
        self.files.delete(work)
        return True

    def _clear(self) -> None:
        """Delete what an earlier try left in the version's folder, because readers take every file of it."""
        folder, names = f"closed/event_date={self.day}/{self._attempt.version}/", {f.name for f in self._attempt.files}
        others = [key for key in self.files.keys(folder) if key.removeprefix(folder) not in names]
        if others:
            self.save()  # or it may be the version that a faster run has committed
            self.files.delete(others)

    def _give_up(self) -> None:
        self.files.delete(self._parts())  # what the state still names; then it may forget them
        day_state.give_up(self.state, self.now())
        self.save()

    def _parts(self) -> list[str]:
        return [f"{self._work}{part.name}" for part in self._attempt.parts]

    def _goes_on(self) -> bool:
        """Whether the attempt was begun with today's columns, on what is still the current version."""
        attempt = self._attempt
        probe = DayState(self.day, number=self.state.number - 1, current=self.state.current)
        day_state.begin(probe, attempt.inputs, len(COLUMNS))
        return probe.attempt is not None and probe.attempt.version == attempt.version

    def _make(self, attempt: Attempt) -> bool:
        """False for a date of which no row is left."""
        sources = self._sources(attempt)
        if attempt.consumed < len(sources) or not attempt.parts:
            held = self._gather(attempt, sources)
            if not attempt.parts:  # all of it fits
                if not size(held):
                    return False
                self._write(attempt, 0, held)
                return True
        for number in range(attempt.merged, attempt.slices):
            self._check_time()
            self._merge(attempt, number)
        return bool(attempt.files)

    def _sources(self, attempt: Attempt) -> list[str]:
        """Keys of all that goes in, in the order in which it was written."""
        base = self.state.current
        before = [f"{self.state.location}{file.name}" for file in base.files] if base else []
        return before + [f"{self.folder}{file.name}" for file in attempt.inputs]

    def _gather(self, attempt: Attempt, sources: Sequence[str]) -> list[RecordBatch]:
        """The rows that are in no part; none, once there are parts."""
        held: list[RecordBatch] = []
        consumed, held_bytes = attempt.consumed, 0
        for keys, batches in self._read(sources[consumed:]):
            consumed += keys
            held += batches
            held_bytes += size(batches)
            too_much = held_bytes > (self.limits.part_bytes if attempt.parts else self.limits.held_bytes)
            if too_much or self._seconds_left < 0:
                if not attempt.parts:
                    attempt.slices = self._slices(held_bytes, consumed, len(sources))
                self._part(attempt, held, consumed)
                held_bytes = 0
                self._check_time()
        if attempt.parts and held:
            self._part(attempt, held, consumed)
        return held

    def _slices(self, held_bytes: int, consumed: int, sources: int) -> int:
        whole = held_bytes * sources / consumed
        return max(1, min(MOST_SLICES, -(-int(whole) // self.limits.slice_bytes)))

    def _part(self, attempt: Attempt, held: list[RecordBatch], consumed: int) -> None:
        """`held` is emptied. The inputs as they were read are in the state before the next are."""
        slices = by_slice(held, attempt.slices)
        order = slices[0][:0]
        for one in slices:
            order.extend(one)
        body, pieces = to_pieces(taken(held, order), [len(one) for one in slices])
        part = Part(f"{len(attempt.parts):05}.arrows", consumed, pieces)
        self.files.write(f"{self._work}{part.name}", body, "application/octet-stream")
        attempt.parts.append(part)
        attempt.consumed = consumed
        self.save()

    def _merge(self, attempt: Attempt, number: int) -> None:
        """One slice of all parts. If it is too much for memory, copies may stay in files of their own: not exact."""
        held: list[RecordBatch] = []
        held_bytes = pieces = 0
        for piece, body in self._pieces(attempt, number):
            batches = [] if body is None else rows_of_piece(body)
            if sum(batch.num_rows for batch in batches) != piece.rows:
                raise LostError
            if held and held_bytes + size(batches) > self.limits.held_bytes:
                pieces = self._write_files(attempt, number, pieces, held)
                attempt.exact = False
                held_bytes = 0
            held += batches
            held_bytes += size(batches)
        if held:
            self._write_files(attempt, number, pieces, held)
        attempt.merged = number + 1
        self.save()

    def _pieces(self, attempt: Attempt, number: int) -> Iterator[tuple[Piece, bytes | None]]:
        """Those of one slice, in order. Some are read at once: compressed, and within the memory that rows leave."""
        wanted = [(part.name, part.pieces[number]) for part in attempt.parts if part.pieces[number].rows]

        def read(one: tuple[str, Piece]) -> bytes | None:
            return self.files.read_range(f"{self._work}{one[0]}", one[1].offset, one[1].length)

        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            while wanted:
                ends = accumulate(piece.length for _, piece in wanted[:READ_AT_ONCE])
                count = max(1, sum(end <= PIECES_BYTES for end in ends))
                some, wanted = wanted[:count], wanted[count:]
                for (_, piece), body in zip(some, pool.map(read, some), strict=True):
                    yield piece, body

    def _write(self, attempt: Attempt, number: int, held: list[RecordBatch]) -> None:
        attempt.files = []
        self._write_files(attempt, number, 0, held)

    def _write_files(self, attempt: Attempt, number: int, pieces: int, held: list[RecordBatch]) -> int:
        """`held` is emptied. How many files the slice has by then."""
        batches: set[str] = set()
        rows = taken(held, distinct(held, batches))
        if batches:  # before the rows are gone from where readers look
            key = unshown.of_closing(str(self.day), attempt.version, f"{number:04}-{pieces:02}")
            self.files.write(key, unshown.encode(batches), unshown.CONTENT_TYPE)
        for piece in cut(rows):
            name = f"{number:04}-{pieces:02}.parquet"
            body = to_file(piece)
            key = f"closed/event_date={self.day}/{attempt.version}/{name}"
            self.files.write(key, body, PARQUET)
            written = self.files.read(key)
            compare(written.value if written else b"", piece)
            attempt.files = [file for file in attempt.files if file.name != name]
            attempt.files.append(File(name, piece.num_rows, len(body)))
            pieces += 1
        return pieces

    def _read(self, keys: Sequence[str]) -> Iterator[tuple[int, list[RecordBatch]]]:
        """How many files, and their rows, some files at a time."""
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            for some in batched(keys, JOINED_AT_ONCE, strict=False):
                read = list(pool.map(self._rows, some))
                self._attempt.gone += read.count(None)
                yield len(some), combined([batch for batches in read for batch in batches or ()])

    def _rows(self, key: str) -> list[RecordBatch] | None:
        """None for a file that is gone. An erasure deletes a small file in which no other rows are."""
        found = self.files.read(key)
        if found is not None:
            return rows_of(found.value)
        logger.error("file gone", extra={"lake_key": key})
        if not (key.startswith(self.folder) or self.without_lost):
            raise FileGoneError(f"{key} is gone: see docs/runbook.md#tablemaintenancealarm")
        return None

    @property
    def _attempt(self) -> Attempt:
        if self.state.attempt is None:
            raise ValueError("no attempt")
        return self.state.attempt

    @property
    def _work(self) -> str:
        return f"maintenance/work/event_date={self.day}/{self._attempt.version}/"

    @property
    def _seconds_left(self) -> float:
        return self.stop_at - time.monotonic()

    def _check_time(self) -> None:
        if self._seconds_left < 0:
            raise OutOfTimeError


def small_folder(day: date) -> str:
    return f"events/event_date={day}/"
