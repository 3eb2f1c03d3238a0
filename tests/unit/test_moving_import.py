"""`import` of one folder without AWS: whom it leaves out, what it refuses, and what it counts, in a dry run."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bird_webhooks.moving.importing import Choice, Import
from bird_webhooks.moving.ledger import Ledger
from bird_webhooks.moving.sources import Folder
from process.tombstones import Tombstones, name

KEY = b"k" * 32
GONE = Tombstones(KEY, {name("gone@example.com", KEY): datetime(2026, 1, 1, tzinfo=UTC)})
NOBODY = Tombstones(KEY, {})


class Stack:
    """What a dry run asks a stack for."""

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
    ],
)
def test_an_erased_person_is_left_out_wherever_an_event_names_them(tmp_path, body):
    events = imported(tmp_path, {"one.json": body}, GONE).events
    assert (events["erased"], events["imported"], events["refused"]) == (1, 0, 0)


def test_what_an_erased_person_did_afterwards_is_imported(tmp_path):
    later = event(type="delivery", msg_from="gone@example.com", timestamp=1768000000)
    assert imported(tmp_path, {"one.json": later}, GONE).events["imported"] == 1
