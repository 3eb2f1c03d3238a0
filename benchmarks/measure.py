"""Child processes that measure themselves, medians with their spread, facts about the machine, and the table."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks.events import ROOT

BUILT = ROOT / ".aws-sam/build"
WORK = ROOT / ".local/bench"
CHILD_TIMEOUT_SECONDS = 1800  # a machine that others use too takes ten times as long
PACKAGES = ["awslambdaric", "boto3", "botocore", "duckdb", "numpy", "orjson", "pandas", "polars", "pyarrow"]


@dataclass
class Measure:
    """One figure for several contenders, ours first. `samples` has one value for each round."""

    part: str
    name: str
    unit: str
    higher_is_better: bool = False
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    note: str = ""

    def add(self, contender: str, value: float) -> None:
        self.samples[contender].append(value)

    def result(self) -> dict[str, Any]:
        ours = statistics.median(next(iter(self.samples.values())))
        return {
            "part": self.part,
            "measure": self.name,
            "unit": self.unit,
            "better": "higher" if self.higher_is_better else "lower",
            "note": self.note,
            "contenders": {name: self._contender(ours, values) for name, values in self.samples.items()},
        }

    def _contender(self, ours: float, values: list[float]) -> dict[str, Any]:
        median = statistics.median(values)
        good, other = (ours, median) if self.higher_is_better else (median, ours)
        return {
            "median": median,
            "min": min(values),
            "max": max(values),
            "rounds": len(values),
            "ours_is_better_by": good / other if other else None,
        }


class Measures(dict[str, Measure]):
    """The measures of one part, created as values are added."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def add(
        self, name: str, unit: str, contender: str, value: float, *, higher_is_better: bool = False, note: str = ""
    ) -> None:
        measure = self.setdefault(name, Measure(self.part, name, unit, higher_is_better, note=note))
        measure.add(contender, value)


@dataclass(frozen=True)
class Run:
    """How much to measure. `quick` only shows that everything works."""

    quick: bool
    started: float = field(default_factory=time.monotonic)
    # Of a part that has more to say than a few measures.
    tables: list[str] = field(default_factory=list)
    goals: list[str] = field(default_factory=list)  # a line each
    details: dict[str, Any] = field(default_factory=dict)

    def rounds(self, usual: int) -> int:
        return 1 if self.quick else usual

    def progress(self, text: str) -> None:
        print(f"==> [{time.monotonic() - self.started:4.0f} s] {text}", file=sys.stderr, flush=True)

    def alternate(
        self,
        rounds: int,
        contenders: list[str],
        measure: Callable[[str], Callable[[], None] | None],
        what: str,
        *,
        at_once: int = 1,
    ) -> None:
        """Every contender in every round. Each round starts with another one, so that none has the quiet moments.

        `measure` may return what adds its figures, which is done in order though several work `at_once`.
        """
        count = self.rounds(rounds)
        with ThreadPoolExecutor(at_once) as pool:
            for number in range(count):
                self.progress(f"{what}: round {number + 1} of {count}")
                start = number % len(contenders)
                for add in pool.map(measure, contenders[start:] + contenders[:start]):
                    if add:
                        add()


def goal(measured: float, wanted: float, what: str, *, at_most: bool = False) -> str:
    """One line: reached or not, and by how much; a factor below 1 is what is missing."""
    factor = measured / wanted if not at_most else wanted / measured if measured else float("inf")
    verdict = "reached" if factor >= 1 else "NOT REACHED"
    limit = f"{'at most' if at_most else 'of'} {wanted:.2f}"
    return f"{verdict:12} {measured:8.2f} {limit}, x {factor:.2f}  {what}"


def environment(function: str | None = None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Without the developer's own variables. With `function`, Python imports from its built artefact."""
    path = [str(BUILT / function)] if function else []
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(WORK),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]),
        # As in Lambda, where the code directory is read-only and the runtime's packages are compiled.
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # One thread for every library: at 1,024 MB a function has less than one processor.
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ARROW_IO_THREADS": "1",
        **(extra or {}),
    }


def child(
    module: str,
    arguments: dict[str, Any],
    env: dict[str, str],
    python: str = sys.executable,
    timeout_seconds: int = CHILD_TIMEOUT_SECONDS,
) -> Any:
    """Run `python -m benchmarks.<module>`, the arguments as JSON on its standard input; its last line is its answer.

    Not as an argument: Linux takes 128 kB in one, and arguments name a thousand files.
    """
    result = subprocess.run(
        [python, "-m", f"benchmarks.{module}"],
        input=json.dumps(arguments),
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
    if result.returncode:
        raise RuntimeError(f"benchmarks.{module} {arguments}:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def peak_memory_bytes(pid: int | str = "self") -> int:
    """The largest resident size since the program started; ru_maxrss would start with the parent's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("there is no VmHWM: the benchmark needs Linux")


def machine() -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {one.name: one.version for one in distributions() if one.name in PACKAGES}
    for function in ("IngestFunction", "ProcessFunction"):
        path = [str(BUILT / function)]
        versions |= {one.name: one.version for one in distributions(path=path)}
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_at_start": os.getloadavg()[0],
        "packages": dict(sorted(versions.items())),
    }


def table(results: list[dict[str, Any]]) -> str:
    """One block for each measure, ours first. The last column: how many times better ours is; below 1 it is worse."""
    lines: list[str] = []
    part = None
    for result in results:
        if result["part"] != part:
            part = result["part"]
            lines += ["", f"## {part}"]
        lines += ["", f"{result['measure']}, {result['unit']} ({result['better']} is better)"]
        if result["note"]:
            lines.append(f"  ({result['note']})")
        names = list(result["contenders"])
        width = max(len(name) for name in names)
        for place, name in enumerate(names):
            one = result["contenders"][name]
            ratio = one["ours_is_better_by"]
            verdict = ""
            if place and ratio is not None:
                verdict = f"  x {ratio:.2f}" + ("   ours is worse" if ratio < 0.995 else "")
            spread = f"{number(one['min'])} .. {number(one['max'])}" if one["rounds"] > 1 else ""
            lines.append(f"  {name:{width}}  {number(one['median']):>12}  {spread:>24}{verdict}".rstrip())
    return "\n".join(lines).lstrip("\n")


def number(value: float) -> str:
    """Three significant digits."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 4
    return f"{value:.{decimals}f}"
