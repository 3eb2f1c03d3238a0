"""What a body holds, however damaged: whole elements, repaired ones, and what is neither."""

import gzip
import json
import random
import time
from pathlib import Path

import pytest

from bird_webhooks.operate import parts as split_batch
from process import elements as elements_module
from process.bounds import LIMITS, MAX_ORIGINAL_BYTES, BeyondBoundsError
from process.elements import Part, parts, repaired, split
from process.gzip_body import NotGzipError, decompressed
from process.normalise import Quarantined, StoredBatch
from process.quarantine import to_ndjson
from process.rows import Rows

INPUTS = Path(__file__).resolve().parents[1] / "data/inputs"
INPUTS2 = INPUTS.with_name("inputs2")
RECEIVED_AT = 1_795_600_000_000


def added(body: bytes) -> tuple[list[str], Rows]:
    """The ids of the events that became rows, in their order."""
    rows = Rows()
    rows.add(StoredBatch("batch-1", "raw/batch-1.json", RECEIVED_AT, body))
    return ids(rows), rows


def ids(rows: Rows) -> list[str]:
    return sorted(event_id or "" for _, table, _ in rows.take_days() for event_id in table["event_id"].to_pylist())


def quarantined(rows: Rows) -> list[tuple[int | None, str]]:
    return [(one.position, one.reason) for one in rows.take_quarantined()]


def event(number: int, extra: str = "") -> bytes:
    return b'{"msys":{"message_event":{"type":"bounce","event_id":"%d"%b}}}' % (number, extra.encode())


A, B = event(1), event(2)
NESTED = event(3, ',"rcpt_meta":{"x":[{"msys": {}},{"msys":{"y":1}}]}')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"[%b,%b,]" % (A, B), [Part(A), Part(B)], id="comma at the end"),
        pytest.param(b"[,%b,,%b]" % (A, B), [Part(A), Part(B)], id="commas too many"),
        pytest.param(b"[%b %b]" % (A, B), [Part(A), Part(B)], id="no comma"),
        pytest.param(b"[%b][%b]" % (A, B), [Part(A), Part(B)], id="two arrays"),
        pytest.param(b"[%b]\n\n[]\n[%b]\n" % (A, B), [Part(A), Part(B)], id="arrays in lines"),
        pytest.param(b"\xef\xbb\xbf[%b]" % A, [Part(A)], id="byte order mark"),
        pytest.param(b"[%b] and more" % A, [Part(A), Part(b"and more", "not part of an array")], id="text after it"),
        pytest.param(b"[%b" % A, [Part(A), Part(b"", "the body ends too early")], id="cut after an element"),
        pytest.param(b"[%b,%b" % (A, B[:-9]), [Part(A), Part(B[:-9], "the body ends too early")], id="cut within one"),
        pytest.param(b"[%b,%b,%b]" % (A, B[:-1], A), [Part(A), Part(B[:-1]), Part(A)], id="a bracket too few"),
        pytest.param(b"[%b,%b},%b]" % (A, B, A), [Part(A), Part(B + b"}"), Part(A)], id="a bracket too many"),
        pytest.param(b"[%b,%b,%b]" % (A, B[:-4], A), [Part(A), Part(B[:-4]), Part(A)], id="a quote too few"),
        pytest.param(
            b'[%b,{"msys":{"a":{"s":"x"y"}}},%b]' % (A, B),
            [Part(A), Part(b'{"msys":{"a":{"s":"x"y"}}}'), Part(B)],
            id="a quote too many",
        ),
        pytest.param(b"[%b,\\x,%b]" % (NESTED, A), [Part(NESTED), Part(b"\\x"), Part(A)], id="msys in metadata"),
        pytest.param(
            b'[{"msys":{"a":{"s":"]}}},{\\"msys\\":"}}},\\x,%b]' % A,
            [Part(b'{"msys":{"a":{"s":"]}}},{\\"msys\\":"}}}'), Part(b"\\x"), Part(A)],
            id="brackets and msys in a string",
        ),
        pytest.param(b"[%b,%b,%b]" % (A, b"[" * 20_000, B), [Part(A), Part(b"[" * 20_000), Part(B)], id="bottomless"),
    ],
)
def test_boundaries_of_elements_in_damaged_bodies(body, expected):
    assert list(parts(body)) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b'{"a":"zul\xe4ssig"}', {"a": "zul\ufffdssig"}, id="Latin-1"),
        pytest.param(b'{"a":"\xed\xa0\xbd\xed\xb8\x84"}', {"a": "\ufffd" * 6}, id="CESU-8"),
        pytest.param(b'{"a\xff":1}', {"a\ufffd": 1}, id="name"),
        pytest.param(b'{"a":"1\n2\t3\x004"}', {"a": "1\n2\t3\x004"}, id="control characters are what they are"),
        pytest.param(rb'{"a":"\x41 \q \u12g4"}', {"a": "\ufffdx41 \ufffdq \ufffdu12g4"}, id="escapes that are none"),
        pytest.param(rb'{"a":"\ud83d \ude00\ud83d\ude00"}', {"a": "\ufffd \ufffd\U0001f600"}, id="half surrogates"),
        pytest.param(rb'{"a":"\\ud83d \\x \"\/\b"}', {"a": '\\ud83d \\x "/\b'}, id="what only looks so"),
        pytest.param(b'{"a":NaN,"b":[007,-1.5e3,.5]}', {"a": "NaN", "b": ["007", -1500, ".5"]}, id="values"),
        pytest.param(b'{"a":[1,],"b":"x,]",}', {"a": [1], "b": "x,]"}, id="commas"),
        pytest.param('{"a":1\u00a0000}'.encode(), {"a": "1\u00a0000"}, id="a blank that is none of JSON's"),
    ],
)
def test_damage_is_repaired_where_it_is(raw, expected):
    assert json.loads(repaired(raw)) == expected


def test_sound_json_is_not_touched_by_repair():
    sound = NESTED.replace(b"}}}", b',"x":[1.50,-0,1E5,"\\u00e4\\ud83d\\ude00\\\\"], "y" : null}}}')
    assert repaired(sound) == sound


def test_a_damaged_field_costs_no_event():
    found, rows = added((INPUTS / "10-one-bad-byte.bin").read_bytes())
    assert found == [f"90000000000000000{number}" for number in range(64, 70)]
    assert (rows.counts.events, rows.counts.rows, rows.counts.quarantined, rows.counts.repaired) == (6, 6, 0, 5)
    kept = rows.take_quarantined()
    assert [(one.position, one.reason) for one in kept] == [
        (0, "repaired: not UTF-8"),
        (1, "repaired: not UTF-8"),
        (2, "repaired: not UTF-8"),
        (3, "repaired: not JSON"),
        (4, "repaired: not JSON"),
    ]
    assert b"unzul\xe4ssig" in kept[0].original


def test_a_damaged_element_costs_no_other():
    found, rows = added((INPUTS / "11-bad-escape.bin").read_bytes())
    assert found == ["9000000000000000070", "9000000000000000071", "9000000000000000072"]
    assert quarantined(rows) == [(1, "repaired: not JSON")]
    found, rows = added(b'[%b,{"msys":{"message_event":{"type":"bounce" "event_id":"9"}}},%b]' % (A, B))
    assert (found, quarantined(rows)) == (["1", "2"], [(1, "not JSON")])


def test_every_whole_element_before_a_cut_is_a_row():
    body = b"[%b]" % b",".join(event(number) for number in range(10, 15))
    for length in range(len(body)):
        found, rows = added(body[:length]) if length else ([], Rows())
        assert len(found) == body[:length].count(b"}}}")
        assert not length or len(rows.take_quarantined()) == 1


def test_damage_anywhere_costs_its_element_alone():
    """Bytes changed at random: the two elements that were not touched are rows, and what is lost is kept."""
    chance = random.Random(7)  # noqa: S311
    good, victim = event(1), event(2, ',"subject":"a \\"b\\" {c} [d]","rcpt_meta":{"n":[1,2]}')
    for _ in range(600):
        damaged = bytearray(victim)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(1, len(damaged))
            match chance.randrange(3):
                case 0:
                    damaged[place] = chance.choice(b'"\\{}[],:x\xff\n')
                case 1:
                    del damaged[place]
                case 2:
                    damaged.insert(place, chance.choice(b'"\\{}[],:x\xff\n'))
        found, rows = added(b"[%b,%b,%b]" % (good, bytes(damaged), event(3)))
        assert {"1", "3"} <= set(found), bytes(damaged)
        assert len(found) == 3 or rows.quarantined, bytes(damaged)


@pytest.mark.parametrize("name", ["15a-probe-object.json", "15b-probe-beside-event.json"])
def test_probes_are_ignored(name):
    found, rows = added((INPUTS / name).read_bytes())
    assert found == (["9000000000000000087"] if "event" in name else [])
    assert quarantined(rows) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param((INPUTS / "12a-two-members-two-arrays.json.gz").read_bytes(), ["73", "74"], id="two arrays"),
        pytest.param((INPUTS / "12b-one-array-over-two-members.json.gz").read_bytes(), ["75", "76"], id="one array"),
        pytest.param((INPUTS2 / "01-once.gz").read_bytes(), ["c1", "c2"], id="once"),
        pytest.param((INPUTS2 / "01-twice.gz").read_bytes(), ["c1", "c2"], id="twice"),
        pytest.param((INPUTS2 / "01-plain.json").read_bytes(), ["c1", "c2"], id="not at all"),
        pytest.param(gzip.compress(b"[%b]" % A) + b"\0" * 512, ["1"], id="padded"),
    ],
)
def test_the_bytes_say_whether_it_is_gzip(body, expected):
    unzipped = decompressed(body, LIMITS.body_bytes)
    found, rows = added(unzipped.body)
    assert unzipped.damage == []
    assert [event_id[-2:] for event_id in found] == expected
    assert quarantined(rows) == []


def test_damaged_gzip_gives_what_it_still_holds():
    whole = gzip.compress(b"[%b,%b]" % (A, B))
    assert decompressed(whole + b"junk", 1000).damage == [("not gzip after the end of gzip", b"junk")]
    cut = decompressed(whole[:-12], 1000)
    assert cut.damage == [("gzip ends too early", whole[:-12])]
    assert added(cut.body)[0][:1] == ["1"]
    with pytest.raises(NotGzipError):
        decompressed(whole[:-8] + bytes(8), 1000)
    for bomb in (gzip.compress(b"x" * 1001), gzip.compress(b"x" * 600) * 2, gzip.compress(gzip.compress(b"x" * 1001))):
        with pytest.raises(BeyondBoundsError):
            decompressed(bomb, 1000)


def batch_of(count: int, **fields) -> bytes:
    return json.dumps(
        [
            {"msys": {"message_event": {"event_id": str(n), **{name: value(n) for name, value in fields.items()}}}}
            for n in range(count)
        ]
    ).encode()


AT_THE_LIMITS = [
    pytest.param(batch_of, "elements", {}, id="elements"),
    pytest.param(batch_of, "types", {"type": lambda n: f"type-{n}"}, id="types"),
    pytest.param(batch_of, "days", {"timestamp": lambda n: 1_795_500_000 - 86_400 * n}, id="days"),
    pytest.param(
        batch_of,
        "groups",
        {"timestamp": lambda n: 1_795_500_000 - 86_400 * (n % 10), "type": lambda n: f"type-{n // 10}"},
        id="types of days",
    ),
]


@pytest.mark.parametrize(("make", "what", "fields"), AT_THE_LIMITS)
def test_a_batch_at_a_limit_is_rows_and_beyond_it_nothing(make, what, fields):
    limit = getattr(LIMITS, what)
    assert len(added(make(limit, **fields))[0]) == limit
    rows = Rows()
    for _ in range(2):  # the quick way too
        with pytest.raises(BeyondBoundsError, match=f"more than {limit} "):
            rows.add(StoredBatch("batch-1", "raw/batch-1.json", RECEIVED_AT, make(limit + 1, **fields)))
    assert (ids(rows), quarantined(rows), rows.counts.events, rows.body_bytes) == ([], [], 0, 0)


def test_elements_that_are_no_events_are_limited():
    found, rows = added(b"[%b,%b]" % (A, b",".join([b"7"] * LIMITS.quarantined)))
    assert (found, len(quarantined(rows))) == (["1"], LIMITS.quarantined)
    for one_more in (b"7", b'{"msys":{"a":{"s":"\xff"}}}'):
        with pytest.raises(BeyondBoundsError, match="that are no events"):
            added(b"[%b]" % b",".join([one_more] * (LIMITS.quarantined + 1)))


def test_half_a_million_steps_of_repair_are_made_of_a_batch_and_the_rest_of_its_damage_is_quarantined():
    """Each control character, escape and token takes a microsecond."""
    long = b'{"msys":{"message_event":{"event_id":"%d","s":"%b"}}}'
    damaged = [long % (number, b"\x01" + b" " * 200_000) for number in range(4)]
    found, rows = added(b"[%b]" % b",".join([A, *damaged, B]))
    assert (found, rows.counts.repaired) == (["0", "1", "1", "2"], 2)
    reason = "not JSON, and too much of the batch is damaged to repair it"
    assert quarantined(rows)[:2] == [(3, reason), (4, reason)]
    # `replay --force` makes rows of them
    whole = b"[%b]" % b",".join(damaged)
    assert (split_batch.fits(whole, len(whole)), split_batch.fits(b"[%b]" % damaged[0], 1)) == (False, True)
    bodies = list(split_batch.split_body(whole))
    assert [one for body in bodies for one in added(body)[0]] == ["0", "1", "2", "3"]
    # but not of one that has too many by itself: that would not help
    alone = b"[%b]" % (long % (1, b"\x01" * 500_000))
    assert (quarantined(added(alone)[1]), split_batch.fits(alone, 1)) == ([(0, "not JSON")], True)


def test_a_sound_batch_is_split_as_an_older_release_did():
    """Its parts are there already, by number: other ones would be refused as another content."""
    spaced = b'{"msys":{"message_event":{"event_id":"1",%b"type":"open"}}}' % (b" " * 9_000)
    assert [body.count(b"msys") for body in split_batch.split_body(b"[%b]" % b",".join([spaced] * 150))] == [100, 50]


@pytest.mark.parametrize("blank", ["\u0085", "\u00a0", "\u2003", "\u3000"])
def test_each_token_of_a_repair_is_counted_or_ends_at_a_counted_character(blank):
    """Otherwise a mebibyte of words between other blanks would be 300,000 tokens and no step."""
    raw = b'{"msys":{"a":{"s":%b}}}' % (f"x{blank}" * 1_000).encode()
    assert len(elements_module._TOKEN.findall(raw.decode())) <= elements_module.repair_steps(raw)


def test_a_hundred_elements_are_within_every_limit():
    assert min(LIMITS[1:]) >= 100


def test_records_point_to_what_they_do_not_hold():
    stored_at = 1_795_651_200_000  # 2026-11-26
    batch = StoredBatch("b", "raw/b.json", RECEIVED_AT, b"", stored_at, "the-raw-bucket")
    rows = Rows()
    address = b"person@example.com"
    long = b'["' + address + b'","' + b"x" * 16_350 + b'","' + address + b'"]'
    for original in (None, long, b"short"):
        rows.quarantine(Quarantined(batch, 4, "why", original))
    beyond, cut, whole = map(json.loads, to_ndjson(rows.quarantined, 30).splitlines())
    assert beyond == {
        "reason": "why",
        "batch_id": "b",
        "raw_bucket": "the-raw-bucket",
        "raw_key": "raw/b.json",
        "received_at": "2026-11-25T09:46:40.000+00:00",
        "index": 4,
        "raw_expires_at": "2026-12-27T00:00:00.000+00:00",
    }
    assert (cut["original_bytes"], cut["raw_expires_at"]) == (len(long), "2026-12-27T00:00:00.000+00:00")
    assert len(cut["original"]) <= MAX_ORIGINAL_BYTES
    assert cut["original"].endswith('"')
    assert cut["original"].count("person") == cut["original"].count("person@example.com") == 1
    assert whole == {**{key: value for key, value in beyond.items() if key != "raw_expires_at"}, "original": "short"}
    assert json.loads(to_ndjson(rows.quarantined[:1], 0))["raw_expires_at"] is None


def test_split_gives_what_parts_gives():
    assert split(b"[%b,%b" % (A, B)) == [A, B]


def test_hostile_elements_take_linear_time():
    began = time.process_time()
    repaired(b'[{"msys":1},{"a":"' + b'\\"' * 100_000 + b' {"msys":1}]')
    assert list(parts(b"[]" * 8_000_000))[-1] == Part(b"[]" * 7_999_000, "not part of an array")
    list(parts(b"[" + b'{"msys":1},x\\"' * 400 + b"\\\\" * 500_000 + b'{"msys":1}]'))
    events = [{"msys": {"message_event": {"type": "sms_status", "customer_id": str(n)}}} for n in range(4_000)]
    rows = Rows()
    for number in range(2):
        rows.add(StoredBatch(f"b{number}", f"raw/b{number}.json", 0, json.dumps(events).encode()))
    assert rows.counts.rows == 4_000
    assert time.process_time() - began < 15
