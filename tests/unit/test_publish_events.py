"""Rows become entries that EventBridge takes; full requests; what is refused goes again and is never forgotten."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from process.columns import COLUMNS, ColumnType
from process.layouts import Layouts
from process.metrics import TYPES
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_csv, to_parquet
from publish_events.bus import Bus
from publish_events.columns import BIRD_TYPES, KINDS
from publish_events.delivery import publish
from publish_events.entries import MAX_BYTES, Entry, entry_of
from publish_events.notification import LakeFile, UnreadableMessageError, announced
from publish_events.quarantine import Refused, quarantine_object
from publish_events.rows import UnreadableFileError, rows_of_types

SAMPLES = Path(__file__).resolve().parents[2] / "events/samples/all-27-events-distinct-ids.json"
FILE = LakeFile("lake-bucket", "events/event_date=2016-04-18/a.parquet")
ARN = "arn:aws:s3:::lake-bucket/events/event_date=2016-04-18/a.parquet"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
ROW = {
    "event_class": "message_event",
    "type": "bounce",
    "timestamp": datetime(2016, 4, 18, 14, 25, 7, 5000, tzinfo=UTC),
    "event_id": "92356927693813856",
    "event_key": "92356927693813856",
    "batch_id": "batch-1",
    "received_at": datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC),
    "subaccount_id": None,
    "rcpt_to": "recipient@example.com",
    "rcpt_meta": '{ "n": 1.0, "big": 12345678901234567890, "text":"\\u00e9"}',
    "bounce_class": 10,
    "open_tracking": True,
    "geo_ip_latitude": 39.5,
    "extra": '{"next_attempt":"5"}',
}


def files_of_samples() -> tuple[bytes, bytes]:
    """The vendor's samples as process writes them: Parquet, CSV."""
    rows = Rows(Layouts())
    rows.add(StoredBatch("batch-1", "raw/batch-1.json", 1480000000000, SAMPLES.read_bytes()))
    [(_, table, _)] = rows.take_days()
    return to_parquet(table), to_csv(table)


def entry(event_key: str, **fields) -> Entry:
    return entry_of({**ROW, "event_key": event_key, **fields}, FILE, ARN)


class FakeBus:
    """Takes what its plan says; `asked` has the keys of each request."""

    def __init__(self, *plan: dict[str, str]) -> None:
        self.plan = list(plan)  # for each request, the refusals by event_key
        self.asked: list[list[str]] = []
        self.pauses: list[float] = []

    def put(self, entries: Sequence[Entry]) -> list[str]:
        keys = [entry.fields["event_key"] for entry in entries]
        refusals = self.plan[min(len(self.asked), len(self.plan) - 1)] if self.plan else {}
        self.asked.append(keys)
        return [refusals.get(key, refusals.get("*", "")) for key in keys]

    def publish(self, entries, requests: int = 1000):
        return publish(entries, self.put, self.pauses.append, lambda: len(self.asked) >= requests)


def test_events_of_one_id_in_two_accounts_are_told_apart():
    ids = [json.loads(entry("1", customer_id=account).detail)["id"] for account in ("17", "18", None)]
    assert ids == ["17/message_event/bounce/1", "18/message_event/bounce/1", "/message_event/bounce/1"]


def test_detail_is_the_row_as_json():
    request = entry("92356927693813856").request("the-bus")
    assert request.pop("Detail") == (
        '{"id":"/message_event/bounce/92356927693813856","event_class":"message_event","type":"bounce",'
        '"timestamp":"2016-04-18T14:25:07.005Z","event_id":"92356927693813856","event_key":"92356927693813856",'
        '"batch_id":"batch-1","received_at":"2026-11-24T01:02:03.000Z","rcpt_to":"recipient@example.com",'
        '"rcpt_meta":{ "n": 1.0, "big": 12345678901234567890, "text":"\\u00e9"},"bounce_class":10,"open_tracking":true,'
        '"geo_ip_latitude":39.5,"extra":{"next_attempt":"5"}}'
    )
    assert request == {
        "Source": "bird-webhooks",
        "DetailType": "Bird Email Event",
        "Time": datetime(2016, 4, 18, 14, 25, 7, 5000, tzinfo=UTC),
        "Resources": [ARN],
        "EventBusName": "the-bus",
    }


def test_an_event_without_a_time_has_that_of_its_batch():
    assert entry("1", timestamp=None).time == datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)


def test_an_event_that_was_fetched_from_bird_says_so():
    """A rule leaves them out with {"detail": {"backfilled": [{"exists": false}]}}."""
    fetched = json.loads(entry("1", batch_id="backfill-20261126T10-bounce-0123").detail)
    assert (fetched["backfilled"], fetched["batch_id"]) == (True, "backfill-20261126T10-bounce-0123")
    assert "backfilled" not in json.loads(entry("1").detail)
    large = entry("1", batch_id="backfill-1", raw_reason="x" * MAX_BYTES)
    assert json.loads(large.detail)["backfilled"] is True


def test_size_is_counted_as_eventbridge_does():
    small = entry("1")
    assert small.size == 14 + len("bird-webhooks") + len("Bird Email Event") + len(ARN) + len(small.detail)
    assert entry("1", subject="ü").size - entry("1", subject="u").size == 1


TOO_LARGE = [
    pytest.param({"rcpt_meta": json.dumps("x" * 300_000)}, ["rcpt_meta"], id="metadata"),
    pytest.param(
        {"subject": "x" * 260_000, "rcpt_subs": json.dumps("y" * 255_000)}, ["subject", "rcpt_subs"], id="two"
    ),
    pytest.param({"subject": "ü" * 125_000}, ["subject"], id="in bytes, not in characters"),
    pytest.param({"rcpt_meta": json.dumps("x" * 240_000)}, [], id="just fits"),
]


@pytest.mark.parametrize(("fields", "omitted"), TOO_LARGE)
def test_what_makes_an_event_too_large_is_left_out_and_named(fields, omitted):
    made = entry("1", **fields)
    detail = json.loads(made.detail)
    assert made.size <= MAX_BYTES
    assert detail.get("omitted", []) == omitted
    assert [name for name in fields if name not in detail] == sorted(omitted, key=list(fields).index)
    assert (detail["id"], detail["batch_id"], detail["bounce_class"]) == ("/message_event/bounce/1", "batch-1", 10)


def test_an_id_that_fits_nowhere_is_left_for_eventbridge_to_refuse():
    made = entry("x" * 200_000)
    assert made.size > MAX_BYTES
    assert json.loads(made.detail).keys() == {"id", "event_class", "type", "event_key", "batch_id", "omitted"}


def test_kinds_are_those_of_the_columns_of_process():
    assert {column.name: str(column.type) for column in COLUMNS if column.type is not ColumnType.TEXT} == {
        name: str(kind) for name, kind in KINDS.items()
    }
    assert not {"id", "omitted"} & {column.name for column in COLUMNS}


def test_rows_of_the_types_asked_for_are_the_same_from_parquet_and_csv():
    parquet, csv = files_of_samples()
    types = {"bounce", "out_of_band", "spam_complaint", "list_unsubscribe", "link_unsubscribe"}
    rows = list(rows_of_types(parquet, types, csv=False))
    assert [row["type"] for row in rows] == [
        "bounce",
        "link_unsubscribe",
        "list_unsubscribe",
        "out_of_band",
        "spam_complaint",
    ]
    assert list(rows_of_types(csv, types, csv=True)) == rows
    bounce = rows[0]
    assert len(bounce) == len(COLUMNS)
    assert (bounce["bounce_class"], bounce["msg_size"], bounce["open_tracking"]) == (1, 1337, True)
    assert bounce["timestamp"] == datetime(2016, 4, 18, 14, 25, 7, tzinfo=UTC)
    assert list(rows_of_types(parquet, {"no such type"}, csv=False)) == []


def test_more_rows_than_are_decoded_at_once_keep_their_order(monkeypatch):
    monkeypatch.setattr("publish_events.rows.ROWS_AT_ONCE", 4)
    parquet, _ = files_of_samples()
    types = {"open", "click", "bounce", "success"}
    assert [row["type"] for row in rows_of_types(parquet, types, csv=False)] == ["bounce", "click", "open", "success"]


def corrupted(body: bytes) -> bytes:
    return body[:40] + b"\xff" * 400 + body[440:]


UNREADABLE = [
    pytest.param(lambda parquet: b"", False, id="nothing"),
    pytest.param(lambda parquet: b"event_class,type\n", False, id="CSV that is named Parquet"),
    pytest.param(lambda parquet: parquet[:-200], False, id="cut short"),
    pytest.param(lambda parquet: b"PAR1" + b"x" * 100 + b"PAR1", False, id="Parquet without a footer"),
    pytest.param(corrupted, False, id="damaged"),
    pytest.param(lambda parquet: b"a,b\n1,2\n", True, id="another CSV"),
    pytest.param(lambda parquet: b"event_class,type,event_key\n1,2\n", True, id="CSV with a field missing"),
    pytest.param(lambda parquet: b"\xff\xfe\n", True, id="CSV that is no text"),
]


@pytest.mark.parametrize(("damage", "csv"), UNREADABLE)
def test_a_file_that_cannot_be_read_says_so(damage, csv):
    parquet, _ = files_of_samples()
    with pytest.raises(UnreadableFileError):
        list(rows_of_types(damage(parquet), {"bounce"}, csv=csv))


def test_requests_are_full():
    bus = FakeBus()
    outcome = bus.publish(entry(str(number)) for number in range(25))
    assert [len(keys) for keys in bus.asked] == [10, 10, 5]
    assert [key for keys in bus.asked for key in keys] == [str(number) for number in range(25)]
    assert (outcome.published, outcome.incomplete, bus.pauses) == (25, set(), [])


def test_requests_are_no_larger_than_eventbridge_takes():
    bus = FakeBus()
    large = {"subject": "x" * 120_000}
    bus.publish([entry("1"), entry("2", **large), entry("3", **large), entry("4", **large), entry("5")])
    assert bus.asked == [["1", "2", "3"], ["4", "5"]]


def test_only_refused_events_go_again_together_with_new_ones():
    bus = FakeBus({"2": "ThrottlingException", "5": "InternalFailure"}, {})
    outcome = bus.publish(entry(str(number)) for number in range(20))
    assert bus.asked == [
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        ["2", "5", "10", "11", "12", "13", "14", "15", "16", "17"],
        ["18", "19"],
    ]
    assert (outcome.published, outcome.not_published, outcome.incomplete) == (20, 0, set())
    assert outcome.refusals == {"ThrottlingException": 1, "InternalFailure": 1}
    assert bus.pauses == [0.2]


def test_an_event_that_is_refused_for_ever_fails_its_file_and_keeps_no_other_waiting():
    other = LakeFile("lake-bucket", "events/event_date=2016-04-18/b.parquet")
    bus = FakeBus({"bad": "InternalFailure"})
    outcome = bus.publish([entry("bad"), *(entry_of({**ROW, "event_key": str(n)}, other, ARN) for n in range(100))])
    assert (outcome.published, outcome.not_published) == (100, 1)
    assert outcome.incomplete == {FILE}
    assert sum(keys.count("bad") for keys in bus.asked) == 6
    assert bus.pauses == [0.2, 0.4, 0.8, 1.6, 3.2]


def test_when_time_is_up_everything_not_taken_is_left_to_the_queue():
    bus = FakeBus({"*": "ThrottlingException"})
    outcome = bus.publish((entry(str(number)) for number in range(15)), requests=3)
    assert (outcome.published, outcome.not_published, outcome.incomplete) == (0, 10, {FILE})


@pytest.mark.parametrize("refusal", ["MalformedDetail", "InvalidArgument"])
def test_json_that_eventbridge_dislikes_is_left_out_and_named(refusal):
    taken: list[Entry] = []

    def put(entries: Sequence[Entry]) -> list[str]:
        refusals = [refusal if "rcpt_meta" in entry.fields or entry.time else "" for entry in entries]
        taken.extend(entry for entry, refused in zip(entries, refusals, strict=True) if not refused)
        return refusals

    outcome = publish([entry("1")], put, lambda seconds: None, lambda: False)
    assert (outcome.published, outcome.shortened, outcome.incomplete) == (1, 1, set())
    detail = json.loads(taken[0].detail)
    assert detail["omitted"] == ["rcpt_meta", "extra"]
    assert (detail["id"], detail["rcpt_to"]) == ("/message_event/bounce/1", "recipient@example.com")


def test_an_event_with_nothing_left_to_dislike_is_not_tried_again():
    bus = FakeBus({"*": "MalformedDetail"})
    outcome = bus.publish([entry("1")])
    assert bus.asked == [["1"], ["1"]]
    assert (outcome.not_published, outcome.incomplete) == (0, set())
    assert [(entry.fields["event_key"], code) for entry, code in outcome.refused] == [("1", "MalformedDetail")]


def test_refusal_that_is_not_known_is_the_entrys_own_if_others_are_taken():
    bus = FakeBus({"bad": "SomethingNewException"})
    outcome = bus.publish([entry("bad"), entry("good")])
    assert [code for _, code in outcome.refused] == ["SomethingNewException"]
    assert (outcome.published, outcome.not_published, outcome.incomplete) == (1, 0, set())
    # Where nothing is taken at all, it may be the account's: the message comes again.
    alone = FakeBus({"*": "SomethingNewException"}).publish([entry("bad"), entry("good")])
    assert (alone.refused, alone.not_published, alone.incomplete) == ([], 2, {FILE})


class Client:
    """Refuses a request as a whole while an event with one of these keys is in it; `taken` has the others."""

    def __init__(self, error: Exception, *bad: str) -> None:
        self.error, self.bad = error, bad
        self.taken: list[str] = []
        self.requests = 0

    def put_events(self, Entries):  # noqa: N803
        self.requests += 1
        keys = [json.loads(entry["Detail"])["event_key"] for entry in Entries]
        if set(keys) & set(self.bad) or not self.bad:
            raise self.error
        self.taken += keys
        return {"Entries": [{"EventId": key} for key in keys]}


WHOLE_REQUESTS = [
    pytest.param(ClientError({"Error": {"Code": "ValidationException"}}, "PutEvents"), id="refused"),
    pytest.param(ClientError({"Error": {"Code": "SomethingNewException"}}, "PutEvents"), id="not known"),
    pytest.param(ParamValidationError(report="odd"), id="not even sent"),
    pytest.param(OverflowError("odd"), id="not even made"),
]


@pytest.mark.parametrize("error", WHOLE_REQUESTS)
def test_entry_that_makes_eventbridge_refuse_its_request_costs_itself(error):
    client = Client(error, "3", "17")
    outcome = publish([entry(str(n)) for n in range(25)], Bus(client, "the-bus").put, lambda s: None, lambda: False)
    assert sorted(client.taken, key=int) == [str(n) for n in range(25) if n not in (3, 17)]
    assert sorted(entry.fields["event_key"] for entry, _ in outcome.refused) == ["17", "3"]
    assert (outcome.published, outcome.not_published, outcome.incomplete) == (23, 0, set())
    assert client.requests < 150


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", "InternalFailure"])
def test_request_that_is_refused_for_another_reason_is_not_taken_apart(code):
    client = Client(ClientError({"Error": {"Code": code}}, "PutEvents"))
    outcome = publish([entry(str(n)) for n in range(10)], Bus(client, "the-bus").put, lambda s: None, lambda: False)
    assert client.requests == 6
    assert (outcome.published, outcome.not_published, outcome.refused) == (0, 10, [])


def test_refused_event_is_kept_with_its_reason():
    rows = [{**ROW, "rcpt_meta": "{broken", "subject": None}, {**ROW, "received_at": None}]
    key, body = quarantine_object(FILE, [Refused(row, "EventBridge refused the event: X") for row in rows], NOW)
    assert key == "quarantine/bus/2026-11-24/2016-04-18-a.parquet.ndjson"
    first, second = map(json.loads, body.splitlines())
    original = first.pop("original")
    assert first == {
        "reason": "EventBridge refused the event: X",
        "batch_id": "batch-1",
        "lake_key": FILE.key,
        "received_at": "2026-11-24T01:02:03.000+00:00",
        "index": None,
    }
    assert (original["rcpt_to"], original["rcpt_meta"]) == ("recipient@example.com", "{broken")
    assert (original["extra"], "subject" in original) == ({"next_attempt": "5"}, False)
    assert second["received_at"] == "2026-11-25T00:00:00.000+00:00"


def test_types_that_bird_documents_are_those_of_process():
    assert {kind for kinds in TYPES.values() for kind in kinds.split()} == BIRD_TYPES


def notification(key: str, event_name: str = "ObjectCreated:Put") -> str:
    about = {"bucket": {"name": "lake-bucket"}, "object": {"key": key}}
    return json.dumps({"Records": [{"eventName": event_name, "s3": about}]})


MESSAGES = [
    pytest.param(notification("events/event_date%3D2016-04-18/a.parquet"), [FILE], id="file of rows"),
    pytest.param(notification("events-csv/a+b.csv"), [LakeFile("lake-bucket", "events-csv/a b.csv")], id="CSV"),
    pytest.param(notification("events-csv/a.csv"), [LakeFile("lake-bucket", "events-csv/a.csv")], id="CSV's prefix"),
    pytest.param(notification("events/_tmp.parquet"), [], id="marker"),
    pytest.param(notification("events/_temporary/0/a.parquet"), [], id="in a folder of markers"),
    pytest.param(notification("events/a.parquet", "ObjectRemoved:Delete"), [], id="removed"),
    pytest.param('{"Service":"Amazon S3","Event":"s3:TestEvent"}', [], id="test event"),
]


@pytest.mark.parametrize(("body", "files"), MESSAGES)
def test_message_names_files(body, files):
    assert announced(body, "lake-bucket") == (files, 0)


@pytest.mark.parametrize("key", ["quarantine/a.parquet", "events.parquet", "closed/event_date%3D2016-04-18/a.parquet"])
def test_names_of_other_prefixes_and_buckets_are_refused(key):
    assert announced(notification(key), "lake-bucket") == ([], 1)
    assert announced(notification("events/a.parquet"), "another-bucket") == ([], 1)


@pytest.mark.parametrize(
    "body", ["", "no JSON", "[]", "[" * 200_000, '{"Records":[{}]}', '{"Type":"Notification","Message":"{}"}']
)
def test_message_that_is_no_notification_is_refused(body):
    with pytest.raises(UnreadableMessageError):
        announced(body, "lake-bucket")
