"""Runs of the comparison with Bird against a stand-in that records a sender's ledger: the ledger judges."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.simulator import bird_api
from bird_webhooks.simulator.batches import Batch, BatchMaker, as_batch
from bird_webhooks.simulator.bird_events import Misbehaviour
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP, Ledger
from bird_webhooks.simulator.verify import events_of, key_of
from process import tombstones
from reconcile.as_webhook import NOT_IN_EVENTS_API, WITHOUT_ID
from reconcile.events_api import CallBudget, EventsApi
from reconcile.filling import Limits, fill
from reconcile.proved import State, sentence
from reconcile.rounds import Round
from reconcile.verdicts import Verdicts
from tests.integration.reconcile_world import Here, Raw

KEY = "0123456789abcdef0123456789abcdef01234567"
TOMBSTONE_KEY = b"the-key-of-a-test"
HOUR = timedelta(hours=1)
TEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
SETTLED = TEN + 12 * HOUR  # of what happened from ten to twelve
TYPES = ["bounce", "delivery", "open", "click", "injection", "sms_status", "relay_delivery"]
LOST = {  # by what happened to the batch: failed attempts, what Bird saw, what became of it
    "413": (12, "413", GIVEN_UP),
    "eight hours of 503": (12, "503", GIVEN_UP),
    "dropped after a 200": (0, "", ACCEPTED),
    "dropped after a 503 and a 200": (1, "503", ACCEPTED),
    "raw object deleted": (0, "", ACCEPTED),
}


class Files(dict[str, bytes]):
    def read(self, key):
        return self.get(key)

    def write(self, key, body):
        self[key] = body


class World:
    """Bird, what it sends, and what is here."""

    def __init__(self, bird: bird_api.Bird, ledger: Ledger) -> None:
        self.bird, self.ledger = bird, ledger
        self.here, self.raw, self.files = Here(), Raw(), Files()
        self.stored: set[str] = set()  # raw batches of the webhook
        self.sent: dict[tuple[str, str], dict] = {}
        self.stones: dict[str, datetime] = {}
        self.now = SETTLED
        bird.recording.now = lambda: self.now
        bird.recording.follow(ledger.path)
        self.sends(TYPES)

    def sends(self, types: list[str]) -> None:
        """The webhook, since ten."""
        self.bird.webhooks["1"] = {"events": types}
        begins = {"begins_at": TEN.isoformat(), "types_since": dict.fromkeys(types, TEN.isoformat())}
        Verdicts(self.files).write_state(begins)

    def batch(self, batch_id: str, at: datetime, events: int = 20, **more) -> Batch:
        """Of these types in turn, a second apart."""
        elements = []
        for number in range(events):
            kind = TYPES[number % 5]
            event = {
                "type": kind,
                "event_id": f"{batch_id}-{number}",
                "timestamp": str(int(at.timestamp()) + number),
                "customer_id": "7",
                "rcpt_to": f"person{number}@example.com",
                **more,
            }
            elements.append({"msys": {"track_event" if kind in ("open", "click") else "message_event": event}})
        return as_batch(batch_id, elements)

    def arrives(self, *batches: Batch) -> None:
        for batch in batches:
            self.ledger.sending(batch)
            self.ledger.done(batch, ACCEPTED)
            self.stored.add(batch.batch_id)
            for event_class, event in events_of(batch):
                self.here.take(event_class, event, batch.batch_id)
                self.sent[event["type"], event.get("event_id", "")] = event

    def is_lost(self, batch: Batch, way: str) -> None:
        failed, answer, outcome = LOST[way]
        self.ledger.sending(batch)
        for attempt in range(failed):
            self.ledger.failed(batch, attempt + 1, answer)
        self.ledger.done(batch, outcome)

    def run(self, hours: float = 0, calls: int = 1000) -> dict:
        """So many hours later. Rows of what is filled in are here at once."""
        self.now += timedelta(hours=hours)
        account = Verdicts(self.files).calibration().get("account")
        api = EventsApi(self.bird.url, KEY, CallBudget(calls), lambda seconds: None, account)

        def filled(since, until, types, events):
            known = tombstones.Tombstones(TOMBSTONE_KEY, self.stones)
            webhook = api.webhook("1")
            raw, limits = self.raw, Limits(events)
            return fill(api, self.here, raw, lambda: known, since, until, types, limits, webhook, known_to_differ=True)

        one = Round(
            api,
            self.here,
            Verdicts(self.files),
            filled,
            lambda row: self.sent.get((row.type, row.event_key)),
            lambda batch_id: batch_id in self.stored,
            lambda: None,
            lambda cells: True,
            "1",
            self.now,
        )
        facts = one.run()
        self.here.take_raw(self.raw.objects.values())
        return facts

    @property
    def cells(self):
        return Verdicts(self.files).cells(TEN - 300 * HOUR, TEN + 300 * HOUR)

    @property
    def sentence(self) -> str:
        return sentence(list(self.cells.values()), self.now)

    def states(self, hour: datetime) -> Counter[State]:
        return Counter(cell.state for (when, _), cell in self.cells.items() if when == hour)

    def closes(self, *, without: str = "nobody") -> None:
        """Each event that Bird's Events API has is here once, and no other; none of `without` came by filling."""
        wanted = Counter(
            key_of(event_class, event)
            for batch in self.ledger.batches()
            for event_class, event in events_of(batch)
            if event["type"] not in NOT_IN_EVENTS_API | WITHOUT_ID and event.get("rcpt_to") != without
        )
        found = Counter({key: 1 for key in self.here.at if key[2] not in NOT_IN_EVENTS_API | WITHOUT_ID})
        assert found == wanted
        filled = [one for body in self.raw.objects.values() for one in json.loads(body)]
        events = [event for one in filled for event in one["msys"].values()]
        assert len(events) == len({event["event_id"] for event in events})
        assert without not in json.dumps(events)


@pytest.fixture
def world(tmp_path):
    with bird_api.running(KEY, lambda target: None) as bird:
        ledger = Ledger(tmp_path / "ledger")
        made = World(bird, ledger)
        made.arrives(made.batch("first", TEN), made.batch("second", TEN + HOUR))
        yield made
        ledger.close()


@pytest.mark.parametrize("way", LOST)
def test_a_batch_lost_in_each_way_is_found_named_and_filled(world, way):
    world.is_lost(world.batch("lost", TEN + HOUR / 2, 30), way)
    facts = world.run()
    named = Verdicts(world.files).state()
    given_up = way in ("413", "eight hours of 503")
    assert [(one["batch_id"], one["code"]) for one in named["given_up"]] == [("lost", LOST[way][1])] * given_up
    assert facts["batches_lost"] == (way == "dropped after a 503 and a 200")
    assert facts["filled_events"] == 30  # this run calibrated by the hour after
    world.run(1)
    assert world.states(TEN)[State.FILLED] == 5
    assert world.sentence == "proved complete until 25 November, 13:00 UTC"
    world.closes()
    before = dict(world.raw.objects)
    world.run(1)
    assert world.raw.objects == before


def test_a_person_who_was_erased_does_not_return(world):
    person = "person3@example.com"
    world.stones[tombstones.name(person, TOMBSTONE_KEY)] = SETTLED
    world.is_lost(world.batch("lost", TEN + HOUR / 2), "413")
    facts = world.run()
    assert (facts["filled_events"], facts["erased_left_out"]) == (19, 1)
    world.run(1)
    world.run(1)
    assert world.states(TEN)[State.ERASED] == 1
    assert world.sentence.startswith("proved complete until")
    filled = b"".join(world.raw.objects.values())
    assert person.encode() not in filled


def test_a_forged_event_is_a_surplus_and_hides_no_loss(world):
    lost = world.batch("lost", TEN + HOUR / 2, 1)
    world.is_lost(lost, "413")
    [(event_class, event)] = events_of(lost)
    world.here.take(event_class, {**event, "event_id": "forged"}, "forged")
    facts = world.run()
    assert facts["filled_events"] == 1  # equal counts, found by the ids
    world.run(1)
    assert world.states(TEN)[State.SURPLUS] == 1
    assert world.sentence == "nothing is proved yet; 1 event that Bird does not have in 1 hour"


def test_a_second_that_lies_in_the_neighbouring_hour_is_no_gap(world):
    event = {"type": "delivery", "event_id": "edge", "customer_id": "7"}
    at = (TEN + HOUR).timestamp()
    world.bird.recording.add("message_event", {**event, "timestamp": str(at - 0.5)})
    world.here.take("message_event", {**event, "timestamp": str(int(at))})
    facts = world.run()
    assert (facts["missing_events"], facts["surplus_events"], world.raw.puts) == (0, 0, 0)
    assert world.sentence == "proved complete until 25 November, 12:00 UTC"


def test_six_hours_without_an_answer_move_no_verdict(world):
    world.run()
    before = {key: (cell.state, cell.theirs) for key, cell in world.cells.items()}
    assert world.sentence == "proved complete until 25 November, 12:00 UTC"
    world.bird.down.add("events")
    for _ in range(6):
        facts = world.run(1)
        assert facts["no_answer"] >= 1
        after = {key: (cell.state, cell.theirs) for key, cell in world.cells.items()}
        assert {key: after[key] for key in before} == before
        assert world.sentence.startswith("proved complete until 25 November, 12:00 UTC")
    world.bird.down.clear()
    world.run(1)
    assert world.sentence == "proved complete until 25 November, 19:00 UTC"


@pytest.mark.parametrize(
    "misbehaviour",
    [Misbehaviour(empty_index=True), Misbehaviour(next_host="https://elsewhere.example.com"), Misbehaviour(account=8)],
    ids=["empty index", "next at another host", "another account"],
)
def test_a_bird_that_misbehaves_moves_no_verdict(world, misbehaviour):
    world.run()
    before = [world.states(TEN), world.states(TEN + HOUR)]
    assert before[0][State.PROVED] == 5
    world.bird.recording.misbehaviour = misbehaviour
    for hours in (1, 24, 48):
        world.run(hours)
        assert [world.states(TEN), world.states(TEN + HOUR)] == before
    assert world.raw.puts == 0


@pytest.mark.parametrize("calls", [9, 14, 25])
def test_a_run_that_is_cut_anywhere_is_gone_on_with(world, calls):
    for number, way in enumerate(LOST):
        world.is_lost(world.batch(f"lost-{number}", TEN + (5 + number) * HOUR / 10, 30), way)
    for _ in range(40):
        facts = world.run(1 / 60, calls)
        if not facts.get("bounds_reached") and not facts["missing_events"] and facts["hours_counted"] == 0:
            break
    world.run(1)
    assert set(world.states(TEN)) <= {State.PROVED, State.FILLED}
    world.closes()


def test_batches_of_all_types_are_compared_field_by_field_and_what_was_lost_comes_back(world):
    """As the simulator writes them, odd ones too: calibration passes."""
    world.sends(sorted({kind for kinds in bird_api.event_types().values() for kind in kinds}))
    maker = BatchMaker(5, TEN + 2 * HOUR + HOUR * 0.99, spread_seconds=3000)
    lost = BatchMaker(6, TEN + HOUR * 0.99, spread_seconds=3000).batch(0, 30)
    world.arrives(*(of_account_7(maker.batch(number, 60)) for number in range(2)))
    world.is_lost(of_account_7(lost), "413")
    world.run(1.2)
    result = Verdicts(world.files).calibration()
    assert (result["passed"], result["account"], result["fields_different"]) == (True, "7", {})
    assert result["events"] > 80
    world.run(1)
    assert world.states(TEN)[State.FILLED] >= 5
    world.closes()


def of_account_7(batch: Batch) -> Batch:
    elements = json.loads(batch.body)
    for element in elements:
        for event in element["msys"].values():
            event["customer_id"] = "7"
    return as_batch(batch.batch_id, elements)
