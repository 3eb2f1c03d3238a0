"""Batches as Bird sends them: the 27 types mixed, each event with an id and values of its own. Pure.

The same seed and start give the same batches, byte for byte. Built from the vendor's samples in events/samples.
"""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from bird_webhooks.data import folder
from bird_webhooks.simulator import sender_mix

SAMPLES = folder("events/samples")

# How often a type comes, roughly as in real mail; every other type comes once in a while.
COMMON_TYPES = {"injection": 30, "delivery": 30, "initial_open": 8, "open": 12, "click": 5, "bounce": 4, "delay": 4}
RARE = 1
# Events per batch, and how many batches of a hundred are of that size: "1 to 350 or more".
SIZES = (((1, 1), 15), ((2, 20), 35), ((21, 100), 30), ((101, 350), 16), ((351, 500), 4))

# What Bird leaves out of an event where it does not apply, or of one about an old message.
OPTIONAL = ("subaccount_id", "campaign_id", "rcpt_type", "transactional", "target_link_name")
OLD_MESSAGE = (
    *("campaign_id", "subject", "ip_pool", "sending_ip", "rcpt_meta", "rcpt_tags", "routing_domain"),
    *("template_id", "template_version", "transmission_id"),
)
FLAGS = ("open_tracking", "click_tracking", "initial_pixel", "amp_enabled")
SUBJECTS = ("Summer deals are here!", 'Your "order", confirmed', "Grüße aus Köln", "新しいお知らせ", "50 % off, today")
REASONS = (
    "550 5.1.1 <recipient@example.com>: no such user",
    'MAIL REFUSED - "IP (a.b.c.d)" is in black list, see http://example.com/?a=1&b=2',
    "421 4.7.0 try again later",
)
REASON_OF_TWO_LINES = "550-5.7.1 refused\r\n550 5.7.1 \\ see the policy"


class Batch(NamedTuple):
    """What one POST carries."""

    batch_id: str
    body: bytes
    events: int


class BatchMaker:
    """The batches of one run. `customer_id` is the run's own, so that its rows can be told from all others."""

    def __init__(
        self,
        seed: int,
        start: datetime,
        *,
        line_breaks: bool = True,
        spread_seconds: int = 2 * 86_400,
        like_a_sender: bool = False,
    ) -> None:
        self.seed = seed
        self.start = int(start.astimezone(UTC).timestamp())
        self.customer_id = str(10**11 + self._random("customer").randrange(10**11))
        self.line_breaks = line_breaks
        self.spread_seconds = spread_seconds  # before `start`, in which the events happened
        self.like_a_sender = like_a_sender  # types as often as in real mail, by campaign, provider and time of day

    def batches(self, count: int | None = None, *, first: int = 0) -> Iterator[Batch]:
        """`count` batches, or for ever."""
        number = first
        while count is None or number < first + count:
            yield self.batch(number)
            number += 1

    def batch(self, number: int, events: int | None = None) -> Batch:
        rng = self._random(str(number))
        if events is None:
            [(smallest, largest)] = rng.choices([size for size, _ in SIZES], [weight for _, weight in SIZES])
            events = rng.randint(smallest, largest)
        samples, usual = _samples()
        weights: Sequence[float] = usual
        if self.like_a_sender:
            weights = [sender_mix.TYPES.get(event["type"], sender_mix.RARE) for _, event in samples]
        mixed = rng.choices(samples, weights, k=events)
        elements = [self._element(rng, event_class, event) for event_class, event in mixed]
        return as_batch(str(uuid.UUID(int=rng.getrandbits(128), version=1)), elements)

    def troubles(self, events: int = 150) -> Iterator[Batch]:
        """Batches of what a sender should look at, `events` in each, beside those of `like_a_sender`."""
        rng = self._random("troubles")
        of_type = {event["type"]: event for event_class, event in _samples()[0] if event_class == "message_event"}
        elements = []
        for kind, fields in sender_mix.troubles(rng, self.start):
            element = self._element(rng, "message_event", of_type[kind])
            element["msys"]["message_event"].update(fields)
            elements.append(element)
        for first in range(0, len(elements), events):
            batch_id = str(uuid.UUID(int=rng.getrandbits(128), version=1))
            yield as_batch(batch_id, elements[first : first + events])

    def _random(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed} {self.start} {purpose}")  # noqa: S311  (repeatable is what it has to be)

    def _element(self, rng: random.Random, event_class: str, sample: dict[str, Any]) -> dict[str, Any]:
        event = dict(sample)
        event["customer_id"] = self.customer_id
        event["timestamp"] = str(self.start - rng.randrange(self.spread_seconds))
        odd = rng.random()
        if "event_id" in event:
            by_uuid = event_class in ("ab_test_event", "ingest_event")
            event["event_id"] = str(uuid.UUID(int=rng.getrandbits(128), version=4)) if by_uuid else _decimal_id(rng)
        else:
            # Its content is its identity.
            event["sms_remoteids"] = [f"{rng.getrandbits(64):016x}"]
        if "rcpt_to" in event:
            name = f"Person.{rng.randrange(100_000)}"
            event["raw_rcpt_to"], event["rcpt_to"] = f"{name}@Example.com", f"{name.lower()}@example.com"
        if "message_id" in event:
            event["message_id"] = f"{rng.getrandbits(80):020x}"
        if "transmission_id" in event:
            event["transmission_id"] = _decimal_id(rng)
        if "subject" in event:
            event["subject"] = rng.choice(SUBJECTS)
        if "msg_size" in event:
            event["msg_size"] = str(rng.randrange(500, 200_000))
        if "raw_reason" in event:
            event["raw_reason"] = REASON_OF_TWO_LINES if self.line_breaks and odd < 0.2 else rng.choice(REASONS)
        if "rcpt_meta" in event:
            event["rcpt_meta"] = _metadata(rng)
        if self.like_a_sender:
            sender_mix.dress(rng, event, self.start, self.spread_seconds)
        if odd > (0.98 if self.like_a_sender else 0.8):
            _make_odd(rng, event)
        return {"msys": {event_class: event}}


def as_batch(batch_id: str, elements: list[dict[str, Any]]) -> Batch:
    """A batch of these elements."""
    return Batch(batch_id, json.dumps(elements, separators=(",", ":"), ensure_ascii=False).encode(), len(elements))


@cache
def _samples() -> tuple[list[tuple[str, dict[str, Any]]], list[int]]:
    """(class, event) of each of the 27 types, and how often it comes."""
    samples = []
    for path in sorted(SAMPLES.glob("*_event.*.json")):
        [element] = json.loads(path.read_text())
        samples += list(element["msys"].items())
    return samples, [COMMON_TYPES.get(event["type"], RARE) for _, event in samples]


def _decimal_id(rng: random.Random) -> str:
    return str(rng.randrange(10**16, 2**63))


def _metadata(rng: random.Random) -> dict[str, Any]:
    """The sender's own: mostly small, now and then large, any Unicode."""
    metadata: dict[str, Any] = {"order": rng.randrange(10**6), "name": rng.choice(SUBJECTS)}
    if rng.random() < 0.02:
        metadata["basket"] = [{"sku": f"{rng.getrandbits(32):08x}", "price": rng.randrange(10**4) / 100}] * 50
    return metadata


def _make_odd(rng: random.Random, event: dict[str, Any]) -> None:
    """What was seen from Bird over the years, and has to arrive all the same."""
    match rng.randrange(6):
        case 0:
            for name in OPTIONAL:
                event.pop(name, None)
        case 1:
            for name in OLD_MESSAGE:
                event.pop(name, None)
        case 2:
            event.update({name: "1" for name in FLAGS if name in event})
        case 3:
            event["timestamp"] = int(event["timestamp"])
        case 4:
            event["next_attempt"] = rng.randrange(10)
        case 5 if "geo_ip" in event:
            event["geo_ip"] = {**event["geo_ip"], "latitude": "39.1749", "continent": "NA"}
