"""The command `backfill` against a stand-in for Bird, with the stack's buckets in moto and its table in memory."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.errors import OperateError
from bird_webhooks.operate import backfill
from bird_webhooks.simulator import bird_api
from bird_webhooks.stack import Stack
from process import tombstones
from reconcile.athena import QueryFailedError
from reconcile.counting import Whose

KEY = "0123456789abcdef0123456789abcdef01234567"
NOW = datetime.now(UTC).replace(second=30, microsecond=0)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TOMBSTONE_KEY = "the-key-of-a-test"


@dataclass(frozen=True)
class AtBird(Stack):
    bird: bird_api.Bird = field(kw_only=True)

    @property
    def parameters(self) -> dict[str, str]:
        return {
            "BirdApiKeySecretArn": "the-key" if self.bird.key else "",
            "BirdApiUrl": self.bird.url,
            "RawPrefix": "raw",
            "OutputFormat": "PARQUET",
        }

    @property
    def outputs(self) -> dict[str, str]:
        return {
            "RawBucketName": "raw-bucket",
            "LakeBucketName": "lake-bucket",
            "BirdWebhookId": "1",
            "TombstoneKeyArn": "the-tombstone-key",
        }

    def secret_text(self, name: str) -> str:
        return {"the-key": KEY, "the-tombstone-key": TOMBSTONE_KEY}[name]


class Nothing:
    """No rows."""

    def minutes(self, since, until, types):
        return {}

    def keys(self, since, until, types):
        return set()


@pytest.fixture
def bird():
    with bird_api.running(KEY, lambda target: None) as started:
        started.webhooks["1"] = {"events": ["delivery", "open", "sms_status", "relay_delivery"], "target": "https://x/"}
        yield started


@pytest.fixture
def command(bird, s3, monkeypatch, capsys):
    """`command("--since", "2d")`: exit status, what was printed, what was said beside it."""
    stack = AtBird("the-stack", lambda service: {"s3": s3}[service], 0.1, "https://reached.example.com", bird=bird)
    monkeypatch.setattr(operate, "deployed", lambda *names: stack)
    monkeypatch.setattr(backfill, "ours", lambda stack: Nothing())

    def run(*arguments: str) -> tuple[int, str, str]:
        status = operate.main(["backfill", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def record(bird, number: int, at: datetime, kind: str = "delivery", **more) -> None:
    event = {"type": kind, "event_id": str(10**17 + number), "timestamp": str(int(at.timestamp())), "customer_id": "7"}
    bird.recording.add("track_event" if kind == "open" else "message_event", {**event, **more})


def stored(s3) -> list[str]:
    found = s3.list_objects_v2(Bucket="raw-bucket").get("Contents", [])
    return [re.sub(r"[0-9]{8}T[0-9]{2}-(\w+)-[0-9a-f]{32}", r"<hour>-\1-<hash>", item["Key"]) for item in found]


def test_ten_days_are_stored_and_a_second_run_stores_nothing(command, bird, s3):
    for day in range(9):
        record(bird, day, NOW - day * DAY - 2 * HOUR)
    record(bird, 20, NOW - 3 * HOUR, "open")
    record(bird, 21, NOW - 3 * HOUR, "sms_status")
    record(bird, 22, NOW - 11 * DAY)
    status, printed, said = command("--since", "30d", "--yes")
    assert status == 0, said
    assert "stored    10 events, in 10 raw batches" in printed
    assert "Bird keeps events for ten days: from" in said
    assert "started by hand: this does not wait until the stack's own comparison with Bird has passed" in said
    assert "Bird's Events API cannot give these back: relay_delivery, sms_status" in said
    assert sorted(stored(s3)) == ["raw/backfill-<hour>-delivery-<hash>.json"] * 9 + [
        "raw/backfill-<hour>-open-<hash>.json"
    ]
    status, printed, said = command("--since", "9d", "--yes", "--json")
    answer = json.loads(printed)
    assert (answer["stored"], answer["batches"], answer["waiting"]) == (0, 0, 10)
    assert answer["calls"] <= 30
    assert len(stored(s3)) == 10


def test_hours_before_the_webhook_that_until_leaves_out_stay_outside_of_the_comparison(command, bird, s3):
    record(bird, 1, NOW - 9 * DAY - 12 * HOUR)
    state = json.dumps({"begins_at": f"{NOW - DAY:%Y-%m-%dT%H:00:00+00:00}"})
    s3.put_object(Bucket="lake-bucket", Key="completeness/state.json", Body=state.encode())
    until = f"{NOW - 9 * DAY:%Y-%m-%dT%H:%M}"
    status, printed, said = command("--since", "10d", "--until", until, "--yes")
    assert (status, "stored    1 events" in printed) == (0, True), said
    assert "these hours are not compared with Bird: those from --until to what is compared were left out" in said
    assert "Contents" not in s3.list_objects_v2(Bucket="lake-bucket", Prefix="completeness/imported")
    assert command("--since", "10d", "--yes")[0] == 0
    assert "Contents" in s3.list_objects_v2(Bucket="lake-bucket", Prefix="completeness/imported")


def test_a_dry_run_stores_nothing_and_asks_nothing(command, bird, s3):
    record(bird, 1, NOW - 2 * HOUR)
    status, printed, _ = command("--since", "1d", "--types", "delivery", "--dry-run")
    assert status == 0
    assert "absent    1 events, in 1 raw batches" in printed
    assert stored(s3) == []


def test_without_a_terminal_it_stores_only_with_yes(command, bird, s3):
    record(bird, 1, NOW - 2 * HOUR)
    status, _, said = command("--since", "1d")
    assert status == 1
    assert "Give --yes where no terminal can answer" in said
    assert stored(s3) == []


def test_erased_persons_are_left_out_and_counted(command, bird, s3):
    stone = tombstones.renewed(None, NOW, TOMBSTONE_KEY.encode(), [])
    name = tombstones.name("person@example.com", TOMBSTONE_KEY.encode())
    s3.put_object(Bucket="lake-bucket", Key=name, Body=tombstones.encode(stone))
    record(bird, 1, NOW - 2 * HOUR, rcpt_to="person@example.com")
    record(bird, 2, NOW - 2 * HOUR, rcpt_to="another@example.com")
    status, printed, _ = command("--since", "1d", "--yes")
    assert status == 0
    assert "erased    1 of persons who were erased: left out" in printed
    assert len(stored(s3)) == 1
    # of another key: nothing may come in
    s3.put_object(Bucket="lake-bucket", Key=name, Body=tombstones.encode(tombstones.renewed(None, NOW, b"other", [])))
    record(bird, 3, NOW - 4 * HOUR)
    status, _, said = command("--since", "1d", "--yes")
    assert status == 1
    assert "who was erased cannot be told, so nothing is filled in" in said
    assert len(stored(s3)) == 1


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        (["--types", "bounce"], lambda bird: None, "the webhook does not send bounce: it sends delivery, open"),
        (
            [],
            lambda bird: bird.grants.discard("Events Search: Read-only"),
            'lacks the grant "Events Search: Read-only"',
        ),
        ([], lambda bird: bird.down.add("events"), "Service Unavailable (HTTP 503): give the command again later"),
        ([], lambda bird: setattr(bird.recording.misbehaviour, "every_time", True), "fails a check and was not used"),
        ([], lambda bird: bird.webhooks.clear(), "Bird refused: Resource could not be found (HTTP 404)"),
        (["--calls", "2"], lambda bird: None, "stopped at --limit or --calls: give the command again, and it goes on"),
        ([], lambda bird: setattr(bird, "key", ""), "deploy it with BirdApiKeySecretArn first"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(command, bird, arguments, change, words, s3):
    for day in range(3):
        record(bird, day, NOW - day * DAY - 2 * HOUR)
    record(bird, 9, NOW - MINUTE)
    change(bird)
    status, printed, said = command("--since", "2d", "--yes", *arguments)
    assert status == 1
    assert words in said.splitlines()[-1]
    assert KEY not in printed + said


def test_events_of_another_account_than_the_webhooks_are_not_stored(command, bird, s3):
    s3.put_object(Bucket="lake-bucket", Key="completeness/calibration.json", Body=b'{"passed": true, "account": "8"}')
    record(bird, 1, NOW - 2 * HOUR)
    status, _, said = command("--since", "1d", "--yes")
    assert status == 1
    assert "fails a check and was not used: an event of another account" in said
    assert stored(s3) == []


def test_rows_of_other_accounts_and_subaccounts_hide_nothing_that_is_missing(command, bird, s3, monkeypatch):
    """A row of another account in the same minute, and one of a subaccount that the webhook does not send."""
    at = (NOW - 2 * HOUR).replace(second=0)
    here = Nothing()

    def minutes(since, until, types):
        others = here.whose != Whose("7", "-1", ("3",))
        return {(at, "delivery"): 1} if others else {}

    here.minutes = minutes
    monkeypatch.setattr(backfill, "ours", lambda stack: here)
    bird.webhooks["1"]["exception_subaccounts"] = [3]
    record(bird, 1, at)
    status, printed, said = command("--since", "1d", "--yes")
    assert status == 0, said
    assert "stored    1 events" in printed


def test_a_held_type_is_an_error_that_counts_it(command, bird):
    bird.webhooks["1"]["events"] = ["delivery", "brand_new"]
    record(bird, 1, NOW - 2 * HOUR)
    record(bird, 2, NOW - 2 * HOUR, "brand_new")
    status, printed, said = command("--since", "1d", "--yes")
    assert status == 1
    assert "stored    1 events" in printed
    assert "of a type whose class is not known, and not stored: 1 brand_new" in said


def test_a_query_that_fails_is_said_in_one_line(command, monkeypatch):
    def fails(*asked):
        raise QueryFailedError("Athena: out of patience")

    monkeypatch.setattr(Nothing, "minutes", fails)
    status, _, said = command("--since", "1d", "--yes")
    assert (status, said.splitlines()[-1]) == (
        1,
        "bird-webhooks: Athena: out of patience: what was stored until then stays; give the command again",
    )


# --- The period ---


def test_the_period_is_whole_minutes_up_to_80_minutes_ago():
    now = datetime(2026, 11, 26, 12, 0, 30, tzinfo=UTC)
    assert backfill.window(now - DAY, None, now) == (
        datetime(2026, 11, 25, 12, 1, tzinfo=UTC),
        datetime(2026, 11, 26, 10, 40, tzinfo=UTC),
    )
    begin, end = backfill.window(now - 30 * DAY, now, now)
    assert now - begin < 10 * DAY
    assert end == datetime(2026, 11, 26, 11, 59, tzinfo=UTC)
    for since, until in ((now - HOUR, None), (now - DAY, now - 2 * DAY)):
        with pytest.raises(OperateError, match="nothing to fetch"):
            backfill.window(since, until, now)
