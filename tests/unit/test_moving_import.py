"""`import` of one folder without AWS: whom it leaves out, what it refuses, and what it counts, in a dry run."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import forms, splitting
from bird_webhooks.moving.books import summary
from bird_webhooks.moving.importing import Choice, Import
from bird_webhooks.moving.ledger import Ledger
from bird_webhooks.moving.sources import Entry, Folder, Lines, Opened, source
from bird_webhooks.operate import tombstone
from process.tombstones import Tombstones, name

KEY = b"k" * 32
GONE = Tombstones(KEY, {name("gone@example.com", KEY): datetime(2026, 1, 1, tzinfo=UTC)})
NOBODY = Tombstones(KEY, {})


class Stack:
    """What a dry run asks a stack for."""

    @property
    def parameters(self) -> dict[str, str]:
        return {"RawRetentionDays": "0"}


def imported(tmp_path, objects: dict[str, bytes], erased: Tombstones = NOBODY):
    for one, body in objects.items():
        (tmp_path / one).write_bytes(body)
    stack: Any = Stack()
    run = Import(stack, Folder(tmp_path), Choice(dry_run=True), Ledger(stack), erased)
    run.run()
    return run.books


def event(**fields: Any) -> bytes:
    return json.dumps({"event_id": "1", "customer_id": 7, "timestamp": 1764000000, **fields}).encode()


def element(**fields: Any) -> bytes:
    return b'{"msys":{"message_event":%b}}' % event(**fields)


# --- Persons who were erased ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        element(type="relay_delivery", msg_from="gone@example.com"),
        element(type="delivery", rcpt_to="x@example.com", rcpt_meta={"email": "gone@example.com"}),
        element(type="click", target_link_url="https://example.com/?e=gone%40example.com"),
        element(type="delivery", rcpt_to="Gone <gone@example.com>"),
        event(type="delivery", rcpt_meta={"email": "gone@example.com"}),
        # What process repairs.
        b'[{"msys":{"message_event":{"type":"delivery","subaccount_id":007,"msg_from":"gone\\u0040example.com"}}}]',
        element(type="delivery", subject="A", msg_from="gone@example.com").replace(b'"A"', b'"\xff"'),
        # What no number holds.
        element(type="delivery", subject="A", msg_from="gone@example.com").replace(b'"A"', b"1e999"),
        element(type="delivery", subject="A", msg_from="gone@example.com").replace(b'"A"', b"9" * 5_000),
    ],
)
def test_an_erased_person_is_left_out_wherever_an_event_names_them(tmp_path, body):
    events = imported(tmp_path, {"one.json": body}, GONE).events
    assert (events["erased"], events["imported"], events["refused"]) == (1, 0, 0)


def test_what_an_erased_person_did_afterwards_is_imported(tmp_path):
    later = event(type="delivery", msg_from="gone@example.com", timestamp=1768000000)
    assert imported(tmp_path, {"one.json": later}, GONE).events["imported"] == 1


@pytest.mark.parametrize("where", ["", "s3://", "s3:///raw/", "/no/such/folder"])
def test_a_source_that_is_none_is_refused(where):
    """An empty variable of a shell would otherwise be the folder in which it is."""
    with pytest.raises(OperateError, match=r"give s3://bucket/prefix, a folder, a file, or -$"):
        source(where, lambda: None)


# --- What is odd ------------------------------------------------------------------------------------------------------

GOOD = event(type="delivery", event_id="2")
NO_TIME = "with a time that cannot be read"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (event(type="delivery", timestamp=1764000000000000), NO_TIME),
        (event(type="delivery", timestamp="1764000000000000000"), NO_TIME),
        (event(type="delivery", timestamp="9" * 400), NO_TIME),
        (event(type="delivery", timestamp="9" * 5_000), NO_TIME),
        (b'"\xff"', "not UTF-8"),
        (event(type="delivery", rcpt_to="ren?@example.com").replace(b"?", b"\xe9"), "not UTF-8"),
        (b'{"0":{"msys":{}},"%b":1}' % (b"9" * 5_000), "not an event of Bird's"),
    ],
)
def test_an_odd_value_costs_its_line_and_not_the_import(tmp_path, odd, reason):
    books = imported(tmp_path, {"a.jsonl": odd + b"\n" + GOOD, "b.jsonl": event(type="open", event_id="3")})
    assert books.refused == [(str(tmp_path / "a.jsonl"), reason, 1, 1)]
    assert (books.events["imported"], books.objects["imported"], books.objects["refused"]) == (2, 1, 1)


def test_a_file_whose_name_is_not_utf_8_is_read_like_any_other(tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json")
    Path(odd).write_bytes(GOOD)
    books = imported(tmp_path, {"b.json": event(type="open", event_id="3")})
    assert (books.events["imported"], books.objects["imported"], books.objects["refused"]) == (2, 2, 0)
    Path(odd).write_bytes(b'"x"')
    assert [name for name, *_ in imported(tmp_path, {}).refused] == [f"{tmp_path}/caf?.json"]


@pytest.mark.parametrize(
    "time", ['"%s"' % ("9" * 400), '"%s"' % ("9" * 5_000), "1764000000000000", '{"$date":' * 990 + "null" + "}" * 990]
)
def test_an_odd_time_of_a_row_says_nothing_of_when_it_came(time):
    row = b'{"created_at":%b,"payload":[%b]}' % (time.encode(), element(type="open"))
    [found] = forms.read([row], lambda: "7")
    assert found.row.received_at is None


def test_a_received_at_without_a_zone_is_in_utc():
    row = splitting.row_of({"received-at": "2025-11-24T10:00:00"}, None)
    assert row.received_at == datetime(2025, 11, 24, 10, tzinfo=UTC)


def test_what_nobody_foresaw_costs_one_object_and_is_named_without_its_values(tmp_path, monkeypatch):
    def read(chunks, account, row):
        yield from forms_read(chunks, account, row)
        if row.batch_id:
            raise KeyError("person@example.com")

    forms_read = forms.read
    monkeypatch.setattr(forms, "read", read)
    odd = f"{'0' * 32}.json"
    books = imported(tmp_path, {odd: event(type="open"), "b.json": GOOD})
    assert books.refused == [(str(tmp_path / odd), "cannot be read, by a fault of this program: KeyError", None, 1)]
    assert books.events["imported"] == 1


def test_an_error_of_the_stack_ends_the_import(tmp_path, monkeypatch):
    def denied(run, batch, outcome):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")

    monkeypatch.setattr(Import, "_store", denied)
    with pytest.raises(ClientError):
        imported(tmp_path, {"b.json": GOOD})


# --- Counts -----------------------------------------------------------------------------------------------------------


def test_the_months_count_each_event_once_and_no_erased_person(tmp_path):
    body = event(type="open") + b"\n" + event(type="click", event_id="2", rcpt_to="gone@example.com")
    old = event(type="open", event_id="3", timestamp="1262304000")  # 2010
    books = imported(tmp_path, {"a.jsonl": body, "b.jsonl": body, "c.jsonl": old, "d.jsonl": old}, GONE)
    assert books.by_month == {("2025-11", "open"): 1, ("2010-01", "open"): 1}
    assert (books.events["imported"], books.odd_dates) == (2, 1)


# --- Large objects ----------------------------------------------------------------------------------------------------


class Endless(Lines):
    """The standard input, made piece by piece."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(BytesIO())
        self.pieces = pieces

    def open(self, entry: Entry) -> Opened:
        return Opened(self.pieces, {})


def streamed(pieces: Callable[[], Iterator[bytes]]) -> Import:
    stack: Any = Stack()
    return Import(stack, Endless(pieces()), Choice(dry_run=True), Ledger(stack), NOBODY)


def test_a_stream_is_handed_over_while_it_is_read(monkeypatch):
    monkeypatch.setattr(splitting, "MAX_ELEMENTS", 10)
    handed = []

    def pieces() -> Iterator[bytes]:
        for number in range(30):
            handed.append((run.books.messages, len(run._open)))
            yield b"".join(event(type="open", event_id=f"{number}-{one}") + b"\n" for one in range(100))

    run = streamed(pieces)
    monkeypatch.setattr(forms, "WHOLE_BYTES", 1_000)
    run.run()
    assert handed[-1] == (2, 1)
    assert (run.books.messages, run.books.batches) == (3, 300)


def test_a_file_in_any_order_makes_few_messages(monkeypatch):
    monkeypatch.setattr(splitting, "MAX_WAITING_BYTES", 20_000)
    days = [1735689600 + 86400 * ((number * 97) % 365) for number in range(1825)]
    lines = b"".join(event(type="open", event_id=str(number), timestamp=day) + b"\n" for number, day in enumerate(days))
    run = streamed(lambda: iter([lines]))
    run.run()
    assert (run.books.batches > 1500, run.books.messages) == (True, 365)


def test_many_refusals_of_one_object_are_one_line(tmp_path, capsys):
    lines = (event(type="unheard_of") + b"\n") * 1000 + event(type="open")
    books = imported(tmp_path, {"a.jsonl": lines})
    unknown = "of a type that Bird does not document: its class is not known"
    assert books.refused == [(str(tmp_path / "a.jsonl"), unknown, 1, 1000)]
    assert books.events["refused"] == 1000
    assert capsys.readouterr().out == f"refused: {tmp_path}/a.jsonl, at its value 1 (and 999 more): {unknown}\n"


def test_no_address_in_the_name_of_an_object_is_shown(tmp_path, capsys):
    books = imported(tmp_path, {"person@example.com.json": b"{"})
    assert books.refused[0][0].endswith("<address>")
    said = capsys.readouterr().out
    assert ("person" in said, "refused: " in said) == (False, True)


def test_events_without_a_time_are_said(tmp_path):
    books = imported(tmp_path, {"a.json": b'[{"msys":{"track_event":{"type":"open","event_id":"1","timestamp":"x"}}}]'})
    assert (books.untimed, books.odd_dates) == (1, 0)
    stack: Any = Stack()
    assert "1 events have no time that can be read" in list(summary(stack, books, dry_run=False))[2]


def test_who_is_erased_while_an_import_reads_is_said_and_left_out(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(event(type="open"))
    stack: Any = Stack()
    run = Import(stack, Folder(tmp_path), Choice(), Ledger(stack), NOBODY)
    monkeypatch.setattr(tombstone, "read_all", lambda stack: GONE)
    run.books.batches = 1
    assert run.erased_meanwhile() == 1
    run._erased_read_at -= 61
    run._read_erased()
    assert run.erased is GONE
