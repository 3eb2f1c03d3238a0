"""An address is found in each spelling that a reader takes for it, and no other address for it."""

import time

import pytest

from bird_webhooks.operate.spellings import names

ADDRESS = "Ann+x.y@example.com"
PERSON = "person@example.com"
BRIEN = "brien@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "ann+x.y@example.com",
        "<ANN+X.Y@EXAMPLE.COM>",
        "550 unknown: ann+x.y@example.com.",
        "mailto:ann+x.y@example.com?subject=x",
        "'ann+x.y@example.com'",
        "{ann+x.y@example.com}",
        "rcpt=ann+x.y@example.com failed",
        "https://www.example.com/?to=ann+x.y@example.com&a=b",
        "https://www.example.com/?to=ann%2Bx.y%40example.com&a=b",
        "https://www.example.com/?next=%2F%3Fto%3Dann%2bx%2Ey%40example.com",
        "https://www.example.com/unsubscribe/ann+x.y@example.com",
        "to%253Dann%252Bx.y%2540example.com",
        r'"line\r\nann+x.y@example.com"',
        r'"\u003cann\u002bx.y\u0040example.com\u003e"',
        r'"{\"to\":\"ann+x.y\\u0040example.com\"}"',
        '{"a": [{"ann+x.y@example.com": 1}]}',
    ],
)
def test_ways_of_writing_an_address(text):
    assert names(text, ADDRESS)


@pytest.mark.parametrize(
    "text",
    [
        r'"p\u0065rson@example.com"',
        r"p\u0065rson\u0040example.com",
        r"p%5Cu0065rson@example.com",
        "%70erson%40example.com",
        "%25%37%30erson%40example.com",
        "person&#64;example.com",
        "&#112;erson&commat;example.com",
        '"person"@example.com',
        r'"pers\on"@example.com',
        "=?utf-8?q?person=40example.com?=",
        "=?utf-8?b?cGVyc29uQGV4YW1wbGUuY29t?=",
        "=70erson=40example.com",
        "person\uff20example.com",
        "person@example\u3002com",
        "person@example\uff61com",
        "\uff50erson@example.com",
        "bounces-person=example.com@lists.example.org",
        "<bounces+123-person=example.com@lists.example.com>",
        "prvs=abc123=person@example.com",
        "SRS0=hash=tt=example.com=person@forward.example.net",
    ],
)
def test_encoded_and_rewritten_addresses(text):
    assert names(text, PERSON)


@pytest.mark.parametrize("before", list("'&/!{~*#?^`|$%+-_."))
def test_the_end_of_another_address_is_not_the_address(before):
    for other in (f"o{before}brien@example.com", f"{before}brien@example.com"):
        for text in (other, f"550 {other} unknown", f"<{other}>", f'{{"to": "{other}"}}'):
            assert not names(text, BRIEN), text


@pytest.mark.parametrize(
    "text",
    [
        "joann+x.y@example.com",
        "jo.ann+x.y@example.com",
        "jo%2Bann%2Bx.y%40example.com",
        "ann+x.y@example.community",
        "ann+x.y@example.com.au",
        "ann+x.y@sub.example.com",
        "ann+x.y@example.co",
        "ann+xzy@example.com",
        "ann@example.com",
        "x.y@example.com",
        '"jo ann+x.y@example.com"@example.net',
        "bounces+jo-ann+x.y=example.com@lists.example.com",
        "@example.com",
        "ann+x.y",
        "ann+x.y@",
    ],
)
def test_other_addresses_are_others(text):
    assert not names(text, ADDRESS)


def test_the_address_itself_may_be_odd():
    assert names("o'brien@example.com", "o'brien@example.com")
    assert names(r"o\u0027brien@example.com", "o'brien@example.com")
    assert names('"anna b"@example.com', '"anna b"@example.com')
    assert names("x=y@example.com", "x=y@example.com")
    assert not names("x=y@example.com", "y@example.com")


@pytest.mark.parametrize("text", ["MÜNCHEN@example.com", r"m\u00fcnchen@example.com", "M%C3%9CNCHEN%40example.com"])
def test_letters_beyond_ascii(text):
    assert names(text, "münchen@example.com")
    assert names(r"\u7528\u6237@example.com", "用户@example.com")
    assert names("anna@bücher.example", "anna@xn--bcher-kva.example")


@pytest.mark.parametrize("text", ["=?é?q?a?=", "&amp;&#" + "1" * 5000 + ";", "=?utf-8?b?%%%?="])
def test_no_text_stops_the_search(text):
    assert not names(text, PERSON)
    assert names(f"{text} {PERSON}", PERSON)


def test_both_of_two_members_of_one_name_count():
    assert names('{"rcpt_to": "person@example.com", "rcpt_to": "jo@example.com"}', PERSON)


def test_a_hostile_text_takes_linear_time():
    began = time.process_time()
    for text in (
        "a" * 200_000,
        "@" * 200_000,
        "a@" * 100_000,
        '"@' * 20_000,
        "%25" * 60_000,
        "\\" * 200_000,
        '"a"@b.c ' * 20_000,
    ):
        assert not names(text, PERSON)
    assert time.process_time() - began < 30
