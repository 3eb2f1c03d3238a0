"""Damaged files of rows are found, and their rows come back from the raw batches before such a file goes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from arro3.io import read_parquet

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import check_lake, close, replay
from bird_webhooks.stack import Stack
from maintain.generate.events import created, sqs
from process import app, day_state, maintenance
from process.lake_files import LakeFiles
from process.lease import LEASE
from process.maintenance import Run, Settings
from tests.integration.moto_server import client
from tests.integration.test_maintenance import table_input

RAW, LAKE, DATABASE = "raw-bucket", "lake-bucket", "bird_check"
TODAY = datetime.now(UTC).date()
DAY = TODAY - timedelta(days=2)
OTHER_DAY = TODAY - timedelta(days=1)


class Account:
    """A stack in moto; `replayed` are the keys that process got again, at once if `process_works`."""

    def __init__(self, s3: Any, endpoint: str) -> None:
        self.s3 = s3
        self.glue = client("glue", endpoint)
        self.parameters = {"OutputFormat": "PARQUET", "RawPrefix": "raw", "RawRetentionDays": "0"}
        self.outputs = {"RawBucketName": RAW, "LakeBucketName": LAKE, "GlueDatabaseName": DATABASE}
        self.outputs |= {"TableMaintenanceFunctionArn": "maintenance", "ProcessQueueUrl": "process"}
        self.replayed: list[str] = []
        self.process_works = True

    def client(self, service: str, region: str | None = None) -> Any:
        return {"s3": self.s3, "glue": self.glue, "lambda": self}[service]

    def store(self, name: str, *events: tuple[str, date]) -> None:
        noon = {day: int(datetime.combine(day, datetime.min.time(), UTC).timestamp()) + 43_200 for _, day in events}
        elements = [
            {"msys": {"message_event": {"type": "bounce", "event_id": key, "timestamp": str(noon[day])}}}
            for key, day in events
        ]
        metadata = {"received-at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        body = json.dumps(elements).encode()
        self.s3.put_object(Bucket=RAW, Key=f"raw/{name}.json", Body=body, Metadata=metadata)

    def process(self, *names: str) -> None:
        messages = ({"Records": [created(f"raw/{name}.json")]} for name in names)
        assert app.lambda_handler(sqs(*messages), None) == {"batchItemFailures": []}

    def send_all(self, stack: Stack, keys: list[str]) -> list[str]:
        self.replayed += keys
        for key in keys if self.process_works else ():  # one by one, so that files get other names
            self.process(key.removeprefix("raw/").removesuffix(".json"))
        return []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        asked = [date.fromisoformat(day) for day in json.loads(Payload)["close"]]
        return {"Payload": BytesIO(json.dumps(self.close(*asked)).encode())}

    def close(self, *days: date) -> dict[str, Any]:
        settings = Settings(DATABASE, csv=False, close_days=True, close_after=timedelta(0), topic="")
        run = Run(LakeFiles(LAKE, True), settings, 1e12)
        return {**run.work(days), "failed": len(run.reasons)}

    def state(self, day: date = DAY) -> day_state.DayState:
        return LakeFiles(LAKE, True).state(day).value

    def keys(self, prefix: str) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=LAKE, Prefix=prefix).get("Contents", [])]

    def location(self, day: date = DAY) -> str:
        found = self.glue.get_partition(DatabaseName=DATABASE, TableName="events", PartitionValues=[str(day)])
        return str(found["Partition"]["StorageDescriptor"]["Location"]).removeprefix(f"s3://{LAKE}/")

    def seen(self, day: date = DAY) -> list[str]:
        """The events that a query of the date finds. Errors: where a file cannot be read."""
        found: set[str] = set()
        for key in self.keys(self.location(day)):
            body = self.s3.get_object(Bucket=LAKE, Key=key)["Body"].read()
            assert body[:4] == body[-4:] == b"PAR1", f"HIVE_BAD_DATA: {key}"
            found |= {*read_parquet(BytesIO(body)).read_all()["event_id"].to_pylist()}
        return sorted(found)

    def damage(self, key: str, body: bytes = b"not a Parquet file") -> None:
        self.s3.put_object(Bucket=LAKE, Key=key, Body=body)


@pytest.fixture
def aws(s3, moto_endpoint, monkeypatch) -> Iterator[Account]:
    monkeypatch.setenv("GLUE_DATABASE", DATABASE)
    for name in ("BACK", "AHEAD"):  # the local Glue takes long for a hundred partitions of a hundred columns
        monkeypatch.setattr(maintenance, name, timedelta(days=2))
    account = Account(s3, moto_endpoint)
    monkeypatch.setattr(Stack, "outputs", account.outputs)
    monkeypatch.setattr(Stack, "parameters", property(lambda stack: account.parameters))
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("bird-webhooks", account.client, 0))
    monkeypatch.setattr(replay, "send_all", account.send_all)
    monkeypatch.setattr(close, "LOOKS_EVERY_SECONDS", 60)
    account.glue.create_database(DatabaseInput={"Name": DATABASE})
    account.glue.create_table(DatabaseName=DATABASE, TableInput=table_input(109))
    account.store("one", ("1", DAY), ("2", OTHER_DAY))
    account.store("two", ("3", DAY))
    account.store("three", ("4", DAY), ("5", DAY))
    account.store("of another date", ("6", OTHER_DAY))
    account.process("one", "two")
    [account.first] = account.keys(f"events/event_date={DAY}/")
    account.process("three", "of another date")
    account.close()  # registers the dates, and closes those that have ended
    yield account
    account.glue.delete_database(Name=DATABASE)


@pytest.fixture
def run(aws, capsys) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str) -> tuple[int, str, str]:
        status = operate.main(["check-lake", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def still_open(aws, monkeypatch) -> None:
    """The dates are open, as they are until hours after their end."""
    for prefix in ("maintenance/days/", "closed/"):
        for key in aws.keys(prefix):
            aws.s3.delete_object(Bucket=LAKE, Key=key)
    for day in (DAY, OTHER_DAY):
        partition = {"Values": [str(day)], "StorageDescriptor": {"Location": f"s3://{LAKE}/events/event_date={day}/"}}
        aws.glue.update_partition(
            DatabaseName=DATABASE, TableName="events", PartitionValueList=[str(day)], PartitionInput=partition
        )


def test_whole_files_are_no_finding(aws, run):
    assert run()[:2] == (0, "2 files of 2 dates checked, 0 damaged, 0 repaired\n")
    assert run("--repair", "--since", str(OTHER_DAY))[1] == "1 files of 1 dates checked, 0 damaged, 0 repaired\n"
    assert aws.replayed == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: b"", "is too small to be Parquet"),
        pytest.param(lambda body: b"PAR1PAR1", "is too small to be Parquet", marks=pytest.mark.nightly),
        (lambda body: body[:-1], "lacks the magic bytes of Parquet"),
        pytest.param(lambda body: b"X" + body[1:], "lacks the magic bytes of Parquet", marks=pytest.mark.nightly),
        (lambda body: body[:-8] + b"\xff\xff\xff\x7fPAR1", "ends with a footer that is longer than the file"),
        (lambda body: body[:-4000] + bytes(3992) + body[-8:], "has a footer that cannot be read"),
    ],
)
def test_damaged_files_are_named_with_their_reason(aws, run, still_open, monkeypatch, change, reason):
    monkeypatch.setattr(check_lake, "TAIL_BYTES", 1_000)  # less than the footer: a large file's may be longer, too
    aws.damage(aws.first, change(aws.s3.get_object(Bucket=LAKE, Key=aws.first)["Body"].read()))
    status, out, err = run()
    assert (status, out.splitlines()[0]) == (1, f"s3://lake-bucket/{aws.first}  {reason}")
    assert err == "bird-webhooks: 1 files are damaged: --repair rebuilds their rows and removes them\n"
    status, out, _ = run("--json")
    [found] = json.loads(out)["damaged"]
    assert (status, found["key"], found["reason"], found["repaired"]) == (1, aws.first, reason, False)
    assert aws.replayed == []


def test_only_batches_whose_rows_are_missing_are_replayed_and_then_the_file_goes(aws, run, still_open):
    aws.damage(aws.first)
    with pytest.raises(AssertionError, match="HIVE_BAD_DATA"):
        aws.seen()
    status, out, err = run("--repair", "--yes")
    assert (status, out.splitlines()[-1]) == (0, "4 files of 2 dates checked, 1 damaged, 1 repaired")
    assert f"removed: {aws.first}" in err
    assert sorted(aws.replayed) == ["raw/one.json", "raw/two.json"]
    assert aws.seen() == ["1", "3", "4", "5"]
    assert aws.seen(OTHER_DAY) == ["2", "6"]
    assert run()[0] == 0


@pytest.mark.nightly
def test_a_file_stays_as_long_as_one_of_its_rows_is_missing(aws, run, still_open, monkeypatch):
    aws.damage(aws.first)
    aws.process_works = False
    monkeypatch.setattr(check_lake, "WAIT_SECONDS", 0)
    status, _, err = run("--repair", "--yes")
    assert status == 1
    assert "2 of 2 events have no row yet, so the damaged files stay" in err
    assert aws.first in aws.keys("events/")
    aws.process_works = True
    assert run("--repair", "--yes")[0] == 0
    assert aws.seen() == ["1", "3", "4", "5"]


def test_nothing_is_done_without_a_yes(aws, run, still_open):
    aws.damage(aws.first)
    status, _, err = run("--repair")
    assert status == 1
    assert f"Replay 2 batches, and remove 1 files of {DAY}? Give --yes" in err
    assert (aws.replayed, aws.first in aws.keys("events/")) == ([], True)


def test_a_closed_file_gives_way_to_a_version_without_it(aws, run):
    before = aws.location()
    aws.damage(f"{before}0000-00.parquet")
    status, out, _ = run("--repair", "--yes")
    assert (status, out.splitlines()[-1]) == (0, "2 files of 2 dates checked, 1 damaged, 1 repaired")
    assert sorted(aws.replayed) == ["raw/one.json", "raw/three.json", "raw/two.json"]
    assert aws.location() != before
    assert aws.seen() == ["1", "3", "4", "5"]
    state = aws.state()
    assert (state.rows, state.files_gone, state.attempt) == (4, 0, None)
    assert run()[0] == 0
    lease = json.loads(aws.s3.get_object(Bucket=LAKE, Key=LEASE)["Body"].read())
    assert lease["owner"].startswith("check-lake ")


@pytest.mark.nightly
def test_a_closed_file_that_is_gone_comes_back(aws, run):
    aws.s3.delete_object(Bucket=LAKE, Key=f"{aws.location()}0000-00.parquet")
    assert run()[1].splitlines()[0].endswith("0000-00.parquet  is gone")
    assert run("--repair", "--yes")[0] == 0
    assert (aws.seen(), aws.state().files_gone) == (["1", "3", "4", "5"], 0)


@pytest.mark.nightly
def test_a_late_file_that_stops_the_next_version_gives_way(aws, run):
    before = aws.keys("events/")
    aws.store("late", ("7", DAY))
    aws.store("later", ("8", DAY))
    aws.process("late", "later")
    [late] = {*aws.keys("events/")} - {*before}
    aws.damage(late)
    assert aws.close(DAY)["failed"] == 1  # and so each hour, by an attempt that names the file
    aws.store("whole", ("8", DAY))
    aws.process("whole")
    status, _, err = run("--repair", "--yes")
    assert (status, late in aws.keys("events/"), f"removed: {late}" in err) == (0, False, True)
    assert aws.replayed == ["raw/late.json"]
    assert (aws.seen(), aws.state().files_gone) == (["1", "3", "4", "5", "7", "8"], 0)


@pytest.mark.nightly
def test_a_file_that_the_replay_wrote_again_stays(aws, run, still_open):
    aws.store("alone", ("9", DAY))
    before = aws.keys("events/")
    aws.process("alone")
    [alone] = {*aws.keys("events/")} - {*before}
    aws.damage(alone)
    status, _, err = run("--repair", "--yes")
    assert (status, f"stays, because it was written again: {alone}" in err) == (0, True)
    assert aws.replayed == ["raw/alone.json"]
    assert aws.seen() == ["1", "3", "4", "5", "9"]


@pytest.mark.nightly
def test_what_raw_no_longer_has_is_said(aws, run, still_open):
    aws.damage(aws.first)
    aws.parameters["RawRetentionDays"] = "2"
    assert "its raw batches are expiring (RawRetentionDays)" in run("--repair", "--yes")[2]
    aws.parameters["RawRetentionDays"] = "0"
    assert "more than 2 raw batches may have its events: raise --limit" in run("--repair", "--limit", "2")[2]
    for item in aws.s3.list_objects_v2(Bucket=RAW)["Contents"]:
        aws.s3.delete_object(Bucket=RAW, Key=item["Key"])
    assert "no raw batch has an event of this date any more" in run("--repair", "--yes")[2]
    assert aws.first in aws.keys("events/")


@pytest.mark.nightly
def test_without_raw_a_version_is_made_of_the_small_files_that_are_still_there(aws, run):
    """By the runbook: what is known of the date is removed, and the date closed."""
    aws.damage(f"{aws.location()}0000-00.parquet")
    for item in aws.s3.list_objects_v2(Bucket=RAW)["Contents"]:
        aws.s3.delete_object(Bucket=RAW, Key=item["Key"])
    assert run("--repair", "--yes")[0] == 1
    assert aws.state().deleted == []
    aws.s3.delete_object(Bucket=LAKE, Key=day_state.state_key(DAY))
    aws.close(DAY)
    assert aws.seen() == ["1", "3", "4", "5"]
    assert run()[0] == 0


def test_csv_has_no_footer(aws, run):
    aws.parameters["OutputFormat"] = "CSV"
    status, _, err = run()
    assert (status, "only Parquet files can be checked" in err) == (1, True)
