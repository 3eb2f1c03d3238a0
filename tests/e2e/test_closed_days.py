"""A date is closed by the deployed function, with its own role, and read through the move in the local Athena."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from bird_webhooks import __main__ as operate
from local_aws.deploy import Deployed
from local_aws.query import maintain, query
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_parquet

DAY = datetime.now(UTC).date() - timedelta(days=3)


def put_events(stack: Deployed, batch: str, keys: list[str], **fields: str) -> None:
    """As process would write them: a small file of the date."""
    noon = int(datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC).timestamp())
    same = {"type": "delivery", "customer_id": "7", "timestamp": str(noon), **fields}
    events = [{"msys": {"message_event": {"event_id": key, **same}}} for key in keys]
    rows = Rows()
    rows.add(StoredBatch(batch, f"raw/{batch}.json", (noon + 60) * 1000, json.dumps(events).encode()))
    [(_, table, _)] = rows.take_days()
    key = f"events/event_date={DAY}/{uuid.uuid4().hex}.parquet"
    s3 = stack.stack.client("s3")
    s3.put_object(Bucket=stack.outputs["LakeBucketName"], Key=key, Body=to_parquet(table))


def count(stack: Deployed, table: str) -> int:
    sql = f"SELECT count(*) AS events FROM {table} WHERE event_date = DATE '{DAY}' AND customer_id = '7'"  # noqa: S608
    return int(query(stack, sql)[0]["events"] or 0)


def location(stack: Deployed, day: date) -> str:
    found = stack.stack.client("glue").get_partition(
        DatabaseName=stack.outputs["GlueDatabaseName"], TableName="events", PartitionValues=[day.isoformat()]
    )
    return str(found["Partition"]["StorageDescriptor"]["Location"])


@pytest.fixture(scope="module")
def closed(sar_stack: Deployed) -> Deployed:
    put_events(sar_stack, "first", ["1", "2", "3"])
    put_events(sar_stack, "again", ["2", "3", "4"])
    assert (count(sar_stack, "events"), count(sar_stack, "events_deduplicated")) == (6, 4)
    assert maintain(sar_stack)["failed"] == 0
    return sar_stack


def test_dates_are_registered_by_the_deployment_itself(sar_stack):
    today = datetime.now(UTC).date()
    for days in (-31, 0, 31):
        assert location(sar_stack, today + timedelta(days=days)).endswith(
            f"/events/event_date={today + timedelta(days)}/"
        )


def test_a_closed_date_has_each_event_once_and_is_read_where_it_is_now(closed):
    assert "/closed/event_date=" in location(closed, DAY)
    assert (count(closed, "events"), count(closed, "events_deduplicated")) == (4, 4)


def test_late_rows_of_a_closed_date_are_in_its_next_version(closed):
    before = location(closed, DAY)
    put_events(closed, "late", ["4", "5"])
    assert count(closed, "events") == 4, "not before it is made"
    assert maintain(closed)["closed"] == 1
    assert location(closed, DAY) > before
    assert (count(closed, "events"), count(closed, "events_deduplicated")) == (5, 5)


def test_a_person_is_erased_by_the_rows(closed, monkeypatch, capsys):
    """Athena says which object each row is in. The date is closed, its small file is still there."""
    put_events(closed, "of-a-person", ["6"], rcpt_to="by.the-rows@example.com")
    put_events(closed, "of-another", ["7"], rcpt_to="not.the-rows@example.com")
    assert maintain(closed)["closed"] == 1
    monkeypatch.setattr(operate, "deployed", lambda *names: closed.stack)
    before = count(closed, "events")
    status = operate.main(["erase", "--address", "by.the-rows@example.com", "--settle", "0", "--yes"])
    said = capsys.readouterr()
    assert status == 0, said
    assert said.err.count("asking Athena") == 2
    assert "2 with the address, 2 events" in said.out, "in the closed date and in the small file"
    assert count(closed, "events") == before - 1
