"""One day of a sender: its small files as process writes them, then closed by the maintenance's own code. A child.

python -m benchmarks.days    reads {"sender": …, "settings": …, "folder": …} from its standard input

Of a large sender one invocation in `sample` is made; its day has as many row groups as the whole one, so that as many
are skipped by type. Requests of S3 and Glue are counted where the code asks for them; the disk stands in for S3.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.events import batches_at
from benchmarks.measure import peak_memory_bytes
from benchmarks.ours import files
from benchmarks.senders import MIDNIGHT, Arrival, Sender, arrivals, invocations
from process import closing, maintenance
from process.app import FLUSH_BODY_BYTES
from process.close_day import HELD_BYTES, PART_BYTES, SLICE_BYTES, Limits
from process.day_state import Small
from process.lake_files import Found, LakeFiles, state_key

EVENT_DATE = datetime.fromtimestamp(MIDNIGHT, UTC).date()
DAYS_SINCE_1970 = (EVENT_DATE - date(1970, 1, 1)).days
LIST_PAGE = 1000
# A sample is closed in as few slices as make the code take that way at all.
SLICES_OF_A_SAMPLE = 2


def main() -> None:
    wanted = json.load(sys.stdin)
    sender = Sender(*wanted["sender"])
    folder = Path(wanted["folder"])
    batches = arrivals(sender)
    found = invocations(batches, wanted["settings"])
    small, made = make(found[:: sender.sample], folder)
    whole = day(found, made)
    lake = CountedLake(folder)
    closed = close(lake, whole, made["rows"], sampled=sender.sample > 1)
    print(json.dumps({"day": whole, "made": made | {"files": small}, "closed": closed}))


# --- Small files ------------------------------------------------------------------------------------------------------


def make(some: Sequence[Sequence[Arrival]], folder: Path) -> tuple[int, dict[str, Any]]:
    """How many files, and what it took to make them."""
    small = folder / f"events/event_date={EVENT_DATE}"
    small.mkdir(parents=True)
    count = events = batches = body_bytes = written = 0
    cpu = 0.0
    for number, invocation in enumerate(some):
        bodies = list(batches_at(((int(one.second), one.events) for one in invocation), number))
        read = [
            (f"{number:06d}-{place:03d}", int(one.second * 1000), body)
            for place, (one, body) in enumerate(zip(invocation, bodies, strict=True))
        ]
        batches += len(bodies)
        events += sum(one.events for one in invocation)
        body_bytes += sum(map(len, bodies))
        started = time.process_time()
        made = list(files(read, "parquet"))
        cpu += time.process_time() - started
        for event_day, body in made:
            if event_day == DAYS_SINCE_1970:
                written += len(body)
                (small / f"{hashlib.sha256(f'{number} {count}'.encode()).hexdigest()[:32]}.parquet").write_bytes(body)
                count += 1
    return count, {
        "invocations": len(some),
        "batches": batches,
        "rows": events,
        "body_bytes": body_bytes,
        "small_bytes": written,
        "process_cpu": cpu,
    }


def day(found: Sequence[Sequence[Arrival]], made: dict[str, Any]) -> dict[str, Any]:
    """The whole day: counted from the model, or computed from what was made."""
    bytes_an_event = made["body_bytes"] / made["rows"]
    small = sum(pieces(one, bytes_an_event) for one in found)
    rows = sum(one.events for invocation in found for one in invocation)
    share = rows / made["rows"]
    return {
        "rows": rows,
        "batches": sum(map(len, found)),
        "invocations": len(found),
        "files": small,
        "body_bytes": rows * bytes_an_event,
        "small_bytes": made["small_bytes"] * share,
        "process_cpu": made["process_cpu"] * share,
        "share": share,
    }


def pieces(invocation: Sequence[Arrival], bytes_an_event: float) -> int:
    """Files of an invocation: one whenever so much JSON has been read, and one for the rest."""
    count, held = 0, 0.0
    for one in invocation:
        held += one.events * bytes_an_event
        if held >= FLUSH_BODY_BYTES:
            count, held = count + 1, 0.0
    return count + (held > 0)


# --- Closed -----------------------------------------------------------------------------------------------------------


def close(lake: "CountedLake", whole: dict[str, Any], rows: int, *, sampled: bool) -> dict[str, Any]:
    """A run of the maintenance that closes the day, one that finds nothing to do, and what they asked for."""
    memory = bytes_of_rows(lake)
    bytes_in_memory = memory * whole["rows"] / rows
    slices = 1 if bytes_in_memory <= HELD_BYTES else -(-int(bytes_in_memory) // SLICE_BYTES)
    each = whole["rows"] / slices
    files_a_slice = max(1, round(each / closing.ROWS_PER_FILE))
    groups = -(-int(each / files_a_slice) // closing.ROWS_PER_ROW_GROUP)
    limits, rows_per_row_group = Limits(), closing.ROWS_PER_ROW_GROUP
    if sampled:
        if slices > 1:
            limits = Limits(memory // 2, -(-memory // SLICES_OF_A_SAMPLE), memory // SLICES_OF_A_SAMPLE)
        rows_per_file = rows / (SLICES_OF_A_SAMPLE if slices > 1 else 1)
        closing.ROWS_PER_ROW_GROUP = max(1, int(rows_per_file / groups) + 1)
    glue = CountedGlue(lake.counts)
    maintenance.glue = lambda: glue  # type: ignore[assignment,return-value]
    began = datetime.combine(EVENT_DATE + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=11)
    runs = []
    for hour in range(2):
        lake.counts.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        run = maintenance.Run(
            lake,
            maintenance.Settings("bench", csv=False, close_days=True, close_after=timedelta(hours=10), topic=""),
            time.monotonic() + 3600,
            now=lambda hour=hour: began + timedelta(hours=hour),  # type: ignore[misc]
            limits=limits,
        )
        owner = "bench"
        lease = lake.take_lease(owner, run.now(), maintenance.LEASE_SECONDS)
        outcome = run.work([])
        lake.give_back_lease(owner, run.now(), lease)
        took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        runs.append({**took, "requests": dict(lake.counts), "outcome": outcome})
    state = lake.state(EVENT_DATE).value
    if state.current is None or runs[0]["outcome"]["failed"] or state.rows != rows:
        raise RuntimeError(f"the day was not closed: {runs[0]['outcome']}, {state.rows} of {rows} rows")
    closing.ROWS_PER_ROW_GROUP = rows_per_row_group
    paths = [lake.folder / f"{state.location}{file.name}" for file in state.current.files]
    stored = sum(len(closing.to_file(closing.combined(closing.rows_of(path.read_bytes()))[0])) for path in paths)
    return {
        "files": slices * files_a_slice,
        "row_groups": groups,
        "slices": slices,
        "parts": -(-int(bytes_in_memory) // PART_BYTES) if slices > 1 else 0,
        "bytes": stored * whole["rows"] / rows,
        "read_as_stored": stored / sum(path.stat().st_size for path in paths),
        "paths": list(map(str, paths)),
        "cpu": (runs[0]["cpu"] - runs[1]["cpu"]) * whole["share"],
        "idle_cpu": runs[1]["cpu"],
        "peak_memory": peak_memory_bytes(),
        "requests": runs[0]["requests"],
        "idle_requests": runs[1]["requests"],
    }


def bytes_of_rows(lake: "CountedLake") -> int:
    """Of all rows in memory, joined as the maintenance joins them."""
    held = 0
    paths = sorted(lake.folder.glob("events/*/*.parquet"))
    some = paths[:: max(1, len(paths) // 64)]
    for path in some:
        held += closing.size(closing.rows_of(path.read_bytes()))
    joined = closing.size(closing.combined([b for path in some for b in closing.rows_of(path.read_bytes())]))
    del held
    return int(joined * len(paths) / len(some))


@dataclass(frozen=True)
class CountedLake(LakeFiles):
    """The disk as a bucket. `counts` are the requests that S3 would have answered."""

    folder: Path = Path()
    counts: Counter[str] = field(default_factory=Counter)

    def __init__(self, folder: Path) -> None:
        super().__init__("lake", allow_http=False)
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "counts", Counter())

    def dates(self, prefix: str) -> set[date]:
        self.counts["list"] += 1
        return {date.fromisoformat(path.name.partition("=")[2]) for path in (self.folder / prefix).iterdir()}

    def small_files(self, folder: str) -> list[Small]:
        paths = self._paths(folder)
        return [Small(path.name, str(path.stat().st_size)) for path in paths]

    def keys(self, folder: str) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in self._paths(folder)]

    def read(self, key: str) -> Found[bytes] | None:
        self.counts["get"] += 1
        path = self.folder / key
        return Found(path.read_bytes(), str(path.stat().st_mtime_ns)) if path.exists() else None

    def read_range(self, key: str, offset: int, length: int) -> bytes | None:
        self.counts["get"] += 1
        with (self.folder / key).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self.counts["put"] += 1
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def create(self, key: str) -> None:
        self.write(key, b"", "")

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self.folder / key).unlink()

    def states(self) -> dict[date, datetime]:
        self._paths("maintenance/days/")
        path = self.folder / state_key(EVENT_DATE)
        return {EVENT_DATE: datetime.fromtimestamp(MIDNIGHT, UTC)} if path.exists() else {}

    def _replace(self, key: str, body: bytes, etag: str | None) -> str:
        self.write(key, body, "application/json")
        return str((self.folder / key).stat().st_mtime_ns)

    def _paths(self, folder: str) -> list[Path]:
        paths = sorted((self.folder / folder).iterdir()) if (self.folder / folder).exists() else []
        self.counts["list"] += max(1, -(-len(paths) // LIST_PAGE))
        return paths


class CountedGlue:
    """A table with its partitions; `counts` has the requests."""

    class exceptions:  # noqa: N801  (boto3's name)
        class EntityNotFoundException(Exception):  # noqa: N818
            pass

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.partitions: dict[str, Any] = {}

    def get_table(self, **_: Any) -> dict[str, Any]:
        self.counts["glue"] += 1
        return {"Table": {"StorageDescriptor": {"Columns": []}}}

    def get_paginator(self, _: str) -> "CountedGlue":
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        self.counts["glue"] += 1
        yield {"Partitions": list(self.partitions.values())}

    def batch_create_partition(self, **asked: Any) -> dict[str, Any]:
        self.counts["glue"] += 1
        self.partitions |= {one["Values"][0]: one for one in asked["PartitionInputList"]}
        return {}

    def batch_update_partition(self, **asked: Any) -> dict[str, Any]:
        self.counts["glue"] += 1
        self.partitions |= {one["PartitionValueList"][0]: one["PartitionInput"] for one in asked["Entries"]}
        return {}


if __name__ == "__main__":
    main()
