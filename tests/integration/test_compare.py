"""`compare`: what an old source and the stack have of a time, event by event and value by value."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.moving import forms
from bird_webhooks.operate import tombstone
from maintain.generate.events import created, sqs
from process import app
from process.tombstones import Tombstones, name
from tests.integration.test_import import CORPUS, RAW, aws  # noqa: F401  # the fixture

SINCE, UNTIL = "2025-11-03T09:00", "2025-11-03T10:00"


def element(event_id: str, moment: int = 1762160400, **fields) -> dict:
    common = {"type": "bounce", "customer_id": "7", "event_id": event_id, "timestamp": str(moment)}
    return {"msys": {"message_event": {**common, **fields}}}


@pytest.fixture
def compare(aws, capsys, tmp_path):  # noqa: F811
    def command(old: list[dict], new: list[dict], *arguments: str) -> tuple[int, list[str]]:
        (tmp_path / "old.json").write_text(json.dumps(old))
        aws.s3.put_object(Bucket=RAW, Key="raw/new.json", Body=json.dumps(new))
        app.lambda_handler(sqs({"Records": [created("raw/new.json")]}), None)
        given = ["--with", str(tmp_path), "--since", SINCE, "--until", UNTIL, *arguments]
        status = operate.main(["compare", *given])
        return status, capsys.readouterr().out.splitlines()

    return command


def test_equal_events_are_counted_by_hour_and_type(compare):
    both = [element("1"), element("2"), element("3", type="delivery")]
    assert compare(both, both) == (
        0,
        [
            "hour (UTC)    type                          both    only old    only new",
            "2025-11-03T09 bounce                           2           0           0",
            "2025-11-03T09 delivery                         1           0           0",
            "equal: both have the same 3 events",
        ],
    )


def test_what_one_side_lacks_is_named_with_its_batch(compare, tmp_path):
    status, said = compare([element("1"), element("2")], [element("1"), element("3")])
    assert status == 1
    assert said[2:] == [
        f"only in the old source: 2 (bounce, 2025-11-03T09) in {tmp_path}/old.json",
        "only in the stack: 3 (bounce, 2025-11-03T09) in new",
        "not equal: 1 events are in both, 1 only in the old source, 1 only in the stack, 0 values differ",
    ]


def test_an_object_whose_name_is_not_utf_8_is_compared(compare, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")
    Path(odd).write_text(json.dumps([element("2")]))
    status, said = compare([element("1")], [element("1")])
    assert (status, said[2]) == (1, f"only in the old source: 2 (bounce, 2025-11-03T09) in {tmp_path}/caf?.json")


def test_a_value_that_differs_is_shown_but_no_address(compare):
    old = element("1", reason="gone", rcpt_to="first@example.com", rcpt_meta={"a": 1, "b": 2})
    new = element("1", reason="away", rcpt_to="second@example.com", rcpt_meta={"b": 2, "a": 1}, subject="Hello")
    status, said = compare([old], [new])
    assert status == 1
    assert said[2:] == [
        "rcpt_to of 1 differs: (not shown, 17 characters) in the old source, (not shown, 18 characters) in the stack",
        "reason of 1 differs: gone in the old source, away in the stack",
        "subject: 1 values only in the stack",
        "not equal: 1 events are in both, 0 only in the old source, 0 only in the stack, 2 values differ",
    ]


def test_the_edges_are_judged_by_the_events_own_time(compare):
    inside, before, at_the_end = element("1"), element("2", 1762160399), element("3", 1762164000)
    status, said = compare([inside, before], [inside, at_the_end])
    assert (status, said[-1]) == (0, "equal: both have the same 1 events")


def test_a_time_of_another_zone_reads_the_dates_of_utc(compare):
    """14:00 UTC is three o'clock of the next date in Auckland."""
    both = [element("1", 1762160400 + 5 * 3600)]
    times = ["--since", "2025-11-04T03:00+13:00", "--until", "2025-11-04T04:00+13:00"]
    assert compare(both, both, *times)[1][-1] == "equal: both have the same 1 events"


def test_what_cannot_be_read_is_no_proof(compare, tmp_path):
    (tmp_path / "guide.csv").write_bytes((CORPUS / "refused--guide.csv").read_bytes())
    status, said = compare([element("1")], [element("1")])
    assert status == 1
    assert said[-2].startswith(f"not compared: {tmp_path}/guide.csv: columns do not fit the header")


def test_rows_in_csv_are_compared_value_for_value(compare, aws, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OUTPUT_FORMAT", "CSV")
    aws.parameters["OutputFormat"] = "CSV"
    text = {"subject": 'a "quoted", text', "rcpt_meta": {"a": "1,2"}, "campaign_id": "=1+1", "raw_reason": "é\n\\ %41"}
    numbers = {
        "msg_size": "1337",
        "open_tracking": True,
        "geo_ip": {"latitude": 52.5, "zip": 10115},
        "num_retries": "0",
    }
    whole = element("1", injection_time="2025-11-03T08:59:58.123Z", unknown={"x": [1.50]}, **text, **numbers)
    assert compare([whole], [whole])[1][-1] == "equal: both have the same 1 events"
    status, said = compare([whole, element("2", bounce_class="10")], [whole, element("2", bounce_class="22")])
    assert (status, said[2]) == (1, "bounce_class of 2 differs: 10 in the old source, 22 in the stack")


def test_of_copies_the_one_that_the_view_shows_is_compared(compare, aws):  # noqa: F811
    """GIVEN an event that an import brought first, without a value THEN the stack has it as its queries show it."""
    metadata = {"received-at": "2025-11-03T09:30:00.000+00:00"}
    aws.s3.put_object(Bucket=RAW, Key="raw/early.json", Body=json.dumps([element("1")]), Metadata=metadata)
    app.lambda_handler(sqs({"Records": [created("raw/early.json")]}), None)
    with_reason = [element("1", reason="gone")]
    status, said = compare(with_reason, with_reason)
    assert (status, said[2]) == (1, "reason: 1 values only in the old source")


def test_events_of_erased_persons_are_left_out_and_counted(compare, monkeypatch):
    key = b"k" * 32
    erased = Tombstones(key, {name("gone@example.com", key): datetime(2026, 1, 1, tzinfo=UTC)})
    monkeypatch.setattr(tombstone, "read_all", lambda stack: erased)
    status, said = compare([element("1"), element("2", rcpt_to="Gone@example.com")], [element("1")])
    assert (status, said[2]) == (0, "equal: both have the same 1 events; 1 events of erased persons are left out")


def test_as_json(compare):
    status, said = compare([element("1")], [], "--json")
    document = json.loads("\n".join(said))
    assert (status, document["equal"]) == (1, False)
    assert document["by_hour"] == [{"hour": "2025-11-03T09", "type": "bounce", "both": 0, "only_old": 1, "only_new": 0}]
    assert document["only_old"][0]["event"] == "1"


def test_an_object_that_breaks_the_reading_is_named_and_not_equal(compare, tmp_path, monkeypatch):
    def read(*given):
        raise KeyError("person@example.com")

    monkeypatch.setattr(forms, "read", read)
    status, said = compare([element("1")], [])
    assert status == 1
    assert said[0] == f"not compared: {tmp_path}/old.json: cannot be read, by a fault of this program: KeyError"
