"""One run over an account and a lake that are lists: what is counted, judged, filled, warned of, and remembered."""

import io
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from reconcile import calibration
from reconcile.app import Raw
from reconcile.as_webhook import CLASS_OF_TYPE, Event, element
from reconcile.cells import Times
from reconcile.counting import Here, Whose
from reconcile.events_api import (
    BatchStatus,
    CallsSpentError,
    MetricsRow,
    NoAnswerError,
    NoGrantError,
    RefusedError,
    UntrustedError,
    Webhook,
)
from reconcile.filling import Filled
from reconcile.proved import ALL, State, proved_until, sentence
from reconcile.rounds import Bounds, Round
from reconcile.verdicts import Verdicts

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
TEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
SETTLED = TEN + HOUR + timedelta(hours=9, minutes=10)
TYPES = ("bounce", "delivery", "open", "relay_delivery", "sms_status")


class Memory(dict):
    def read(self, key):
        return self.get(key)

    def write(self, key, body):
        self[key] = body


def event(event_id, at, kind="delivery"):
    fields = {
        "type": kind,
        "event_id": str(event_id),
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
        "customer_id": "1",
        "rcpt_to": "one@example.com",
    }
    return Event.of({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()})


@dataclass
class Bird:
    """The account's events, and what was asked of it."""

    has: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    fails: Exception | None = None
    fails_after: int = 10_000
    bad: list = field(default_factory=list)  # hours and types with an event in an unknown form in their middle
    refuses: str = ""  # a type
    asked: list = field(default_factory=list)
    types: tuple = TYPES
    account: str | None = None
    counts: dict | None = None  # of the Metrics API; None: the key may not read them
    calls: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(spent=0))

    def spend(self, what):
        self.asked.append(what)
        self.calls.spent += 1
        if self.fails and len(self.asked) > self.fails_after:
            raise self.fails

    def webhook(self, webhook_id):
        self.asked.append("webhook")
        return Webhook(webhook_id, self.types)

    def batch_status(self, webhook_id):
        self.asked.append("batch status")
        if isinstance(self.statuses, Exception):
            raise self.statuses
        return self.statuses

    def check(self, since, until, types):
        if any(since <= hour + HOUR / 2 < until and kind in types for hour, kind in self.bad):
            raise UntrustedError("an event without an id")

    def within(self, since, until, types):
        return [one for one in self.has if since <= one.at < until and one.type in types]

    def count_sent(self, webhook, since, until, types):
        self.spend(("count", since, tuple(types)))
        if self.refuses in types:
            raise RefusedError(400, "Invalid event")
        found = self.within(since, until, types)
        if found:
            self.account = found[0].customer_id
        return len(found)

    def events(self, since, until, types, subaccounts=None):
        self.spend(("events", since, tuple(types)))
        self.check(since, until, types)
        yield from self.within(since, until, types)

    def metrics(self, since, until, precision, metrics):
        self.spend(("metrics", since, precision))
        if self.counts is None:
            raise NoGrantError("Metrics: Read-only")
        return [MetricsRow(since, {name: self.counts.get(name, 0) for name in metrics})]


@dataclass
class Lake:
    """Our events, as (id, second, type)."""

    has: list = field(default_factory=list)
    of_others: list = field(default_factory=list)  # of another account
    by_hand: set = field(default_factory=set)  # ids that the webhook did not bring
    whose: Whose = field(default_factory=Whose)
    statements: int = 0

    def all(self):
        return set(self.has if self.whose.account == "1" else self.has + self.of_others)

    def counts_of(self, windows, *, by_webhook=False):
        self.statements += 1
        return Counter(
            (at.replace(minute=0, second=0), kind)
            for event_id, at, kind in self.all()
            if any(since <= at < until for since, until in windows) and not (by_webhook and event_id in self.by_hand)
        )

    def events_of(self, windows, types):
        self.statements += 1
        return [
            Here(CLASS_OF_TYPE.get(kind, "x"), kind, str(event_id), at, "batch")
            for event_id, at, kind in self.all()
            if kind in types and any(since <= at < until for since, until in windows)
        ]


@dataclass
class World:
    bird: Bird = field(default_factory=Bird)
    lake: Lake = field(default_factory=Lake)
    files: Memory = field(default_factory=Memory)
    held: str | None = None
    stored: set = field(default_factory=set)
    erased: set = field(default_factory=set)
    fills: list = field(default_factory=list)
    fill_helps: bool = True
    handed_over: list = field(default_factory=list)
    postgres_answers: bool = True
    begins_at: datetime | None = TEN  # None: the run finds it out

    def happened(self, *events, lost=(), kind="delivery"):
        for event_id, at in events:
            self.bird.has.append(event(event_id, at, kind))
            if event_id not in lost:
                self.lake.has.append((event_id, at, kind))

    def calibrated(self):
        Verdicts(self.files).write_calibration({"passed": True, "at": TEN.isoformat()})
        return self

    def fill(self, since, until, types, events):
        self.fills.append((since, until, tuple(types), events))
        self.bird.check(since, until, types)
        here = {str(event_id) for event_id, _, _ in self.lake.has}
        absent = [one for one in self.bird.within(since, until, types) if one.event_id not in here]
        erased = [one for one in absent if one.event_id in self.erased]
        new = [one for one in absent if one not in erased][:events]
        if self.fill_helps:
            self.lake.has += [(one.event_id, one.at, one.type) for one in new]
        return Filled(len(new), 1 if new else 0, len(erased), left=len(new) == events)

    def hand_over(self, cells):
        self.handed_over.append([(cell.hour, cell.type) for cell in cells])
        return self.postgres_answers

    def run(self, now=SETTLED, **more):
        verdicts = Verdicts(self.files)
        if self.begins_at and not verdicts.state():
            begins = self.begins_at.isoformat()
            verdicts.write_state({"begins_at": begins, "types_since": dict.fromkeys(self.bird.types, begins)})
        one = Round(
            self.bird,
            self.lake,
            verdicts,
            self.fill,
            lambda here: {
                "type": here.type,
                "event_id": here.event_key,
                "timestamp": str(int(here.at.timestamp())),
                "customer_id": "1",
                "rcpt_to": "one@example.com",
            },
            lambda batch_id: batch_id in self.stored,
            lambda: self.held,
            self.hand_over,
            "webhook",
            now,
            **more,
        )
        return one.run()

    def cell(self, hour=TEN, kind="delivery"):
        return Verdicts(self.files).cells(TEN - 300 * HOUR, TEN + 300 * HOUR).get((hour, kind))

    def cells(self):
        return list(Verdicts(self.files).cells(TEN - 300 * HOUR, TEN + 300 * HOUR).values())

    def state(self):
        return Verdicts(self.files).state()


def at(minute, second=0, hour=0):
    return TEN + timedelta(hours=hour, minutes=minute, seconds=second)


def test_a_settled_hour_is_proved_type_by_type():
    world = World()
    world.happened((1, at(0)), (2, at(5)))
    world.happened((3, at(5)), kind="open")
    world.run()
    states = {cell.type: (cell.state, cell.ours) for cell in world.cells() if cell.hour == TEN}
    assert states == {
        "bounce": (State.PROVED, 0),
        "delivery": (State.PROVED, 2),
        "open": (State.PROVED, 1),
    }
    assert sentence(world.cells(), SETTLED) == "proved complete until 25 November, 11:00 UTC"


def test_hours_that_are_not_settled_are_counted_as_a_whole():
    world = World()
    world.happened((1, at(0, hour=3)), (2, at(1, hour=4)), lost=[2])
    world.run()
    assert world.cell(TEN + 3 * HOUR, ALL).state == State.PROVISIONAL
    assert world.cell(TEN + 4 * HOUR, ALL).state == State.LATE
    assert world.fills == []


def test_rows_of_types_that_cannot_be_proved_are_shown_and_hold_nothing_up():
    world = World()
    world.lake.has = [
        (1, at(0), "relay_delivery"),
        (2, at(0), "sms_status"),
        (3, at(0), "made_up"),
        (4, at(0), "made_up2"),
    ]
    world.bird.has = [event(9, at(0, hour=9))]
    world.run()
    found = {cell.type: (cell.state, cell.ours) for cell in world.cells() if cell.state is State.UNPROVABLE}
    assert found == {
        "relay_delivery": (State.UNPROVABLE, 1),
        "sms_status": (State.UNPROVABLE, 1),
        "other types": (State.UNPROVABLE, 2),
    }
    assert proved_until(world.cells(), SETTLED) == TEN + HOUR


def test_a_type_of_the_webhook_that_is_not_known_here_is_not_proved_and_is_an_alarm():
    world = World(bird=Bird(types=("delivery", "brand_new")))
    world.happened((1, at(0)))
    world.happened((2, at(0)), (3, at(1)), (4, at(2)), kind="brand_new", lost=[3, 4])
    facts = world.run()
    found = world.cell(kind="brand_new")
    assert (found.state, found.ours, found.theirs, found.missing) == (State.UNKNOWN, 1, 3, 2)
    assert found.note == "a type that this version does not know"
    assert facts["events_held"] == 2
    assert world.cell().state == State.PROVED
    assert sentence(world.cells(), SETTLED) == "nothing is proved yet; not known to this version: brand_new"
    world.bird.asked.clear()
    world.run(SETTLED + timedelta(minutes=59))
    assert [what for what in world.bird.asked if what[1:2] == (TEN,)] == []


def test_a_new_type_that_the_events_api_does_not_know_either_is_not_proved():
    world = World(bird=Bird(types=("delivery", "brand_new")))
    world.happened((1, at(0)))
    world.bird.refuses = "brand_new"
    facts = world.run()
    assert (world.cell(kind="brand_new").state, world.cell(kind="brand_new").theirs) == (State.UNKNOWN, None)
    assert "access_failures" not in facts


def test_a_lost_batch_is_a_gap_and_is_filled_and_counted_again():
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(5)), (3, at(6)), lost=[2, 3])
    facts = world.run()
    assert (world.cell().state, world.cell().missing) == (State.GAP, 2)
    assert world.fills == [(TEN, TEN + HOUR, ("delivery",), 200_000)]
    assert (facts["missing_events"], facts["filled_events"]) == (2, 2)
    facts = world.run(SETTLED + HOUR)
    assert (world.cell().state, world.cell().filled) == (State.FILLED, 2)
    assert facts["missing_events"] == 0
    assert len(world.fills) == 1


def test_nothing_is_filled_before_calibration_has_passed():
    world = World()
    world.happened((1, at(0)), lost=[1])
    facts = world.run()
    assert world.cell().state == State.GAP
    assert (world.fills, facts["waits_for_calibration"]) == ([], 1)


def test_calibration_of_a_calm_hour_lets_the_gaps_of_the_same_run_be_filled():
    world = World()
    world.happened((1, at(0)), lost=[1])
    world.happened((2, at(0, hour=1)), (3, at(1, hour=1)))
    world.run(SETTLED + HOUR)
    assert Verdicts(world.files).calibration()["passed"] is True
    assert len(world.fills) == 1


def test_filling_that_does_not_help_is_counted():
    world = World(fill_helps=False).calibrated()
    world.happened((1, at(0)), lost=[1])
    world.run()
    facts = world.run(SETTLED + HOUR)
    assert facts["filling_did_not_help"] == 1
    assert world.cell().state == State.GAP


def test_an_erased_person_does_not_return_and_is_no_gap():
    world = World(erased={"1"}).calibrated()
    world.happened((1, at(0)), (2, at(1)), lost=[1])
    facts = world.run()
    assert world.cell().state == State.ERASED
    assert facts["erased_left_out"] == 1
    world.run(SETTLED + HOUR)
    assert (world.cell().state, len(world.fills)) == (State.ERASED, 1)


def test_a_forged_event_is_a_surplus_and_is_never_proved():
    world = World()
    world.happened((1, at(0)))
    world.lake.has.append(("forged", at(1), "delivery"))
    facts = world.run()
    assert (world.cell().state, world.cell().strange) == (State.SURPLUS, 1)
    assert facts["surplus_events"] == 1
    assert proved_until(world.cells(), SETTLED) is None


def test_events_of_another_account_are_no_surplus_and_hide_no_loss():
    world = World()
    world.happened((1, at(0)), (2, at(1)), lost=[2])
    world.lake.of_others.append(("other", at(1), "delivery"))
    world.run()
    found = world.cell()
    assert (found.ours, found.theirs, found.state, found.missing, found.strange) == (1, 2, State.GAP, 1, 0)


def test_a_loss_hidden_by_a_forged_event_is_not_proved():
    world = World()
    world.happened((1, at(0)), (2, at(1)), lost=[2])
    world.lake.has.append(("forged", at(1), "delivery"))
    world.run()
    found = world.cell()
    assert (found.ours, found.theirs, found.state, found.missing, found.strange) == (2, 2, State.GAP, 1, 1)


def test_a_shift_between_two_hours_is_no_gap():
    world = World()
    world.happened((1, at(1)), (2, at(1, hour=1)))
    world.bird.has.append(event(3, at(59, 59)))
    world.lake.has.append((3, at(0, 0, hour=1), "delivery"))
    world.run(SETTLED + HOUR)
    assert {world.cell(TEN + number * HOUR).state for number in (0, 1)} == {State.PROVED}


def test_a_shift_between_two_large_hours_is_no_gap():
    world = World()
    world.happened(
        *((number, at(1)) for number in range(1500)), *((number, at(1, hour=1)) for number in range(1500, 3000))
    )
    world.bird.has.append(event("x", at(59, 59)))
    world.lake.has.append(("x", at(0, 0, hour=1), "delivery"))
    world.run(SETTLED + HOUR)
    first, second = (world.cell(TEN + number * HOUR) for number in (0, 1))
    assert (first.state, first.note, first.proof) == (State.PROVED, "-1 at the edge of the hour", "count")
    assert (second.state, second.note) == (State.PROVED, "+1 at the edge of the hour")


def test_a_large_gap_beside_a_large_surplus_is_no_shift():
    world = World()
    world.happened(
        *((number, at(1)) for number in range(1500)),
        *((number, at(1, hour=1)) for number in range(1500, 3000)),
        lost=[7],
    )
    world.lake.has.append(("forged", at(2, hour=1), "delivery"))
    world.run(SETTLED + HOUR)
    assert [world.cell(TEN + number * HOUR).state for number in (0, 1)] == [State.GAP, State.SURPLUS]


def test_while_bird_does_not_answer_no_verdict_moves():
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(1)), lost=[2])
    world.happened((3, at(0)), kind="open")
    world.run()
    before = {cell.type: cell for cell in world.cells() if cell.hour == TEN}
    world.bird.fails, world.bird.fails_after = NoAnswerError("HTTP 503"), 0
    facts = {}
    for number in range(1, 7):
        facts = world.run(SETTLED + number * HOUR)
    after = {cell.type: cell for cell in world.cells() if cell.hour == TEN}
    assert after == before
    assert facts["no_answer"] == 5
    assert world.cell(TEN + 9 * HOUR, ALL).state in (State.PROVISIONAL, State.UNKNOWN)


def test_an_hour_that_was_never_counted_is_unknown_and_counted_when_bird_answers_again():
    world = World()
    world.happened((1, at(0)))
    world.bird.fails, world.bird.fails_after = NoAnswerError("HTTP 503"), 0
    world.run()
    assert world.cell(kind=ALL).state == State.UNKNOWN
    world.bird.fails = None
    world.run(SETTLED + HOUR)
    assert world.cell().state == State.PROVED
    assert world.cell(kind=ALL) is None


def test_an_index_that_is_empty_by_a_fault_is_no_answer():
    world = World()
    world.lake.has = [(1, at(0), "delivery")]
    facts = world.run()
    assert world.cell().state == State.UNKNOWN
    assert facts["no_answer"] == 1


def test_an_index_that_is_empty_by_a_fault_proves_nothing_where_nothing_is_here():
    world = World()
    facts = world.run(SETTLED + HOUR)
    assert {cell.state for cell in world.cells() if cell.type != ALL} == {State.UNKNOWN}
    assert sentence(world.cells(), SETTLED).startswith("nothing is proved yet")
    assert facts["no_answer"] > 0
    asked = [what for what in world.bird.asked if what[0] == "count" and what[1] == SETTLED + HOUR - timedelta(days=9)]
    assert len(asked) == 1


def test_a_sender_that_is_silent_for_longer_than_bird_keeps_events_is_proved_by_the_metrics():
    world = World(Bird(counts={}))
    facts = world.run(SETTLED + HOUR)
    assert {cell.state for cell in world.cells() if cell.type != ALL} == {State.PROVED}
    assert sentence(world.cells(), SETTLED) == "proved complete until 25 November, 12:00 UTC"
    assert "no_answer" not in facts
    asked = [what for what in world.bird.asked if what[0] == "metrics"]
    assert asked == [("metrics", TEN + 11 * HOUR - timedelta(days=10), "hour")]


def test_an_index_that_is_empty_although_the_metrics_count_mail_proves_nothing():
    world = World(Bird(counts={"count_delivered": 1}))
    world.run(SETTLED + HOUR)
    assert {cell.state for cell in world.cells() if cell.type != ALL} == {State.UNKNOWN}


def test_mail_of_any_type_and_subaccount_shows_that_the_index_is_not_empty():
    """A webhook of bounces only, and none for nine days."""
    world = World(Bird(types=("bounce",)))
    world.bird.has.append(event(1, at(0)))
    world.run()
    assert world.cell(kind="bounce").state == State.PROVED


def test_a_weekend_without_events_is_proved():
    world = World(begins_at=TEN - 70 * HOUR)
    world.happened((1, at(0, hour=-70)))
    world.run()
    world.run()
    assert world.cell().state == State.PROVED


def test_an_index_that_is_empty_on_day_two_confirms_nothing():
    world = World(begins_at=TEN - HOUR)
    world.happened((1, at(0, hour=-1)))
    world.run()
    world.bird.has.clear()
    world.run(TEN + HOUR + timedelta(days=2))
    assert (world.cell().state, world.cell().stage) == (State.PROVED, "types")


def test_nothing_is_judged_while_process_has_work():
    world = World(held="2 dead letters")
    world.happened((1, at(0)), lost=[1])
    facts = world.run()
    assert world.cells() == []
    assert facts["held_by_process"] == 1
    assert world.state()["held_by"] == "2 dead letters"


def test_a_missing_grant_is_named_and_no_alarm():
    world = World()
    world.bird.fails, world.bird.fails_after = NoGrantError("Events Search: Read-only"), 0
    facts = world.run()
    assert world.state()["no_grant"] == "Events Search: Read-only"
    assert not facts["access_failures"]
    assert "no_answer" not in facts
    assert "proof_age_seconds" not in facts


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_grant_that_was_taken_away_is_an_alarm(calibrated):
    world = World()
    world.happened((1, at(0)))
    if calibrated:
        world.calibrated()
    else:
        world.run()
    world.bird.fails, world.bird.fails_after = NoGrantError("Events Search: Read-only"), 0
    facts = world.run(SETTLED + timedelta(days=2))
    assert facts["access_failures"] == 1
    assert facts["proof_age_seconds"] > 36 * 3600


def test_an_answer_that_cannot_be_trusted_moves_no_verdict():
    world = World()
    world.happened((1, at(0)))
    world.run()
    before = world.cells()
    world.bird.fails, world.bird.fails_after = UntrustedError("a next page at another host"), 0
    facts = world.run(SETTLED + timedelta(days=2))
    assert facts["access_failures"] == 5
    assert [cell for cell in world.cells() if cell.hour == TEN] == [cell for cell in before if cell.hour == TEN]


def test_a_gap_that_cannot_be_fetched_keeps_no_other_from_its_turn():
    world = World().calibrated()
    world.happened(*((number, at(30, hour=number)) for number in range(7)), lost=range(7))
    world.happened((9, at(30)), kind="open")
    world.run(SETTLED + 6 * HOUR, bounds=Bounds(events_a_run=0))
    world.bird.bad = [(TEN, "delivery")]
    facts = world.run(SETTLED + 6 * HOUR + timedelta(minutes=15))
    assert facts["access_failures"] == 1
    assert facts["filled_events"] == 6
    world.fills.clear()
    world.run(SETTLED + 7 * HOUR)
    assert [world.cell(TEN + number * HOUR).state for number in (0, 1, 6)] == [State.GAP, State.FILLED, State.FILLED]
    assert world.fills == [(TEN, TEN + HOUR, ("delivery",), 200_000)]


def test_many_gaps_that_cannot_be_fetched_let_the_hours_be_counted():
    world = World().calibrated()
    world.happened(*((number, at(30, hour=number)) for number in range(12)), lost=range(12))
    world.run(SETTLED + 11 * HOUR, bounds=Bounds(events_a_run=0))
    world.bird.bad = [(TEN + number * HOUR, "delivery") for number in range(12)]
    for quarter in range(1, 5):
        world.run(SETTLED + 11 * HOUR + quarter * timedelta(minutes=15))
    assert world.cell(TEN + 12 * HOUR).state == State.PROVED
    assert set(world.fills) == {
        (TEN + number * HOUR, TEN + (number + 1) * HOUR, ("delivery",), 200_000) for number in range(12)
    }


def test_a_type_that_cannot_be_compared_is_unknown_and_the_others_of_its_hour_and_the_later_hours_are_judged():
    world = World()
    world.happened((1, at(30)), (2, at(30, hour=1)))
    world.happened((3, at(30)), (4, at(40)), kind="open", lost=[4])
    world.bird.bad = [(TEN, "delivery")]
    facts = world.run(SETTLED + HOUR)
    assert (world.cell().state, world.cell(kind="open").state) == (State.UNKNOWN, State.GAP)
    assert world.cell(TEN + HOUR).state == State.PROVED
    assert facts["access_failures"] == 1
    world.bird.bad = []
    world.run(SETTLED + HOUR + timedelta(minutes=15))
    assert world.cell().state == State.PROVED


def test_a_type_that_cannot_be_compared_on_day_two_is_compared_later():
    world = World()
    world.happened((1, at(30)))
    world.run()
    world.bird.bad = [(TEN, "delivery")]
    world.bird.has.append(event(2, at(31)))
    world.run(TEN + HOUR + timedelta(days=2))
    assert world.cell().state == State.PROVED
    world.bird.bad = []
    for quarter in range(1, 3):
        world.run(TEN + HOUR + timedelta(days=2) + quarter * timedelta(minutes=15))
    assert (world.cell().state, world.cell().missing) == (State.GAP, 1)


def test_a_key_that_is_refused_ends_the_run_at_once():
    world = World()
    world.bird.fails, world.bird.fails_after = RefusedError(401, "Unauthorized."), 0
    facts = world.run(SETTLED + 6 * HOUR)
    assert (facts["access_failures"], facts["calls"]) == (1, 1)
    assert world.state()["refused"] == "Unauthorized. (HTTP 401)"


def test_failures_in_a_row_end_the_run():
    world = World()
    world.bird.fails, world.bird.fails_after = NoAnswerError("HTTP 503"), 0
    facts = world.run(SETTLED + 20 * HOUR)
    assert (facts["no_answer"], facts["calls"]) == (5, 5)


def test_a_run_that_is_cut_goes_on():
    world = World()
    for number in range(6):
        world.happened((number, at(0, hour=number)))
    world.bird.fails, world.bird.fails_after = CallsSpentError("12 calls are spent"), 12
    facts = world.run(SETTLED + 6 * HOUR)
    assert facts["bounds_reached"] == 1
    done = proved_until(world.cells(), SETTLED)
    assert TEN < done < TEN + 6 * HOUR
    for _ in range(8):
        world.bird.asked.clear()
        world.run(SETTLED + 6 * HOUR)
    assert proved_until(world.cells(), SETTLED) == TEN + 7 * HOUR


def test_filling_is_bounded_and_goes_on():
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(1)), (3, at(2)), lost=[1, 2, 3])
    facts = world.run(bounds=Bounds(events_a_run=2))
    assert (facts["filled_events"], facts["bounds_reached"]) == (2, 1)
    facts = world.run(SETTLED + HOUR, bounds=Bounds(events_a_run=2))
    assert facts["filled_events"] == 1
    world.run(SETTLED + 2 * HOUR)
    assert world.cell().state == State.FILLED


def test_filling_is_bounded_by_the_day():
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(1)), lost=[1, 2])
    world.run(bounds=Bounds(events_a_day=1))
    assert world.state()["filled"] == {"2026-11-25": 1}
    facts = world.run(SETTLED + HOUR, bounds=Bounds(events_a_day=1))
    assert (facts.get("filled_events", 0), facts["bounds_reached"]) == (0, 1)


def test_a_run_by_hand_beside_a_scheduled_one_does_no_harm():
    """Each writes what it knows; what one overwrites, the next run counts again."""
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(1)), (3, at(0, hour=1)), (4, at(1, hour=1)), lost=[2, 4])
    fill = world.fill

    def fill_while_another_runs(*given):
        world.fill = fill
        world.run(SETTLED + HOUR + SECOND)
        return fill(*given)

    world.fill = fill_while_another_runs
    world.run(SETTLED + HOUR)
    world.run(SETTLED + 2 * HOUR)
    assert sorted(int(event_id) for event_id, _, _ in world.lake.has) == [1, 2, 3, 4]
    assert {cell.state for cell in world.cells() if cell.type == "delivery"} <= {State.PROVED, State.FILLED}
    assert world.state()["begins_at"] == TEN.isoformat()


def test_the_oldest_gaps_are_filled_first():
    world = World().calibrated()
    world.happened((1, at(0)), (2, at(0, hour=1)), lost=[1, 2])
    world.run(SETTLED + HOUR)
    assert [since for since, *_ in world.fills] == [TEN, TEN + HOUR]


def test_day_two_takes_one_call_where_nothing_has_changed():
    world = World()
    world.happened((1, at(0)))
    world.run()
    world.bird.asked.clear()
    world.run(TEN + HOUR + timedelta(days=2))
    assert [what for what in world.bird.asked if what[0] == "count" and what[1] == TEN] == [
        ("count", TEN, ("bounce", "delivery", "open"))
    ]
    assert (world.cell().stage, world.cell().state) == ("day 2", State.PROVED)


def test_birds_own_backlog_is_found_on_day_two():
    world = World()
    world.happened((1, at(0)))
    world.run()
    world.happened((2, at(1)), lost=[2])
    world.run(TEN + HOUR + timedelta(days=2))
    assert (world.cell().state, world.cell().missing) == (State.GAP, 1)


def test_the_number_of_calls_does_not_grow_with_the_number_of_events():
    numbers = []
    for events in (1, 900):
        world = World()
        world.happened(*((number, at(number % 60)) for number in range(events)))
        world.run(TEN + HOUR + timedelta(hours=9, minutes=10))
        numbers.append(world.bird.calls.spent)
    assert numbers[0] == numbers[1]


def test_a_run_asks_two_statements():
    world = World().calibrated()
    world.happened(*((number, at(number)) for number in range(5)))
    world.run()
    assert world.lake.statements == 2


def test_what_was_not_proved_in_ten_days_is_expired_and_holds_nothing_up():
    world = World(fill_helps=False)
    world.happened((1, at(0)), (2, at(0, hour=1)), lost=[1])
    world.run(SETTLED + HOUR)
    world.run(TEN + timedelta(days=10, hours=2))
    assert world.cell().state == State.EXPIRED
    assert "1 event is missing for good in 1 hour" in sentence(world.cells(), TEN + timedelta(days=10, hours=2))


def test_the_first_run_begins_with_the_first_whole_hour_that_has_events():
    world = World(begins_at=None)
    world.happened((1, at(30)), (2, at(10, hour=1)))
    one = world.run(SETTLED + HOUR)
    assert one["proof_age_seconds"] == int((SETTLED + HOUR - (TEN + 2 * HOUR)).total_seconds())
    assert world.state()["begins_at"] == (TEN + HOUR).isoformat()


def test_imported_events_do_not_begin_the_time_that_is_compared():
    """Between them and the webhook's first event nothing was sent here, which is no gap."""
    world = World(begins_at=None).calibrated()
    world.happened((1, at(30, hour=-50)), (2, at(10, hour=-30)), (3, at(30)), (4, at(10, hour=1)), lost=[2])
    world.lake.by_hand = {1}
    world.run(SETTLED + HOUR)
    assert world.state()["begins_at"] == (TEN + HOUR).isoformat()
    assert world.fills == []
    assert {cell.state for cell in world.cells() if cell.hour < TEN + HOUR} <= {State.BEFORE}


def test_a_type_that_the_webhook_gets_later_is_compared_from_then_on():
    world = World(begins_at=TEN - 2 * HOUR)
    world.happened((1, at(0)))
    world.run()
    world.bird.types = (*TYPES, "click")
    world.bird.has.append(event(5, at(3), "click"))
    world.run(TEN + HOUR + timedelta(days=2))
    assert world.cell(kind="click").state == State.BEFORE


def test_a_gap_of_a_type_that_the_webhook_does_not_send_any_more_is_left():
    world = World()
    world.happened((1, at(0)), lost=[1])
    world.run()
    assert world.cell().state == State.GAP
    world.bird.types = tuple(kind for kind in TYPES if kind != "delivery")
    world.run(SETTLED + HOUR)
    assert (world.cell().state, world.cell().note) == (State.UNPROVABLE, "not among the types of the webhook")


def test_what_is_proved_of_a_type_that_the_webhook_does_not_send_any_more_stays():
    world = World()
    world.happened((1, at(0)))
    world.run()
    world.bird.types = tuple(kind for kind in TYPES if kind != "delivery")
    world.run(TEN + HOUR + timedelta(days=2))
    assert (world.cell().state, world.cell(kind="open").stage) == (State.PROVED, "day 2")


def test_the_hour_in_which_the_webhook_gets_a_type_has_no_gap():
    world = World(begins_at=TEN - 2 * HOUR).calibrated()
    world.run(at(15))
    world.bird.types = (*TYPES, "click")  # at 10:20
    world.happened((1, at(5)), (2, at(40)), (3, at(0, hour=1)), lost=[1, 3], kind="click")
    world.run(at(30))
    world.run(SETTLED + HOUR)
    assert (world.cell(kind="click").state, world.cell(TEN + HOUR, "click").state) == (State.BEFORE, State.GAP)
    assert [since for since, *_ in world.fills] == [TEN + HOUR]


def test_a_gap_that_waits_for_calibration_is_not_proved_when_bird_forgets_what_was_missing():
    world = World()
    world.happened(*[(number, at(0)) for number in range(1500)], lost=range(5))
    world.run()
    del world.bird.has[:5]
    facts = world.run(SETTLED + HOUR)
    assert (world.cell().state, world.cell().missing, facts["missing_events"]) == (State.GAP, 5, 5)


def test_verdicts_that_postgresql_did_not_take_are_handed_over_again():
    world = World(postgres_answers=False)
    world.happened((1, at(0)))
    world.run()
    assert world.state()["to_hand_over"] == ["2026-11-25"]
    world.postgres_answers = True
    world.run(SETTLED + timedelta(minutes=15))
    assert (TEN, "delivery") in world.handed_over[-1]
    assert world.state()["to_hand_over"] == []


def test_a_run_that_ends_while_it_hands_over_has_kept_what_it_knows():
    world = World()
    world.happened((1, at(0)))
    world.hand_over = lambda cells: sys.exit("out of time")
    with pytest.raises(SystemExit):
        world.run()
    assert world.state()["looked_at"] == SETTLED.isoformat()
    assert world.state()["to_hand_over"] == ["2026-11-25"]


def test_what_was_imported_from_before_the_webhook_is_compared_and_proved_too():
    world = World(begins_at=TEN + 3 * HOUR)
    world.happened((1, at(0)), (2, at(0, hour=1)), lost=[2])
    world.run(SETTLED + 3 * HOUR)
    assert world.cell() is None
    Verdicts(world.files).write_imported(TEN - timedelta(minutes=20))
    world.run(SETTLED + 3 * HOUR)
    assert (world.cell().state, world.cell(TEN + HOUR).state) == (State.PROVED, State.GAP)
    assert world.state()["begins_at"] == (TEN + 3 * HOUR).isoformat()


# --- Early warning ---


def status(batch_id="b", attempts=3, code="413", age=HOUR):
    return BatchStatus(batch_id, SETTLED - age, attempts, code, "", 350)


def test_a_batch_that_failed_three_times_is_warned_of_with_birds_code():
    world = World()
    world.bird.statuses = [status(), status("c", attempts=2)]
    facts = world.run()
    assert facts["batches_failing"] == 1
    assert world.state()["failing"] == [{"batch_id": "b", "attempts": 3, "code": "413"}]


@pytest.mark.parametrize("error", [UntrustedError("in a form that is not known"), RefusedError(404, "Not found")])
def test_a_status_of_batches_that_cannot_be_used_is_an_alarm_and_keeps_no_event_from_being_counted(error):
    world = World(Bird(statuses=error))
    world.happened((1, at(0)))
    facts = world.run()
    assert (world.cell().state, facts["access_failures"]) == (State.PROVED, 1)
    assert world.state()["refused"] == str(error)


def test_a_batch_that_bird_calls_delivered_and_that_is_not_here_is_lost():
    world = World(stored={"here"})
    world.bird.statuses = [status("here", 1, "200"), status("gone", 1, "200")]
    facts = world.run()
    assert facts["batches_lost"] == 1
    assert world.state()["lost"][0]["batch_id"] == "gone"


@pytest.mark.parametrize(("attempts", "age"), [(12, HOUR), (5, timedelta(hours=8))])
def test_the_minutes_of_a_batch_that_bird_gave_up_are_fetched_at_once(attempts, age):
    world = World(begins_at=TEN + 9 * HOUR).calibrated()
    made = SETTLED - age
    world.happened((1, made - timedelta(minutes=2)), lost=[1])
    world.bird.statuses = [status("b", attempts, "503", age)]
    facts = world.run()
    assert (facts["batches_given_up"], facts["filled_events"]) == (1, 1)
    minute = made.replace(second=0)
    assert world.fills[0][:2] == (minute - timedelta(minutes=15), minute + timedelta(minutes=1))
    world.run(SETTLED + timedelta(minutes=15))
    assert len(world.fills) == 1


def test_a_batch_that_is_here_is_not_given_up_whatever_bird_thinks():
    world = World(stored={"b"})
    world.bird.statuses = [status("b", 12, "timeout")]
    assert world.run()["batches_given_up"] == 0


# --- Calibration ---


def calibrated(theirs, ours, sent=None):
    chosen = calibration.Sample(TEN, TEN + HOUR, ("delivery",))
    plain = {
        "type": "delivery",
        "timestamp": str(int(TEN.timestamp())),
        "customer_id": "1",
        "rcpt_to": "one@example.com",
    }
    return calibration.compare(
        chosen, theirs, ours, sent or (lambda here: {**plain, "event_id": here.event_key}), [], SETTLED
    )


def here(event_id=1, when=TEN):
    return Here("message_event", "delivery", str(event_id), when, "b")


def test_equal_events_pass():
    result = calibrated([event(1, TEN)], [here()])
    assert result["passed"] is True
    assert calibration.in_words(result) == "passed with 1 events of 2026-11-25 10:00 UTC"


@pytest.mark.parametrize(
    ("theirs", "ours", "name"),
    [
        ([event(1, TEN), event(2, TEN)], [here()], "only_at_bird"),
        ([event(1, TEN)], [here(), here(2)], "only_here"),
        ([event(1, TEN)], [here(when=TEN + SECOND)], "other_second"),
    ],
)
def test_what_differs_does_not_pass(theirs, ours, name):
    result = calibrated(theirs, ours)
    assert (result["passed"], result[name]) == (False, 1)


def test_a_field_with_another_value_does_not_pass_and_is_named():
    sent = {"type": "delivery", "event_id": "1", "timestamp": str(int(TEN.timestamp())), "customer_id": "1"}
    result = calibrated([event(1, TEN)], [here()], lambda one: {**sent, "rcpt_to": "two@example.com"})
    assert (result["passed"], result["fields_different"]) == (False, {"rcpt_to": 1})
    assert "NOT passed" in calibration.in_words(result)
    assert "rcpt_to" in calibration.in_words(result)


@pytest.mark.parametrize("value", [b"1e999", b"1" * 5000, b'"caf\xe9"', rb'"\ud83d cut"'])
def test_numbers_of_any_size_and_what_is_no_text_are_compared(value):
    fields = event(1, TEN).fields
    odd = replace(event(1, TEN), fields={**fields, "rcpt_meta": msgspec.Raw(b'{"n":%b}' % value)})
    batch = b"[%b]" % element(odd)
    raw = Raw(SimpleNamespace(get_object=lambda **names: {"Body": io.BytesIO(batch)}), "raw-bucket", "raw")
    assert calibrated([odd], [here()], raw.sent)["passed"] is True


def test_nothing_is_established_by_events_whose_raw_batches_are_gone():
    assert calibrated([event(1, TEN)], [here()], lambda one: None)["passed"] is False


def test_a_calm_hour_is_chosen_and_of_a_busy_one_a_part():
    world = World()
    world.happened((1, at(0)), (2, at(0, hour=1)), lost=[1])
    world.run(SETTLED + HOUR)
    cells = world.cells()
    assert calibration.sample(cells, SETTLED + HOUR) == (TEN + HOUR, TEN + 2 * HOUR, ("delivery",))
    busy = [replace(cell, ours=10_000, theirs=10_000) if cell.type == "delivery" else cell for cell in cells]
    assert calibration.sample(busy, SETTLED + HOUR).until == TEN + HOUR + timedelta(minutes=30)


def test_calibration_is_weekly_and_daily_until_it_passes():
    assert calibration.is_due({}, SETTLED)
    for passed, days, due in [(True, 6, False), (True, 7, True), (False, 1, True), (False, 0, False)]:
        last = {"passed": passed, "at": (SETTLED - timedelta(days=days)).isoformat()}
        assert calibration.is_due(last, SETTLED) is due


def test_times_are_those_of_the_documentation():
    assert (Times().total, Times().types) == (timedelta(minutes=80), timedelta(hours=9, minutes=10))
