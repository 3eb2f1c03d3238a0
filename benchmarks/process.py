"""process: raw batches to files, compared with what one would otherwise use; and how the time grows."""

import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks import s3
from benchmarks.events import Input, prepare
from benchmarks.measure import WORK, Measures, Run, child, environment, goal
from benchmarks.ours import HANDLERS

OURS = "ours -> Parquet"
OURS_CSV = "ours -> CSV"
HANDLER = "ours, the handler with S3"
ORJSON, ORJSON_KEPT = "orjson.loads alone", "orjson.loads alone, results kept"
PYARROW, DUCKDB = "orjson + pyarrow -> Parquet", "DuckDB read_json -> Parquet"
PANDAS = "pandas json_normalize -> Parquet"
CSV = "json + csv.DictWriter"  # the least that can be done: no types, no columns, no compression
ALTERNATIVES = [
    CSV,
    PANDAS,
    PYARROW,
    DUCKDB,
    "polars read_json -> Parquet",
]
PARQUET = [one for one in ALTERNATIVES if one != CSV]
# What is not compared at every size.
OTHERS = [OURS_CSV, HANDLER, ORJSON, ORJSON_KEPT]
CONTENDERS = [OURS, *ALTERNATIVES, *OTHERS]
# Without Python's garbage collector, as the handler of process works; what is compared with it, likewise.
GC_OFF = {OURS, OURS_CSV, ORJSON, ORJSON_KEPT}

# As many processes work at the same time: each one's processor time is measured.
AT_ONCE = min(2, os.cpu_count() or 1)
BATCHES, EVENTS = (1, 3, 10, 100, 1000), (20, 350)
BETTER_BY = 1.2  # than each alternative, in events per processor second
OF_ORJSON_KEPT = 0.5  # as fast at 100 batches of 350
# Of version 0.1: as fast at 100 batches of 350, and in so much memory.
LARGE, OF_ORJSON, OF_PANDAS, MEGABYTES = "100 batches of 350", 1.0, 6.0, 256
FRESH, WARM = "fresh process", "warm process"
# An alternative takes half a minute for a thousand batches of 350, so only the one that was the fastest is asked for
# them. All but DuckDB work on 16 MB at a time, as ours does: their speed is that of 100 batches.
MANY_EVENTS = 100_000
# So many are not measured a second time: a process that has read them is warm for most of them. Figures of so few
# events differ from round to round, so that they take two.
MANY_BATCHES, FEW_EVENTS = 1_000, 3_500
# Ours writes files of fewer rows with snappy, because zstd takes 30 µs for each column. So do the alternatives.
ROWS_FOR_ZSTD = 500
# As slow as this beside an empty handler, in processor time from a new process until the handler is imported.
INGEST_COLD_AT_MOST = 1.5


def measure(run: Run) -> list[Measures]:
    measures = Measures("process")
    inputs = [Input(batches=3)] if run.quick else [Input(batches=b, events=e) for e in EVENTS for b in BATCHES]
    for wanted in inputs:
        what = f"{wanted.batches:,} batches of {wanted.events}"
        contenders = [OURS, *ALTERNATIVES]
        if wanted.batches * wanted.events > MANY_EVENTS:
            contenders = [OURS, fastest(measures, f"100 batches of {wanted.events}")]
        if wanted.batches == 100 or run.quick:
            contenders += [one for one in OTHERS if one != HANDLER]
        rounds = 2 if wanted.batches * wanted.events <= FEW_EVENTS else 1
        run.alternate(
            rounds, contenders, partial(measure_one, measures, prepare(wanted), wanted, what), what, at_once=AT_ONCE
        )
        run.goals.extend(line for state in (FRESH, WARM) for line in goals(measures, what, state))
    after_outage = Measures("process, after an outage")
    wanted = Input(batches=3) if run.quick else Input()
    files = prepare(wanted)
    with s3.running() as endpoint:
        upload(endpoint, files)
        run.alternate(1, [HANDLER], partial(measure_handler, measures, endpoint, files, wanted), "process with S3")
        run.alternate(1, [HANDLER], partial(measure_outage, after_outage, endpoint, files), "process, after an outage")
    cold = Measures("process, cold")
    run.alternate(21, list(STARTS), partial(measure_start, cold), "process, cold")
    run.goals.extend(cold_goals(cold))
    run.tables.append("\n".join(["## process: imports, ms of its own and with what it imports", "", *imports()]))
    return [measures, after_outage, cold]


def measure_one(
    measures: Measures, files: Sequence[Path], wanted: Input, what: str, contender: str
) -> Callable[[], None]:
    total = wanted.events * len(files)
    once = wanted.batches >= MANY_BATCHES
    arguments = {
        "contender": contender,
        "gc_off": contender in GC_OFF,
        "files": [str(path) for path in files],
        "once": once,
    }
    codec = "snappy" if total < ROWS_FOR_ZSTD else "zstd"
    got = child("readers", arguments, environment("ProcessFunction", {"CODEC": codec}))
    return partial(add_one, measures, wanted, what, contender, got)


def add_one(measures: Measures, wanted: Input, what: str, contender: str, got: dict[str, float]) -> None:
    total = wanted.events * wanted.batches
    note = (
        "processor time of all threads after the imports, libraries held to one thread; ours with gc off, as deployed"
    )
    for state, key in ((FRESH, "fresh"), (WARM, "warm")):
        if key in got:
            name = f"{what}, {state}"
            per_second = total / got[key]
            measures.add(
                f"{name}: events per processor second",
                "events",
                contender,
                per_second,
                higher_is_better=True,
                note=note,
            )
            measures.add(f"{name}: peak memory", "MB", contender, got[f"{key}_peak_memory"] / 1e6)
    if wanted == Input():
        measures.add("imports, processor time", "ms", contender, got["imports"] * 1e3)
        measures.add("written an event", "bytes", contender, got["written"] / total)


def fastest(measures: Measures, what: str) -> str:
    return max(PARQUET, key=lambda one: median(measures[f"{what}, {WARM}: events per processor second"].samples[one]))


def goals(measures: Measures, what: str, state: str) -> list[str]:
    """One line for each goal: reached or not, and by how much."""
    lines = []
    speed = measures.get(f"{what}, {state}: events per processor second")
    if speed is None:
        return []
    memory = measures[f"{what}, {state}: peak memory"]
    for measure, better_by, unit in ((speed, BETTER_BY, "speed"), (memory, 1.0, "memory")):
        contenders = measure.result()["contenders"]
        beside = {one: contenders[one]["ours_is_better_by"] for one in ALTERNATIVES if one in contenders}
        # Of all alternatives; and of those that write Parquet too, if the nearest is not one of them.
        for worst in dict.fromkeys(min(one, key=beside.__getitem__) for one in (beside, beside.keys() & PARQUET)):
            lines.append(goal(beside[worst], better_by, f"{what}, {state}: {unit} beside {worst}"))
    if ORJSON_KEPT in speed.samples and state == WARM:
        ratio = speed.result()["contenders"][ORJSON_KEPT]["ours_is_better_by"]
        lines.append(goal(ratio, OF_ORJSON_KEPT, f"{what}, {state}: speed beside {ORJSON_KEPT}"))
    if what == LARGE and state == WARM:
        for other, wanted in ((ORJSON, OF_ORJSON), (PANDAS, OF_PANDAS)):
            ratio = speed.result()["contenders"][other]["ours_is_better_by"]
            lines.append(goal(ratio, wanted, f"{what}, {state}: speed beside {other}"))
        megabytes = median(memory.samples[OURS])
        lines.append(goal(megabytes, MEGABYTES, f"{what}, {state}: MB of memory", at_most=True))
    return lines


def cold_goals(cold: Measures) -> list[str]:
    (measure,) = cold.values()
    ours = {name: median(values) for name, values in measure.samples.items()}
    (empty,) = (value for name, value in ours.items() if name.startswith("empty"))
    beside = f"times an empty handler's {empty:.0f} ms until it is imported:"
    return [
        goal(ours["ingest"] / empty, INGEST_COLD_AT_MOST, f"{beside} ingest, {ours['ingest']:.0f} ms", at_most=True),
        f"{'no goal':12} {ours['process'] / empty:8.2f}  {beside} process, {ours['process']:.0f} ms",
    ]


def measure_handler(measures: Measures, endpoint: str, files: Sequence[Path], wanted: Input, contender: str) -> None:
    got = handler(endpoint, files)
    what = f"{wanted.batches:,} batches of {wanted.events}, {WARM}"
    speed = wanted.events * len(files) / got["cpu"]
    measures.add(f"{what}: events per processor second", "events", contender, speed, higher_is_better=True)
    measures.add(f"{what}: peak memory", "MB", contender, got["peak_memory"] / 1e6)


def measure_outage(measures: Measures, endpoint: str, files: Sequence[Path], contender: str) -> None:
    """All messages come back: what that takes, in times of what it takes when they come for the first time."""
    first, back = (handler(endpoint, files, warm=False, receive_count=count) for count in (1, 2))
    note = f"{len(files)} messages, the first invocation of an execution environment, imports included"
    measures.add("processor time, messages that came back", "times usual", contender, back["cpu"] / first["cpu"])
    measures.add(
        "wall time, messages that came back", "times usual", contender, back["wall"] / first["wall"], note=note
    )


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


# --- Cold starts ------------------------------------------------------------------------------------------------------

STARTS = {
    "process": ("ProcessFunction", "process.app"),
    "ingest": ("IngestFunction", "ingest.app"),
    "empty handler (the floor)": ("IngestFunction", "benchmarks.empty_handler"),
}
SHOWN_MILLISECONDS = 1.0


def measure_start(measures: Measures, contender: str) -> None:
    """A new process until its handler is imported, by Lambda's runtime client."""
    function, module = STARTS[contender]
    code = f"import awslambdaric.bootstrap, {module}, time; print(time.process_time())"
    seconds = float(python(function, "-c", code).stdout)
    measures.add("new process until the handler is imported, processor time", "ms", contender, seconds * 1e3)


def imports() -> list[str]:
    """What process imports beyond what Lambda's runtime client has, if it takes long."""
    lines = python("ProcessFunction", "-X", "importtime", "-c", "import awslambdaric.bootstrap, process.app").stderr
    found = [line.partition(":")[2].split("|") for line in lines.splitlines() if line.startswith("import time:")][1:]
    names = [name.strip() for _, _, name in found]
    begin = names.index("awslambdaric.bootstrap") + 1
    return [
        f"{int(own) / 1e3:7.1f} {int(whole) / 1e3:7.1f}  {name.strip()}"
        for own, whole, name in found[begin:]
        if int(whole) / 1e3 >= SHOWN_MILLISECONDS
    ]


def python(function: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = environment(function, {"LAKE_BUCKET": "sink", "RAW_BUCKET": "raw", "RAW_PREFIX": "raw"})
    return subprocess.run([sys.executable, *arguments], env=env, cwd=WORK, capture_output=True, text=True, check=True)


# --- How it grows -----------------------------------------------------------------------------------------------------

GROWTH: dict[str, dict[str, Input]] = {
    "events a batch": {
        "10": Input(batches=1400, events=10),
        "350": Input(batches=40, events=350),
        "3,500": Input(batches=4, events=3500),
    },
    "% of batches with unknown fields": {str(share): Input(batches=40, unknown=share / 100) for share in (0, 5, 100)},
}
QUICK_GROWTH: dict[str, dict[str, Input]] = {
    "events a batch": {"10": Input(batches=3, events=10)},
    "% of batches with unknown fields": {"100": Input(batches=3, unknown=1)},
}


def measure_growth(run: Run) -> list[Measures]:
    (WORK).mkdir(parents=True, exist_ok=True)
    measures = Measures("process, how it grows")
    for what, inputs in (QUICK_GROWTH if run.quick else GROWTH).items():
        for value, wanted in inputs.items():
            files = prepare(wanted)
            one = partial(measure_one, measures, files, wanted, f"{value} {what}")
            run.alternate(1, [OURS, PYARROW], one, f"{value} {what}", at_once=AT_ONCE)
    return [measures]
