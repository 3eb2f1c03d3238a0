"""Alerts: what is told, to whom, and that it is told once."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from report import alerts
from report.athena import Athena
from report.queries import Period
from report.rules import DEFAULTS, thresholds
from tests.report_answers import group, overlap

NOW = datetime(2026, 11, 26, 6, 20, 5, tzinfo=UTC)
QUIET = {"groups": [group("all", "", delivered=5000)], "overlaps": []}
TROUBLE = {
    "groups": [
        group("all", "", delivered=5000, in_band=300, block=300),
        group("provider", "GMX", delivered=200, in_band=300, block=300, delivered_before=900, block_before=9),
        group("campaign", "for jane.doe@example.com", delivered=480, in_band=20, block=20),
    ],
    "overlaps": [overlap({"blocked": 300}, provider="GMX")],
}


class Sns:
    def __init__(self) -> None:
        self.messages = []

    def publish(self, **message):
        if message["TopicArn"] == "gone":
            raise ConnectionError("no topic")
        self.messages.append(message)


class Events:
    def __init__(self) -> None:
        self.entries = []

    def put_events(self, Entries):  # noqa: N803
        if Entries[0]["EventBusName"] == "full":
            return {"FailedEntryCount": len(Entries)}
        self.entries.extend(Entries)
        return {"FailedEntryCount": 0}


@pytest.fixture
def told():
    return {"sns": Sns(), "events": Events()}


@pytest.fixture
def run(s3, told, monkeypatch):
    """`run(answers, at=…)`: one run at that time, with these answers of Athena; what it returned, and its messages."""
    make = boto3.client
    monkeypatch.setattr(boto3, "client", lambda name: told.get(name) or make(name, "eu-west-1"))
    for name, value in {
        "ATHENA_WORKGROUP": "a",
        "GLUE_DATABASE": "a",
        "STACK_NAME": "my-stack",
        "THRESHOLDS": "",
        "ALARM_TOPIC_ARN": "topic",
        "EVENT_BUS_NAME": "",
    }.items():
        monkeypatch.setenv(name, value)

    def once(answers, at=NOW):
        class Clock(datetime):
            @classmethod
            def now(cls, zone=None):
                return at

        monkeypatch.setattr(alerts, "datetime", Clock)
        monkeypatch.setattr(Athena, "rows", lambda self, statements: {name: answers[name] for name in statements})
        said = alerts.lambda_handler({}, None)
        messages, told["sns"].messages = told["sns"].messages, []
        return said, messages

    return once


def test_without_trouble_nothing_is_told(run):
    assert run(QUIET) == ({"found": 0, "told": 0}, [])


def test_a_trouble_is_told_with_what_where_since_when_and_what_to_do(run):
    said, [message] = run(TROUBLE)
    assert said == {"found": 1, "told": 1}
    assert message["Subject"] == "my-stack: 1 deliverability alert"
    text = message["Message"]
    assert text.startswith(
        "Mailbox provider GMX: 60.0 % blocked (300 of 500 sent) from 25 Nov 2026, 06:00 to 26 Nov 2026, 06:00 UTC. "
        "The rest of the mail: 0.00 %. The 24 hours before: 1.00 %.\nWhat to do: Read the reasons"
    )
    assert "AND mailbox_provider = 'GMX'" in text
    assert "jane.doe" not in text


def test_the_longest_name_of_a_stack_leaves_a_subject_that_sns_takes(run, monkeypatch):
    monkeypatch.setenv("STACK_NAME", "s" * 128)
    _, [message] = run(TROUBLE)
    assert message["Subject"] == "s" * 99


def test_it_is_told_once_and_again_after_two_days_without_it(run, s3):
    assert run(TROUBLE)[0]["told"] == 1
    for hours in (1, 24, 48, 72):
        assert run(TROUBLE, NOW + timedelta(hours=hours)) == ({"found": 1, "told": 0}, [])
    state = json.loads(s3.get_object(Bucket="lake-bucket", Key="alerts/state.json")["Body"].read())
    assert state == {
        "blocked|provider||GMX": {"since": "2026-11-26T06:20:05+00:00", "last": "2026-11-29T06:20:05+00:00"}
    }
    assert run(QUIET, NOW + timedelta(hours=96))[0] == {"found": 0, "told": 0}
    assert run(TROUBLE, NOW + timedelta(hours=97))[0]["told"] == 0  # it was away for a day only
    assert run(QUIET, NOW + timedelta(hours=168))[0]["found"] == 0
    assert run(TROUBLE, NOW + timedelta(hours=169))[0]["told"] == 1


def many(first, last):
    """Troubles of so many providers, each worse than the next."""
    return {
        "groups": [
            group("all", "", delivered=50_000_000, in_band=60_000, block=60_000),
            *(
                group("provider", f"p{number}.example.com", delivered=200, in_band=900 - number, block=900 - number)
                for number in range(first, last)
            ),
        ],
        "overlaps": [],
    }


def test_fifty_lasting_troubles_hide_no_new_one(run):
    assert run(many(0, 50))[0] == {"found": 50, "told": 50}
    said, [message] = run(many(0, 51), NOW + timedelta(days=1))
    assert said == {"found": 51, "told": 1}
    assert message["Message"].startswith("Mailbox provider p50.example.com: ")


def test_what_is_over_fifty_is_told_by_the_next_run(run):
    assert run(many(0, 60))[0] == {"found": 60, "told": 50}
    assert run(many(0, 60), NOW + timedelta(days=1))[0] == {"found": 60, "told": 10}
    assert run(many(0, 60), NOW + timedelta(days=2))[0] == {"found": 60, "told": 0}


def test_an_hourly_run_forgets_nothing_of_the_rules_that_it_does_not_ask(run):
    complaints = {
        "groups": [
            group("all", "", delivered=9000, reported=9000, complaints=45),
            group("campaign", "Win back", delivered=900, reported=900, complaints=45),
        ],
        "overlaps": [overlap({"complaint": 45}, campaign="Win back")],
    }
    assert run(complaints)[0]["told"] == 1
    assert run(QUIET, NOW + timedelta(days=3, hours=5))[0] == {"found": 0, "told": 0}
    assert run(complaints, NOW + timedelta(days=4))[0]["told"] == 0


def test_what_was_not_published_is_told_by_the_next_try(run, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setenv("ALARM_TOPIC_ARN", "gone")
        with pytest.raises(ConnectionError):
            run(TROUBLE)
    assert run(TROUBLE)[0]["told"] == 1


def test_a_state_that_cannot_be_read_is_begun_again(run, s3):
    for body in (b"not JSON", b"[]", b'{"a": 1}', b'{"a": {"since": "x"}}'):
        s3.put_object(Bucket="lake-bucket", Key="alerts/state.json", Body=body)
        assert run(TROUBLE)[0] == {"found": 1, "told": 1}


def test_each_trouble_is_an_event_on_the_bus(run, told, monkeypatch):
    monkeypatch.setenv("EVENT_BUS_NAME", "full")
    with pytest.raises(RuntimeError, match="1 alerts were not taken by the event bus"):
        run(TROUBLE)
    monkeypatch.setenv("EVENT_BUS_NAME", "bus")
    assert run(TROUBLE)[0]["told"] == 1
    [sent] = told["events"].entries
    assert (sent["Source"], sent["DetailType"]) == ("bird-webhooks", "Bird Deliverability Alert")
    detail = json.loads(sent["Detail"])
    assert (
        detail.items()
        >= {
            "rule": "blocked",
            "dimension": "provider",
            "name": "GMX",
            "affected": 300,
            "of": 500,
            "percent": 60.0,
            "percent_before": 1.0,
            "since": "2026-11-25T06:00Z",
            "until": "2026-11-26T06:00Z",
        }.items()
    )


def test_at_six_all_rules_look_at_a_day_and_else_blocks_and_delays_at_six_hours():
    at_six = datetime(2026, 11, 26, 6, tzinfo=UTC)
    assert alerts.asked({}, NOW) == (Period(at_six - timedelta(days=1), at_six), [*DEFAULTS.by_name])
    assert alerts.asked({}, NOW + timedelta(hours=7)) == (
        Period(at_six + timedelta(hours=1), at_six + timedelta(hours=7)),
        ("blocked", "delayed"),
    )
    by_hand = {"hours": 2, "until": "2026-11-24T06:00", "rules": ["hard"]}
    until = datetime(2026, 11, 24, 6, tzinfo=UTC)
    assert alerts.asked(by_hand, NOW) == (Period(until - timedelta(hours=2), until), ["hard"])
    for wrong in ({"hours": 0}, {"hours": 337}, {"hours": 1, "rules": ["spam"]}):
        with pytest.raises(ValueError, match="hours: 1 to 336"):
            alerts.asked(wrong, NOW)


def test_its_thresholds_are_those_of_the_report():
    assert alerts.only(thresholds("blocked=2/10 least_volume=9"), ["blocked"]).rules[0].act == 10
