"""A tombstone keeps away what an erased person did before, in every way of writing the address; and tells nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from process import tombstones
from process.tombstones import Tombstone, Tombstones

KEY = b"the-key-of-a-test"
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


def of(address: str) -> Tombstones:
    tombstone = tombstones.renewed(None, AT, KEY, [])
    return tombstones.read([(tombstones.name(address, KEY), tombstones.encode(tombstone))], KEY)


def test_the_name_is_the_hmac_of_the_address():
    # printf '%s' person@example.com | openssl dgst -sha256 -hmac the-key-of-a-test
    digest = "6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3"
    assert tombstones.name("person@example.com", KEY) == f"erased/{digest}.json"
    assert tombstones.name("person@example.com", b"another") != f"erased/{digest}.json"


@pytest.mark.parametrize(
    ("erased", "arrives"),
    [
        ("Person@Example.COM", "person@example.com"),
        ("person@example.com", "PERSON@example.com."),
        ("person@example.com", '"person"@example.com'),
        ("person@example.com", "\uff50erson\uff20example.com"),
        ("anna@b\u00fccher.example", "anna@xn--bcher-kva.example"),
        ("M\u00dcNCHEN@example.com", "m\u00fcnchen@example.com"),
    ],
)
def test_one_address_in_each_way_of_writing_it(erased, arrives):
    assert of(erased).covers(arrives, AT)


@pytest.mark.parametrize("other", ["jo.person@example.com", "person@example.org", "person+x@example.com", "", None])
def test_others_are_not_covered(other):
    assert not of("person@example.com").covers(other, AT)


def test_what_the_person_does_afterwards_is_new():
    found = of("person@example.com")
    assert found.covers("person@example.com", AT - timedelta(days=400))
    assert not found.covers("person@example.com", AT + timedelta(milliseconds=1))
    assert found.covers("person@example.com", None), "an event without a time cannot be shown to be new"


def test_the_time_never_goes_back():
    later = tombstones.renewed(None, AT, KEY, [])
    assert tombstones.renewed(later, AT - timedelta(hours=1), KEY, []).erased_at == AT
    assert tombstones.renewed(later, AT + timedelta(hours=1), KEY, []).erased_at == AT + timedelta(hours=1)


def test_a_body_has_no_address_and_no_key():
    body = tombstones.encode(Tombstone(AT, tombstones.key_id(KEY), ["raw/1.json"]))
    assert b"key-of" not in body
    assert tombstones.decode(body) == Tombstone(AT, tombstones.key_id(KEY), ["raw/1.json"])


def test_tombstones_of_another_key_are_no_answer():
    body = tombstones.encode(tombstones.renewed(None, AT, b"another", []))
    with pytest.raises(tombstones.UnknownKeyError):
        tombstones.read([(tombstones.name("person@example.com", b"another"), body)], KEY)
