"""The answers to the queries -> what the page shows: rates, names, series. Pure.

Answers are rows from Athena (text) or PostgreSQL (numbers and times); both give the same figures. Addresses in text
from senders or remote servers are masked here.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import unquote

from report.queries import LAGS, REJECTIONS, Period

Row = Mapping[str, Any]
Answers = Mapping[str, Sequence[Row]]

FEW = 100  # messages: below this a rate says little, because one message moves it by a percent or more
MAX_REASONS_SHOWN = 12
MAX_NAMES_SHOWN = 20
# Up to this length the charts have a bar for each hour, beyond it one for each day.
HOURLY_UP_TO = timedelta(days=10)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# content/docs/deliverability/bounce-classification-codes.md of https://github.com/SparkPost/support-docs
BOUNCE_CLASSES = {
    1: ("Undetermined", "other"),
    10: ("Invalid recipient", "hard"),
    20: ("Soft bounce", "soft"),
    21: ("DNS failure", "soft"),
    22: ("Mailbox full", "soft"),
    23: ("Too large", "soft"),
    24: ("Timeout", "soft"),
    25: ("Admin failure", "admin"),
    26: ("Smart Send suppression", "admin"),
    30: ("Generic bounce, no recipient", "hard"),
    40: ("Generic bounce", "soft"),
    50: ("Mail block", "block"),
    51: ("Spam block", "block"),
    52: ("Spam content", "block"),
    53: ("Prohibited attachment", "block"),
    54: ("Relaying denied", "block"),
    60: ("Auto-reply", "soft"),
    70: ("Transient failure", "soft"),
    80: ("Subscribe", "admin"),
    90: ("Unsubscribe", "hard"),
    100: ("Challenge-response", "soft"),
}
KINDS = {
    "bounce": "Bounced",
    "out_of_band": "Bounced later",
    "delay": "Delayed",
    "policy_rejection": "Rejected by Bird",
    "generation_failure": "Not generated",
    "generation_rejection": "Not generated",
}


@dataclass(frozen=True)
class Rate:
    """A part of a whole. `share` is None if the whole is 0."""

    part: int
    whole: int

    @property
    def share(self) -> float | None:
        return self.part / self.whole if self.whole else None


@dataclass(frozen=True)
class Headline:
    """The main figures of one period."""

    sent: int
    delivered: Rate
    bounced: Rate
    complaints: Rate
    opened_by_people: Rate
    clicked_by_people: Rate


@dataclass(frozen=True)
class Group:
    """A campaign or a mailbox provider."""

    name: str
    sent: int
    delivered: Rate
    bounced: Rate
    complaints: Rate
    unsubscribes: Rate
    opened_by_people: Rate
    clicked_by_people: Rate

    @property
    def few(self) -> bool:
        return self.sent < FEW


@dataclass(frozen=True)
class Lag:
    """How late events arrive: this share of them arrives within `seconds`, or later than a day (None)."""

    share: float
    seconds: int | None


@dataclass(frozen=True)
class Quarantine:
    """What was not an event, by reason. `unread` files were not read, so that writing a report ends in time."""

    reasons: Mapping[str, int] = field(default_factory=dict)
    unread: int = 0

    @property
    def records(self) -> int:
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Reason:
    kind: str
    bounce_class: str
    text: str
    events: int


@dataclass(frozen=True)
class Figures:
    period: Period
    events: int
    events_before: int
    now: Headline
    before: Headline | None
    rejected: int
    returned: int
    replies: int
    delays: int
    unsubscribes: int
    types: list[tuple[str, str, int]]
    bars: str
    series: list[dict[str, Any]]
    opens: dict[str, int]
    opened: int
    campaigns: list[Group]
    all_campaigns: int
    providers: list[Group]
    all_providers: int
    bounce_classes: list[tuple[str, str, int]]
    reasons: list[Reason]
    reason_events: int
    latest: datetime | None
    latest_received: datetime | None
    lags: list[Lag]
    with_extra: int
    unknown_fields: list[tuple[str, int]]
    extra_events_read: int
    quarantine: Quarantine | None


def figures(period: Period, answers: Answers, quarantine: Quarantine | None = None) -> Figures:
    """`quarantine` is None if it was not counted."""
    now, before = Counter[str](), Counter[str]()
    for row in answers["types"]:
        now[str(row["type"])] += number(row["events"])
        before[str(row["type"])] += number(row["events_before"])
    [totals] = answers["totals"]
    events, events_before = number(totals["events"]), number(totals["events_before"])
    extra_events, unknown = unknown_fields(answers["extras"])
    return Figures(
        period=period,
        events=events,
        events_before=events_before,
        now=headline(now, totals, ""),
        before=headline(before, totals, "_before") if events_before else None,
        rejected=sum(now[name] for name in REJECTIONS),
        returned=number(totals["returned"]),
        replies=now["out_of_band"] - number(totals["returned"]),
        delays=now["delay"],
        unsubscribes=now["list_unsubscribe"] + now["link_unsubscribe"],
        types=[
            (masked(row["event_class"]), masked(row["type"]), number(row["events"]))
            for row in answers["types"]
            if number(row["events"])
        ],
        bars="hour" if period.until - period.since <= HOURLY_UP_TO else "day",
        series=series(period, answers["hours"]),
        opens={
            "direct": number(totals["opens_direct"]),
            "proxy": number(totals["opens_by_proxy"]),
            "machine": number(totals["opens_by_machine"]),
        },
        opened=number(totals["opened"]),
        campaigns=campaigns(answers["campaigns"]),
        all_campaigns=number(answers["campaigns"][0]["all_groups"]) if answers["campaigns"] else 0,
        providers=[group(row) for row in answers["providers"]],
        all_providers=number(answers["providers"][0]["all_groups"]) if answers["providers"] else 0,
        bounce_classes=[
            (*bounce_class(row["bounce_class"]), number(row["events"])) for row in answers["bounce_classes"]
        ],
        reasons=reasons(answers["reasons"]),
        reason_events=number(answers["reasons"][0]["all_events"]) if answers["reasons"] else 0,
        latest=latest(row["latest"] for row in answers["types"]),
        latest_received=latest(row["latest_received"] for row in answers["types"]),
        lags=lags(totals),
        with_extra=number(totals["with_extra"]),
        unknown_fields=unknown,
        extra_events_read=extra_events,
        quarantine=quarantine,
    )


def headline(events: Mapping[str, int], totals: Row, which: str) -> Headline:
    """`which`: the suffix of the columns of `totals`, "_before" for the period before."""
    delivered, bounced = events["delivery"], events["bounce"]
    return Headline(
        sent=delivered + bounced,
        delivered=Rate(delivered, delivered + bounced),
        bounced=Rate(bounced + number(totals[f"returned{which}"]), delivered + bounced),
        complaints=Rate(number(totals[f"complaints{which}"]), delivered),
        opened_by_people=Rate(number(totals[f"opened_by_people{which}"]), delivered),
        clicked_by_people=Rate(number(totals[f"clicked_by_people{which}"]), delivered),
    )


def campaigns(rows: Sequence[Row]) -> list[Group]:
    """The name includes the account if there are several."""
    several = len({row["account"] for row in rows}) > 1
    return [
        replace(group(row), name=f"{masked(row['name'])} (account {masked(row['account']) or 'unknown'})")
        if several
        else group(row)
        for row in rows
    ]


def group(row: Row) -> Group:
    sent, delivered = number(row["sent"]), number(row["delivered"])
    return Group(
        name=masked(row["name"]),
        sent=sent,
        delivered=Rate(delivered, sent),
        bounced=Rate(number(row["bounced"]), sent),
        complaints=Rate(number(row["complaints"]), delivered),
        unsubscribes=Rate(number(row["unsubscribes"]), delivered),
        opened_by_people=Rate(number(row["opened_by_people"]), delivered),
        clicked_by_people=Rate(number(row["clicked_by_people"]), delivered),
    )


def series(period: Period, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One item for each hour or day of the period, those without events included."""
    step = HOUR if period.until - period.since <= HOURLY_UP_TO else DAY
    names = ("events", "delivered", "bounced", "delayed", "complaints", "opens", "machine_opens", "clicks")
    start = floor(period.since, step)
    slots: dict[datetime, dict[str, Any]] = {}
    while start < period.until:
        slots[start] = {"start": start, **dict.fromkeys(names, 0)}
        start += step
    for row in rows:
        hour = moment(row["hour"])
        if hour is not None and (slot := slots.get(floor(hour, step))):
            for name in names:
                slot[name] += number(row[name])
    return list(slots.values())


def floor(at: datetime, step: timedelta) -> datetime:
    return (
        at.replace(minute=0, second=0, microsecond=0)
        if step == HOUR
        else at.replace(hour=0, minute=0, second=0, microsecond=0)
    )


def reasons(rows: Sequence[Row]) -> list[Reason]:
    """The most frequent reasons. Those that are equal after masking count together."""
    found = Counter[tuple[str, str, str]]()
    for row in rows:
        name = bounce_class(row["bounce_class"])[0] if row["bounce_class"] is not None else ""
        found[(KINDS.get(row["type"], masked(row["type"])), name, masked(row["reason"]))] += number(row["events"])
    return [Reason(*what, events) for what, events in found.most_common(MAX_REASONS_SHOWN)]


def bounce_class(code: Any) -> tuple[str, str]:
    """A bounce class's name and group. An unknown code is shown as a number."""
    if code is None:
        return "No class", "other"
    return BOUNCE_CLASSES.get(int(code), (f"Class {int(code)}", "other"))


def lags(row: Row) -> list[Lag]:
    """The bounds within which 50 % and 95 % of the events arrive."""
    timed = number(row["timed"])
    if not timed:
        return []
    return [
        Lag(share, next((lag for lag in LAGS if number(row[f"within_{lag}"]) >= share * timed), None))
        for share in (0.5, 0.95)
    ]


def unknown_fields(rows: Sequence[Row]) -> tuple[int, list[tuple[str, int]]]:
    """How many events were read, and how many of them had each field without a column."""
    read, found = 0, Counter[str]()
    for row in rows:
        events = number(row["events"])
        read += events
        for name in paths(row["extra"]):
            found[name] += events
    return read, sorted(found.items(), key=lambda one: (-one[1], one[0]))[:MAX_NAMES_SHOWN]


# Objects whose members have columns. Any other object is free-form and may contain anything.
OBJECTS = ("geo_ip", "user_agent_parsed")


def paths(extra: Any) -> Iterable[str]:
    """Names of the fields in `extra`, such as `next_attempt` or `geo_ip.continent`."""
    try:
        fields = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError:
        return ["(unreadable)"]
    if not isinstance(fields, dict):
        return ["(unreadable)"]
    return {
        path
        for name, value in fields.items()
        for path in (
            [f"{name}.{plain(inner)}" for inner in value]
            if name in OBJECTS and isinstance(value, dict)
            else [plain(name)]
        )
    }


def plain(name: str) -> str:
    """A name like those of Bird's fields; a stranger with credentials could put anything into a name."""
    return name if name.isidentifier() and len(name) <= 64 else "(not a plain name)"


BEFORE_AT = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s<>()\[\]",;:]+)$')
AFTER_AT = re.compile(r"\[[^\]\s]*\]?|[^\s<>()\[\]\"',;]+")
AT = re.compile("[@\uff20\ufe6b]|=40")
ENCODED_WORD = re.compile(r"=\?[^\s?]+\?[bq]\?[^\s?]*\?=", re.IGNORECASE)
ESCAPE = re.compile(r"\\+u([0-9a-f]{4})", re.IGNORECASE)
LONGEST_TEXT = 500  # characters of a mail server's answer or a campaign's name; also bounds the time for masking


def masked(text: Any) -> str:
    """Without addresses, however the @ is written. The rest of the word before the @ is masked too."""
    whole = "" if text is None else str(text)
    if len(whole) > LONGEST_TEXT:
        whole = f"{whole[:LONGEST_TEXT]}…"
    whole = ENCODED_WORD.sub("<encoded>", whole)
    plain = decoded(whole)
    # Decoded only if the decoded text has more @ signs.
    return without_addresses(plain if len(AT.findall(plain)) > len(AT.findall(whole)) else whole)


def decoded(text: str) -> str:
    """Decodes percent-encoding, HTML entities and JSON escapes, also nested ones."""
    for _ in range(4):
        before = text
        try:
            text = unescape(unquote(ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)))
        except ValueError:  # an entity with more digits than Python accepts
            break
        if text == before:
            break
    return text


def without_addresses(text: str) -> str:
    parts, end = [], 0
    for at in AT.finditer(text):
        if at.start() < end:
            continue
        before, after = BEFORE_AT.search(text[end : at.start()]), AFTER_AT.match(text, at.end())
        if before and after:
            parts += [text[end : end + before.start()], "<address>"]
            end = after.end()
    return "".join([*parts, text[end:]])


def number(value: Any) -> int:
    return int(value or 0)


def moment(value: Any) -> datetime | None:
    """A time in UTC, from Athena's text or PostgreSQL's value."""
    if value in (None, ""):
        return None
    parsed: datetime = datetime.fromisoformat(value.removesuffix(" UTC")) if isinstance(value, str) else value
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def latest(values: Iterable[Any]) -> datetime | None:
    return max((found for found in map(moment, values) if found), default=None)


def opens_of_people(opens: Mapping[str, int]) -> int:
    return opens["direct"] + opens["proxy"]
