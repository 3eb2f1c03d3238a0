"""A batch that ends its invocation, or cannot be read, takes no other along; neither does an outage make many files."""

import json
import logging
import os
import time
from io import BytesIO

import pytest
from arro3.io import read_parquet

import process.app
import process.rows
from maintain.generate.events import created, sqs
from process.app import lambda_handler
from process.rows import Rows
from tests.integration import moto_server

RAW_BUCKET, LAKE_BUCKET = "raw-bucket", "lake-bucket"
KILLER = b"this one kills"


def put(s3, name: str, *event_ids: str, subject: str = "") -> None:
    events = [
        {"msys": {"track_event": {"type": "open", "event_id": one, "timestamp": "1460989507", "subject": subject}}}
        for one in event_ids
    ]
    s3.put_object(Bucket=RAW_BUCKET, Key=f"raw/{name}.json", Body=json.dumps(events).encode())


def announce(*names: str, receive_count: int = 1, bucket: str = RAW_BUCKET, prefix: str = "raw/") -> dict:
    event = sqs(*({"Records": [created(f"{prefix}{name}.json", bucket)]} for name in names))
    for name, record in zip(names, event["Records"], strict=True):
        record["messageId"] = name
        record["attributes"]["ApproximateReceiveCount"] = str(receive_count)
    return event


def failures(answer: dict) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def files(s3) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket=LAKE_BUCKET).get("Contents", [])
    return {item["Key"]: s3.get_object(Bucket=LAKE_BUCKET, Key=item["Key"])["Body"].read() for item in found}


def event_ids(s3) -> list[str]:
    return sorted(
        event_id
        for key, body in files(s3).items()
        if key.endswith(".parquet")
        for event_id in read_parquet(BytesIO(body)).read_all()["event_id"].to_pylist()
    )


def quarantined(s3) -> list[dict]:
    return [json.loads(line) for key, body in files(s3).items() if ".ndjson" in key for line in body.splitlines()]


def logged(caplog, message: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == message]


def end(*_: object) -> None:
    os._exit(9)


def hang(*_: object) -> None:
    time.sleep(60)


def fill_memory(*_: object) -> None:
    filled = []
    while True:
        filled.append(bytearray(b"x") * 2**27)


def fail(*_: object) -> None:
    raise ZeroDivisionError("person@example.com")


@pytest.fixture
def queue(moto_endpoint, s3):
    """A queue's messages about raw objects, as Lambda hands them over."""
    client = moto_server.client("sqs", moto_endpoint)
    url = client.create_queue(QueueName="process-queue", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    class Queue:
        def send(self, *names: str) -> None:
            for name in names:
                body = json.dumps({"Records": [created(f"raw/{name}.json")]})
                client.send_message(QueueUrl=url, MessageBody=body)

        def receive(self, count: int) -> dict:
            messages = []
            while len(messages) < count:
                messages += client.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], VisibilityTimeout=30
                )["Messages"]
            records = [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": {**message["Attributes"], "ApproximateReceiveCount": "2"},
                    "eventSource": "aws:sqs",
                    "eventSourceARN": arn,
                }
                for message in messages
            ]
            return {"Records": records}

        def count(self) -> int:
            attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            found = client.get_queue_attributes(QueueUrl=url, AttributeNames=attributes)["Attributes"]
            return sum(map(int, found.values()))

    yield Queue()
    client.delete_queue(QueueUrl=url)
    client.close()


def test_what_came_back_is_learnt_from(s3, queue):
    # GIVEN a batch that came back, which is read in a child process
    put(s3, "batch", "1")
    queue.send("batch")
    assert lambda_handler(queue.receive(1), None) == {"batchItemFailures": []}
    # WHEN another of its kind is read
    put(s3, "another", "2")
    body = s3.get_object(Bucket=RAW_BUCKET, Key="raw/another.json")["Body"].read()
    # THEN this process knows the fields of its events
    assert process.app.layouts().decode(body) is not None


EACH_ONCE = {("add", end), ("_to_columns", hang), ("take_days", fill_memory), ("add", fail)}
FATES = [
    pytest.param(stage, fate, marks=[] if (stage, fate) in EACH_ONCE else [pytest.mark.nightly])
    for stage in ("add", "_to_columns", "take_days")
    for fate in (end, hang, fill_memory, fail)
]


@pytest.mark.parametrize(("stage", "fate"), FATES)
def test_a_batch_that_ends_its_process_takes_nobody_along(s3, queue, monkeypatch, caplog, stage, fate):
    # GIVEN ten batches that came back, one of which ends whatever makes rows of it
    monkeypatch.setattr(process.app, "CHILD_SECONDS", 3)
    monkeypatch.setattr(process.rows, "ROWS_AT_ONCE", 3 if stage == "_to_columns" else 1_000)
    original = getattr(Rows, stage)

    def deadly(rows, *arguments):
        if stage == "add":
            is_deadly = KILLER in arguments[0].body
        else:
            is_deadly = any("4" in one.event_keys for one in arguments or rows._gathered.values())
        if is_deadly:
            fate()
        return original(rows, *arguments)

    monkeypatch.setattr(Rows, stage, deadly)
    names = [f"batch-{number}" for number in range(10)]
    for number, name in enumerate(names):
        put(s3, name, str(number), subject=KILLER.decode() if number == 4 else "")
    queue.send(*names)
    event = queue.receive(10)
    [killer] = [record["messageId"] for record in event["Records"] if "batch-4" in record["body"]]
    # WHEN process gets all of them at once
    answer = lambda_handler(event, None)
    # THEN the others are rows, and have left the queue before the invocation ends
    assert event_ids(s3) == [str(number) for number in range(10) if number != 4]
    assert failures(answer) == [killer]
    assert queue.count() == 1
    [record] = logged(caplog, "raw batch ended its process")
    assert record.raw_key == "raw/batch-4.json"
    assert "example.com" not in caplog.text


def test_what_comes_back_after_an_outage_makes_as_few_files(s3, queue, monkeypatch):
    monkeypatch.setattr(process.app, "FLUSH_BODY_BYTES", 30_000)
    names = [f"batch-{number:03}" for number in range(40)]
    for number, name in enumerate(names):
        put(s3, name, *(f"{number}-{one}" for one in range(25)))
    found = []
    queue.send(*names)
    for event in (announce(*names), queue.receive(40)):
        assert failures(lambda_handler(event, None)) == []
        found.append((len(files(s3)), event_ids(s3)))
        for key in files(s3):
            s3.delete_object(Bucket=LAKE_BUCKET, Key=key)
    (first_files, first_ids), (again_files, again_ids) = found
    assert first_ids == again_ids
    assert len(again_ids) == 1000
    assert 2 <= first_files == again_files
    assert queue.count() == 0


def test_any_exception_over_one_object_fails_that_object_alone(s3, monkeypatch, caplog):
    original = Rows.add
    monkeypatch.setattr(
        Rows, "add", lambda rows, batch, *rest: fail() if KILLER in batch.body else original(rows, batch, *rest)
    )
    put(s3, "a", "1")
    put(s3, "b", "2", subject=KILLER.decode())
    put(s3, "c", "3")
    assert failures(lambda_handler(announce("a", "b", "c"), None)) == ["b"]
    assert event_ids(s3) == ["1", "3"]
    [record] = logged(caplog, "raw batch not processed")
    assert record.reason.startswith("ZeroDivisionError in fail, line ")
    assert "example.com" not in caplog.text


def test_an_exception_over_columns_fails_its_culprit_alone(s3, monkeypatch):
    monkeypatch.setattr(process.rows, "ROWS_AT_ONCE", 2)
    original = Rows._to_columns
    monkeypatch.setattr(Rows, "_to_columns", lambda rows, one: fail() if "2" in one.event_keys else original(rows, one))
    for name, event_id in (("a", "1"), ("b", "2"), ("c", "3")):
        put(s3, name, event_id)
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/a-odd.json", Body=b"[7]")
    assert failures(lambda_handler(announce("a", "a-odd", "b", "c"), None)) == ["b"]
    assert event_ids(s3) == ["1", "3"]
    assert [one["raw_key"] for one in quarantined(s3)] == ["raw/a-odd.json"]


def test_an_exception_over_a_file_fails_its_culprit_alone(s3, monkeypatch):
    original = process.app.to_parquet
    monkeypatch.setattr(
        process.app, "to_parquet", lambda table: fail() if "2" in table["event_id"].to_pylist() else original(table)
    )
    for name, event_id in (("a", "1"), ("b", "2"), ("c", "3")):
        put(s3, name, event_id)
    assert failures(lambda_handler(announce("a", "b", "c"), None)) == ["b"]
    assert event_ids(s3) == ["1", "3"]


@pytest.mark.parametrize("receive_count", [1, 2])
def test_keys_that_the_store_refuses_are_quarantined(s3, receive_count):
    put(s3, "good", "1")
    names = ["2026//a", "2026/./a", "2026/../a", "a\tb", "a\x7fb", "a\nb"]
    answer = lambda_handler(announce("good", *names, receive_count=receive_count), None)
    assert failures(answer) == []
    assert event_ids(s3) == ["1"]
    assert sorted((one["raw_key"], one["reason"]) for one in quarantined(s3)) == sorted(
        (f"raw/{name}.json", "the key of the raw object cannot be read") for name in names
    )


def test_an_archived_object_is_named_and_not_tried_again(s3):
    put(s3, "good", "1")
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/old.json", Body=b"[]", StorageClass="GLACIER")
    assert failures(lambda_handler(announce("good", "old"), None)) == []
    assert event_ids(s3) == ["1"]
    [record] = quarantined(s3)
    assert (record["raw_key"], record["reason"], record["raw_expires_at"]) == (
        "raw/old.json",
        "the raw object is archived: restore it, then replay the batch",
        None,
    )


@pytest.mark.parametrize(
    ("bucket", "prefix"),
    [
        pytest.param("bucket-of-a-colleague", "raw/", id="bucket"),
        pytest.param(LAKE_BUCKET, "raw/", id="lake"),
        pytest.param(RAW_BUCKET, "rawer/", id="prefix"),
        pytest.param(RAW_BUCKET, "", id="no prefix"),
    ],
)
def test_messages_about_objects_that_are_not_ours_fail_and_are_counted(s3, caplog, bucket, prefix):
    caplog.set_level(logging.INFO)
    put(s3, "good", "1")
    s3.put_object(Bucket=LAKE_BUCKET, Key="raw/forged.json", Body=b"[7]")
    s3.put_object(Bucket=RAW_BUCKET, Key="rawer/forged.json", Body=b"[7]")
    event = announce("good")
    event["Records"] += announce("forged", bucket=bucket, prefix=prefix)["Records"]
    assert failures(lambda_handler(event, None)) == ["forged"]
    assert (event_ids(s3), quarantined(s3)) == (["1"], [])
    [record] = logged(caplog, "raw batches processed")
    assert record.objects_elsewhere == 1
    [refused] = logged(caplog, "object of another bucket or prefix")
    assert refused.message_id == "forged"
    s3.delete_object(Bucket=LAKE_BUCKET, Key="raw/forged.json")


@pytest.mark.parametrize("bucket", [RAW_BUCKET, "bucket-before"], ids=["prefix", "bucket"])
def test_a_batch_that_waits_where_batches_lay_before_becomes_rows_under_its_own_id(s3, monkeypatch, bucket):
    """findings/bugs-2.md F4: RawPrefix or the bucket was changed while its message was in the queue."""
    monkeypatch.setenv("RAW_PREFIX", "B Event Data")
    monkeypatch.setenv("FORMER_RAW_PLACES", f"another/raw,{bucket}/raw")
    if bucket != RAW_BUCKET:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    put(s3, "old-1", "1")
    if bucket != RAW_BUCKET:
        s3.copy_object(Bucket=bucket, Key="raw/old-1.json", CopySource=f"{RAW_BUCKET}/raw/old-1.json")
    assert failures(lambda_handler(announce("old-1", bucket=bucket), None)) == []
    [body] = files(s3).values()
    [row] = read_parquet(BytesIO(body)).read_all().to_struct_array().to_pylist()
    assert (row["event_id"], row["batch_id"]) == ("1", "old-1")


def test_marker_files_of_other_tools_are_no_batches(s3):
    event = sqs(*({"Records": [created(key)]} for key in ("raw/", "raw/a_$folder$", "raw/_SUCCESS")))
    assert failures(lambda_handler(event, None)) == []
    assert files(s3) == {}


def test_rows_that_were_not_written_drop_no_other(s3, monkeypatch):
    monkeypatch.setattr(process.app, "FLUSH_BODY_BYTES", 1)
    written = []

    def write(lake, key: str, body: bytes, content_type: str) -> None:
        written.append(key)
        if len(written) == 1:
            raise process.app.StorageUnavailableError("once")
        original(lake, key, body, content_type)

    original = process.app.Lake.write
    monkeypatch.setattr(process.app.Lake, "write", write)
    put(s3, "a", "only-a", "shared")
    put(s3, "b", "only-b", "shared")
    assert failures(lambda_handler(announce("a", "b"), None)) == ["a"]
    assert event_ids(s3) == ["only-b", "shared"]


class LittleTime:
    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.mark.parametrize("receive_count", [1, 2])
def test_without_time_messages_are_given_back(s3, receive_count):
    put(s3, "a", "1")
    event = announce("a", receive_count=receive_count)
    assert failures(lambda_handler(event, LittleTime(30_000))) == ["a"]
    assert failures(lambda_handler(event, LittleTime(100_000))) == []


def test_a_batch_beyond_the_limits_is_one_record_that_points_to_it(s3, monkeypatch):
    monkeypatch.setenv("RAW_RETENTION_DAYS", "90")
    put(s3, "good", "1")
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/ones.json", Body=b"[" + b"1," * 400_000 + b"1]")
    assert failures(lambda_handler(announce("good", "ones"), None)) == []
    assert event_ids(s3) == ["1"]
    [record] = quarantined(s3)
    assert (record["raw_key"], record["index"], record["reason"]) == (
        "raw/ones.json",
        None,
        "more than 1000 elements that are no events",
    )
    assert "original" not in record
    assert record["raw_expires_at"].endswith("T00:00:00.000+00:00")


def test_large_batches_wait_until_the_others_are_rows(s3, monkeypatch):
    order = []
    original = Rows.add
    monkeypatch.setattr(
        Rows, "add", lambda rows, batch, *rest: order.append(batch.batch_id) or original(rows, batch, *rest)
    )
    put(s3, "a-large", "1", subject="x" * 2_000_000)
    put(s3, "b", "2")
    assert failures(lambda_handler(announce("a-large", "b"), None)) == []
    assert order == ["b", "a-large"]
    assert event_ids(s3) == ["1", "2"]
