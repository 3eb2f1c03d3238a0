"""The files that hold the rows of some event dates now, for programs that read them by path.

Of a closed date: the files of its current version, and those that came late and are in no version yet. Of an open date:
the small files. A program that reads all of them has each event at least once; the identity says which are the same.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import NamedTuple

from bird_webhooks.operate import dates
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json, say
from process import day_state
from process.day_state import Small

AT_ONCE = 8


class Day(NamedTuple):
    """`version` is None for an open date; `files` and `late` are addresses in S3."""

    event_date: date
    version: str | None
    exact: bool
    rows: int | None
    files: list[str]
    late: list[str]


def show(stack: Stack, since: date, until: date | None, *, as_json: bool) -> None:
    """An address a line, by date, with a line about each date beside the answer; or one JSON document."""
    found = days(stack, since, until)
    if as_json:
        print_json({"dates": [{**day._asdict(), "event_date": str(day.event_date)} for day in found]})
        return
    for day in found:
        if day.version:
            late = f", and {len(day.late):,} that came late" if day.late else ""
            exact = "" if day.exact else "; not exact: some events are in two files"
            say(f"{day.event_date}  closed, version {day.version}: {len(day.files):,} files{late}{exact}")
        else:
            say(f"{day.event_date}  open: {len(day.files):,} files")
        for address in [*day.files, *day.late]:
            print(address)


def days(stack: Stack, since: date, until: date | None) -> list[Day]:
    """Those that have files, in order."""
    kind = stack.parameters["OutputFormat"]
    known = dates.with_folder(stack, dates.OPEN[kind]) | ({*dates.states(stack)} if kind == "PARQUET" else set())
    wanted = sorted(day for day in known if since <= day and (until is None or day <= until))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [day for day in pool.map(lambda day: of_date(stack, day, kind), wanted) if day.files or day.late]


def of_date(stack: Stack, day: date, kind: str) -> Day:
    # The state first: small files that a later version takes in stay for days, so none is missed between.
    state = dates.state(stack, day) if kind == "PARQUET" else day_state.DayState(day)
    folder = f"{dates.OPEN[kind]}event_date={day}/"
    small = list(_small(stack, folder, f".{kind.lower()}"))
    bucket = stack.output("LakeBucketName")
    if state.current is None:
        return Day(day, None, False, None, [f"s3://{bucket}/{folder}{one.name}" for one in small], [])
    files = [f"s3://{bucket}/{state.location}{file.name}" for file in state.current.files]
    late = [f"s3://{bucket}/{folder}{one.name}" for one in day_state.late(state, small)]
    return Day(day, state.current.name, state.current.exact, state.rows, files, late)


def _small(stack: Stack, folder: str, ending: str) -> Iterator[Small]:
    for page in dates.listed(stack, folder):
        for item in page.get("Contents", []):
            if item["Key"].endswith(ending) and item["Size"]:
                yield Small(item["Key"].rpartition("/")[2], item["ETag"].strip('"'))
