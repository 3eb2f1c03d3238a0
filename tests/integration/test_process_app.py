"""Announced objects become files in the lake; each failure goes where docs/architecture.md says."""

import gzip
import json
import logging
import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import obstore
import pytest
from arro3.io import read_parquet
from obstore.store import S3Store

import ingest.app
import process.app
from benchmarks import s3 as fast_s3
from maintain.generate.events import alb, created, sqs
from process import unshown
from process.app import RawBatchesNotProcessedError, lambda_handler
from process.bounds import LIMITS
from process.lake import Lake

RAW_BUCKET = "raw-bucket"
LAKE_BUCKET = "lake-bucket"
EVENT = {"type": "open", "event_id": "1", "timestamp": "1460989507"}


def put(s3, key: str, body: bytes | list, **options) -> None:
    content = json.dumps(body).encode() if isinstance(body, list) else body
    s3.put_object(Bucket=RAW_BUCKET, Key=key, Body=content, **options)


def element(**fields) -> dict:
    return {"msys": {"track_event": {**EVENT, **fields}}}


def announce(*keys: str) -> dict:
    return sqs(*({"Records": [created(key)]} for key in keys))


def lake(s3) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket=LAKE_BUCKET).get("Contents", [])
    return {item["Key"]: s3.get_object(Bucket=LAKE_BUCKET, Key=item["Key"])["Body"].read() for item in found}


def event_ids(s3) -> list[str]:
    return sorted(
        event_id
        for key, body in lake(s3).items()
        if key.endswith(".parquet")
        for event_id in read_parquet(BytesIO(body)).read_all()["event_id"].to_pylist()
    )


def quarantined(s3) -> list[dict]:
    return [json.loads(line) for key, body in lake(s3).items() if ".ndjson" in key for line in body.splitlines()]


def test_what_ingest_stores_process_reads(s3, load_event):
    ingest.app.lambda_handler(load_event("alb_batch_gzip"), None)
    ingest.app.lambda_handler(load_event("alb_batch_of_350"), None)
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=RAW_BUCKET)["Contents"]]
    assert lambda_handler(announce(*keys), None) == {"batchItemFailures": []}
    [(key, body)] = lake(s3).items()
    assert key.startswith("events/event_date=2016-04-18/")
    table = read_parquet(BytesIO(body)).read_all()
    assert table.num_rows == 350 + 27
    assert set(table["batch_id"].to_pylist()) == {"gzip-batch", "00000000-0000-4000-8000-000000000350"}


@pytest.mark.parametrize("name", ["s3_raw_batch_created", "s3_key_with_spaces", "sqs_raw_batches_created"])
def test_sample_notifications_are_processed(s3, load_event, name, monkeypatch):
    if name == "s3_key_with_spaces":
        monkeypatch.setenv("RAW_PREFIX", "B Event Data")
    put(s3, "B Event Data/batch-1.json", [element()])
    put(s3, "raw/batch-1.json", [element()])
    put(s3, "raw/batch-2.json", [element(event_id="2")])
    assert lambda_handler(load_event(name), None) == {"batchItemFailures": []}
    assert event_ids(s3) in (["1"], ["1", "2"])


def test_test_event_of_s3_is_ignored(s3, load_event):
    assert lambda_handler(load_event("sqs_test_event"), None) == {"batchItemFailures": []}
    assert lake(s3) == {}


def test_retry_overwrites_and_never_adds(s3):
    put(s3, "raw/a.json", [element(), element(event_id="2", timestamp="1500000000")])
    lambda_handler(announce("raw/a.json"), None)
    first = lake(s3)
    assert len(first) == 2
    lambda_handler(announce("raw/a.json", "raw/a.json"), None)
    assert lake(s3) == first


def test_rows_are_written_only_once_the_batch_of_a_repeat_is_named_for_erase(s3, monkeypatch):
    real, written = Lake.write, []

    def write(self, key: str, *rest) -> None:
        if key.startswith(unshown.PREFIX):
            time.sleep(0.3)
        real(self, key, *rest)
        written.append(key.partition("/")[0])

    monkeypatch.setattr(Lake, "write", write)
    put(s3, "raw/a.json", [element()])
    put(s3, "raw/b.json", [element(), element(event_id="2", timestamp="1500000000")])
    assert lambda_handler(announce("raw/a.json", "raw/b.json"), None) == {"batchItemFailures": []}
    assert written == ["maintenance", "events", "events"]


def test_one_broken_batch_of_two_is_quarantined_with_its_bytes(s3, caplog):
    put(s3, "raw/bad.json", b"\xffno json")
    put(s3, "raw/good.json", [element(), 7])
    assert lambda_handler(announce("raw/bad.json", "raw/good.json"), None) == {"batchItemFailures": []}
    assert event_ids(s3) == ["1"]
    assert [
        (q["batch_id"], q["index"], q["reason"], q.get("original"), q.get("original_base64")) for q in quarantined(s3)
    ] == [
        ("bad", None, "not JSON", None, "/25vIGpzb24="),
        ("good", 1, "not an object with an object msys", "7", None),
    ]
    assert {q["raw_bucket"] for q in quarantined(s3)} == {RAW_BUCKET}
    [record] = [record for record in caplog.records if record.message == "events quarantined"]
    assert record.quarantined == 2


def test_deleted_object_is_quarantined(s3):
    put(s3, "raw/good.json", [element()])
    assert lambda_handler(announce("raw/gone.json", "raw/good.json"), None) == {"batchItemFailures": []}
    assert [(q["batch_id"], q["reason"]) for q in quarantined(s3)] == [
        ("gone", "the raw object was deleted before it was read")
    ]
    assert event_ids(s3) == ["1"]


@pytest.mark.parametrize("other", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:59", "2026-11-25", "soon", ""])
def test_arrival_that_another_tool_wrote_is_believed_only_if_it_can_be_one(s3, other):
    put(s3, "raw/odd.json", [element(timestamp=None), 7], Metadata={"received-at": other})
    assert lambda_handler(announce("raw/odd.json"), None) == {"batchItemFailures": []}
    stored = s3.head_object(Bucket=RAW_BUCKET, Key="raw/odd.json")["LastModified"].date()
    folders = {key.rpartition("/")[0] for key in lake(s3) if not key.startswith("maintenance/")}
    assert folders == {f"events/event_date={stored}", f"quarantine/{stored}"}


def test_object_of_6_megabytes_is_processed(s3):
    put(s3, "raw/large.json", [element(rcpt_meta={"text": "x" * 6_000_000})])
    lambda_handler(announce("raw/large.json"), None)
    assert event_ids(s3) == ["1"]


def test_gzip_bomb_is_quarantined(s3):
    put(s3, "raw/bomb.json", gzip.compress(b" " * (LIMITS.body_bytes + 1)), ContentEncoding="gzip")
    put(s3, "raw/short.json", gzip.compress(b"[]")[:-4], ContentEncoding="gzip")
    lambda_handler(announce("raw/bomb.json", "raw/short.json"), None)
    assert [(q["reason"], q["index"]) for q in quarantined(s3)] == [
        ("gzip ends too early", None),
        ("larger than 16777216 bytes when decompressed", None),
    ]


def test_message_that_is_no_notification_is_given_back(s3):
    put(s3, "raw/good.json", [element()])
    event = announce("raw/good.json")
    event["Records"].append({**event["Records"][0], "messageId": "odd", "body": "?"})
    assert lambda_handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "odd"}]}
    assert event_ids(s3) == ["1"]


def test_lake_that_takes_nothing_gives_back_every_message_and_counts_it(s3, monkeypatch, caplog):
    """Lambda counts no error when messages are given back, so that an alarm needs a count of process' own."""
    caplog.set_level(logging.INFO)
    put(s3, "raw/good.json", [element()])
    put(s3, "raw/other.json", [element()])
    monkeypatch.setenv("LAKE_BUCKET", "no-such-bucket")
    assert len(lambda_handler(announce("raw/good.json", "raw/other.json"), None)["batchItemFailures"]) == 2
    [record] = [record for record in caplog.records if record.message == "raw batches processed"]
    assert (record.raw_batches, record.messages_failed) == (0, 2)
    [directive] = record._aws["CloudWatchMetrics"]
    assert {"Name": "messages_failed", "Unit": "Count"} in directive["Metrics"]


def test_bare_event_that_fails_is_invoked_again(s3, load_event, monkeypatch):
    put(s3, "raw/batch-1.json", [element()])
    monkeypatch.setenv("LAKE_BUCKET", "no-such-bucket")
    with pytest.raises(RawBatchesNotProcessedError):
        lambda_handler(load_event("s3_raw_batch_created"), None)


def test_many_batches_are_written_in_parts_without_doubling(s3, monkeypatch):
    monkeypatch.setattr(process.app, "FLUSH_BODY_BYTES", 100)
    for number in range(5):
        put(s3, f"raw/{number}.json", [element(event_id=str(number)), element(event_id="same")])
    lambda_handler(announce(*(f"raw/{number}.json" for number in range(5))), None)
    assert event_ids(s3) == ["0", "1", "2", "3", "4", "same"]


def test_csv_by_setting(s3, monkeypatch):
    monkeypatch.setenv("OUTPUT_FORMAT", "CSV")
    put(s3, "raw/a.json", [element()])
    lambda_handler(announce("raw/a.json"), None)
    [(key, body)] = lake(s3).items()
    assert key.startswith("events-csv/event_date=2016-04-18/")  # Parquet and CSV under one prefix could not be read
    assert key.endswith(".csv")
    assert body.decode().splitlines()[1].startswith("track_event,open,2016-04-18T14:25:07Z,1,1,a,")


def test_logs_hold_counts_and_no_values(s3, caplog):
    caplog.set_level(logging.DEBUG)
    put(s3, "raw/a.json", [element(rcpt_to="person@example.com", brand_new="secret", **{"odd@example.com": 1}), "x"])
    lambda_handler(announce("raw/a.json"), None)
    logged = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("process"))
    [record] = [record for record in caplog.records if record.message == "raw batches processed"]
    assert (record.events, record.rows, record.quarantined) == (2, 1, 1)
    assert record.extra_fields == {"brand_new": 1}
    assert record.extra_field_names == "brand_new"
    assert "example.com" not in logged
    assert "secret" not in logged


LIMITED = """
import resource, sys, os, json
from process.app import lambda_handler
from process.bounds import LIMITS
from maintain.generate.events import created, sqs
lambda_handler(sqs({"Records": [created("raw/0.json")]}), None)
with open("/proc/self/status") as status:
    now = next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (now * 1024 + 176 * 2**20,) * 2)
event = sqs(*({"Records": [created(f"raw/{n}.json")]} for n in range(1000)))
assert lambda_handler(event, None) == {"batchItemFailures": []}
"""


def test_memory_does_not_grow_with_the_number_of_objects(load_event):
    """Against the benchmark's S3, since moto takes a minute for so many objects."""
    batch = json.loads(load_event("alb_batch_of_350")["body"])[:60]
    with fast_s3.running() as endpoint:
        store = S3Store("raw-bucket", endpoint=endpoint, client_options={"allow_http": True})
        for number in range(1000):
            for item in batch:
                for event in item["msys"].values():
                    if "event_id" in event:
                        event["event_id"] = f"{number}-{event['event_id'][-6:]}"[-12:]
            obstore.put(store, f"raw/{number}.json", json.dumps(batch).encode())
        settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "LAKE_BUCKET": "sink"}
        settings |= {"RAW_BUCKET": "raw-bucket", "RAW_PREFIX": "raw"}
        result = subprocess.run(
            [sys.executable, "-c", LIMITED],
            cwd=Path(__file__).parents[2],
            # An arena for each thread would reserve address space for nothing.
            env={**os.environ, **settings, "MALLOC_ARENA_MAX": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr[-2000:]


def test_contract_between_the_functions(s3):
    ingest.app.lambda_handler(alb("[" + json.dumps(element()) + "]", batch_id="../odd"), None)
    [item] = s3.list_objects_v2(Bucket=RAW_BUCKET)["Contents"]
    lambda_handler(announce(item["Key"]), None)
    [(_, body)] = lake(s3).items()
    assert read_parquet(BytesIO(body)).read_all()["batch_id"].to_pylist() == [item["Key"][4:-5]]
