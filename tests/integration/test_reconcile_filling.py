"""Filling: what Bird has and the lake has not becomes raw batches, and rows by process; and nothing else does."""

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from arro3.io import read_parquet
from botocore.exceptions import ClientError

import process.app
from bird_webhooks.simulator import bird_api
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.bird_events import Misbehaviour
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP, Ledger
from bird_webhooks.simulator.verify import events_of
from process import tombstones
from reconcile.as_webhook import NOT_IN_EVENTS_API, WITHOUT_ID
from reconcile.events_api import CallBudget, EventsApi, UntrustedError, Webhook
from reconcile.filling import Limits, fill
from reconcile.raw_batches import NothingStored, RawBatches
from reconcile.tombstones import Erased, UnknownKeyError
from tests.integration.reconcile_world import Here, Raw

KEY = "0123456789abcdef0123456789abcdef01234567"
RAW_BUCKET, LAKE_BUCKET = "raw-bucket", "lake-bucket"
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ERASED_KEY = b"the-key-of-a-test"
TYPES = sorted({kind for kinds in bird_api.event_types().values() for kind in kinds})
FILLABLE = sorted({*TYPES} - NOT_IN_EVENTS_API - WITHOUT_ID)


@pytest.fixture
def bird():
    with bird_api.running(KEY, lambda target: None) as started:
        started.recording.now = lambda: NOON + HOUR
        yield started


@pytest.fixture
def here():
    return Here()


@pytest.fixture
def nobody():
    return lambda: tombstones.Tombstones(ERASED_KEY, {})


@pytest.fixture
def raw():
    return Raw()


def api_of(bird, calls: int = 10_000, **more) -> EventsApi:
    return EventsApi(bird.url, KEY, calls=CallBudget(calls), wait=lambda seconds: None, **more)


def event(number: int, at: datetime = NOON, kind: str = "delivery", **more) -> dict:
    timestamp = str(int(at.timestamp()))
    return {"type": kind, "event_id": str(10**17 + number), "timestamp": timestamp, "customer_id": "7", **more}


def recorded(bird, here, events: Iterable[dict], lost: Iterable[int] = ()) -> None:
    """Bird has them all, the lake all but the lost ones, by their place."""
    missing = set(lost)
    for place, one in enumerate(events):
        bird.recording.add("message_event", one)
        if place not in missing:
            here.take("message_event", one)


# --- What is stored ---


def test_a_lost_batch_is_found_and_stored_once(bird, here, raw, nobody):
    recorded(bird, here, (event(n, NOON - MINUTE + n * timedelta(seconds=1)) for n in range(60)), range(20, 30))
    api = api_of(bird)
    filled = fill(api, here, raw, nobody, NOON - DAY, NOON + HOUR, ["delivery"])
    assert (filled.stored, filled.batches, filled.left) == (10, 1, False)
    [(name, body)] = raw.objects.items()
    assert name == "backfill-20261126T11-delivery-" + name[-32:]
    assert [one["msys"]["message_event"]["event_id"] for one in json.loads(body)] == [
        str(10**17 + n) for n in range(20, 30)
    ]
    assert api.calls.spent == 3  # a count of each day, and a page of the one that differs

    # before the rows are there, and when they are: nothing is stored again
    again = fill(api_of(bird), here, raw, nobody, NOON - DAY, NOON + HOUR, ["delivery"])
    assert (again.stored, again.waiting) == (0, 10)
    here.take_raw(raw.objects.values())
    again = fill(api_of(bird), here, raw, nobody, NOON - DAY, NOON + HOUR, ["delivery"])
    assert (again.stored, again.waiting, again.compared) == (0, 0, 0)
    assert raw.puts == 1


NO_BATCHES = [
    *(b"", b"\x1f\x8b", b"{}", b'[{"msys":{}},7]', b'[{"msys":{"a":{"type":"b"}}}]', b"[{}]", b'[{"other":{}}]'),
    b'[{"msys":{"a":{"customer_id":"\xff","type":"b","event_id":"c"}}}]',
]


@pytest.mark.parametrize("body", NO_BATCHES)
def test_a_senders_batch_of_the_same_name_does_not_stop_it(bird, here, raw, nobody, body):
    recorded(bird, here, [event(1)], lost=[0])
    raw.put_once("backfill-20261126T12-delivery-x", body)
    assert fill(api_of(bird), here, raw, nobody, NOON - HOUR, NOON + HOUR, ["delivery"]).stored == 1


def test_a_batch_is_of_one_hour_and_type_and_has_500_events_at_most(bird, here, raw, nobody):
    for number in range(1300):
        bird.recording.add("message_event", event(number, NOON + (number % 2) * MINUTE))
    bird.recording.add("track_event", event(2000, NOON, "open"))
    bird.recording.add("track_event", event(2001, NOON - timedelta(seconds=1), "open"))
    filled = fill(api_of(bird), here, raw, nobody, NOON - HOUR, NOON + HOUR, ["delivery", "open", "bounce"])
    sizes = sorted((name.rpartition("-")[0], len(json.loads(body))) for name, body in raw.objects.items())
    assert sizes == [
        ("backfill-20261126T11-open", 1),
        ("backfill-20261126T12-delivery", 300),
        ("backfill-20261126T12-delivery", 500),
        ("backfill-20261126T12-delivery", 500),
        ("backfill-20261126T12-open", 1),
    ]
    assert (filled.stored, filled.batches) == (1302, 5)


def test_large_events_make_smaller_batches(bird, here, raw, nobody):
    for number in range(100):
        bird.recording.add("message_event", event(number, rcpt_meta={"note": "x" * 20_000}))
    fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"])
    assert len(raw.objects) == 3
    assert max(map(len, raw.objects.values())) < 1024 * 1024


def test_only_windows_that_differ_are_fetched(bird, here, raw, nobody):
    """By halves, until one page holds what differs; all that is equal costs its count."""
    spread = [event(n, NOON - 6 * HOUR + n * timedelta(seconds=36)) for n in range(600)]
    recorded(bird, here, spread, [250, 251])
    api = api_of(bird, per_page=20)
    filled = fill(api, here, raw, nobody, NOON - 6 * HOUR, NOON, ["delivery"])
    assert (filled.stored, filled.left) == (2, False)
    assert filled.compared <= 20
    assert api.calls.spent <= 10
    assert here.asked == {"minutes": 1, "keys": 1}


def test_a_shift_between_neighbouring_hours_stores_nothing(bird, here, raw, nobody):
    """Bird's millisecond is before the hour, the webhook's second after it."""
    for number in range(10):
        here.take("message_event", event(number, NOON))
        bird.recording.add("message_event", event(number, NOON) | {"timestamp": str(NOON.timestamp() - 0.5)})
    filled = fill(api_of(bird), here, raw, nobody, NOON - HOUR, NOON, ["delivery"])
    assert (filled.compared, filled.stored) == (10, 0)


def test_an_event_that_has_its_row_on_another_date_is_not_stored(bird, here, raw, nobody):
    midnight = NOON - 12 * HOUR
    here.take("message_event", event(1, midnight - timedelta(seconds=1)))
    bird.recording.add("message_event", event(1, midnight))
    assert fill(api_of(bird), here, raw, nobody, midnight, midnight + HOUR, ["delivery"]).stored == 0


def test_a_loss_behind_a_surplus_is_found_if_the_counts_differ(bird, here, raw, nobody):
    recorded(bird, here, [event(1), event(2)], [0])
    for forged in (3, 4):
        here.take("message_event", event(forged))
    assert fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"]).stored == 1


def test_the_same_id_of_another_account_is_another_event(bird, here, raw, nobody):
    here.take("message_event", event(1, customer_id="8"))
    here.take("message_event", event(2))
    for number in (1, 2, 3):
        bird.recording.add("message_event", event(number))
    assert fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"]).stored == 2


def test_what_the_webhook_does_not_send_is_not_stored(bird, here, raw, nobody):
    for number, subaccount in enumerate(["42", "43", None]):
        more = {"subaccount_id": subaccount} if subaccount else {}
        bird.recording.add("message_event", event(number, **more))
    webhook = Webhook("1", ("delivery",), exceptions=("43",))
    filled = fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"], webhook=webhook)
    assert filled.stored == 2
    one = Webhook("1", ("delivery",), "43")
    assert fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"], webhook=one).stored == 1


def test_an_sms_status_is_never_stored_and_an_unknown_type_is_held(bird, here, raw, nobody):
    bird.recording.add("message_event", event(1, kind="sms_status"))
    for number in (2, 3):
        bird.recording.add("message_event", event(number, kind="brand_new"))
    here.take("message_event", event(2, kind="brand_new"))
    kinds = ["sms_status", "brand_new", "relay_delivery", "ab_test_completed", "delivery"]
    filled = fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, kinds)
    assert (filled.stored, filled.held) == (0, {"brand_new": 1})
    assert raw.puts == 0


def test_a_type_that_bird_refuses_does_not_keep_the_others(bird, here, raw, nobody):
    bird.recording.add("message_event", event(1))
    bird.fail(1, 400, "invalid params", code="1200")
    assert fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["brand_new", "delivery"]).stored == 1


def test_windows_are_of_whole_minutes(bird, here, raw, nobody):
    with pytest.raises(ValueError, match="whole minutes"):
        fill(api_of(bird), here, raw, nobody, NOON + timedelta(seconds=1), NOON + HOUR, ["delivery"])


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param(Misbehaviour(empty_index=True), id="an index that is empty by a fault"),
        pytest.param(Misbehaviour(late=2 * HOUR), id="events that are not found yet"),
        pytest.param(Misbehaviour(retention=timedelta(minutes=30)), id="events that Bird has forgotten"),
    ],
)
def test_what_bird_does_not_show_changes_nothing_here(bird, here, raw, nobody, misbehaviour):
    recorded(bird, here, (event(n) for n in range(20)), range(5))
    bird.recording.misbehaviour = misbehaviour
    filled = fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"])
    assert (filled.stored, filled.compared, raw.puts) == (0, 0, 0)
    bird.recording.misbehaviour = Misbehaviour()
    assert fill(api_of(bird), here, raw, nobody, NOON, NOON + HOUR, ["delivery"]).stored == 5


def test_under_load_it_waits_and_goes_on(bird, here, raw, nobody):
    recorded(bird, here, (event(n) for n in range(20)), range(5))
    bird.overload(2, 429, retry_after="3")
    bird.overload(2, 502)
    waits = []
    api = EventsApi(bird.url, KEY, calls=CallBudget(20), wait=waits.append)
    assert fill(api, here, raw, nobody, NOON, NOON + HOUR, ["delivery"]).stored == 5
    assert waits == [10, 20, 40, 80, 5]
    assert bird.most_at_once == 1


# --- Bounds, and answers that cannot be trusted ---


def test_nothing_of_a_window_is_stored_before_all_its_pages_are_checked(bird, here, raw, nobody):
    for number in range(4):
        bird.recording.add("message_event", event(number))
    bird.recording.misbehaviour.repeated_next = True
    api = api_of(bird, per_page=1)
    with pytest.raises(UntrustedError):
        fill(api, here, raw, nobody, NOON, NOON + HOUR, ["delivery"])
    assert raw.puts == 0


def test_a_run_that_spends_its_calls_is_gone_on_with(bird, here, raw, nobody):
    for number in range(40):
        bird.recording.add("message_event", event(number, NOON - number * timedelta(minutes=10)))
    runs = 0
    while True:
        filled = fill(api_of(bird, calls=4), here, raw, nobody, NOON - DAY, NOON + HOUR, ["delivery"])
        here.take_raw(raw.objects.values())
        runs += 1
        if not filled.left:
            break
        assert runs < 20
    everything = [one for body in raw.objects.values() for one in json.loads(body)]
    assert len(everything) == len(here.at) == 40


def test_events_of_a_run_are_bounded_the_oldest_day_first(bird, here, raw, nobody):
    for number in range(20):
        bird.recording.add("message_event", event(number, NOON - (number // 10) * DAY))
    filled = fill(api_of(bird), here, raw, nobody, NOON - 2 * DAY, NOON + HOUR, ["delivery"], Limits(events=10))
    assert (filled.stored, filled.left) == (10, True)
    assert list(raw.objects) == [name for name in raw.objects if name.startswith("backfill-20261125T12-")]


@pytest.mark.parametrize("cut_at", range(1, 14, 3))
def test_a_run_that_dies_anywhere_is_gone_on_with_and_nothing_comes_twice(bird, here, nobody, cut_at, monkeypatch):
    monkeypatch.setattr("reconcile.filling.EVENTS_OF_A_BATCH", 10)
    for number in range(120):
        bird.recording.add("message_event", event(number, NOON + number * timedelta(seconds=30)))

    class Dies(Raw):
        def put_once(self, name, body):
            nonlocal cut_at
            cut_at -= 1
            if cut_at == 0:
                raise KeyboardInterrupt
            return super().put_once(name, body)

    raw = Dies()
    rng = random.Random(cut_at)  # noqa: S311  (repeatable is what it has to be)
    for _ in range(2):
        try:
            fill(api_of(bird, per_page=50), here, raw, nobody, NOON, NOON + HOUR, ["delivery"])
            break
        except KeyboardInterrupt:  # rows of some of its batches are there by the next run
            here.take_raw(rng.sample(sorted(raw.objects.values()), len(raw.objects) // 2))
    stored = [one["msys"]["message_event"]["event_id"] for body in raw.objects.values() for one in json.loads(body)]
    assert len(stored) == len(set(stored)) == 120


# --- Persons who were erased ---


def test_an_erased_person_does_not_return(bird, here, raw):
    person = "Person@Example.com"
    stone = tombstones.renewed(None, NOON + MINUTE, ERASED_KEY, [])
    known = tombstones.read([(tombstones.name(person, ERASED_KEY), tombstones.encode(stone))], ERASED_KEY)
    events = [
        event(1, rcpt_to="person@example.com"),
        event(2, raw_rcpt_to="PERSON@example.com"),
        event(3, raw_reason="550 5.1.1 <person@example.com>: unknown"),
        event(4, rcpt_meta={"a": ["b", {"to": "person@example.com"}]}),
        event(5, target_link_url="https://shop.example.com/?who=person%40example.com&x=1"),
        event(6, rcpt_to="another.person@example.com"),
        event(7, NOON + 2 * MINUTE, rcpt_to="person@example.com"),
    ]
    for one in events:
        bird.recording.add("message_event", one)
    filled = fill(api_of(bird), here, raw, lambda: known, NOON, NOON + HOUR, ["delivery"])
    assert (filled.stored, filled.erased) == (2, 5)
    [body] = raw.objects.values()
    assert [one["msys"]["message_event"]["event_id"][-1] for one in json.loads(body)] == ["6", "7"]


def test_tombstones_are_read_from_the_lake_and_another_keys_stop_it(s3):
    stone = tombstones.renewed(None, NOON, ERASED_KEY, [])
    name = tombstones.name("person@example.com", ERASED_KEY)
    now = 0.0
    erased = Erased(s3, LAKE_BUCKET, ERASED_KEY, clock=lambda: now)
    assert not erased().covers("person@example.com", NOON)
    s3.put_object(Bucket=LAKE_BUCKET, Key=name, Body=tombstones.encode(stone))
    now = 61.0
    assert erased().covers("Person@example.com", NOON)
    assert not erased().covers("person@example.com", NOON + MINUTE)
    with pytest.raises(UnknownKeyError):
        Erased(s3, LAKE_BUCKET, b"another")()


# --- As rows ---


def process_all(s3, keys: Iterable[str]) -> None:
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": RAW_BUCKET}, "object": {"key": key}},
        }
        for key in keys
    ]
    process.app.lambda_handler({"Records": records}, None)


def rows(s3) -> list[dict]:
    found = []
    for item in s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="events/").get("Contents", []):
        file = BytesIO(s3.get_object(Bucket=LAKE_BUCKET, Key=item["Key"])["Body"].read())
        table = read_parquet(file).read_all()
        found += [
            dict(zip(table.column_names, values, strict=True))
            for values in zip(*(column.to_pylist() for column in table.columns), strict=True)
        ]
    return found


def by_identity(found: list[dict]) -> dict[tuple, dict]:
    key = ("customer_id", "event_class", "type", "event_key")
    without = ("batch_id", "received_at")
    made = {tuple(row[name] for name in key): {k: v for k, v in row.items() if k not in without} for row in found}
    assert len(made) == len(found)
    return made


def test_filled_rows_are_the_webhooks_rows(s3, bird, here, nobody):
    """Of the same events by both ways, odd ones too: equal in every column but batch_id and received_at."""
    maker = BatchMaker(1, NOON, spread_seconds=1800)
    batches = [maker.batch(number, 200) for number in range(2)]
    for batch in batches:
        bird.recording.record(batch)
        s3.put_object(Bucket=RAW_BUCKET, Key=f"raw/{batch.batch_id}.json", Body=batch.body)
    process_all(s3, [f"raw/{batch.batch_id}.json" for batch in batches])
    by_webhook = by_identity(rows(s3))
    for item in s3.list_objects_v2(Bucket=LAKE_BUCKET)["Contents"]:
        s3.delete_object(Bucket=LAKE_BUCKET, Key=item["Key"])

    store = RawBatches(s3, RAW_BUCKET, "raw")
    filled = fill(api_of(bird), here, store, nobody, NOON - 4 * HOUR, NOON + HOUR, TYPES)
    names = list(store.names("backfill-"))
    process_all(s3, [f"raw/{name}.json" for name in names])
    by_filling = by_identity(rows(s3))
    wanted = {key: row for key, row in by_webhook.items() if key[2] in FILLABLE}
    assert len(wanted) > 250
    assert by_filling == wanted
    assert (filled.stored, filled.batches) == (len(wanted), len(names))
    assert {row["batch_id"] for row in rows(s3)} == set(names)


def test_a_raw_batch_is_put_once_with_what_ingest_would_say_of_it(s3):
    store = RawBatches(s3, RAW_BUCKET, "raw")
    assert store.put_once("backfill-20261126T12-open-0", b"[]")
    assert not store.put_once("backfill-20261126T12-open-0", b"[1]")
    found = s3.get_object(Bucket=RAW_BUCKET, Key="raw/backfill-20261126T12-open-0.json")
    assert found["Body"].read() == b"[]" == store.read("backfill-20261126T12-open-0")
    assert found["ContentType"] == "application/json"
    assert found["Metadata"]["batch-id"] == "backfill-20261126T12-open-0"
    assert found["Metadata"]["body-sha256"] == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert datetime.fromisoformat(found["Metadata"]["received-at"]).tzinfo is not None
    assert list(store.names("backfill-20261126T12-")) == ["backfill-20261126T12-open-0"]
    with pytest.raises(ClientError):
        RawBatches(s3, "no-such-bucket", "raw").put_once("backfill-1", b"[]")


def test_a_dry_run_counts_and_stores_nothing(bird, here, nobody):
    recorded(bird, here, [event(n) for n in range(600)], range(550))
    filled = fill(api_of(bird), here, NothingStored(), nobody, NOON, NOON + HOUR, ["delivery"])
    assert (filled.stored, filled.batches) == (550, 2)


def test_each_way_of_losing_a_batch_is_recorded_by_bird(bird, tmp_path):
    """The stand-in follows the sender's ledger: Bird has a lost batch's events, and what happened to the batch."""
    ledger = Ledger(tmp_path / "ledger")
    bird.recording.follow(ledger.path)
    bird.webhooks["1"] = {"events": ["delivery"]}
    batches = list(BatchMaker(2, NOON, spread_seconds=1800).batches(4))
    for batch, (failed, answer, outcome) in zip(
        batches, [(12, "413", GIVEN_UP), (12, "503", GIVEN_UP), (0, "", ACCEPTED), (1, "503", ACCEPTED)], strict=True
    ):
        ledger.sending(batch)
        for attempt in range(1, failed + 1):
            ledger.failed(batch, attempt, answer)
        ledger.done(batch, outcome)
    ledger.close()
    api = api_of(bird)
    statuses = [(one.batch_id, one.attempts, one.failure_code, one.succeeded) for one in api.batch_status("1")]
    assert statuses == [
        (batches[0].batch_id, 12, "413", False),
        (batches[1].batch_id, 12, "503", False),
        (batches[3].batch_id, 1, "", True),
    ]
    sent = [event for batch in batches for _, event in events_of(batch) if event["type"] in FILLABLE]
    assert api.count(NOON - HOUR, NOON + HOUR, FILLABLE) == len(sent)
    assert len(sent) > 10
