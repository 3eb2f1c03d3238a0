"""Cells of an hour and an event type, their states, and what follows from them: "proved complete until T". Pure.

T is always derived from the cells and never stored. The function `report` has a copy of this module.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

HOUR = timedelta(hours=1)
RETENTION = timedelta(days=10)  # of Bird's Events API
LOOK_BACK = timedelta(days=12)  # of what is older, all is proved or never will be
# The cell of an hour whose types were not counted one by one yet.
ALL = "*"
# The note of an unknown cell whose type this version does not know.
NEW_TYPE = "a type that this version does not know"


class State(StrEnum):
    PROVED = "proved"  # Bird has as many events as are here, or the same ids
    PROVISIONAL = "provisional"  # equal so far, but Bird may still add and deliver events
    LATE = "late"  # events are missing that Bird may still deliver
    GAP = "gap"  # events are missing that Bird does not deliver any more
    FILLED = "filled"  # a gap whose events were fetched; counted again, and equal
    SURPLUS = "surplus"  # here are events that Bird does not have
    UNPROVABLE = "unprovable"  # Bird's Events API does not cover the type, or gives its events no id
    EXPIRED = "expired"  # not proved in the ten days that Bird keeps events
    UNKNOWN = "unknown"  # Bird did not answer, or not as it should
    BEFORE = "before"  # older than the webhook, or than the type in it
    ERASED = "erased"  # what is missing is of erased persons


# Equal to what Bird has, or once was.
SETTLED = {State.PROVED, State.FILLED, State.ERASED}
# Nothing of such a cell can still change what is here.
DONE = SETTLED | {State.UNPROVABLE, State.BEFORE, State.EXPIRED}
# Worth a sentence: in this order.
REMARKABLE = (State.GAP, State.SURPLUS, State.EXPIRED, State.UNKNOWN)


@dataclass(frozen=True)
class Cell:
    """`hour` is its beginning, in UTC. `theirs` is None where Bird gave no answer.

    `missing` and `strange`: events that only Bird has, and that only we have. `proof` is `ids` where they were compared
    by id, else `count`. `filled` and `erased`: what filling stored, and left out because the person is erased.
    """

    hour: datetime
    type: str
    state: State
    ours: int
    theirs: int | None
    stage: str
    counted_at: datetime
    missing: int = 0
    strange: int = 0
    proof: str = "count"
    filled: int = 0
    erased: int = 0
    filled_at: datetime | None = None
    note: str = ""


def proved_until(cells: Iterable[Cell], now: datetime) -> datetime | None:
    """The end of the last hour up to which every cell is done, without a hole; None if not even the first hour is.

    A surplus never becomes proved. Once Bird has forgotten the hour, it holds nothing up any more.
    """
    hours: dict[datetime, list[Cell]] = defaultdict(list)
    for cell in cells:
        hours[cell.hour].append(cell)
    until = None
    for hour in sorted(hours):
        if (until is not None and hour != until) or not all(is_done(cell, now) for cell in hours[hour]):
            break
        until = hour + HOUR
    return until


def is_done(cell: Cell, now: datetime) -> bool:
    return cell.state in DONE or (cell.state is State.SURPLUS and cell.hour < now - RETENTION)


def sentence(cells: Sequence[Cell], now: datetime) -> str:
    """The one sentence, and what it does not cover."""
    until = proved_until(cells, now)
    said = f"proved complete until {in_words(until)}" if until else "nothing is proved yet"
    return said + "".join(f"; {each}" for each in exceptions(cells))


def exceptions(cells: Iterable[Cell]) -> list[str]:
    """What is not proved and will not be without help, each kind in a few words."""
    found: dict[State, list[Cell]] = defaultdict(list)
    new = set()
    for cell in cells:
        if cell.state is State.UNKNOWN and cell.note == NEW_TYPE:
            new.add(cell.type)
        else:
            found[cell.state].append(cell)
    said = []
    for state in REMARKABLE:
        if these := found[state]:
            hours = len({cell.hour for cell in these})
            places = f"in {in_hours(hours)}"
            missing, strange = sum(cell.missing for cell in these), sum(cell.strange for cell in these)
            match state:
                case State.GAP:
                    said.append(f"{events(missing)} missing {places}")
                case State.SURPLUS:
                    said.append(f"{events(strange)} that Bird does not have {places}")
                case State.EXPIRED:
                    lost = {cell.hour for cell in these if cell.missing}
                    if lost:
                        are = "is" if missing == 1 else "are"
                        said.append(f"{events(missing)} {are} missing for good in {in_hours(len(lost))}")
                    if hours > len(lost):
                        said.append(f"{in_hours(hours - len(lost))} can no longer be proved")
                case _:
                    said.append(f"no answer from Bird {places.replace('in ', 'for ')}")
    if new:
        said.append(f"not known to this version: {', '.join(sorted(new))}")
    return said


def in_hours(number: int) -> str:
    return f"{number:,} hour{'' if number == 1 else 's'}"


def events(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"


def in_words(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{moment.day} {MONTHS[moment.month - 1]}, {moment:%H:%M} UTC"


# Not strftime's, which are in the language of the machine.
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
