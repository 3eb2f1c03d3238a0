"""What one sender's mail looks like over days: campaigns, mailbox providers, hours with more of it and with less. Pure.

For reports and dashboards to have something to show. What tests of the machinery want is another mix: all types often.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

# How often a type comes, in ten thousand.
TYPES = {
    "injection": 3200,
    "delivery": 3050,
    "initial_open": 1150,
    "open": 900,
    "click": 210,
    "delay": 130,
    "bounce": 85,
    "out_of_band": 7,
    "list_unsubscribe": 12,
    "link_unsubscribe": 8,
    "policy_rejection": 6,
    "spam_complaint": 0.4,
}
RARE = 1

# Share of the mail, and how readily it bounces and is acted upon: a clean list, an old one, mail that people wait for.
CAMPAIGNS = {
    "Autumn sale": (30, 1.0, 0.9),
    "Weekly newsletter": (26, 0.8, 1.1),
    "Order confirmation": (20, 0.3, 1.9),
    "Password reset": (9, 0.2, 1.6),
    "Win back lapsed customers": (8, 4.0, 0.35),
    "Loyalty points": (6, 0.7, 1.3),
    "Partner survey, draft": (0.12, 2.0, 0.5),
}
# Share of the mail, how readily it bounces, and how much of the opening is done by machines or by way of a proxy.
PROVIDERS = {
    "Gmail": (38, 0.7, 0.04, 0.9),
    "Microsoft": (21, 1.2, 0.06, 0.0),
    "Apple": (14, 0.6, 0.82, 0.1),
    "Yahoo": (11, 1.1, 0.05, 0.7),
    "Gsuite": (7, 0.8, 0.05, 0.9),
    "GMX": (5, 1.5, 0.0, 0.0),
    "Orange": (3, 3.2, 0.0, 0.0),
}
# Those that tell senders of complaints; Google does not.
REPORT_COMPLAINTS = ("Microsoft", "Yahoo", "Orange", "GMX")
FAILURES = (
    (10, "550 5.1.1 The email account that you tried to reach does not exist", 46),
    (22, "452 4.2.2 The recipient's inbox is out of storage space", 18),
    (30, "550 Requested action not taken: mailbox unavailable", 12),
    (51, "550 5.7.1 Service unavailable, client host [a.b.c.d] blocked using a block list", 9),
    (21, "Domain has no MX records", 6),
    (52, "554 5.7.1 Message refused: content looks like spam", 5),
    (1, "MAIL REFUSED - IP (a.b.c.d) is in black list", 2),
    (54, "550 5.7.0 Relaying denied", 1),
)
DELAYS = (
    (70, "421 4.7.0 Try again later, closing connection", 50),
    (22, "452 4.2.2 The recipient's inbox is out of storage space", 30),
    (24, "Connection timed out", 20),
)
ACTED_UPON = ("open", "initial_open", "click", "amp_open", "amp_initial_open", "amp_click")
NOT_DELIVERED = ("bounce", "out_of_band", "delay", "spam_complaint")
# Mail by hour of the day in UTC; a weekend has half of it.
HOURS = (2, 1, 1, 1, 2, 4, 9, 16, 22, 24, 21, 18, 16, 17, 18, 19, 20, 22, 21, 17, 12, 8, 5, 3)
WEEKEND = 0.5


def dress(rng: random.Random, event: dict[str, Any], start: int, spread_seconds: int) -> None:
    """Give the event a campaign, a provider and a time, and what follows from them."""
    event["timestamp"] = str(moment(rng, start, spread_seconds))
    kind = event["type"]
    if "campaign_id" in event:
        event["campaign_id"] = chosen(
            rng, {name: share * tilt(kind, *rest) for name, (share, *rest) in CAMPAIGNS.items()}
        )
    if "mailbox_provider" not in event:
        return
    shares = {name: share * tilt(kind, bounces, 1) for name, (share, bounces, *_) in PROVIDERS.items()}
    provider = event["mailbox_provider"] = chosen(rng, shares)
    if kind == "spam_complaint":
        provider = event["mailbox_provider"] = chosen(rng, {name: shares[name] for name in REPORT_COMPLAINTS})
    _, _, machines, proxies = PROVIDERS[provider]
    if "user_agent_parsed" in event:
        ahead = kind not in ("click", "amp_click") and rng.random() < machines
        by_proxy = ahead or rng.random() < proxies
        event["user_agent_parsed"] = {**event["user_agent_parsed"], "is_prefetched": ahead, "is_proxy": by_proxy}
    if "num_retries" in event:
        event["num_retries"] = "0"
    if kind in ("bounce", "out_of_band", "delay"):
        what = rng.choices(
            DELAYS if kind == "delay" else FAILURES, [w for *_, w in (DELAYS if kind == "delay" else FAILURES)]
        )
        [(bounce_class, reason, _)] = what
        event["bounce_class"], event["reason"] = str(bounce_class), reason
    if kind == "policy_rejection":
        event["reason"] = "550 5.7.1 recipient address suppressed due to customer policy"


def tilt(kind: str, bounces: float, acted_upon: float) -> float:
    if kind in NOT_DELIVERED:
        return bounces
    return acted_upon if kind in ACTED_UPON else 1


def chosen(rng: random.Random, shares: Mapping[str, float]) -> str:
    [name] = rng.choices(list(shares), list(shares.values()))
    return name


def moment(rng: random.Random, start: int, spread_seconds: int) -> int:
    """A time in the seconds before `start`, sooner one of a busy hour."""
    while True:
        at = start - rng.randrange(spread_seconds)
        weekday, hour = (at // 86_400 + 3) % 7, at // 3600 % 24  # the first day of Unix time was a Thursday
        if rng.random() * max(HOURS) < HOURS[hour] * (WEEKEND if weekday > 4 else 1):
            return at


# What "Needs attention" of the report has to name, and nothing else.
BLOCKING_PROVIDER, BLOCKED = "GMX", "554 5.7.1 Mail from a.b.c.d refused: the sender's reputation is too low"
CAMPAIGN_WITH_COMPLAINTS = "Win back lapsed customers"
DOMAIN_THAT_RETURNS = "closed-company.example.com"
LATELY = 3 * 86_400  # seconds before the end, in which the troubles happened


def troubles(rng: random.Random, start: int) -> Iterator[tuple[str, dict[str, str]]]:
    """(type, fields) of the events of three troubles, each with the mail around it: a provider that blocks, a campaign
    with complaints, and a recipient domain that takes everything and returns it."""
    usual = {name: share for name, (share, *_) in CAMPAIGNS.items()}
    for number in range(510):
        at = {"message_id": f"b10c{number:016x}", "timestamp": str(moment(rng, start, LATELY))}
        where = {"campaign_id": chosen(rng, usual), "mailbox_provider": BLOCKING_PROVIDER}
        if number % 3:
            yield "bounce", {**at, **where, "bounce_class": "51", "reason": BLOCKED}
        else:
            yield "delivery", {**at, **where}
    for number in range(1500):
        at = {"message_id": f"5ba3{number:016x}", "timestamp": str(moment(rng, start, LATELY))}
        reporters = {name: PROVIDERS[name][0] for name in ("Microsoft", "Yahoo")}
        where = {"campaign_id": CAMPAIGN_WITH_COMPLAINTS, "mailbox_provider": chosen(rng, reporters)}
        yield "delivery", {**at, **where}
        if number % 30 == 0:
            yield "spam_complaint", {**at, **where}
    for number in range(550):
        at = {"message_id": f"0ddd{number:016x}", "timestamp": str(moment(rng, start, LATELY))}
        address = f"person.{number}@{DOMAIN_THAT_RETURNS}"
        where = {"campaign_id": chosen(rng, usual), "mailbox_provider": "", "recipient_domain": DOMAIN_THAT_RETURNS}
        to = {"rcpt_to": address, "raw_rcpt_to": address, "routing_domain": DOMAIN_THAT_RETURNS}
        yield "delivery", {**at, **where, **to}
        reason = "550 5.1.1 There is no mailbox of this name"
        yield "out_of_band", {**at, **where, **to, "bounce_class": "10", "reason": reason}
