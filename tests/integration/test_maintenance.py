"""The table's maintenance against a local S3, Glue and SNS: partitions, closing, late files, deletion, crashes, leases.

What readers see is asked as Athena would: the rows behind each partition's location, through the view.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from obstore.exceptions import PermissionDeniedError

from local_aws.yaml_text import yaml_parse
from maintain.check_template import TEMPLATE
from maintain.generate.columns import GLUE_TYPES, view_sql
from process import close_day, closing, day_state, maintenance, unshown
from process import cloudformation as cloudformation_answer
from process.close_day import Limits
from process.columns import COLUMNS
from process.lake_files import LakeFiles, LakeUnavailableError
from process.maintenance import MaintenanceError, Run, Settings
from process.normalise import StoredBatch
from process.partitions import Partitions
from process.rows import Rows
from process.table import to_parquet
from tests.integration.lake_table import DUCKDB
from tests.integration.moto_server import client
from tests.integration.stored import stored_objects

LAKE = "lake-bucket"
DATABASE = "bird_test"
TODAY = datetime.now(UTC).date()
NOW = datetime.combine(TODAY, datetime.min.time(), UTC) + timedelta(hours=11)
CLOSED = TODAY - timedelta(days=2)
OLDER = TODAY - timedelta(days=40)
MONTH = maintenance.AHEAD


@pytest.fixture
def lake(s3, moto_endpoint, monkeypatch) -> Iterator["LakeUnderTest"]:
    """A lake, its table, and a queue behind the topic of closed days."""
    clients = {name: client(name, moto_endpoint) for name in ("glue", "sns", "sqs")}
    topic = clients["sns"].create_topic(Name="closed-days")["TopicArn"]
    queue = clients["sqs"].create_queue(QueueName="closed-days")["QueueUrl"]
    arn = clients["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    monkeypatch.setenv("GLUE_DATABASE", DATABASE)
    monkeypatch.setenv("CLOSED_DAYS_TOPIC_ARN", topic)
    for name in ("BACK", "AHEAD"):  # the local Glue takes long for a hundred partitions of a hundred columns
        monkeypatch.setattr(maintenance, name, timedelta(days=2))
    made = LakeUnderTest(s3, clients, topic, queue)
    clients["glue"].create_database(DatabaseInput={"Name": DATABASE})
    made.create_table()
    yield made
    clients["glue"].delete_database(Name=DATABASE)
    clients["sqs"].delete_queue(QueueUrl=queue)
    clients["sns"].delete_topic(TopicArn=topic)


class LakeUnderTest:
    def __init__(self, s3: Any, clients: dict[str, Any], topic: str, queue: str) -> None:
        self.s3, self.glue, self.sqs, self.topic, self.queue = s3, clients["glue"], clients["sqs"], topic, queue
        self.files = LakeFiles(LAKE, True)
        self.sent: set[tuple[date, str]] = set()

    def create_table(self, columns: int = 3) -> None:  # Glue gives all of them with each partition, slowly
        self.glue.create_table(DatabaseName=DATABASE, TableInput=table_input(columns))

    def put(self, day: date, name: str, keys: list[str], batch: str = "b", received: int = 0, **fields: Any) -> None:
        """A small file with an event for each key."""
        for path, body in small_file(day, keys, batch, received, fields):
            self.s3.put_object(Bucket=LAKE, Key=f"events/event_date={path}/{name}.parquet", Body=body)
        self.sent |= {(day, key) for key in keys}

    def run(self, now: datetime = NOW, files: LakeFiles | None = None, **settings: Any) -> Run:
        chosen = {"csv": False, "close_days": True, "close_after": timedelta(hours=10), **settings}
        limits = chosen.pop("limits", close_day.LIMITS)
        stop_at = chosen.pop("stop_at", 1e12)
        asked = chosen.pop("asked", [])
        run = Run(files or self.files, Settings(DATABASE, topic=self.topic, **chosen), stop_at, lambda: now, limits)
        run.work(asked)
        return run

    def register(self) -> None:
        self.run(close_days=False)

    def location(self, day: date) -> str:
        found = self.glue.get_partition(DatabaseName=DATABASE, TableName="events", PartitionValues=[str(day)])
        return str(found["Partition"]["StorageDescriptor"]["Location"]).removeprefix(f"s3://{LAKE}/")

    def keys(self, prefix: str) -> list[str]:
        return list(stored_objects(LAKE, prefix))

    def table(self, tmp_path: Any, name: str = "events_deduplicated") -> list[tuple[Any, ...]]:
        """All rows as a reader finds them by way of the partitions."""
        folder = tmp_path / f"seen-{len(list(tmp_path.iterdir()))}"
        partitions = self.glue.get_paginator("get_partitions").paginate(DatabaseName=DATABASE, TableName="events")
        count = 0
        for partition in (partition for page in partitions for partition in page["Partitions"]):
            location = partition["StorageDescriptor"]["Location"].removeprefix(f"s3://{LAKE}/")
            for body in stored_objects(LAKE, location).values():
                path = folder / f"event_date={partition['Values'][0]}" / f"{count:05}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
                count += 1
        if not count:
            return []
        with DUCKDB.cursor() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            files = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
            connection.execute(f"CREATE TEMP VIEW events AS SELECT * FROM {files}")  # noqa: S608
            if name == "events_deduplicated":
                return sorted(connection.execute(view_sql(csv=False)).fetchall(), key=repr)
            columns = ", ".join(column.name for column in COLUMNS)
            return sorted(connection.execute(f"SELECT {columns}, event_date FROM events").fetchall(), key=repr)  # noqa: S608

    def events(self, tmp_path: Any) -> set[tuple[date, str]]:
        found = [(row[-1], row[4]) for row in self.table(tmp_path)]
        assert len(found) == len(set(found)), "the view gave an event twice"
        return set(found)

    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while got := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for one in got:
                found.append(json.loads(one["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=one["ReceiptHandle"])
        return found

    def state(self, day: date) -> day_state.DayState:
        return self.files.state(day).value


@cache
def template() -> dict[str, Any]:
    """The template's resources: a second to read."""
    resources: dict[str, Any] = yaml_parse(TEMPLATE.read_text())["Resources"]
    return resources


def table_input(columns: int = len(COLUMNS), *, csv: bool = False) -> dict[str, Any]:
    storage = template()["EventsTable"]["Properties"]["TableInput"]
    names = ("InputFormat", "OutputFormat")
    formats = {name: storage["StorageDescriptor"][name]["Fn::If"][1 if csv else 2] for name in names}
    described = [{"Name": column.name, "Type": GLUE_TYPES[column.type]} for column in COLUMNS[:columns]]
    serdes = ("ql.io.parquet.serde.ParquetHiveSerDe", "serde2.OpenCSVSerde")
    serde = {"SerializationLibrary": f"org.apache.hadoop.hive.{serdes[csv]}"}
    return {
        "Name": "events",
        "PartitionKeys": [{"Name": "event_date", "Type": "date"}],
        "StorageDescriptor": {
            "Location": f"s3://{LAKE}/{'events-csv' if csv else 'events'}/",
            "Columns": described,
            "SerdeInfo": serde,
            **formats,
        },
    }


def small_file(
    day: date, keys: list[str], batch: str, received: int, fields: dict[str, Any]
) -> Iterator[tuple[date, bytes]]:
    noon = int(datetime.combine(day, datetime.min.time(), UTC).timestamp()) + 43_200
    events = [
        {
            "msys": {
                "message_event": {
                    "type": "bounce" if key[-1] in "13579" else "delivery",
                    "event_id": key,
                    "customer_id": "1",
                    "timestamp": str(noon + number),
                    "rcpt_to": "person@example.com",
                    **fields,
                }
            }
        }
        for number, key in enumerate(keys)
    ]
    rows = Rows()
    arrived = (noon + 86_400 + received) * 1000
    rows.add(StoredBatch(batch, f"raw/{batch}.json", arrived, json.dumps(events).encode()))
    for number, table, _ in rows.take_days():
        yield date(1970, 1, 1) + timedelta(days=number), to_parquet(table)


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"{number:018}" for number in range(first, first + count)]


# --- Partitions ---


def test_dates_from_a_month_back_to_a_month_ahead_and_those_with_a_folder_are_registered(lake, monkeypatch):
    assert MONTH.days == 31
    for name in ("BACK", "AHEAD"):
        monkeypatch.setattr(maintenance, name, MONTH)
    lake.put(OLDER, "a", numbered(2))
    lake.s3.put_object(Bucket=LAKE, Key="events/event_date=2026-02-30/a.parquet", Body=b"no date")
    lake.run(close_days=False)
    days = set(Partitions.read(lake.glue, DATABASE).existing)
    month = {TODAY + timedelta(days=number) for number in range(-31, 32)}
    assert days == month | {OLDER}
    assert lake.location(OLDER) == f"events/event_date={OLDER}/"


def test_a_run_counts_the_dates_that_it_found_without_a_partition_and_how_far_ahead_they_are_registered(lake):
    lake.put(CLOSED, "a", numbered(2))
    lake.put(OLDER, "a", numbered(2))
    lake.put(OLDER - timedelta(days=1), "a", numbered(2))  # both overdue
    found = [lake.run().counts, lake.run().counts]
    assert [(one["without_partition"], one["registered_ahead_days"]) for one in found] == [(3, 0), (0, 2)]
    line = maintenance.counted(found[0], 0, "TableMaintenance", NOW)
    [directive] = line["_aws"]["CloudWatchMetrics"]
    named = [metric["Name"] for metric in directive["Metrics"]]
    assert named == ["overdue", "without_partition", "registered_ahead_days"], "what is 0 costs nothing"
    assert (line["without_partition"], line["overdue"], line["files_gone"]) == (3, 2, 0)


def test_a_stack_made_over_a_lake_that_was_kept_finds_every_date_where_it_is(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(3))
    lake.put(OLDER, "b", numbered(3, first=3))
    lake.run(asked=[CLOSED])
    closed = lake.location(CLOSED)
    lake.glue.delete_database(Name=DATABASE)
    lake.glue.create_database(DatabaseInput={"Name": DATABASE})
    lake.create_table()
    maintenance.register(Run(lake.files, Settings(DATABASE, False, True, timedelta(hours=10), lake.topic), 1e12))
    assert (lake.location(CLOSED), lake.location(OLDER)) == (closed, f"events/event_date={OLDER}/")
    assert lake.events(tmp_path) == lake.sent


@pytest.mark.parametrize("by", ["the hour", "the update"])
def test_a_stack_that_gets_another_lake_bucket_sees_what_is_written_there(lake, tmp_path, by):
    """Dates up to a month ahead were registered in the old one."""
    lake.register()
    lake.s3.create_bucket(Bucket="old-lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    partitions = Partitions.read(lake.glue, DATABASE)
    partitions.point({day: f"s3://old-lake/closed/event_date={day}/1-a/" for day in partitions.existing})
    lake.put(CLOSED, "a", numbered(3))
    lake.put(TODAY, "b", numbered(3, first=3))
    assert lake.events(tmp_path) == set()
    if by == "the hour":
        lake.register()
    else:
        maintenance.register(Run(lake.files, Settings(DATABASE, False, True, timedelta(hours=10), lake.topic), 1e12))
    assert lake.events(tmp_path) == lake.sent


def test_csv_is_registered_in_its_own_place_and_not_closed(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.s3.put_object(Bucket=LAKE, Key=f"events-csv/event_date={OLDER}/a.csv", Body=b"x")
    lake.glue.update_table(DatabaseName=DATABASE, TableInput=table_input(csv=True))
    lake.run(csv=True)
    assert lake.location(OLDER) == f"events-csv/event_date={OLDER}/"
    assert lake.location(CLOSED) == f"events-csv/event_date={CLOSED}/"
    assert lake.keys("closed/") == []


def test_a_change_of_format_moves_every_partition_with_the_table_and_back_to_the_closed_files(lake, tmp_path):
    """An update changes the function before the table, and its step before the table's registers."""

    def update(*, csv: bool) -> None:
        settings = Settings(DATABASE, csv, True, timedelta(hours=10), lake.topic)
        maintenance.register(Run(lake.files, settings, 1e12, lambda: NOW))
        lake.run(csv=csv)  # an hourly run in between

    lake.put(CLOSED, "a", numbered(3))
    lake.run()
    closed, open_one = lake.location(CLOSED), f"events/event_date={TODAY}/"
    assert closed.startswith("closed/")
    update(csv=True)
    assert (lake.location(CLOSED), lake.location(TODAY)) == (closed, open_one)
    lake.glue.update_table(DatabaseName=DATABASE, TableInput=table_input(csv=True))
    update(csv=True)
    in_csv = [f"events-csv/event_date={day}/" for day in (CLOSED, TODAY)]
    assert [lake.location(CLOSED), lake.location(TODAY)] == in_csv
    lake.put(CLOSED, "b", numbered(3, first=3))
    update(csv=False)
    assert [lake.location(CLOSED), lake.location(TODAY)] == in_csv
    lake.glue.update_table(DatabaseName=DATABASE, TableInput=table_input())
    update(csv=False)
    assert (lake.location(CLOSED).startswith("closed/"), lake.location(TODAY)) == (True, open_one)
    assert lake.events(tmp_path) == lake.sent


def test_partitions_are_described_anew_where_they_are_when_the_table_gains_columns(lake):
    lake.glue.delete_table(DatabaseName=DATABASE, Name="events")
    lake.create_table(columns=len(COLUMNS) - 1)
    lake.put(CLOSED, "a", numbered(3))
    lake.run()
    closed = lake.location(CLOSED)
    assert closed.startswith("closed/")
    lake.glue.update_table(DatabaseName=DATABASE, TableInput=table_input(len(COLUMNS)))
    lake.run()
    found = lake.glue.get_partition(DatabaseName=DATABASE, TableName="events", PartitionValues=[str(CLOSED)])
    described = [column["Name"] for column in found["Partition"]["StorageDescriptor"]["Columns"]]
    assert described == [column.name for column in COLUMNS]
    assert lake.location(CLOSED) == closed


def test_a_table_that_was_dropped_is_healed(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(3))
    lake.put(TODAY, "b", numbered(2))
    lake.run()
    closed = lake.location(CLOSED)
    lake.glue.delete_table(DatabaseName=DATABASE, Name="events")
    with pytest.raises(maintenance.NoTableError):
        lake.run()
    lake.create_table()
    lake.run()
    assert lake.location(CLOSED) == closed
    assert lake.events(tmp_path) == lake.sent


def test_rows_that_a_replay_writes_again_after_everything_was_deleted_are_seen_though_nothing_is_closed(lake, tmp_path):
    """As docs/downstream/personal-data.md says for protected fields."""
    lake.put(CLOSED, "a", numbered(3))
    lake.run()
    for key in lake.keys(""):
        if key.startswith(("events/", "closed/", "maintenance/days/")):
            lake.s3.delete_object(Bucket=LAKE, Key=key)
    lake.put(CLOSED, "a", numbered(3))
    lake.run(close_days=False)
    assert lake.location(CLOSED) == f"events/event_date={CLOSED}/"
    assert lake.events(tmp_path) == lake.sent


def test_a_partition_that_another_run_made_meanwhile_is_moved_all_the_same(lake):
    partitions = Partitions.read(lake.glue, DATABASE)
    lake.register()
    closed = {TODAY: f"s3://{LAKE}/closed/event_date={TODAY}/0001-a/"}
    assert (partitions.register(closed), partitions.point(closed)) == (0, 1)
    assert lake.location(TODAY) == f"closed/event_date={TODAY}/0001-a/"


# --- Closing ---


def test_a_date_is_closed_into_one_file_and_its_partition_is_moved_there(lake, tmp_path):
    for number in range(70):
        lake.put(CLOSED, f"{number:03}", numbered(3, first=number * 2), batch=f"b{number}", received=number % 7)
    lake.register()
    before = lake.table(tmp_path)
    run = lake.run()
    assert run.counts["closed"] == 1
    state = lake.state(CLOSED)
    assert lake.location(CLOSED) == state.location == f"closed/event_date={CLOSED}/{state.current.name}/"
    assert lake.keys(state.location) == [f"{state.location}0000-00.parquet"]
    assert lake.table(tmp_path, "events") == before, "value for value, and each event once without the view"
    assert (state.rows, state.current.exact) == (141, True)
    assert len(lake.keys(f"events/event_date={CLOSED}/")) == 70


def test_a_closed_date_is_announced_once_its_files_can_be_read(lake):
    lake.put(CLOSED, "a", numbered(3))
    lake.run()
    lake.run()
    state = lake.state(CLOSED)
    assert lake.messages() == [
        {
            "event_date": str(CLOSED),
            "version": state.current.name,
            "files": [f"s3://{LAKE}/{state.location}0000-00.parquet"],
            "rows": 3,
            "exact": True,
            "manifest": f"s3://{LAKE}/maintenance/days/event_date={CLOSED}.json",
        }
    ]


def test_a_date_that_ended_too_lately_stays_open(lake):
    yesterday = TODAY - timedelta(days=1)
    lake.put(yesterday, "a", numbered(3))
    lake.put(TODAY, "b", numbered(3))
    lake.run(close_after=timedelta(hours=12))
    assert lake.keys("closed/") == []
    lake.run(close_after=timedelta(hours=11))
    assert [lake.location(day).partition("/")[0] for day in (yesterday, TODAY)] == ["closed", "events"]


@pytest.mark.parametrize("name", ["late", "a"], ids=["another name", "the same name"])
def test_late_files_make_the_next_version(lake, tmp_path, name):
    lake.put(CLOSED, "a", numbered(5))
    lake.put(CLOSED, "b", numbered(5, first=5))
    lake.run()
    first = lake.state(CLOSED)
    lake.put(CLOSED, name, numbered(6, first=3), batch="late", received=3_600)
    assert lake.run().counts["closed"] == 1
    second = lake.state(CLOSED)
    assert second.current.name > first.current.name
    assert lake.location(CLOSED) == second.location
    assert lake.events(tmp_path) == lake.sent
    assert (second.rows, len(lake.table(tmp_path, "events"))) == (10, 10)
    assert lake.run().counts["closed"] == 0


def test_a_redelivery_that_changes_nothing_makes_no_version(lake):
    lake.put(CLOSED, "a", numbered(5))
    lake.run()
    lake.put(CLOSED, "a", numbered(5))
    assert lake.run().counts["closed"] == 0


def test_an_earlier_copy_that_comes_late_takes_the_place_of_the_other(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2), batch="second", received=100, subject="second")
    lake.run()
    lake.put(CLOSED, "b", numbered(1), batch="first", received=1, subject="first")
    lake.run()
    batches = [row[5] for row in lake.table(tmp_path, "events")]
    assert sorted(batches) == ["first", "second"]


def test_late_files_of_a_closed_date_are_seen_though_no_further_date_is_closed(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    lake.put(CLOSED, "b", numbered(2, first=2))
    lake.put(OLDER, "c", numbered(2))
    lake.run(close_days=False)
    assert lake.events(tmp_path) == lake.sent
    assert lake.location(OLDER) == f"events/event_date={OLDER}/"


@pytest.mark.nightly
def test_a_bounded_number_of_older_dates_is_closed_in_a_run_the_newest_first(lake):
    days = [TODAY - timedelta(days=number) for number in range(2, 15)]
    for day in days:
        lake.put(day, "a", numbered(1))
    run = lake.run()
    assert run.counts["closed"] == maintenance.NEW_DAYS_PER_RUN == 10
    assert [lake.location(day).partition("/")[0] for day in days] == ["closed"] * 10 + ["events"] * 3
    assert lake.run().counts["closed"] == 3


# --- Large dates ---

# A few rows take 20 kB in memory, and eighty 100 kB.
SMALL_MEMORY = Limits(held_bytes=200_000, slice_bytes=100_000, part_bytes=60_000)
TINY_MEMORY = Limits(held_bytes=100_000, slice_bytes=60_000, part_bytes=10_000)
FILES = 40


@pytest.fixture
def many(lake, tmp_path, monkeypatch) -> list[tuple[Any, ...]]:
    """Files whose events are in two or three others too, and so in different parts; what readers see of them."""
    monkeypatch.setattr(close_day, "JOINED_AT_ONCE", 8)
    for number in range(FILES):
        keys = numbered(10, first=(number * 7) % 100)
        lake.put(CLOSED, f"{number:03}", keys, batch=f"b{number}", received=number % 5)
    lake.register()
    return lake.table(tmp_path)


def test_a_date_that_memory_cannot_hold_is_closed_in_slices_and_still_exact(lake, tmp_path, many):
    lake.run(limits=SMALL_MEMORY)
    state = lake.state(CLOSED)
    assert len(state.current.files) > 2
    assert state.current.exact
    assert lake.table(tmp_path, "events") == many
    assert lake.keys("maintenance/work/") == []


@pytest.mark.parametrize(
    ("room", "most"), [(close_day.PIECES_BYTES, 16), pytest.param(1, 1, marks=pytest.mark.nightly)]
)
def test_pieces_of_a_slice_are_read_some_at_once_in_order_within_memory(lake, tmp_path, many, monkeypatch, room, most):
    """As many at once as compressed pieces fit into the room beside the rows."""
    monkeypatch.setattr(close_day, "PIECES_BYTES", room)
    real, lock, at_once = LakeFiles.read_range, threading.Lock(), [0, 0]

    def read_range(self: LakeFiles, *args: Any) -> bytes | None:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.05)
        try:
            return real(self, *args)
        finally:
            with lock:
                at_once[0] -= 1

    monkeypatch.setattr(LakeFiles, "read_range", read_range)
    lake.run(limits=SMALL_MEMORY)
    assert lake.table(tmp_path, "events") == many
    assert (at_once[1] > 1) == (most > 1)
    assert at_once[1] <= most


@pytest.mark.nightly
def test_a_slice_that_memory_cannot_hold_is_said_to_be_inexact_and_the_view_judges(lake, tmp_path, many):
    lake.run(limits=Limits(held_bytes=100_000, slice_bytes=10**9, part_bytes=60_000))
    assert not lake.state(CLOSED).current.exact
    assert lake.table(tmp_path) == many
    assert lake.messages()[0]["exact"] is False


@pytest.fixture
def no_time(monkeypatch) -> Callable[[], Any]:
    """A context in which each run ends as soon as it has something to save."""

    @contextmanager
    def patched() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(close_day.CloseDay, "_seconds_left", property(lambda self: -1))
            yield

    return patched


@pytest.mark.nightly
def test_a_large_date_is_worked_off_over_several_runs(lake, tmp_path, many, no_time):
    with no_time():
        for runs in range(1, 1 + FILES // 8):
            assert lake.run(limits=SMALL_MEMORY).counts["unfinished"] == 1
            assert lake.state(CLOSED).attempt.consumed == 8 * runs
    assert lake.table(tmp_path) == many, "the date is read where it was"
    assert lake.run(limits=SMALL_MEMORY).counts["closed"] == 1
    assert lake.table(tmp_path, "events") == many


@pytest.mark.nightly
def test_a_lost_part_begins_the_date_again(lake, tmp_path, many, no_time):
    with no_time():
        lake.run(limits=SMALL_MEMORY)
    [part] = lake.keys("maintenance/work/")
    lake.s3.delete_object(Bucket=LAKE, Key=part)
    assert lake.run(limits=SMALL_MEMORY).counts["closed"] == 0
    lake.run(limits=SMALL_MEMORY)
    assert lake.table(tmp_path, "events") == many


class BusyLake(LakeFiles):
    """A lake in which small files come while a date is being closed: one for each closed file, so many times."""

    def __init__(self, lake: "LakeUnderTest", times: int) -> None:
        super().__init__(LAKE, True)
        object.__setattr__(self, "_lake", lake)
        object.__setattr__(self, "_numbers", iter(range(times)))

    def write(self, key: str, *args: Any) -> None:
        super().write(key, *args)
        number = next(self._numbers, None) if key.startswith("closed/") else None
        if number is not None:
            self._lake.put(CLOSED, f"meanwhile{number}", numbered(2, first=100 * (number + 1)), batch="meanwhile")


def test_what_comes_while_a_date_is_being_closed_stays_in_the_readers_sight(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    run = lake.run(files=BusyLake(lake, times=1))
    assert lake.location(CLOSED) == lake.state(CLOSED).location
    assert lake.events(tmp_path) == lake.sent
    assert (run.counts["closed"], run.counts["rows"], len(lake.messages())) == (1, 4, 1)


def test_a_date_to_which_files_keep_coming_is_closed_nevertheless(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.run(files=BusyLake(lake, times=100))
    assert lake.location(CLOSED) == lake.state(CLOSED).location
    assert lake.state(CLOSED).number == maintenance.MOST_VERSIONS_BEFORE_MOVE
    lake.run()
    assert lake.events(tmp_path) == lake.sent


# --- Deletion ---


def test_small_files_are_deleted_fifteen_days_after_the_close_and_nothing_else(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.s3.put_object(Bucket=LAKE, Key=f"events/event_date={CLOSED}/notes.txt", Body=b"a person's own")
    lake.run()
    lake.run(NOW + timedelta(days=14, hours=23))
    assert len(lake.keys(f"events/event_date={CLOSED}/")) == 2
    lake.run(NOW + timedelta(days=15))
    assert lake.keys(f"events/event_date={CLOSED}/") == [f"events/event_date={CLOSED}/notes.txt"]
    assert lake.state(CLOSED).taken_in == []
    assert lake.events(tmp_path) == lake.sent


def test_a_replaced_version_is_deleted_a_day_later(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    first = lake.location(CLOSED)
    lake.put(CLOSED, "b", numbered(2, first=2))
    lake.run(NOW + timedelta(hours=2))
    lake.run(NOW + timedelta(hours=25))
    assert lake.keys(first)
    lake.run(NOW + timedelta(hours=26))
    assert lake.keys(first) == []
    assert lake.keys("closed/") == lake.keys(lake.location(CLOSED))
    assert lake.events(tmp_path) == lake.sent


def test_a_replaced_version_is_deleted_however_long_the_function_stood_still(lake):
    """Without a small file, only its state tells that there is something to do."""
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    lake.put(CLOSED, "b", numbered(2, first=2))
    lake.run(NOW + timedelta(hours=2))
    for key in lake.keys("events/"):
        lake.s3.delete_object(Bucket=LAKE, Key=key)
    lake.run(NOW + timedelta(days=90))
    assert lake.keys("closed/") == lake.keys(lake.location(CLOSED))
    assert lake.state(CLOSED).replaced == []


def test_a_run_that_did_not_get_through_leaves_its_states_to_the_next_one(lake):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    lake.put(CLOSED, "b", numbered(2, first=2))
    lake.run(NOW + timedelta(hours=2))
    for key in lake.keys("events/"):
        lake.s3.delete_object(Bucket=LAKE, Key=key)
    late = NOW + timedelta(days=90)
    assert lake.run(late, stop_at=0).counts["waiting"] == 1
    lake.run(late + timedelta(hours=1))
    assert lake.state(CLOSED).replaced == []


def test_states_are_not_read_every_hour(lake):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    lake.run(NOW + timedelta(days=16))
    assert lake.keys("events/") == []
    lake.run(NOW + timedelta(days=20))
    read = []

    class Watched(LakeFiles):
        def state(self, day: date) -> Any:
            read.append(day)
            return super().state(day)

    lake.run(NOW + timedelta(days=20, hours=1), files=Watched(LAKE, True))
    assert read == []


def test_a_small_file_that_was_written_again_is_not_deleted_but_taken_in(lake, tmp_path):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    lake.put(CLOSED, "a", numbered(2, first=2), batch="again")
    lake.run(NOW + timedelta(days=20))
    assert lake.keys(f"events/event_date={CLOSED}/") == [f"events/event_date={CLOSED}/a.parquet"]
    assert lake.events(tmp_path) == lake.sent


@pytest.mark.parametrize("closed_before", [False, True], ids=["small files", "a version"])
def test_what_readers_were_sent_to_until_now_is_not_deleted_in_the_same_run(lake, tmp_path, closed_before):
    """A run died between commit and point, and no other came for weeks."""
    lake.put(CLOSED, "a", numbered(2))
    if closed_before:
        lake.run()
        lake.put(CLOSED, "b", numbered(2, first=2))
    before = lake.location(CLOSED) if closed_before else f"events/event_date={CLOSED}/"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(maintenance.Run, "_finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            lake.run(NOW + timedelta(hours=2))
    assert lake.keys(before)
    later = NOW + timedelta(days=20)
    lake.run(later)
    assert lake.location(CLOSED) == lake.state(CLOSED).location != before
    lake.run(later + timedelta(hours=23))
    assert lake.keys(before)
    lake.run(later + timedelta(hours=25))
    assert not lake.keys(before)
    assert lake.events(tmp_path) == lake.sent


# --- Failures ---


class Killed(SystemExit):
    """The function ended here."""


class DyingLake(LakeFiles):
    """Ends the run at its n-th change of anything, before or after it was made."""

    changes = 0
    dies_at = 0
    after = False

    def change[T](self, make: Callable[[], T]) -> T:
        type(self).changes += 1
        if type(self).changes == self.dies_at and not self.after:
            raise Killed
        made = make()
        if type(self).changes == self.dies_at:
            raise Killed
        return made

    def write(self, *args: Any) -> None:
        return self.change(lambda: super(DyingLake, self).write(*args))

    def delete(self, *args: Any) -> None:
        return self.change(lambda: super(DyingLake, self).delete(*args))

    def delete_small(self, *args: Any) -> None:
        return self.change(lambda: super(DyingLake, self).delete_small(*args))

    def write_state(self, *args: Any) -> str:
        return self.change(lambda: super(DyingLake, self).write_state(*args))


class DyingClient:
    """boto3's, of whose calls those named are changes."""

    def __init__(self, client: Any, lake: DyingLake, calls: tuple[str, ...]) -> None:
        self._client, self._lake, self._calls = client, lake, calls

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name not in self._calls:
            return call
        return lambda **args: self._lake.change(lambda: call(**args))


@pytest.mark.parametrize(
    ("limits", "after", "step"),
    [
        pytest.param(close_day.LIMITS, False, 1, id="at once, before the change", marks=pytest.mark.nightly),
        pytest.param(close_day.LIMITS, True, 1, id="at once, after the change", marks=pytest.mark.nightly),
        pytest.param(TINY_MEMORY, False, 1, id="in slices, before the change", marks=pytest.mark.nightly),
        pytest.param(TINY_MEMORY, True, 1, id="in slices, after the change", marks=pytest.mark.nightly),
        pytest.param(TINY_MEMORY, True, 3, id="in slices, after every third change"),
    ],
)
def test_whatever_step_a_run_dies_at_readers_are_right_and_the_next_run_mends_it(
    lake, tmp_path, monkeypatch, after, limits, step
):
    monkeypatch.setattr(close_day, "JOINED_AT_ONCE", 2)
    for number in range(12):
        lake.put(CLOSED, f"{number:03}", numbered(4, first=number * 3), batch=f"b{number}")
    lake.run(now=NOW - timedelta(days=1, hours=2), limits=limits)  # ended, and not yet to be closed
    lake.put(CLOSED, "999", numbered(2), batch="again")
    for number in range(1, 60, step):
        dying = type("Dying", (DyingLake,), {"dies_at": number, "after": after, "changes": 0})(LAKE, True)
        glue = DyingClient(lake.glue, dying, ("batch_create_partition", "batch_update_partition"))
        sns = DyingClient(maintenance.sns(), dying, ("publish",))
        with monkeypatch.context() as patched:
            patched.setattr(maintenance, "glue", lambda glue=glue: glue)
            patched.setattr(maintenance, "sns", lambda sns=sns: sns)
            now = NOW + timedelta(days=2 * number)
            try:
                lake.run(now, files=dying, limits=limits)
            except Killed:
                assert lake.events(tmp_path) == lake.sent, f"killed at change {number}"
                # A further late file for every run, so that each step comes again.
                lake.put(CLOSED, f"late{number}", numbered(1, first=10_000 + number), batch=f"late{number}")
                continue
        break
    else:
        pytest.fail("no run came to its end")
    assert number > 5
    lake.run(now + timedelta(days=2), limits=limits)
    lake.run(now + timedelta(days=40), limits=limits)
    assert lake.events(tmp_path) == lake.sent
    assert len(lake.table(tmp_path, "events")) == len(lake.sent)
    assert lake.keys("closed/") == lake.keys(lake.location(CLOSED))
    assert lake.keys(f"events/event_date={CLOSED}/") == []
    assert lake.messages()[-1]["version"] == lake.state(CLOSED).current.name


@pytest.mark.parametrize("dies_in", ["the attempt", "its clearing"])
def test_an_attempt_that_is_made_again_with_fewer_rows_leaves_no_file_of_the_first_try(
    lake, tmp_path, monkeypatch, dies_in
):
    """Readers take every file of a folder. An erasure may delete a small file between the tries."""
    monkeypatch.setattr(closing, "ROWS_PER_FILE", 2)
    lake.put(CLOSED, "a", numbered(2))
    lake.put(CLOSED, "b", numbered(4, first=2))
    first = type("Dying", (DyingLake,), {"dies_at": 4, "after": True, "changes": 0})(LAKE, True)
    with pytest.raises(Killed):
        lake.run(files=first)
    assert [key.rpartition("/")[2] for key in lake.keys("closed/")] == [f"0000-0{n}.parquet" for n in range(3)]
    lake.s3.delete_object(Bucket=LAKE, Key=f"events/event_date={CLOSED}/b.parquet")
    lake.sent = {(CLOSED, key) for key in numbered(2)}
    other = f"closed/event_date={CLOSED}/{lake.state(CLOSED).attempt.version}0/0000-00.parquet"
    lake.s3.put_object(Bucket=LAKE, Key=other, Body=b"another version's")
    if dies_in == "its clearing":
        second = type("Dying", (DyingLake,), {"dies_at": 3, "after": False, "changes": 0})(LAKE, True)
        with pytest.raises(Killed):
            lake.run(files=second)
        assert len(lake.keys("closed/")) == 4
    lake.run()
    assert lake.keys("closed/") == [f"{lake.location(CLOSED)}0000-00.parquet", other]
    assert lake.events(tmp_path) == lake.sent


def test_several_runs_at_once_do_no_harm(lake, tmp_path):
    for number in range(20):
        lake.put(CLOSED, f"{number:03}", numbered(4, first=number * 3), batch=f"b{number}")
    for round_ in range(4):
        lake.put(CLOSED, f"late{round_}", numbered(2, first=1_000 + round_), batch=f"late{round_}")
        runs = [threading.Thread(target=lake.run, daemon=True) for _ in range(3)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert lake.events(tmp_path) == lake.sent
    lake.run()
    assert len(lake.table(tmp_path, "events")) == len(lake.sent)
    assert lake.location(CLOSED) == lake.state(CLOSED).location


def test_a_file_that_is_not_parquet_keeps_its_date_open_and_the_others_go_on(lake):
    lake.put(CLOSED, "a", numbered(2))
    lake.put(OLDER, "b", numbered(2))
    lake.s3.put_object(Bucket=LAKE, Key=f"events/event_date={CLOSED}/c.parquet", Body=b"not Parquet")
    run = lake.run()
    assert run.failed == {CLOSED}
    assert lake.location(CLOSED) == f"events/event_date={CLOSED}/"
    assert lake.location(OLDER).startswith("closed/")


class ForgetfulLake(LakeFiles):
    """Does not find one of the files that it has listed."""

    def read(self, key: str) -> Any:
        return None if key.endswith(self.gone) else super().read(key)


def without(name: str) -> LakeFiles:
    return type("Without", (ForgetfulLake,), {"gone": name})(LAKE, True)


def test_a_small_file_that_is_gone_is_counted_and_the_others_are_closed(lake):
    for name, first in (("a", 0), ("b", 2), ("c", 4)):
        lake.put(CLOSED, name, numbered(2, first=first))
    run = lake.run(files=without("b.parquet"))
    assert (run.counts["closed"], run.counts["files_gone"]) == (1, 1)
    assert (lake.state(CLOSED).files_gone, lake.state(CLOSED).rows) == (1, 4)
    lake.put(CLOSED, "d", numbered(2, first=6))
    assert lake.run().counts["files_gone"] == 0
    assert lake.state(CLOSED).files_gone == 1, "a late file of others does not bring the rows back"
    lake.run(asked=[CLOSED])
    assert (lake.state(CLOSED).files_gone, lake.state(CLOSED).rows) == (0, 6)


def test_a_closed_file_that_is_gone_keeps_its_date_as_it_is_until_the_operator_says_otherwise(lake):
    lake.put(CLOSED, "a", numbered(2))
    lake.run()
    before = lake.location(CLOSED)
    lake.s3.delete_object(Bucket=LAKE, Key=f"{before}0000-00.parquet")
    lake.put(CLOSED, "b", numbered(2, first=2))
    run = lake.run()
    assert run.reasons == {CLOSED: f"{before}0000-00.parquet is gone: see docs/runbook.md#tablemaintenancealarm"}
    assert lake.location(CLOSED) == before
    assert lake.run(asked=[CLOSED]).counts["files_gone"] == 1
    assert (lake.state(CLOSED).files_gone, lake.state(CLOSED).rows) == (1, 2)


def test_what_cannot_be_read_back_is_not_pointed_to(lake, monkeypatch):
    lake.put(CLOSED, "a", numbered(2))
    monkeypatch.setattr(close_day, "to_file", lambda rows: small_file_of_one())
    assert lake.run().failed == {CLOSED}
    assert lake.location(CLOSED) == f"events/event_date={CLOSED}/"


def small_file_of_one() -> bytes:
    [(_, body)] = small_file(CLOSED, ["other"], "b", 0, {})
    return body


# --- The handler ---


@pytest.fixture
def settings(lake, monkeypatch):
    monkeypatch.setenv("CLOSE_AFTER_HOURS", "10")
    return lake


def test_every_hour_it_does_all_of_it_and_gives_the_lease_back(settings, lambda_context):
    settings.put(CLOSED, "a", numbered(2))
    lambda_context.seconds = 900
    outcome = maintenance.lambda_handler({"source": "aws.events"}, lambda_context)
    assert (outcome["closed"], outcome["rows"], outcome["failed"], outcome["without_partition"]) == (1, 2, 0, 1)
    assert settings.files.take_lease("next", datetime.now(UTC), 60)


def test_a_run_that_finds_the_lease_taken_does_nothing(settings, lambda_context):
    settings.files.take_lease("erase", datetime.now(UTC), 60)
    settings.put(CLOSED, "a", numbered(2))
    assert maintenance.lambda_handler({}, lambda_context) == {"held": True}
    assert settings.keys("closed/") == []


def test_a_lease_that_is_over_is_taken(settings, lambda_context):
    settings.files.take_lease("crashed", datetime.now(UTC) - timedelta(minutes=17), 16 * 60)
    lambda_context.seconds = 900
    assert "held" not in maintenance.lambda_handler({}, lambda_context)


def test_failed_dates_fail_the_invocation(settings, lambda_context):
    settings.s3.put_object(Bucket=LAKE, Key=f"events/event_date={CLOSED}/c.parquet", Body=b"not Parquet")
    lambda_context.seconds = 900
    with pytest.raises(MaintenanceError, match=str(CLOSED)):
        maintenance.lambda_handler({}, lambda_context)


def test_the_operator_closes_a_date_at_once_but_none_that_has_not_ended(settings, lambda_context):
    yesterday = TODAY - timedelta(days=1)
    settings.put(yesterday, "a", numbered(2))
    lambda_context.seconds = 900
    settings.put(CLOSED, "a", numbered(2))
    assert maintenance.lambda_handler({"close": [str(yesterday)]}, lambda_context)["closed"] == 1
    assert settings.location(yesterday).startswith("closed/")
    assert settings.location(CLOSED).startswith("events/"), "the operator waits for those dates alone"
    refused = {"refused": f"{TODAY} has not ended yet (UTC)"}
    assert maintenance.lambda_handler({"close": [str(yesterday), str(TODAY)]}, lambda_context) == refused


@pytest.mark.parametrize("asked", [{"close": [str(CLOSED)]}, {"register": True}])
def test_the_operator_is_told_that_there_is_no_table(settings, lambda_context, asked):
    settings.glue.delete_table(DatabaseName=DATABASE, Name="events")
    refused = {"refused": "there is no table events in the database bird_test"}
    assert maintenance.lambda_handler(asked, lambda_context) == refused


def test_the_operator_is_told_that_csv_is_not_closed(settings, lambda_context, monkeypatch):
    monkeypatch.setenv("OUTPUT_FORMAT", "CSV")
    refused = {"refused": "CSV files are not closed: OutputFormat is CSV"}
    assert maintenance.lambda_handler({"close": [str(CLOSED)]}, lambda_context) == refused


def test_the_operator_is_told_that_another_is_at_work(settings, lambda_context):
    settings.files.take_lease("erase", datetime.now(UTC), 60)
    assert maintenance.lambda_handler({"close": [str(CLOSED)]}, lambda_context) == {"held": True}


def test_a_run_of_the_operators_begins_nothing_more_after_its_time(settings, lambda_context, monkeypatch):
    lambda_context.seconds = 900
    settings.put(CLOSED, "a", numbered(2))
    moments = iter([1_000.0])
    monkeypatch.setattr(maintenance.time, "monotonic", lambda: next(moments, 1_121.0))
    assert maintenance.lambda_handler({"close": [str(CLOSED)], "seconds": 120}, lambda_context)["waiting"] == 1


def deployment(kind: str, url: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": "s",
        "RequestId": "r",
        "LogicalResourceId": "RegisteredPartitions",
        "ResourceProperties": {},
    }


def test_a_deployment_registers_everything_and_is_answered(settings, cloudformation, lambda_context):
    url, answers = cloudformation
    settings.put(OLDER, "a", numbered(2))
    maintenance.lambda_handler(deployment("Create", url), lambda_context)
    assert answers[0]["Status"] == "SUCCESS"
    assert settings.location(OLDER) == f"events/event_date={OLDER}/"
    assert settings.location(TODAY) == f"events/event_date={TODAY}/"


def test_a_release_that_is_installed_again_after_a_rollback_says_so_for_erase(settings, cloudformation, lambda_context):
    """The release before names no repeats; its rollback deleted this resource, so that it is created again."""
    url, _ = cloudformation
    settings.s3.put_object(Bucket=LAKE, Key=unshown.SINCE, Body=b"of the first time")

    def since() -> bytes:
        return settings.s3.get_object(Bucket=LAKE, Key=unshown.SINCE)["Body"].read()

    settings.register()
    maintenance.lambda_handler(deployment("Update", url), lambda_context)
    assert since() == b"of the first time"
    maintenance.lambda_handler(deployment("Create", url), lambda_context)
    assert since() == b""


@pytest.mark.parametrize("call", ["read", "dates"], ids=["the lease", "the lake"])
def test_a_deployment_waits_until_iam_lets_the_new_role_into_the_lake(
    settings, cloudformation, lambda_context, monkeypatch, call
):
    url, answers = cloudformation
    denied, real = iter([True, True]), getattr(LakeFiles, call)

    def late(*args: Any) -> Any:
        if next(denied, False):
            raise LakeUnavailableError("PermissionDeniedError") from PermissionDeniedError("403")
        return real(*args)

    pauses: list[float] = []
    monkeypatch.setattr(LakeFiles, call, late)
    monkeypatch.setattr(cloudformation_answer.time, "sleep", pauses.append)
    lambda_context.seconds = 900
    maintenance.lambda_handler(deployment("Create", url), lambda_context)
    assert (answers[0]["Status"], pauses) == ("SUCCESS", [2, 4])
    assert settings.location(TODAY) == f"events/event_date={TODAY}/"


def test_before_the_table_is_made_there_is_nothing_to_register(settings, cloudformation, lambda_context):
    url, answers = cloudformation
    settings.glue.delete_table(DatabaseName=DATABASE, Name="events")
    maintenance.lambda_handler(deployment("Create", url), lambda_context)
    maintenance.lambda_handler(deployment("Delete", url), lambda_context)
    assert [answer["Status"] for answer in answers] == ["SUCCESS", "SUCCESS"]


def test_a_deployment_that_cannot_register_fails_with_a_reason(settings, cloudformation, lambda_context, monkeypatch):
    url, answers = cloudformation
    monkeypatch.setattr(LakeFiles, "dates", lambda *_: (_ for _ in ()).throw(LakeUnavailableError("no answer")))
    maintenance.lambda_handler(deployment("Create", url), lambda_context)
    assert answers[0]["Status"] == "FAILED"
    assert answers[0]["Reason"].startswith("The table's dates could not be registered: LakeUnavailableError in ")


def test_a_rollback_goes_on_though_nothing_can_be_registered(settings, cloudformation, lambda_context, monkeypatch):
    """The stack would be stuck in UPDATE_ROLLBACK_FAILED; the next hour registers."""
    url, answers = cloudformation
    monkeypatch.setattr(LakeFiles, "dates", lambda *_: (_ for _ in ()).throw(LakeUnavailableError("no answer")))
    monkeypatch.setattr(maintenance, "stack_status", lambda stack: "UPDATE_ROLLBACK_IN_PROGRESS")
    maintenance.lambda_handler(deployment("Update", url), lambda_context)
    assert answers[0]["Status"] == "SUCCESS"


def test_a_deletion_needs_nothing_that_may_be_gone_already(cloudformation, lambda_context, monkeypatch):
    url, answers = cloudformation
    monkeypatch.setattr(maintenance.boto3, "client", lambda name, **_: pytest.fail(f"{name} was asked"))
    maintenance.lambda_handler(
        {**deployment("Delete", url), "PhysicalResourceId": "registered-partitions"}, lambda_context
    )
    assert [(answer["Status"], answer["PhysicalResourceId"]) for answer in answers] == [
        ("SUCCESS", "registered-partitions")
    ]
