"""What the simulator sends, and whether its judge sees what is wrong."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP, Ledger
from bird_webhooks.simulator.sender import RETRY_SECONDS, Report
from bird_webhooks.simulator.verify import NULL, Lake, differences, events_of, verify

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_same_seed_gives_the_same_batches():
    first, again = (list(BatchMaker(7, START).batches(20)) for _ in range(2))
    assert first == again
    assert first != list(BatchMaker(8, START).batches(20))


def test_batches_are_mixed_of_all_types_with_ids_of_their_own():
    batches = list(BatchMaker(1, START).batches(200))
    events = [(event_class, event) for batch in batches for event_class, event in events_of(batch)]
    assert len({(event_class, event["type"]) for event_class, event in events}) == 27
    ids = [event["event_id"] for _, event in events if "event_id" in event]
    assert len(ids) == len(set(ids))
    assert len({batch.batch_id for batch in batches}) == 200
    assert min(batch.events for batch in batches) == 1
    assert max(batch.events for batch in batches) > 350
    assert sum(batch.events for batch in batches) == len(events)


def test_intervals_grow_and_end_after_eight_hours():
    assert len(RETRY_SECONDS) == 11
    assert list(RETRY_SECONDS) == sorted(RETRY_SECONDS)
    assert 7.5 < sum(RETRY_SECONDS) / 3600 < 8


def test_ledger_remembers_what_was_sent_over_runs(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    batches = [Batch("a", b"[1]", 1), Batch("b", b"\xff", 0), Batch("c", b"[]", 0)]
    for batch in batches:
        ledger.sending(batch)
    ledger.failed(batches[0], 1, "503")
    ledger.done(batches[0], ACCEPTED)
    ledger.done(batches[0], GIVEN_UP)
    ledger.done(batches[1], GIVEN_UP)
    ledger.close()
    again = Ledger(tmp_path / "ledger")
    assert again.outcomes == {"a": ACCEPTED, "b": GIVEN_UP, "c": None}
    assert list(again.batches()) == batches
    again.close()


def test_report_shows_percentiles():
    report = Report(acknowledgements=[number / 1000 for number in range(1, 101)], refused_attempts=Counter({"503": 2}))
    assert "p50 51 ms, p95 96 ms, p99 100 ms, max 100 ms" in str(report)
    assert "2 x 503" in str(report)
    figures = json.loads(json.dumps(report.figures()))
    assert figures["refused_attempts"] == {"503": 2}
    assert figures["acknowledged_milliseconds"] == {"p50": 51, "p95": 96, "p99": 100, "p100": 100}
    assert "acknowledgements" not in figures


EVENT = {
    "type": "bounce",
    "timestamp": "1460989507",
    "event_id": "1",
    "msg_size": "1337",
    "open_tracking": "1",
    "rcpt_meta": {"a": [1]},
    "geo_ip": {"latitude": "39.5", "continent": "NA"},
    "next_attempt": 5,
}
ROW = {
    "event_class": "message_event",
    "type": "bounce",
    "timestamp": "2016-04-18 14:25:07.000",
    "event_id": "1",
    "event_key": "1",
    "batch_id": "batch",
    "received_at": "2026-11-24 12:00:00.000 UTC",
    "event_date": "2016-04-18",
    "msg_size": "1337",
    "open_tracking": "true",
    "rcpt_meta": '{"a":[1]}',
    "geo_ip_latitude": "39.5",
    "subject": None,
    "extra": '{"geo_ip":{"continent":"NA"},"next_attempt":5}',
}


def test_a_true_row_differs_in_nothing():
    assert list(differences(ROW, "batch", "message_event", EVENT)) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("event_class", "track_event"),
        ("batch_id", "another"),
        ("timestamp", "2016-04-18 14:25:08.000"),
        ("received_at", None),
        ("event_date", "2016-04-19"),
        ("msg_size", "1338"),
        ("msg_size", None),
        ("open_tracking", "false"),
        ("rcpt_meta", '{"a": [1]}'),
        ("geo_ip_latitude", "39.6"),
        ("subject", ""),
        ("extra", '{"next_attempt":5}'),
        ("extra", None),
    ],
)
def test_each_alteration_is_seen(column, value):
    assert list(differences({**ROW, column: value}, "batch", "message_event", EVENT)) == [column]


def test_a_batch_can_be_made_of_any_size():
    assert len(json.loads(BatchMaker(1, START).batch(0, events=351).body)) == 351


def test_like_a_sender_it_sends_what_a_sender_has():
    batches = list(BatchMaker(3, START, spread_seconds=7 * 86_400, like_a_sender=True).batches(150))
    assert batches == list(BatchMaker(3, START, spread_seconds=7 * 86_400, like_a_sender=True).batches(150))
    events = [event for batch in batches for _, event in events_of(batch)]
    types = Counter(event["type"] for event in events)
    assert types["delivery"] > 20 * types["bounce"] > 0
    assert types["delivery"] > 200 * types["spam_complaint"]
    complaints = {event["mailbox_provider"] for event in events if event["type"] == "spam_complaint"}
    assert complaints <= {"Microsoft", "Yahoo", "Orange", "GMX"}  # Google reports none
    campaigns = Counter(
        event["campaign_id"] for event in events if event["type"] == "delivery" and "campaign_id" in event
    )
    assert campaigns.most_common(1)[0][0] in ("Autumn sale", "Weekly newsletter")
    assert len(campaigns) > 5
    opens = [event for event in events if event["type"] == "open" and event["mailbox_provider"] == "Apple"]
    ahead = sum(event["user_agent_parsed"]["is_prefetched"] for event in opens)
    assert ahead > len(opens) / 2
    hours = Counter(int(event["timestamp"]) // 3600 % 24 for event in events)
    assert hours[9] > 5 * hours[3]


def test_troubles_are_planted_with_the_mail_around_them():
    maker = BatchMaker(3, START, like_a_sender=True)
    batches = list(maker.troubles(events=1000))
    assert batches == list(maker.troubles(events=1000))
    events = [event for batch in batches for _, event in events_of(batch)]
    assert Counter((event["type"], event.get("bounce_class")) for event in events) == {
        ("delivery", None): 170 + 1500 + 550,
        ("bounce", "51"): 340,
        ("spam_complaint", None): 50,
        ("out_of_band", "10"): 550,
    }
    assert len({event["event_id"] for event in events}) == len(events)
    assert len({event["message_id"] for event in events}) == 510 + 1500 + 550
    assert all(0 < START.timestamp() - int(event["timestamp"]) <= 3 * 86_400 for event in events)


class LakeOf(Lake):
    """What Athena would answer: `rows`, as text."""

    def __init__(self, *rows: dict) -> None:
        super().__init__(None, None)
        object.__setattr__(self, "rows", rows)

    def columns(self):
        return [(name, "string") for name in self.rows[0]]

    def query(self, sql):
        if "count(*)" in sql:
            yield {"event_date": "2016-04-18", "rows_found": str(len(self.rows))}
        else:
            yield from self.rows


@pytest.mark.parametrize(
    ("accounts", "counts"),
    [
        pytest.param(("1", "2", NULL), (0, 0, 0, 0), id="each once"),
        pytest.param(("1", NULL), (1, 0, 0, 0), id="one of them hidden by the other"),
        pytest.param(("1", "2", "2", NULL), (0, 1, 0, 0), id="one of them twice"),
        pytest.param(("1", "2", "3", NULL), (0, 0, 1, 0), id="of an account that sent none"),
    ],
)
def test_events_of_one_id_are_counted_by_account(tmp_path, accounts, counts):
    event = {"type": "bounce", "timestamp": "1460989507", "event_id": "1"}
    ledger = Ledger(tmp_path / "ledger.ndjson")
    for number, account in enumerate(({"customer_id": "1"}, {"customer_id": "2"}, {})):
        batch = Batch(f"batch-{number}", json.dumps([{"msys": {"message_event": {**event, **account}}}]).encode(), 1)
        ledger.sending(batch)
        ledger.done(batch, ACCEPTED)
    of = {"1": "batch-0", "2": "batch-1", NULL: "batch-2"}
    names = ("event_class", "type", "timestamp", "event_id", "event_key", "received_at", "event_date")
    row = {**{name: ROW[name] for name in names}, "extra": NULL}
    rows = [{**row, "customer_id": account, "batch_id": of.get(account, "")} for account in accounts]
    found = verify(ledger, LakeOf(*rows), wait_seconds=0, progress=lambda _: None)
    assert (found.lost, found.duplicated, found.invented, found.different) == counts
    assert json.loads(json.dumps(found.figures()))["closes"] == (counts == (0, 0, 0, 0))
    ledger.close()
