"""Each command of the operator's program against a small stack of moto's, with the names of the real one."""

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from moto import mock_aws

from bird_webhooks import __main__ as operate
from bird_webhooks.errors import OperateError
from bird_webhooks.operate import accepting, batches, existing_bucket, redrive, replay, rotation
from bird_webhooks.operate.accepting import USED
from bird_webhooks.stack import RawPlace, Stack
from process.normalise import StoredBatch
from process.notification import Message, raw_objects
from process.rows import Rows
from report.athena import QueryFailedError
from tests.integration.moto_server import client
from webhook_credentials.app import ACCEPTED_LABELS, OTHER_LABEL

TEMPLATE = {
    "Parameters": {
        name: {"Type": "String", "Default": default}
        for name, default in {
            "WebhookAuth": "BASIC",
            "WebhookHeader": "x-webhook-token",
            "FrontDoor": "ALB",
            "RawPrefix": "B Event Data",
            "OutputFormat": "PARQUET",
            "SenderCidrs": "192.0.2.0/24",
            "SenderPrefixListId": "",
            "SenderHostName": "",
            "CredentialsVersion": "1",
            "AdoptBirdWebhook": "false",
            "BirdApiKeySecretArn": "",
            "PostgresRetentionMonths": "12",
        }.items()
    },
    "Resources": {
        "RawBucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "the-raw-bucket"}},
        "LakeBucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "the-lake-bucket"}},
        "ProcessQueue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "process"}},
        "ProcessDeadLetterQueue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead"}},
        "PostgresQueue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "postgres"}},
        "PostgresDeadLetterQueue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "postgres-dead"}},
        # A function by its name alone: moto starts none.
        "IngestFunction": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "String", "Name": "ingest", "Value": "-"},
        },
        "ProcessFunction": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "String", "Name": "process", "Value": "-"},
        },
        "LoadPostgresFunction": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "String", "Name": "load-postgres", "Value": "-"},
        },
        "IngestLogGroup": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "ingest"}},
        # Changes with every update, for moto takes none that changes no resource.
        "Rotation": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Type": "String",
                "Name": "rotation",
                "Value": {"Ref": "CredentialsVersion"},
            },
        },
    },
    "Outputs": {
        name: {"Value": value}
        for name, value in {
            "WebhookUrl": "https://webhooks.example.com/bird",
            "DashboardUrl": "https://console.example.com/",
            "RawBucketName": {"Ref": "RawBucket"},
            "LakeBucketName": {"Ref": "LakeBucket"},
            "ProcessQueueUrl": {"Ref": "ProcessQueue"},
            "ProcessDeadLetterQueueUrl": {"Ref": "ProcessDeadLetterQueue"},
            "PostgresQueueUrl": {"Ref": "PostgresQueue"},
            "PostgresDeadLetterQueueUrl": {"Ref": "PostgresDeadLetterQueue"},
            "WebhookSecretArn": "webhook",
            "GlueDatabaseName": "bird",
        }.items()
    },
}
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Aws:
    """The account: clients by name, and what the tests put into it."""

    def __init__(self) -> None:
        self.made = client
        self.messages: list[str] = []
        self.running: set[str | None] = {"the-first"}  # the passwords that ingest takes since the last update
        self.s3, self.sqs, self.secrets = self.made("s3"), self.made("sqs"), self.made("secretsmanager")
        self.cloudformation = self.made("cloudformation")

    def client(self, service: str):
        if service == "cloudformation":
            return Guarded(self.cloudformation, {"update_stack": self.update_stack})
        return Logs(self.messages) if service == "logs" else self.made(service)

    def update_stack(self, **request):
        answer = self.cloudformation.update_stack(**request)
        self.running = self.accepted()
        return answer

    def store(self, *ids: str) -> None:
        for one in ids:
            self.s3.put_object(Bucket="the-raw-bucket", Key=f"B Event Data/{one}.json", Body=b"[1]")

    def quarantine(self, key: str, *records: dict) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        self.s3.put_object(Bucket="the-lake-bucket", Key=f"quarantine/{key}.ndjson", Body=lines.encode())

    def queue(self, name: str) -> str:
        return self.sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def received(self, name: str = "process") -> list[str]:
        """The keys that the messages of a queue announce, as process decodes them; the queue is then empty."""
        url, keys = self.queue(name), []
        while found := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                keys += [raw.key for raw in raw_objects(Message(message["MessageId"], message["Body"]))]
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return sorted(keys)

    def log(self, message: str) -> None:
        self.messages.append(message)

    def secret(self, stage: str = "AWSCURRENT") -> str | None:
        try:
            found = self.secrets.get_secret_value(SecretId="webhook", VersionStage=stage)
        except ClientError:
            return None
        return json.loads(found["SecretString"])["password"]

    def accepted(self) -> set[str | None]:
        """What any update would make ingest accept, as the custom resource computes it."""
        return {self.secret(label) for label in ACCEPTED_LABELS} - {None}


class Logs:
    """CloudWatch's filter, of which moto has no JSON patterns; its first pages are often empty."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages

    def get_paginator(self, operation: str) -> "Logs":
        assert operation == "filter_log_events"
        return self

    def paginate(self, logGroupName: str, filterPattern: str, startTime: int) -> list[dict]:  # noqa: N803
        assert logGroupName == "ingest"
        assert 0 <= datetime.now(UTC).timestamp() - startTime / 1000 - 15 * 60 < 60
        found = [message for message in self.messages if f'$.message = "{message}"' in filterPattern]
        return [{"events": []}, {"events": found}]


def parameters(aws: Aws) -> dict[str, str]:
    [stack] = aws.cloudformation.describe_stacks(StackName="bird-webhooks")["Stacks"]
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}


@pytest.fixture
def aws():
    with mock_aws():
        account = Aws()
        secret = '{"username":"bird","password":"the-first"}'
        account.secrets.create_secret(Name="webhook", SecretString=secret)
        account.client("glue").create_database(DatabaseInput={"Name": "bird"})
        table = {"Name": "events", "StorageDescriptor": {"Columns": [], "Location": "s3://the-lake-bucket/events/"}}
        account.client("glue").create_table(DatabaseName="bird", TableInput=table)
        account.cloudformation.create_stack(
            StackName="bird-webhooks",
            TemplateBody=json.dumps(TEMPLATE),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": parameter["Default"]}
                for name, parameter in TEMPLATE["Parameters"].items()
            ],
        )
        yield account


@pytest.fixture
def target(aws) -> Stack:
    return Stack("bird-webhooks", aws.client, 0)


@pytest.fixture
def run(aws, capsys, monkeypatch):
    """`run("status")`: exit status, standard output, standard error."""
    monkeypatch.setattr(operate, "deployed", lambda name, *others: Stack(name, aws.client, 0))

    def command(*arguments: str) -> tuple[int, str, str]:
        status = operate.main([*arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


# --- batches ---


class Answers:
    """What `Stack.athena` returns: these rows for any statement, or Athena's refusal of it."""

    def __init__(self, *rows: dict, refusal: str = "") -> None:
        self.rows, self.refusal, self.asked = rows, refusal, []

    def stream(self, sql: str):
        self.asked.append(sql)
        if self.refusal:
            raise QueryFailedError(self.refusal)
        return iter(self.rows)


def test_batches_with_rows_are_counted_by_hour_without_a_list(aws, run, monkeypatch):
    aws.store("one")  # not a row yet
    rows = [("2026-11-23 23:00:00.000", "1200", "31000"), ("2026-11-24 00:00:00.000", "3", "4")]
    athena = Answers(*(dict(zip(("slot", "batches", "found"), row, strict=True)) for row in rows))
    monkeypatch.setattr(Stack, "athena", lambda stack, seconds: athena)
    status, printed, _ = run("batches", "--since", "2026-11-23T23:00", "--until", "2026-11-24T02:00+01:00")
    assert (status, printed.splitlines()) == (
        0,
        [
            "2026-11-23 23:00       1,200 batches        31,000 rows",
            "2026-11-24 00:00           3 batches             4 rows",
            "1,203 batches with 31,004 rows; --list counts those without rows too",
        ],
    )
    [sql] = athena.asked
    between = (
        "received_at >= TIMESTAMP '2026-11-23 23:00:00.000000' AND received_at < TIMESTAMP '2026-11-24 01:00:00.000000'"
    )
    assert between in sql
    assert json.loads(run("batches", "--since", "2026-11-21", "--until", "2026-11-24", "--json")[1]) == {
        "counted": "with rows",
        "batches": 1203,
        "rows": 31004,
        "by_time": [
            {"time": "2026-11-23", "batches": 1200, "rows": 31000},
            {"time": "2026-11-24", "batches": 3, "rows": 4},
        ],
    }


def test_batches_that_athena_does_not_count_are_listed(aws, run, monkeypatch):
    monkeypatch.setattr(Stack, "athena", lambda stack, seconds: Answers(refusal="Athena: Bytes scanned limit"))
    refused = "bird-webhooks: Athena: Bytes scanned limit: --list counts the batches without Athena\n"
    assert run("batches") == (1, "", refused)


def test_batches_are_listed_by_hour(aws, run):
    aws.store("one", "two")
    status, printed, _ = run("batches", "--list", "--since", "1h")
    *_, counted, total = printed.splitlines()
    assert (status, counted.split()[2:4]) == (0, ["2", "batches"])
    assert total == "2 batches, 0.0 MB (2 objects listed by 1 requests, about $0.00001)"


def test_batches_outside_the_time_are_not_counted(aws, run):
    aws.store("one")
    assert run("batches", "--list", "--since", "2h", "--until", "1h")[1].startswith("0 batches, ")


def test_keys_are_listed_when_asked_for(aws, run):
    aws.store("one")
    assert run("batches", "--keys")[1].splitlines()[0].endswith("  3  B Event Data/one.json")


def test_many_batches_are_listed_side_by_side_and_each_once(aws, target, monkeypatch):
    monkeypatch.setattr(batches, "PAGE_KEYS", 5)
    ids = [f"{first}{number}" for first in "0129aefgzAF_-" for number in range(7)] + [*"0123456789abcdef", "~"]
    aws.store(*ids)
    listing = batches.Listing(target, NOW - timedelta(days=9999), NOW.replace(year=2999))
    found = [batch.key for batch in listing]
    assert sorted(found) == sorted(f"B Event Data/{one}.json" for one in ids)
    assert listing.requests > 17


@pytest.fixture
def before(aws, monkeypatch):
    """Where raw batches lay before, in another bucket; one is there."""
    aws.s3.create_bucket(Bucket="before", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.s3.put_object(Bucket="before", Key="raw/old-1.json", Body=b"[1]")
    monkeypatch.setattr(Stack, "former_raw_places", [RawPlace("before", "raw")])


def test_batches_where_they_lay_before_are_listed_and_replayed(aws, run, before):
    aws.store("one")
    assert run("batches", "--list", "--since", "1h")[1].endswith(
        "2 batches, 0.0 MB (2 objects listed by 2 requests, about $0.00001)\n"
    )
    named = ["B Event Data/one.json", "s3://before/raw/old-1.json"]
    listed = run("replay", "--since", "1h", "--dry-run")[1].splitlines()
    assert (sorted(listed[:-1]), listed[-1]) == (named, "2 batches would be replayed")
    assert run("replay", "--batch", "old-1")[0] == 0
    [message] = aws.sqs.receive_message(QueueUrl=aws.queue("process"))["Messages"]
    [raw] = raw_objects(Message("1", message["Body"]))
    assert (raw.bucket, raw.key) == ("before", "raw/old-1.json")


def test_a_batch_that_is_nowhere_names_all_places(aws, run, before):
    assert run("replay", "--batch", "gone")[2] == (
        "bird-webhooks: there is no raw batch B Event Data/gone.json, s3://before/raw/gone.json\n"
    )


# --- replay ---


def test_replay_by_time_announces_each_batch_as_s3_does(aws, run):
    aws.store(*[f"batch-{number}" for number in range(23)])
    assert run("replay", "--since", "1h")[:2] == (0, "23 batches replayed\n")
    assert aws.received() == sorted(f"B Event Data/batch-{number}.json" for number in range(23))


def test_dry_run_sends_nothing(aws, run):
    aws.store("one")
    assert run("replay", "--since", "1h", "--dry-run")[1] == "B Event Data/one.json\n1 batches would be replayed\n"
    assert aws.received() == []


def test_replay_by_id_finds_the_key_that_ingest_made(aws, run):
    hashed = "sha256-" + hashlib.sha256(b"../with space").hexdigest()
    aws.store("one", hashed)
    assert run("replay", "--batch", "one", "../with space")[0] == 0
    assert aws.received() == ["B Event Data/one.json", f"B Event Data/{hashed}.json"]


def test_replay_by_id_finds_what_other_programs_have_stored(aws, run):
    """Process takes the id of such a batch from its key: as Bird's guide names objects, or in a folder of its own."""
    for key in ("of-the-guide", "2026/11/one.json"):
        aws.s3.put_object(Bucket="the-raw-bucket", Key=f"B Event Data/{key}", Body=b"[]")
    assert run("replay", "--batch", "of-the-guide", "2026/11/one")[0] == 0
    assert sorted(aws.received()) == ["B Event Data/2026/11/one.json", "B Event Data/of-the-guide"]


@pytest.mark.parametrize("odd", ["", "x" * 2000, "\udcff", "folder/"])
def test_replay_of_an_id_that_is_no_key_sends_nothing(aws, run, odd):
    aws.s3.put_object(Bucket="the-raw-bucket", Key="B Event Data/folder/")
    status, _, said = run("replay", "--batch", odd)
    assert (status, said[:53]) == (1, "bird-webhooks: there is no raw batch B Event Data/sha")


def test_a_key_is_as_long_as_its_utf_8():
    """S3 answers a longer one by an error that is none of a missing object, and the command would end with it."""
    assert [replay.is_key("\u65e5" * count) for count in (300, 301)] == [True, False]


def test_replay_of_a_batch_that_is_not_there_sends_nothing(aws, run):
    aws.store("one")
    status, _, said = run("replay", "--batch", "one", "gone")
    assert (status, said) == (1, "bird-webhooks: there is no raw batch B Event Data/gone.json\n")
    assert aws.received() == []


def test_replay_of_the_quarantined_takes_each_batch_once(aws, run):
    now = datetime.now(UTC)
    record = {"reason": "not JSON", "batch_id": "one", "received_at": now.isoformat(), "index": 0, "original": "x"}
    one, two = {**record, "raw_key": "B Event Data/one.json"}, {**record, "raw_key": "B Event Data/two.json"}
    aws.quarantine(f"{now:%Y-%m-%d}/a", one, one, two)
    aws.quarantine("2020-01-01/b", {**one, "raw_key": "old", "received_at": "2020-01-01T00:00:00+00:00"})
    aws.store("one", "two")
    assert run("replay", "--quarantined")[:2] == (0, "2 batches replayed\n")
    assert aws.received() == ["B Event Data/one.json", "B Event Data/two.json"]


def test_replay_of_the_quarantined_finds_each_in_its_bucket_and_names_those_that_are_gone(aws, run, before):
    """Releases before 0.3.0 wrote no `raw_bucket`."""
    now = datetime.now(UTC)
    record = {"reason": "not JSON", "batch_id": "one", "received_at": now.isoformat(), "index": None, "original": "x"}
    here, there = {"raw_bucket": "the-raw-bucket"}, {"raw_bucket": "before"}
    aws.store("new", "old")
    aws.s3.put_object(Bucket="before", Key="raw/old-2.json", Body=b"[1]")
    aws.quarantine(
        f"{now:%Y-%m-%d}/a",
        {**record, "raw_key": "raw/old-1.json"},
        {**record, "raw_key": "raw/old-1.json", **there, "reason": "not UTF-8"},
        {**record, "raw_key": "raw/old-2.json", **there},
        {**record, "raw_key": "B Event Data/new.json", **here},
        {**record, "raw_key": "B Event Data/old.json"},
        {**record, "raw_key": "raw/gone.json"},
        {**record, "raw_key": "B Event Data/far.json", "raw_bucket": "forgotten"},
    )
    status, printed, said = run("replay", "--quarantined")
    assert (status, printed) == (1, "4 batches replayed\n")
    assert said.splitlines() == [
        "left out, deleted or expired: s3://before/raw/gone.json",
        "left out, neither under RawPrefix nor in FormerRawPlaces: s3://forgotten/B Event Data/far.json",
        "bird-webhooks: 2 batches cannot be read and were left out",
    ]
    found = aws.sqs.receive_message(QueueUrl=aws.queue("process"), MaxNumberOfMessages=10)["Messages"]
    assert {(raw.bucket, raw.key) for one in found for raw in raw_objects(Message("1", one["Body"]))} == {
        ("before", "raw/old-1.json"),
        ("before", "raw/old-2.json"),
        ("the-raw-bucket", "B Event Data/new.json"),
        ("the-raw-bucket", "B Event Data/old.json"),
    }
    assert "s3://before/raw/old-2.json  whole batch\n" in run("quarantine", "--details")[1]


def test_more_than_the_limit_is_refused_before_anything_is_sent(aws, run):
    aws.store("one", "two", "three")
    status, _, said = run("replay", "--since", "1h", "--limit", "2")
    assert (status, said) == (1, "bird-webhooks: more than 2 batches match: narrow the choice, or raise --limit\n")
    assert aws.received() == []


def test_many_need_a_yes(aws, run, monkeypatch):
    monkeypatch.setattr(replay, "ASK_ABOVE", 1)
    aws.store("one", "two")
    assert run("replay", "--since", "1h")[0] == 1
    assert aws.received() == []
    assert run("replay", "--since", "1h", "--yes")[0] == 0
    assert len(aws.received()) == 2


class MoodyQueue:
    """An SQS that refuses some of each batch a few times."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.taken = refusals, list[str]()

    def send_message_batch(self, QueueUrl: str, Entries: list[dict]) -> dict:  # noqa: N803
        refused = Entries[:3] if self.refusals else []
        self.refusals -= bool(refused)
        self.taken += [entry["MessageBody"] for entry in Entries[len(refused) :]]
        return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in refused]}


@pytest.mark.parametrize(("refusals", "taken"), [(0, 10), (4, 10), (99, 7)])
def test_entries_that_the_queue_refuses_are_sent_again(aws, monkeypatch, refusals, taken):
    monkeypatch.setattr(replay, "FIRST_WAIT_SECONDS", 0)
    queue = MoodyQueue(refusals)
    target = Stack("bird-webhooks", lambda service: queue if service == "sqs" else aws.client(service))
    refused = replay.send(target, [f"key-{number}" for number in range(10)], "the-raw-bucket", "the-queue")
    assert len(queue.taken) == len(set(queue.taken)) == taken
    assert refused == [f"key-{number}" for number in range(10 - taken)]


def test_replay_names_what_cannot_be_read_and_leaves_it_out(aws, run):
    aws.store("one")
    aws.s3.put_object(Bucket="the-raw-bucket", Key="B Event Data/old.json", Body=b"[1]", StorageClass="DEEP_ARCHIVE")
    status, printed, said = run("replay", "--batch", "one", "old")
    assert (status, printed) == (1, "1 batches replayed\n")
    assert "left out, archived, restore it first: B Event Data/old.json" in said
    assert "1 batches cannot be read and were left out" in said
    assert aws.received() == ["B Event Data/one.json"]


def test_replay_by_force_splits_what_is_beyond_the_limits(aws, run):
    """Every part is within the limits, all events are in them, and a second call stores nothing anew."""
    events = [{"msys": {"x": {"type": f"type-{number}", "event_id": str(number)}}} for number in range(250)]
    body = gzip.compress(json.dumps([*events, 7]).encode())
    aws.store("good")
    aws.s3.put_object(
        Bucket="the-raw-bucket",
        Key="B Event Data/big.json",
        Body=body,
        Metadata={"received-at": "2026-11-24T12:00:00Z"},
    )
    assert run("replay", "--batch", "big", "good", "--force")[:2] == (
        0,
        "B Event Data/big.json: 3 parts stored, 0 were there (B Event Data/big.part-0001.json and on)\n"
        "1 batches replayed\n",
    )
    assert aws.received() == ["B Event Data/good.json"]  # S3 announces the parts
    found = []
    for number in (1, 2, 3):
        part = aws.s3.get_object(Bucket="the-raw-bucket", Key=f"B Event Data/big.part-000{number}.json")
        assert part["Metadata"] == {"received-at": "2026-11-24T12:00:00Z", "batch-id": f"big.part-000{number}"}
        content = part["Body"].read()
        Rows().add(StoredBatch("part", "raw/part.json", 0, content))
        found += json.loads(content)
    assert found == [*events, 7]
    assert "0 parts stored, 3 were there" in run("replay", "--batch", "big", "--force")[1]
    assert aws.received() == [f"B Event Data/big.part-000{number}.json" for number in (1, 2, 3)]


# --- redrive ---


def dead_letter(aws: Aws, key: str) -> None:
    aws.sqs.send_message(QueueUrl=aws.queue("dead"), MessageBody=replay.message("the-raw-bucket", key))


def test_dry_run_of_redrive_shows_the_raw_keys_and_moves_nothing(aws, run, target):
    for number in range(12):
        dead_letter(aws, f"B Event Data/{number:02}.json")
    aws.sqs.send_message(QueueUrl=aws.queue("dead"), MessageBody="odd \x1b[31m")
    status, printed, _ = run("redrive", "--dry-run")
    lines = sorted(printed.splitlines())
    assert status == 0
    assert lines[0] == "(a message that is no notification of S3's)"
    assert lines[1:13] == [f"B Event Data/{number:02}.json" for number in range(12)]
    assert lines[13] == "about 13 dead letters; 13 raw batches shown, nothing moved"
    assert waiting(target) == 13


def waiting(target: Stack) -> int:
    queues = redrive.Queues(target.output("ProcessDeadLetterQueueUrl"), target.output("ProcessQueueUrl"))
    return redrive.waiting(target, queues)


class Moves:
    """Stands before moto's SQS, which knows no moves; `statuses` is how a move goes on, "" that it is not listed yet.

    As in SQS, a move that has ended has no handle, and the last ones of other days are listed too.
    """

    def __init__(self, sqs, *statuses: str) -> None:
        self.sqs, self.statuses, self.started = sqs, list(statuses), list[dict]()
        self.others = [{"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 99, "StartedTimestamp": 1}]

    def __getattr__(self, name: str):
        return getattr(self.sqs, name)

    def start_message_move_task(self, **request: str) -> dict:
        if not self.statuses:
            raise ClientError({"Error": {"Code": "UnsupportedOperation"}}, "StartMessageMoveTask")
        self.started.append(request)
        return {"TaskHandle": "handle"}

    def list_message_move_tasks(self, SourceArn: str, MaxResults: int) -> dict:  # noqa: N803
        status = self.statuses.pop(0) if self.started else ""
        if not status:
            return {"Results": self.others} if self.others else {}
        ours = {"Status": status, "ApproximateNumberOfMessagesMoved": 2, "StartedTimestamp": 2}
        more = {"TaskHandle": "handle"} if status == "RUNNING" else {"FailureReason": "because"}
        return {"Results": [{**ours, **more}, *self.others]}


@pytest.fixture
def moves(aws, run, monkeypatch):
    def use(*statuses: str) -> Moves:
        sqs = Moves(aws.sqs, *statuses)
        target = Stack("bird-webhooks", lambda service: sqs if service == "sqs" else aws.client(service), 0)
        monkeypatch.setattr(operate, "deployed", lambda *names: target)
        return sqs

    return use


def test_redrive_is_left_to_sqs(aws, run, moves):
    dead_letter(aws, "one")
    sqs = moves("RUNNING", "COMPLETED")
    assert run("redrive")[:2] == (0, "2 dead letters moved back to their queue\n")
    assert sqs.started == [
        {
            "SourceArn": "arn:aws:sqs:eu-west-1:123456789012:dead",
            "DestinationArn": "arn:aws:sqs:eu-west-1:123456789012:process",
        }
    ]


@pytest.mark.parametrize("others", [True, False], ids=["after another move", "the first move ever"])
def test_a_move_that_is_not_listed_yet_is_waited_for(aws, run, moves, others):
    dead_letter(aws, "one")
    sqs = moves("", "", "RUNNING", "COMPLETED")
    sqs.others = sqs.others if others else []
    assert run("redrive")[:2] == (0, "2 dead letters moved back to their queue\n")
    assert sqs.statuses == []


def test_a_move_that_is_never_listed_is_said(aws, run, moves, monkeypatch):
    dead_letter(aws, "one")
    monkeypatch.setattr(redrive, "LISTED_WITHIN_SECONDS", 0)
    moves("", "", "", "")
    assert run("redrive")[2] == (
        "bird-webhooks: SQS does not list the move that it has started: `status` shows what is left\n"
    )


def test_a_move_that_fails_is_said(aws, run, moves):
    dead_letter(aws, "one")
    moves("RUNNING", "FAILED")
    assert run("redrive")[2] == "bird-webhooks: SQS ended the move: FAILED because; 2 moved\n"


def test_without_moves_messages_go_one_by_one(aws, run, target, moves):
    for number in range(12):
        dead_letter(aws, f"{number:02}")
    moves()
    assert run("redrive")[:2] == (0, "12 dead letters moved back to their queue\n")
    assert aws.received() == [f"{number:02}" for number in range(12)]
    assert waiting(target) == 0


def test_dead_letters_of_postgresql_are_shown_with_their_reason_and_moved_to_its_queue(aws, run, moves):
    """load_postgres sends them itself: SQS does not know where they came from."""
    moves()
    key = "events/event_date=2026-11-24/a.parquet"
    aws.sqs.send_message(
        QueueUrl=aws.queue("postgres-dead"),
        MessageBody=replay.message("the-lake-bucket", key),
        MessageAttributes={"Reason": {"DataType": "String", "StringValue": "not readable\x85"}},
    )
    assert run("redrive", "--queue", "postgres", "--dry-run")[1] == (
        f"{key}  not readable?\nabout 1 dead letters; 1 files of rows shown, nothing moved\n"
    )
    assert run("redrive")[1] == "no dead letters\n"
    assert run("redrive", "--queue", "postgres")[:2] == (0, "1 dead letters moved back to their queue\n")
    assert aws.received("postgres") == [key]
    assert run("redrive", "--queue", "events")[2] == "bird-webhooks: stack bird-webhooks has no such queue: events\n"


def test_nothing_to_redrive(aws, run):
    assert run("redrive")[:2] == (0, "no dead letters\n")


# --- quarantine ---


@pytest.fixture
def quarantined(aws):
    now = datetime.now(UTC)
    record = {"batch_id": "one", "raw_key": "raw/one.json", "received_at": now.isoformat(), "index": 4}
    odd = {**record, "reason": "no event", "original": "secret \x1b[31m body"}
    whole = {**record, "reason": "not JSON", "raw_key": "raw/two.json", "index": None, "original_base64": "/w=="}
    aws.quarantine(f"{now:%Y-%m-%d}/a", odd, {**odd, "index": 5}, whole)
    return aws


def test_quarantine_counts_by_reason_and_keeps_bodies_to_itself(quarantined, run):
    status, printed, _ = run("quarantine")
    lines = printed.splitlines()
    assert (status, len(lines)) == (0, 3)
    assert lines[0].startswith("       2  no event  (1 batches, ")
    assert lines[1].startswith("       1  not JSON  (1 batches, ")
    assert lines[2] == "3 quarantined"
    assert "secret" not in run("quarantine", "--details")[1]


def test_quarantine_gives_details_and_bodies_when_asked(quarantined, run):
    details = run("quarantine", "--details")[1]
    assert "raw/one.json  element 4\n" in details
    assert "raw/two.json  whole batch\n" in details
    bodies = run("quarantine", "--bodies", "--limit", "1")[1]
    assert r'"secret \u001b[31m body"' in bodies
    assert "... and 1 more (--limit)" in bodies
    assert "\x1b" not in bodies


def test_a_replay_adds_nothing_to_the_quarantine_that_is_shown(quarantined, run):
    """Process groups the batches of a replay in another way, so that its files have other names."""
    before = run("quarantine", "--details")[1]
    now = datetime.now(UTC)
    for item in quarantined.s3.list_objects_v2(Bucket="the-lake-bucket", Prefix="quarantine/")["Contents"]:
        body = quarantined.s3.get_object(Bucket="the-lake-bucket", Key=item["Key"])["Body"].read()
        for number, line in enumerate(body.splitlines()):
            quarantined.quarantine(f"{now:%Y-%m-%d}/replayed-{number}", json.loads(line))
    assert run("quarantine", "--details")[1] == before
    assert "\nquarantined   3 today (UTC)" in run("status")[1]


def test_a_long_body_is_cut_unless_all_of_it_is_asked_for(aws, run):
    now = datetime.now(UTC)
    record = {"batch_id": "one", "raw_key": "raw/one.json", "received_at": now.isoformat(), "index": None}
    aws.quarantine(f"{now:%Y-%m-%d}/a", {**record, "reason": "not JSON", "original": "[" * 100_000})
    cut = run("quarantine", "--bodies")[1]
    assert len(cut) < 2_500
    assert cut.splitlines()[2].endswith("[[[ ... and 98,002 characters more (--full)")
    assert len(run("quarantine", "--bodies", "--json")[1]) < 2_600
    assert '"' + "[" * 100_000 + '"' in run("quarantine", "--bodies", "--full")[1]


def test_rows_that_postgresql_or_the_bus_refused_are_shown_and_not_replayed(aws, run):
    now = datetime.now(UTC)
    refused = {
        "reason": "PostgreSQL refused the row: X",
        "batch_id": "b",
        "lake_key": "events/event_date=2026-11-25/a.parquet",
        "received_at": now.isoformat(),
        "index": 3,
        "original": {"subject": "secret"},
    }
    aws.quarantine(f"postgres/{now:%Y-%m-%d}/a", refused, {**refused, "index": None})
    details = run("quarantine", "--details")[1]
    assert "events/event_date=2026-11-25/a.parquet  row 3" in details
    assert "secret" not in details
    assert "secret" in run("quarantine", "--bodies")[1]
    assert run("replay", "--quarantined")[1] == "0 batches replayed\n"


def test_quarantine_of_another_time_is_left_out(quarantined, run):
    assert run("quarantine", "--since", "2020-01-01", "--until", "2020-02-01")[1] == "0 quarantined\n"


# --- rotate ---


def test_a_rotation_from_start_to_finish(aws, run):
    status, printed, said = run("rotate", "start")
    new = aws.secret()
    assert (status, len(new)) == (0, 43)
    assert aws.accepted() == {"the-first", new}
    assert new not in printed + said
    assert "the-first" not in printed + said
    assert run("rotate", "status")[1].startswith("rotation: open, old and new credentials are accepted")
    assert run("rotate", "show")[1] == f"username: bird\npassword: {new}\n"
    aws.log("batch stored")
    assert run("rotate", "finish")[:2] == (0, "Only the current credentials are accepted.\n")
    assert aws.running == aws.accepted() == {new}
    assert [aws.secret(label) for label in ("AWSPREVIOUS", "AWSPENDING", "ALSO_ACCEPTED")] == [None] * 3
    assert parameters(aws) == {
        **{name: parameter["Default"] for name, parameter in TEMPLATE["Parameters"].items()},
        "CredentialsVersion": "3",
    }


def test_a_header_is_shown_by_its_name(aws, run):
    assert run("rotate", "start", "--show")[1].endswith(f"username: bird\npassword: {aws.secret()}\n")
    update(aws, WebhookAuth="HEADER")
    assert run("rotate", "show")[1] == f"x-webhook-token: {aws.secret()}\n"


def update(aws: Aws, **changes: str) -> None:
    changed = [{"ParameterKey": name, "ParameterValue": value} for name, value in (parameters(aws) | changes).items()]
    aws.cloudformation.update_stack(StackName="bird-webhooks", UsePreviousTemplate=True, Parameters=changed)


def test_a_second_rotation_waits_for_the_first(aws, run):
    run("rotate", "start")
    new = aws.secret()
    status, _, said = run("rotate", "start")
    assert (status, said) == (1, "bird-webhooks: a rotation is open: `rotate finish` or `rotate abort` first\n")
    assert aws.running == aws.accepted() == {new, "the-first"}


@pytest.mark.parametrize(
    ("logged", "reason"),
    [
        pytest.param(["batch stored", "previous credentials used"], "the old credentials were used", id="old used"),
        pytest.param([], "no batch came", id="nothing came"),
    ],
)
def test_finish_waits_until_bird_sends_the_new_credentials(aws, run, logged, reason):
    run("rotate", "start")
    for message in logged:
        aws.log(message)
    status, _, said = run("rotate", "finish")
    assert (status, said.startswith(f"bird-webhooks: {reason} within 15 minutes")) == (1, True)
    assert aws.accepted() == {"the-first", aws.secret()}
    status, _, said = run("rotate", "finish", "--force")  # without a yes
    assert (status, aws.accepted()) == (1, {"the-first", aws.secret()})
    assert said.startswith(reason)
    assert "answered 401" in said
    assert run("rotate", "finish", "--force", "--yes")[0] == 0
    assert aws.accepted() == {aws.secret()}


def test_abort_gives_bird_its_old_credentials_back(aws, run):
    run("rotate", "start")
    new = aws.secret()
    assert run("rotate", "abort")[0] == 1  # without a yes
    assert aws.accepted() == {"the-first", new}
    assert run("rotate", "abort", "--yes")[:2] == (
        0,
        "The new credentials were dropped; only the old ones are accepted.\n",
    )
    assert aws.accepted() == {"the-first"}
    assert aws.running == {"the-first"}
    assert [aws.secret(label) for label in ("AWSPREVIOUS", "AWSPENDING", "ALSO_ACCEPTED")] == [None] * 3
    assert run("rotate", "abort", "--yes")[2] == "bird-webhooks: no rotation is open: there is nothing to abort\n"


def test_credentials_once_dropped_never_come_back(aws, run):
    """A rotation by hand leaves the old version labelled; the next one must not let it in again."""
    aws.secrets.put_secret_value(SecretId="webhook", SecretString='{"username":"bird","password":"the-second"}')
    assert aws.secret("AWSPREVIOUS") == "the-first"
    run("rotate", "start")
    assert aws.running == aws.accepted() == {"the-second", aws.secret()}


def username(aws: Aws) -> str:
    return json.loads(aws.secrets.get_secret_value(SecretId="webhook", VersionStage="AWSCURRENT")["SecretString"])[
        "username"
    ]


def test_a_rotation_changes_the_user_name_with_old_and_new_accepted(aws, run):
    assert run("rotate", "start", "--username", "bird-2", "--show")[0] == 0
    assert username(aws) == "bird-2"
    assert aws.running == {"the-first", aws.secret()}
    assert run("rotate", "abort", "--yes")[0] == 0
    assert username(aws) == "bird"
    run("rotate", "start")
    assert username(aws) == "bird"  # it stays unless an option changes it


@pytest.mark.parametrize("name", ["", "two words", "a:b", "x" * 65])
def test_what_cannot_be_a_user_name_is_refused_before_anything_is_done(aws, run, name):
    assert run("rotate", "start", "--username", name)[::2] == (
        1,
        "bird-webhooks: --username takes 1 to 64 letters, digits, dots, hyphens and underscores\n",
    )
    assert aws.accepted() == {"the-first"}


def test_an_update_of_hundreds_of_resources_is_said_whole(aws, run, monkeypatch):
    """A page of CloudFormation's events has a hundred, newest first."""
    of_update = [
        {"EventId": f"new-{number}", "LogicalResourceId": f"R{number}", "ResourceStatus": "UPDATE_COMPLETE"}
        for number in range(250)
    ]
    before = [{"EventId": f"old-{number}"} for number in range(5)]
    looked: list[int] = []

    class Events:
        def paginate(self, StackName: str) -> Iterator[dict]:  # noqa: N803
            looked.append(len(looked))
            events = (of_update[:120] if len(looked) == 2 else of_update)[::-1] if len(looked) > 1 else []
            events = events + before
            for at in range(0, len(events), 100):
                yield {"StackEvents": events[at : at + 100]}

    changes = {"update_stack": aws.update_stack, "get_paginator": lambda _: Events()}
    guarded = Guarded(aws.cloudformation, changes)
    client = aws.client
    monkeypatch.setattr(aws, "client", lambda service: guarded if service == "cloudformation" else client(service))
    described = Stack.description

    def description(stack: Stack) -> dict[str, Any]:
        return described(stack) | {"StackStatus": "UPDATE_IN_PROGRESS" if len(looked) == 1 else "UPDATE_COMPLETE"}

    monkeypatch.setattr(Stack, "description", description)
    said = run("rotate", "start")[2].splitlines()
    assert [line for line in said if line.startswith("  R")] == [f"  R{n}: UPDATE_COMPLETE" for n in range(250)]


def test_a_header_carries_no_user_name(aws, run):
    update(aws, WebhookAuth="HEADER")
    said = run("rotate", "start", "--username", "bird-2")[2]
    assert said == "bird-webhooks: --username is for WebhookAuth BASIC: a header carries no user name\n"


def test_a_start_with_another_user_name_is_not_taken_up(aws, run):
    assert interrupt(aws, 3, lambda target: rotation.start(target, show=False, username="bird-2"))
    said = run("rotate", "start", "--username", "bird-3")[2]
    assert said.endswith("bird-webhooks: a start with another user name was interrupted: `rotate abort` first\n")
    assert run("rotate", "start")[0] == 0
    assert username(aws) == "bird-2"


def test_a_deployment_in_the_middle_of_a_rotation_does_not_end_it(aws, run):
    """An update that resets CredentialsVersion, as a samconfig.toml or SAR does, computes the digests again."""
    run("rotate", "start")
    aws.client("cloudformation").update_stack(
        StackName="bird-webhooks",
        UsePreviousTemplate=True,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": "1" if name == "CredentialsVersion" else value}
            for name, value in parameters(aws).items()
        ],
    )
    assert parameters(aws)["CredentialsVersion"] == "1"
    assert aws.running == {"the-first", aws.secret()}
    assert run("rotate", "status")[1].startswith("rotation: open")
    assert run("rotate", "finish", "--force", "--yes")[0] == 0
    assert aws.running == {aws.secret()}


def test_a_rotation_that_secrets_manager_made_itself_is_none_of_ours(aws, run):
    """Its usual function leaves AWSPENDING on the version that became the current one."""
    [current] = [
        version
        for version, labels in aws.secrets.describe_secret(SecretId="webhook")["VersionIdsToStages"].items()
        if "AWSCURRENT" in labels
    ]
    aws.secrets.update_secret_version_stage(SecretId="webhook", VersionStage="AWSPENDING", MoveToVersionId=current)
    assert run("rotate", "status")[1] == "rotation: none is open\n"
    assert run("rotate", "abort", "--yes")[0] == 1
    assert run("rotate", "start")[0] == 0
    assert aws.running == {"the-first", aws.secret()}
    assert aws.secret() != "the-first"


def test_a_stack_of_an_older_version_is_not_rotated(aws, run, monkeypatch):
    """Its function would leave out the credentials that Bird has, because it does not know the label."""
    older = parameters(aws) | {"AcceptPreviousCredentials": "false"}
    monkeypatch.setattr(Stack, "parameters", older)
    said = run("rotate", "start")[2]
    assert said == (
        "bird-webhooks: stack bird-webhooks was deployed by an older version of the template: "
        "deploy this version first\n"
    )
    assert aws.accepted() == {"the-first"}


class CleaningUp:
    """CloudFormation as AWS's: after each update it cleans up for a while, and refuses the next one until it is done.

    Source: `… is in UPDATE_COMPLETE_CLEANUP_IN_PROGRESS state and can not be updated` (serverless/serverless 7217).
    """

    def __init__(self, aws: Aws) -> None:
        self.aws, self.polls_left, self.updates = aws, 0, 0

    def client(self, service: str):
        real = self.aws.client(service)
        changes = {"update_stack": self.update_stack, "describe_stacks": self.describe_stacks}
        return Guarded(real, changes) if service == "cloudformation" else real

    def update_stack(self, **request):
        if self.polls_left:
            message = "Stack: … is in UPDATE_COMPLETE_CLEANUP_IN_PROGRESS state and can not be updated."
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "UpdateStack")
        self.polls_left, self.updates = 3, self.updates + 1
        return self.aws.client("cloudformation").update_stack(**request)

    def describe_stacks(self, **request):
        answer = self.aws.cloudformation.describe_stacks(**request)
        if self.polls_left:
            self.polls_left -= 1
            answer["Stacks"][0]["StackStatus"] = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        return answer


def test_each_update_waits_until_cloudformation_has_cleaned_up(aws):
    update(aws, BirdApiKeySecretArn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-abcdef")
    stack = CleaningUp(aws)
    target = Stack("bird-webhooks", stack.client, 0)
    rotation.start(target, show=False)
    assert stack.updates == 2
    rotation.abort(target, yes=True)
    assert stack.updates == 4
    assert aws.running == {"the-first"}
    stack.polls_left = 9
    with pytest.raises(OperateError, match="is UPDATE_COMPLETE_CLEANUP_IN_PROGRESS: wait until its update"):
        rotation.start(target, show=False)


class Interrupted(Exception):  # noqa: N818
    """What a closed laptop is to a command."""


STEPS = [("secretsmanager", "put_secret_value"), ("secretsmanager", "update_secret_version_stage")]
STEPS += [("cloudformation", "update_stack")]


class Fragile:
    """Clients of which the `last` change is never made."""

    def __init__(self, aws: Aws, last: int) -> None:
        self.aws, self.left = aws, last

    def client(self, service: str):
        real = self.aws.client(service)
        changes = {name: self.guarded(getattr(real, name)) for of, name in STEPS if of == service}
        return Guarded(real, changes)

    def guarded(self, change):
        def call(**request):
            self.left -= 1
            if self.left <= 0:
                raise Interrupted
            return change(**request)

        return call


class Guarded:
    def __init__(self, real, changes: dict) -> None:
        self.real, self.changes = real, changes

    def __getattr__(self, name: str):
        return self.changes.get(name) or getattr(self.real, name)


def interrupt(aws: Aws, last: int, step) -> bool:
    """Whether the step was cut short at its `last` change."""
    try:
        step(Stack("bird-webhooks", Fragile(aws, last).client, 0))
    except Interrupted:
        return True
    return False


@pytest.mark.parametrize("last", [3, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 2, 4, 5))])
def test_a_start_cut_short_anywhere_keeps_bird_in_and_is_taken_up_again(aws, run, last):
    assert interrupt(aws, last, lambda target: rotation.start(target, show=False))
    assert "the-first" in aws.accepted() & aws.running
    made = aws.secret("AWSPENDING")
    assert run("rotate", "start")[0] == 0
    assert made in (None, aws.secret())  # no second one was made
    assert aws.running == aws.accepted() == {"the-first", aws.secret()}


@pytest.mark.parametrize("last", [3, *(pytest.param(last, marks=pytest.mark.nightly) for last in (2, 4, 5))])
def test_a_start_cut_short_anywhere_can_be_aborted(aws, run, last):
    assert interrupt(aws, last, lambda target: rotation.start(target, show=False))
    assert "interrupted" in run("rotate", "status")[1]
    assert run("rotate", "abort", "--yes")[0] == 0
    assert aws.running == aws.accepted() == {"the-first"}
    assert run("rotate", "status")[1] == "rotation: none is open\n"
    assert run("rotate", "start")[0] == 0


@pytest.mark.parametrize("last", [3, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 2, 4, 5, 6))])
def test_an_abort_cut_short_anywhere_keeps_the_old_in_and_is_taken_up_again(aws, run, last):
    run("rotate", "start")
    assert interrupt(aws, last, lambda target: rotation.abort(target, yes=True))
    assert "the-first" in aws.accepted() & aws.running
    assert run("rotate", "status")[1] != "rotation: none is open\n"
    assert run("rotate", "abort", "--yes")[0] == 0
    assert aws.running == aws.accepted() == {"the-first"}
    assert run("rotate", "status")[1] == "rotation: none is open\n"


@pytest.mark.parametrize("last", [2, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 3, 4))])
def test_a_finish_cut_short_anywhere_keeps_the_new_in(aws, run, last):
    run("rotate", "start")
    new = aws.secret()
    quiet = timedelta(minutes=15)
    assert interrupt(aws, last, lambda target: rotation.finish(target, quiet=quiet, force=True, yes=True))
    assert new in aws.accepted() & aws.running
    assert run("rotate", "finish", "--force", "--yes")[0] == 0
    assert aws.running == aws.accepted() == {new}
    assert run("rotate", "status")[1] == "rotation: none is open\n"
    assert run("rotate", "start")[0] == 0
    assert aws.running == {new, aws.secret()}


@pytest.mark.parametrize("auth", ["OAUTH2", "NONE"])
def test_there_is_nothing_to_rotate_without_credentials_of_ours(aws, run, auth):
    update(aws, WebhookAuth=auth)
    assert run("rotate", "start")[2] == (
        f"bird-webhooks: WebhookAuth is {auth}: there are no credentials of ours to rotate\n"
    )


# --- rotate, where the stack registered its webhook at Bird ---


class Registered:
    """Clients of a stack whose updates give Bird the current credentials, the last thing they do."""

    def __init__(self, aws: Aws, client) -> None:
        self.aws, self.next = aws, client
        update(aws, BirdApiKeySecretArn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-abcdef")
        self.bird = aws.secret()
        self.had = [self.bird]

    def client(self, service: str):
        real = self.next(service)
        return Guarded(real, {"update_stack": self.updated(real)}) if service == "cloudformation" else real

    def updated(self, real):
        def update_stack(**request):
            answer = real.update_stack(**request)
            # Ingest has its digests before Bird its credentials.
            assert {self.bird, self.aws.secret()} <= self.aws.running
            if self.bird != self.aws.secret():
                self.bird = self.aws.secret()
                self.had.append(self.bird)
            return answer

        return update_stack

    @property
    def target(self) -> Stack:
        return Stack("bird-webhooks", self.client, 0)


def test_a_registered_bird_is_given_the_new_credentials_by_the_rotation(aws, capsys):
    stack = Registered(aws, aws.client)
    rotation.start(stack.target, show=False)
    new = aws.secret()
    assert stack.had == ["the-first", new]
    assert aws.accepted() == {"the-first", new}
    assert aws.secret("AWSPENDING") is None
    assert capsys.readouterr().out == (
        "Old and new credentials are accepted, and Bird has the new ones. Wait a little, then `rotate finish`.\n"
    )
    rotation.finish(stack.target, quiet=timedelta(minutes=15), force=True, yes=True)
    assert stack.bird == new
    assert aws.accepted() == {new}


def test_a_registered_bird_is_given_its_old_credentials_back_by_an_abort(aws):
    stack = Registered(aws, aws.client)
    rotation.start(stack.target, show=False)
    rotation.abort(stack.target, yes=True)
    assert (stack.bird, len(stack.had)) == ("the-first", 3)
    assert aws.accepted() == {"the-first"}


@pytest.mark.parametrize("last", [4, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 2, 3, 5, 6))])
@pytest.mark.parametrize("then", ["start", "abort"])
def test_a_start_cut_short_never_leaves_out_what_a_registered_bird_has(aws, last, then):
    stack = Registered(aws, Fragile(aws, last).client)
    with pytest.raises(Interrupted):
        rotation.start(stack.target, show=False)
    assert stack.bird in aws.accepted() & aws.running
    stack.next = aws.client
    if then == "start" or last == 1:  # nothing had been done yet
        rotation.start(stack.target, show=False)
    else:
        rotation.abort(stack.target, yes=True)
    assert stack.bird == aws.secret()
    assert stack.bird in aws.accepted()


@pytest.mark.parametrize("last", [4, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 2, 3, 5, 6, 7))])
def test_an_abort_cut_short_never_leaves_out_what_a_registered_bird_has(aws, last):
    stack = Registered(aws, aws.client)
    rotation.start(stack.target, show=False)
    stack.next = Fragile(aws, last).client
    with pytest.raises(Interrupted):
        rotation.abort(stack.target, yes=True)
    assert stack.bird in aws.accepted() & aws.running
    stack.next = aws.client
    rotation.abort(stack.target, yes=True)
    assert stack.bird == "the-first"
    assert aws.accepted() == {"the-first"}


# --- status, errors ---


def test_status_tells_all_in_one_screen(aws, run):
    aws.store("one")
    dead_letter(aws, "one")
    status, printed, _ = run("status")
    lines = printed.splitlines()
    assert status == 0
    assert lines[1:4] == [
        "front door    ALB https://webhooks.example.com/bird",
        "who may send  192.0.2.0/24",
        "credentials   BASIC; rotation: none is open",
    ]
    assert lines[4].startswith("last batch    stored 20")
    assert lines[5:10] == [
        "refused, 24 h 0",
        "queue         0 waiting, 0 being processed",
        "dead letters  1: see `redrive --dry-run`",
        "PostgreSQL    0 files waiting; 0 dead letters",
        "rows          0 days in PARQUET",
    ]
    assert [line.partition(" ")[0] for line in lines[10:14]] == ["table", "dates", "completeness", "maintenance"]
    assert lines[14] == "quarantined   0 today (UTC)"
    assert lines[15] == "alarms        0 of 0 in ALARM"
    assert lines[-1] == "health        CRITICAL: dead letters"
    assert len(lines) <= 24
    assert run("status", "--check")[0] == 2


def test_status_says_what_a_bucket_lacks_that_was_there_before(aws, run, monkeypatch, before):
    given = parameters(aws) | {"ExistingRawBucket": "the-raw-bucket"}
    monkeypatch.setattr(Stack, "parameters", given)
    assert of_status(run, "buckets") == (
        "raw the-raw-bucket was there before, its policy does not refuse plain HTTP; public access is not blocked; "
        "it keeps no versions, so a batch deleted by mistake is gone"
    )
    assert "\n              raw batches also in s3://before/raw/\n" in run("status")[1]
    assert run("status", "--check")[0] == 1
    # WHEN it has all that, but for a rule of the company's
    s3 = aws.s3
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}
    plain = {**denied, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    foreign = {**denied, "Sid": "OnlyFromOurNetwork", "Condition": {"StringNotEquals": {"aws:SourceVpc": "vpc-1"}}}
    s3.put_bucket_policy(Bucket="the-raw-bucket", Policy=json.dumps({"Statement": [plain, foreign]}))
    s3.put_bucket_versioning(Bucket="the-raw-bucket", VersioningConfiguration={"Status": "Enabled"})
    blocked = dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True)
    s3.put_public_access_block(Bucket="the-raw-bucket", PublicAccessBlockConfiguration=blocked)
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket="the-raw-bucket", LifecycleConfiguration={"Rules": [rule]})
    assert of_status(run, "buckets") == (
        "raw the-raw-bucket was there before, its policy denies by OnlyFromOurNetwork: the stack's roles need to be "
        "exempt; no lifecycle rule deletes old versions, which hold what was deleted; "
        "a lifecycle rule deletes batches after 30 days: give RawRetentionDays the same"
    )


ALL = {"Prefix": ""}
NO_RULE = "no lifecycle rule deletes batches after the 30 days of RawRetentionDays"


@pytest.mark.parametrize(
    ("rules", "days", "said"),
    [
        ([(ALL, {"Days": 30})], "30", []),
        ([({"Prefix": "B Event Data/"}, {"Days": 30})], "30", []),
        ([({"And": {"Prefix": "", "ObjectSizeGreaterThan": 0}}, {"Days": 30})], "30", [NO_RULE]),
        ([(ALL, {"ExpiredObjectDeleteMarker": True})], "0", []),
        ([(ALL, {"ExpiredObjectDeleteMarker": True})], "30", [NO_RULE]),
        ([({"Tag": {"Key": "tmp", "Value": "1"}}, {"Days": 1})], "30", [NO_RULE]),
        ([({"And": {"Prefix": "", "Tags": [{"Key": "tmp", "Value": "1"}]}}, {"Days": 1})], "0", []),
        ([(ALL, {"Date": datetime(2026, 1, 1, tzinfo=UTC)})], "0", ["a lifecycle rule deletes all batches at a date"]),
        ([(ALL, {"Date": datetime(2026, 1, 1, tzinfo=UTC)})], "30", ["a lifecycle rule deletes all batches at a date"]),
        ([(ALL, {"Days": 3})], "0", ["a lifecycle rule deletes batches after 3 days: give RawRetentionDays the same"]),
        (
            [({"Prefix": "B Event Data/import/"}, {"Days": 90})],
            "0",
            ["a lifecycle rule deletes batches under B Event Data/import/"],
        ),
        (
            [(ALL, {"Days": 40}), ({"Prefix": "B"}, {"Days": 3})],
            "365",
            ["a lifecycle rule deletes batches after 3 days, and RawRetentionDays is 365"],
        ),
    ],
)
def test_rules_of_an_existing_raw_bucket_are_compared_with_the_retention_of_the_stack(rules, days, said):
    old = {"Status": "Enabled", "Filter": ALL, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}
    given = [{"Status": "Enabled", "Filter": chosen, "Expiration": after} for chosen, after in rules]
    stack: Any = CompanyBucket([old, *given], {"RawRetentionDays": days})
    assert [one for one in existing_bucket.lacks(stack, "company", raw=True) if "delete" in one] == said


class CompanyBucket:
    """A stack over a bucket with these lifecycle rules; also the client of S3 that says so."""

    raw_prefix = "B Event Data"

    def __init__(self, rules: list[dict], parameters: dict[str, str]) -> None:
        self.s3, self.rules, self.given = self, rules, parameters

    @property
    def parameters(self):
        return self.given

    def get_bucket_lifecycle_configuration(self, **_):
        return {"Rules": self.rules}

    def get_bucket_versioning(self, **_):
        return {"Status": "Enabled"}

    def get_bucket_policy(self, **_):
        return {"Policy": "{}"}

    def get_public_access_block(self, **_):
        return {"PublicAccessBlockConfiguration": {}}


def test_status_says_what_would_stay_for_ever_in_an_existing_lake_bucket(aws, run, monkeypatch):
    given = {"ExistingLakeBucket": "the-lake-bucket", "QuarantineRetentionDays": "30"}
    monkeypatch.setattr(Stack, "parameters", parameters(aws) | given)
    said = "; no lifecycle rule deletes athena-results/, maintenance/work/, quarantine/"
    assert of_status(run, "buckets").endswith(said)
    rules = [
        {"ID": name, "Status": "Enabled", "Filter": {"Prefix": name}, "Expiration": {"Days": 7}}
        for name in ("athena-results/", "maintenance/work/", "quarantine/")
    ]
    aws.s3.put_bucket_lifecycle_configuration(Bucket="the-lake-bucket", LifecycleConfiguration={"Rules": rules})
    assert "lifecycle" not in of_status(run, "buckets")
    rules.append({"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 365}})
    aws.s3.put_bucket_lifecycle_configuration(Bucket="the-lake-bucket", LifecycleConfiguration={"Rules": rules})
    said = "; a lifecycle rule deletes events/, events-csv/, closed/, erased/, maintenance/, completeness/"
    assert of_status(run, "buckets").endswith(said)


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("events/event_date=", ["a lifecycle rule deletes events/event_date="]),
        ("maintenance/days/", ["a lifecycle rule deletes maintenance/days/"]),
        ("maintenance/unshown/", ["a lifecycle rule deletes maintenance/unshown/"]),
        ("clos", ["a lifecycle rule deletes closed/"]),
        ("maintenance/unshown/2", []),
        ("maintenance/put-back/", []),
        ("reports/", []),
    ],
)
def test_a_rule_that_deletes_a_part_of_what_has_to_stay_is_named(prefix, said):
    rules = [
        {"Status": "Enabled", "Filter": {"Prefix": name}, "Expiration": {"Days": 7}}
        for name in ("athena-results/", "maintenance/work/", prefix)
    ]
    stack: Any = CompanyBucket(rules, {})
    assert [one for one in existing_bucket.lacks(stack, "company", raw=False) if "delete" in one] == said


def test_status_names_batches_that_came_in_parts(aws, run):
    s3, place = aws.s3, {"Bucket": "the-raw-bucket", "Key": "B Event Data/copied.json"}
    aws.store("one")
    upload = s3.create_multipart_upload(**place)["UploadId"]
    part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"[1]")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    assert of_status(run, "last batch").endswith(
        "; 2 in all; 1 copied in parts, which S3 does not announce: `verify` says which have no rows"
    )


def test_status_says_how_many_months_wait_to_be_dropped(aws, run):
    for number, minutes_ago in ((3, 70), (2, 10)):
        counted(aws, "load-postgres", "months_left", number, minutes_ago)
    assert "\nPostgreSQL    0 files waiting; 0 dead letters; 2 months to drop\n" in run("status")[1]


def counted(aws: Aws, function: str, name: str, number: int, minutes_ago: float, **reason: str) -> None:
    dimensions = {"FunctionName": function, **reason}
    datum = {
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        "Timestamp": datetime.now(UTC) - timedelta(minutes=minutes_ago),
        "Value": number,
    }
    aws.client("cloudwatch").put_metric_data(Namespace="BirdWebhooks", MetricData=[datum])


def of_status(run, name: str) -> str:
    [line] = [line for line in run("status")[1].splitlines() if line.startswith(name)]
    return line.removeprefix(name).strip()


def test_status_says_what_was_refused_why_and_when_last(aws, run):
    assert run("status", "--check")[0] == 0
    assert of_status(run, "health") == "OK"
    counted(aws, "ingest", "requests_rejected", 12, 300, Reason="wrong credentials")
    assert re.fullmatch(r"12 wrong credentials, last \d\d:\d\d", of_status(run, "refused, 24 h"))
    assert run("status", "--check")[0] == 0  # it was hours ago
    counted(aws, "ingest", "requests_rejected", 60, 2, Reason="wrong credentials")
    counted(aws, "ingest", "requests_rejected", 1, 2, Reason="unreadable request")
    assert re.fullmatch(
        r"1 unreadable request, last \d\d:\d\d; 72 wrong credentials, last \d\d:\d\d", of_status(run, "refused, 24 h")
    )
    assert (run("status", "--check")[0], of_status(run, "health")) == (1, "WARNING: refused, 24 h")
    counted(aws, "ingest", "batches_not_stored", 3, 2)
    assert re.search(r"; 3 not stored \(503\), last \d\d:\d\d$", of_status(run, "refused, 24 h"))
    assert (run("status", "--check")[0], of_status(run, "health")) == (2, "CRITICAL: refused, 24 h")
    facts = json.loads(run("status", "--json")[1])
    assert facts["health"] == "CRITICAL"
    assert facts["refused_24_h"]["refused"]["wrong credentials"]["number"] == 72
    assert facts["refused_24_h"]["not_stored"]["number"] == 3


def test_status_tells_failed_messages_from_those_in_work(aws, run):
    """Both are hidden in the queue: only process itself says that some failed."""
    aws.sqs.send_message(QueueUrl=aws.queue("process"), MessageBody="a")
    aws.sqs.receive_message(QueueUrl=aws.queue("process"))
    assert of_status(run, "queue") == "0 waiting, 1 being processed"
    counted(aws, "process", "messages_failed", 1, 2)
    assert re.fullmatch(
        r"0 waiting, 1 failed and waiting for their next try, or being processed; "
        r"1 failures in 24 h, last \d\d:\d\d",
        of_status(run, "queue"),
    )
    assert run("status", "--check")[0] == 1


def test_status_is_shown_again_and_again_until_it_is_interrupted(aws, run, monkeypatch):
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt
        update(aws, WebhookAuth="HEADER")

    monkeypatch.setattr("bird_webhooks.operate.status.time.sleep", wait)
    status, printed, _ = run("status", "--watch", "5")
    assert (status, waits) == (130, [5, 5])
    assert re.findall(r"credentials   (\w+)", printed) == ["BASIC", "HEADER"]  # an update between is seen
    assert printed.count("health        OK") == 2
    assert "\x1b" not in printed  # the screen is cleared on a terminal only


def test_times_that_select_nothing_are_refused(aws, run, capsys):
    for arguments, words in [
        (["replay", "--since", "2h", "--until", "3h"], "--until is not after --since"),
        (["batches", "--since", "2999-01-01"], "--since is in the future"),
        (["quarantine", "--full"], "--full is for --bodies"),
        (["status", "--watch", "--json"], "--watch shows a screen again and again"),
    ]:
        with pytest.raises(SystemExit) as ended:
            operate.main(arguments)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_status_counts_the_days_that_are_in_another_format(aws, run):
    def rows(prefix: str, day: int, name: str) -> None:
        aws.s3.put_object(Bucket="the-lake-bucket", Key=f"{prefix}/event_date=2026-11-{day:02}/{name}", Body=b"1")

    for day in (1, 2):
        rows("events", day, "a.parquet")
        rows("events", day, "b.parquet")
    assert "\nrows          2 days in PARQUET\n" in run("status")[1]
    for day in (2, 3, 4):
        rows("events-csv", day, "a.csv")
    [line] = [line for line in run("status")[1].splitlines() if line.startswith("rows")]
    assert line.startswith("rows          2 days in PARQUET; 3 in CSV, 2 of them only there: ")
    assert "replay" in line


class Forbidden:
    def __getattr__(self, name: str):
        def refuse(**request):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "a long story"}}, "GetQueueAttributes")

        return refuse


def test_what_may_not_be_read_costs_status_one_line(aws, run, monkeypatch):
    target = Stack("bird-webhooks", lambda service: Forbidden() if service == "sqs" else aws.client(service))
    monkeypatch.setattr(operate, "deployed", lambda *names: target)
    status, printed, _ = run("status")
    assert status == 0
    assert "queue         not known: GetQueueAttributes says AccessDenied\n" in printed
    assert "front door    ALB https://" in printed


def test_status_asks_cloudformation_for_the_stack_once(aws, run, monkeypatch):
    asked: list[str] = []
    describe = Stack.description
    monkeypatch.setattr(Stack, "description", lambda stack: asked.append(stack.name) or describe(stack))
    assert run("status")[0] == 0
    assert asked == ["bird-webhooks"]


def test_no_stack_no_permission_no_credentials_are_one_line_each(aws, run, monkeypatch):
    assert run("--stack-name", "other", "status") == (
        1,
        "",
        "bird-webhooks: there is no stack other in this region and account\n",
    )
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("bird-webhooks", lambda service: Forbidden()))
    assert run("status")[2] == (
        "bird-webhooks: not allowed: GetQueueAttributes (docs/operating.md lists the permissions)\n"
    )

    def nobody(*names: str) -> Stack:
        raise NoCredentialsError

    monkeypatch.setattr(operate, "deployed", nobody)
    assert run("status")[2] == "bird-webhooks: no AWS credentials found: set AWS_PROFILE or give --profile\n"


def test_the_local_stack_has_to_run(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run("--local", "status")[2] == (
        "bird-webhooks: the local AWS is not running: `make local` starts it, in a clone of the repository\n"
    )


def test_answers_for_programs(aws, run, quarantined):
    """With --json the standard output is one document, and what is for eyes is beside it."""

    def answer(*arguments: str):
        status, printed, said = run(*arguments, "--json")
        assert status == 0, said
        return json.loads(printed)

    aws.store("one", "two")
    now = datetime.now(UTC)
    status = answer("status")
    assert (status["stack"]["name"], status["stack"]["status"]) == ("bird-webhooks", "CREATE_COMPLETE")
    assert status["credentials"] == {"auth": "BASIC", "rotation": "none is open", "also_accepted": False}
    assert (status["dead_letters"], status["quarantined"], status["last_batch"]["batches"]) == (0, {"today": 3}, 2)
    assert status["rows"] == {"format": "PARQUET", "days": {"PARQUET": 0, "CSV": 0}}
    counted = answer("batches", "--list", "--since", "1d")
    assert (counted["batches"], counted["bytes"], counted["list_requests"]) == (2, 6, 1)
    assert sum(one["batches"] for one in counted["by_time"]) == 2
    [first, _] = answer("batches", "--keys")["found"]
    assert (first["key"], first["bytes"]) == ("B Event Data/one.json", 3)
    assert abs(datetime.fromisoformat(first["stored_at"]) - now) < timedelta(minutes=5)
    keys = ["B Event Data/one.json", "B Event Data/two.json"]
    assert answer("replay", "--batch", "one", "two", "--dry-run") == {"would_replay": keys, "left_out": {}}
    assert answer("replay", "--batch", "one") == {"replayed": 1, "not_replayed": [], "left_out": {}}
    aws.sqs.send_message(QueueUrl=aws.queue("dead"), MessageBody=replay.message("the-raw-bucket", keys[0]))
    assert answer("redrive", "--dry-run") == {
        "dead_letters": 1,
        "raw_batches": [{"key": keys[0], "reason": ""}],
    }
    reasons = answer("quarantine")["reasons"]
    assert [(one["reason"], one["count"], one["records"]) for one in reasons] == [
        ("no event", 2, []),
        ("not JSON", 1, []),
    ]
    details = answer("quarantine", "--details", "--limit", "1")
    assert (details["quarantined"], len(details["reasons"][0]["records"])) == (3, 1)
    assert "secret" not in json.dumps(details)
    assert "secret" in json.dumps(answer("quarantine", "--bodies"))
    assert answer("rotate", "status") == {"open": False, "state": "none is open"}
    assert answer("rotate", "show") == {"username": "bird", "password": "the-first"}


def test_the_local_stack_is_found_from_any_folder_of_the_clone(aws, run, monkeypatch, tmp_path):
    outputs = {"StackName": "bird-webhooks", "WebhookUrl": "http://127.0.0.1/bird", "region": "eu-west-1"}
    outputs |= {"endpoint_url": "http://127.0.0.1:9", "ca_bundle": "", "access_key_id": "x", "secret_access_key": "y"}
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/outputs.json").write_text(json.dumps(outputs))
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert run("status", "--local")[2] == "bird-webhooks: the local AWS does not answer: `make local` starts it\n"


# --- accept ---

OLD = "example-password-of-the-old"
ALSO_ACCEPTED = "also accepted: the credentials of another webhook, until `accept end`"


def other(aws: Aws) -> dict | None:
    """What the secret holds for another webhook."""
    try:
        found = aws.secrets.get_secret_value(SecretId="webhook", VersionStage=OTHER_LABEL)
    except ClientError:
        return None
    return json.loads(found["SecretString"])


@pytest.fixture
def old_password(monkeypatch):
    monkeypatch.setenv("BIRD_SECRET", OLD)


def test_another_webhooks_credentials_from_start_to_end(aws, run, old_password):
    status, printed, said = run("accept", "start", "--username", "old")
    assert (status, printed) == (0, "Accepted beside the stack's own, until `accept end`: user name old.\n")
    assert OLD not in printed + said
    assert other(aws) == {"username": "old", "password": OLD}
    assert (aws.secret(), aws.accepted()) == ("the-first", {"the-first"})
    assert parameters(aws)["CredentialsVersion"] == "2"
    assert run("accept", "status")[1] == f"{ALSO_ACCEPTED}\n"
    assert f"\ncredentials   BASIC; rotation: none is open; {ALSO_ACCEPTED}\n" in run("status")[1]
    # a rotation is another thing
    assert run("rotate", "start")[0] == 0
    assert run("rotate", "finish", "--force", "--yes")[0] == 0
    assert other(aws) == {"username": "old", "password": OLD}
    aws.log("batch stored")
    assert run("accept", "end")[:2] == (0, "Only the stack's own credentials are accepted.\n")
    assert other(aws) is None
    assert json.loads(run("accept", "status", "--json")[1]) == {"also_accepted": False}
    assert run("accept", "end")[2] == "bird-webhooks: no credentials of another webhook are accepted\n"


def test_the_password_may_come_from_another_stacks_secret_or_standard_input(aws, run, monkeypatch):
    content = json.dumps({"username": "bird", "password": OLD})
    arn = aws.secrets.create_secret(Name="old-stack", SecretString=content)["ARN"]
    assert run("accept", "start", "--secret", arn)[0] == 0
    assert other(aws) == {"username": "bird", "password": OLD}
    assert run("accept", "end", "--force", "--yes")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("the token\n"))
    assert run("accept", "start", "--header", "X-MessageSystems-Webhook-Token")[1] == (
        "Accepted beside the stack's own, until `accept end`: header X-MessageSystems-Webhook-Token.\n"
    )
    assert other(aws) == {"header": "X-MessageSystems-Webhook-Token", "value": "the token"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(OLD, "--secret: it holds no JSON object with the member password", id="plain"),
        pytest.param('{"password": 7}', "--secret: it holds no JSON object with the member password", id="number"),
        pytest.param(json.dumps({"username": 7, "password": OLD}), "--username takes a user name", id="odd name"),
    ],
)
def test_a_secret_in_another_form_is_refused_in_words(aws, run, content, reason):
    arn = aws.secrets.create_secret(Name="old-stack", SecretString=content)["ARN"]
    status, _, said = run("accept", "start", "--secret", arn)
    assert (status, said.startswith(f"bird-webhooks: {reason}"), OLD in said) == (1, True, False)
    assert other(aws) is None


@pytest.mark.parametrize(
    ("logged", "reason"),
    [
        pytest.param(["batch stored", USED], "they were used within 15 minutes, so Bird still sends them", id="used"),
        pytest.param([], "no batch came within 15 minutes", id="nothing came"),
    ],
)
def test_end_waits_until_bird_sends_the_stacks_own(aws, run, old_password, logged, reason):
    run("accept", "start", "--username", "old")
    for message in logged:
        aws.log(message)
    status, _, said = run("accept", "end")
    assert (status, said.startswith(f"bird-webhooks: {reason}")) == (1, True)
    assert run("accept", "end", "--force")[0] == 1  # without a yes
    assert other(aws) == {"username": "old", "password": OLD}
    assert run("accept", "end", "--force", "--yes")[0] == 0
    assert other(aws) is None


REFUSED = [
    pytest.param(["--username", "a:b"], OLD, "--username takes a user name without a colon, up to", id="colon"),
    pytest.param([], OLD, "--username takes a user name without a colon, up to", id="neither"),
    pytest.param(["--username", "old"], "", "an empty password would let any sender in", id="empty"),
    pytest.param(["--header", "x y"], OLD, "--header takes the name of a header, such as", id="space"),
    pytest.param(["--header", "Authorization"], OLD, "--header takes the name of a header, such as", id="Basic"),
]


@pytest.mark.parametrize(("options", "password", "reason"), REFUSED)
def test_what_cannot_be_a_credential_is_refused(aws, run, monkeypatch, options, password, reason):
    monkeypatch.setenv("BIRD_SECRET", password)
    status, _, said = run("accept", "start", *options)
    assert (status, said.startswith(f"bird-webhooks: {reason}"), other(aws)) == (1, True, None)


def test_one_other_webhook_at_a_time(aws, run, old_password, monkeypatch):
    run("accept", "start", "--username", "old")
    assert run("accept", "start", "--username", "older")[2] == (
        "bird-webhooks: the credentials of another webhook are accepted already: `accept end` first\n"
    )
    assert other(aws) == {"username": "old", "password": OLD}
    assert run("accept", "start", "--username", "old")[0] == 0  # again, after an interruption


@pytest.mark.parametrize("last", [2, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 3, 4))])
def test_an_end_cut_short_anywhere_is_taken_up_again(aws, run, old_password, last):
    run("accept", "start", "--username", "old")
    quiet = timedelta(minutes=15)
    assert interrupt(aws, last, lambda target: accepting.end(target, quiet=quiet, force=True, yes=True))
    assert (other(aws) is None) == (last > 2)
    interrupted = "an `accept end` was interrupted: give it again"
    assert run("accept", "status")[1] == f"{ALSO_ACCEPTED if last == 1 else interrupted}\n"
    if last > 1:
        assert run("accept", "start", "--username", "old")[2] == f"bird-webhooks: {interrupted}\n"
    assert run("accept", "end", "--force", "--yes")[0] == 0
    assert other(aws) is None
    assert run("accept", "start", "--username", "older")[0] == 0


@pytest.mark.parametrize(
    ("auth", "reason"),
    [("NONE", "every sender is accepted already"), ("OAUTH2", "the load balancer refuses a request without a token")],
)
def test_without_credentials_of_the_stacks_own_there_is_nothing_to_accept(aws, run, old_password, auth, reason):
    update(aws, WebhookAuth=auth)
    assert run("accept", "start", "--username", "old")[2].startswith(f"bird-webhooks: WebhookAuth is {auth}: {reason}")


def test_a_stack_of_an_older_version_accepts_no_other(aws, run, old_password, monkeypatch):
    older = {name: value for name, value in parameters(aws).items() if name != "AdoptBirdWebhook"}
    monkeypatch.setattr(Stack, "parameters", older)
    assert run("accept", "start", "--username", "old")[2].endswith("deploy this version first\n")
    assert other(aws) is None


def test_program_and_function_mean_the_same_label():
    assert accepting.OTHER_LABEL == OTHER_LABEL
