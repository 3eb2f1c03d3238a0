"""`import`: what was stored before becomes ordinary batches and rows, once, by day, and with books that close."""

import gzip
import json
import os
import random
import signal
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from arro3.io import read_parquet
from botocore.exceptions import ClientError

from bird_webhooks import __main__ as operate
from bird_webhooks.moving import importing, names, raw_batches
from bird_webhooks.moving.accounts import OnlyAccount
from bird_webhooks.operate import replay, tombstone, unannounced
from bird_webhooks.stack import Stack
from maintain.generate.events import created, sqs
from process import app, unshown
from process.tombstones import Tombstones, name

RAW, LAKE = "raw-bucket", "lake-bucket"
CORPUS = Path(__file__).resolve().parents[1] / "data" / "moving"
BATCH_ID = "3f1c2f0e-7a53-4d3b-9a64-0c2c1d5e6f70"
IDS = ["92356927693813801", "92356927693813802", "92356927693813803", "92356927693813804"]


class Account:
    """A stack in moto, with queues of its own: `messages` are those of the import queue."""

    def __init__(self, s3: Any) -> None:
        self.s3 = s3
        self.parameters = {"OutputFormat": "PARQUET", "RawPrefix": "raw", "RawRetentionDays": "0"}
        self.outputs = {"RawBucketName": RAW, "LakeBucketName": LAKE, "ProcessQueueUrl": "process"}
        self.outputs |= {"ImportQueueUrl": "import", "ImportDeadLetterQueueUrl": "import-dead"}
        self.messages: list[str] = []
        self.depth = {"process": 0, "import-dead": 0}
        self.cut_after: int | None = None  # so many requests, and then the connection is gone

    def client(self, service: str, region: str | None = None) -> Any:
        return {"s3": Cut(self, self.s3), "sqs": Cut(self, self)}[service]

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803
        assert QueueUrl == "import"
        assert len(MessageBody) < 256 * 1024
        self.messages.append(MessageBody)

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict:  # noqa: N803
        count = self.depth.get(QueueUrl, 0)
        return {"Attributes": {AttributeNames[0]: str(count), AttributeNames[1]: "0"}}

    def process(self) -> None:
        """What the import function does with each message, which is a batch of the queue by itself."""
        for body in self.messages:
            assert app.lambda_handler(sqs(json.loads(body)), None) == {"batchItemFailures": []}
        self.messages.clear()

    def raw(self) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=RAW, Prefix="raw/").get("Contents", [])
        return [item["Key"].removeprefix("raw/") for item in found]

    def rows(self) -> list[dict]:
        rows = []
        for item in self.s3.list_objects_v2(Bucket=LAKE, Prefix="events/").get("Contents", []):
            body = self.s3.get_object(Bucket=LAKE, Key=item["Key"])["Body"].read()
            table = read_parquet(BytesIO(body)).read_all()
            columns = [table[column].to_pylist() for column in table.schema.names]
            day = item["Key"].split("/")[1].removeprefix("event_date=")
            for values in zip(*columns, strict=True):
                rows.append({**dict(zip(table.schema.names, values, strict=True)), "event_date": day})
        return rows

    def view(self) -> dict[tuple, dict]:
        """Each event once, as the deduplicating view has it, without where it came from."""
        return {
            (row["event_date"], row["customer_id"], row["event_class"], row["type"], row["event_key"]): {
                column: json.loads(value) if column in ("rcpt_meta", "rcpt_tags") and value else value
                for column, value in row.items()
                if column not in ("batch_id", "received_at")
            }
            for row in self.rows()
        }


class Cut:
    """A client of the account, until `cut_after` requests were made."""

    def __init__(self, account: Account, client: Any) -> None:
        self.account, self.wrapped = account, client

    def __getattr__(self, operation: str) -> Any:
        if operation in ("get_paginator", "meta"):
            return getattr(self.wrapped, operation)

        def request(**arguments: Any) -> Any:
            if self.account.cut_after is not None:
                self.account.cut_after -= 1
                if self.account.cut_after < 0:
                    raise ClientError({"Error": {"Code": "RequestTimeout"}}, operation)
            return getattr(self.wrapped, operation)(**arguments)

        return request


@pytest.fixture
def aws(s3, monkeypatch) -> Account:
    account = Account(s3)
    monkeypatch.setattr(Stack, "outputs", account.outputs)
    monkeypatch.setattr(Stack, "parameters", property(lambda stack: account.parameters))
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("bird-webhooks", account.client, 0))
    return account


@pytest.fixture
def run(aws, capsys):
    def command(*arguments: str) -> tuple[int, str, str]:
        status = operate.main(["import", *map(str, arguments), "--no-wait"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def folder(tmp_path: Path, *names: str) -> Path:
    for one in names:
        target = tmp_path / one.replace("guide--", "")
        target.write_bytes((CORPUS / one).read_bytes())
        os.utime(target, (1762162270, 1762162270))
    return tmp_path


def test_old_batches_become_rows_like_live_ones(aws, run, tmp_path):
    status, out, _ = run(folder(tmp_path, f"guide--{BATCH_ID}"))
    assert status == 0
    assert out.splitlines() == [
        "1 objects: 1 imported, 0 here already, 0 probes or empty, 0 refused",
        "4 events: 4 imported, 0 here already, 0 of erased persons left out, 0 refused",
    ]
    [key] = aws.raw()
    assert key.startswith(f"import/{BATCH_ID}/20251103T093110Z-")
    aws.process()
    rows = aws.rows()
    assert sorted(row["event_id"] for row in rows) == IDS
    assert {row["batch_id"] for row in rows} == {key.removesuffix(".json")}
    assert {row["received_at"].isoformat() for row in rows} == {"2025-11-03T09:31:10+00:00"}
    metadata = aws.s3.head_object(Bucket=RAW, Key=f"raw/{key}")["Metadata"]
    assert metadata["origin"] == str(tmp_path / BATCH_ID)
    assert metadata["received-at"] == "2025-11-03T09:31:10.000+00:00"


def test_the_bucket_does_not_announce_an_imported_batch(aws, run, tmp_path):
    """It announces Put, Post and Copy: what is uploaded in parts has a hyphen in its ETag."""
    run(folder(tmp_path, f"guide--{BATCH_ID}"))
    [item] = aws.s3.list_objects_v2(Bucket=RAW)["Contents"]
    assert item["ETag"].strip('"').endswith("-1")


def test_a_second_run_does_nothing(aws, run, tmp_path):
    source = folder(tmp_path, f"guide--{BATCH_ID}", "events-api-page.json", "probe.json")
    run(source)
    raw = aws.raw()
    aws.messages.clear()
    status, out, _ = run(source)
    assert (status, aws.raw(), aws.messages) == (0, raw, [])
    assert out.splitlines() == [
        "3 objects: 0 imported, 2 here already, 1 probes or empty, 0 refused",
        "8 events: 0 imported, 8 here already, 0 of erased persons left out, 0 refused",
    ]


def test_the_same_batch_from_another_place_is_here_already(aws, run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(folder(tmp_path / "a", f"guide--{BATCH_ID}"))
    _, out, _ = run(folder(tmp_path / "b", f"guide--{BATCH_ID}"))
    assert out.startswith("1 objects: 0 imported, 1 here already")
    assert len(aws.raw()) == 1


def test_dry_run_changes_nothing_and_says_what_would_be_done(aws, run, tmp_path):
    source = folder(tmp_path, f"guide--{BATCH_ID}", "probe.json", "refused--segment.jsonl")
    status, out, err = run(source, "--dry-run")
    assert (status, aws.raw(), aws.messages) == (1, [], [])
    assert aws.s3.list_objects_v2(Bucket=LAKE).get("Contents", []) == []
    assert "3 objects: 1 would be imported, 0 here already, 1 probes or empty, 1 refused" in out
    assert "  2025-11  bounce                            1\n" in out
    assert "1 raw batches, 0.0 MB, handed over in 1 messages" in out
    assert "requests, $0.00 once and $0.00 a month" in out
    assert f"refused: {source}/refused--segment.jsonl, at its value 1: a call of Segment" in out
    assert "1 objects are refused" in err


def test_figures_as_json(aws, run, tmp_path):
    _, out, _ = run(folder(tmp_path, f"guide--{BATCH_ID}", "refused--guide.csv"), "--json", "--dry-run")
    document = json.loads(out)
    assert document["objects"] == {"listed": 2, "imported": 1, "here_already": 0, "probes": 0, "refused": 1}
    assert document["events"] == {"imported": 4, "here_already": 0, "erased": 0, "refused": 0}
    assert document["by_month"][0] == {"month": "2025-11", "type": "bounce", "events": 1}
    assert document["refused"][0]["object"].endswith("refused--guide.csv")
    assert document["estimate"]["batches"] == 1


def test_objects_that_cannot_be_read_are_named_and_tried_again(aws, run):
    for key in ("old/archived", "old/locked", "old/good"):
        aws.s3.put_object(Bucket=LAKE, Key=key, Body=(CORPUS / f"guide--{BATCH_ID}").read_bytes())
    real = aws.s3.get_object
    errors = {"old/archived": "InvalidObjectState", "old/locked": "AccessDenied"}

    class Partly:
        def __getattr__(self, operation):
            return getattr(aws_s3, operation)

        def get_object(self, Bucket, Key):  # noqa: N803
            if Key in errors:
                raise ClientError({"Error": {"Code": errors[Key]}}, "GetObject")
            return real(Bucket=Bucket, Key=Key)

    aws_s3 = aws.s3
    aws.s3 = Partly()
    status, out, _ = run(f"s3://{LAKE}/old/")
    assert status == 1
    assert f"refused: s3://{LAKE}/old/archived: archived: restore it, then import again" in out
    assert f"refused: s3://{LAKE}/old/locked: not allowed to read it, or to use its KMS key" in out
    errors.clear()
    status, out, _ = run(f"s3://{LAKE}/old/")
    assert (status, out.splitlines()[0]) == (0, "3 objects: 0 imported, 3 here already, 0 probes or empty, 0 refused")


def test_what_is_older_than_the_retention_is_refused_unless_asked_for(aws, run, tmp_path):
    aws.parameters["RawRetentionDays"] = "90"
    status, out, _ = run(folder(tmp_path, f"guide--{BATCH_ID}"))
    assert (status, aws.raw()) == (1, [])
    assert "older than RawRetentionDays: give --beyond-retention to keep it for as long again" in out
    status, out, _ = run(tmp_path, "--beyond-retention")
    assert (status, len(aws.raw())) == (0, 1)
    ends = datetime.now(UTC).date() + timedelta(days=91)
    assert f"S3 counts RawRetentionDays from the copy: the raw batches expire on {ends}" in out


def test_erased_persons_stay_erased(aws, run, tmp_path, monkeypatch):
    after = datetime(2025, 11, 4, tzinfo=UTC)
    erased = Tombstones(b"key", {name("second@example.com", b"key"): after})
    monkeypatch.setattr(tombstone, "read_all", lambda stack: erased)
    _, out, _ = run(folder(tmp_path, f"guide--{BATCH_ID}"))
    assert "4 events: 3 imported, 0 here already, 1 of erased persons left out, 0 refused" in out
    [key] = aws.raw()
    body = aws.s3.get_object(Bucket=RAW, Key=f"raw/{key}")["Body"].read()
    assert b"second@example.com" not in body
    _, out, _ = run(tmp_path)
    assert out.startswith("1 objects: 0 imported, 1 here already")


def test_published_batches_have_names_of_their_own(aws, run, tmp_path):
    source = folder(tmp_path, f"guide--{BATCH_ID}")
    run(source)
    run(source, "--publish")
    assert [key.endswith(".publish.json") for key in aws.raw()] == [False, True]


def test_an_account_is_given_to_events_that_lack_it(aws, run, tmp_path, monkeypatch):
    (tmp_path / "events.jsonl").write_text('{"type":"open","event_id":"1","timestamp":"2025-11-03T09:00:00Z"}\n')
    known = []
    monkeypatch.setattr(OnlyAccount, "seen", lambda self: known)
    assert "the stack has seen no account yet: give --account" in run(tmp_path, "--dry-run")[1]
    known = ["7", "8"]
    assert "the stack has seen several accounts: give --account" in run(tmp_path, "--dry-run")[1]
    known = ["7"]
    assert run(tmp_path)[0] == 0
    aws.process()
    assert [row["customer_id"] for row in aws.rows()] == ["7"]
    assert run(tmp_path, "--account", "9")[1].startswith("1 objects: 0 imported, 1 here already")


def test_an_event_without_an_id_counts_once_by_the_webhook_and_by_a_database(aws, run, tmp_path):
    sms = {"type": "sms_status", "customer_id": "7", "timestamp": "1762160400", "sms_text": "hi", "sms_dst": "1"}
    body = json.dumps([{"msys": {"message_event": sms}}], indent=1)
    aws.s3.put_object(Bucket=RAW, Key="raw/live.json", Body=body)
    app.lambda_handler(sqs({"Records": [created("raw/live.json")]}), None)
    other = {**dict(sorted(sms.items())), "sms_text": "another"}
    (tmp_path / "events.jsonl").write_text(json.dumps(dict(sorted(sms.items()))) + "\n" + json.dumps(other) + "\n")
    _, out, _ = run(tmp_path)
    assert "2 events: 1 imported, 1 here already" in out
    aws.process()
    assert sorted(row["sms_text"] for row in aws.rows()) == ["another", "hi"]


SMS = {"type": "sms_status", "customer_id": "7", "timestamp": "1762160400", "sms_text": "hi", "sms_dst": "1"}


@pytest.mark.parametrize(
    "first", [json.dumps(SMS), json.dumps([{"msys": {"message_event": SMS}}])], ids=["database", "webhook"]
)
def test_an_event_without_an_id_counts_once_of_two_objects_that_write_it_in_other_ways(aws, run, tmp_path, first):
    (tmp_path / "1.json").write_text(first)
    (tmp_path / "2.json").write_text(json.dumps({**dict(sorted(SMS.items())), "sms_text": "another"}))
    (tmp_path / "3.json").write_text(json.dumps(dict(sorted(SMS.items()))))
    for one in ("1.json", "2.json", "3.json"):
        os.utime(tmp_path / one, (1762162270, 1762162270))
    assert "3 events: 2 imported, 1 here already" in run(tmp_path)[1]
    aws.process()
    assert sorted(row["sms_text"] for row in aws.rows()) == ["another", "hi"]


def test_an_event_without_an_id_is_looked_for_when_an_earlier_import_has_become_rows(aws, run, tmp_path, monkeypatch):
    (tmp_path / "1.json").write_text(json.dumps(SMS))
    run(tmp_path)
    aws.depth["import"] = 1

    def sleep(seconds: float) -> None:
        aws.process()
        aws.depth["import"] = 0

    monkeypatch.setattr(importing.time, "sleep", sleep)
    (tmp_path / "2.json").write_text(json.dumps(dict(sorted(SMS.items()))))
    assert "2 events: 0 imported, 2 here already" in run(tmp_path)[1]


def test_an_import_that_is_stopped_does_not_wait_for_an_earlier_one(aws, run, tmp_path, monkeypatch):
    (tmp_path / "1.json").write_text(json.dumps(SMS))
    aws.depth["import"] = 1
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:  # Ctrl-C
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        aws.depth["import"] = int(len(slept) < 100)
        threading.Event().wait(0.01)

    monkeypatch.setattr(importing.time, "sleep", sleep)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with `&` ignores it
    try:
        assert run(tmp_path)[0] == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(slept) < 100


def test_an_event_without_an_id_that_may_still_come_live_is_refused(aws, run, tmp_path):
    sms = {
        "type": "sms_status",
        "customer_id": "7",
        "timestamp": str(int(datetime.now(UTC).timestamp())),
        "sms_dst": "1",
    }
    (tmp_path / "events.jsonl").write_text(json.dumps(sms))
    status, out, _ = run(tmp_path)
    assert (status, aws.raw()) == (1, [])
    assert "without an id, and so new that it may still come by the webhook" in out


def test_events_without_a_time_are_filed_under_the_arrival_that_the_source_had(aws, run, tmp_path):
    batch = [{"msys": {"message_event": {"type": "bounce", "customer_id": "7", "event_id": "1"}}}]
    (tmp_path / "batch.json").write_text(json.dumps(batch))
    os.utime(tmp_path / "batch.json", (1762162270, 1762162270))
    run(tmp_path)
    aws.process()
    assert [row["event_date"] for row in aws.rows()] == ["2025-11-03"]


def test_a_file_that_is_named_by_its_begin_is_filed_by_the_dates_of_its_events(aws, run, tmp_path):
    days = [1759276800 + 86400 * number for number in range(4)]
    events = [{"type": "bounce", "customer_id": "7", "event_id": str(day), "timestamp": str(day)} for day in days]
    appended = tmp_path / "events_20251001T000000Z.jsonl"
    appended.write_text("\n".join(map(json.dumps, events)))
    os.utime(appended, (1762162270, 1762162270))
    assert "dated before 2014 or after" not in run(tmp_path)[1]
    aws.process()
    assert [row["event_date"] for row in aws.rows()] == ["2025-10-01", "2025-10-02", "2025-10-03", "2025-10-04"]


def test_dates_that_are_odd_are_said(aws, run, tmp_path):
    event = {"type": "bounce", "customer_id": "7", "event_id": "1", "timestamp": "4102444800"}
    (tmp_path / "batch.json").write_text(json.dumps([{"msys": {"message_event": event}}]))
    os.utime(tmp_path / "batch.json", (1762162270, 1762162270))
    assert "1 events are dated before 2014 or after their arrival" in run(tmp_path)[1]
    aws.process()
    assert [row["event_date"] for row in aws.rows()] == ["2025-11-03"]


def test_a_message_names_the_batches_of_one_day_however_the_source_lists_them(aws, run, tmp_path):
    for number in range(60):
        moment = 1762160400 + 86400 * (number % 3)
        event = {"type": "bounce", "customer_id": "7", "event_id": str(number), "timestamp": str(moment)}
        path = tmp_path / f"{number:032x}"
        path.write_text(json.dumps([{"msys": {"message_event": event}}]))
        os.utime(path, (moment + 60, moment + 60))
    run(tmp_path)
    assert [body.count('"key"') for body in aws.messages] == [20, 20, 20]
    aws.process()
    files = aws.s3.list_objects_v2(Bucket=LAKE, Prefix="events/")["Contents"]
    assert (len(files), len(aws.rows())) == (3, 60)


def test_what_is_fresh_goes_first(aws, run, tmp_path, monkeypatch):
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(len(aws.messages))
        aws.depth["process"] -= 400

    aws.depth["process"] = 1000
    monkeypatch.setattr(importing.time, "sleep", sleep)
    assert run(folder(tmp_path, f"guide--{BATCH_ID}"))[0] == 0
    assert (slept, len(aws.messages)) == ([0, 0], 1)


def test_a_stack_without_the_queue_is_told_to_update(aws, run, tmp_path, monkeypatch):
    del aws.outputs["ImportQueueUrl"]
    status, _, err = run(folder(tmp_path, f"guide--{BATCH_ID}"))
    assert (status, err) == (
        1,
        "bird-webhooks: this stack has no queue for imports yet: update it to this release first\n",
    )


def history(days: int, batches: int) -> list[bytes]:
    """Batches of elements as Bird sends them."""
    made = []
    for number in range(batches):
        elements = []
        for place in range(3):
            moment = 1762160400 + 86400 * (number % days) + place
            fields = {
                "type": ("delivery", "bounce", "spam_complaint")[place],
                "customer_id": "7",
                "event_id": f"{number:04}{place}",
                "timestamp": str(moment),
                "rcpt_to": f"r{number}@example.com",
                "rcpt_meta": {"a": [1, 1.50, None], "é": "\\ \n"},
                "msg_size": "1337",
                "unheard_of": {"x": 1},
            }
            elements.append(json.dumps({"msys": {"message_event": fields}}, ensure_ascii=False).encode())
        made.append(b"[" + b",".join(elements) + b"]")
    return made


def live(aws: Account, batches: list[bytes]) -> dict:
    for number, body in enumerate(batches):
        aws.s3.put_object(Bucket=RAW, Key=f"live/{number}.json", Body=body)
    for number in range(len(batches)):
        aws.s3.copy_object(
            Bucket=RAW, Key=f"raw/{number}.json", CopySource={"Bucket": RAW, "Key": f"live/{number}.json"}
        )
        app.lambda_handler(sqs({"Records": [created(f"raw/{number}.json")]}), None)
    view = aws.view()
    for bucket in (RAW, LAKE):
        for item in aws.s3.list_objects_v2(Bucket=bucket)["Contents"]:
            aws.s3.delete_object(Bucket=bucket, Key=item["Key"])
    return view


def reencoded(chance: random.Random, batches: list[bytes]) -> bytes:
    """Some of the history as another system would have kept it."""
    elements = [json.loads(body) for body in batches]
    whole = [one for batch in elements for one in batch]
    match chance.randrange(6):
        case 0:
            return b"\n".join(batches)
        case 1:
            return gzip.compress(b"".join(batches))
        case 2:
            flat = [next(iter(one["msys"].values())) for one in whole]
            return "\n".join(json.dumps(dict(sorted(one.items()))) for one in flat).encode()
        case 3:
            return json.dumps({str(2 * n): one for n, one in enumerate(whole)}).encode()
        case 4:
            return "\n".join(json.dumps({"_airbyte_data": next(iter(one["msys"].values()))}) for one in whole).encode()
        case _:
            return json.dumps(json.dumps(whole)).encode()


SEEDS = range(40) if os.environ.get("NIGHTLY") else range(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shuffled_doubled_cut_and_reencoded_history_equals_the_live_view(aws, run, tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311
    batches = history(days=3, batches=8)
    expected = live(aws, batches)
    for number in range(6):
        some = chance.sample(batches, 4)
        (tmp_path / f"{number}").write_bytes(reencoded(chance, some))
    (tmp_path / "all").write_bytes(b"".join(chance.sample(batches, len(batches))))
    for _ in range(4):
        aws.cut_after = chance.randrange(5, 60)
        run(tmp_path)
    aws.cut_after = None
    assert run(tmp_path)[0] == 0
    aws.process()
    assert aws.view() == expected
    assert run(tmp_path)[1].splitlines()[0] == "7 objects: 0 imported, 7 here already, 0 probes or empty, 0 refused"
    assert aws.messages == []


@pytest.mark.parametrize("cut_after", range(1, 60) if os.environ.get("NIGHTLY") else (3, 6, 9, 11))
def test_a_run_that_is_cut_after_any_request_is_finished_by_the_next(aws, run, tmp_path, cut_after):
    for number, body in enumerate(history(days=2, batches=3)):
        (tmp_path / f"{number}").write_bytes(body)
    aws.cut_after = cut_after
    run(tmp_path)
    aws.cut_after = None
    assert run(tmp_path)[0] == 0
    aws.process()
    assert Counter(row["event_id"] for row in aws.rows()).keys() == {f"{n:04}{p}" for n in range(3) for p in range(3)}
    assert len(aws.raw()) == 3


def test_what_no_queue_was_told_of_is_found(aws, run, tmp_path, monkeypatch):
    stack = Stack("bird-webhooks", aws.client, 0)
    monkeypatch.setattr(unannounced, "without_rows", lambda stack, ids: [one for one in ids if one != "replayed"])
    assert unannounced.unannounced(stack) == ([], [], [], True)
    for batch_id in ("copied", "replayed"):
        raw_batches.RawBatches(stack).put_once(batch_id, b"[]", datetime.now(UTC), "by hand")
    run(folder(tmp_path, f"guide--{BATCH_ID}"))
    assert unannounced.unannounced(stack) == (["copied"], [], [], True)
    for item in aws.s3.list_objects_v2(Bucket=LAKE, Prefix="maintenance/imported/")["Contents"]:
        aws.s3.delete_object(Bucket=LAKE, Key=item["Key"])
    assert unannounced.unannounced(stack).imported == [
        key.removesuffix(".json") for key in aws.raw() if "import/" in key
    ]


def test_what_came_while_no_stack_listened_to_an_existing_bucket_is_found(aws, monkeypatch):
    stack = Stack("bird-webhooks", aws.client, 0)
    monkeypatch.setattr(unannounced, "without_rows", lambda stack, ids: [one for one in ids if one != "processed"])
    for batch_id in ("early", "processed", "quarantined"):
        aws.s3.put_object(Bucket=RAW, Key=f"raw/{batch_id}.json", Body=b"[]")
    aws.s3.put_object(Bucket=RAW, Key="raw/", Body=b"")
    aws.s3.put_object(Bucket=LAKE, Key=unshown.of_process("2026-11-26", "0"), Body=unshown.encode(["quarantined"]))
    aws.parameters["ExistingRawBucket"] = RAW
    created = {"CreationTime": datetime.now(UTC) + timedelta(minutes=1)}
    monkeypatch.setattr(Stack, "description", lambda stack: created)
    assert unannounced.unannounced(stack).unheard == ["early"]
    # WHEN the stack was there, THEN it was told
    created["CreationTime"] = datetime.now(UTC) - timedelta(minutes=1)
    assert unannounced.unannounced(stack).unheard == []
    # but for what lies where batches lay before: S3 may have stopped to announce it a moment too early
    aws.s3.put_object(Bucket=RAW, Key="before/late.json", Body=b"[]")
    aws.parameters["FormerRawPlaces"] = f"{RAW}/before"
    assert unannounced.unannounced(Stack("bird-webhooks", aws.client, 0)).unheard == ["late"]


def test_replay_finds_an_imported_batch_by_birds_id_and_by_its_own(aws, run, tmp_path):
    stack = Stack("bird-webhooks", aws.client, 0)
    run(folder(tmp_path, f"guide--{BATCH_ID}"))
    [key] = aws.raw()
    assert list(replay.keys_by_id(stack, [BATCH_ID])) == [f"raw/{key}"]
    assert list(replay.keys_by_id(stack, [key.removesuffix(".json")])) == [f"raw/{key}"]
    day = datetime(2025, 11, 3, tzinfo=UTC)
    assert list(replay.keys_by_time(stack, day, day + timedelta(days=1))) == [f"raw/{key}"]
    assert list(replay.keys_by_time(stack, day + timedelta(days=1), datetime.now(UTC))) == []


def test_a_replay_begins_with_the_earliest_batches_so_that_those_of_a_date_come_together(aws):
    """Keys are in the order of ids, which are random: each message would be of another date, and each row a file."""
    stack = Stack("bird-webhooks", aws.client, 0)
    arrivals = [datetime(2025, 11, day, tzinfo=UTC) for day in (3, 1, 2)]
    for number, arrived in enumerate(arrivals):
        made = names.name(f"{number}", "2025-11-01", arrived, [b"{}"], publish=False).text
        raw_batches.RawBatches(stack).put_once(made, b"[]", arrived, "by hand")
    found = replay.keys_by_time(stack, datetime(2025, 1, 1, tzinfo=UTC), datetime.now(UTC))
    assert [key.split("/")[2] for key in found] == ["1", "2", "0"]
