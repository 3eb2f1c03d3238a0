"""One run: early warning, then what is due is counted and judged, gaps are filled, and the verdicts are written.

A run may end anywhere: what it has judged is written, and the next one goes on with what is due. While Bird does not
answer, no verdict changes. What failed comes last in the next run, so that one bad hour keeps no other from its turn.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol

from reconcile import calibration, early_warning
from reconcile.as_webhook import CLASS_OF_TYPE, INGEST_TYPES, Event
from reconcile.calibration import Metric, Sent
from reconcile.cells import TOTAL, TYPES, UNPROVABLE, Counted, Ids, Known, Times, due, expired, hours, judge, windows
from reconcile.counting import Here, Ours, Whose
from reconcile.early_warning import Warned, warned
from reconcile.events_api import (
    ALL_SUBACCOUNTS,
    DOUBTFUL_METRIC_OF_TYPE,
    METRIC_OF_TYPE,
    CallsSpentError,
    EventsApi,
    NoAnswerError,
    NoGrantError,
    RefusedError,
    UntrustedError,
    Webhook,
)
from reconcile.filling import Filled
from reconcile.proved import ALL, HOUR, NEW_TYPE, SETTLED, Cell, State, proved_until
from reconcile.verdicts import Verdicts

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

LOOK_BACK = timedelta(days=12)  # Bird keeps events for ten days
HOURS_A_RUN = 48
# Cells with so few events are compared by id: it takes the one call that counting takes, and some of them.
COMPARED_BY_ID = 1000
IDS_A_RUN = 50_000
EDGE = timedelta(seconds=5)  # how far a second may be off between the webhook and the Events API
OLD = timedelta(days=8)  # two days are left to fill what Bird forgets after ten
NOT_KNOWN_HERE = "other types"
OF_MAIL = tuple(sorted(CLASS_OF_TYPE.keys() - INGEST_TYPES - UNPROVABLE))
MOST_KEPT = 50  # batches that are named in the state
FAILURES_IN_A_ROW = 5  # after them the run ends
FORGOTTEN = timedelta(days=1)  # until what failed has its usual turn again


class Fill(Protocol):
    def __call__(self, since: datetime, until: datetime, types: Sequence[str], events: int) -> Filled: ...


@dataclass(frozen=True)
class Bounds:
    events_a_run: int = 200_000
    events_a_day: int = 2_000_000


@dataclass
class Round:
    """`sent` and `is_stored` read the raw bucket. `held_by`: why nothing may be judged now, if anything is.

    `fill` is bound to the stack, and waits until calibration has passed. `hand_over` gives cells of whole dates to
    PostgreSQL, where rows go there too, and says whether it has them.
    """

    api: EventsApi
    ours: Ours
    verdicts: Verdicts
    fill: Fill
    sent: Sent
    is_stored: Callable[[str], bool]
    held_by: Callable[[], str | None]
    hand_over: Callable[[Sequence[Cell]], bool]
    webhook_id: str
    now: datetime
    times: Times = field(default_factory=Times)
    bounds: Bounds = field(default_factory=Bounds)
    cells: dict[tuple[datetime, str], Cell] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    facts: Counter[str] = field(default_factory=Counter)
    changed: set[datetime] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)  # what (an hour, a cell, a batch), and when
    failed_before: dict[str, str] = field(default_factory=dict)  # in earlier runs
    last_ones: bool = False  # whether it is the turn of these
    in_a_row: int = 0
    index_answers: dict[bool, bool] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """The facts of the run, for the log and the metrics. Whatever Bird answers, it is no error of the run."""
        self.state = self.verdicts.state()
        # From a midnight on, because a date's file is written as a whole.
        midnight = (self.now - LOOK_BACK).replace(hour=0, minute=0, second=0, microsecond=0)
        self.cells = self.verdicts.cells(midnight, self.now)
        self.state |= {"no_grant": "", "refused": "", "held_by": ""}
        since = (self.now - FORGOTTEN).isoformat()
        self.failed = {what: when for what, when in self.state.get("failed", {}).items() if when >= since}
        self.failed_before = dict(self.failed)
        try:
            self.look()
        except CallsSpentError as error:
            self.facts["bounds_reached"] = 1
            logger.warning("the bound of this run is reached; the next one goes on", extra={"reason": str(error)})
        except NoGrantError as error:
            self.state["no_grant"] = error.grant
            self.facts["access_failures"] += self.has_compared()
            logger.warning("the API key lacks a grant: nothing is compared", extra={"grant": error.grant})
        except (NoAnswerError, RefusedError, UntrustedError) as error:
            self.failure(error)
            if isinstance(error, NoAnswerError):
                self.unknown()
        finally:
            self.give_up_expired()
            self.write()
        return self.measured()

    def look(self) -> None:
        webhook = self.api.webhook(self.webhook_id)
        known = self.known(webhook)
        self.warn_of_batches()
        if reason := self.held_by():
            self.state["held_by"] = reason
            self.facts["held_by_process"] = 1
            logger.warning("nothing is judged", extra={"reason": reason})
            return
        self.ours.whose = Whose(self.verdicts.calibration().get("account"), webhook.subaccount, webhook.exceptions)
        for self.last_ones in (False, True):
            # What is known to be missing first, because Bird forgets it; then again with what was found.
            self.fill_marked(webhook)
            self.fill_gaps()
            self.count(webhook, known)
            if self.has_turn("calibration"):
                with self.tolerated("calibration"):
                    self.calibrate(webhook)
                    self.failed.pop("calibration", None)
            self.fill_marked(webhook)
            self.fill_gaps()

    # --- Failures ---

    @contextmanager
    def tolerated(self, what: str) -> Iterator[None]:
        """A bad answer is about this one thing, and the run goes on.

        Errors: those that are about all of Bird: NoGrantError, CallsSpentError, a key that is refused, and any failure
        after several in a row.
        """
        before, calls = self.in_a_row, self.api.calls.spent
        try:
            yield
        except (NoAnswerError, RefusedError, UntrustedError) as error:
            self.failed[what] = self.now.isoformat()
            self.in_a_row += 1
            key_refused = isinstance(error, RefusedError) and error.status == HTTPStatus.UNAUTHORIZED
            if key_refused or self.in_a_row >= FAILURES_IN_A_ROW:
                raise
            self.failure(error, what)
        else:
            if self.in_a_row == before and self.api.calls.spent > calls:
                self.in_a_row = 0

    def failure(self, error: Exception, what: str = "all") -> None:
        if isinstance(error, NoAnswerError):
            self.facts["no_answer"] += 1
            logger.warning("Bird did not answer: no verdict changes", extra={"of": what, "reason": str(error)})
        else:
            self.state["refused"] = str(error)
            self.facts["access_failures"] += 1
            logger.error("Bird's answer cannot be used", extra={"of": what, "reason": str(error)})

    def has_turn(self, what: str) -> bool:
        """What failed in an earlier run comes last, and what has failed in this one, not again."""
        tried = self.failed.get(what) != self.failed_before.get(what)
        return not tried and (what in self.failed_before) is self.last_ones

    def known(self, webhook: Webhook) -> Known:
        """Since when there is something to compare: the first whole hour with events that the webhook brought, or the
        first run.
        """
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        if "begins_at" not in self.state:
            ours = self.ours.counts_of([(hour - self.times.retention, hour)], by_webhook=True)
            first = min(ours, default=(hour, ""))[0]
            self.state["begins_at"] = min(hour, first + HOUR).isoformat()
            self.state["types_since"] = dict.fromkeys(webhook.types, self.state["begins_at"])
        # A type that is new to the webhook may have come to it at any time of this hour.
        later = (hour + HOUR).isoformat()
        since = {kind: self.state["types_since"].get(kind, later) for kind in webhook.types}
        self.state["types_since"] = since
        begins_at, imported = datetime.fromisoformat(self.state["begins_at"]), self.verdicts.imported_since()
        times = {kind: datetime.fromisoformat(when) for kind, when in since.items()}
        if imported is not None and (whole := next(hours(imported, self.now), begins_at)) < begins_at:
            times = {kind: whole if when == begins_at else when for kind, when in times.items()}
            begins_at = whole
        return Known(begins_at, times)

    # --- Early warning ---

    def warn_of_batches(self) -> None:
        """What Bird says of its batches in an unknown form keeps no event from being counted."""
        try:
            statuses = self.api.batch_status(self.webhook_id)
        except (RefusedError, UntrustedError) as error:
            if isinstance(error, RefusedError) and error.status == HTTPStatus.UNAUTHORIZED:
                raise
            self.failure(error, "batch status")
        else:
            self.warn(statuses)

    def warn(self, statuses: Sequence[Any]) -> None:
        found: Warned = warned(statuses, self.is_stored, self.now)
        self.facts["batches_failing"] = len(found.failing)
        self.facts["batches_lost"] = len(found.lost)
        self.facts["batches_given_up"] = len(found.given_up)
        for name in ("failing", "lost", "given_up"):
            batches = getattr(found, name)
            self.state[name] = [
                {"batch_id": batch.batch_id, "attempts": batch.attempts, "code": early_warning.code(batch)}
                for batch in batches[:MOST_KEPT]
            ]
            for batch in batches:
                logger.error(
                    f"Bird's batch is {name.replace('_', ' ')}",
                    extra={
                        "batch_id": batch.batch_id,
                        "attempts": batch.attempts,
                        "code": early_warning.code(batch),
                        "made_at": batch.at.isoformat(),
                    },
                )
        marked = self.state.setdefault("marked", {})
        done = set(self.state.get("marks_done", []))
        for batch in [*found.given_up, *found.lost]:
            if batch.batch_id not in done:
                marked[batch.batch_id] = [each.isoformat() for each in early_warning.minutes(batch)]
        listed = {status.batch_id for status in statuses}
        self.state["marks_done"] = sorted(done & listed)  # Bird lists a batch for a day

    # --- Counting ---

    def count(self, webhook: Webhook, known: Known) -> None:
        wanted = self.wanted(known)[:HOURS_A_RUN]
        if not wanted:
            return
        self.learn_account(webhook)
        ours = self.ours.counts_of(windows([hour for hour, _ in wanted]))
        by_id = self.small(wanted, ours, webhook)
        for hour, stage in wanted:
            counts = {kind: number for (when, kind), number in ours.items() if when == hour}
            self.failed.pop(hour.isoformat(), None)
            with self.tolerated(hour.isoformat()):
                if stage == TOTAL:
                    self.total(hour, counts, webhook, known)
                elif not self.confirmed(hour, stage, counts, webhook):
                    self.types(hour, counts, by_id, webhook, known)
                self.facts["hours_counted"] += 1
            if all(when != hour for when, _ in self.cells):
                self.judged(hour, ALL, Counted(0, None), known)

    def learn_account(self, webhook: Webhook) -> None:
        """Before calibration, from the first event that Bird answers with: the key is of that account."""
        if self.ours.whose.account is None:
            with self.tolerated("account"):
                self.index_has_events(webhook, here=False)
                self.failed.pop("account", None)
            self.ours.whose = replace(self.ours.whose, account=self.api.account)

    def wanted(self, known: Known) -> list[tuple[datetime, str]]:
        since = self.first_hour(known)
        if not self.last_ones:
            # What a later version will know is counted again by that one, and not every hour until then.
            cells = [
                replace(cell, state=State.UNPROVABLE) if is_new(cell.type) else cell for cell in self.cells.values()
            ]
            hours_due = due(cells, since, self.now, self.times)
            return [(hour, stage) for hour, stage in hours_due if self.has_turn(hour.isoformat())]
        failed = [
            (hour, stage)
            for hour in hours(max(since, self.times.kept_since(self.now)), self.now)
            if self.has_turn(hour.isoformat()) and (stage := self.times.stage(hour, self.now))
        ]
        return sorted(failed, key=lambda item: self.failed_before[item[0].isoformat()])

    def first_hour(self, known: Known) -> datetime:
        """Hours from before the webhook are counted too if they were imported: then they have cells."""
        return min([known.begins_at, *(hour for hour, _ in self.cells)])

    def total(self, hour: datetime, counts: dict[str, int], webhook: Webhook, known: Known) -> None:
        kinds = provable(webhook)
        theirs = self.api.count_sent(webhook, hour, hour + HOUR, kinds)
        counted = Counted(sum(counts.get(kind, 0) for kind in kinds), theirs)
        self.judged(hour, ALL, counted, known)

    def confirmed(self, hour: datetime, stage: str, counts: dict[str, int], webhook: Webhook) -> bool:
        """Whether one count shows that nothing has changed since all cells were proved. Moves them to this stage."""
        last = {kind: cell for (when, kind), cell in self.cells.items() if when == hour and kind in webhook.types}
        settled = [cell for cell in last.values() if cell.type not in UNPROVABLE]
        if stage == TYPES or not settled or any(cell.state is not State.PROVED for cell in settled):
            return False
        if {cell.type for cell in settled} != set(provable(webhook)):
            return False
        if any(cell.ours != counts.get(cell.type, 0) for cell in settled):
            return False
        theirs = self.api.count_sent(webhook, hour, hour + HOUR, provable(webhook))
        if theirs != sum(cell.theirs or 0 for cell in settled):
            return False
        if not theirs and not self.index_has_events(webhook, here=False):
            return False
        for cell in last.values():
            self.put(replace(cell, stage=stage, counted_at=self.now))
        return True

    def types(
        self,
        hour: datetime,
        counts: dict[str, int],
        by_id: dict[datetime, list[Here]],
        webhook: Webhook,
        known: Known,
    ) -> None:
        kinds, key = provable(webhook), hour.isoformat()
        absent = [kind for kind in kinds if not counts.get(kind)]
        nothing = not absent or not self.api.count_sent(webhook, hour, hour + HOUR, absent)
        theirs: dict[str, int | None] = {kind: 0 if nothing and kind in absent else None for kind in kinds}
        ids: dict[str, Ids | None] = {}
        for kind in kinds:
            if theirs[kind] is None:
                with self.tolerated(key):
                    theirs[kind], ids[kind] = self.theirs(hour, kind, counts.get(kind, 0), by_id.get(hour), webhook)
        here = any(counts.get(kind) for kind in kinds)
        if kinds and not any(theirs.values()) and not self.index_has_events(webhook, here=here):
            theirs, ids = dict.fromkeys(kinds), {}
            self.facts["no_answer"] = 1
        for kind in kinds:
            number, there = counts.get(kind, 0), theirs[kind]
            moved = 0
            if ids.get(kind) is None and there is not None and there != number:
                theirs[kind] = None
                with self.tolerated(key):
                    moved = self.crossed(hour, kind, webhook) - self.crossed(hour + HOUR, kind, webhook)
                    theirs[kind] = there
            self.judged(hour, kind, Counted(number, theirs[kind], moved, ids.get(kind)), known)
        self.others(hour, counts, webhook, known)
        self.new_types(hour, counts, webhook, known)
        self.cells.pop((hour, ALL), None)

    def theirs(
        self, hour: datetime, kind: str, ours: int, here: list[Here] | None, webhook: Webhook
    ) -> tuple[int, Ids | None]:
        """How many Bird has; and how the ids differ, where there are few."""
        if here is not None and 0 < ours <= COMPARED_BY_ID:
            compared = self.compared(hour, kind, here, webhook)
            if compared is not None:
                return compared
        return self.api.count_sent(webhook, hour, hour + HOUR, [kind]), None

    def others(self, hour: datetime, counts: dict[str, int], webhook: Webhook, known: Known) -> None:
        """Types that cannot be proved: each of Bird's, and all others as one, because anybody may invent some."""
        kinds = {*provable(webhook), *new_types(webhook)}
        # A type that the webhook lost may have a gap, which cannot be filled any more. What is proved of it stays.
        judged = {kind: cell for (when, kind), cell in self.cells.items() if when == hour and kind not in {*kinds, ALL}}
        found = Counter[str](dict.fromkeys(judged, 0))
        for kind, number in counts.items():
            if kind not in kinds:
                found[kind if kind in UNPROVABLE or kind in CLASS_OF_TYPE else NOT_KNOWN_HERE] += number
        for kind, number in found.items():
            if kind in judged and judged[kind].state in SETTLED:
                continue
            cell = judge(hour, kind, Counted(number, None), known, self.times, self.now)
            note = "" if kind in UNPROVABLE else "not among the types of the webhook"
            self.put(replace(cell, state=State.UNPROVABLE, note=note))

    def new_types(self, hour: datetime, counts: dict[str, int], webhook: Webhook, known: Known) -> None:
        """Types of the webhook that this version does not know: their events cannot be fetched, so none is proved."""
        for kind in new_types(webhook):
            ours, theirs = counts.get(kind, 0), None
            try:
                theirs = self.api.count_sent(webhook, hour, hour + HOUR, [kind])
            except RefusedError as error:  # Bird's Events API may not know it either
                if error.status == HTTPStatus.UNAUTHORIZED:
                    raise
            before = known.before(hour, kind)
            missing = 0 if before else max(0, (theirs or 0) - ours)
            stage = self.times.stage(hour, self.now) or TOTAL
            state = State.BEFORE if before else State.UNKNOWN
            self.put(Cell(hour, kind, state, ours, theirs, stage, self.now, missing, note=NEW_TYPE))
            self.facts["events_held"] += missing

    def index_has_events(self, webhook: Webhook, *, here: bool) -> bool:
        """Whether Bird's index has anything at all, of any type. If not, its zero proves nothing.

        `here`: events of the hour are here, so that it must have some of the last day. Else nothing may have been sent
        for days: it is asked for nearly all that it keeps, and if that is nothing, the metrics, which Bird counts
        apart, must be zero too.
        """
        if here not in self.index_answers:
            until = self.now.replace(microsecond=0)
            since = until - (timedelta(days=1) if here else self.times.retention - timedelta(days=1))
            anything = replace(webhook, types=OF_MAIL, subaccount=ALL_SUBACCOUNTS, exceptions=())
            found = self.api.count_sent(anything, since, until, OF_MAIL) > 0
            self.index_answers[here] = found or (not here and self.was_silent())
        return self.index_answers[here]

    def was_silent(self) -> bool:
        """Whether Bird's metrics say that nothing happened while Bird keeps events. If the key may not read them, that
        is not known, and so it was not.
        """
        since = self.now.replace(minute=0, second=0, microsecond=0) - self.times.retention
        names = sorted((METRIC_OF_TYPE | DOUBTFUL_METRIC_OF_TYPE).values())
        try:
            rows = self.api.metrics(since, self.now, "hour", names)
        except (NoGrantError, RefusedError, UntrustedError) as error:
            logger.info("whether nothing was sent is not known", extra={"reason": str(error)})
            return False
        return bool(rows) and not any(number for row in rows for number in row.counts.values())

    # --- Comparing by id ---

    def small(
        self, wanted: Iterable[tuple[datetime, str]], ours: Counter[Any], webhook: Webhook
    ) -> dict[datetime, list[Here]]:
        """Our events of hours that have few, with those at their edges; one statement for all."""
        kinds: set[str] = set()
        chosen: list[datetime] = []
        for hour, stage in wanted:
            few = {kind for kind in provable(webhook) if 0 < ours[(hour, kind)] <= COMPARED_BY_ID}
            read = sum(ours[(when, kind)] for when in (*chosen, hour) for kind in kinds | few)
            if stage != TOTAL and few and read <= IDS_A_RUN:
                kinds |= few
                chosen.append(hour)
        edges = [(hour - EDGE, hour + HOUR + EDGE) for hour in chosen]
        found = self.ours.events_of(edges, kinds) if chosen else []
        return {hour: [one for one in found if hour - EDGE <= one.at < hour + HOUR + EDGE] for hour in chosen}

    def compared(self, hour: datetime, kind: str, here: list[Here], webhook: Webhook) -> tuple[int, Ids] | None:
        """How many Bird has in the hour, and how the ids differ; None if Bird has so many that a count is cheaper."""
        theirs: list[Event] = []
        for event in self.events(hour - EDGE, hour + HOUR + EDGE, kind, webhook):
            theirs.append(event)
            if len(theirs) > 2 * COMPARED_BY_ID:
                return None
        inside = {event.event_id for event in theirs if hour <= event.at < hour + HOUR}
        ours = [one for one in here if one.type == kind]
        missing = inside - {one.event_key for one in ours}
        strange = {one.event_key for one in ours if hour <= one.at < hour + HOUR} - {each.event_id for each in theirs}
        return len(inside), Ids(len(missing), len(strange))

    def crossed(self, boundary: datetime, kind: str, webhook: Webhook) -> int:
        """Events of Bird's before the boundary that are here after it, less those the other way round."""
        window = (boundary - EDGE, boundary + EDGE)
        theirs = {event.event_id or "": event.at for event in self.events(*window, kind, webhook)}
        ours = {one.event_key: one.at for one in self.ours.events_of([window], [kind])}
        both = [(theirs[key], ours[key]) for key in theirs.keys() & ours.keys()]
        later = sum(there < boundary <= here for there, here in both)
        return later - sum(here < boundary <= there for there, here in both)

    def events(self, since: datetime, until: datetime, kind: str, webhook: Webhook) -> Iterable[Event]:
        return (event for event in self.api.events(since, until, [kind]) if webhook.sends(event))

    # --- Filling ---

    def may_fill(self) -> bool:
        return bool(self.verdicts.calibration().get("passed"))

    def events_left(self) -> int:
        of_day: int = self.state.get("filled", {}).get(str(self.now.date()), 0)
        return min(self.bounds.events_a_run - self.facts["filled_events"], self.bounds.events_a_day - of_day)

    def fill_marked(self, webhook: Webhook) -> None:
        """Minutes of batches that Bird gave up, or that it calls delivered and that are not here: at once."""
        if not self.may_fill():
            return
        marked = self.state.get("marked", {}).items()
        for batch_id, (since, until) in sorted(marked, key=lambda item: (self.failed_before.get(item[0], ""), item[1])):
            if not self.has_turn(batch_id):
                continue
            window = datetime.fromisoformat(since), datetime.fromisoformat(until)
            too_old = window[0] < self.now - self.times.retention
            found = None
            if not too_old:
                with self.tolerated(batch_id):
                    found = self.filled(*window, provable(webhook))
                    self.failed.pop(batch_id, None)
            if too_old or (found and not found.left):
                del self.state["marked"][batch_id]
                self.state["marks_done"] = sorted({*self.state["marks_done"], batch_id})

    def fill_gaps(self) -> None:
        """The oldest first: Bird forgets them first."""
        gaps = sorted(
            (cell for cell in self.cells.values() if cell.state is State.GAP and self.has_turn(gap_of(cell))),
            key=lambda cell: (self.failed_before.get(gap_of(cell), ""), cell.hour, cell.type),
        )
        for cell in gaps:
            if cell.filled_at and cell.counted_at <= cell.filled_at:
                continue  # to be counted again before
            if not self.may_fill():
                self.facts["waits_for_calibration"] = 1
                return
            if cell.filled_at:
                self.facts["filling_did_not_help"] += cell.missing
            with self.tolerated(gap_of(cell)):
                found = self.filled(cell.hour, cell.hour + HOUR, [cell.type])
                self.failed.pop(gap_of(cell), None)
            if gap_of(cell) in self.failed:
                continue
            if found is None:
                return
            filled = replace(
                cell,
                filled=cell.filled + found.stored + found.waiting,
                erased=found.erased,
                filled_at=cell.filled_at if found.left else self.now,
                note=said(found),
            )
            if not found.stored and not found.waiting and found.erased >= cell.missing:
                filled = replace(filled, state=State.ERASED, note=f"{found.erased} of erased persons")
            self.put(filled)
            if found.left:
                return

    def filled(self, since: datetime, until: datetime, types: Sequence[str]) -> Filled | None:
        """None if a bound was reached before anything was fetched."""
        events = self.events_left()
        if events <= 0:
            self.facts["bounds_reached"] = 1
            return None
        found = self.fill(since, until, types, events)
        self.facts["filled_events"] += found.stored
        self.facts["filled_batches"] += found.batches
        self.facts["erased_left_out"] += found.erased
        self.facts["events_held"] += found.held.total()
        of_day = self.state.get("filled", {}).get(str(self.now.date()), 0)
        self.state["filled"] = {str(self.now.date()): of_day + found.stored}
        self.facts["bounds_reached"] |= found.left
        return found

    # --- Calibration ---

    def calibrate(self, webhook: Webhook) -> None:
        if not calibration.is_due(self.verdicts.calibration(), self.now):
            return
        chosen = calibration.sample(self.cells.values(), self.now)
        if chosen is None:
            return
        theirs = [event for event in self.api.events(chosen.since, chosen.until, chosen.types) if webhook.sends(event)]
        ours = self.ours.events_of([(chosen.since, chosen.until)], chosen.types)
        result = calibration.compare(chosen, theirs, ours, self.sent, self.metrics(chosen), self.now)
        self.verdicts.write_calibration(result)
        self.facts["calibration_failed"] = 0 if result["passed"] else 1
        logger.info("calibrated", extra={"passed": result["passed"], "events": result["events"]})

    def metrics(self, chosen: calibration.Sample) -> list[Metric]:
        """Of a whole hour; none if the key may not read metrics."""
        names = {
            kind: name for kind, name in (METRIC_OF_TYPE | DOUBTFUL_METRIC_OF_TYPE).items() if kind in chosen.types
        }
        if chosen.until - chosen.since != HOUR or not names:
            return []
        try:
            rows = self.api.metrics(chosen.since, chosen.until, "hour", sorted(names.values()))
        except (NoGrantError, UntrustedError) as error:
            logger.info("metrics not compared", extra={"reason": str(error)})
            return []
        return [Metric(kind, name, row.counts[name]) for row in rows for kind, name in names.items()]

    # --- Cells ---

    def judged(self, hour: datetime, kind: str, counted: Counted, known: Known) -> None:
        self.put(judge(hour, kind, counted, known, self.times, self.now, self.cells.get((hour, kind))))

    def put(self, cell: Cell) -> None:
        if self.cells.get((cell.hour, cell.type)) != cell:
            self.cells[(cell.hour, cell.type)] = cell
            self.changed.add(cell.hour)

    def unknown(self) -> None:
        """Hours that are due and were never counted: no verdict, and said so."""
        if "begins_at" not in self.state:
            return
        known = Known(datetime.fromisoformat(self.state["begins_at"]))
        judged = {hour for hour, _ in self.cells}
        for hour, _ in due(self.cells.values(), self.first_hour(known), self.now, self.times):
            if hour not in judged:
                self.judged(hour, ALL, Counted(0, None), known)

    def give_up_expired(self) -> None:
        for cell in list(self.cells.values()):
            self.put(expired(cell, self.now, self.times))
        begins_at = self.state.get("begins_at")
        if not begins_at:
            return
        hour = max(datetime.fromisoformat(begins_at), self.now - LOOK_BACK).replace(minute=0, second=0, microsecond=0)
        judged = {when for when, _ in self.cells}
        while self.times.expired(hour, self.now):
            if hour not in judged and hour >= self.now - LOOK_BACK:
                self.put(Cell(hour, ALL, State.EXPIRED, 0, None, TOTAL, self.now, note="was never counted"))
            hour += HOUR

    def write(self) -> None:
        """The state after the verdicts: a run that ends before it counts some cells again. PostgreSQL, which may be
        slow, last: a run that ends before hands them over again.
        """
        dates = {hour.date() for hour in self.changed}
        self.verdicts.write(self.cells.values(), dates)
        waiting = sorted({*self.state.get("to_hand_over", []), *map(str, dates)})
        self.state["to_hand_over"] = waiting
        self.state["failed"] = self.failed
        self.state["looked_at"] = self.now.isoformat()
        today = str(self.now.date())
        self.state["calls"] = {today: self.state.get("calls", {}).get(today, 0) + self.api.calls.spent}
        self.verdicts.write_state(self.state)
        cells = [cell for cell in self.cells.values() if str(cell.hour.date()) in waiting]
        if waiting and self.hand_over(cells):
            self.state["to_hand_over"] = []
            self.verdicts.write_state(self.state)

    # --- Metrics ---

    def measured(self) -> dict[str, Any]:
        cells = list(self.cells.values())
        begins_at = self.state.get("begins_at", self.now.isoformat())
        until = proved_until(cells, self.now) or min(datetime.fromisoformat(begins_at), self.now)
        old = [
            cell
            for cell in cells
            if cell.state in (State.GAP, State.UNKNOWN, State.LATE) and cell.hour < self.now - OLD
        ]
        facts: dict[str, Any] = {
            **self.facts,
            "missing_events": sum(cell.missing for cell in cells if cell.state is State.GAP),
            "surplus_events": sum(cell.strange for cell in cells if cell.state is State.SURPLUS),
            "unproved_old_hours": len({cell.hour for cell in old}),
            "calls": self.api.calls.spent,
        }
        # A key that never had the grant was not meant for this, and that is no alarm.
        if self.state["no_grant"] and not self.has_compared():
            return facts
        return facts | {"proof_age_seconds": max(0, round((self.now - until).total_seconds()))}

    def has_compared(self) -> bool:
        """Whether the key has had the grant: Bird has answered once."""
        return bool(self.verdicts.calibration()) or any(cell.theirs is not None for cell in self.cells.values())


def provable(webhook: Webhook) -> list[str]:
    """The webhook's types that the Events API has, with ids."""
    return sorted(kind for kind in webhook.types if kind in CLASS_OF_TYPE and kind not in UNPROVABLE)


def new_types(webhook: Webhook) -> list[str]:
    return sorted(kind for kind in set(webhook.types) if is_new(kind))


def is_new(kind: str) -> bool:
    """Whether Bird has a type that this version does not know."""
    return kind not in CLASS_OF_TYPE and kind not in UNPROVABLE and kind not in (ALL, NOT_KNOWN_HERE)


def gap_of(cell: Cell) -> str:
    return f"{cell.hour.isoformat()} {cell.type}"


def said(found: Filled) -> str:
    parts = [
        (found.stored, "stored"),
        (found.erased, "of erased persons left out"),
        (found.waiting, "fetched before and not rows yet"),
        (found.held.total(), "held"),
    ]
    return ", ".join(f"{number} {what}" for number, what in parts if number)
