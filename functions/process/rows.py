"""Batches -> rows, gathered by day and type until there are enough for a file."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from process.normalise import (
    DAY_MILLISECONDS,
    FIRST_EVENT_DAY,
    Element,
    Event,
    Layout,
    Quarantined,
    StoredBatch,
    content_key,
    elements,
    known_fields,
    normalise_leniently,
)

# A type may widen its layout this often; a stranger's inventions then go the lenient way.
MAX_LAYOUTS_PER_TYPE = 100


class RowGroup(NamedTuple):
    """Events of one day, class and type that share a layout (None: values by column name)."""

    event_class: str
    event_type: str | None
    layout: Layout | None
    events: list[Event]


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

    counts: Counts = field(default_factory=Counts)
    body_bytes: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    _layouts: dict[tuple[str, bytes], Layout] = field(default_factory=dict)
    _widenings: dict[tuple[str, bytes], int] = field(default_factory=lambda: defaultdict(int))
    _seen: dict[tuple[str, str | None], set[str]] = field(default_factory=lambda: defaultdict(set))
    _groups: dict[tuple[int, str, str | None, Layout | None], list[Event]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, batch: StoredBatch) -> None:
        self.body_bytes += len(batch.body)
        for element in elements(batch):
            self.counts.events += 1
            if isinstance(element, Quarantined):
                self._quarantine(element)
            else:
                self._add_event(batch, element)

    def quarantine(self, quarantined: Quarantined) -> None:
        self.counts.events += 1
        self._quarantine(quarantined)

    def _quarantine(self, quarantined: Quarantined) -> None:
        self.counts.quarantined += 1
        self.quarantined.append(quarantined)

    def _add_event(self, batch: StoredBatch, element: Element) -> None:
        layout, values = self._decode_quickly(element)
        if layout is not None:
            event_type, event_id = values.type, values.event_id
            moment = layout.milliseconds("timestamp", values.timestamp)
        else:
            try:
                values, extra_fields = normalise_leniently(element.raw, element.siblings)
            except msgspec.DecodeError:
                reason = "event is not an object"
                self._quarantine(Quarantined(batch, element.position, reason, bytes(element.raw)))
                return
            for name in extra_fields:
                self.counts.extra_fields[name] += 1
            event_type, event_id, moment = values.get("type"), values.get("event_id"), values.get("timestamp")
        event_key = event_id or content_key(element.raw)
        seen = self._seen[element.event_class, event_type]
        if event_key in seen:
            self.counts.duplicates += 1
            return
        seen.add(event_key)
        day = _event_day(moment, batch.received_at)
        self.counts.rows += 1
        self._groups[day, element.event_class, event_type, layout].append(
            Event(-1 if moment is None else moment, self.counts.rows, values, event_key, batch)
        )

    def _decode_quickly(self, element: Element) -> tuple[Layout | None, Any]:
        if element.siblings:
            return None, None
        raw = bytes(element.raw)
        # A guess at the type, good enough to choose a layout by.
        at = raw.rfind(b'"type":')
        key = element.event_class, raw[at : at + 32].partition(b",")[0].rstrip(b"}")
        layout = self._layouts.get(key)
        if layout is not None:
            try:
                return layout, layout.decode(raw)
            except ValueError:
                pass
        fields = known_fields(raw)
        wanted = layout.extended if layout is not None else Layout
        if layout is not None and fields.keys() <= layout.fields.keys():
            return None, None
        if self._widenings[key] >= MAX_LAYOUTS_PER_TYPE or len(self._layouts) >= 10 * MAX_LAYOUTS_PER_TYPE:
            return None, None
        self._widenings[key] += 1
        layout = self._layouts[key] = wanted(fields)
        try:
            return layout, layout.decode(raw)
        except ValueError:
            return None, None

    def take_days(self) -> Iterator[tuple[int, list[RowGroup]]]:
        """Hand over the rows gathered so far: (days since 1970, groups in the order of their type); forget them."""
        groups, self._groups = self._groups, defaultdict(list)
        self.body_bytes = 0
        by_day: dict[int, list[RowGroup]] = defaultdict(list)
        for (day, event_class, event_type, layout), events in groups.items():
            events.sort()
            by_day[day].append(RowGroup(event_class, event_type, layout, events))
        for day in sorted(by_day):
            yield day, sorted(by_day[day], key=lambda group: (group.event_type or "", group.event_class))

    def take_quarantined(self) -> list[Quarantined]:
        taken, self.quarantined = self.quarantined, []
        return taken


def _event_day(moment: int | None, received_at: int) -> int:
    """Days since 1970 of the event, or of its batch's arrival if the event's own date cannot be a partition."""
    arrival = received_at // DAY_MILLISECONDS
    if moment is None:
        return arrival
    day = moment // DAY_MILLISECONDS
    return day if FIRST_EVENT_DAY <= day <= arrival + 1 else arrival
