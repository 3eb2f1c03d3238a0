"""Raw batches -> a file, ours and the alternatives; one contender and one input in each process.

python -m benchmarks.readers '{"contender": …, "files": […], "repeat": 1}'

Every alternative does what its users would write first, in its best case: none converts numbers and times from text,
none sorts or removes duplicates. Those that build tables do it for 16 MB of batches at a time, as ours does, and
compress as ours does at that size.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from benchmarks.events import FIRST_SECOND
from benchmarks.measure import WORK, peak_memory_bytes

CODEC = os.environ.get("CODEC", "zstd")
CHUNK_BYTES = 16 * 1024 * 1024
TIMES = 10  # that an invocation of one batch is repeated to be measured
RECEIVED_AT = (FIRST_SECOND + 20 * 86_400) * 1000


def main() -> None:
    """Answers processor seconds of the first invocation after the imports, and of a later one; memory in bytes.

    `once`: there is no later one, because a process that has read a thousand batches is warm for most of them.
    """
    wanted = json.load(sys.stdin)
    files = [Path(name) for name in wanted["files"]]
    run = CONTENDERS[wanted["contender"]]()
    answer = {"imports": time.process_time()}
    if wanted["gc_off"]:
        gc.disable()
    answer["fresh"], _ = measured(lambda: run(files))
    answer["fresh_peak_memory"] = peak_memory_bytes()
    if not wanted["once"]:
        few, times = min(len(files), 2), max(1, TIMES // len(files))
        run(files[:few])  # what is learnt from the first batches
        seconds, answer["written"] = measured(lambda: [run(files) for _ in range(times)][-1])
        answer["warm"] = seconds / times
        answer["warm_peak_memory"] = peak_memory_bytes()
    print(json.dumps(answer))


def measured(work: Callable[[], int]) -> tuple[float, int]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def chunks(files: list[Path]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for path in files:
        chunk.append(path.read_bytes())
        if sum(map(len, chunk)) >= CHUNK_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def flat_events(bodies: list[bytes], loads: Callable[[bytes], Any]) -> list[dict[str, Any]]:
    rows = []
    for body in bodies:
        for element in loads(body):
            for event_class, event in element["msys"].items():
                event["event_class"] = event_class
                rows.append(event)
    return rows


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def ours(output: str) -> Callable[[list[Path]], int]:
    from benchmarks import ours as functions

    functions.imported()

    def run(files: list[Path]) -> int:
        batches = ((path.stem, RECEIVED_AT, path.read_bytes()) for path in files)
        return sum(len(body) for _, body in functions.files(batches, output))

    return run


def orjson_alone() -> Callable[[list[Path]], int]:
    """Each result is dropped at once: it keeps no memory and makes no rows."""
    import orjson

    def run(files: list[Path]) -> int:
        for path in files:
            orjson.loads(path.read_bytes())
        return 0

    return run


def orjson_kept() -> Callable[[list[Path]], int]:
    """Keeps the events of 16 MB of batches in memory, as every program that makes rows of them must."""
    import orjson

    def run(files: list[Path]) -> int:
        for bodies in chunks(files):
            [orjson.loads(body) for body in bodies]
        return 0

    return run


def json_and_csv() -> Callable[[list[Path]], int]:
    import csv

    def run(files: list[Path]) -> int:
        written = 0
        for bodies in chunks(files):
            rows = flat_events(bodies, json.loads)
            text = StringIO()
            writer = csv.DictWriter(text, names_of(rows))
            writer.writeheader()
            for row in rows:
                writer.writerow({name: json.dumps(v) if isinstance(v, dict | list) else v for name, v in row.items()})
            written += len(text.getvalue().encode())
        return written

    return run


def pandas_to_parquet() -> Callable[[list[Path]], int]:
    import pandas as pd
    import pyarrow.parquet  # noqa: F401  (pandas would import it when it writes the first file)

    def run(files: list[Path]) -> int:
        written = 0
        for bodies in chunks(files):
            frame = pd.json_normalize(flat_events(bodies, json.loads))
            file = BytesIO()
            frame.to_parquet(file, compression=CODEC)
            written += file.getbuffer().nbytes
        return written

    return run


def orjson_and_pyarrow() -> Callable[[list[Path]], int]:
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)

    def flat(value: Any) -> Any:
        return orjson.dumps(value).decode() if isinstance(value, dict | list) else value

    def run(files: list[Path]) -> int:
        written = 0
        for bodies in chunks(files):
            rows = flat_events(bodies, orjson.loads)
            columns = {name: pa.array([flat(row.get(name)) for row in rows]) for name in names_of(rows)}
            file = BytesIO()
            pq.write_table(pa.table(columns), file, compression=CODEC)
            written += file.getbuffer().nbytes
        return written

    return run


def duckdb_read_json() -> Callable[[list[Path]], int]:
    """Nested as in the input, with types inferred by DuckDB; it reads all files at once."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    target = WORK / f"duckdb-{time.monotonic_ns()}.parquet"

    def run(files: list[Path]) -> int:
        names = ", ".join(f"'{path}'" for path in files)
        source = f"read_json([{names}], format = 'array', union_by_name = true, maximum_object_size = 33554432)"
        connection.sql(f"COPY (SELECT * FROM {source}) TO '{target}' (FORMAT parquet, COMPRESSION {CODEC})")  # noqa: S608
        size = target.stat().st_size
        target.unlink()
        return size

    return run


def polars_read_json() -> Callable[[list[Path]], int]:
    """Nested as in the input, with types inferred by polars from all events."""
    import polars as pl

    def run(files: list[Path]) -> int:
        written = 0
        for bodies in chunks(files):
            array = b"[" + b",".join(body[1:-1] for body in bodies) + b"]"
            file = BytesIO()
            pl.read_json(array, infer_schema_length=None).write_parquet(file, compression=CODEC)
            written += file.getbuffer().nbytes
        return written

    return run


CONTENDERS: dict[str, Callable[[], Callable[[list[Path]], int]]] = {
    "ours -> Parquet": partial(ours, "parquet"),
    "ours -> CSV": partial(ours, "csv"),
    "orjson.loads alone": orjson_alone,
    "orjson.loads alone, results kept": orjson_kept,
    "json + csv.DictWriter": json_and_csv,
    "pandas json_normalize -> Parquet": pandas_to_parquet,
    "orjson + pyarrow -> Parquet": orjson_and_pyarrow,
    "DuckDB read_json -> Parquet": duckdb_read_json,
    "polars read_json -> Parquet": polars_read_json,
}

if __name__ == "__main__":
    main()
