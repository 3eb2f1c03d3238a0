"""Announced files of rows become events on a bus; each failure leaves its message to the queue."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from obstore.store import S3Store

import process.app
import publish_events.app
import publish_events.lake
from maintain.generate.events import created, sqs
from publish_events.app import lambda_handler
from publish_events.bus import Bus
from publish_events.entries import entry_of
from tests.integration import moto_server

INPUTS2 = Path(__file__).resolve().parents[1] / "data/inputs2"
RAW_BUCKET = "raw-bucket"
LAKE_BUCKET = "lake-bucket"
BUS = "the-bus"


@pytest.fixture
def queue(s3, moto_endpoint, monkeypatch) -> Iterator[Any]:
    """What a rule on the bus hands on, as a function that takes all of it."""
    monkeypatch.setenv("LAKE_BUCKET_ARN", f"arn:aws:s3:::{LAKE_BUCKET}")
    monkeypatch.setenv("EVENT_BUS_NAME", BUS)
    monkeypatch.setenv("EVENT_TYPES", "bounce,out_of_band,spam_complaint,list_unsubscribe,link_unsubscribe")
    events, client = (moto_server.client(name, moto_endpoint) for name in ("events", "sqs"))
    events.create_event_bus(Name=BUS)
    url = client.create_queue(QueueName="target")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventBusName=BUS, EventPattern='{"source": ["bird-webhooks"]}')
    events.put_targets(Rule="all", EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])

    def take() -> list[dict]:
        found: list[dict] = []
        while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    yield take
    events.remove_targets(Rule="all", EventBusName=BUS, Ids=["queue"])
    events.delete_rule(Name="all", EventBusName=BUS)
    events.delete_event_bus(Name=BUS)
    client.delete_queue(QueueUrl=url)


def announce(*keys: str) -> dict:
    """One message for each file, as the topic hands S3's notification on."""
    event = sqs(*({"Records": [created(key)]} for key in keys))
    text = json.dumps(event).replace(RAW_BUCKET, LAKE_BUCKET)
    return json.loads(text)


def write_rows(s3, name: str, *events: dict, event_class: str = "message_event") -> str:
    """One file of rows, by process; its key."""
    batch = [{"msys": {event_class: {"timestamp": "1460989507", **event}}} for event in events]
    s3.put_object(Bucket=RAW_BUCKET, Key=f"raw/{name}.json", Body=json.dumps(batch).encode())
    before = keys(s3)
    process.app.lambda_handler(sqs({"Records": [created(f"raw/{name}.json")]}), None)
    [key] = keys(s3) - before
    return key


def keys(s3) -> set[str]:
    return {item["Key"] for item in s3.list_objects_v2(Bucket=LAKE_BUCKET).get("Contents", [])}


def ids(events: list[dict]) -> list[str]:
    return sorted(event["detail"]["id"] for event in events)


@pytest.mark.parametrize("output_format", ["PARQUET", "CSV"])
def test_what_process_writes_is_published(s3, queue, monkeypatch, output_format, caplog):
    monkeypatch.setenv("OUTPUT_FORMAT", output_format)
    bounce = {"type": "bounce", "event_id": "1", "bounce_class": "10", "rcpt_meta": {"a": [1]}, "new_field": "x"}
    first = write_rows(s3, "first", bounce, {"type": "delivery", "event_id": "2"})
    second = write_rows(s3, "second", {"type": "list_unsubscribe", "event_id": "3"}, event_class="unsubscribe_event")
    caplog.set_level("INFO")
    assert lambda_handler(announce(first, second), None) == {"batchItemFailures": []}
    events = queue()
    assert ids(events) == ["/message_event/bounce/1", "/unsubscribe_event/list_unsubscribe/3"]
    [event] = [event for event in events if event["detail"]["type"] == "bounce"]
    assert (event["source"], event["detail-type"]) == ("bird-webhooks", "Bird Email Event")
    assert event["resources"] == [f"arn:aws:s3:::{LAKE_BUCKET}/{first}"]
    received_at = event["detail"].pop("received_at")
    assert received_at.endswith("Z")
    assert event["detail"] == {
        "id": "/message_event/bounce/1",
        "event_class": "message_event",
        "type": "bounce",
        "timestamp": "2016-04-18T14:25:07.000Z",
        "event_id": "1",
        "event_key": "1",
        "batch_id": "first",
        "bounce_class": 10,
        "rcpt_meta": {"a": [1]},
        "extra": {"new_field": "x"},
    }
    [line] = [record for record in caplog.records if record.message == "events published"]
    assert (line.files, line.published, line.shortened, line.not_published) == (2, 2, 0, 0)
    [directive] = line._aws["CloudWatchMetrics"]
    assert [metric["Name"] for metric in directive["Metrics"]] == [
        "files_failed", "published", "shortened", "not_published", "refused", "held_back", "names_refused",
    ]  # fmt: skip


def test_file_with_nothing_to_publish_is_done_with(s3, queue):
    key = write_rows(s3, "opens", {"type": "open", "event_id": "1"}, event_class="track_event")
    assert lambda_handler(announce(key), None) == {"batchItemFailures": []}
    assert queue() == []


def test_file_that_is_gone_is_done_with_and_one_that_cannot_be_read_fails_its_message(s3, queue, caplog):
    good = write_rows(s3, "good", {"type": "bounce", "event_id": "1"})
    s3.put_object(Bucket=LAKE_BUCKET, Key="events/event_date=2016-04-18/bad.parquet", Body=b"no Parquet")
    given = announce("events/event_date=2016-04-18/gone.parquet", "events/event_date=2016-04-18/bad.parquet", good)
    bad_message = given["Records"][1]["messageId"]
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": bad_message}]}
    assert ids(queue()) == ["/message_event/bounce/1"]
    [line] = [record for record in caplog.records if record.message == "file not read"]
    assert (line.lake_key, line.reason) == ("events/event_date=2016-04-18/bad.parquet", "not Parquet")
    [line] = [record for record in caplog.records if record.message == "file gone: its events are not published"]
    assert (line.levelname, line.lake_key) == ("ERROR", "events/event_date=2016-04-18/gone.parquet")


def test_closed_files_are_never_published(s3, queue):
    key = write_rows(s3, "good", {"type": "bounce", "event_id": "1"})
    closed = key.replace("events/", "closed/").replace("good", "0001-5d41402abc4b/0000-00")
    s3.copy_object(Bucket=LAKE_BUCKET, Key=closed, CopySource={"Bucket": LAKE_BUCKET, "Key": key})
    assert lambda_handler(announce(closed), None) == {"batchItemFailures": []}
    assert queue() == []


def test_an_object_that_is_not_a_file_of_rows_is_left_out(s3, queue):
    s3.put_object(Bucket=LAKE_BUCKET, Key="events/README.txt", Body=b"no rows")
    assert lambda_handler(announce("events/README.txt"), None) == {"batchItemFailures": []}


def test_message_that_is_no_notification_fails_and_the_test_event_does_not(s3, queue, load_event):
    assert lambda_handler(load_event("sqs_test_event"), None) == {"batchItemFailures": []}
    given = {"Records": [{"messageId": "odd", "body": "no JSON"}]}
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": "odd"}]}


def test_storage_that_does_not_answer_fails_the_message(s3, queue, monkeypatch):
    nowhere = S3Store(
        LAKE_BUCKET,
        endpoint="http://127.0.0.1:9",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )
    monkeypatch.setattr(publish_events.lake, "_store", lambda bucket, allow_http: nowhere)
    given = announce("events/a.parquet")
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": given["Records"][0]["messageId"]}]}


class StubbornClient:
    """Refuses events with some ids, a given number of times; `taken` has the others."""

    def __init__(self, **refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[str] = []

    def put_events(self, Entries):  # noqa: N803
        results = []
        for entry in Entries:
            key = json.loads(entry["Detail"])["event_key"]
            if self.refusals.get(key, 0) > 0:
                self.refusals[key] -= 1
                results.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"})
            else:
                self.taken.append(key)
                results.append({"EventId": f"id-{key}"})
        return {"FailedEntryCount": 0, "Entries": results}


@pytest.fixture
def stubborn(monkeypatch):
    """A bus that refuses; pauses take no time."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def install(**refusals: int) -> StubbornClient:
        client = StubbornClient(**refusals)
        monkeypatch.setattr(publish_events.app, "bus", lambda: Bus(client, BUS))
        return client

    return install


def test_refused_events_go_again_within_the_invocation(s3, queue, stubborn):
    client = stubborn(b=2)
    key = write_rows(s3, "three", *({"type": "bounce", "event_id": name} for name in "abc"))
    assert lambda_handler(announce(key), None) == {"batchItemFailures": []}
    assert client.taken == ["a", "c", "b"]


def test_message_of_an_event_that_is_not_taken_comes_again_with_all_its_events(s3, queue, stubborn, caplog):
    client = stubborn(b=6)
    other = write_rows(s3, "other", {"type": "bounce", "event_id": "z"})
    key = write_rows(s3, "three", *({"type": "bounce", "event_id": name} for name in "abc"))
    given = announce(other, key)
    failed = given["Records"][1]["messageId"]
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": failed}]}
    assert sorted(client.taken) == ["a", "c", "z"]
    [line] = [record for record in caplog.records if record.message == "events published"]
    assert (line.levelname, line.not_published, line.refusals) == ("ERROR", 1, {"ThrottlingException": 6})
    assert (line.files, line.files_failed) == (1, 1)
    again = {"Records": given["Records"][1:]}
    assert lambda_handler(again, None) == {"batchItemFailures": []}
    assert sorted(client.taken) == ["a", "a", "b", "c", "c", "z"]


class PickyClient(StubbornClient):
    """Refuses requests with these events as a whole."""

    def put_events(self, Entries):  # noqa: N803
        if any(json.loads(entry["Detail"])["event_key"] in self.refusals for entry in Entries):
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "jane@example.com"}}, "PutEvents")
        return super().put_events(Entries)


def test_one_event_that_eventbridge_refuses_costs_that_event(s3, queue, monkeypatch, caplog):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client = PickyClient(bad=1)
    monkeypatch.setattr(publish_events.app, "bus", lambda: Bus(client, BUS))
    names = [*"abcdefghijk", "bad"]
    key = write_rows(
        s3, "some", *({"type": "bounce", "event_id": name, "rcpt_to": "jane@example.com"} for name in names)
    )
    assert lambda_handler(announce(key), None) == {"batchItemFailures": []}
    assert sorted(client.taken) == list("abcdefghijk")
    [line] = [record for record in caplog.records if record.message == "events published"]
    assert (line.levelname, line.published, line.refused, line.not_published) == ("ERROR", 11, 1, 0)
    [aside] = [key for key in keys(s3) if key.startswith("quarantine/bus/")]
    record = json.loads(s3.get_object(Bucket=LAKE_BUCKET, Key=aside)["Body"].read())
    assert (record["reason"], record["lake_key"]) == ("EventBridge refused the event: ValidationException", key)
    assert (record["original"]["event_id"], record["original"]["rcpt_to"]) == ("bad", "jane@example.com")
    assert "example.com" not in caplog.text


def test_refused_event_that_cannot_be_kept_fails_its_message(s3, queue, monkeypatch):
    def unwritable(*_, **__):
        raise publish_events.lake.StorageUnavailableError("PermissionDeniedError")

    monkeypatch.setattr(publish_events.app, "bus", lambda: Bus(PickyClient(bad=1), BUS))
    monkeypatch.setattr(publish_events.lake, "write", unwritable)
    key = write_rows(s3, "one", {"type": "bounce", "event_id": "bad"})
    given = announce(key)
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": given["Records"][0]["messageId"]}]}


def test_row_of_which_no_event_can_be_made_costs_itself(s3, queue, monkeypatch, caplog):
    def odd(row, file, resource):
        if row["event_id"] == "2":
            raise KeyError("jane@example.com")
        return entry_of(row, file, resource)

    monkeypatch.setattr(publish_events.app, "entry_of", odd)
    key = write_rows(s3, "two", {"type": "bounce", "event_id": "1"}, {"type": "bounce", "event_id": "2"})
    assert lambda_handler(announce(key), None) == {"batchItemFailures": []}
    assert ids(queue()) == ["/message_event/bounce/1"]
    assert len([key for key in keys(s3) if key.startswith("quarantine/bus/")]) == 1
    assert "example.com" not in caplog.text


@pytest.mark.parametrize("key", ["events//event_date=2016-04-18/a.parquet", "events/event_date=2016-04-18//a.csv",
                                 "events/event_date=2016-04-18/a\tb.csv", "events/../a.csv"])  # fmt: skip
def test_odd_key_fails_its_own_message(s3, queue, key):
    good = write_rows(s3, "good", {"type": "bounce", "event_id": "1"})
    given = announce(key, good)
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": given["Records"][0]["messageId"]}]}
    assert ids(queue()) == ["/message_event/bounce/1"]


def test_file_on_which_the_code_fails_fails_its_own_message(s3, queue, monkeypatch):
    good, bad = (write_rows(s3, name, {"type": "bounce", "event_id": name}) for name in ("good", "bad"))

    read = publish_events.lake.read

    def odd(file, *, allow_http):
        if file.key == bad:
            raise RuntimeError
        return read(file, allow_http=allow_http)

    monkeypatch.setattr(publish_events.lake, "read", odd)
    given = announce(bad, good)
    assert lambda_handler(given, None) == {"batchItemFailures": [{"itemIdentifier": given["Records"][0]["messageId"]}]}
    assert ids(queue()) == ["/message_event/bounce/good"]


def test_names_of_other_buckets_are_refused(s3, queue, caplog):
    key = write_rows(s3, "good", {"type": "bounce", "event_id": "1"})
    given = json.loads(json.dumps(announce(key)).replace(LAKE_BUCKET, "bucket-of-a-colleague"))
    assert lambda_handler(given, None) == {"batchItemFailures": []}
    assert queue() == []
    assert "name of another bucket or prefix refused" in caplog.text
    [line] = [record for record in caplog.records if record.message == "events published"]
    assert line.names_refused == 1


SLIPS = [line.split("#")[0].strip() for line in (INPUTS2 / "10-published-types.txt").read_text().splitlines()]
SLIPS = [line.partition("|")[0].strip() for line in SLIPS if line]


@pytest.mark.parametrize("types", SLIPS)
def test_types_that_no_event_has_are_named_once(s3, queue, monkeypatch, caplog, types):
    publish_events.app.event_types.cache_clear()
    publish_events.app._warned_of.cache_clear()
    monkeypatch.setenv("EVENT_TYPES", types)
    rows = {"type": "bounce", "event_id": "1"}, {"type": "spam_complaint", "event_id": "2"}
    for name in ("first", "second"):
        assert lambda_handler(announce(write_rows(s3, name, *rows)), None) == {"batchItemFailures": []}
    said = [record.types for record in caplog.records if "types that no event has" in record.message]
    expected = {"bounces,spam_complaints": [["bounces", "spam_complaints"]], "bounce, spam_complaint": []}
    assert said == expected.get(types, [[types]])


def test_type_that_bird_does_not_document_but_the_rows_have_is_no_slip(s3, queue, monkeypatch, caplog):
    publish_events.app.event_types.cache_clear()
    publish_events.app._warned_of.cache_clear()
    monkeypatch.setenv("EVENT_TYPES", "bounce,brand_new")
    key = write_rows(s3, "new", {"type": "brand_new", "event_id": "1"})
    assert lambda_handler(announce(key), None) == {"batchItemFailures": []}
    assert ids(queue()) == ["/message_event/brand_new/1"]
    assert "types that no event has" not in caplog.text


def test_bus_that_is_not_reachable_or_says_no_refuses_all(s3, queue, stubborn, monkeypatch, caplog):
    stubborn()
    key = write_rows(s3, "one", {"type": "bounce", "event_id": "1"})
    given = announce(key)
    failed = {"batchItemFailures": [{"itemIdentifier": given["Records"][0]["messageId"]}]}
    config = publish_events.bus.CONFIG
    nowhere = boto3.client("events", endpoint_url="http://127.0.0.1:9", config=config)
    monkeypatch.setattr(publish_events.app, "bus", lambda: Bus(nowhere, BUS))
    assert lambda_handler(given, None) == failed
    [line] = [record for record in caplog.records if record.message == "events published"]
    assert line.refusals == {"EndpointConnectionError": 6}
    nowhere.close()
