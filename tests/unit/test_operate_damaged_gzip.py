"""Damaged gzip: what it still decompresses to is searched, and an object with more than that is named."""

import base64
import gzip
import json
import random
import time
import zlib

import pytest

from bird_webhooks.operate.erase import UnreadableError, raw_without
from bird_webhooks.operate.mentions import Person, Remainder, quarantine_without

MINE, OTHER = "person@example.com", "jo@example.com"
PERSON = Person(MINE)


def batch(*addresses: str) -> bytes:
    """Each address follows half a kilobyte that hardly compresses, so a cut at the end leaves the first ones whole."""
    chance = random.Random(1)  # noqa: S311
    return json.dumps([{"n": chance.randbytes(500).hex(), "rcpt_to": address} for address in addresses]).encode()


def zipped(*addresses: str) -> bytes:
    return gzip.compress(batch(*addresses), mtime=0)


def flipped(body: bytes, position: int, count: int = 1) -> bytes:
    position %= len(body)
    return body[:position] + bytes(byte ^ 0xFF for byte in body[position : position + count]) + body[position + count :]


def record(original: bytes) -> bytes:
    return json.dumps({"original_base64": base64.b64encode(original).decode()}).encode() + b"\n"


def events(body: bytes) -> list[str]:
    return [event["rcpt_to"] for event in json.loads(gzip.decompress(body))]


def damaged_after(*addresses: str, hidden: str) -> bytes:
    """A block of a type that deflate does not have, after what was compressed up to then."""
    whole = batch(*addresses)[:-1]
    compressor = zlib.compressobj(wbits=31)
    before = compressor.compress(whole) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return before + b"\xff" + zipped(hidden)[10:]


@pytest.mark.parametrize("position", [-8, -4], ids=["checksum", "length"])
def test_a_wrong_checksum_or_length_hides_nothing(position):
    remainder = raw_without(flipped(zipped(OTHER, MINE), position), PERSON)
    assert (events(remainder.body), remainder.erased) == ([OTHER], 1)


def test_what_is_clean_but_for_its_checksum_is_named():
    assert raw_without(flipped(zipped(OTHER), -4), PERSON) is None
    with pytest.raises(UnreadableError):
        raw_without(flipped(zipped(OTHER), -8), PERSON)


def test_no_flipped_bit_makes_an_address_pass_unseen():
    body = gzip.compress(json.dumps([{"rcpt_to": f"jo{n}@example.com"} for n in range(9)] + [MINE]).encode(), mtime=0)
    missed = []
    for bit in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            if raw_without(bytes(damaged), PERSON) is None:
                missed.append(bit)
        except UnreadableError:
            pass
    assert missed == []


def test_what_follows_a_member_that_ends_too_early_is_named():
    compressor = zlib.compressobj(wbits=31)
    body = compressor.compress(batch(OTHER)) + compressor.flush(zlib.Z_FULL_FLUSH)
    body = bytearray(body + compressor.compress(batch(MINE)) + compressor.flush())
    body[10] |= 1  # "this is the last block"
    with pytest.raises(UnreadableError):
        raw_without(bytes(body), PERSON)


@pytest.mark.parametrize("before", [b"\n", b"\r\n", b"\xef\xbb\xbf", b"x"])
def test_gzip_after_other_bytes_is_searched(before):
    body = before + zipped(MINE)
    assert raw_without(body, PERSON) == Remainder(before, 1)
    assert quarantine_without(record(body), PERSON) == Remainder(None, 1)
    assert raw_without(before.strip(b"\xef\xbb\xbf") + zipped(OTHER), PERSON) is None


def test_gzip_whose_first_bytes_are_damaged_is_named():
    for body in (flipped(zipped(MINE), 0), flipped(zipped(MINE), 1), zipped(OTHER) + flipped(zipped(MINE), 0)):
        with pytest.raises(UnreadableError):
            raw_without(body, PERSON)
        with pytest.raises(UnreadableError):
            quarantine_without(record(body), PERSON)


def test_damaged_text_is_no_gzip():
    for text in (b'[{"a": "\xff"}]', b'[{"a": "\xff\x1f\x8b\x08\x01"}]', b"caf\xe9", b"\x01"):
        assert raw_without(text, PERSON) is None
    mine = b'[{"a": "\xff\x1f\x8b\x08\x01"},"person@example.com",{"b": 1}]'
    assert raw_without(mine, PERSON) == Remainder(b'[{"a": "\xff\x1f\x8b\x08\x01"},{"b": 1}]', 1)


def test_a_member_after_one_with_a_wrong_checksum_is_searched():
    remainder = raw_without(flipped(zipped(OTHER), -8) + zipped(MINE, OTHER), PERSON)
    assert (events(remainder.body), remainder.erased) == ([OTHER, OTHER], 1)


def test_a_truncated_member_is_searched_to_its_end():
    remainder = raw_without(zipped(OTHER, MINE, OTHER)[:-30], PERSON)
    assert gzip.decompress(remainder.body).count(OTHER.encode()) == 1
    assert MINE.encode() not in gzip.decompress(remainder.body)
    assert raw_without(zipped(OTHER, OTHER)[:-30], PERSON) is None


def test_what_comes_before_the_damage_is_searched_and_goes_as_a_whole():
    remainder = raw_without(damaged_after(OTHER, MINE, hidden=OTHER), PERSON)
    assert (events(remainder.body), remainder.erased) == ([], 1)


def test_what_comes_after_the_damage_is_named():
    with pytest.raises(UnreadableError):
        raw_without(damaged_after(OTHER, hidden=MINE), PERSON)
    cut, unknown_method = zipped(MINE)[:5], b"\x1f\x8b\x07" + zipped(MINE)[3:]
    for body in (b"\x1f\x8b", b"\x1f\x8b cut", cut, unknown_method, flipped(zipped(MINE), 10, 20)):
        with pytest.raises(UnreadableError):
            raw_without(body, PERSON)


def test_what_only_begins_as_gzip_does_is_searched_as_it_is():
    assert events(raw_without(b"\x1f\x8b " + MINE.encode(), PERSON).body) == []


def test_a_damaged_second_member_is_searched_as_far_as_it_goes():
    second = damaged_after(MINE, hidden=OTHER)
    assert raw_without(zipped(OTHER) + second, PERSON) == Remainder(zipped(OTHER), 1)
    second = damaged_after(OTHER, hidden=OTHER)
    with pytest.raises(UnreadableError):
        raw_without(zipped(OTHER) + second, PERSON)
    # The damaged member stays, and is named at the next look.
    remainder = raw_without(zipped(MINE, OTHER) + second, PERSON)
    assert remainder.body.endswith(second)
    assert remainder.erased == 1
    with pytest.raises(UnreadableError):
        raw_without(remainder.body, PERSON)


def test_members_after_a_damaged_one_are_searched():
    remainder = raw_without(damaged_after(OTHER, hidden=OTHER) + zipped(MINE), PERSON)
    assert MINE.encode() not in gzip.decompress(remainder.body[: len(zipped())])
    with pytest.raises(UnreadableError):
        raw_without(remainder.body, PERSON)


def test_what_follows_a_member_is_searched_as_it_is():
    assert raw_without(zipped(OTHER) + b"junk", PERSON) is None
    assert raw_without(zipped(OTHER) + b"\0" * 100, PERSON) is None
    assert raw_without(zipped(OTHER) + MINE.encode(), PERSON) == Remainder(zipped(OTHER), 1)
    assert raw_without(zipped(MINE) + b"junk", PERSON) == Remainder(gzip.compress(b"[]", mtime=0) + b"junk", 1)
    assert raw_without(zipped(OTHER) + b"\r\n" + zipped(MINE), PERSON).erased == 1
    with pytest.raises(UnreadableError):
        raw_without(zipped(OTHER) + b"\x1f\x8b\x07" + zipped(MINE)[3:], PERSON)


def test_the_name_of_a_compressed_file_is_searched():
    named = b"\x1f\x8b\x08\x08" + bytes(4) + b"\x00\xff" + b"of person@example.com\0" + zipped(OTHER)[10:]
    assert raw_without(named, PERSON) == Remainder(zipped(OTHER), 1)


def test_gzip_in_gzip_is_searched_and_what_is_deeper_is_named():
    twice = flipped(gzip.compress(flipped(zipped(MINE, OTHER), -8)), -8)
    assert events(raw_without(twice, PERSON).body) == [OTHER]
    with pytest.raises(UnreadableError):
        raw_without(gzip.compress(damaged_after(OTHER, hidden=MINE)), PERSON)
    with pytest.raises(UnreadableError):
        raw_without(gzip.compress(gzip.compress(zipped(MINE))), PERSON)


def test_what_is_too_large_is_searched_all_the_same(monkeypatch):
    monkeypatch.setattr("bird_webhooks.operate.erase.MAX_UNZIPPED_BYTES", 100_000)
    large = b" " * 200_000
    for body in (large + batch(MINE), batch(MINE) + large):
        for bomb in (gzip.compress(body), flipped(gzip.compress(body), -8), gzip.compress(gzip.compress(body))):
            with pytest.raises(UnreadableError):
                raw_without(bomb, PERSON)
    assert raw_without(flipped(gzip.compress(large), -4), PERSON) is None
    assert raw_without(gzip.compress(gzip.compress(large)), PERSON) is None
    with pytest.raises(UnreadableError):
        raw_without(gzip.compress(large) + damaged_after(OTHER, hidden=MINE), PERSON)


def test_many_members_and_much_damage_take_no_long_time():
    began = time.process_time()
    assert raw_without(gzip.compress(b" ", mtime=0) * 50_000 + zipped(OTHER), PERSON) is None
    with pytest.raises(UnreadableError):
        raw_without(zipped(OTHER) + b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff" * 50_000, PERSON)
    with pytest.raises(UnreadableError):
        raw_without(b"\x1f\x8b\x08\x04" * 500_000, PERSON)
    assert time.process_time() - began < 10


def test_quarantined_gzip_is_decompressed_too():
    kept = record(flipped(zipped(OTHER), -4))
    found = record(flipped(zipped(MINE), -8)) + record(zipped(MINE, OTHER)[:-30]) + record(gzip.compress(zipped(MINE)))
    assert quarantine_without(kept + found, PERSON) == Remainder(kept, 3)
    assert quarantine_without(kept, PERSON) is None
    unknown = record(damaged_after(OTHER, hidden=MINE))
    assert quarantine_without(unknown + found, PERSON) == Remainder(unknown, 3)
    with pytest.raises(UnreadableError):
        quarantine_without(unknown, PERSON)
