"""How far it is proved that no event is missing: the sentence and a heat map of hour and event type. Pure.

`section` gives what the template completeness.html shows. Neighbouring hours of one state are one rectangle, so that a
month is a few hundred of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from report.proved import ALL, HOUR, LOOK_BACK, Cell, State, exceptions, proved_until, sentence

# Worst first; in a legend and in the order of the table below the map.
COLOURS = {
    State.GAP: "#c8442b",
    State.SURPLUS: "#83429a",
    State.EXPIRED: "#7a5230",
    State.UNKNOWN: "#d99a00",
    State.LATE: "#e6c36a",
    State.PROVISIONAL: "#9ac7e8",
    State.ERASED: "#5f7f9f",
    State.FILLED: "#0a8f6a",
    State.PROVED: "#2f6fb3",
    State.BEFORE: "#a9b2bc",
    State.UNPROVABLE: "#d0d5da",
}
OPEN = (State.GAP, State.SURPLUS, State.EXPIRED, State.UNKNOWN, State.LATE)
MOST_LISTED = 30
ROW_HEIGHT = 12


@dataclass(frozen=True)
class Run:
    """Hours in a row with one state, in hours from the left edge."""

    left: int
    width: int
    colour: str
    title: str


@dataclass(frozen=True)
class Row:
    type: str
    top: int
    runs: list[Run]


@dataclass(frozen=True)
class Section:
    sentence: str
    proved: bool
    width: int
    height: int
    rows: list[Row]
    days: list[tuple[int, str]]  # left edge and name
    legend: list[tuple[str, str]]
    open: list[Cell]
    more: int


def query(since: datetime, now: datetime) -> str:
    """SQL for Athena and PostgreSQL: what the map shows from `since` on, and what the sentence is about."""
    since = min(since, now - LOOK_BACK)
    return (
        "SELECT hour, type, state, ours, theirs, missing, strange, proof, filled, erased, counted_at, note "  # noqa: S608
        f"FROM completeness WHERE hour >= TIMESTAMP '{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}' ORDER BY hour, type"
    )


def section(rows: Iterable[Mapping[str, object]], since: datetime, now: datetime) -> Section | None:
    """Of the view's rows; None if nothing was compared. The map begins with `since`.

    The sentence does not: whatever the page's days are, it is that of `bird-webhooks completeness`; but of the page's
    days if nothing is compared any more.
    """
    known = [cell_of(row) for row in rows]
    cells = [one for one in known if one.hour >= since]
    recent = [one for one in known if one.hour >= now - LOOK_BACK] or cells
    if not cells:
        return None
    first, last = min(cell.hour for cell in cells), max(cell.hour for cell in cells)
    hours = (last - first) // HOUR + 1
    types = sorted({cell.type for cell in cells} - {ALL}) + ([ALL] if any(cell.type == ALL for cell in cells) else [])
    found = sorted((cell for cell in cells if cell.state in OPEN), key=lambda cell: (OPEN.index(cell.state), cell.hour))
    shown = {cell.state for cell in cells}
    return Section(
        sentence(recent, now),
        proved_until(recent, now) is not None and not exceptions([*cells, *recent]),
        hours,
        len(types) * ROW_HEIGHT,
        [
            Row(kind, number * ROW_HEIGHT, runs([cell for cell in cells if cell.type == kind], first))
            for number, kind in enumerate(types)
        ],
        [
            ((day - first) // HOUR, f"{day.day} {day:%b}")
            for day in (first.replace(hour=0) + timedelta(days=number) for number in range(hours // 24 + 2))
            if first <= day <= last
        ],
        [(state, colour) for state, colour in COLOURS.items() if state in shown],
        found[:MOST_LISTED],
        max(0, len(found) - MOST_LISTED),
    )


def runs(cells: list[Cell], first: datetime) -> list[Run]:
    placed = [((cell.hour - first) // HOUR, cell) for cell in sorted(cells, key=lambda cell: cell.hour)]
    found = []
    # Hours in a row of one state keep the difference between their place and their number.
    for (state, _), group in groupby(enumerate(placed), key=lambda item: (item[1][1].state, item[1][0] - item[0])):
        of_run = [cell for _, (_, cell) in group]
        left = (of_run[0].hour - first) // HOUR
        found.append(Run(left, len(of_run), COLOURS[state], title(of_run)))
    return found


def title(cells: list[Cell]) -> str:
    begin, end = cells[0].hour, cells[-1].hour + HOUR
    kind = "all types" if cells[0].type == ALL else cells[0].type
    numbers = f"{sum(cell.ours for cell in cells):,} here"
    if all(cell.theirs is not None for cell in cells):
        numbers += f", {sum(cell.theirs or 0 for cell in cells):,} at Bird"
    return f"{kind}, {begin:%d %b %H:%M} to {end:%d %b %H:%M} UTC: {cells[0].state}, {numbers}"


def cell_of(row: Mapping[str, object]) -> Cell:
    """Athena gives text, PostgreSQL values."""

    def number(name: str) -> int:
        return int(str(row[name] or 0))

    return Cell(
        moment(row["hour"]),
        str(row["type"]),
        State(str(row["state"])),
        number("ours"),
        None if row["theirs"] in (None, "") else number("theirs"),
        "",
        moment(row["counted_at"]),
        number("missing"),
        number("strange"),
        str(row["proof"]),
        number("filled"),
        number("erased"),
        None,
        str(row["note"] or ""),
    )


def moment(value: object) -> datetime:
    return datetime.fromisoformat(str(value)).replace(tzinfo=UTC)
