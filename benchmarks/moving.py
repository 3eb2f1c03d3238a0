"""A year of a small sender, live and brought in afterwards: `make bench ONLY=import`."""

from collections.abc import Iterator
from typing import Any

from benchmarks.events import ROOT
from benchmarks.measure import Measures, Run, child, environment

BATCHES = 2_000


def measure(run: Run) -> list[Measures]:
    run.progress("import: a year, live and brought in")
    found = child(
        "moving_year",  # the operator's program, whose packages are in .venv
        {"batches": 200 if run.quick else BATCHES},
        environment(),
        str(ROOT / ".venv/bin/python"),
    )
    run.details["import"] = found
    run.tables.append("\n".join(lines(found)))
    return []


def lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['objects']:,} objects, {found['events']:,} events, {found['megabytes']:.0f} MB"
    for name in ("live", "copied in the order of keys", "copied by time", "imported"):
        one = found[name]
        closed = f", {one['closed']:,} after closing" if one["closed"] else ""
        yield (
            f"{name:<28}{one['files']:>6,} files, {one['megabytes']:>5.1f} MB, process {one['cpu']:>5.1f} CPU s{closed}"
        )
    one = found["imported"]
    yield (
        f"{'the command':<28}{one['seconds']:.1f} s, {one['command_cpu']:.1f} CPU s, {one['requests']:,} requests, "
        f"${one['dollars']:.3f}; equal to the live rows: {one['equal']}"
    )
    yield (
        f"{'with ' + str(found['request_ms']) + ' ms a request':<28}{found['objects_per_second']:.0f} objects/s: "
        f"{found['million_hours']:.1f} hours, process {found['million_process_cpu_hours']:.1f} CPU hours, "
        f"${found['million_dollars']:.2f} for a million objects of a year (computed from {found['sample']})"
    )
