"""An erasure from closed dates: the next version and a move, as the table's maintenance makes one."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from arro3.io import read_parquet

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import erase
from bird_webhooks.stack import Stack
from process import close_day, day_state, maintenance
from process.close_day import Limits
from tests.integration.test_maintenance import CLOSED, DATABASE, LAKE, NOW, LakeUnderTest, lake, numbered

__all__ = ["lake"]  # a fixture

PERSON, OTHER = "gone@example.com", "other@example.com"
LATER = NOW + timedelta(days=16)  # the small files' time is over


class Interrupted(Exception):  # noqa: N818
    """What a closed laptop is to a command."""


class Fragile:
    """The account, whose n-th change is never made."""

    changes = ("put_object", "copy_object", "delete_object", "complete_multipart_upload", "batch_update_partition")

    def __init__(self, clients: dict[str, Any]) -> None:
        self.clients, self.left = clients, 10**9

    def client(self, service: str) -> Any:
        account = self

        class Client:
            def __getattr__(self, name: str) -> Any:
                real = getattr(account.clients[service], name)
                return account.counted(real) if name in account.changes else real

        return Client()

    def counted(self, real: Any) -> Any:
        def change(**request: Any) -> Any:
            # The lease is given back by a program that is interrupted, too.
            if "lease" not in request.get("Key", ""):
                self.left -= 1
                if self.left <= 0:
                    raise Interrupted
            return real(**request)

        return change


FILES = 4


@pytest.fixture
def account(s3, lake, monkeypatch) -> Fragile:
    outputs = {"RawBucketName": "raw-bucket", "LakeBucketName": LAKE, "GlueDatabaseName": DATABASE}
    monkeypatch.setattr(Stack, "outputs", outputs)
    monkeypatch.setattr(Stack, "parameters", {"RawPrefix": "raw", "OutputFormat": "PARQUET"})
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    made = Fragile({"s3": s3, "glue": lake.glue})
    monkeypatch.setattr(operate, "deployed", lambda *_: Stack("bird-webhooks", made.client, 0))
    return made


def run() -> int:
    return operate.main(["erase", "--address", PERSON, "--settle", "0", "--yes"])


def fill(lake: LakeUnderTest, *, small_files: bool = False) -> None:
    """A closed date of several files, one of which holds the person."""
    for number in range(FILES):
        lake.put(CLOSED, f"a{number}", numbered(4, first=4 * number), rcpt_to=OTHER)
    lake.put(CLOSED, "b", [f"{99:018}"], rcpt_to=PERSON)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(close_day, "JOINED_AT_ONCE", 2)
        lake.run(limits=Limits(held_bytes=10_000, slice_bytes=6_000, part_bytes=5_000))
    if not small_files:
        lake.run(LATER)
        assert lake.keys("events/") == []
    lake.messages()
    lake.sent.discard((CLOSED, f"{99:018}"))


def holders(lake: LakeUnderTest) -> list[str]:
    bodies = {key: lake.s3.get_object(Bucket=LAKE, Key=key)["Body"].read() for key in lake.keys("")}
    return [
        key
        for key, body in bodies.items()
        if key.endswith(".parquet") and PERSON in read_parquet(body).read_all()["rcpt_to"].to_pylist()
    ]


def maintain(lake: LakeUnderTest, now: datetime) -> maintenance.Run:
    """A run of that time. S3 says that every state was written today, so no earlier run may count."""
    lake.s3.delete_object(Bucket=LAKE, Key=maintenance.LOOKED)
    return lake.run(now)


def test_a_closed_date_gets_its_next_version_without_the_person_and_readers_are_sent_there(lake, account, tmp_path):
    fill(lake)
    before = lake.state(CLOSED)
    [holding] = holders(lake)
    assert run() == 0
    # THEN nothing of the person is left, and all others are where readers look
    assert holders(lake) == []
    assert lake.events(tmp_path) == lake.sent
    state = lake.state(CLOSED)
    assert state.current
    assert before.current
    assert state.current.exact is before.current.exact
    assert state.current.name.startswith("0002-")
    assert lake.location(CLOSED) == state.location == f"closed/event_date={CLOSED}/{state.current.name}/"
    # AND the state tells the truth of it
    assert (state.rows, state.attempt) == (4 * FILES, None)
    listed = lake.s3.list_objects_v2(Bucket=LAKE, Prefix=state.location)["Contents"]
    assert {item["Key"].removeprefix(state.location): item["Size"] for item in listed} == {
        file.name: file.bytes for file in state.current.files
    }
    # AND what is not the person's stays for readers who are still at the version before, for a day
    kept = {f"{before.location}{file.name}" for file in before.current.files} - {holding}
    assert set(lake.keys(before.location)) == kept != set()
    # AND the maintenance announces the version, and deletes the rest of the one before
    maintain(lake, LATER + timedelta(hours=1))
    assert [(one["version"], one["rows"]) for one in lake.messages()] == [(state.current.name, 4 * FILES)]
    maintain(lake, LATER + timedelta(days=2))
    assert lake.keys("closed/") == lake.keys(state.location)
    assert lake.messages() == []


def test_a_query_that_has_asked_where_a_date_lies_finds_its_files_until_the_wait_is_over(lake, account, monkeypatch):
    fill(lake)
    before = lake.location(CLOSED)
    files = lake.keys(before)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert lake.location(CLOSED) != before
        assert lake.keys(before) == files

    monkeypatch.setattr(erase.time, "sleep", wait)
    assert run() == 0
    assert waits == [0]
    assert holders(lake) == []


def test_a_date_of_which_no_row_is_left_has_a_version_without_files(lake, account, tmp_path):
    lake.put(CLOSED, "a", numbered(3), rcpt_to=PERSON)
    maintain(lake, NOW)
    lake.messages()
    lake.sent.clear()
    assert run() == 0
    assert lake.keys("closed/") == lake.keys("events/") == []
    assert lake.events(tmp_path) == set()
    assert (lake.state(CLOSED).rows, lake.location(CLOSED)) == (0, lake.state(CLOSED).location)
    # THEN it is announced, however late the function runs
    maintain(lake, LATER)
    [message] = lake.messages()
    assert (message["files"], message["rows"]) == ([], 0)
    # AND what comes later makes the next version
    lake.put(CLOSED, "b", numbered(2, first=50), rcpt_to=OTHER)
    maintain(lake, LATER)
    assert lake.events(tmp_path) == lake.sent


@pytest.mark.parametrize(
    ("maintained", "steps"),
    [
        pytest.param(True, (6,), id="after the maintenance"),
        pytest.param(True, range(1, 60), id="after the maintenance, each step", marks=pytest.mark.nightly),
        pytest.param(False, range(1, 60), id="given again, each step", marks=pytest.mark.nightly),
    ],
)
def test_whatever_step_it_dies_at_readers_are_right_and_the_next_erasure_ends_it(
    lake, account, tmp_path, maintained, steps
):
    fill(lake, small_files=True)
    person = (CLOSED, f"{99:018}")
    for last in steps:  # of some thirty; each takes seconds
        account.left = last
        try:
            status = run()
        except Interrupted:
            assert lake.sent <= lake.events(tmp_path) <= lake.sent | {person}
            if maintained:
                maintain(lake, NOW + timedelta(minutes=last))
                assert lake.sent <= lake.events(tmp_path) <= lake.sent | {person}
            continue
        assert status == 0
        break
    assert last > 5
    account.left = 10**9
    assert run() == 0
    assert holders(lake) == []
    assert lake.events(tmp_path) == lake.sent
    # AND no file stays that no state names
    maintain(lake, LATER)
    maintain(lake, LATER + timedelta(days=2))
    assert lake.keys("closed/") == lake.keys(lake.location(CLOSED))
    assert lake.state(CLOSED).attempt is None
    assert lake.messages()[-1]["version"] == lake.state(CLOSED).current.name
    assert lake.events(tmp_path) == lake.sent


@pytest.mark.nightly
def test_a_version_that_was_on_its_way_is_given_up(lake, account, tmp_path):
    fill(lake)
    lake.put(CLOSED, "c", numbered(2, first=60), rcpt_to=OTHER)
    found = lake.files.state(CLOSED)
    late = lake.files.small_files(f"events/event_date={CLOSED}/")
    day_state.begin(found.value, late, 1)
    lake.files.write_state(found.value, found.etag)
    assert run() == 0
    assert lake.state(CLOSED).attempt is None
    maintain(lake, LATER)
    assert lake.events(tmp_path) == lake.sent
    assert holders(lake) == []


@pytest.mark.nightly
def test_a_closed_file_that_is_lost_stops_no_erasure_but_still_its_date(lake, account):
    fill(lake)
    [holding] = holders(lake)
    lost = next(key for key in lake.keys("closed/") if key != holding)
    lake.s3.delete_object(Bucket=LAKE, Key=lost)
    assert run() == 0
    assert holders(lake) == []
    lake.put(CLOSED, "c", numbered(2, first=60), rcpt_to=OTHER)
    failed = maintain(lake, LATER)
    assert list(failed.reasons) == [CLOSED]


@pytest.mark.nightly
def test_a_file_that_no_state_names_is_written_again_where_it_is(lake, account):
    """Its state is lost, so it cannot be told whether readers are sent there."""
    fill(lake)
    place = lake.location(CLOSED)
    lake.s3.delete_object(Bucket=LAKE, Key=day_state.state_key(CLOSED))
    keys = lake.keys(place)
    [holding] = holders(lake)
    assert run() == 0
    assert holders(lake) == []
    assert lake.location(CLOSED) == place
    assert set(lake.keys(place)) >= {*keys} - {holding}
