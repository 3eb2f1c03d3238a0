"""The verdicts: one small file for each date in the lake bucket, of which the table `verdicts` is made.

A date's file has all its cells and is written as a whole, so that a reader sees each cell once. While a date has cells
that are not done, each run that counts one writes its file again; then it stays as it is.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from reconcile.proved import Cell, State

CELLS, STATE, CALIBRATION = "completeness/cells/", "completeness/state.json", "completeness/calibration.json"
IMPORTED = "completeness/imported.json"  # by `bird-webhooks backfill`: since when all types are here
TIMES = ("hour", "counted_at", "filled_at")


class Files(Protocol):
    """Objects of the lake bucket."""

    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, body: bytes) -> None: ...


@dataclass(frozen=True)
class Verdicts:
    files: Files

    def cells(self, since: datetime, until: datetime) -> dict[tuple[datetime, str], Cell]:
        """Of all hours from `since` up to before `until`."""
        found: dict[tuple[datetime, str], Cell] = {}
        day = since.date()
        while datetime(day.year, day.month, day.day, tzinfo=UTC) < until:
            body = self.files.read(key_of(day))
            for cell in decoded(body) if body else ():
                if since <= cell.hour < until:
                    found[(cell.hour, cell.type)] = cell
            day += timedelta(days=1)
        return found

    def write(self, cells: Iterable[Cell], dates: set[date]) -> None:
        """The files of these dates; `cells` has all cells of each of them."""
        by_date: dict[date, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_date[cell.hour.date()].append(cell)
        for day in sorted(dates):
            self.files.write(key_of(day), encoded(by_date[day]))

    def state(self) -> dict[str, Any]:
        """What the function remembers, and what is not a verdict."""
        return self._json(STATE)

    def write_state(self, state: Mapping[str, Any]) -> None:
        self.files.write(STATE, json.dumps(state, sort_keys=True).encode())

    def calibration(self) -> dict[str, Any]:
        return self._json(CALIBRATION)

    def write_calibration(self, result: Mapping[str, Any]) -> None:
        self.files.write(CALIBRATION, json.dumps(result, sort_keys=True, indent=1).encode())

    def imported_since(self) -> datetime | None:
        """From when on everything was fetched by hand, also what is older than the webhook."""
        found = self._json(IMPORTED)
        return datetime.fromisoformat(found["since"]) if found else None

    def write_imported(self, since: datetime, until: datetime | None = None) -> bool:
        """Whether nothing is left out between what was fetched, by default up to now, and what is compared already.

        If something is, nothing is written: the hours between were not asked for, and would look like a loss.
        """
        begins_at, before = self.state().get("begins_at"), self.imported_since()
        compared = [datetime.fromisoformat(begins_at)] if begins_at else []
        compared += [before] if before else []
        if until is not None and (not compared or until < min(compared)):
            return False
        self.files.write(IMPORTED, json.dumps({"since": min(since, before or since).isoformat()}).encode())
        return True

    def _json(self, key: str) -> dict[str, Any]:
        body = self.files.read(key)
        found: dict[str, Any] = json.loads(body) if body else {}
        return found


def key_of(day: date) -> str:
    return f"{CELLS}{day}.json.gz"


def encoded(cells: Iterable[Cell]) -> bytes:
    """A line of JSON for each cell. The same cells give the same bytes."""
    lines = (json.dumps(row(cell)) + "\n" for cell in sorted(cells, key=lambda cell: (cell.hour, cell.type)))
    return gzip.compress("".join(lines).encode(), mtime=0)


def row(cell: Cell) -> dict[str, Any]:
    """As the tables of Athena and PostgreSQL have it: times in UTC."""
    return {
        name: f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value
        for name, value in asdict(cell).items()
    }


def decoded(body: bytes) -> Iterator[Cell]:
    for line in gzip.decompress(body).splitlines():
        yield from_row(json.loads(line))


def from_row(values: Mapping[str, Any]) -> Cell:
    """Of the table's row, whose times and numbers may be text."""
    given = {name: value for name, value in values.items() if name in Cell.__dataclass_fields__}
    times = {
        name: datetime.fromisoformat(str(given[name])).replace(tzinfo=UTC) if given.get(name) else None
        for name in TIMES
    }
    numbers = {name: int(given.get(name) or 0) for name in ("ours", "missing", "strange", "filled", "erased")}
    theirs = given.get("theirs")
    cell = Cell(**{**given, **times, **numbers, "theirs": None if theirs in (None, "") else int(theirs)})
    return replace(cell, state=State(cell.state), note=cell.note or "")
