"""Questions of the lake over 90 and 365 days, before (small files, as process writes them) and after days are closed.

A day of each sender is made, or a sample of it (senders.py, days.py). What is longer than a day, or larger than a
sample, is that day times a count: computed. Prices are Athena's: bytes, and S3's requests.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from os import link
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import Any

from benchmarks import costs, template
from benchmarks.events import ROOT
from benchmarks.measure import WORK, Measures, Run, child, environment, goal, number
from benchmarks.questions import BOUNCES, BOUNCES_SQL
from benchmarks.senders import SENDERS, Sender

PART = "lake, closed days"
COUNTS = WORK / "counts.json"
SPANS = 90, 365
TODAY = "2026-11-24"
QUICK_SAMPLE = 100
# Footers of so many small files are read; they are much alike.
SMALL_FILES_READ = 500
VIEWS = {
    "list-export": "SELECT * FROM list_export",
    "message_timeline of a message": "SELECT * FROM message_timeline WHERE message_id = '0'",
    "recipient_engagement": "SELECT * FROM recipient_engagement",
    "suppression_candidates": "SELECT * FROM suppression_candidates",
}
GOAL_OBJECTS, GOAL_CPU_SECONDS = 100, 0.5
LIST_PAGE = 1_000
CLOSED, OPEN = "closed", "open, computed"


def measure(run: Run) -> list[Measures]:
    folder = WORK / "days"
    rmtree(folder, ignore_errors=True)
    settings = template.read()
    views = settings.pop("views")
    senders = [one._replace(sample=one.sample * QUICK_SAMPLE) if run.quick else one for one in SENDERS]
    run.progress("lake: a day of each sender, made and closed")
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda one: make(one, settings, folder / str(one.events)), senders))
    days = dict(zip((one.name for one in senders), made, strict=True))
    run.details["senders"] = {"settings": settings, "days": days}
    run.progress("lake: what questions read")
    smallest = made[0]
    for span in SPANS:
        linked(smallest["closed"]["paths"], folder / f"linked-{span}", span)
        scans = scans_of(folder / f"linked-{span}", views, span)
        for sender, day in zip(senders, made, strict=True):
            rows = questions(day, scans, span, folder / str(sender.events))
            run.details.setdefault("questions", {}).setdefault(sender.name, {})[span] = rows
            run.tables.append(table(sender, rows, span))
    counts = {"settings": settings, "days": days, "questions": run.details["questions"]}
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n")  # for benchmarks.monthly
    run.progress(f"lake: {BOUNCES} in DuckDB")
    measures = goals(run, smallest, views, folder)
    rmtree(folder)
    return [measures]


def make(sender: Sender, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    arguments = {"sender": sender, "settings": settings, "folder": str(folder)}
    return child("days", arguments, environment("ProcessFunction"))


def linked(paths: Iterable[str], folder: Path, span: int) -> None:
    """The same closed day for each of so many dates up to the day before TODAY."""
    for back in range(1, span + 1):
        target = folder / f"event_date={date.fromisoformat(TODAY) - timedelta(days=back)}"
        target.mkdir(parents=True)
        for path in paths:
            link(path, target / Path(path).name)


def scans_of(folder: Path, views: dict[str, str], span: int) -> dict[str, list[dict[str, Any]]]:
    asked = {BOUNCES: BOUNCES_SQL} | {
        path.stem: path.read_text() for path in sorted((ROOT / "sql/queries").glob("*.sql"))
    }
    asked = {name: sql.replace("interval '30' day", f"interval '{span}' day") for name, sql in asked.items()}
    asked |= VIEWS
    asked |= child("questions", {"do": "report", "days": span, "today": TODAY}, environment("ReportFunction"))
    wanted = {"do": "scans", "glob": f"{folder}/*/*.parquet", "views": views, "today": TODAY, "questions": asked}
    return child("questions", wanted, environment())


def questions(
    day: dict[str, Any], scans: dict[str, list[dict[str, Any]]], span: int, folder: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """For each question what it reads, before and after closing."""
    flat = [scan for some in scans.values() for scan in some]
    small = sorted(map(str, folder.glob("events/*/*.parquet")))
    small = small[:: -(-len(small) // SMALL_FILES_READ)]
    layouts: dict[str, tuple[list[str], int, float]] = {
        OPEN: (small, day["day"]["files"], day["day"]["files"] / len(small)),
        CLOSED: (
            day["closed"]["paths"],
            day["closed"]["files"],
            day["day"]["share"] * day["closed"]["read_as_stored"],
        ),
    }
    answer: dict[str, dict[str, dict[str, float]]] = {name: {} for name in scans}
    for layout, (files, objects, times_columns) in layouts.items():
        counted = iter(child("questions", {"do": "count", "files": files, "scans": flat}, environment()))
        more = objects / len(files)
        for name, some in scans.items():
            total = dict.fromkeys(("objects", "bytes", "gets", "lists"), 0.0)
            for scan in some:
                one = next(counted)
                read = span if scan["days"] is None else scan["days"]
                total["objects"] += read * objects
                total["bytes"] += read * (one["footers"] * more + one["columns"] * times_columns)
                total["gets"] += read * (objects + one["row_groups"] * more)
                total["lists"] += read * -(-objects // LIST_PAGE)
            answer[name][layout] = total | {"scans": len(some), "price": costs.athena(total)}
    report = [name for name in answer if name.startswith("report: ")]
    answer["the report, all queries"] = {
        layout: {what: sum(answer[name][layout][what] for name in report) for what in answer[BOUNCES][layout]}
        for layout in layouts
    }
    for name in report:
        del answer[name]
    return answer


def table(sender: Sender, rows: dict[str, dict[str, dict[str, float]]], span: int) -> str:
    head = f"{span} days of {sender.name}, computed: open (before) | closed (after)"
    names = ["scans", *("objects", "MB", "requests", "USD") * 2]
    lines = [f"## {PART}: {head}", "", f"{'':31}{names[0]:>6}" + "".join(f"{name:>12}" for name in names[1:])]
    for name, layouts in rows.items():
        cells = [
            cell
            for layout in (OPEN, CLOSED)
            for one in [layouts[layout]]
            for cell in (
                f"{one['objects']:,.0f}",
                number(one["bytes"] / 1e6),
                f"{one['gets'] + one['lists']:,.0f}",
                f"{one['price']:.5f}",
            )
        ]
        lines.append(f"{name:31}{layouts[OPEN]['scans']:>6.0f}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def goals(run: Run, day: dict[str, Any], views: dict[str, str], folder: Path) -> Measures:
    measures = Measures(PART)
    sender = SENDERS[0]
    name = f"90 days of {sender.name}: objects"
    objects = 90 * day["closed"]["files"]
    note = f"one open day has {day['day']['files']:,}"
    run.goals.append(goal(objects, GOAL_OBJECTS, f"lake, {name}", at_most=True))
    measures.add(name, "objects", CLOSED, objects, note=note)
    measures.add(name, "objects", OPEN, 90 * day["day"]["files"])

    def ask(glob: str) -> dict[str, float]:
        sql = BOUNCES_SQL.replace("'30' day", "'366' day")
        arguments = {"do": "run", "glob": glob, "views": views, "today": TODAY, "sql": sql}
        return child("questions", arguments, environment())

    small = f"{folder / str(sender.events)}/events/*/*.parquet"
    an_open_day = ask(small)
    closed = [ask(f"{folder}/linked-90/*/*.parquet") for _ in range(run.rounds(3))]
    year = ask(f"{folder}/linked-365/*/*.parquet")
    if any(one["sum"] != 90 * an_open_day["sum"] for one in closed):
        raise RuntimeError(f"not the same rows: {an_open_day}, {closed}")
    usual = median(one["cpu"] for one in closed)
    beside = f"one open day {an_open_day['cpu']:.2f}, 365 closed days {year['cpu']:.2f}"
    name = f"90 days of {sender.name}: {BOUNCES}, processor time"
    run.goals.append(goal(usual, GOAL_CPU_SECONDS, f"lake, {name}, s", at_most=True))
    for one in closed:
        measures.add(name, "s", CLOSED, one["cpu"], note=f"DuckDB, events_deduplicated; {beside}")
    measures.add(name, "s", OPEN, 90 * an_open_day["cpu"])
    return measures
