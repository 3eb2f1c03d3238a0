"""Events without an id: whether the same import has brought one before, in other bytes."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from bird_webhooks.moving import forms
from bird_webhooks.moving.lake_rows import LakeRows
from bird_webhooks.moving.twins import Twins

KEY = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:hash-key"


class OfAStack:
    def __init__(self, **parameters: str) -> None:
        self.given, self.secrets_read = parameters, 0

    @property
    def parameters(self) -> dict[str, str]:
        return self.given

    def output(self, name: str) -> str:
        return {"HashKeyArn": KEY}[name]

    def secret_text(self, name: str) -> str:
        self.secrets_read += 1
        return "key"


@contextmanager
def twins(**parameters: str) -> Iterator[Twins]:
    stack: Any = OfAStack(**parameters)
    with closing(Twins(stack, lambda: None)) as made:
        yield made


def found(element: bytes) -> forms.Found:
    at = 1_762_160_400_000
    return forms.Found(element, "message_event", "sms_status", at, (), "7", True, False, forms.Row())


def sms(text: str, *, reverse: bool = False) -> forms.Found:
    event = {"type": "sms_status", "customer_id": "7", "timestamp": "1762160400", "sms_text": text}
    if reverse:
        event = dict(reversed(event.items()))
    return found(json.dumps({"msys": {"message_event": event}}).encode())


def test_other_bytes_of_an_event_came_before_and_its_own_bytes_have_its_own_key():
    asked = [sms("a"), sms("b"), sms("a"), sms("a", reverse=True), sms("a"), sms("c", reverse=True), sms("c")]
    with twins() as known:
        assert [known.came_before(one) for one in asked] == [False, False, False, True, False, False, True]


@pytest.mark.parametrize("parameters", [{}, {"HashFields": "sms_text"}])
def test_each_event_is_made_a_row_once_however_many_are_of_its_second(monkeypatch, parameters):
    """A campaign sends thousands of text messages in a second: each beside all others would take hours."""
    made = []
    of_elements = LakeRows.of_elements
    monkeypatch.setattr(LakeRows, "of_elements", lambda rows, *given: made.append(1) or of_elements(rows, *given))
    with twins(**parameters) as known:
        assert not any(known.came_before(sms(str(number))) for number in range(20))
        assert (len(made), known.stack.secrets_read) == (20, len(parameters))


def test_an_event_of_which_process_makes_no_row_is_no_reason_to_leave_its_object():
    """Too damaged: it is stored as it is, and quarantined."""
    event = b'{"msys":{"message_event":{"type":"sms_status","timestamp":"1762160400","s":"%b%d"}}}'
    damaged = [found(event % (b"\x01" * 500_001, number)) for number in range(2)]
    with twins() as known:
        assert list(map(known.came_before, damaged)) == [False, False]
