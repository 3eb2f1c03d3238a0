"""The condition by which rows are found is true wherever the exact comparison is, in every nesting of spellings."""

import random
import time

import duckdb
import pytest

from bird_webhooks.operate import row_filter
from bird_webhooks.operate.mentions import Person
from tests.unit import test_operate_spellings as spellings

ADDRESSES = ["person@example.com", "Ann+x.y@example.com", "o'brien@mail.example.com", "x1@a.example.com"]


def percent(random, text):
    return "".join(f"%{ord(one):02x}" if one in "%@" or random.random() < 0.4 else one for one in text)


def json_escapes(random, text):
    return "".join(f"\\u{ord(one):04x}" if one in "@\\" or random.random() < 0.4 else one for one in text)


def entities(random, text):
    ways = ("&#{};", "&#0{};", "&#x{:x};")
    return "".join(random.choice(ways).format(ord(one)) if random.random() < 0.4 else one for one in text)


def named_entities(random, text):
    return text.replace("&", "&amp;").replace("@", random.choice(["@", "&commat;"])).replace("%", "&percnt;")


def quoted_printable(random, text):
    return "".join(f"={ord(one):02X}" if one in "@=" or random.random() < 0.3 else one for one in text)


def wide(random, text):
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" and random.random() < 0.3 else one for one in text)


def encoded_word(random, text):
    return f"=?utf-8?q?{''.join(f'={ord(one):02X}' if one.isascii() else one for one in text)}?="


def quoted(random, text):
    local, _, domain = text.rpartition("@")
    if not local or any(one in text for one in '"%&=\\ '):
        return text
    local = "".join(f"\\{one}" if random.random() < 0.3 else one for one in local)
    return f'"{local}"@{domain}'


def case(random, text):
    return "".join(one.upper() if one.isascii() and random.random() < 0.5 else one for one in text)


WAYS = [percent, json_escapes, entities, named_entities, quoted_printable, wide, encoded_word, quoted, case]
AROUND = [
    "{}",
    "<{}>",
    "550 <{}> unknown",
    "mailto:{}?subject=x",
    "https://www.example.org/?a=1&to={}&b=2",
    '{{"a":["{}"]}}',
    "bounces+7-{}@lists.example.org",
    "Acme\u2122 {}",
]


def samples(seed: int, count: int):
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        address = chance.choice(ADDRESSES)
        text = address.replace("@", "=") if chance.random() < 0.05 else address
        for way in chance.choices(WAYS, k=chance.randint(0, 3)):
            text = way(chance, text)
        yield address, chance.choice(AROUND).format(text)


def test_it_finds_whatever_the_exact_comparison_finds():
    mentions = [(address, text) for address, text in samples(1, 6_000) if Person(address).in_text(text)]
    assert len(mentions) > 1_500
    assert [(address, text) for address, text in mentions if not row_filter.possibly(text, address)] == []


@pytest.mark.parametrize("name", ["test_ways_of_writing_an_address", "test_encoded_and_rewritten_addresses"])
def test_it_finds_each_spelling_that_is_known(name):
    address = spellings.ADDRESS if "ways" in name else spellings.PERSON
    [texts] = [mark.args[1] for mark in getattr(spellings, name).pytestmark]
    assert [text for text in texts if not row_filter.possibly(text, address)] == []


def test_most_texts_of_others_are_passed_over():
    for text in (
        "jo@example.com",
        "https://www.example.org/?next=https%3A%2F%2Fa.example.com%2F%3Fb%3D1%26utm_source%3Dmail&to=jo@example.com",
        "550 5.1.1 &lt;jo@example.com&gt; unknown &amp; gone",
        "Acme\u2122 news of jo@example.com",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) 640x400",
        '{"name":"O\\u2019Brien"}',
    ):
        assert not row_filter.possibly(text, "person@example.com"), text


def test_the_statement_does_not_have_the_address():
    asked = row_filter.statement("anna.schmidt@example.com", "true")
    assert "schmidt" not in asked
    assert "example" not in asked


@pytest.mark.parametrize("address", ["m\u00fcnchen@example.com", "+@example.com", "a@xn--bcher-kva"])
def test_an_address_without_letters_to_look_for_has_no_statement(address):
    assert row_filter.statement(address, "true") is None


def test_duckdb_reads_the_patterns_as_python_does():
    texts = [text for _, text in samples(2, 1_000)]
    address = ADDRESSES[0]
    with duckdb.connect() as connection:
        connection.execute("CREATE MACRO regexp_like(text, pattern) AS regexp_matches(text, pattern)")
        names = [name for name in row_filter.TEXTS if name not in ("subject", "event_key")]
        columns = ", ".join(f"NULL::text AS {name}" for name in names)
        connection.execute("CREATE TABLE given (subject text, event_key text)")
        connection.executemany("INSERT INTO given VALUES (?, ?)", [(text, str(n)) for n, text in enumerate(texts)])
        connection.execute(f"CREATE VIEW events AS SELECT *, 'f' AS \"$path\", {columns} FROM given")  # noqa: S608
        found = connection.execute(row_filter.statement(address, "true")).fetchall()
    expected = [n for n, text in enumerate(texts) if row_filter.possibly(text, address)]
    assert sorted(int(row[5]) for row in found) == expected
    assert expected


def test_it_takes_little_time_for_hostile_texts():
    began = time.process_time()
    for text in ("&" * 10_000, "%25" * 3_500, "\\" * 10_000, "=3d40" * 2_000, "@" * 10_000):
        row_filter.possibly(text, "person@example.com")
    assert time.process_time() - began < 30
