"""Batches like Bird's, made from its samples with a seed: the same arguments give the same bytes.

The samples show every documented field at once, but a real e-mail event has no SMS fields, and only some have an A/B
test, a schedule or a subaccount. The shares of the types follow one campaign: each message is injected and delivered,
some are opened, few are clicked, and every other type is rare.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "events/samples/all-27-events.json"
INPUTS = ROOT / ".local/bench/inputs"
FIRST_SECOND = int(datetime(2026, 11, 16, tzinfo=UTC).timestamp())

SHARES = {
    "injection": 0.29,
    "delivery": 0.28,
    "open": 0.14,
    "initial_open": 0.09,
    "click": 0.05,
    "bounce": 0.04,
    "delay": 0.02,
    "list_unsubscribe": 0.01,
    "link_unsubscribe": 0.01,
}  # the other types share the rest evenly
# Fields that Bird might add; each name always has the same kind of value.
UNKNOWN = {
    "dkim_result": lambda chance: {"pass": chance.random() < 0.9, "selector": f"s{chance.randrange(9)}"},
    "next_attempt": lambda chance: str(chance.randrange(60, 7200)),
    "delivery_zone": lambda chance: chance.choice(["eu", "us", "ap"]),
}
SHARE_OF_EVENTS_WITH_UNKNOWN = 0.2  # in a batch that has any
AGENTS = [
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15", "WebKit", "Apple", "Mac", "Mac OS X"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15", "WebKit", "Apple", "iPhone", "iOS"),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131",
        "Chrome",
        "Google",
        "Pixel",
        "Android",
    ),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Edg/131.0", "Edge", "Generic", "PC", "Windows"),
    ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com)", "Proxy", "Google", "Bot", "Other"),
]
PLACES = [
    ("US", "MD", "Columbia", 39.1749, -76.8375, 21046),
    ("DE", "BE", "Berlin", 52.5244, 13.4105, 10115),
    ("FR", "IDF", "Paris", 48.8534, 2.3488, 75001),
    ("GB", "ENG", "London", 51.5085, -0.1257, 0),
    ("NL", "NH", "Amsterdam", 52.374, 4.8897, 1012),
]
PROVIDERS = [("Gmail", "Global"), ("Gsuite", "Europe - UK"), ("Microsoft", "Global"), ("Yahoo", "Global")]
FAILURES = [
    ("10", "550", "550 5.1.1 <{to}>: Recipient address rejected: User unknown", "550 5.1.1 <x@y>: User unknown"),
    ("22", "552", "552 5.2.2 <{to}> mailbox full", "552 5.2.2 <x@y> mailbox full"),
    ("51", "554", "554 5.7.1 Service unavailable; client [{ip}] blocked", "554 5.7.1 client [a.b.c.d] blocked"),
    ("21", "451", "451 4.7.500 Server busy. Please try again later from {ip}", "451 4.7.500 Server busy"),
]


class Input(NamedTuple):
    """What to generate. `unknown` is the share of batches that have fields without a column."""

    batches: int = 100
    events: int = 350
    unknown: float = 0.05
    days: float = 0.2
    seed: int = 1

    def arrival(self, batch: int) -> int:
        """Unix seconds at which a batch arrives."""
        return FIRST_SECOND + 3600 + int(batch * self.days * 86_400 / self.batches)


def prepare(wanted: Input) -> list[Path]:
    """The batches as files, named by batch id, in the order of arrival; created on the first call."""
    recipe = hashlib.sha256(f"{wanted}".encode() + Path(__file__).read_bytes() + SAMPLES.read_bytes()).hexdigest()
    directory = INPUTS / recipe[:16]
    if not directory.exists():
        unfinished = directory.with_suffix(".unfinished")
        rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for number, body in enumerate(batches(wanted)):
            (unfinished / f"{number:05d}-{hashlib.sha256(body).hexdigest()[:24]}.json").write_bytes(body)
        unfinished.rename(directory)
    return sorted(directory.iterdir())


def batches(wanted: Input) -> Iterator[bytes]:
    """From the 101st batch on, copies of the first 100 with new event ids: equal in size and mix."""
    made = []
    for body in _batches(wanted._replace(batches=min(wanted.batches, 100))):
        made.append(body)
        yield body
    chance = random.Random(f"copies {wanted.seed}")  # noqa: S311
    for number in range(len(made), wanted.batches):
        yield re.sub(rb'"event_id":"\d+"', lambda _: b'"event_id":"%d"' % _event_id(chance), made[number % len(made)])


def _event_id(chance: random.Random) -> int:
    return chance.randrange(10**17, 10**18)


def _batches(wanted: Input) -> Iterator[bytes]:
    chance = random.Random(f"{wanted.seed} {wanted.events} {wanted.unknown}")  # noqa: S311
    campaigns = [_campaign(chance, number) for number in range(20)]
    for number in range(wanted.batches):
        # Evenly spread, with exactly the share in `wanted`.
        has_unknown = int((number + 1) * wanted.unknown) > int(number * wanted.unknown)
        yield _batch(chance, campaigns, wanted.arrival(number), wanted.events, has_unknown=has_unknown)


def batches_at(arrivals: Iterable[tuple[int, int]], seed: int) -> Iterator[bytes]:
    """A batch for each (Unix seconds of its arrival, number of its events)."""
    chance = random.Random(f"arrivals {seed}")  # noqa: S311
    campaigns = [_campaign(chance, number) for number in range(20)]
    for arrival, events in arrivals:
        yield _batch(chance, campaigns, arrival, events)


def _batch(
    chance: random.Random, campaigns: list[dict[str, Any]], arrival: int, events: int, *, has_unknown: bool = False
) -> bytes:
    names, cumulative = _types()
    elements = []
    for name in chance.choices(names, cum_weights=cumulative, k=events):
        event_class, event = _event(chance, name, chance.choice(campaigns), arrival - chance.randrange(60))
        if has_unknown and chance.random() < SHARE_OF_EVENTS_WITH_UNKNOWN:
            field = chance.choice(list(UNKNOWN))
            event[field] = UNKNOWN[field](chance)
        elements.append({"msys": {event_class: event}})
    return json.dumps(elements, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def _samples() -> dict[str, tuple[str, dict[str, Any]]]:
    samples = {}
    for element in json.loads(SAMPLES.read_text()):
        [(event_class, event)] = element["msys"].items()
        samples[event["type"]] = event_class, event
    return samples


@cache
def _types() -> tuple[list[str], list[float]]:
    """Names, and their shares added up."""
    names = list(_samples())
    other = (1 - sum(SHARES.values())) / (len(names) - len(SHARES))
    return names, list(accumulate(SHARES.get(name, other) for name in names))


def _campaign(chance: random.Random, number: int) -> dict[str, Any]:
    """The values that all events of a campaign share, and the fields that they lack."""
    template = f"templ-{chance.randrange(1000, 9999)}"
    absent = {"device_token", "rcpt_type" if number % 4 else ""}
    absent |= set() if number % 5 == 0 else {"ab_test_id", "ab_test_version"}
    absent |= set() if number % 3 == 0 else {"scheduled_time"}
    absent |= set() if number % 2 == 0 else {"subaccount_id"}
    return {
        "absent": absent,
        "values": {
            "campaign_id": f"Campaign {number} {chance.choice(['Spring', 'Summer', 'Autumn', 'Winter'])} 2026",
            "template_id": template,
            "template_version": str(chance.randrange(1, 12)),
            "ip_pool": chance.choice(["marketing", "transactional", "example-ip-pool"]),
            "subject": chance.choice(
                ["Summer deals are here!", "Ihre Rechnung Nr. {n}, fällig", "Reset your password", "Your order {n}"]
            ),
            "subaccount_id": str(chance.randrange(100, 120)),
            "friendly_from": f"news{number}@example.com",
            "msg_from": f"msprvs1=1={number}@bounces.example.com",
            "transactional": chance.choice(["0", "1"]),
            "sending_ip": f"198.51.100.{chance.randrange(256)}",
        },
    }


def _event(chance: random.Random, name: str, campaign: dict[str, Any], moment: int) -> tuple[str, dict[str, Any]]:
    event_class, sample = _samples()[name]
    recipient = chance.randrange(200_000)
    address = f"recipient.{recipient}@example.com"
    queued = chance.randrange(200, 90_000)
    provider, region = PROVIDERS[recipient % len(PROVIDERS)]
    digest = hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
    failure_class, code, raw_reason, reason = chance.choice(FAILURES)
    client = f"203.0.113.{recipient % 256}"
    agent, family, brand, device, system = AGENTS[recipient % len(AGENTS)]
    country, state, city, latitude, longitude, postcode = PLACES[recipient % len(PLACES)]
    values: dict[str, Any] = {
        **campaign["values"],
        "event_id": str(_event_id(chance)),
        "message_id": f"{chance.getrandbits(80):020x}",
        "transmission_id": str(65_832_150_921_000_000 + recipient // 4000),
        "timestamp": str(moment),
        "injection_time": datetime.fromtimestamp(moment - queued // 1000, UTC).strftime(
            f"%Y-%m-%dT%H:%M:%S.{queued % 1000:03d}Z"
        ),
        "scheduled_time": str(moment - 3600),
        "queue_time": str(queued),
        "num_retries": str(0 if chance.random() < 0.9 else chance.randrange(1, 6)),
        "msg_size": str(chance.randrange(2_000, 90_000)),
        "rcpt_to": address,
        "raw_rcpt_to": address,
        "rcpt_hash": digest,
        "mailfrom": address,
        "mailbox_provider": provider,
        "mailbox_provider_region": region,
        "rcpt_meta": {"customer": f"c-{recipient}", "order": str(chance.randrange(10**6)), "segment": digest[:8]},
        "rcpt_tags": [chance.choice(["male", "female", "other"]), country],
        "ip_address": client,
        "bounce_class": failure_class,
        "error_code": code,
        "raw_reason": raw_reason.format(to=address, ip=campaign["values"]["sending_ip"]),
        "reason": reason,
        "outbound_tls": chance.choice(["1", "1", "1", "0"]),
        "target_link_url": f"https://www.example.com/offers/{chance.randrange(40)}?c={recipient}",
        "target_link_name": f"Offer {chance.randrange(40)}",
        "user_agent": agent,
        "sms_dst": str(7_800_000_000 + recipient),
        "batch_id": f"{chance.getrandbits(128):032x}",
    }
    values["subject"] = values["subject"].replace("{n}", str(recipient))
    is_sms = name == "sms_status"
    event = {
        field: values.get(field, value)
        for field, value in sample.items()
        if field not in campaign["absent"] and (is_sms or not field.startswith("sms_"))
    }
    if "geo_ip" in event:
        event["geo_ip"] = {
            "country": country,
            "region": state,
            "city": city,
            "latitude": latitude,
            "longitude": longitude,
            "zip": postcode,
            "postal_code": f"{postcode:05d}",
        }
    if "user_agent_parsed" in event:
        event["user_agent_parsed"] = {
            "agent_family": family,
            "device_brand": brand,
            "device_family": device,
            "os_family": system,
            "os_version": "18",
            "is_mobile": device in ("iPhone", "Pixel"),
            "is_proxy": family == "Proxy",
            "is_prefetched": False,
        }
    return event_class, event
