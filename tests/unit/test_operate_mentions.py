"""Files without the events of an address, those of others byte for byte."""

import json

from bird_webhooks.operate.mentions import Person, Remainder, batch_without, csv_without, quarantine_without

ADDRESS = "Ann+x.y@example.com"


def test_a_hash_of_the_address_mentions_it():
    assert Person(ADDRESS, frozenset({"abc123"})).in_text("x,abc123,y")


def test_an_address_over_the_seam_of_two_chunks_is_found():
    assert Person(ADDRESS).in_any([b"x" * 5000 + b" ann+x.y@exa", b"mple.com"])
    assert not Person(ADDRESS).in_any([b"x" * 5000 + b" ann+x.y@exa", b"mple.org"])


def test_the_other_events_of_a_batch_stay_byte_for_byte():
    mine = {"msys": {"track_event": {"type": "open", "event_id": "1", "rcpt_to": "ann+x.y@example.com"}}}
    without_id = {"msys": {"message_event": {"type": "sms_status", "raw_reason": "ann+x.y@example.com"}}}
    odd = {"ann+x.y@example.com": 1}
    other, strange = b'{ "msys":{"track_event":{"n":1e2, "type" : "open"}} }', b'"\\ud800"'
    elements = [json.dumps(mine).encode(), other, json.dumps(without_id).encode(), strange, json.dumps(odd).encode()]
    person = Person(ADDRESS)
    remainder = batch_without(b"[" + b" ,\n".join(elements) + b"]", person)
    assert remainder == Remainder(b"[" + other + b"," + strange + b"]", 3)
    [opened, status] = sorted(person.events, key=lambda event: len(event[3]))
    assert opened == ("", "track_event", "open", "1")
    # printf '%s' '{"type": "sms_status", "raw_reason": "ann+x.y@example.com"}' | sha256sum
    assert status == (
        *("", "message_event", "sms_status"),
        "d986e5d84015ad65ef8994778be13b1ac7c6d9f46d7ff8c1b56f2ab785401958",
    )
    assert batch_without(remainder.body, person) is None


def test_a_batch_that_is_no_json_goes_as_a_whole():
    assert batch_without(b"to ann+x.y@example.com", Person(ADDRESS)) == Remainder(b"[]", 1)
    assert batch_without(b"to nobody", Person(ADDRESS)) is None


def test_records_of_csv_may_span_lines():
    header = "event_class,type,event_key,raw_reason,customer_id,batch_id\n"
    mine = 'message_event,bounce,1,"550 ""no""\r\nsuch ann+x.y@example.com",,11\n'
    known = 'message_event,bounce,2,"a, b\nc",7,12\n'
    others = [
        'message_event,bounce,3,"550 ""no""\r\nsuch jo@example.com",,13\n',
        "message_event,bounce,2,\u2028x,8,14\n",
    ]
    encoded = [
        "message_event,bounce,%:4%0A,x,7,11\n",
        "message_event,bounce,5,%:550 <ann%2Bx.y@example.com>%0D%0A,7,%:a%2Bb\n",
    ]
    person = Person(ADDRESS, events={("7", "message_event", "bounce", key) for key in ("2", "4\n")})
    remainder = csv_without("".join([header, others[0], mine, known, *encoded, others[1]]).encode(), person)
    assert remainder == Remainder("".join([header, *others]).encode(), 4, {"11", "12", "a+b"})
    assert csv_without(remainder.body, person) is None
    assert csv_without((header + mine).encode(), person) == Remainder(None, 1, {"11"})


def test_quarantined_originals_are_looked_into():
    lines = [b'{"original":"to <ann+x.y@example.com>"}\n', b'{"original_base64":"/2Fubit4LnlAZXhhbXBsZS5jb20="}\n']
    kept = b'{"original":"to jo@example.com"}\n'
    assert quarantine_without(lines[0] + kept + lines[1], Person(ADDRESS)) == Remainder(kept, 2)
    assert quarantine_without(lines[1], Person(ADDRESS)) == Remainder(None, 1)


def test_what_hides_a_letter_is_not_passed_over():
    person = Person("person@example.com")
    for body in (
        rb'["p\u0065rson@example.com"]',
        b"%70erson@example.com",
        b"&#112;erson@example.com",
        b"=?utf-8?q?=70erson?=",
    ):
        assert person.possibly_in(body.decode())
    for text in (
        "\uff50erson@example.com",
        "\u24dferson@example.com",
        r"\uff50erson@example.com",
        "%EF%BD%90erson@example.com",
    ):
        assert person.possibly_in(text)
        assert person.in_text(text)
    for text in ("&#65360;erson@example.com", r'"\p\erson"@example.com'):
        assert person.in_text(text)
    assert not person.possibly_in('["https://www.example.com/?a=1&b=2", "550 no", "100 %", "a@b"]')


def test_a_quarantined_line_that_is_no_record_stops_nothing():
    lines = [b"[1]\n", b'{"original_base64":"?"}\n', b"not JSON\n", b"not JSON of ann+x.y@example.com\n"]
    assert quarantine_without(b"".join(lines), Person(ADDRESS)) == Remainder(b"".join(lines[:3]), 1)


def test_a_long_field_of_csv_is_read():
    header = "event_class,type,event_key,raw_reason,customer_id,batch_id\n"
    mine, other = "message_event,bounce,1,ann+x.y@example.com,,1\n", f"message_event,bounce,2,{'x' * 200_000},,2\n"
    remainder = csv_without((header + mine + other).encode(), Person(ADDRESS))
    assert remainder == Remainder((header + other).encode(), 1, {"1"})
