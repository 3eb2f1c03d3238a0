"""How much Athena would read for "bounces of one day" in 100,000 events, from the files' own statistics.

python -m benchmarks.lake '{"files": […], "arrivals": […]}'

From each file in the day's partition Athena reads the row groups whose smallest and largest `type` allow a bounce, and
of those the columns that the query names. Pages that a reader may skip count as read. Footers are listed separately.
"""

import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.events import Input, prepare
from benchmarks.measure import Measures, Run, child, environment

QUERY = ["type", "timestamp", "rcpt_to", "bounce_class", "raw_reason"]
TYPE = "bounce"
BATCHES_AN_INVOCATION = 100
OURS = "ours (100 batches an invocation)"
Files = list[tuple[int, bytes]]


def measure(run: Run) -> list[Measures]:
    wanted = Input(batches=6, days=2) if run.quick else Input(batches=286, days=5, seed=2)
    files = prepare(wanted)
    run.progress(f"lake: {wanted.batches * wanted.events:,} events over {wanted.days:g} days")
    arrivals = [wanted.arrival(number) * 1000 for number in range(wanted.batches)]
    got = child("lake", {"files": [str(path) for path in files], "arrivals": arrivals}, environment("ProcessFunction"))
    measures = Measures("lake")
    total = wanted.batches * wanted.events
    for name, one in got.items():
        note = f"SELECT {', '.join(QUERY)} WHERE type = '{TYPE}' and one event_date of {total:,} events"
        measures.add("read by the query", "kB", name, one["scanned"] / 1e3, note=note)
        measures.add("read by SELECT * of the same rows", "kB", name, one["scanned_all"] / 1e3)
        measures.add("files opened", "files", name, one["opened"])
        measures.add("footers read", "kB", name, one["footers"] / 1e3)
        measures.add("stored an event", "bytes", name, one["stored"] / total)
        measures.add("files in all", "files", name, one["files"])
    return [measures]


def main() -> None:
    wanted = json.load(sys.stdin)
    batches = [
        (path.stem, arrival, path.read_bytes())
        for path, arrival in zip(map(Path, wanted["files"]), wanted["arrivals"], strict=True)
    ]
    invocations = [batches[at : at + BATCHES_AN_INVOCATION] for at in range(0, len(batches), BATCHES_AN_INVOCATION)]
    ours = written(invocations)
    layouts = {
        OURS: ours,
        "one file a batch": written([[batch] for batch in batches]),
        "unsorted, else as ours": unsorted(ours),
    }
    days = sorted({day for day, _ in ours})
    day = days[len(days) // 2]
    answers = {name: scan(files, day) for name, files in layouts.items()}
    if len({one["bounces"] for one in answers.values()}) != 1:
        raise RuntimeError(f"not the same rows: {answers}")
    raw = sum(len(body) for _, _, body in batches)
    answers["no rows, the raw JSON"] = {
        **dict.fromkeys(("scanned", "scanned_all", "stored"), raw),
        **dict.fromkeys(("opened", "files"), len(batches)),
        "footers": 0,
    }
    print(json.dumps(answers))


def written(invocations: Iterable[Sequence[tuple[str, int, bytes]]]) -> Files:
    from benchmarks import ours

    return [file for batches in invocations for file in ours.files(batches, "parquet")]


def unsorted(files: Files) -> Files:
    """The same files from the same writer, with rows in the order of arrival: batch by batch, mixed within each."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from benchmarks import ours

    chance = random.Random(1)  # noqa: S311
    mixed = []
    for day, body in files:
        table = pq.read_table(pa.BufferReader(body))
        table = table.take(chance.sample(range(len(table)), len(table)))
        order = pc.sort_indices(table, sort_keys=[("received_at", "ascending"), ("batch_id", "ascending")])
        mixed.append((day, ours.parquet_of(table.take(order))))
    return mixed


def scan(files: Files, day: int) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    answer = dict.fromkeys(("scanned", "scanned_all", "opened", "footers", "bounces"), 0)
    for _, body in (file for file in files if file[0] == day):
        file = pq.ParquetFile(pa.BufferReader(body))
        answer["opened"] += 1
        answer["footers"] += file.metadata.serialized_size + 8
        types = file.read(columns=["type"]).column("type")
        answer["bounces"] += pc.sum(pc.equal(types, TYPE)).as_py()
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            columns = [group.column(index) for index in range(group.num_columns)]
            by_name = {column.path_in_schema: column for column in columns}
            limits = by_name["type"].statistics
            if limits is None or not limits.has_min_max or limits.min <= TYPE <= limits.max:
                answer["scanned"] += sum(by_name[name].total_compressed_size for name in QUERY)
                answer["scanned_all"] += sum(column.total_compressed_size for column in columns)
    return answer | {"stored": sum(len(body) for _, body in files), "files": len(files)}


if __name__ == "__main__":
    main()
