"""A date is closed by the deployed function, with its own role, and read through the move in the local Athena.

What the operator's program says of dates is asked with the rights that docs/operating.md lists, and no others.
"""

import json
import re
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.stack import Stack
from local_aws.deploy import Deployed
from local_aws.emulator import ROOT
from local_aws.query import maintain, poll, query
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_parquet
from tests.e2e.webhook import batch, post

TIMEOUT_SECONDS = 60
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


# --- The operator's program ---


@pytest.fixture
def run_as(monkeypatch, capsys, closed):
    """`run_as("status")`: the command with the rights of its rows in "Who may operate"; what it printed and said."""
    iam, account = closed.emulator.client("iam"), closed.emulator.client("sts").get_caller_identity()["Account"]

    def command(name: str, *arguments: str) -> tuple[int, str, str]:
        user = f"operator-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=user)
        policy = json.dumps({"Version": "2012-10-17", "Statement": rights(closed, account, name)})
        iam.put_user_policy(UserName=user, PolicyName="operate", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        own = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

        def client(service: str, region: str | None = None):
            return closed.emulator.client(service, **own)

        monkeypatch.setattr(operate, "deployed", lambda *_: Stack(closed.name, client, 0.1))
        status = operate.main([name, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def rights(stack: Deployed, account: str, command: str) -> list[dict]:
    """The statements of a command's rows in docs/operating.md, and the one that all commands have."""
    table = (ROOT / "docs/operating.md").read_text().partition("## Who may operate")[2].partition("\n## ")[0]
    statements = [{"Effect": "Allow", "Action": "cloudformation:DescribeStacks", "Resource": "*"}]
    current = ""
    for name, actions, on in re.findall(r"^\| (.*?) ?\| (.*?) \| (.*?) \|$", table, re.MULTILINE):
        current = name.strip("`") or current
        if current != command:
            continue
        named = re.findall(r"`([a-z]+):(\w+)`", actions)
        allowed = [f"{service}:{action}" for service, action in named]
        statements.append({"Effect": "Allow", "Action": allowed, "Resource": resources(stack, account, on)})
    assert len(statements) > 1, command
    return statements


def resources(stack: Deployed, account: str, on: str) -> list[str] | str:
    """Of a cell of the third column: the lake bucket and its prefixes, the function, the catalogue; * for others."""
    outputs = stack.outputs
    if "TableMaintenanceFunctionArn" in on:
        return outputs["TableMaintenanceFunctionArn"]
    if "catalog" in on:
        database = outputs["GlueDatabaseName"]
        kinds = ("catalog", f"database/{database}", f"table/{database}/events")
        return [f"arn:aws:glue:{stack.emulator.client('glue').meta.region_name}:{account}:{kind}" for kind in kinds]
    lake = f"arn:aws:s3:::{outputs['LakeBucketName']}"
    if "LakeBucketName" in on:
        return [lake, *(f"{lake}/{prefix}" for prefix in re.findall(r"([a-z-]+/\*)", on))]
    return "*"


def test_status_shows_the_dates_with_the_rights_that_are_listed(closed, run_as):
    status, printed, said = run_as("status")
    assert (status, said) == (0, "")
    lines = {line[:14].strip(): line[14:] for line in printed.splitlines()}
    assert re.fullmatch(r"\d+ dates registered, 31 days ahead", lines["table"])
    assert re.match(rf"\d+ open, \d+ closed, the newest {DAY} \(at ", lines["dates"])
    assert lines["maintenance"] == "nothing is at work"


def test_a_replay_into_a_closed_date_is_visible_once_the_operator_closes_it(closed, run_as, run):
    """GIVEN a closed date that lacks a row WHEN its batch is replayed and the date closed THEN the row is there."""
    noon = int(datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC).timestamp())
    event = {"type": "delivery", "event_id": "lost", "customer_id": "7", "timestamp": str(noon)}
    batch_id = str(uuid.uuid4())
    s3, lake = closed.stack.client("s3"), closed.outputs["LakeBucketName"]
    folder = {"Bucket": lake, "Prefix": f"events/event_date={DAY}/"}
    before = {item["Key"] for item in s3.list_objects_v2(**folder).get("Contents", [])}

    def new_files() -> set[str]:
        return {item["Key"] for item in s3.list_objects_v2(**folder).get("Contents", [])} - before

    assert post(closed, batch(event), batch_id=batch_id).said == "stored"
    [lost] = poll(new_files, bool, TIMEOUT_SECONDS)
    s3.delete_object(Bucket=lake, Key=lost)
    seen = count(closed, "events")
    status, printed, said = run(closed, "replay", "--batch", batch_id)
    assert (status, printed) == (0, "1 batches replayed\n")
    assert "visible within two hours, or at once after `bird-webhooks close --date <date>`" in said
    assert poll(new_files, bool, TIMEOUT_SECONDS) == {lost}
    assert count(closed, "events") == seen
    status, printed, _ = run_as("files", "--since", str(DAY), "--until", str(DAY), "--json")
    [day] = json.loads(printed)["dates"]
    assert day["late"] == [f"s3://{lake}/{lost}"]
    status, printed, said = run_as("close", "--date", str(DAY))
    assert status == 0, said
    assert printed.startswith(f"{DAY}  closed: version ")
    assert count(closed, "events") == seen + 1
    status, printed, _ = run_as("files", "--since", str(DAY), "--until", str(DAY))
    assert printed.splitlines() == [f"{location(closed, DAY)}0000-00.parquet"]


def test_the_operator_registers_a_date_of_long_ago_and_is_refused_one_that_has_not_ended(closed, run_as):
    key = "events/event_date=2015-01-01/by-hand.parquet"
    s3, lake = closed.stack.client("s3"), closed.outputs["LakeBucketName"]
    s3.put_object(Bucket=lake, Key=key, Body=b"never read")
    try:
        assert run_as("close", "--register")[:2] == (0, "1 dates registered\n")
        assert location(closed, date(2015, 1, 1)) == f"s3://{lake}/events/event_date=2015-01-01/"
    finally:
        s3.delete_object(Bucket=lake, Key=key)
    today = datetime.now(UTC).date()
    refusal = f"bird-webhooks: {today} has not ended yet (UTC)\n"
    assert run_as("close", "--date", str(today)) == (1, "", refusal)


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
