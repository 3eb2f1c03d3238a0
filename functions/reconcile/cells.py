"""Two counts of a cell -> its state; which cells are due when. Pure.

Equal counts prove equal sets, because what is stored here is a subset of what Bird has, told apart by the same ids.
That holds only while nothing but Bird posts to the webhook. So small cells are compared by id: there an event that Bird
does not have shows, even if it hides a loss of the same size.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from reconcile.proved import ALL, DONE, HOUR, RETENTION, SETTLED, Cell, State

# The Events API does not cover relay and A/B test events, and an sms_status has no id.
# https://docs.bird.com/api/email-api/events
UNPROVABLE = frozenset(
    [
        *("relay_delivery", "relay_injection", "relay_permfail", "relay_rejection", "relay_tempfail"),
        *("ab_test_completed", "ab_test_cancelled", "sms_status"),
    ]
)
HAD_MORE = "Bird had more before"
TOTAL, TYPES, DAY_2, DAY_9 = "total", "types", "day 2", "day 9"
STAGES = (TOTAL, TYPES, DAY_2, DAY_9)


@dataclass(frozen=True)
class Times:
    """After the end of an hour. Bird retries a batch for 8 hours, and its own backlog may take days."""

    total: timedelta = timedelta(minutes=80)
    types: timedelta = timedelta(hours=9, minutes=10)
    day_2: timedelta = timedelta(days=2)
    day_9: timedelta = timedelta(days=9)
    again: timedelta = timedelta(minutes=50)  # until what is not proved is counted again
    retention: timedelta = RETENTION

    def stage(self, hour: datetime, now: datetime) -> str | None:
        """The latest one whose time has come."""
        age = now - (hour + HOUR)
        waits = zip(STAGES, (self.total, self.types, self.day_2, self.day_9), strict=True)
        return max((stage for stage, wait in waits if age >= wait), key=STAGES.index, default=None)

    def expired(self, hour: datetime, now: datetime) -> bool:
        return hour < now - self.retention

    def kept_since(self, now: datetime) -> datetime:
        """Of younger hours Bird forgets nothing while a run counts them: a count that shrinks would look like ours."""
        return now - self.retention + HOUR


class Ids(NamedTuple):
    """Of a comparison by id: how many only Bird has, and how many only we have."""

    missing: int
    strange: int


@dataclass(frozen=True)
class Counted:
    """`moved`: events that are here in this hour and that Bird has in a neighbouring one, less the converse.

    Bird's second of an event may be another one there than here, so that it lies in another hour.
    """

    ours: int
    theirs: int | None
    moved: int = 0
    ids: Ids | None = None

    @property
    def difference(self) -> int:
        """Above 0: more here. Only where Bird answered."""
        return self.ours - (self.theirs or 0) - self.moved


@dataclass(frozen=True)
class Known:
    """What the webhook is known to have sent: since when, and each type since when."""

    begins_at: datetime
    types_since: Mapping[str, datetime] = field(default_factory=dict)

    def before(self, hour: datetime, kind: str) -> bool:
        return hour < max(self.begins_at, self.types_since.get(kind, self.begins_at))


def judge(
    hour: datetime, kind: str, counted: Counted, known: Known, times: Times, now: datetime, last: Cell | None = None
) -> Cell:
    """The new cell. `last`: what it was, if it was judged before."""
    stage = times.stage(hour, now) or TOTAL
    if kind == ALL:
        stage = TOTAL
    if counted.theirs is None and last is not None and kind not in UNPROVABLE:
        return replace(last, counted_at=now) if last.state in (State.UNKNOWN, State.LATE) else last
    fills = {"filled": last.filled, "erased": last.erased, "filled_at": last.filled_at} if last else {}
    missing, strange = counted.ids or Ids(max(0, -counted.difference), max(0, counted.difference))
    if counted.theirs is None:
        missing = strange = 0
    if last is not None and (still := forgotten(counted, last)) > missing:
        return replace(last, ours=counted.ours, missing=still, stage=stage, counted_at=now, note=HAD_MORE)
    state, note = state_of(hour, kind, counted, Ids(missing, strange), stage, known, times, now, last)
    return Cell(
        hour,
        kind,
        state,
        counted.ours,
        counted.theirs,
        stage,
        now,
        missing,
        strange,
        "ids" if counted.ids else "count",
        note=note or (f"{counted.moved:+d} at the edge of the hour" if counted.moved else ""),
        **fills,  # type: ignore[arg-type]
    )


def forgotten(counted: Counted, last: Cell) -> int:
    """Events that were missing, that did not come since, and that Bird has no more: it forgets the oldest, and its
    index may lack some for a time. Equal counts prove nothing then. After filling, their ids were compared.
    """
    if last.state is not State.GAP or last.filled_at or (counted.theirs or 0) >= (last.theirs or 0):
        return 0
    return last.missing - max(0, counted.ours - last.ours)


def state_of(
    hour: datetime,
    kind: str,
    counted: Counted,
    ids: Ids,
    stage: str,
    known: Known,
    times: Times,
    now: datetime,
    last: Cell | None,
) -> tuple[State, str]:
    if kind in UNPROVABLE:
        return State.UNPROVABLE, ""
    if counted.theirs is None:
        return (State.EXPIRED if times.expired(hour, now) else State.UNKNOWN), "Bird did not answer"
    if not ids.missing and not ids.strange:
        if stage == TOTAL:
            return State.PROVISIONAL, ""
        return (State.FILLED if last and last.filled else State.PROVED), ""
    if stage == TOTAL:
        return State.LATE, ""
    if ids.missing:
        if last and last.erased >= ids.missing:
            return State.ERASED, f"{ids.missing} of erased persons"
        if known.before(hour, kind):
            return State.BEFORE, ""
        return (State.EXPIRED if times.expired(hour, now) else State.GAP), ""
    if last and last.state in SETTLED and counted.ours <= last.ours:
        return last.state, HAD_MORE  # its index has lost events that were equal to ours once
    if last and last.state is State.GAP and last.ours < counted.ours <= (last.theirs or 0):
        return (State.FILLED if last.filled else State.PROVED), HAD_MORE
    return State.SURPLUS, ""


def expired(cell: Cell, now: datetime, times: Times) -> Cell:
    """The cell, given up if Bird has forgotten its hour before it was proved."""
    if cell.state in DONE or cell.state is State.SURPLUS or not times.expired(cell.hour, now):
        return cell
    return replace(cell, state=State.EXPIRED, note=f"was {cell.state}")


# --- What is due ------------------------------------------------------------------------------------------------------


def due(cells: Iterable[Cell], since: datetime, now: datetime, times: Times) -> list[tuple[datetime, str]]:
    """Hours to be counted now, each with its stage, the oldest first; but hours that are not proved before all others.

    `since`: the first hour that matters. An hour is due when a later stage's time has come, or when it has a cell that
    is not done and was not counted for a while.
    """
    by_hour: dict[datetime, list[Cell]] = {}
    for cell in cells:
        by_hour.setdefault(cell.hour, []).append(cell)
    urgent, others = [], []
    for hour in hours(max(since, times.kept_since(now)), now):
        stage = times.stage(hour, now)
        if stage is None:
            continue
        judged = by_hour.get(hour, [])
        reached = max((STAGES.index(cell.stage) for cell in judged), default=-1)
        waiting = [cell for cell in judged if cell.state not in DONE and now - cell.counted_at >= times.again]
        if waiting and (stage != TOTAL or any(cell.state is State.UNKNOWN for cell in waiting)):
            urgent.append((hour, stage))
        elif STAGES.index(stage) > reached:
            others.append((hour, stage))
    return urgent + others


def hours(since: datetime, until: datetime) -> Iterator[datetime]:
    """Whole hours that begin at `since` or later and end by `until`."""
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if hour < since:
        hour += HOUR
    while hour + HOUR <= until:
        yield hour
        hour += HOUR


def windows(hours_wanted: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The hours as few periods, each from its beginning up to its end."""
    found: list[tuple[datetime, datetime]] = []
    for hour in sorted(set(hours_wanted)):
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + HOUR)
        else:
            found.append((hour, hour + HOUR))
    return found
