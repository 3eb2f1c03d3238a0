"""Compares this project with alternatives: `make bench`, `make bench ONLY=process,growth`, `make bench QUICK=1`.

Prints a table and writes .local/bench/<time>.json. It never fails because something is slow.
"""

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks import artefacts, closed_days, costs, dba, end_to_end, ingest, lake, moving, postgres, process
from benchmarks.measure import WORK, Measures, Run, goal, machine, table

PARTS: dict[str, Callable[[Run], list[Measures]]] = {
    "artefacts": artefacts.measure,
    "ingest": ingest.measure,
    "process": process.measure,
    "growth": process.measure_growth,
    "lake": lambda run: lake.measure(run) + closed_days.measure(run),
    "postgres": postgres.measure,
    "dba": dba.measure,
    "import": moving.measure,
}
MOST_SECONDS = 8 * 60
NAMES = [*PARTS, "e2e"]
WHEN_NAMED = {"dba", "import"}  # minutes for its six million rows, 6 GB of .local/bench; a year of batches


def main() -> int:
    chosen = [name for name in os.environ.get("ONLY", "").replace(" ", ",").split(",") if name]
    usual = [name for name in NAMES if name not in WHEN_NAMED]
    chosen = chosen or usual
    if unknown := set(chosen) - set(NAMES):
        print(f"bench: unknown part: {', '.join(sorted(unknown))}; the parts are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    run = Run(quick=os.environ.get("QUICK", "") not in ("", "0"))
    WORK.mkdir(parents=True, exist_ok=True)
    # The alternatives' packages are compiled, like those that come with Lambda, and like ours by `make build`. -I:
    # beside the modules, where the contenders look for it, and not where the Makefile keeps bytecode.
    run.progress("compiling the packages of .venv-bench")
    compiler = [sys.executable, "-I", "-m", "compileall", "-qq", "-j", "2", sysconfig.get_path("purelib")]
    subprocess.run(compiler)  # some packages have templates of modules, which are none
    report: dict[str, Any] = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "quick": run.quick}
    report |= {"machine": machine(), "parts": chosen, "results": []}
    report["seconds"] = {}
    path = WORK / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    for name in chosen:
        began, used = time.monotonic(), processor_seconds()
        if name == "e2e":
            measures, report["end_to_end"] = end_to_end.measure(run)
            measures += (cost := costs.measure(report["end_to_end"]))
            run.tables.append(costs.cheapest(cost[0]))
        else:
            measures = PARTS[name](run)
        report["results"] += [one.result() for part in measures for one in part.values()]
        report["details"], report["goals"] = run.details, run.goals
        report["seconds"][name] = {"clock": time.monotonic() - began, "processor": processor_seconds() - used}
        path.write_text(json.dumps(report, indent=2) + "\n")  # after each part: a later one may fail
    described = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if name != "packages")
    packages = ", ".join(f"{name} {version}" for name, version in report["machine"]["packages"].items())
    if chosen == usual and not run.quick:
        seconds = time.monotonic() - run.started
        run.goals.append(goal(seconds, MOST_SECONDS, "seconds that the benchmark took", at_most=True))
    took = [f"{name}: {one['clock']:.0f} s, {one['processor']:.0f} s" for name, one in report["seconds"].items()]
    blocks = [
        "\n".join(["## seconds: by the clock, of the processor", "", *took]),
        "\n".join(["## goals", "", *run.goals]),
    ]
    print("\n\n".join([f"{described}\n{packages}", table(report["results"]), *run.tables, *blocks]) + "\n", flush=True)
    run.progress(f"written to {path}")
    return 0


def processor_seconds() -> float:
    """Of the children that have ended, and theirs."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
