"""The client of Bird's Events API against a stand-in that misbehaves."""

import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bird_webhooks.simulator import bird_api
from bird_webhooks.simulator.bird_events import Misbehaviour
from reconcile import events_api
from reconcile.events_api import (
    METRIC_OF_TYPE,
    CallBudget,
    CallsSpentError,
    EventsApi,
    NoAnswerError,
    NoGrantError,
    RefusedError,
    UntrustedError,
    Webhook,
)

KEY = "0123456789abcdef0123456789abcdef01234567"
HOUR = datetime(2026, 11, 26, 10, tzinfo=UTC)
NEXT = HOUR + timedelta(hours=1)
SAMPLES = Path(__file__).resolve().parents[1] / "data/events_api"
TYPES = ["injection", "delivery", "open", "click", "bounce"]


def event(number: int, kind: str = "delivery", seconds: float | None = None, **more) -> dict:
    at = HOUR.timestamp() + (number if seconds is None else seconds)
    return {"type": kind, "event_id": str(10**17 + number), "timestamp": str(at), "customer_id": "7", **more}


@pytest.fixture
def bird():
    with bird_api.running(KEY, lambda target: None) as started:
        started.recording.now = lambda: HOUR + timedelta(days=1)
        yield started


@pytest.fixture
def waits():
    return []


@pytest.fixture
def api(bird, waits):
    return EventsApi(bird.url, KEY, calls=CallBudget(100), wait=waits.append)


@pytest.fixture
def five(bird):
    for number in range(5):
        bird.recording.add("message_event", event(number))


def shown(value: object) -> str:
    if not isinstance(value, Misbehaviour):
        return str(value)
    usual = vars(Misbehaviour())
    return ", ".join(f"{name}={found}" for name, found in vars(value).items() if found != usual[name])


def ids(api, types=TYPES, **more) -> list[str]:
    return [one.event_id for one in api.events(HOUR, NEXT, types, **more)]


# --- Counts and pages ---


def test_a_count_is_one_call(api, bird, five):
    assert api.count(HOUR, NEXT, TYPES) == 5
    assert api.count(HOUR, NEXT, ["bounce"]) == 0
    assert bird.requests == [
        "GET /events/message?from=2026-11-26T10:00:00Z&to=2026-11-26T11:00:00Z&events="
        f"{kinds}&per_page=1&cursor=initial"
        for kinds in ("injection,delivery,open,click,bounce", "bounce")
    ]
    assert api.calls.spent == 2


def test_the_start_belongs_to_a_window_and_its_end_does_not(api, bird):
    for seconds in (-0.001, 0, 3599.999, 3600):
        bird.recording.add("message_event", event(int(seconds * 1000) + 5000, seconds=seconds))
    assert api.count(HOUR, NEXT, TYPES) == 2


def test_all_pages_are_read(api, bird, five, waits):
    api.per_page = 2
    assert ids(api) == [str(10**17 + number) for number in (4, 3, 2, 1, 0)]
    assert len(bird.requests) == 3
    assert waits == [5, 5]  # between pages, as the vendor's example does


def test_events_of_ingestion_are_asked_for_where_they_are(api, bird, five):
    bird.recording.add("ingest_event", event(9, "success"))
    assert api.count(HOUR, NEXT, ["delivery", "success", "error"]) == 6
    assert ids(api, ["success", "error"]) == [str(10**17 + 9)]
    assert [request.partition("?")[0] for request in bird.requests] == [
        "GET /events/message",
        "GET /events/ingest",
        "GET /events/ingest",
    ]


def test_nothing_is_asked_without_a_type(api, bird, five):
    assert api.count(HOUR, NEXT, []) == 0
    assert ids(api, []) == []
    assert bird.requests == []
    with pytest.raises(ValueError, match="does not have relay_delivery"):
        api.count(HOUR, NEXT, ["delivery", "relay_delivery"])


def test_what_a_webhook_sends_is_counted_by_its_types_subaccount_and_exceptions(api, bird, five):
    for number, subaccount in ((5, "42"), (6, "42"), (7, "43")):
        bird.recording.add("message_event", event(number, subaccount_id=subaccount))
    bird.recording.add("track_event", event(8, "open"))
    for webhook, expected in (
        (Webhook("1", ("delivery",)), 8),
        (Webhook("1", ("delivery", "open")), 9),
        (Webhook("1", ("delivery",), "42"), 2),
        (Webhook("1", ("delivery",), "0"), 5),
        (Webhook("1", ("delivery",), exceptions=("42",)), 6),
        (Webhook("1", ("bounce",)), 0),
    ):
        assert api.count_sent(webhook, HOUR, NEXT, TYPES) == expected
        sent = [one for one in api.events(HOUR, NEXT, TYPES) if webhook.sends(one)]
        assert len(sent) == expected


@pytest.mark.parametrize(
    "misbehaviour",
    [
        Misbehaviour(zone="+00:00"),
        Misbehaviour(zone="+05:30"),
        Misbehaviour(milliseconds=999),
        Misbehaviour(integer_ids=False),
        Misbehaviour(text_zip=False),
    ],
    ids=shown,
)
def test_every_notation_is_read(api, bird, five, misbehaviour):
    bird.recording.misbehaviour = misbehaviour
    found = list(api.events(HOUR, NEXT, TYPES))
    assert {one.at.replace(microsecond=0) for one in found} == {HOUR + timedelta(seconds=number) for number in range(5)}
    assert {one.customer_id for one in found} == {"7"}


# --- Checks ---


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        (Misbehaviour(every_time=True), "an event outside the time asked for"),
        (Misbehaviour(every_type=True), "an event of a type that was not asked for"),
        (Misbehaviour(without=("event_id",)), "an event without an id"),
        (Misbehaviour(without=("timestamp",)), "an event without timestamp"),
        (Misbehaviour(without=("customer_id",)), "an event without customer_id"),
        (Misbehaviour(account=8), "an event of another account"),
        (Misbehaviour(total_off_by=1), "5 events came, but total_count is 6"),
        (Misbehaviour(total_off_by=-1), "5 events came, but total_count is 4"),
        (Misbehaviour(next_host="https://elsewhere.example.com"), "a next page at another host"),
        (Misbehaviour(next_host="//elsewhere.example.com"), "a next page at another host"),
        (Misbehaviour(repeated_next=True), "4 events came, but total_count is 5"),
        (Misbehaviour(empty_page_with_next=True), "2 events came, but total_count is 5"),
    ],
    ids=shown,
)
def test_an_answer_that_fails_a_check_is_not_used(bird, five, waits, misbehaviour, reason):
    bird.recording.add("track_event", event(9, "open", -60))
    bird.recording.misbehaviour = misbehaviour
    api = EventsApi(bird.url, KEY, calls=CallBudget(100), wait=waits.append, account="7", per_page=2)
    if misbehaviour.every_type:
        bird.recording.add("track_event", event(7, "open"))
    kinds = ["delivery", "open"] if misbehaviour.every_time else ["delivery"]
    with pytest.raises(UntrustedError) as refused:
        list(api.events(HOUR, NEXT, kinds))
    assert str(refused.value) == reason
    assert len(bird.requests) <= 4


def test_an_answer_that_is_not_utf_8_is_not_used(api, monkeypatch):
    monkeypatch.setattr(api, "_once", lambda *_: b'{"results":[{"\xff":1}],"total_count":1,"links":{"next":"\xff"}}')
    with pytest.raises(UntrustedError, match="an answer that is not a page of events"):
        api.count(HOUR, NEXT, TYPES)
    with pytest.raises(UntrustedError, match="an answer that is not Bird's"):
        api.webhook("1")


def test_a_reason_that_is_not_utf_8_is_none():
    assert events_api._error_text(b'{"errors":[{"message":"\xff"}]}') == "no reason given"


def test_pages_without_an_end_are_not_read(bird, five, waits):
    """Once more has come than Bird announced, the answer is of no use, whatever follows."""
    bird.recording.misbehaviour.total_off_by = -4
    api = EventsApi(bird.url, KEY, calls=CallBudget(100), wait=waits.append, per_page=2)
    with pytest.raises(UntrustedError, match="2 events came, but total_count is 1"):
        list(api.events(HOUR, NEXT, TYPES))
    assert len(bird.requests) == 1


def test_an_empty_index_is_an_answer(api, bird, five):
    """What it means is for the verdict: more here than there."""
    bird.recording.misbehaviour.empty_index = True
    assert api.count(HOUR, NEXT, TYPES) == 0


def test_an_event_that_comes_into_view_between_two_pages_is_no_complete_answer(api, bird, five):
    api.per_page = 2
    bird.recording.misbehaviour.hidden = {str(10**17)}
    pages = api.events(HOUR, NEXT, TYPES)
    next(pages)
    next(pages)
    bird.recording.misbehaviour.hidden.clear()
    with pytest.raises(UntrustedError, match="total_count changed"):
        list(pages)


def test_a_page_that_contradicts_its_count_is_not_used(api, bird, five):
    bird.recording.misbehaviour.total_off_by = -5
    with pytest.raises(UntrustedError):
        api.count(HOUR, NEXT, TYPES)


@pytest.mark.parametrize("text", ["", "[]", '{"results": 5}', "<html>", '{"results":[],"total_count":"many"}'])
def test_a_200_that_is_not_birds_is_not_used(api, bird, text):
    answer = bird_api.Answer(200, "")
    answer.text = text
    bird.failures.append(answer)
    with pytest.raises(UntrustedError):
        api.count(HOUR, NEXT, TYPES)


def test_the_first_event_says_whose_account_it_is(api, bird, five):
    api.count(HOUR, NEXT, TYPES)
    bird.recording.add("track_event", event(9, "open", customer_id="8"))
    with pytest.raises(UntrustedError, match="another account"):
        ids(api)


# --- Manners ---


@pytest.mark.parametrize("status", [429, 500, 502, 504])
def test_under_load_the_same_is_asked_again_with_growing_waits(api, bird, five, waits, status):
    bird.overload(3, status)
    assert api.count(HOUR, NEXT, TYPES) == 5
    assert waits == [10, 20, 40]
    assert len(set(bird.requests)) == 1
    assert api.calls.spent == 4


def test_retry_after_is_honoured(api, bird, five, waits):
    bird.overload(1, 429, retry_after="33")
    bird.overload(1, 503, retry_after="1")
    assert api.count(HOUR, NEXT, TYPES) == 5
    assert waits == [33, 20]


def test_no_verdict_follows_after_the_last_try_or_a_long_wait(api, bird, waits):
    bird.overload(5, 502)
    with pytest.raises(NoAnswerError, match="HTTP 502"):
        api.count(HOUR, NEXT, TYPES)
    assert waits == [10, 20, 40, 80]
    bird.overload(1, 429, retry_after="3600")
    with pytest.raises(NoAnswerError, match="Too many requests"):
        api.count(HOUR, NEXT, TYPES)
    assert len(bird.requests) == 6


def test_an_answer_that_ends_too_early_is_asked_for_again(api, bird, five, waits):
    bird.recording.misbehaviour.cut_after_bytes = 100
    with pytest.raises(NoAnswerError, match="IncompleteRead"):
        api.count(HOUR, NEXT, TYPES)
    assert len(bird.requests) == 5


def test_a_refusal_that_ends_too_early_is_still_one(waits):
    """As of a proxy that breaks: the status has come, and its body has not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            for _ in range(5):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"HTTP/1.1 503 Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        api = EventsApi(f"http://127.0.0.1:{server.getsockname()[1]}", KEY, CallBudget(100), waits.append)
        with pytest.raises(NoAnswerError, match="503"):
            api.count(HOUR, NEXT, TYPES)
        thread.join(timeout=10)


def test_nobody_there_is_no_answer(waits):
    api = EventsApi("http://127.0.0.1:9", KEY, calls=CallBudget(100), wait=waits.append)
    with pytest.raises(NoAnswerError, match="not reached"):
        api.count(HOUR, NEXT, TYPES)


def test_calls_and_time_are_bounded(bird, five, waits):
    api = EventsApi(bird.url, KEY, calls=CallBudget(2), wait=waits.append, per_page=1)
    with pytest.raises(CallsSpentError):
        ids(api)
    assert len(bird.requests) == 2
    times = iter(range(100, 10_000, 7))
    api.calls = CallBudget(100, stop_at=120, clock=lambda: next(times))
    with pytest.raises(CallsSpentError):
        ids(api)
    assert len(bird.requests) < 5


def test_the_key_goes_to_one_address_by_https_only(bird, five, waits):
    for host in ("http://api.example.com/api/v1", "ftp://127.0.0.1", "api.example.com"):
        with pytest.raises(ValueError, match="must be https"):
            EventsApi(host, KEY, calls=CallBudget(1))
    EventsApi("https://api.eu.sparkpost.com/api/v1/", KEY, calls=CallBudget(1))
    assert KEY not in repr(EventsApi(bird.url, KEY, calls=CallBudget(1)))
    moved = bird_api.Answer(302, "moved")
    moved.headers["location"] = f"{bird.url}/elsewhere"
    bird.failures.append(moved)
    with pytest.raises(RefusedError, match="moved"):
        EventsApi(bird.url, KEY, calls=CallBudget(9), wait=waits.append).count(HOUR, NEXT, TYPES)
    assert len(bird.requests) == 1


def test_a_missing_grant_is_named(api, bird):
    bird.grants.clear()
    for ask, grant in (
        (lambda: api.count(HOUR, NEXT, TYPES), "Events Search: Read-only"),
        (lambda: api.metrics(HOUR, NEXT, "1min", ["count_delivered"]), "Metrics: Read-only"),
        (lambda: api.webhook("1"), "Webhooks: Read-only"),
    ):
        with pytest.raises(NoGrantError) as refused:
            ask()
        assert refused.value.grant == grant


def test_an_unknown_key_or_parameter_is_refused_at_once(bird, waits):
    api = EventsApi(bird.url, "another", calls=CallBudget(9), wait=waits.append)
    with pytest.raises(RefusedError) as refused:
        api.count(HOUR, NEXT, TYPES)
    assert refused.value.status == 401
    bird.fail(1, 400, "invalid params", description="Invalid date for 'from'", code="1200")
    with pytest.raises(RefusedError, match=r"^invalid params: Invalid date for 'from' \(HTTP 400\)$"):
        api.count(HOUR, NEXT, TYPES)
    assert bird.most_at_once == 1


def test_a_large_page_is_read_whole_or_in_smaller_ones(api, bird, monkeypatch):
    for number in range(600):
        bird.recording.add("message_event", event(number, rcpt_meta={"note": "x" * 10_000}))
    assert len(ids(api)) == 600  # 6 MB: another client of this application reads 5 MB
    assert len(bird.requests) == 1
    monkeypatch.setattr("reconcile.events_api.MAX_ANSWER_BYTES", 2_000_000)
    api.per_page = 1000
    assert len(ids(api)) == 600
    assert len(bird.requests) == 1 + 1 + 6


# --- Metrics, webhook, batch status ---


def test_metrics_by_the_minute(api, bird, five):
    bird.recording.add("message_event", event(9, seconds=60))
    bird.recording.add("track_event", event(10, "open"))
    rows = api.metrics(HOUR, HOUR + timedelta(minutes=3), "1min", list(METRIC_OF_TYPE.values()))
    assert [(row.at, row.counts["count_delivered"]) for row in rows] == [
        (HOUR, 5),
        (HOUR + timedelta(minutes=1), 1),
        (HOUR + timedelta(minutes=2), 0),
    ]


def test_a_webhook_is_read_with_its_subaccount_and_exceptions(api, bird):
    bird.webhooks["1"] = {"target": "https://hooks.example.com/", "events": ["bounce"], "active": False}
    assert api.webhook("1") == Webhook("1", ("bounce",), active=False)
    bird.webhooks["1"] |= {
        "subaccount_id": 0,
        "exception_subaccounts": [42, "43"],
    }
    found = api.webhook("1")
    assert (found.subaccount, found.exceptions) == ("0", ("42", "43"))
    api.subaccount = "42"
    api.webhook("1")
    api.count(HOUR, NEXT, TYPES)
    assert [headers.get("x-msys-subaccount") for headers in bird.headers] == [None, None, "42", None]


@pytest.mark.parametrize("name", ["webhook-batch-status.json", "webhook-batch-status.documented-fields.json"])
def test_both_forms_of_a_batchs_status(api, bird, name):
    bird.webhooks["1"] = {"events": ["bounce"]}
    bird.batch_statuses = json.loads((SAMPLES / name).read_text())["results"]
    worst = api.batch_status("1")[0]
    assert (worst.batch_id, worst.response_code, worst.failure_code, worst.succeeded) == (
        "9d2c4b6a8f0e4d3cb1a29f8e7d6c5b4a",
        "503",
        "503",
        False,
    )
    assert worst.at == datetime(2026, 11, 26, 10, 20, 31, tzinfo=UTC)
    assert (worst.attempts, worst.events) in ((7, None), (12, 212))
