"""Announced files of rows become events on a bus; each failure leaves its message to the queue."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from obstore.store import S3Store

import process.app
import publish_events.app
import publish_events.lake
from publish_events.app import lambda_handler
from publish_events.bus import Bus
from tools.make_events import created, sqs

RAW_BUCKET = "raw-bucket"
LAKE_BUCKET = "lake-bucket"
BUS = "the-bus"


@pytest.fixture
def queue(s3, moto_endpoint, monkeypatch) -> Iterator[Any]:
    """What a rule on the bus hands on, as a function that takes all of it."""
    monkeypatch.setenv("LAKE_BUCKET_ARN", f"arn:aws:s3:::{LAKE_BUCKET}")
    monkeypatch.setenv("EVENT_BUS_NAME", BUS)
    monkeypatch.setenv("EVENT_TYPES", "bounce,out_of_band,spam_complaint,list_unsubscribe,link_unsubscribe")
    events, client = (boto3.client(name, endpoint_url=moto_endpoint) for name in ("events", "sqs"))
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
    assert [metric["Name"] for metric in directive["Metrics"]] == ["published", "shortened", "not_published"]


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
    """Refuses the events of some ids, as often as it is told to; `taken` has the others."""

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
    again = {"Records": given["Records"][1:]}
    assert lambda_handler(again, None) == {"batchItemFailures": []}
    assert sorted(client.taken) == ["a", "a", "b", "c", "c", "z"]


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
