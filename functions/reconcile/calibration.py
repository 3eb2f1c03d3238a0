"""What could not be established about Bird's Events API from outside, found out by comparing an undisturbed hour. Pure.

An hour whose counts are equal is compared id by id, second by second, count by count and field by field, each event as
the Events API has it and as the webhook brought it. Filling may begin by itself only after all of it has agreed once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Any, NamedTuple

from reconcile.as_webhook import Event, element, values
from reconcile.cells import UNPROVABLE
from reconcile.counting import Here
from reconcile.proved import ALL, HOUR, Cell, State

MOST_EVENTS = 5000
EVERY, RETRY = timedelta(days=7), timedelta(days=1)
NOT_OLDER_THAN = timedelta(days=9)  # Bird forgets after ten
MAX_NAMES = 20
# What the webhook sends of an event, by its fields; None where its raw batch is gone.
Sent = Callable[[Here], Mapping[str, Any] | None]


class Sample(NamedTuple):
    since: datetime
    until: datetime
    types: tuple[str, ...]


def is_due(last: Mapping[str, Any], now: datetime) -> bool:
    if not last:
        return True
    return now - datetime.fromisoformat(last["at"]) >= (EVERY if last["passed"] else RETRY)


def sample(cells: Iterable[Cell], now: datetime) -> Sample | None:
    """The newest undisturbed hour with few enough events, or a part of one with many; None if there is none yet."""
    hours: dict[datetime, list[Cell]] = {}
    for cell in cells:
        if cell.type not in UNPROVABLE and cell.hour >= now - NOT_OLDER_THAN:
            hours.setdefault(cell.hour, []).append(cell)
    calm = {
        hour: sum(cell.ours for cell in found)
        for hour, found in hours.items()
        if all(cell.state is State.PROVED and cell.type != ALL for cell in found)
    }
    busy = [hour for hour, events in calm.items() if events]
    if not busy:
        return None
    few = [hour for hour in busy if calm[hour] <= MOST_EVENTS]
    hour = max(few) if few else min(busy, key=lambda one: calm[one])
    types = tuple(sorted({cell.type for cell in hours[hour] if cell.ours}))
    seconds = 3600 if few else max(1, 3600 * MOST_EVENTS // calm[hour])
    return Sample(hour, hour + min(HOUR, timedelta(seconds=seconds)), types)


@dataclass(frozen=True)
class Metric:
    """A count of the Metrics API beside that of the events."""

    type: str
    name: str
    number: int


def compare(
    chosen: Sample,
    theirs: Sequence[Event],
    ours: Collection[Here],
    sent: Sent,
    metrics: Collection[Metric],
    now: datetime,
) -> dict[str, Any]:
    """The result, as it is kept. `theirs` in the order in which Bird gave them."""
    there = {(event.type, event.event_id or ""): event for event in theirs}
    here = {(event.type, event.event_key): event for event in ours}
    both = [(there[key], here[key]) for key in there.keys() & here.keys()]
    only_there, only_here = len(there.keys() - here.keys()), len(here.keys() - there.keys())
    late_seconds = Counter(floor(one.at.timestamp()) - floor(other.at.timestamp()) for one, other in both)
    different: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    more: Counter[str] = Counter()
    fields_compared = 0
    for event, row in both:
        webhook = sent(row)
        if webhook is None:
            continue
        fields_compared += 1
        api = next(iter(values(element(event))["msys"].values()))
        different.update(name for name in api.keys() & webhook.keys() if not same(api[name], webhook[name]))
        lacking.update(webhook.keys() - api.keys())
        more.update(api.keys() - webhook.keys())
    seconds_differ = sum(count for seconds, count in late_seconds.items() if seconds)
    passed = bool(both) and not (only_there or only_here or seconds_differ or different or lacking)
    accounts = {event.customer_id for event in theirs}
    return {
        "at": now.isoformat(),
        "passed": passed and fields_compared > 0,
        "account": min(accounts) if passed and len(accounts) == 1 else None,
        "since": chosen.since.isoformat(),
        "until": chosen.until.isoformat(),
        "events": len(there),
        "only_at_bird": only_there,
        "only_here": only_here,
        "other_second": seconds_differ,
        "fields_compared_of": fields_compared,
        "fields_different": named(different),
        "fields_only_in_the_webhook": named(lacking),
        "fields_only_in_the_events_api": named(more),
        "established": established(theirs, late_seconds, ours, metrics),
    }


def same(one: object, other: object) -> bool:
    """Whether they become the same column: Bird has sent numbers as text, and text as numbers."""
    plain = all(isinstance(value, int | str) and not isinstance(value, bool) for value in (one, other))
    return str(one) == str(other) if plain else one == other


def established(
    theirs: Sequence[Event], late_seconds: Counter[int], ours: Collection[Here], metrics: Collection[Metric]
) -> dict[str, str]:
    """Of the list "not established" in docs/completeness.md, what these events show."""
    found = {"total_count": f"exact for {len(theirs):,} events"}
    if any(event.at.microsecond for event in theirs):
        down = not any(late_seconds[seconds] for seconds in late_seconds if seconds)
        found["milliseconds"] = f"the webhook's second is {'rounded down' if down else 'NOT rounded down'}"
    else:
        found["milliseconds"] = "the Events API gives whole seconds"
    times = [event.at for event in theirs]
    if len(set(times)) > 1:
        newest, oldest = times == sorted(times, reverse=True), times == sorted(times)
        found["order"] = "newest first" if newest else "oldest first" if oldest else "none"
    raw = {bytes(event.fields["customer_id"])[:1] == b'"' for event in theirs}
    if raw:
        found["ids"] = "text" if raw == {True} else "numbers" if raw == {False} else "text and numbers"
    counted = Counter(event.type for event in ours)
    for metric in metrics:
        equal = metric.number == counted[metric.type]
        found[f"metric {metric.name}"] = f"{'equals' if equal else 'differs from'} the events of {metric.type}"
    return found


def named(counts: Counter[str]) -> dict[str, int]:
    """A field's name comes from outside: few of them, and short."""
    return {name[:60]: count for name, count in counts.most_common(MAX_NAMES)}


def in_words(result: Mapping[str, Any]) -> str:
    if not result:
        return "not yet: no hour is proved"
    when = f"{result['events']:,} events of {result['since'][:16].replace('T', ' ')} UTC"
    if result["passed"]:
        return f"passed with {when}"
    why = [
        (result["only_at_bird"], "only at Bird"),
        (result["only_here"], "only here"),
        (result["other_second"], "in another second"),
        (len(result["fields_different"]), f"fields differ ({', '.join(result['fields_different'])})"),
        (
            len(result["fields_only_in_the_webhook"]),
            f"fields are only in the webhook ({', '.join(result['fields_only_in_the_webhook'])})",
        ),
        (not result["fields_compared_of"], "events were compared by their fields"),
    ]
    return f"NOT passed with {when}: " + ", ".join(
        f"{number if number is not True else 0} {what}" for number, what in why if number
    )
