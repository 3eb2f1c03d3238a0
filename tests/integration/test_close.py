"""`close`, `files`, the dates in `status`, and the lease, against moto's S3 and Glue. The function is a stand-in here;
tests/e2e/test_closed_days.py has the real one.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from moto import mock_aws

from bird_webhooks import __main__ as operate
from bird_webhooks.errors import OperateError
from bird_webhooks.operate import close, lease
from bird_webhooks.simulator.verify import Lake
from bird_webhooks.stack import Stack
from process import day_state
from process.day_state import Attempt, DayState, File, Part, Small, TakenIn, Version
from process.lease import LEASE, Lease
from process.partitions import Partitions
from tests.integration.moto_server import client

LAKE = "the-lake-bucket"
DATABASE = "bird"
DAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PARAMETERS = {"OutputFormat": "PARQUET", "CloseDays": "true", "CloseAfterHours": "10"}
OUTPUTS = {
    "LakeBucketName": LAKE,
    "GlueDatabaseName": DATABASE,
    "TableMaintenanceFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:maintenance",
}


class Function:
    """Stands in for Lambda: `answers` are what the next invocations give, or do."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == OUTPUTS["TableMaintenanceFunctionArn"]
        self.asked.append(json.loads(Payload))
        answer = self.answers.pop(0)
        answer = answer() if callable(answer) else answer
        failed = {"FunctionError": "Unhandled"} if "errorMessage" in answer else {}
        return {"Payload": BytesIO(json.dumps(answer).encode()), **failed}


class Account:
    def __init__(self) -> None:
        self.function = Function()
        self.parameters = dict(PARAMETERS)
        self.made = client
        self.s3 = self.made("s3")

    def client(self, service: str) -> Any:
        return {"lambda": self.function, "cloudformation": self}.get(service) or self.made(service)

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        outputs = [{"OutputKey": name, "OutputValue": value} for name, value in OUTPUTS.items()]
        return {"Stacks": [{"StackName": StackName, "Parameters": given, "Outputs": outputs}]}

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [{"StackResourceSummaries": []}])

    def put(self, key: str, body: bytes = b"x") -> str:
        return str(self.s3.put_object(Bucket=LAKE, Key=key, Body=body)["ETag"].strip('"'))

    def put_state(self, state: DayState) -> None:
        self.put(day_state.state_key(state.event_date), day_state.encode(state))

    def lease(self) -> Lease:
        return lease._read(Stack("bird-webhooks", self.client))[0] or pytest.fail("no lease")

    def hold(self, owner: str, until: datetime) -> None:
        self.put(LEASE, json.dumps({"owner": owner, "until": until.isoformat()}).encode())


def closed(files: int = 1, number: int = 1, taken: tuple[Small, ...] = (), **more: Any) -> DayState:
    name = f"{number:04}-abc"
    version = Version(name, [File(f"{file:04}-00.parquet", 3, 900) for file in range(files)])
    state = DayState(DAY, number=number, current=version, location=f"closed/event_date={DAY}/{name}/", **more)
    state.rows, state.closed_at = version.rows, NOW
    state.taken_in = [TakenIn(NOW, [*taken])]
    return state


@pytest.fixture
def aws(monkeypatch) -> Iterator[Account]:
    monkeypatch.setattr(close, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(close, "LOOKS_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(lease, "PAUSE_SECONDS", 0.01)
    with mock_aws():
        account = Account()
        account.s3.create_bucket(Bucket=LAKE, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield account


@pytest.fixture
def run(aws, capsys, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """`run("status")`: exit status, standard output, standard error."""
    monkeypatch.setattr(operate, "deployed", lambda *_: Stack("bird-webhooks", aws.client, 0))

    def command(*arguments: str) -> tuple[int, str, str]:
        status = operate.main([*arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


# --- close ---


def begun(aws: Account, consumed: int, merged: int = 0, for_seconds: float = 0.3) -> Callable[[], dict[str, Any]]:
    """A run that ends with the date unfinished."""

    def invocation() -> dict[str, Any]:
        attempt = Attempt("0001-abc", None, [Small(f"{number}", "e") for number in range(200)], slices=8)
        attempt.parts, attempt.consumed, attempt.merged = [Part("0", consumed, [])], consumed, merged
        aws.put_state(DayState(DAY, attempt=attempt))
        time.sleep(for_seconds)
        return {"unfinished": 1}

    return invocation


def ends(aws: Account, state: DayState) -> Callable[[], dict[str, Any]]:
    def invocation() -> dict[str, Any]:
        aws.put_state(state)
        return {"closed": 1, "failed": 0}

    return invocation


def test_a_date_is_closed_by_as_many_invocations_as_it_takes_and_each_step_is_said(aws, run):
    def still_reading() -> dict[str, Any]:
        time.sleep(0.3)  # the next invocation begins with the state that the last one left
        return begun(aws, 200, 3)()

    aws.function.answers = [begun(aws, 100), still_reading, ends(aws, closed(files=2))]
    status, printed, said = run("close", "--date", str(DAY))
    assert (status, printed) == (0, "2026-11-20  closed: version 0001-abc, 2 files, 6 rows\n")
    assert said.splitlines() == [
        "==> 2026-11-20: reading 200 files, 50 % done",
        "==> 2026-11-20: writing, 3 of 8 slices done",
    ]
    assert aws.function.asked == [{"close": ["2026-11-20"], "seconds": 120}] * 3


def test_what_was_closed_is_one_document_for_programs(aws, run):
    aws.put_state(closed())
    aws.function.answers = [{"registered": 2}, ends(aws, closed(number=2, files_gone=1))]
    status, printed, _ = run("close", "--register", "--date", str(DAY), "--json")
    assert status == 0
    assert json.loads(printed) == {
        "registered": 2,
        "dates": [
            {
                "event_date": "2026-11-20",
                "version": "0002-abc",
                "made": True,
                "files": 1,
                "rows": 3,
                "exact": True,
                "files_gone": 1,
            }
        ],
    }


def test_a_date_that_needs_nothing_and_one_without_rows_say_so(aws, run):
    aws.put_state(closed())
    aws.function.answers = [{"closed": 0}]
    assert run("close", "--date", str(DAY), "2026-11-19")[:2] == (
        0,
        "2026-11-19  has no rows: nothing to close\n"
        "2026-11-20  was closed already, and nothing came late: version 0001-abc, 1 files, 3 rows\n",
    )


def test_register_says_how_many_dates_got_a_partition(aws, run):
    aws.function.answers = [{"registered": 12}]
    assert run("close", "--register") == (0, "12 dates registered\n", "")
    assert aws.function.asked == [{"register": True}]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"refused": "2026-11-26 has not ended yet (UTC)"}, "2026-11-26 has not ended yet (UTC)"),
        (
            {"errorType": "MaintenanceError", "errorMessage": "2026-11-20: UnknownColumnsError in rows_of, line 61"},
            "the table's maintenance failed: 2026-11-20: UnknownColumnsError in rows_of, line 61",
        ),
    ],
)
def test_what_the_function_refuses_or_fails_at_is_said_in_one_line(aws, run, answer, words):
    aws.function.answers = [answer]
    assert run("close", "--date", str(DAY)) == (1, "", f"bird-webhooks: {words}\n")


def test_a_lease_of_another_is_waited_for_and_its_holder_named(aws, run, monkeypatch):
    until = datetime.now(UTC) + timedelta(minutes=9)
    aws.hold("erase 1234", until)
    aws.function.answers = [{"held": True}, {"held": True}, ends(aws, closed())]
    status, _, said = run("close", "--date", str(DAY))
    assert (status, said) == (0, f"waiting: at work is erase, until {until:%H:%M} UTC at the latest\n")
    monkeypatch.setattr(close, "WAIT_SECONDS", -1)
    aws.function.answers = [{"held": True}]
    words = f"at work is erase, until {until:%H:%M} UTC at the latest: give the command again then"
    assert run("close", "--date", str(DAY)) == (1, "", f"bird-webhooks: {words}\n")


def test_a_connection_that_is_cut_does_not_end_the_command(aws, run):
    def cut() -> dict[str, Any]:
        raise ReadTimeoutError(endpoint_url="https://lambda.eu-west-1.amazonaws.com/")

    aws.function.answers = [cut, {"held": True}, ends(aws, closed())]
    assert run("close", "--date", str(DAY))[0] == 0
    assert len(aws.function.asked) == 3


def test_a_function_that_makes_no_progress_is_not_invoked_for_ever(aws, run):
    aws.function.answers = [begun(aws, 100, for_seconds=0), {"unfinished": 1}, {"unfinished": 1}]
    status, _, said = run("close", "--date", str(DAY))
    assert (status, said.splitlines()[-1]) == (
        1,
        "bird-webhooks: the function makes no progress: its log says why",
    )
    assert len(aws.function.asked) == 2


def test_the_simulator_makes_late_rows_visible_instead_of_waiting_for_the_next_hour(aws):
    aws.put_state(closed())
    aws.function.answers = [{"registered": 0}, {"closed": 1}]
    lake = Lake(None, aws.s3, Stack("bird-webhooks", aws.client, 0))
    lake.make_visible({DAY, date(2026, 11, 25)})
    assert aws.function.asked == [{"register": True}, {"close": ["2026-11-20"], "seconds": 120}]
    aws.function.answers = [{"refused": "no"}]
    lake.make_visible({DAY})  # then its rows are waited for


# --- files ---


@pytest.fixture
def filled(aws) -> Account:
    """One date closed with a file that came late and one that was written again, one that is open, CSV beside it."""
    taken = Small("a.parquet", aws.put(f"events/event_date={DAY}/a.parquet"))
    aws.put(f"events/event_date={DAY}/late.parquet")
    aws.put(f"events/event_date={DAY}/again.parquet", b"written again")
    aws.put(f"events/event_date={DAY}/notes.txt")
    aws.put("events/event_date=2026-11-21/b.parquet")
    aws.put("events/event_date=2026-11-25/c.parquet")
    aws.put("events-csv/event_date=2026-11-21/b.csv")
    aws.put_state(closed(files=2, taken=(taken, Small("again.parquet", "before"))))
    return aws


def test_files_of_closed_and_open_dates_are_printed_with_those_that_came_late(filled, run):
    status, printed, said = run("files", "--since", "2026-11-20", "--until", "2026-11-21")
    assert (status, printed.splitlines()) == (
        0,
        [
            "s3://the-lake-bucket/closed/event_date=2026-11-20/0001-abc/0000-00.parquet",
            "s3://the-lake-bucket/closed/event_date=2026-11-20/0001-abc/0001-00.parquet",
            "s3://the-lake-bucket/events/event_date=2026-11-20/again.parquet",
            "s3://the-lake-bucket/events/event_date=2026-11-20/late.parquet",
            "s3://the-lake-bucket/events/event_date=2026-11-21/b.parquet",
        ],
    )
    assert said.splitlines() == [
        "2026-11-20  closed, version 0001-abc: 2 files, and 2 that came late",
        "2026-11-21  open: 1 files",
    ]


def test_files_are_told_apart_in_the_document(filled, run):
    _, printed, _ = run("files", "--since", "2026-11-20", "--json")
    first, second, third = json.loads(printed)["dates"]
    assert (first["version"], first["exact"], first["rows"], len(first["files"]), len(first["late"])) == (
        "0001-abc",
        True,
        6,
        2,
        2,
    )
    assert (second["event_date"], second["version"], second["late"]) == ("2026-11-21", None, [])
    assert third["files"] == ["s3://the-lake-bucket/events/event_date=2026-11-25/c.parquet"]


def test_files_of_csv_are_those_that_the_table_shows(filled, run):
    filled.parameters["OutputFormat"] = "CSV"
    assert run("files", "--since", "2026-11-01")[1] == "s3://the-lake-bucket/events-csv/event_date=2026-11-21/b.csv\n"


# --- status ---


def make_table(aws: Account) -> Partitions:
    glue = aws.made("glue")
    glue.create_database(DatabaseInput={"Name": DATABASE})
    storage = {"Columns": [{"Name": "type", "Type": "string"}], "Location": f"s3://{LAKE}/events/"}
    keys = [{"Name": "event_date", "Type": "date"}]
    table = {"Name": "events", "StorageDescriptor": storage, "PartitionKeys": keys}
    glue.create_table(DatabaseName=DATABASE, TableInput=table)
    return Partitions.read(glue, DATABASE) or pytest.fail("no table")


def status_of(run: Callable[..., tuple[int, str, str]]) -> tuple[dict[str, str], dict[str, Any]]:
    text = {line[:14].strip(): line[14:] for line in run("status")[1].splitlines()}
    return text, json.loads(run("status", "--json")[1])


@pytest.fixture
def few_lines(monkeypatch) -> None:
    """Those that are about the table's dates; the others ask for more than this account has."""
    wanted = ("rows", "table", "dates_closed", "maintenance")
    for name in vars(operate.status).copy():
        if name not in wanted and name in OTHER_LINES:
            monkeypatch.setattr(operate.status, name, lambda stack: operate.status.Line("", None))
    monkeypatch.setattr(
        Stack, "description", lambda self: self.client("cloudformation").describe_stacks(self.name)["Stacks"][0]
    )


OTHER_LINES = ("deployment", "front_door", "senders", "credentials", "last_batch", "queue", "dead_letters")
OTHER_LINES += ("quarantined", "errors", "alarms", "dashboard")


def test_status_shows_open_closed_and_overdue_dates_and_those_without_a_partition(filled, run, few_lines):
    table = make_table(filled)
    today = datetime.now(UTC).date()
    table.register({DAY: f"s3://{LAKE}/closed/event_date={DAY}/0001-abc/"})
    table.register({today + timedelta(days=days): f"s3://{LAKE}/events/event_date={today}/" for days in range(25)})
    filled.put(f"events/event_date={today}/a.parquet")
    filled.put_state(closed(taken=(), files_gone=2, attempt=Attempt("0002", "0001-abc", [])))
    text, facts = status_of(run)
    assert text["rows"].startswith("4 days in PARQUET")
    assert text["table"] == (
        "26 dates registered, 24 days ahead; 2 WITHOUT A PARTITION, not visible until the next hour or"
        " `close --register`: 2026-11-21, 2026-11-25"
    )
    assert facts["table"] == {
        "registered": 26,
        "ahead_days": 24,
        "without_partition": ["2026-11-21", "2026-11-25"],
    }
    assert text["dates"] == (
        "3 open, 1 closed, the newest 2026-11-20 (at 2026-11-21 12:00 UTC); 1 being closed;"
        f" {len(facts['dates']['overdue'])} OVERDUE, the oldest 2026-11-21: see `close --date`;"
        " FILES WERE GONE before they were read, of 2026-11-20: see `replay`"
    )
    assert facts["dates"]["overdue"][0] == "2026-11-21"
    assert text["maintenance"] == "nothing is at work"


def test_status_counts_days_whose_small_files_are_deleted(aws, run, few_lines):
    make_table(aws)
    aws.put(f"closed/event_date={DAY}/0001-abc/0000-00.parquet")
    assert status_of(run)[0]["rows"] == "1 days in PARQUET"


def test_status_names_who_is_at_work(aws, run, few_lines):
    make_table(aws)
    until = datetime.now(UTC) + timedelta(minutes=9)
    aws.hold("erase 1234", until)
    text, facts = status_of(run)
    assert text["maintenance"] == f"at work is erase, until {until:%H:%M} UTC at the latest"
    assert facts["maintenance"]["owner"] == "erase"


def test_status_says_that_the_table_is_gone(aws, run, few_lines):
    aws.made("glue").create_database(DatabaseInput={"Name": DATABASE})
    assert status_of(run)[0]["table"] == "there is no table events: deploy the stack again"


# --- The lease of an erasure ---


@pytest.fixture
def stack(aws, monkeypatch) -> Stack:
    monkeypatch.setattr(lease, "RENEWED_AFTER_SECONDS", 0.05)
    return Stack("bird-webhooks", aws.client, 0)


def test_an_erasure_that_is_killed_keeps_the_lease_for_minutes_and_one_at_work_renews_it(aws, stack):
    with lease.no_maintenance(stack, "erase"):
        first = aws.lease()
        assert first.owner.startswith("erase ")
        assert timedelta(minutes=9) < first.until - datetime.now(UTC) <= timedelta(minutes=10)
        deadline = time.monotonic() + 10
        while (renewed := aws.lease()).until == first.until and time.monotonic() < deadline:
            time.sleep(0.02)
        assert renewed.until > first.until
    assert aws.lease().until <= datetime.now(UTC)
    assert lease.holder(stack) is None


def test_an_erasure_whose_lease_was_taken_meanwhile_says_so(aws, stack):
    def taken() -> None:
        with lease.no_maintenance(stack, "erase"):
            aws.hold("maintenance 1", datetime.now(UTC) + timedelta(minutes=5))
            for thread in [one for one in threading.enumerate() if "keep" in one.name]:
                thread.join(10)

    with pytest.raises(OperateError, match="this machine stood still for minutes"):
        taken()
    assert aws.lease().owner == "maintenance 1", "it stays the other's"


def test_a_renewal_whose_answer_was_lost_is_still_ours(aws, stack):
    held = lease._waited_for(stack, "erase")
    before = held.etag
    held.renew()
    held.etag = before  # as if the answer had not come
    held.renew()
    held.renew()
    assert not held.lost


def test_a_second_erasure_waits_for_the_first(aws, stack, monkeypatch):
    monkeypatch.setattr(lease, "WAIT_SECONDS", 0.1)
    with (
        lease.no_maintenance(stack, "erase"),
        pytest.raises(OperateError, match=r"at work is erase, until \d\d:\d\d UTC at the latest: give the command"),
        lease.no_maintenance(stack, "erase"),
    ):
        pytest.fail("two at once")
