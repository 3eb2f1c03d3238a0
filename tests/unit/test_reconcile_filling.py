"""What finding and fetching costs, in calls; and what an address is. With an API of a few lines."""

from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta
from time import process_time

import msgspec
import pytest

from process.tombstones import Tombstones, name
from reconcile.as_webhook import Event
from reconcile.filling import _middle, addresses, fill
from reconcile.raw_batches import NothingStored
from tests.integration.reconcile_world import Raw

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class Api:
    """Bird, and what is here, with an event every so many milliseconds; a page has 10 events, Bird's has 10,000."""

    per_page = 10

    def __init__(self, every_milliseconds: int) -> None:
        self.calls = Counter[str]()
        step = timedelta(milliseconds=every_milliseconds)
        self.times = [MIDNIGHT + number * step for number in range(DAY // step)]
        self.lost: set[int] = set()
        self.rcpt_meta = b"{}"

    def lose(self, since: datetime, until: datetime) -> None:
        self.lost |= set(range(*self.places(since, until)))

    def places(self, since: datetime, until: datetime) -> tuple[int, int]:
        return bisect_left(self.times, since), bisect_left(self.times, until)

    def count(self, since, until, types, subaccounts=None) -> int:
        self.calls["count"] += 1
        first, last = self.places(since, until)
        return last - first

    def events(self, since, until, types, subaccounts=None):
        first, last = self.places(since, until)
        self.calls["page"] += -((first - last) // self.per_page)
        for number in range(first, last):
            fields = {"type": "open", "event_id": str(number), "timestamp": self.times[number].isoformat()}
            fields["customer_id"] = "7"
            encoded = {name: msgspec.json.encode(value) for name, value in fields.items()}
            yield Event.of({name: msgspec.Raw(body) for name, body in {**encoded, "rcpt_meta": self.rcpt_meta}.items()})

    def minutes(self, since, until, types):
        first, last = self.places(since, until)
        return Counter(
            (self.times[number].replace(second=0, microsecond=0), "open")
            for number in range(first, last)
            if number not in self.lost
        )

    def keys(self, since, until, types):
        first, last = self.places(since, until)
        return {("7", "track_event", "open", str(n)) for n in range(first, last) if n not in self.lost}


def filled(api: Api):
    nobody = Tombstones(b"", {})
    return fill(api, api, NothingStored(), lambda: nobody, MIDNIGHT, MIDNIGHT + DAY, ["open"])


# A page of 10 events here is one of 10,000 at Bird: an event here stands for a thousand.
ONE_MILLION, HUNDRED_MILLION = 86_400, 864


@pytest.mark.parametrize(
    ("every_milliseconds", "lost", "counts", "pages"),
    [
        pytest.param(ONE_MILLION, timedelta(0), 1, 0, id="1 million a day, nothing"),
        pytest.param(HUNDRED_MILLION, timedelta(0), 1, 0, id="100 million a day, nothing"),
        pytest.param(ONE_MILLION, timedelta(seconds=90), 9, 1, id="1 million, a batch"),
        pytest.param(HUNDRED_MILLION, timedelta(seconds=1), 12, 7, id="100 million, a batch"),
        pytest.param(ONE_MILLION, 8 * HOUR, 18, 41, id="1 million, eight hours"),
        pytest.param(HUNDRED_MILLION, HOUR, 68, 420, id="100 million, an hour"),
    ],
)
def test_what_is_equal_costs_its_count_and_what_differs_as_many_pages_as_it_fills(
    every_milliseconds, lost, counts, pages
):
    api = Api(every_milliseconds)
    api.lose(MIDNIGHT + 13 * HOUR + 7 * MINUTE, MIDNIGHT + 13 * HOUR + 7 * MINUTE + lost)
    found = filled(api)
    assert (found.stored, found.left) == (len(api.lost), False)
    assert bool(api.lost) == bool(lost)
    assert api.calls["count"] <= counts
    assert api.calls["page"] <= pages


def test_a_window_is_halved_on_whole_hours_and_then_on_minutes():
    assert _middle(MIDNIGHT, MIDNIGHT + DAY) == MIDNIGHT + 12 * HOUR
    assert _middle(MIDNIGHT + 30 * MINUTE, MIDNIGHT + 3 * HOUR) == MIDNIGHT + HOUR
    assert _middle(MIDNIGHT, MIDNIGHT + HOUR) == MIDNIGHT + 30 * MINUTE
    assert _middle(MIDNIGHT, MIDNIGHT + 3 * MINUTE) == MIDNIGHT + MINUTE
    begin, end = MIDNIGHT + 59 * MINUTE, MIDNIGHT + 3 * HOUR + MINUTE
    while end - begin > MINUTE:
        middle = _middle(begin, end)
        assert begin < middle < end
        begin = middle


@pytest.mark.parametrize(
    "value",
    [
        "person@example.com",
        "550 5.1.1 <person@example.com>: unknown",
        "no such user 'person@example.com'",
        "https://x.example/?to=person%40example.com&b=1",
        ["a", {"b": "person@example.com"}],
        {"person@example.com": 1},
        "mailto:person@example.com?subject=Hi",
        "Person <person@example.com>, Other <other@example.com>",
    ],
)
def test_addresses_are_found_wherever_they_stand(value):
    assert "person@example.com" in addresses(msgspec.json.encode({"msys": {"track_event": {"x": value}}}))


@pytest.mark.parametrize(
    "address", ["o'brien@example.com", "a=b/c@example.com", '"two words"@example.com', "p\u00e9@x.com"]
)
def test_unusual_addresses_are_found_as_a_value(address):
    assert address in addresses(msgspec.json.encode({"rcpt_to": address}))


@pytest.mark.parametrize("value", ["no address at all", None, 7, True, "", "@"])
def test_what_is_not_an_address_covers_nobody(value):
    found = addresses(msgspec.json.encode({"x": value}))
    assert not any(
        Tombstones(b"key", {name("person@example.com", b"key"): MIDNIGHT}).covers(one, None) for one in found
    )


def test_a_long_or_deep_value_takes_no_longer_than_its_length():
    began = process_time()
    addresses(msgspec.json.encode({"x": "a" * 300_000 + " @"}))
    found = addresses(b'{"x":' + b"[" * 20_000 + b'"person@example.com"' + b"]" * 20_000 + b"}")
    assert "person@example.com" in found
    assert process_time() - began < 1


ODD_NUMBERS = ["1e999", "-1e400", "1" * 5000]


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_addresses_are_found_beside_a_number_of_any_size(number):
    body = b'{"rcpt_meta":{"n":%b},"rcpt_to":"person@example.com"}' % number.encode()
    assert "person@example.com" in addresses(body)


READ_BY_PROCESS = {
    b"\xff caf\xe9": ("\ufffd caf\ufffd", "caf\ufffd"),
    rb"\ud83d cut": ("\ufffd cut", "cut"),
    rb"\udc00": ("\ufffd",),
}


@pytest.mark.parametrize("text", READ_BY_PROCESS)
def test_addresses_are_found_beside_what_is_no_text(text):
    """A subject that is cut in the midst of an emoji, or that is not UTF-8."""
    assert "person@example.com" in addresses(b'{"subject":"%b","rcpt_to":"person@example.com"}' % text)
    assert addresses(b'{"x":"%b@example.com"}' % text) <= {f"{name}@example.com" for name in READ_BY_PROCESS[text]}


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_an_event_with_a_number_of_any_size_is_filled_in_once_and_as_it_is(number):
    raw = Raw()
    api = Api(HUNDRED_MILLION)
    api.times = [MIDNIGHT, MIDNIGHT + MINUTE]
    api.lose(MIDNIGHT, MIDNIGHT + DAY)
    api.rcpt_meta = f'{{"n":{number}}}'.encode()
    erased = Tombstones(b"", {name("person@example.com", b""): MIDNIGHT + HOUR})
    for stored, waiting in ((2, 0), (0, 2)):
        found = fill(api, api, raw, lambda: erased, MIDNIGHT, MIDNIGHT + DAY, ["open"])
        assert (found.stored, found.waiting, found.erased) == (stored, waiting, 0)
    [body] = raw.objects.values()
    assert body.count(b'"rcpt_meta":{"n":%b}' % number.encode()) == 2
