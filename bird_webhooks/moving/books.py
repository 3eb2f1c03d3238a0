"""What an import did, or would do, in figures that close: the answer of the command."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bird_webhooks.moving import estimate
from bird_webhooks.stack import Stack


@dataclass
class Books:
    """Objects listed = imported + here + probes + refused; and for events likewise, but for probes."""

    listed: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    by_month: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: list[tuple[str, str, int | None, int]] = field(default_factory=list)  # object, reason, place, times
    batches: int = 0
    body_bytes: int = 0
    messages: int = 0
    odd_dates: int = 0
    untimed: int = 0


def summary(stack: Stack, books: Books, *, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    objects, events = books.objects, books.events
    yield (
        f"{books.listed:,} objects: {objects['imported']:,} {would}imported, {objects['here already']:,} here already, "
        f"{objects['probes']:,} probes or empty, {objects['refused']:,} refused"
    )
    total = events["imported"] + events["here already"] + events["erased"] + events["refused"]
    yield (
        f"{total:,} events: {events['imported']:,} {would}imported, {events['here already']:,} here already, "
        f"{events['erased']:,} of erased persons left out, {events['refused']:,} refused"
    )
    if books.odd_dates:
        yield (
            f"{books.odd_dates:,} events are dated before 2014 or after their arrival: the table files them under "
            "the date of their arrival, with their own time in the column timestamp"
        )
    if books.untimed:
        yield (
            f"{books.untimed:,} events have no time that can be read: the table files them under the date of their "
            "arrival, and the column extra has what they said"
        )
    if dry_run:
        for (month, kind), count in sorted(books.by_month.items()):
            yield f"  {month}  {kind:<22} {count:>12,}"
    if dry_run and books.batches:
        yield from estimate.lines(_estimate(books))
    yield from _expiry(stack, books, dry_run=dry_run)


def _expiry(stack: Stack, books: Books, *, dry_run: bool) -> Iterator[str]:
    days = int(stack.parameters.get("RawRetentionDays", "0"))
    if days and books.batches:
        ends = datetime.now(UTC).date() + timedelta(days=days + 1)
        would = "would expire" if dry_run else "expire"
        yield f"S3 counts RawRetentionDays from the copy: the raw batches {would} on {ends}"


def document(books: Books, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "objects": {"listed": books.listed, **_counts(books.objects, "imported", "here already", "probes", "refused")},
        "events": _counts(books.events, "imported", "here already", "erased", "refused"),
        "batches": books.batches,
        "messages": books.messages,
        "bytes": books.body_bytes,
        "odd_dates": books.odd_dates,
        "untimed": books.untimed,
        "by_month": [
            {"month": month, "type": kind, "events": count} for (month, kind), count in sorted(books.by_month.items())
        ],
        "refused": [
            {"object": name, "reason": reason, "place": place, "times": times}
            for name, reason, place, times in books.refused
        ],
        **({"estimate": _estimate(books)._asdict()} if dry_run else {}),
    }


def _counts(counts: Counter[str], *wanted: str) -> dict[str, int]:
    return {name.replace(" ", "_"): counts[name] for name in wanted}


def _estimate(books: Books) -> estimate.Estimate:
    return estimate.of(books.batches, books.messages, books.events["imported"], books.body_bytes, books.listed)
