"""Batches -> rows, gathered by day and type until there are enough for a file. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from arro3.core import Table

from process.layouts import DecodedBatch, Layout, Layouts, raw_events
from process.normalise import (
    DAY_MILLISECONDS,
    FIRST_EVENT_DAY,
    Element,
    Quarantined,
    StoredBatch,
    UnreadableBatchError,
    UnreadableElementError,
    content_key,
    element,
    normalise,
    split,
)
from process.protection import Protection
from process.table import RowsInOrder, columns_of_events, columns_of_values, merged, record_batch, table

_NO_MOMENT = -(2**63)  # before all others


class Alike(NamedTuple):
    """Events that become columns together; `layout` is None for those that went the lenient way (values by column)."""

    day: int
    event_class: str
    event_type: str | None
    layout: Layout | None


class Gathered(NamedTuple):
    """Parallel lists, moments in Unix milliseconds."""

    events: list[Any]
    event_keys: list[str]
    moments: list[int | None]
    batches: list[StoredBatch]


class Day(NamedTuple):
    """The rows of one file, by type and time; `sizes` says how many there are of which (class, type)."""

    day: int  # since 1970
    rows: Table
    sizes: list[tuple[str, str | None, int]]


@dataclass
class Counts:
    """What happened to the events of an invocation."""

    events: int = 0
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0
    extra_fields: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass
class Rows:
    """Gathers the rows of many batches. Drops what it has seen before, for as long as it lives."""

    layouts: Layouts = field(default_factory=Layouts)
    protection: Protection | None = None
    counts: Counts = field(default_factory=Counts)
    body_bytes: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    _seen: dict[tuple[str | None, str, str | None], set[str]] = field(default_factory=lambda: defaultdict(set))
    _gathered: dict[Alike, Gathered] = field(default_factory=lambda: defaultdict(_nothing_gathered))

    def add(self, batch: StoredBatch) -> None:
        decoded = self.layouts.decode(batch.body)
        if decoded is not None:
            self._add_decoded(batch, decoded, batch.body)
        else:
            self._add_one_by_one(batch)
        self.body_bytes += len(batch.body)

    def quarantine(self, quarantined: Quarantined) -> None:
        self.counts.events += 1
        self.counts.quarantined += 1
        self.quarantined.append(quarantined)

    def take_days(self) -> Iterator[Day]:
        """Hand over the rows gathered so far; forget them."""
        gathered, self._gathered = self._gathered, defaultdict(_nothing_gathered)
        self.body_bytes = 0
        by_day: dict[int, dict[str | None, list[Alike]]] = defaultdict(lambda: defaultdict(list))
        for alike in gathered:
            by_day[alike.day][alike.event_type].append(alike)
        for day, by_type in sorted(by_day.items()):
            sizes = [
                (alike.event_class, kind, len(gathered[alike].events)) for kind in by_type for alike in by_type[kind]
            ]
            parts = [
                merged([self._to_columns(alike, gathered.pop(alike)) for alike in by_type[event_type]])
                for event_type in sorted(by_type, key=_nulls_first)
            ]
            yield Day(day, table(parts), sizes)

    def take_quarantined(self) -> list[Quarantined]:
        taken, self.quarantined = self.quarantined, []
        return taken

    def _add_one_by_one(self, batch: StoredBatch) -> None:
        try:
            raws = split(batch.body)
        except UnreadableBatchError as error:
            self.quarantine(Quarantined(batch, None, str(error), batch.body))
            return
        quick = DecodedBatch([], [])
        quick_raws = []
        for position, raw in enumerate(raws):
            decoded = self.layouts.decode_element(raw)
            if decoded is not None:
                quick.event_classes.extend(decoded.event_classes)
                quick.events.extend(decoded.events)
                quick_raws.append(raw)
                continue
            try:
                event = element(raw)
            except UnreadableElementError as error:
                self.quarantine(Quarantined(batch, position, str(error), raw))
            else:
                self._add_leniently(batch, event)
        self._add_decoded(batch, quick, b"[%b]" % b",".join(quick_raws))

    def _add_leniently(self, batch: StoredBatch, event: Element) -> None:
        values, extra_fields = normalise(event)
        alike = Alike(0, event.event_class, values.get("type"), None)
        self.layouts.learn(alike.event_type, event.fields)
        for name in extra_fields:
            self.counts.extra_fields[name] += 1
        event_key = values.get("event_id") or content_key(event.raw)
        self._add_alike(batch, alike, values.get("customer_id"), [values], [event_key], [values.get("timestamp")])

    def _add_decoded(self, batch: StoredBatch, decoded: DecodedBatch, body: bytes) -> None:
        """`body` is what the events were decoded from."""
        by_struct: dict[tuple[str, Any, str | None], list[Any]] = defaultdict(list)
        for event_class, event in zip(decoded.event_classes, decoded.events, strict=True):
            by_struct[event_class, type(event), event.customer_id].append(event)
        for (event_class, struct, account), events in by_struct.items():
            layout = self.layouts.by_struct[struct]
            event_keys = [event.event_id for event in events]
            if not all(event_keys):
                everything = zip(decoded.event_classes, decoded.events, raw_events(body), strict=True)
                raws = [
                    raw
                    for other, event, raw in everything
                    if other == event_class and type(event) is struct and event.customer_id == account
                ]
                event_keys = [key or content_key(raw) for key, raw in zip(event_keys, raws, strict=True)]
            moments = [None if event.timestamp is None else event.timestamp * 1000 for event in events]
            alike = Alike(0, event_class, layout.event_type, layout)
            self._add_alike(batch, alike, account, events, event_keys, moments)

    def _add_alike(
        self,
        batch: StoredBatch,
        alike: Alike,
        account: str | None,
        events: Sequence[Any],
        event_keys: Sequence[str],
        moments: Sequence[int | None],
    ) -> None:
        """Parallel lists of events of one account that are alike but perhaps for their day."""
        self.counts.events += len(events)
        seen = self._seen[account, alike.event_class, alike.event_type]
        distinct = set(event_keys)
        if len(distinct) < len(event_keys) or not seen.isdisjoint(distinct):
            first = {key: row for row, key in reversed(list(enumerate(event_keys))) if key not in seen}
            fresh = sorted(first.values())
            self.counts.duplicates += len(events) - len(fresh)
            if not fresh:
                return
            events, event_keys, moments = _picked(fresh, events), _picked(fresh, event_keys), _picked(fresh, moments)
        seen |= distinct
        self.counts.rows += len(events)
        by_day = _rows_by_day(moments, batch.received_at)
        for day, rows in by_day.items():
            gathered = self._gathered[alike._replace(day=day)]
            gathered.events.extend(events if len(by_day) == 1 else _picked(rows, events))
            gathered.event_keys.extend(event_keys if len(by_day) == 1 else _picked(rows, event_keys))
            gathered.moments.extend(moments if len(by_day) == 1 else _picked(rows, moments))
            gathered.batches.extend([batch] * len(rows))

    def _to_columns(self, alike: Alike, gathered: Gathered) -> RowsInOrder:
        moments = [_NO_MOMENT if moment is None else moment for moment in gathered.moments]
        order = sorted(range(len(moments)), key=moments.__getitem__)
        events = _picked(order, gathered.events)
        if alike.layout is None:
            columns = columns_of_values(events)
        else:
            columns, extra_fields = columns_of_events(alike.layout, events)
            for name, count in extra_fields.items():
                self.counts.extra_fields[name] += count
        if self.protection:
            self.protection.apply(columns)
        event_keys, batches = _picked(order, gathered.event_keys), _picked(order, gathered.batches)
        return RowsInOrder(record_batch(columns, alike.event_class, event_keys, batches), _picked(order, moments))


def _nothing_gathered() -> Gathered:
    return Gathered([], [], [], [])


def _rows_by_day(moments: Sequence[int | None], received_at: int) -> Mapping[int, Sequence[int]]:
    """Days since 1970, and which of the moments fall on each."""
    if None not in moments:  # mostly of one day, which the first and the last of them tell
        first, last = _event_day(min(moments), received_at), _event_day(max(moments), received_at)  # type: ignore[type-var]
        if first == last:
            return {first: range(len(moments))}
    by_day: dict[int, list[int]] = defaultdict(list)
    for row, moment in enumerate(moments):
        by_day[_event_day(moment, received_at)].append(row)
    return by_day


def _event_day(moment: int | None, received_at: int) -> int:
    """Days since 1970 of the event, or of its batch's arrival if the event's own date cannot be a partition."""
    arrival = received_at // DAY_MILLISECONDS
    if moment is None:
        return arrival
    day = moment // DAY_MILLISECONDS
    return day if FIRST_EVENT_DAY <= day <= arrival + 1 else arrival


def _picked[T](rows: Sequence[int], values: Sequence[T]) -> list[T]:
    return [values[row] for row in rows]


def _nulls_first(event_type: str | None) -> tuple[bool, str]:
    return event_type is not None, event_type or ""
