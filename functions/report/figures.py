"""The answers to the queries -> what the page shows: rates, names, series. Pure.

Answers are rows from Athena (text) or PostgreSQL (numbers and times); both give the same figures. Addresses in text
from senders or remote servers are masked here.
"""

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from html import unescape
from typing import Any
from urllib.parse import unquote

from report.counts import Counts, Group, Overlap
from report.queries import BOUNCE_CLASSES, LAGS, MAX_GROUPS, TROUBLES, WATCHED, Period
from report.rules import DEFAULTS, Finding, Thresholds, needs_attention

Row = Mapping[str, Any]
Answers = Mapping[str, Sequence[Row]]

MAX_REASONS_SHOWN = 12
MAX_NAMES_SHOWN = 20
SERIES = {"delivered", "bounced", "delayed", "complaints", "clicked", "opened", "unmeasurable"}
# Up to this length the charts have a bar for each hour, beyond it one for each day.
HOURLY_UP_TO = timedelta(days=10)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

KINDS = {
    "bounce": "Bounced",
    "out_of_band": "Bounced later",
    "delay": "Delayed",
    "policy_rejection": "Rejected by Bird",
    "generation_failure": "Not generated",
    "generation_rejection": "Not generated",
}


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
class Table:
    """The groups of one dimension with the most messages; `all_groups` is how many there are."""

    dimension: str
    groups: list[Group]
    all_groups: int


@dataclass(frozen=True)
class Figures:
    period: Period
    events: int
    events_before: int
    everything: Group
    findings: list[Finding]
    thresholds: Thresholds
    tables: list[Table]
    types: list[tuple[str, str, int]]
    bars: str
    series: list[dict[str, Any]]
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


def figures(
    period: Period,
    answers: Answers,
    quarantine: Quarantine | None = None,
    *,
    by: Sequence[str] = (),
    thresholds: Thresholds = DEFAULTS,
) -> Figures:
    """`quarantine` is None if it was not counted. `by`: dimensions with a table beside campaign and provider."""
    [totals], zone = answers["totals"], period.since.tzinfo
    groups = groups_of(answers["groups"])
    extra_events, unknown = unknown_fields(answers["extras"])
    return Figures(
        period=period,
        events=number(totals["events"]),
        events_before=number(totals["events_before"]),
        everything=next(group for group in groups if group.dimension == "all"),
        findings=found_in(answers, thresholds),
        thresholds=thresholds,
        tables=[table(name, groups, answers["groups"]) for name in dict.fromkeys(("campaign", "provider", *by))],
        types=[
            (masked(row["event_class"]), masked(row["type"]), number(row["events"]))
            for row in answers["types"]
            if number(row["events"])
        ],
        bars="hour" if period.until - period.since <= HOURLY_UP_TO else "day",
        series=series(period, answers["hours"], answers["engagement"]),
        bounce_classes=[
            (*bounce_class(row["bounce_class"]), number(row["events"])) for row in answers["bounce_classes"]
        ],
        reasons=reasons(answers["reasons"]),
        reason_events=number(answers["reasons"][0]["all_events"]) if answers["reasons"] else 0,
        latest=latest((row["latest"] for row in answers["types"]), zone),
        latest_received=latest((row["latest_received"] for row in answers["types"]), zone),
        lags=lags(totals),
        with_extra=number(totals["with_extra"]),
        unknown_fields=unknown,
        extra_events_read=extra_events,
        quarantine=quarantine,
    )


def found_in(answers: Answers, thresholds: Thresholds) -> list[Finding]:
    """What needs attention, from the answers to `groups` and `overlaps`."""
    overlaps = [
        Overlap(
            masked(row["account"]),
            {name: masked(row[name]) for name in WATCHED},
            {name: number(row[name]) for name in TROUBLES},
        )
        for row in answers["overlaps"]
    ]
    watched = [group for group in groups_of(answers["groups"]) if group.dimension in ("all", *WATCHED)]
    return needs_attention(watched, overlaps, thresholds)


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """Addresses in names are masked."""
    return [
        Group(
            row["dimension"],
            masked(row["name"]),
            masked(row["account"]),
            Counts.of(row),
            Counts.of(row, "_before"),
        )
        for row in rows
    ]


def table(dimension: str, groups: Sequence[Group], rows: Sequence[Row]) -> Table:
    """Without those of its groups that are in the answer for the rules only."""
    shown = [group for group in groups if group.dimension == dimension][:MAX_GROUPS]
    all_groups = next((number(row["all_groups"]) for row in rows if row["dimension"] == dimension), 0)
    return Table(dimension, shown, all_groups)


def series(period: Period, sending: Sequence[Row], engagement: Sequence[Row]) -> list[dict[str, Any]]:
    """One item for each hour or day of the period, those without events included."""
    step = HOUR if period.until - period.since <= HOURLY_UP_TO else DAY
    slots: dict[datetime, dict[str, Any]] = {}
    # Hours are steps of UTC and days steps of the zone's calendar: a day may have 23 or 25 hours.
    start = floor(period.since) if step == DAY else period.since.astimezone(UTC)
    while start < period.until:
        slots[start.astimezone(UTC)] = {"start": start.astimezone(period.since.tzinfo), **dict.fromkeys(SERIES, 0)}
        start += step
    starts = sorted(slots)
    for row in (*sending, *engagement):
        hour = moment(row["hour"])
        place = bisect(starts, hour - period.shift) if hour else 0
        if place:
            for name in SERIES & row.keys():
                slots[starts[place - 1]][name] += number(row[name])
    return list(slots.values())


def floor(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


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
        return "No class", "undetermined"
    return BOUNCE_CLASSES.get(int(code), (f"Class {int(code)}", "undetermined"))


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
LAST_WORD = re.compile(r"\S+\Z")
LONGEST_TEXT = 500  # characters of a mail server's answer or a campaign's name; also bounds the time for masking


def masked(text: Any) -> str:
    """Without addresses, however the @ is written. The rest of the word before the @ is masked too."""
    whole = "" if text is None else str(text)
    if len(whole) > LONGEST_TEXT:  # not in the midst of a word, because an address without its @ would not be seen
        whole = f"{LAST_WORD.sub('', whole[:LONGEST_TEXT])}…"
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


def latest(values: Iterable[Any], zone: tzinfo | None) -> datetime | None:
    return max((found.astimezone(zone) for found in map(moment, values) if found), default=None)
