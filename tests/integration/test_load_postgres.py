"""Lake files become rows of a real PostgreSQL; each failure leaves what it should."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from itertools import batched, count
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import psycopg
import pytest
from arro3.io import read_parquet, write_parquet
from psycopg.conninfo import make_conninfo

import load_postgres.app
import process.app
from bird_webhooks import __main__ as operate
from bird_webhooks.operate import erase_postgres, lists, reload
from bird_webhooks.operate.mentions import Person, parquet_without
from bird_webhooks.stack import Stack
from load_postgres import schema as tables
from load_postgres import upkeep
from load_postgres.app import lambda_handler
from load_postgres.database import Database
from load_postgres.errors import NotNowError, UnavailableError
from load_postgres.lake import read_closed_file
from load_postgres.rows import from_table as rows_from_table
from load_postgres.rows import rows_of
from load_postgres.table import Loaded, Part, fail_on_rejected
from local_aws import postgres as local_postgres
from local_aws.postgres import Postgres
from local_aws.query import poll
from maintain.generate.events import created, sqs
from process import day_state, tombstones
from process.close_day import CloseDay, small_folder
from process.day_state import DayState
from process.lake_files import LakeFiles
from tests.integration.moto_server import client

RAW_BUCKET, LAKE_BUCKET = "raw-bucket", "lake-bucket"
INPUTS2 = Path(__file__).resolve().parents[1] / "data/inputs2"
FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
TIMEOUT_SECONDS = 30
UUID, DIGITS = "ff69e5c1-5b9a-4e4b-8ab9-8a8b3c3d6f7e", "9235692769381385612"
NOVEMBER = 1762000000  # 1 November 2025
numbers = count()


class Context:
    """Lambda's, with as much time as a test wants."""

    def __init__(self, milliseconds: int = 300_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with local_postgres.running() as started:
        yield started


@pytest.fixture
def database(server) -> Iterator[psycopg.Connection]:
    """A user's connection; the schema `bird` does not exist yet."""
    with closing(server.connect()) as connection:
        connection.execute(
            "SET client_min_messages = warning; SET search_path TO public; DROP SCHEMA IF EXISTS bird CASCADE"
        )
        yield connection


def administrator(server: Postgres) -> psycopg.Connection:
    return psycopg.connect(host=str(server.sockets), port=server.port, user="postgres", autocommit=True)


@pytest.fixture
def aws(s3, moto_endpoint, server, monkeypatch):
    """The queues, the secret, and the function set up to use them; answers `deliver()`."""
    sqs_client, secrets = (client(name, moto_endpoint) for name in ("sqs", "secretsmanager"))
    name = f"load-{next(numbers)}"
    queue = sqs_client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "900"})["QueueUrl"]
    dead = sqs_client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = secrets.create_secret(Name=name, SecretString=json.dumps(server.secret()))["ARN"]
    monkeypatch.setenv("QUEUE_URL", queue)
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", dead)
    monkeypatch.setenv("POSTGRES_SECRET_ARN", arn)
    monkeypatch.setenv("POSTGRES_SCHEMA", "bird")
    monkeypatch.setenv("POSTGRES_TLS", "VERIFY_FULL")
    cached = [load_postgres.app.database, load_postgres.app.sqs, load_postgres.app._allow_http]
    for function in cached:
        function.cache_clear()
    yield Aws(s3, sqs_client, secrets, queue, dead, arn)
    load_postgres.app.database().close()
    for function in cached:
        function.cache_clear()


class Aws:
    """The queue in front of the function: it announces files, and delivers messages as Lambda's poller does."""

    def __init__(self, s3, sqs_client, secrets, queue: str, dead: str, secret: str) -> None:
        self.s3, self.sqs, self.secrets = s3, sqs_client, secrets
        self.queue, self.dead, self.secret = queue, dead, secret
        self.handles: list[str] = []

    def announce(self, *keys: str) -> None:
        for key in keys:
            self.send(json.dumps({"Records": [created(key, bucket=LAKE_BUCKET)]}))

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def deliver(self, context: Context | None = None) -> int:
        """Deliver visible messages and delete finished ones. Returns how many are given back."""
        got = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, AttributeNames=["All"])
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "eventSource": "aws:sqs",
            }
            for message in got.get("Messages", [])
        ]
        failures = lambda_handler({"Records": records}, context or Context())["batchItemFailures"]
        failed = {failure["itemIdentifier"] for failure in failures}
        self.handles = [record["receiptHandle"] for record in records if record["messageId"] in failed]
        for record in records:
            if record["messageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=record["receiptHandle"])
        return len(failed)

    def time_passes(self) -> None:
        """What waits becomes visible again."""
        for handle in self.handles:
            self.sqs.change_message_visibility(QueueUrl=self.queue, ReceiptHandle=handle, VisibilityTimeout=0)

    def messages(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def dead_letters(self) -> list[tuple[str, str]]:
        """(reason, body)"""
        got = self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        return [(m["MessageAttributes"]["Reason"]["StringValue"], m["Body"]) for m in got.get("Messages", [])]

    def new_secret(self, secret: dict) -> None:
        self.secrets.put_secret_value(SecretId=self.secret, SecretString=json.dumps(secret))

    def process(self, *events: dict, event_class: str = "message_event") -> list[str]:
        """The events as one batch through process; the keys of the files that it wrote."""
        return self.process_batch([{"msys": {event_class: event}} for event in events])

    def process_batch(self, batch: list) -> list[str]:
        before = self.lake_keys()
        key = f"raw/batch-{next(numbers)}.json"
        self.s3.put_object(Bucket=RAW_BUCKET, Key=key, Body=json.dumps(batch))
        process.app.lambda_handler(sqs({"Records": [created(key)]}), None)
        return sorted(self.lake_keys() - before)

    def lake_keys(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="events").get("Contents", [])
        return {item["Key"] for item in found}

    def body(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=LAKE_BUCKET, Key=key)["Body"].read()


def event(event_id: str, **fields) -> dict:
    return {"type": "delivery", "event_id": event_id, "timestamp": str(NOVEMBER), **fields}


def column(database, sql: str) -> list:
    return [value for (value,) in database.execute(sql)]


def tables_in(database) -> int:
    """How many tables the function made."""
    [found] = column(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'bird'")
    return found


def rows_in(database) -> int:
    [found] = column(database, "SELECT count(*) FROM bird.events")
    return found


def test_samples_of_all_types_are_rows_with_their_types(aws, database, load_event):
    batch = json.loads(load_event("alb_all_types")["body"])
    aws.announce(*aws.process_batch(batch))
    assert aws.deliver() == 0
    assert rows_in(database) == 27
    types = dict(
        database.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'bird' AND table_name = 'events'"
        ).fetchall()
    )
    by_type: dict[str, set[str]] = {}
    for name, kind in types.items():
        by_type.setdefault(kind, set()).add(name)
    assert by_type.pop("jsonb") == {"rcpt_meta", "rcpt_tags", "rcpt_subs", "ab_test", "sms_remoteids", "extra"}
    assert by_type.pop("date") == {"event_date"}
    assert by_type.pop("timestamp with time zone") == {
        "timestamp", "received_at", "injection_time", "scheduled_time", "expiration_timestamp",
    }  # fmt: skip
    assert by_type.pop("double precision") == {"geo_ip_latitude", "geo_ip_longitude", "dr_latency"}
    assert by_type.pop("boolean") == {
        "transactional", "open_tracking", "click_tracking", "initial_pixel", "amp_enabled", "retryable",
        "user_agent_parsed_is_mobile", "user_agent_parsed_is_proxy", "user_agent_parsed_is_prefetched",
    }  # fmt: skip
    assert by_type.pop("bigint") == {
        "template_version", "ab_test_version", "msg_size", "queue_time", "num_retries", "outbound_tls", "bounce_class",
        "geo_ip_zip", "sms_segments", "number_succeeded", "number_duplicates", "number_failed",
    }  # fmt: skip
    assert by_type.keys() == {"text"}
    ids = {"event_id", "message_id", "transmission_id", "template_id", "subaccount_id", "customer_id", "event_key"}
    assert ids <= by_type["text"]
    assert aws.messages(aws.queue) == aws.messages(aws.dead) == 0


def test_values_arrive_as_they_are(aws, database):
    given = event(
        DIGITS,
        message_id=UUID,
        msg_size="1337",
        open_tracking="1",
        injection_time="2016-04-18T14:25:07.123Z",
        subject='a "quoted", text\r\nwith lines\n\\.\nand \\N',
        campaign_id="",
        rcpt_meta={"b": [1, {"a": "é"}], "a": None},
        num_retries="18446744073709551616",
        next_attempt="5",
    )
    aws.announce(*aws.process(given), *aws.process(event(UUID, subject="\x01", geo_ip={"latitude": 39.1749})))
    assert aws.deliver() == 0
    columns = "event_id, message_id, msg_size, open_tracking, injection_time, subject, campaign_id, rcpt_meta, extra"
    [found] = database.execute(f"SELECT {columns} FROM bird.events WHERE event_id = %s", [DIGITS])  # noqa: S608
    assert found == (
        DIGITS,
        UUID,
        1337,
        True,
        datetime(2016, 4, 18, 14, 25, 7, 123000, tzinfo=UTC),
        'a "quoted", text\r\nwith lines\n\\.\nand \\N',
        "",
        {"b": [1, {"a": "é"}], "a": None},
        {"num_retries": "18446744073709551616", "next_attempt": "5"},
    )
    sql = "SELECT subject, campaign_id, geo_ip_latitude, event_date FROM bird.events WHERE event_id = %s"
    assert database.execute(sql, [UUID]).fetchall() == [("\x01", None, 39.1749, date(2025, 11, 1))]


def test_what_postgresql_cannot_hold_neither_stops_a_file_nor_vanishes(aws, database):
    aws.announce(
        *aws.process(
            event("1", subject="a\0b", rcpt_meta={"a": "x\0y", "b": "\\u0000"}),
            event("2", rcpt_meta={"deep": 1, "good": True}),
            event("3", custom="\0"),
        )
    )
    raw = json.dumps([{"msys": {"message_event": event("4", rcpt_meta={"n": 0})}}]).replace(
        '{"n": 0}', '{"n":1e999999}'
    )
    aws.s3.put_object(Bucket=RAW_BUCKET, Key="raw/huge.json", Body=raw)
    before = aws.lake_keys()
    process.app.lambda_handler(sqs({"Records": [created("raw/huge.json")]}), None)
    aws.announce(*aws.lake_keys() - before)
    assert aws.deliver() == 0
    sql = "SELECT event_id, subject, rcpt_meta, extra FROM bird.events ORDER BY event_id"
    assert database.execute(sql).fetchall() == [
        ("1", "a\\u0000b", {"a": "x\\u0000y", "b": "\\u0000"}, None),
        ("2", None, {"deep": 1, "good": True}, None),
        ("3", None, None, {"custom": "\\u0000"}),
        ("4", None, {"n": "1e999999"}, None),
    ]
    assert aws.messages(aws.dead) == 0


def test_event_without_type_is_a_row_and_only_once(aws, database):
    keys = aws.process({"event_id": "1", "timestamp": str(NOVEMBER)})
    aws.announce(*keys, *keys)
    assert aws.deliver() == 0
    assert column(database, "SELECT type FROM bird.events") == [None]


def test_loading_twice_changes_nothing(aws, database):
    keys = aws.process(event("1"), event("2"))
    more = aws.process(event("2"), event("3"))  # a batch with an event in common, in another file
    aws.announce(*keys, *keys, *more)
    assert aws.deliver() == 0
    first = database.execute("SELECT event_id, batch_id FROM bird.events ORDER BY event_id").fetchall()
    assert [event_id for event_id, _ in first] == ["1", "2", "3"]
    aws.announce(*more, *keys)
    assert aws.deliver() == 0
    assert database.execute("SELECT event_id, batch_id FROM bird.events ORDER BY event_id").fetchall() == first


def test_csv_files_load_with_the_same_types(aws, database, monkeypatch):
    monkeypatch.setenv("OUTPUT_FORMAT", "CSV")
    odd = {"reason": 'a "b",\nc', "campaign_id": "", "template_id": "%:%0A", "raw_reason": "50 %\r\n\u2028+"}
    given = event(DIGITS, msg_size="12", open_tracking="0", rcpt_meta={"a": 'x"y'}, **odd)
    [key] = aws.process(given)
    assert key.endswith(".csv")
    aws.announce(key, key)
    assert aws.deliver() == 0
    sql = "SELECT event_id, msg_size, open_tracking, reason, rcpt_meta, timestamp, subject FROM bird.events"
    moment = datetime.fromtimestamp(NOVEMBER, UTC)
    assert database.execute(sql).fetchall() == [(DIGITS, 12, False, 'a "b",\nc', {"a": 'x"y'}, moment, None)]
    texts = database.execute(f"SELECT {', '.join(odd)} FROM bird.events").fetchall()  # noqa: S608
    assert texts == [tuple(odd.values())]


def test_rows_lie_in_the_partition_of_their_month(aws, database):
    december, january = datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    for moment in (december, january):
        aws.announce(*aws.process(event(moment.isoformat(), timestamp=str(int(moment.timestamp())))))
    assert aws.deliver() == 0
    sql = "SELECT tableoid::regclass::text, event_date FROM bird.events ORDER BY event_date"
    assert database.execute(sql).fetchall() == [
        ("bird.events_2025_12", date(2025, 12, 31)),
        ("bird.events_2026_01", date(2026, 1, 1)),
    ]
    # WHEN a month is dropped, as retention does, and one of its events comes late
    database.execute("DROP TABLE bird.events_2025_12")
    aws.announce(*aws.process(event("late", timestamp=str(int(december.timestamp())))))
    assert aws.deliver() == 0
    assert column(database, "SELECT event_id FROM bird.events_2025_12") == ["late"]


def test_new_columns_are_added_and_older_rows_stay(aws, database, monkeypatch):
    known = tables.columns()
    aws.announce(*aws.process(event("1")))
    with monkeypatch.context() as older:
        older.setattr(tables, "columns", lambda: tuple(c for c in known if c.name not in ("subject", "rcpt_meta")))
        # A file with columns that this version does not know waits for the newer version.
        assert aws.deliver() == 1
        assert rows_in(database) == 0
    assert (
        column(database, "SELECT 1 FROM pg_attribute WHERE attrelid = 'bird.events'::regclass AND attname = 'subject'")
        == []
    )
    load_postgres.app.database().close()  # the newer version starts with a connection of its own
    aws.time_passes()
    assert aws.deliver() == 0
    aws.announce(*aws.process(event("2", subject="new", rcpt_meta={"a": 1})))
    assert aws.deliver() == 0
    sql = "SELECT event_id, subject, rcpt_meta FROM bird.events ORDER BY event_id"
    assert database.execute(sql).fetchall() == [("1", None, None), ("2", "new", {"a": 1})]


def test_file_of_an_older_version_has_nulls_in_newer_columns(aws, database):
    [key] = aws.process(event("1", subject="there"))
    table = read_parquet(BytesIO(aws.body(key))).read_all()
    older = BytesIO()
    write_parquet(table.select([name for name in table.column_names if name != "subject"]), older)
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=older.getvalue())
    aws.announce(key)
    assert aws.deliver() == 0
    assert database.execute("SELECT event_id, subject FROM bird.events").fetchall() == [("1", None)]


POISON = [
    pytest.param(b"no Parquet at all", ".parquet", "the file is not Parquet", id="not Parquet"),
    pytest.param(b"PAR1" + b"x" * 40 + b"PAR1", ".parquet", "the Parquet cannot be read", id="broken Parquet"),
    pytest.param(b'event_key\n"1\n2\n', ".csv", "the CSV is damaged: its quotes do not close", id="open quotes"),
    pytest.param(b"event_key,subject\n1,%:\xff\n", ".csv",
                 "the CSV cannot be read", id="encoded text that is not UTF-8"),
    pytest.param(b"{}", ".json", "the file is neither Parquet nor CSV", id="other kind"),
    pytest.param(None, ".parquet",
                 "the file was deleted before it was loaded, and its date is not closed", id="deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "suffix", "reason"), POISON)
def test_poison_goes_to_the_dead_letter_queue_with_its_reason(aws, database, body, suffix, reason):
    poison = f"events/event_date=2025-11-01/poison{suffix}"
    if body is not None:
        aws.s3.put_object(Bucket=LAKE_BUCKET, Key=poison, Body=body)
    aws.announce(poison, *aws.process(event("1")))
    assert aws.deliver() == 0
    assert column(database, "SELECT event_id FROM bird.events") == ["1"]
    assert aws.messages(aws.queue) == 0
    [(given, message)] = aws.dead_letters()
    assert given == reason
    assert json.loads(message)["Records"][0]["s3"]["object"]["key"].replace("%3D", "=") == poison


def rejected_rows(aws: Aws) -> list[dict]:
    """What load_postgres kept aside in the lake, in the order of the objects."""
    found = aws.s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="quarantine/postgres/").get("Contents", [])
    bodies = [aws.body(item["Key"]) for item in found]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def metrics_of(caplog) -> dict:
    """The last line of an invocation, as CloudWatch reads it."""
    record = [record for record in caplog.records if record.message == "files loaded"][-1]
    [directive] = record._aws["CloudWatchMetrics"]
    assert directive["Namespace"] == "BirdWebhooks"
    return {metric["Name"]: getattr(record, metric["Name"]) for metric in directive["Metrics"]}


@pytest.mark.parametrize("name", ["event_id", "type", "campaign_id", "rcpt_to", "message_id", "customer_id"])
@pytest.mark.parametrize("output_format", ["PARQUET", pytest.param("CSV", marks=pytest.mark.nightly)])
def test_value_too_long_for_an_index_costs_its_row(aws, database, monkeypatch, caplog, name, output_format):
    monkeypatch.setenv("OUTPUT_FORMAT", output_format)
    caplog.set_level("INFO")
    hashed = os.urandom(4000).hex()
    keys = aws.process(*[event(f"good-{number}") for number in range(50)], {**event("bad"), name: hashed})
    aws.announce(*keys)
    assert aws.deliver() == 0
    assert rows_in(database) == 50
    assert aws.messages(aws.dead) == 0
    [record] = rejected_rows(aws)
    assert record["reason"].startswith("PostgreSQL refused the row: ProgramLimitExceeded (54000), events_2025_11_")
    assert record["original"][name] == hashed
    assert record["lake_key"] == keys[0]
    assert metrics_of(caplog) == {"waiting_seconds": 0, "files_waiting": 0, "rows_rejected": 1, "names_refused": 0}
    # Once more: the same rows, and the same record.
    aws.announce(*keys)
    assert aws.deliver() == 0
    assert rows_in(database) == 50
    assert len(rejected_rows(aws)) == 1


def test_odd_rows_of_a_csv_file_cost_themselves(aws, database):
    key = "events/event_date=2025-11-01/odd.csv"
    lines = [
        b"event_class,type,event_key,msg_size,timestamp,subject,received_at",
        b"c,t,1,10,2025-11-01T12:00:00.000Z,first,2025-11-01T13:00:00Z",
        b"c,t,2,many,2025-11-01T12:00:00.000Z,not a number,2025-11-01T13:00:00Z",
        b"c,t,3,10,yesterday noon,not a time,2025-11-01T13:00:00Z",
        b"c,t,4,10,2025-11-01T12:00:00.000Z,\xff,2025-11-01T13:00:00Z",
        b"c,t,5,10",
        b'c,t,6,10,2025-11-01T12:00:00.000Z,"last, with\na line",2025-11-01T13:00:00Z',
        b"",
    ]
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=b"\n".join(lines))
    aws.announce(key)
    assert aws.deliver() == 0
    sql = "SELECT event_key, msg_size, subject FROM bird.events ORDER BY event_key"
    assert database.execute(sql).fetchall() == [("1", 10, "first"), ("6", 10, "last, with\na line")]
    assert [(one["index"], one["reason"]) for one in rejected_rows(aws)] == [
        (1, "PostgreSQL refused the row: InvalidTextRepresentation (22P02)"),
        (2, "PostgreSQL refused the row: InvalidDatetimeFormat (22007)"),
        (3, "not UTF-8"),
        (4, "4 fields, not 7"),
    ]
    assert rejected_rows(aws)[2]["original"]["subject"] == "\\xff"
    [item] = aws.s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="quarantine/")["Contents"]
    assert item["Key"] == "quarantine/postgres/2025-11-01/2025-11-01-odd.csv.ndjson"
    assert aws.messages(aws.dead) == 0


def test_what_the_users_own_constraints_refuse_is_kept_aside(aws, database):
    aws.announce(*aws.process(event("0")))
    assert aws.deliver() == 0
    database.execute("ALTER TABLE bird.events ADD CONSTRAINT small CHECK (msg_size < 100)")
    rows = [event(str(number), msg_size=str(number), rcpt_to="jane@example.com") for number in range(90, 110)]
    aws.announce(*aws.process(*rows))
    assert aws.deliver() == 0
    assert rows_in(database) == 11
    reasons = {one["reason"] for one in rejected_rows(aws)}
    assert reasons == {"PostgreSQL refused the row: CheckViolation (23514), small"}
    assert len(rejected_rows(aws)) == 10


def test_rows_that_cannot_be_kept_aside_keep_the_file_waiting(aws, database, monkeypatch):
    def unwritable(*_, **__):
        raise NotNowError("rejected rows were not kept aside: PermissionDeniedError")

    monkeypatch.setattr(load_postgres.app, "write_file", unwritable)
    aws.announce(*aws.process(event("good"), event("bad", campaign_id=os.urandom(4000).hex())))
    assert aws.deliver() == 1
    assert rows_in(database) == 0
    monkeypatch.undo()


def test_numbers_of_big_exponents_do_not_make_a_row_that_cannot_be_read(aws, database):
    big = "[" + ",".join(["1e131071"] * 9000) + "]"
    odd = '{"a":-1.5E+200,"b":"x \\" 1e500, y","c":[1e-16000,1e99,12e0001],"d":"1e500"}'
    batch = json.dumps(
        [{"msys": {"message_event": event(key, rcpt_meta={"n": key})}} for key in ("big", "odd", "plain")]
    )
    raw = batch.replace('{"n": "big"}', big).replace('{"n": "odd"}', odd)
    aws.s3.put_object(Bucket=RAW_BUCKET, Key="raw/exponents.json", Body=raw)
    before = aws.lake_keys()
    process.app.lambda_handler(sqs({"Records": [created("raw/exponents.json")]}), None)
    aws.announce(*aws.lake_keys() - before)
    assert aws.deliver() == 0
    # As `erase` and a plain SELECT read it.
    sizes = dict(database.execute("SELECT event_id, length(e::text) FROM bird.events AS e").fetchall())
    assert sizes["big"] < 200_000
    meta = dict(database.execute("SELECT event_id, rcpt_meta FROM bird.events").fetchall())
    assert meta["big"] == ["1e131071"] * 9000
    assert meta["odd"] == {
        "a": "-1.5E+200", "b": 'x " 1e500, y', "c": ["1e-16000", 10**99, 120], "d": "1e500",
    }  # fmt: skip
    assert meta["plain"] == {"n": "plain"}


ODD_KEYS = [
    "events//event_date=2025-11-01/a.parquet",
    "events/event_date=2025-11-01//a.csv",
    "events/./event_date=2025-11-01/a.csv",
    "events/event_date=2025-11-01/a\tb.csv",
    "events/event_date=2025-11-01/a\x7fb.csv",
    "events/event_date=2025-13-41/a.csv",
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_key_costs_its_own_object(aws, database, key):
    aws.announce(key, *aws.process(event("1")))
    assert aws.deliver() == 0
    assert rows_in(database) == 1
    [(reason, _)] = aws.dead_letters()
    assert reason.startswith("the file's key")


def test_unforeseen_exception_fails_its_own_file_and_ends_in_the_dead_letter_queue(aws, database, monkeypatch, caplog):
    good, bad = aws.process(event("1")), aws.process(event("2", subject="secret words"))

    def odd(key: str, body: bytes):
        if key == bad[0]:
            raise KeyError("secret words")
        return rows_of(key, body)

    monkeypatch.setattr(load_postgres.app, "rows_of", odd)
    aws.announce(*bad, *good)
    for _ in range(4):
        assert aws.deliver() == 1
        aws.time_passes()
    assert rows_in(database) == 1
    assert aws.deliver() == 0
    [(reason, _)] = aws.dead_letters()
    assert reason.startswith("unforeseen: KeyError in test_load_postgres.py, line ")
    assert "secret words" not in caplog.text


FOREIGN = [
    pytest.param("bucket-of-a-colleague", "events/event_date=2025-11-01/forged.parquet", id="another bucket"),
    pytest.param(LAKE_BUCKET, "quarantine/event_date=2025-11-01/forged.parquet", id="another prefix"),
    pytest.param(LAKE_BUCKET, "events-of-mine/event_date=2025-11-01/forged.parquet", id="prefix of another name"),
]


@pytest.mark.parametrize(("bucket", "key"), FOREIGN)
def test_names_of_other_buckets_and_prefixes_are_refused(aws, database, caplog, bucket, key):
    caplog.set_level("INFO")
    aws.send(json.dumps({"Records": [created(key, bucket=bucket)]}))
    assert aws.deliver() == 0
    assert aws.messages(aws.queue) == aws.messages(aws.dead) == 0
    assert "name of another bucket or prefix refused" in caplog.text
    assert metrics_of(caplog)["names_refused"] == 1
    assert tables_in(database) == 0


MARKERS = [line for line in (INPUTS2 / "07-marker-keys.txt").read_text().splitlines() if line]


@pytest.mark.parametrize("key", [*MARKERS, "events/_temporary/0/part.parquet", "events/event_date=2025-11-01/"])
def test_marker_files_of_other_tools_are_ignored(aws, database, caplog, key):
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=b"")
    caplog.set_level("INFO")
    aws.announce(key)
    assert aws.deliver() == 0
    assert aws.messages(aws.queue) == aws.messages(aws.dead) == 0
    assert metrics_of(caplog)["names_refused"] == 0


def test_files_that_wait_are_counted_with_the_age_of_the_oldest(aws, database, monkeypatch, caplog):
    aws.new_secret({**aws_secret(aws), "password": ""})
    aws.announce(*aws.process(event("1")), *aws.process(event("2")))
    caplog.set_level("INFO")
    now = time.time()
    monkeypatch.setattr(load_postgres.app.time, "time", lambda: now + 7200)
    assert aws.deliver() == 2
    found = metrics_of(caplog)
    assert found["files_waiting"] == 2
    assert 7200 <= found["waiting_seconds"] < 7260


def test_messages_that_announce_no_file_of_rows(aws, database):
    aws.send(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": LAKE_BUCKET}))
    aws.send("no JSON")
    aws.announce("events/elsewhere.parquet")
    assert aws.deliver() == 0
    assert sorted(reason for reason, _ in aws.dead_letters()) == [
        "not the notification of a file of rows: JSONDecodeError",
        "the file's key has no event_date",
    ]


def test_database_that_is_away_makes_messages_wait_and_then_load(aws, database, server):
    keys = aws.process(event("1")) + aws.process(event("2"))
    aws.announce(keys[0])
    assert aws.deliver() == 0
    server.stop()
    try:
        aws.announce(*keys)
        for _ in range(12):  # more often than any usual queue would bear
            assert aws.deliver() == 2
            aws.time_passes()
    finally:
        server.start()
    assert aws.messages(aws.dead) == 0
    assert aws.deliver() == 0
    with closing(server.connect()) as again:
        assert column(again, "SELECT event_id FROM bird.events ORDER BY event_id") == ["1", "2"]


def test_what_has_to_wait_is_invisible_for_longer_each_time(aws, database, monkeypatch):
    waits = []
    monkeypatch.setattr(load_postgres.app, "postpone", lambda waiting: waits.extend(s for _, s in waiting))
    aws.new_secret({**aws_secret(aws), "password": ""})
    aws.announce(*aws.process(event("1")))
    for _ in range(8):
        assert aws.deliver() == 1
        aws.time_passes()
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 2400]


def aws_secret(aws: Aws) -> dict:
    return json.loads(aws.secrets.get_secret_value(SecretId=aws.secret)["SecretString"])


def test_message_of_13_days_goes_to_the_dead_letter_queue_before_the_queue_forgets_it(aws, database, monkeypatch):
    aws.announce(*aws.process(event("1")))
    assert load_postgres.app.GIVE_UP_AFTER_SECONDS == 13 * 86_400
    monkeypatch.setattr(load_postgres.app, "GIVE_UP_AFTER_SECONDS", -1)
    assert aws.deliver() == 0
    [(reason, body)] = aws.dead_letters()
    assert reason == "could not be loaded in 13 days: see the log for why, then redrive it"
    assert json.loads(body)["Records"]
    assert tables_in(database) == 0


def test_files_for_which_no_time_is_left_are_given_back(aws, database):
    aws.announce(*aws.process(event("1")))
    assert aws.deliver(Context(10_000)) == 1
    assert aws.deliver() == 0  # it was visible at once
    assert rows_in(database) == 1


def test_dead_letter_queue_that_takes_nothing_makes_a_message_wait(aws, database, monkeypatch):
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", aws.dead + "-gone")
    aws.send("no JSON")
    assert aws.deliver() == 1
    assert aws.messages(aws.queue) == 1


def test_connection_that_was_closed_meanwhile_is_made_anew(aws, database):
    first, second = aws.process(event("1")), aws.process(event("2"))
    aws.announce(*first)
    assert aws.deliver() == 0
    own = "pid <> pg_backend_pid() AND application_name = 'bird-webhooks'"
    assert column(database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}") == [True]  # noqa: S608
    aws.announce(*second)
    assert aws.deliver() == 0
    assert rows_in(database) == 2


def test_changed_password_is_read_from_the_secret(aws, database, server):
    first, second = aws.process(event("1")), aws.process(event("2"))
    aws.announce(*first)
    assert aws.deliver() == 0
    with administrator(server) as admin:
        admin.execute("ALTER ROLE bird PASSWORD 'new'")
        try:
            load_postgres.app.database().close()
            aws.announce(*second)
            assert aws.deliver() == 1  # changed in the database, and not yet in the secret
            aws.new_secret({**server.secret(), "password": "new"})
            aws.time_passes()
            assert aws.deliver() == 0
        finally:
            admin.execute(f"ALTER ROLE bird PASSWORD '{server.password}'")
    assert rows_in(database) == 2


SECRETS = [
    pytest.param({"host": None, "dbname": None}, "the secret lacks host, dbname", id="as RDS manages it"),
    pytest.param({"password": "wrong"}, 'password authentication failed for user "bird"', id="wrong password"),
    pytest.param({"sslrootcert": None}, "certificate verify failed", id="authority not known"),
    pytest.param({"host": "nowhere.invalid"}, "no connection", id="no such host"),
    pytest.param({"port": "x"}, "invalid integer value", id="port"),
]


@pytest.mark.parametrize(("changes", "reason"), SECRETS)
def test_connection_that_cannot_be_made_says_why(server, changes, reason):
    target = Database(lambda: {**server.secret(), **changes}, "bird", verify=True)
    with pytest.raises(UnavailableError, match=reason) as error:
        target.load(date(2025, 11, 1), rows_of("a.csv", b"event_key\n1\n"))
    assert server.password not in str(error.value)


@pytest.mark.parametrize("verify", [True, False], ids=["VERIFY_FULL", "REQUIRE"])
def test_server_without_tls_is_refused(server, database, verify):
    with administrator(server) as admin:
        admin.execute("ALTER SYSTEM SET ssl = off")
        admin.execute("SELECT pg_reload_conf()")
        try:
            poll(
                lambda: column(admin, "SELECT setting FROM pg_settings WHERE name = 'ssl'"), lambda s: s == ["off"], 10
            )
            target = Database(server.secret, "bird", verify=verify)
            with pytest.raises(UnavailableError, match="server does not support SSL, but SSL was required"):
                target.load(date(2025, 11, 1), rows_of("a.csv", b"event_key\n1\n"))
        finally:
            admin.execute("ALTER SYSTEM RESET ssl")
            admin.execute("SELECT pg_reload_conf()")
            poll(lambda: column(admin, "SELECT setting FROM pg_settings WHERE name = 'ssl'"), lambda s: s == ["on"], 10)


def test_tls_alone_takes_any_certificate_and_a_role_needs_only_the_schema(server, database):
    """As docs/downstream/postgresql.md sets it up: REQUIRE, and a role that may create in one schema and no more."""
    with psycopg.connect(
        host=str(server.sockets), port=server.port, user="postgres", dbname="marketing", autocommit=True
    ) as admin:
        admin.execute("CREATE ROLE loader LOGIN PASSWORD 'x'; CREATE SCHEMA bird AUTHORIZATION loader")
        admin.execute("CREATE ROLE dashboards LOGIN PASSWORD 'y'; GRANT USAGE ON SCHEMA bird TO dashboards")
        admin.execute("ALTER DEFAULT PRIVILEGES FOR ROLE loader IN SCHEMA bird GRANT SELECT ON TABLES TO dashboards")
        try:
            secret = {**server.secret(), "username": "loader", "password": "x", "sslrootcert": None}
            target = Database(lambda: secret, "bird", verify=False)
            target.load(date(2025, 11, 1), rows_of("a.csv", b"event_class,type,event_key\nc,t,1\n"))
            encrypted = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'loader'"
            assert column(admin, encrypted) == [True]
            target.close()
            with closing(psycopg.connect(**{**connection_of(server), "user": "dashboards", "password": "y"})) as reader:
                assert column(reader, "SELECT event_key FROM bird.events") == ["1"]
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute("DELETE FROM bird.events")
        finally:
            admin.execute("DROP SCHEMA bird CASCADE; DROP OWNED BY loader, dashboards; DROP ROLE loader, dashboards")


def connection_of(server: Postgres) -> dict:
    return {"host": server.host, "port": server.port, "dbname": server.dbname}


def test_a_table_that_another_loader_makes_meanwhile_is_ours(server, database, monkeypatch):
    execute, asked = database.execute, []

    def another_after_the_first(*question: Any) -> Any:
        answer = execute(*question)
        asked.append(answer)
        if len(asked) == 1:
            with closing(server.connect()) as other:
                tables.prepare(other, "bird")
        return answer

    monkeypatch.setattr(database, "execute", another_after_the_first)
    tables.check_table(database, "bird")
    assert len(asked) == 2
    assert column(database, "SELECT to_regclass('bird.events') IS NOT NULL") == [True]


def test_loaders_at_the_same_time_make_months_once_and_do_not_lock_each_other_out(aws, server, database):
    """Four loaders, the same files in other orders, each file's events also in another file."""
    events = [
        event(
            f"{month}-{number}", type="open" if number % 3 else "click", timestamp=str(NOVEMBER + month * 31 * 86_400)
        )
        for month in range(6)
        for number in range(40)
    ]
    files = []
    for group in (40, 15):
        for some in batched(events, group, strict=False):
            files += [(key, aws.body(key)) for key in aws.process(*some)]
    together = threading.Barrier(4)
    failures = []

    def load(turn: int) -> None:
        target = Database(server.secret, "bird", verify=True)
        together.wait()
        try:
            for key, body in files[turn * 3 :] + files[: turn * 3]:
                day = date.fromisoformat(key.split("event_date=")[1][:10])
                target.load(day, rows_of(key, body))
        except NotNowError as error:
            failures.append(str(error))
        finally:
            target.close()

    loaders = [threading.Thread(target=load, args=[turn]) for turn in range(4)]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
    assert failures == []
    assert rows_in(database) == 240
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'marketing'"
    assert column(database, deadlocks) == [0]
    assert column(database, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'bird.events'::regclass") == [6]


KILLED = """
import json, sys
from datetime import date
from pathlib import Path
from load_postgres.database import Database
from load_postgres.rows import rows_of
secret, path = json.loads(sys.argv[1]), sys.argv[2]
Database(lambda: secret, "bird", verify=True).load(date(2025, 11, 1), rows_of(path, Path(path).read_bytes()))
"""


def test_loader_that_is_killed_in_mid_load_leaves_nothing(aws, server, database, tmp_path):
    before, killed = aws.process(event("1")), aws.process(*[event(f"k{number}") for number in range(500)])
    aws.announce(*before)
    assert aws.deliver() == 0
    # GIVEN a moment between the rows' insertion and the end of the transaction, for as long as the test holds a lock
    database.execute(
        "CREATE FUNCTION bird.wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$; "
        "CREATE TRIGGER wait AFTER INSERT ON bird.events EXECUTE FUNCTION bird.wait()"
    )
    database.execute("SELECT pg_advisory_lock(42)")
    path = tmp_path / "event_date=2025-11-01/killed.parquet"
    path.parent.mkdir()
    path.write_bytes(aws.body(killed[0]))
    loader = subprocess.Popen([sys.executable, "-c", KILLED, json.dumps(server.secret()), path], cwd=FUNCTIONS)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
    assert poll(lambda: column(database, waits), lambda found: found == [1], TIMEOUT_SECONDS) == [1]
    # WHEN it is killed there
    loader.send_signal(signal.SIGKILL)
    loader.wait()
    database.execute("SELECT pg_advisory_unlock(42)")
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bird-webhooks'"
    assert poll(lambda: column(database, others), lambda found: found == [1], TIMEOUT_SECONDS) == [1]
    # THEN the table is as it was, and the message that comes again loads all
    assert column(database, "SELECT event_id FROM bird.events") == ["1"]
    database.execute("DROP TRIGGER wait ON bird.events")
    aws.announce(*killed)
    assert aws.deliver() == 0
    assert rows_in(database) == 501


def test_views_are_applied_once_and_anew_when_they_change(server, database):
    target = Database(server.secret, "bird", verify=True)
    target.load(date(2025, 11, 1), rows_of("a.csv", b"event_class,type,event_key\nc,t,1\n"))
    view = "CREATE OR REPLACE VIEW keys AS SELECT event_key FROM events WHERE type <> $$x$$"
    first = f"{view};\nCOMMENT ON VIEW keys IS 'keys (bird-webhooks)';\n"
    assert tables.apply_views(database, "bird", first) is True
    assert tables.apply_views(database, "bird", first) is False
    assert column(database, "SELECT event_key FROM bird.keys") == ["1"]
    with pytest.raises(psycopg.errors.UndefinedColumn):
        tables.apply_views(database, "bird", "CREATE VIEW others AS SELECT 1; SELECT nothing FROM events")
    assert tables.apply_views(database, "bird", first) is False  # nothing of the broken one stayed
    assert tables.apply_views(database, "bird", first + "SELECT 1") is True
    assert tables.apply_views(database, "bird", " \n") is False
    # WHEN a view was dropped, as `DROP COLUMN … CASCADE` does it
    database.execute("DROP VIEW bird.keys")
    assert tables.apply_views(database, "bird", first + "SELECT 1") is True
    assert column(database, "SELECT event_key FROM bird.keys") == ["1"]
    target.close()


def test_views_stand_on_the_table_and_follow_the_rule_that_is_set(aws, database, monkeypatch):
    today = str(int(datetime.now(UTC).timestamp()))
    hard = event("1", type="bounce", bounce_class="10", rcpt_to="Hard@example.com", timestamp=today)
    soft = event("2", type="bounce", bounce_class="40", rcpt_to="soft@example.com", timestamp=today)
    aws.announce(*aws.process(hard, soft))
    assert aws.deliver() == 0
    candidates = "SELECT rcpt_to, reason FROM bird.suppression_candidates ORDER BY rcpt_to"
    assert database.execute(candidates).fetchall() == [("hard@example.com", "hard_bounce")]
    # WHEN the stack is updated: a new execution environment, and a file that comes
    monkeypatch.setenv("SOFT_BOUNCE_LIMIT", "1")
    load_postgres.app.database().close()
    load_postgres.app.database.cache_clear()
    aws.announce(*aws.process(event("3")))
    assert aws.deliver() == 0
    assert database.execute(candidates).fetchall() == [
        ("hard@example.com", "hard_bounce"),
        ("soft@example.com", "soft_bounces"),
    ]


def test_one_recipient_and_one_message_are_found_by_an_index(aws, database):
    others = [event(f"{number}", rcpt_to=f"{number}@example.com", message_id=f"m{number}") for number in range(2000)]
    aws.announce(*aws.process(event("one", rcpt_to="one@example.com", message_id=UUID), *others))
    assert aws.deliver() == 0
    database.execute("ANALYZE bird.events")
    for sql, index in [
        ("bird.recipient_engagement WHERE rcpt_to = 'one@example.com'", "events_2025_11_lower_event_date_idx"),
        (f"bird.message_timeline WHERE message_id = '{UUID}'", "events_2025_11_message_id_idx"),
    ]:
        assert index in "\n".join(column(database, f"EXPLAIN SELECT * FROM {sql}"))  # noqa: S608


def test_list_is_exported_with_the_secret_that_the_function_has(aws, database, server, monkeypatch):
    aws.announce(*aws.process(event("1", type="bounce", bounce_class="10", rcpt_to="hard@example.com")))
    assert aws.deliver() == 0
    aws.new_secret({name: value for name, value in server.secret().items() if name != "port"})
    monkeypatch.setenv("PGPORT", str(server.port))  # in the place of 5432
    target = Stack("", {"secretsmanager": aws.secrets}.__getitem__)
    [name] = [one["Name"] for one in aws.secrets.list_secrets()["SecretList"] if one["ARN"] == aws.secret]
    for where in (aws.secret, name):
        rows = lists.from_postgres(target, where, "bird", lists.statement(None, "0", None))
        description = "Bounced: 10 Invalid Recipient"
        expected = ("hard@example.com", "0", "hard_bounce", description, "all", "2025-11-01T12:26:40Z", "", "")
        assert list(rows) == [expected]


def test_broken_views_do_not_keep_rows_out(aws, database, monkeypatch):
    monkeypatch.setattr(tables, "views_sql", lambda parameters: "CREATE VIEW broken AS SELECT nothing FROM events")
    aws.announce(*aws.process(event("1")))
    assert aws.deliver() == 0
    assert rows_in(database) == 1


def test_every_parameter_of_the_views_is_given():
    text = tables.views_sql({"SoftBounceLimit": "1234", "SoftBounceDays": "5678"})
    assert "${" not in text
    assert "1234" in text
    assert "5678" in text


# --- A file that is gone because its date was closed ---

DAY = "2025-11-01"
VERSION = f"closed/event_date={DAY}/0001-5d41402abc4b/"


class ClosedDay:
    """A date with small files, closed as table maintenance does it; all but the Glue table."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.files = LakeFiles(LAKE_BUCKET, True)
        self.day = date.fromisoformat(DAY)

    def close(self) -> DayState:
        state, etag = self.files.state(self.day)
        small = day_state.late(state, self.files.small_files(small_folder(self.day)))
        work = CloseDay(self.files, state, etag, time.monotonic() + 600, lambda: datetime.now(UTC))
        assert work.close(small)
        return work.state

    def sixteen_days_pass(self) -> None:
        state, etag = self.files.state(self.day)
        later = datetime.now(UTC) + timedelta(days=16)
        for small in day_state.small_to_delete(state, later):
            self.aws.s3.delete_object(Bucket=LAKE_BUCKET, Key=f"{small_folder(self.day)}{small.name}")
        day_state.small_deleted(state, later)
        self.files.write_state(state, etag)

    def keys(self) -> list[str]:
        state = self.files.state(self.day).value
        return [f"{state.location}{file.name}" for file in state.current.files]


@pytest.fixture
def closed_day(aws) -> ClosedDay:
    return ClosedDay(aws)


def test_a_file_that_is_gone_is_loaded_from_the_closed_files_of_its_date(aws, database, closed_day):
    [first] = aws.process(event("1", rcpt_to="a@example.com"), event("2"))
    [second] = aws.process(event("3"))
    closed_day.close()
    closed_day.sixteen_days_pass()
    aws.announce(first, second)
    assert aws.deliver() == 0
    assert sorted(column(database, "SELECT event_id FROM bird.events")) == ["1", "2", "3"]
    assert column(database, "SELECT rcpt_to FROM bird.events WHERE event_id = '1'") == ["a@example.com"]
    assert aws.dead_letters() == []
    aws.announce(first)
    assert aws.deliver() == 0
    assert rows_in(database) == 3


def test_many_dead_letters_of_a_date_load_it_once(aws, database, closed_day, monkeypatch):
    keys = [key for number in range(5) for key in aws.process(event(str(number)))]
    closed_day.close()
    closed_day.sixteen_days_pass()
    read = []
    monkeypatch.setattr(
        load_postgres.app,
        "read_closed_file",
        lambda *args, **kwargs: read.append(args) or read_closed_file(*args, **kwargs),
    )
    aws.announce(*keys)
    assert aws.deliver() == 0
    assert (rows_in(database), len(read)) == (5, 1)


def test_a_closed_date_that_takes_longer_than_an_invocation_is_loaded_over_several(
    aws, database, closed_day, monkeypatch
):
    monkeypatch.setattr(load_postgres.rows, "ROWS_AT_ONCE", 10)
    [key] = aws.process(*(event(str(number)) for number in range(35)))
    closed_day.close()
    closed_day.sixteen_days_pass()
    aws.announce(key)
    for loaded in (10, 20, 30):
        assert aws.deliver(TimeFor(parts=1)) == 1
        assert rows_in(database) == loaded
    assert aws.messages(aws.queue) == 1
    assert aws.deliver(TimeFor(parts=1)) == 0
    assert rows_in(database) == 35


class TimeFor(Context):
    """Enough time for so many parts of a closed file."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.asked, self.parts = -1, parts  # the handler asks before the message

    def get_remaining_time_in_millis(self) -> int:
        self.asked += 1
        return 300_000 if self.asked <= self.parts else 10_000


@pytest.mark.parametrize("rows", [1, 3], ids=["fewer", "more"])
def test_a_closed_file_with_other_rows_than_its_date_s_state_says_is_not_tried_again_and_again(
    aws, database, closed_day, rows
):
    [key] = aws.process(event("1"), event("2"))
    [other] = aws.process(*(event(str(number)) for number in range(rows)))
    body = aws.s3.get_object(Bucket=LAKE_BUCKET, Key=other)["Body"].read()
    aws.s3.delete_object(Bucket=LAKE_BUCKET, Key=other)
    closed_day.close()
    closed_day.sixteen_days_pass()
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=closed_day.keys()[0], Body=body)
    aws.announce(key)
    assert aws.deliver() == 0
    reason = f"the closed file has {rows} rows, and its date's state says 2: somebody wrote over it"
    assert aws.dead_letters() == [(reason, ANY)]


def test_a_closed_file_that_is_written_over_while_it_is_read_is_read_again(aws, database, closed_day, monkeypatch):
    monkeypatch.setattr(load_postgres.lake, "RANGE_BYTES", 1_000)
    [key] = aws.process(event("1"), event("2"))
    closed_day.close()
    closed_day.sixteen_days_pass()
    [closed] = closed_day.keys()
    body = aws.s3.get_object(Bucket=LAKE_BUCKET, Key=closed)["Body"].read()
    real, reads = load_postgres.lake.obstore.get, []

    def get(store, path, **options):
        reads.append(path)
        if path == closed and reads.count(closed) == 2:
            aws.s3.put_object(Bucket=LAKE_BUCKET, Key=closed, Body=body[:-4] + b"none")
        return real(store, path, **options)

    monkeypatch.setattr(load_postgres.lake.obstore, "get", get)
    aws.announce(key)
    assert aws.deliver() == 1
    assert (rows_in(database), aws.dead_letters()) == (0, [])
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=closed, Body=body)
    aws.announce(key)
    assert aws.deliver() == 0
    assert (aws.dead_letters(), rows_in(database)) == ([], 2)


def test_two_loaders_of_one_closed_date_share_it(aws, database, closed_day, server, monkeypatch):
    monkeypatch.setattr(load_postgres.rows, "ROWS_AT_ONCE", 10)
    [key] = aws.process(*(event(str(number)) for number in range(25)))
    state = closed_day.close()
    closed_day.sixteen_days_pass()
    body = aws.body(closed_day.keys()[0])
    day, name = closed_day.day, closed_day.keys()[0]
    first, second = (Database(server.secret, "bird", verify=True) for _ in range(2))
    parts = [rows_from_table(part, day) for part in load_postgres.rows.parts_of(body)]
    with closing(first), closing(second):
        assert [one.position(day, name) for one in (first, second)] == [0, 0]
        assert first.load_part(Part(name, day, 0, 10), parts[0], fail_on_rejected) == (10, Loaded(10, 10))
        assert second.load_part(Part(name, day, 0, 10), parts[0], fail_on_rejected) == (10, Loaded(0, 0))
        assert second.load_part(Part(name, day, 10, 20), parts[1], fail_on_rejected) == (20, Loaded(10, 10))
    aws.announce(key)
    assert aws.deliver() == 0
    assert (rows_in(database), state.rows) == (25, 25)


def test_a_month_that_was_dropped_is_loaded_again(aws, database, closed_day):
    [key] = aws.process(event("1"))
    closed_day.close()
    closed_day.sixteen_days_pass()
    for _ in range(2):
        aws.announce(key)
        assert aws.deliver() == 0
        assert rows_in(database) == 1
        database.execute("DROP TABLE bird.events_2025_11")


@pytest.mark.parametrize("dropped", ["TABLE bird.events", "SCHEMA bird"])
def test_a_table_that_was_dropped_is_made_by_the_connection_that_knew_it(aws, database, closed_day, dropped):
    [key] = aws.process(event("1"))
    closed_day.close()
    closed_day.sixteen_days_pass()
    for _ in range(2):
        aws.announce(key)
        assert aws.deliver() == 0
        assert rows_in(database) == 1
        database.execute(f"DROP {dropped} CASCADE")


def test_a_closed_file_that_is_announced_is_loaded_whatever_was_loaded_before(aws, database, closed_day):
    aws.process(event("1"), event("2"))
    closed_day.close()
    for _ in range(2):
        aws.announce(*closed_day.keys())
        assert aws.deliver() == 0
        assert rows_in(database) == 2
        database.execute("DELETE FROM bird.events")


def test_a_version_that_was_replaced_stands_for_the_current_one(aws, database, closed_day):
    aws.process(event("1"))
    closed_day.close()
    [old] = closed_day.keys()
    aws.process(event("2"))
    closed_day.close()
    aws.announce(old)
    assert aws.deliver() == 0
    assert sorted(column(database, "SELECT event_id FROM bird.events")) == ["1", "2"]


def test_of_a_closed_date_of_which_an_erasure_left_no_row_nothing_is_loaded(aws, database, closed_day):
    [small] = aws.process(event("1"))
    closed_day.close()
    [old] = closed_day.keys()
    state = {"Bucket": LAKE_BUCKET, "Key": f"maintenance/days/{small.split('/')[1]}.json"}
    said = json.loads(aws.s3.get_object(**state)["Body"].read())
    erased = {**said, "current": {**said["current"], "name": "0002-erased", "files": []}, "rows": 0}
    aws.s3.put_object(**state, Body=json.dumps(erased).encode())
    for key in (small, old):
        aws.s3.delete_object(Bucket=LAKE_BUCKET, Key=key)
    aws.announce(small, old)
    assert aws.deliver() == 0
    assert aws.dead_letters() == []


def test_a_file_that_no_version_took_in_is_an_error_though_its_date_is_closed(aws, database, closed_day):
    aws.process(event("1"))
    closed_day.close()
    [late] = aws.process(event("2"))
    aws.s3.delete_object(Bucket=LAKE_BUCKET, Key=late)
    aws.announce(late)
    assert aws.deliver() == 0
    [(reason, _)] = aws.dead_letters()
    assert reason == "the file was deleted before it was loaded, and its date's closed files do not have its rows"


@pytest.mark.parametrize("state", [b"", b"[]", b"{}", b'{"current": {"files": 1}}'])
def test_a_state_that_cannot_be_read_is_an_error(aws, database, state):
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=f"maintenance/days/event_date={DAY}.json", Body=state)
    aws.announce(f"events/event_date={DAY}/gone.parquet")
    assert aws.deliver() == 0
    [(reason, _)] = aws.dead_letters()
    assert reason.startswith("the state of the file's date cannot be read: ")


def test_rows_of_a_closed_file_that_postgresql_refuses_are_kept_aside_with_their_place(
    aws, database, closed_day, monkeypatch
):
    monkeypatch.setattr(load_postgres.rows, "ROWS_AT_ONCE", 10)
    aws.process(
        *(event(f"{number:02}", message_id=os.urandom(3000).hex() if number == 15 else "1") for number in range(20))
    )
    closed_day.close()
    aws.announce(*closed_day.keys())
    assert aws.deliver() == 0
    assert rows_in(database) == 19
    [key] = [
        item["Key"] for item in aws.s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="quarantine/postgres/")["Contents"]
    ]
    version = closed_day.keys()[0].split("/")[2]
    assert key.endswith(f"/{DAY}-{version}-0000-00.parquet-10.ndjson")
    record = json.loads(aws.body(key))
    assert (record["index"], record["original"]["event_id"], record["lake_key"]) == (15, "15", closed_day.keys()[0])


# --- Files that were loaded before ---


def no_row_may_be_sent(monkeypatch) -> None:
    def refuse(*_):
        raise AssertionError("rows were sent")

    monkeypatch.setattr(load_postgres.table.Insertion, "_copy", refuse)
    monkeypatch.setattr(load_postgres.table.Insertion, "_copy_texts", refuse)


def test_a_file_that_was_loaded_is_passed_over_without_its_rows_being_sent(aws, database, monkeypatch):
    keys = aws.process(event("1"), event("2", timestamp=str(NOVEMBER + 86_400)))
    aws.announce(*keys)
    assert aws.deliver() == 0
    with monkeypatch.context() as patched:
        no_row_may_be_sent(patched)
        aws.announce(*keys)
        assert aws.deliver() == 0
    # Other rows under the same name are another file.
    aws.s3.copy_object(
        Bucket=LAKE_BUCKET, Key=keys[0], CopySource={"Bucket": LAKE_BUCKET, "Key": aws.process(event("3"))[0]}
    )
    aws.announce(keys[0])
    assert aws.deliver() == 0
    assert ids(database) == ["1", "2", "3"]
    assert aws.messages(aws.queue) == aws.messages(aws.dead) == 0


def test_a_file_of_which_a_row_was_refused_is_loaded_once_more(aws, database):
    keys = aws.process(event("1"), event("2", subject="no"))
    load_postgres.app.database().load(date(2025, 11, 1), rows_of("a.csv", b"event_key\n0\n"))  # makes the table
    database.execute("ALTER TABLE bird.events ADD CONSTRAINT mine CHECK (subject <> 'no')")
    aws.announce(*keys)
    assert aws.deliver() == 0
    database.execute("ALTER TABLE bird.events DROP CONSTRAINT mine; DELETE FROM bird.events WHERE event_key = '0'")
    aws.announce(*keys)
    assert aws.deliver() == 0
    assert ids(database) == ["1", "2"]


def test_one_row_that_is_there_already_costs_a_file_nothing_but_time(aws, database, monkeypatch):
    aws.announce(*aws.process(event("5", subject="first")))
    assert aws.deliver() == 0
    aws.announce(*aws.process(*(event(str(one), subject="second") for one in range(10))))
    assert aws.deliver() == 0
    assert ids(database) == list("0123456789")
    assert column(database, "SELECT subject FROM bird.events WHERE event_id = '5'") == ["first"]
    # Most files have no such row, and need no staging.
    monkeypatch.setattr(load_postgres.table.Insertion, "_through_staging", None)
    aws.announce(*aws.process(event("10", rcpt_meta={"a": [1, None]}), event("11", extra_field="x")))
    assert aws.deliver() == 0
    found = "SELECT rcpt_meta, extra, event_date FROM bird.events WHERE event_id IN ('10', '11') ORDER BY event_id"
    assert database.execute(found).fetchall() == [
        ({"a": [1, None]}, None, date(2025, 11, 1)),
        (None, {"extra_field": "x"}, date(2025, 11, 1)),
    ]


def test_a_file_that_is_sent_in_parts_is_loaded_once_and_whole(aws, database, monkeypatch):
    monkeypatch.setattr(load_postgres.rows, "ROWS_IN_PART", 2)
    aws.announce(*aws.process(*(event(str(one)) for one in range(5))))
    assert aws.deliver() == 0
    # What is odd in a later part undoes the parts before it: rows that are there, null marks, JSON that needs care.
    for one, odd in enumerate([event("4"), event("95", subject="\x01"), event("96", rcpt_meta={"n": 5e222})]):
        aws.announce(*aws.process(*(event(f"{one}-{number}") for number in range(3)), odd))
        assert aws.deliver() == 0
    assert ids(database) == [
        "0",
        "0-0",
        "0-1",
        "0-2",
        "1",
        "1-0",
        "1-1",
        "1-2",
        "2",
        "2-0",
        "2-1",
        "2-2",
        "3",
        "4",
        "95",
        "96",
    ]
    sql = "SELECT subject, rcpt_meta FROM bird.events WHERE event_id IN ('95', '96') ORDER BY event_id"
    assert database.execute(sql).fetchall() == [("\x01", None), (None, {"n": "5e+222"})]
    assert aws.messages(aws.queue) == aws.messages(aws.dead) == 0


def test_files_that_nothing_announces_any_more_are_forgotten(aws, database):
    aws.announce(*aws.process(event("1")), *aws.process(event("2")))
    assert aws.deliver() == 0
    database.execute("UPDATE bird.files_loaded SET loaded_at = now() - interval '31 days' WHERE ctid = '(0,1)'")
    upkeep.keep_up(load_postgres.app.database()._connection, "bird", 60, datetime.now(UTC) + timedelta(days=8))
    assert column(database, "SELECT count(*) FROM bird.files_loaded") == [1]


@pytest.mark.parametrize("seed", range(20 if os.environ.get("NIGHTLY") else 1))
def test_a_reload_restores_every_row_whatever_went_before(aws, database, closed_day, reload_days, server, seed):
    """Months dropped by the retention and by hand, persons erased, rows deleted, files announced again."""
    chance = random.Random(seed)  # noqa: S311
    files = fill_days(aws, closed_day)
    october = str(NOVEMBER - 86_400)
    files += aws.process(event("6", timestamp=october, rcpt_to=PERSON), event("7", timestamp=october, type="bounce"))
    files += closed_day.keys()
    where = make_conninfo(
        "", host=server.host, port=server.port, user=server.username, password=server.password, dbname=server.dbname
    )
    function = load_postgres.app.database()

    def drop_old_months() -> None:
        function.retention_months = 1
        assert load_postgres.app.lambda_handler({}, Context()) == {}
        function.retention_months = 0

    def erase() -> None:
        erase_postgres.Table(Stack("", lambda *_: None, 0), where, "bird").delete(erase_postgres.Erased(Person(PERSON)))

    def announce() -> None:
        aws.announce(*chance.sample(files, 3))
        assert aws.deliver() == 0

    steps = [
        drop_old_months,
        erase,
        announce,
        lambda: database.execute("DROP TABLE IF EXISTS bird.events_2025_11"),
        lambda: database.execute("TRUNCATE bird.events"),
        lambda: database.execute("DROP TABLE bird.events CASCADE; DROP TABLE bird.suppression_events_kept CASCADE"),
    ]
    for round_ in range(3):
        aws.announce(*files)
        assert aws.deliver() == 0
        for step in chance.sample(steps[: 4 + round_], 3):
            step()
            function.close()
            function._connected()  # a new connection makes the table again
        assert reload_days("--since", "2025-10-01", "--yes")[0] == 0
        assert ids(database) == ["1", "2", "3", "4", "5", "6", "7"]


# --- bird-webhooks reload ---

PERSON = "person@example.com"
TOMBSTONE_KEY = "the-key-of-a-test"


@pytest.fixture
def reload_days(aws, moto_endpoint, monkeypatch, capsys):
    """`reload_days("--yes")`: exit status, standard output, standard error. The function loads while it waits."""
    clients = {"s3": aws.s3, "sqs": aws.sqs, "secretsmanager": aws.secrets}
    key = aws.secrets.create_secret(Name=f"tombstones-{next(numbers)}", SecretString=TOMBSTONE_KEY)["ARN"]
    outputs = {"RawBucketName": RAW_BUCKET, "LakeBucketName": LAKE_BUCKET, "PostgresQueueUrl": aws.queue}
    monkeypatch.setattr(Stack, "outputs", {**outputs, "TombstoneKeyArn": key})
    parameters = {"OutputFormat": "PARQUET", "PostgresSchema": "bird", "PostgresSecretArn": aws.secret}
    monkeypatch.setattr(Stack, "parameters", parameters)
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("bird-webhooks", lambda name, *_: clients[name], 0))
    monkeypatch.setattr(reload, "pause", lambda seconds: aws.deliver())

    def command(*arguments: str, **changed: str) -> tuple[int, str, str]:
        monkeypatch.setattr(Stack, "parameters", parameters | changed)
        status = operate.main(["reload", "--since", DAY, "--wait", "1", *arguments])
        said = capsys.readouterr()
        assert "person@" not in said.out + said.err
        return status, said.out, said.err

    return command


def fill_days(aws, closed_day) -> list[str]:
    """A closed day of three events, one of which came late and again, and an open day of two events in three files."""
    aws.process(event("1", rcpt_to=PERSON), event("2"))
    closed_day.close()
    late = aws.process(event("2"), event("3"))
    tomorrow = str(NOVEMBER + 86_400)
    return [*late, *(key for one in "454" for key in aws.process(event(one, timestamp=tomorrow)))]


def ids(database) -> list[str]:
    return sorted(column(database, "SELECT event_id FROM bird.events"))


def test_a_table_that_was_dropped_is_loaded_again_whole(aws, database, closed_day, reload_days):
    aws.announce(*fill_days(aws, closed_day), *closed_day.keys())
    assert aws.deliver() == 0
    database.execute("DROP TABLE bird.events CASCADE")
    assert column(database, "SELECT rows > 0 FROM bird.closed_files_loaded") == [True]
    status, printed, _ = reload_days()
    assert (status, ids(database)) == (0, ["1", "2", "3", "4", "5"])
    assert printed.splitlines() == [
        "0 rows of erased persons deleted",
        "2025-11-01  lake             3  PostgreSQL             3  equal",
        "2025-11-02  lake             2  PostgreSQL             2  equal",
    ]
    assert aws.messages(aws.queue) == 0


def test_a_database_that_never_had_the_table_is_filled(aws, database, closed_day, reload_days):
    fill_days(aws, closed_day)
    status, printed, _ = reload_days("--json")
    assert status == 0
    assert json.loads(printed) == {
        "files": 5,
        "rows_of_erased_persons": 0,
        "dates": [
            {"event_date": "2025-11-01", "lake": 3, "postgres": 3, "equal": True},
            {"event_date": "2025-11-02", "lake": 2, "postgres": 2, "equal": True},
        ],
    }


def test_a_closed_file_that_counts_as_loaded_in_part_is_loaded_whole(aws, database, closed_day, reload_days):
    """As after `DELETE`, or a dump that is older than the table of closed files beside it."""
    fill_days(aws, closed_day)
    assert reload_days("--until", DAY)[0] == 0
    database.execute("UPDATE bird.closed_files_loaded SET rows = 1")
    database.execute("DELETE FROM bird.events")
    assert reload_days("--until", DAY)[0] == 0
    assert ids(database) == ["1", "2", "3"]


def test_a_dry_run_compares_and_changes_nothing(aws, database, closed_day, reload_days):
    fill_days(aws, closed_day)
    status, printed, _ = reload_days("--dry-run")
    assert (status, printed.splitlines()) == (
        0,
        [
            "2025-11-01  lake             3  PostgreSQL             0  DIFFERS",
            "2025-11-02  lake             2  PostgreSQL             0  DIFFERS",
            "0 rows of erased persons would be deleted, and 5 files loaded",
        ],
    )
    assert aws.messages(aws.queue) == 0
    assert not tables_in(database)


def test_days_that_differ_afterwards_are_said(aws, database, closed_day, reload_days, monkeypatch):
    fill_days(aws, closed_day)
    assert reload_days()[0] == 0
    database.execute("UPDATE bird.events SET event_id = '', event_key = 'not in the lake' WHERE event_id = '4'")
    status, printed, said = reload_days()
    assert (status, printed.splitlines()[2]) == (
        1, "2025-11-02  lake             2  PostgreSQL             3  DIFFERS",
    )  # fmt: skip
    assert "1 of 2 days differ" in said
    database.execute("DELETE FROM bird.events")
    monkeypatch.setattr(reload, "pause", lambda seconds: time.sleep(0.1))  # nothing loads
    status, printed, said = reload_days("--until", DAY)
    assert (status, printed.splitlines()[1]) == (
        1, "2025-11-01  lake             3  PostgreSQL             0  DIFFERS",
    )  # fmt: skip


def test_rows_of_csv_are_loaded_again(aws, database, reload_days):
    keys = []
    for number, subject in enumerate(["one", "", "two\r\nlines"]):
        rows = f"event_class,type,event_id,event_key,subject\r\nmessage_event,delivery,{number},{number},"
        keys.append(f"events-csv/event_date={DAY}/{number}.csv")
        text = rows + f'"{subject}"\r\n' + f"message_event,delivery,0,0,{number}\r\n"
        aws.s3.put_object(Bucket=LAKE_BUCKET, Key=keys[-1], Body=text.encode())
    status, printed, _ = reload_days(OutputFormat="CSV")
    assert (status, ids(database)) == (0, ["0", "1", "2"])
    assert printed.splitlines()[1] == "2025-11-01  lake             3  PostgreSQL             3  equal"


def test_a_restored_dump_gives_back_nobody_who_was_erased(aws, database, closed_day, reload_days, server, tmp_path):
    fill_days(aws, closed_day)
    october = event("old", timestamp=str(NOVEMBER - 30 * 86_400), rcpt_to=f"{PERSON.title()}")
    aws.process(october, event("hint", raw_reason=f"550 <{PERSON}> unknown", rcpt_to="other@example.com"))
    erased_at = datetime(2025, 11, 1, 13, tzinfo=UTC)
    aws.process(event("new", timestamp=str(int(erased_at.timestamp()) + 60), rcpt_to=PERSON))
    assert reload_days("--since", "2025-10-01")[0] == 0
    dump = tmp_path / "bird.dump"
    pg("pg_dump", server, "--format=custom", "--schema=bird", f"--file={dump}")
    # What `erase` does in the lake and in PostgreSQL: rows go, a tombstone stays.
    for key in sorted(aws.lake_keys() | {*closed_day.keys()}):
        remainder = parquet_without(aws.body(key), Person(PERSON), closed=key.startswith("closed/"))
        if remainder and remainder.body is None:
            aws.s3.delete_object(Bucket=LAKE_BUCKET, Key=key)
    tombstone = tombstones.encode(tombstones.renewed(None, erased_at, TOMBSTONE_KEY.encode(), []))
    name = tombstones.name(PERSON, TOMBSTONE_KEY.encode())
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=name, Body=tombstone)
    database.execute("DROP SCHEMA bird CASCADE")
    load_postgres.app.database().close()
    pg("pg_restore", server, "--dbname=marketing", str(dump))
    assert ids(database) == ["1", "2", "3", "4", "5", "hint", "new", "old"]

    status, printed, said = reload_days("--since", "2025-11-02", "--dry-run")
    assert (status, printed.splitlines()[-1]) == (0, "3 rows of erased persons would be deleted, and 3 files loaded")
    status, _, said = reload_days("--since", "2025-11-02")
    assert (status, "Delete 3 rows of erased persons, and load 3 files of 1 days" in said) == (1, True)
    assert len(ids(database)) == 8

    status, printed, _ = reload_days("--since", "2025-11-02", "--yes")
    assert (status, printed.splitlines()[0]) == (0, "3 rows of erased persons deleted")
    assert ids(database) == ["2", "3", "4", "5", "new"]


def test_what_the_list_needs_of_days_older_than_the_retention_comes_back(
    aws, database, closed_day, reload_days, monkeypatch
):
    monkeypatch.setenv("POSTGRES_RETENTION_MONTHS", "1")
    aws.process(event("1", type="bounce", bounce_class="10", rcpt_to=PERSON), event("2", rcpt_to=PERSON))
    closed_day.close()
    assert reload_days(PostgresRetentionMonths="1")[0] == 0
    assert load_postgres.app.lambda_handler({}, Context()) == {}
    kept = "SELECT rcpt_to, first_seen FROM bird.suppression_candidates"
    suppressed = database.execute(kept).fetchall()
    assert (rows_in(database), [row[0] for row in suppressed]) == (0, [PERSON])
    database.execute("DELETE FROM bird.suppression_events_kept")
    status, printed, _ = reload_days("--json", PostgresRetentionMonths="1")
    assert (status, rows_in(database), database.execute(kept).fetchall()) == (0, 0, suppressed)
    assert json.loads(printed)["dates"] == [
        {"event_date": DAY, "lake": 2, "postgres": 0, "equal": False, "older_than_retention": True}
    ]
    # More months: the rows come back, and nothing is counted twice.
    load_postgres.app.database().retention_months = 60
    status, printed, _ = reload_days(PostgresRetentionMonths="60")
    assert (status, ids(database), database.execute(kept).fetchall()) == (0, ["1", "2"], suppressed)


def test_tombstones_of_another_key_stop_it(aws, database, closed_day, reload_days):
    fill_days(aws, closed_day)
    tombstone = tombstones.encode(tombstones.renewed(None, datetime.now(UTC), b"another", []))
    aws.s3.put_object(Bucket=LAKE_BUCKET, Key=tombstones.name(PERSON, b"another"), Body=tombstone)
    status, printed, said = reload_days()
    assert (status, printed) == (1, "")
    assert "tombstones were made with another key than the stack's: who was erased cannot be told" in said


def test_a_stack_without_postgresql_has_nothing_to_reload(reload_days, monkeypatch):
    monkeypatch.setattr(Stack, "outputs", {})
    assert reload_days()[::2] == (1, "bird-webhooks: the stack loads no PostgreSQL: set PostgresSecretArn first\n")


def pg(program: str, server: Postgres, *arguments: str) -> None:
    """A program of PostgreSQL, as the owner of the table."""
    where = ["--host", server.host, "--port", str(server.port), "--username", server.username]
    if program == "pg_dump":
        where.append(server.dbname)
    environment = {**os.environ, "PGPASSWORD": server.password}
    subprocess.run([local_postgres.programs() / program, *where, *arguments], env=environment, check=True)


VERDICT = {
    "hour": "2026-11-25 10:00:00",
    "type": "*",
    "state": "provisional",
    "ours": 5,
    "theirs": None,
    "stage": "total",
    "counted_at": "2026-11-25 12:20:00",
    "missing": 0,
    "strange": 0,
    "proof": "count",
    "filled": 0,
    "erased": 0,
    "filled_at": None,
    "note": "",
}


def test_verdicts_replace_those_of_their_hours(aws, database):
    of_types = [{**VERDICT, "type": kind, "state": "proved", "theirs": 5} for kind in ("click", "open")]
    later = {**VERDICT, "hour": "2026-11-25 11:00:00"}
    for verdicts in ([VERDICT, later], of_types, of_types):
        assert lambda_handler({"verdicts": verdicts}, Context()) == {"written": len(verdicts)}
    sql = "SELECT to_char(hour, 'HH24'), type, state, theirs FROM bird.completeness ORDER BY hour, type"
    assert database.execute(sql).fetchall() == [
        ("10", "click", "proved", 5),
        ("10", "open", "proved", 5),
        ("11", "*", "provisional", None),
    ]
    assert lambda_handler({"verdicts": []}, Context()) == {"written": 0}
