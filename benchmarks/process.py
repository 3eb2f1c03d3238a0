"""process: raw batches to files, compared with what one would otherwise use; and how the time grows."""

import http.client
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import s3
from benchmarks.events import Input, prepare
from benchmarks.measure import WORK, Measures, Run, child, environment
from benchmarks.ours import HANDLERS

OURS = "ours -> Parquet"
OURS_AS_HANDLED = "ours -> Parquet, gc off as the handler has it"
ORJSON = "orjson.loads alone"
ORJSON_GC_OFF = "orjson.loads alone, gc off"
ORJSON_KEPT = "orjson.loads alone, results kept"
HANDLER = "ours, the handler with S3"
PYARROW, DUCKDB = "orjson + pyarrow -> Parquet", "DuckDB read_json -> Parquet"
CONTENDERS = [
    OURS,
    "ours -> CSV",
    OURS_AS_HANDLED,
    HANDLER,
    ORJSON,
    ORJSON_GC_OFF,
    ORJSON_KEPT,
    "json + csv.DictWriter",
    "pandas json_normalize -> Parquet",
    PYARROW,
    DUCKDB,
    "polars read_json -> Parquet",
]
GC_OFF = {OURS_AS_HANDLED: OURS, ORJSON_GC_OFF: ORJSON}


def measure(run: Run) -> list[Measures]:
    wanted = Input(batches=3) if run.quick else Input()
    files = prepare(wanted)
    measures = Measures("process")
    with s3.running() as endpoint:
        upload(endpoint, files)
        one = partial(measure_one, measures, endpoint, files, wanted.events)
        run.alternate(3, CONTENDERS, one, f"process, {wanted.batches} batches of {wanted.events}")
        after_outage = Measures("process, after an outage")
        run.alternate(3, [HANDLER], partial(measure_outage, after_outage, endpoint, files), "process, after an outage")
    return [measures, after_outage]


def measure_outage(measures: Measures, endpoint: str, files: Sequence[Path], contender: str) -> None:
    """All messages come back: what that takes, in times of what it takes when they come for the first time."""
    first, back = (handler(endpoint, files, warm=False, receive_count=count) for count in (1, 2))
    note = f"{len(files)} messages, the first invocation of an execution environment, imports included"
    measures.add("processor time, messages that came back", "times usual", contender, back["cpu"] / first["cpu"])
    measures.add(
        "wall time, messages that came back", "times usual", contender, back["wall"] / first["wall"], note=note
    )


def measure_one(measures: Measures, endpoint: str, files: Sequence[Path], events: int, contender: str) -> None:
    got = handler(endpoint, files) if contender == HANDLER else reader(contender, files)
    total = events * len(files)
    note = f"{len(files)} batches of {events} events; processor time of all threads, libraries held to one thread"
    measures.add(
        "events per processor second", "events", contender, total / got["cpu"], higher_is_better=True, note=note
    )
    measures.add("events per second", "events", contender, total / got["wall"], higher_is_better=True)
    measures.add("peak memory", "MB", contender, got["peak_memory"] / 1e6)
    if got.get("written"):
        measures.add("written an event", "bytes", contender, got["written"] / total)


def reader(contender: str, files: Sequence[Path], repeat: int = 1) -> dict[str, float]:
    arguments = {
        "contender": GC_OFF.get(contender, contender),
        "gc_off": contender in GC_OFF,
        "files": [str(path) for path in files],
        "repeat": repeat,
    }
    return child("readers", arguments, environment("ProcessFunction"))


def handler(endpoint: str, files: Sequence[Path], *, warm: bool = True, receive_count: int = 1) -> dict[str, float]:
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "LAKE_BUCKET": "sink"}
    settings |= {"RAW_BUCKET": "raw", "RAW_PREFIX": "raw"}
    arguments = {
        "do": "process",
        "handler": HANDLERS["process"],
        "keys": [f"raw/{path.name}" for path in files],
        "warm": warm,
        "receive_count": receive_count,
    }
    return child("handlers", arguments, environment("ProcessFunction", settings))


def upload(endpoint: str, files: Sequence[Path]) -> None:
    """Store the raw objects as ingest would."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    for path in files:
        headers = {"content-type": "application/json", "x-amz-meta-received-at": "2026-12-06T00:00:00.000Z"}
        connection.request("PUT", f"/raw/raw/{path.name}", path.read_bytes(), headers)
        connection.getresponse().read()
    connection.close()


# --- How it grows ---------------------------------------------------------------------------------------------------

GROWTH: dict[str, dict[str, Input]] = {
    "batches an invocation": {str(count): Input(batches=count) for count in (1, 10, 100, 1000)},
    "events a batch": {
        "10": Input(batches=1400, events=10),
        "350": Input(batches=40, events=350),
        "3,500": Input(batches=4, events=3500),
    },
    "% of batches with unknown fields": {
        str(share): Input(batches=40, unknown=share / 100) for share in (0, 5, 50, 100)
    },
}
QUICK_GROWTH: dict[str, dict[str, Input]] = {
    "batches an invocation": {"1": Input(batches=1)},
    "events a batch": {"10": Input(batches=3, events=10)},
    "% of batches with unknown fields": {"100": Input(batches=3, unknown=1)},
}


def measure_growth(run: Run) -> list[Measures]:
    (WORK).mkdir(parents=True, exist_ok=True)
    measures = Measures("process, how it grows")
    for what, inputs in (QUICK_GROWTH if run.quick else GROWTH).items():
        for value, wanted in inputs.items():
            files = prepare(wanted)
            rounds = 1 if wanted.batches * wanted.events > 100_000 else 2 if wanted.batches >= 100 else 3
            one = partial(measure_growth_of_one, measures, files, wanted, f"{value} {what}")
            run.alternate(rounds, [OURS, PYARROW, DUCKDB], one, f"{value} {what}")
    return [measures]


def measure_growth_of_one(measures: Measures, files: Sequence[Path], wanted: Input, what: str, contender: str) -> None:
    # A single batch takes milliseconds, so it is repeated, each time from the start.
    got = reader(contender, files, repeat=max(1, 10 // len(files)))
    total = wanted.events * len(files) * max(1, 10 // len(files))
    measures.add(f"{what}: events per processor second", "events", contender, total / got["cpu"], higher_is_better=True)
    measures.add(f"{what}: peak memory", "MB", contender, got["peak_memory"] / 1e6)
