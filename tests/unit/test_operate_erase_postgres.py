"""Rows that may be of many persons: a few are compared exactly, and none that mentions a person is passed over."""

import re

import pytest

from bird_webhooks.operate.erase_postgres import ENCODED, Erased, mentioned
from bird_webhooks.operate.mentions import Person
from tests.unit import test_operate_spellings as spellings
from tests.unit.test_operate_row_filter import ADDRESSES, samples

PEOPLE = [Erased(Person(address)) for address in (*ADDRESSES, *(f"other{number}@example.com" for number in range(96)))]
KNOWN = [
    (address, text)
    for name, address in (
        ("test_ways_of_writing_an_address", spellings.ADDRESS),
        ("test_encoded_and_rewritten_addresses", spellings.PERSON),
    )
    for mark in getattr(spellings, name).pytestmark
    for text in mark.args[1]
]


def is_found(text: str, person: Person) -> bool:
    """By PostgreSQL, which Python's expressions stand for here."""
    return person.certain in text.lower() or re.search(ENCODED, text) is not None


@pytest.mark.parametrize("mentions", [KNOWN, list(samples(3, 3_000))], ids=["known", "made"])
def test_who_is_named_in_a_row_is_compared_exactly(mentions):
    mentions = [(address, text) for address, text in mentions if Person(address).in_text(text)]
    assert len(mentions) > 30
    for address, text in mentions:
        assert is_found(text, Person(address)), text
        assert address in [one.person.address for one in mentioned(PEOPLE, ["", text, "other@example.org"])], text


def test_others_are_passed_over():
    texts = ["<other7@example.com>", "https://shop.example.com/?id=61&utm_source=mail", '{"a": "caf\u00e9 %41"}']
    assert [one.person.address for one in mentioned(PEOPLE, texts)] == ["other7@example.com"]
