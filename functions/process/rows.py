"""Batches -> rows, gathered by day and type until there are enough for a file. Pure."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from arro3.core import RecordBatch, Table
from msgspec.structs import astuple

from process.bounds import LIGHT, LIMITS, MAX_VALUES, BeyondBoundsError, Bounds
from process.elements import UnreadableBatchError, is_probe, number_of_elements, parts, repaired
from process.layouts import DecodedBatch, Layout, Layouts, raw_events
from process.normalise import (
    DAY_MILLISECONDS,
    FIRST_EVENT_DAY,
    Quarantined,
    StoredBatch,
    UnreadableElementError,
    content_key,
    element,
    normalise,
)
from process.protection import Protection
from process.table import RowsInOrder, columns_of_events, columns_of_values, merged, record_batch, table

_NO_TIMESTAMP = -(2**63)  # before all others
# Least memory of a row and of a group, whatever the size of their JSON. Bird's events are larger than that.
MIN_ROW_BYTES = 800
MIN_GROUP_BYTES = 8 * 1024
MERGED_AT_ONCE = 64
MAX_TOGETHER = 64  # elements that are decoded at once, in a batch of which one element did not fit
MAX_KEY_CHARACTERS = 64  # of a key that is remembered for the whole invocation; a longer key's hash is remembered
# At most so many names of fields without a column are counted, because a stranger may invent any number.
MAX_EXTRA_FIELDS = 1_000
OTHER_FIELDS = "(others)"
REPAIRABLE = ("not UTF-8", "not JSON")


class GroupKey(NamedTuple):
    """Of events that become columns together; `layout` is None if they went the lenient way (values by column)."""

    day: int
    event_class: str
    event_type: str | None
    layout: Layout | None


class Gathered(NamedTuple):
    """Parallel lists, timestamps in Unix milliseconds."""

    events: list[Any]
    event_keys: list[str]
    timestamps: list[int | None]
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
    repaired: int = 0
    extra_fields: dict[str, int] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        self.events += other.events
        self.rows += other.rows
        self.duplicates += other.duplicates
        self.quarantined += other.quarantined
        self.repaired += other.repaired
        self.count_extra(other.extra_fields)

    def count_extra(self, fields: Mapping[str, int]) -> None:
        for name, count in fields.items():
            known = name in self.extra_fields or len(self.extra_fields) < MAX_EXTRA_FIELDS
            self.extra_fields[name if known else OTHER_FIELDS] += count


# Events that went the lenient way, by group and account: values by column, the event's key, its place in the batch.
type Lenient = dict[tuple[GroupKey, str | None], list[tuple[dict[str, Any], str, int]]]


class ReadElements(NamedTuple):
    """Elements of one batch that were not read with all others.

    `quick_raws` is what `quick` was decoded from, `quick_places` are the elements' places in the batch.
    """

    quick: DecodedBatch
    quick_raws: list[bytes]
    quick_places: list[int]
    lenient: Lenient


class Found(NamedTuple):
    """Events of one batch, account and type: parallel lists in the batch's order, and which rows are of which day.

    `places` in the batch are known if its events went different ways; `later_copies` then are the rows whose key an
    event at an earlier place has.
    """

    group: GroupKey
    account: str | None
    events: Sequence[Any]
    event_keys: Sequence[str]
    timestamps: Sequence[int | None]
    by_day: Mapping[int, Sequence[int]]
    places: Sequence[int] = ()
    later_copies: Set[int] = frozenset()

    @property
    def kind(self) -> tuple[str | None, str, str | None]:
        """What an event's key is unique in."""
        return self.account, self.group.event_class, self.group.event_type


@dataclass
class BatchFound:
    """What a batch holds, before any of it is kept."""

    events: list[Found] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    repaired: list[Quarantined] = field(default_factory=list)
    extra_fields: Counter[str] = field(default_factory=Counter)

    def mark_later_copies(self) -> None:
        """Of two events with one key the first in the batch becomes the row, whichever way each of them went."""
        first: dict[tuple[Any, str], int] = {}
        for one in self.events:
            for key, place in zip(one.event_keys, one.places, strict=True):
                first[one.kind, key] = min(place, first.get((one.kind, key), place))
        for number, one in enumerate(self.events):
            keys_and_places = enumerate(zip(one.event_keys, one.places, strict=True))
            later = {row for row, (key, place) in keys_and_places if first[one.kind, key] < place}
            self.events[number] = one._replace(later_copies=later)

    def check(self, bounds: Bounds) -> None:
        """Errors: BeyondBoundsError."""
        _check_elements(sum(len(found.events) for found in self.events) + len(self.quarantined), bounds)
        if len({(found.group.event_class, found.group.event_type) for found in self.events}) > bounds.types:
            raise BeyondBoundsError(f"more than {bounds.types} types")
        if len({day for found in self.events for day in found.by_day}) > bounds.days:
            raise BeyondBoundsError(f"more than {bounds.days} days")
        groups = {
            (found.group.event_class, found.group.event_type, day) for found in self.events for day in found.by_day
        }
        if len(groups) > bounds.groups:
            raise BeyondBoundsError(f"more than {bounds.groups} pairs of type and day")
        if len(self.quarantined) + len(self.repaired) > bounds.quarantined:
            raise BeyondBoundsError(f"more than {bounds.quarantined} elements that are no events")


@dataclass
class Rows:
    """Gathers the rows of many batches. Drops what it has seen before, for as long as it lives.

    `body_bytes` grows with what is gathered: by the bodies, or where there is more to their rows, by those.
    """

    layouts: Layouts = field(default_factory=Layouts)
    protection: Protection | None = None
    counts: Counts = field(default_factory=Counts)
    body_bytes: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    _seen: dict[tuple[str | None, str, str | None], set[str | bytes]] = field(default_factory=lambda: defaultdict(set))
    _gathered: dict[GroupKey, Gathered] = field(default_factory=lambda: defaultdict(_nothing_gathered))

    def add(self, batch: StoredBatch, bounds: Bounds = LIMITS) -> None:
        """Errors: BeyondBoundsError; then nothing of the batch was added."""
        if is_probe(batch.body):
            return
        _check_size(batch.body, bounds)
        found = BatchFound()
        decoded = self.layouts.decode(batch.body)
        if decoded is not None:
            _check_elements(len(decoded.events), bounds)  # before the tuples are made, which take memory
            self._find_decoded(found, batch, decoded, batch.body)
        else:
            self._find_one_by_one(found, batch, bounds)
        found.check(bounds)
        self._keep(batch, found)

    def quarantine(self, quarantined: Quarantined) -> None:
        self.counts.events += 1
        self.counts.quarantined += 1
        self.quarantined.append(quarantined)

    def forget(self) -> None:
        """After rows were not written: their duplicates must not be dropped again."""
        self._seen.clear()

    def take_days(self) -> Iterator[Day]:
        """Hand over the rows gathered so far; forget them."""
        gathered, self._gathered = self._gathered, defaultdict(_nothing_gathered)
        self.body_bytes = 0
        by_day: dict[int, dict[str | None, list[GroupKey]]] = defaultdict(lambda: defaultdict(list))
        for group in gathered:
            by_day[group.day][group.event_type].append(group)
        for day, by_type in sorted(by_day.items()):
            sizes = [
                (group.event_class, kind, len(gathered[group].events)) for kind in by_type for group in by_type[kind]
            ]
            parts: list[RecordBatch] = []
            for event_type in sorted(by_type, key=_nulls_first):
                parts.append(merged([self._to_columns(group, gathered.pop(group)) for group in by_type[event_type]]))
                if len(parts) == MERGED_AT_ONCE:  # a hundred columns take 100 kB, however few rows they have
                    parts = table(parts).combine_chunks().to_batches()
            yield Day(day, table(parts), sizes)

    def take_quarantined(self) -> list[Quarantined]:
        taken, self.quarantined = self.quarantined, []
        return taken

    def _find_one_by_one(self, found: BatchFound, batch: StoredBatch, bounds: Bounds) -> None:
        """Elements of an intact body are decoded several at a time, so that one odd element does not slow the others.

        Errors: BeyondBoundsError.
        """
        read = ReadElements(DecodedBatch([], []), [], [], defaultdict(list))
        waiting: list[tuple[int, bytes]] = []
        together = 1
        try:
            for position, part in enumerate(parts(batch.body)):
                _check_elements(position + 1, bounds)
                if is_probe(part.raw):
                    continue
                if part.damage is not None:
                    found.quarantined.append(Quarantined(batch, position, part.damage, part.raw))
                    continue
                waiting.append((position, part.raw))
                if part.is_json and len(waiting) < together:
                    continue
                fits = self._find_quickly(read, waiting)
                together = min(together * 2, MAX_TOGETHER) if fits else 1
                if not fits:
                    self._find_singly(found, batch, read, waiting, bounds)
                waiting = []
        except UnreadableBatchError as error:
            found.quarantined.append(Quarantined(batch, None, str(error), batch.body))
            return
        self._find_singly(found, batch, read, waiting, bounds)
        for (group, account), rows in read.lenient.items():
            events, event_keys, places = map(list, zip(*rows, strict=True))
            timestamps = [values.get("timestamp") for values in events]
            by_day = _rows_by_day(timestamps, batch.received_at)
            found.events.append(Found(group, account, events, event_keys, timestamps, by_day, places))
        quick_body = b"[%b]" % b",".join(read.quick_raws)
        self._find_decoded(found, batch, read.quick, quick_body, read.quick_places)
        if read.lenient and read.quick.events:
            found.mark_later_copies()

    def _find_singly(
        self,
        found: BatchFound,
        batch: StoredBatch,
        read: ReadElements,
        elements: Sequence[tuple[int, bytes]],
        bounds: Bounds,
    ) -> None:
        """Elements by their positions. Errors: BeyondBoundsError."""
        for position, raw in elements:
            reason = self._find(position, raw, read, found)
            if reason is None:
                continue
            repairable = reason in REPAIRABLE and len(raw) <= LIGHT.body_bytes
            if repairable and self._find(position, repaired(raw), read, found) is None:
                found.repaired.append(Quarantined(batch, position, f"repaired: {reason}", raw))
            else:
                found.quarantined.append(Quarantined(batch, position, reason, raw))
            if len(found.quarantined) + len(found.repaired) > bounds.quarantined:
                found.check(bounds)

    def _find(self, position: int, raw: bytes, read: ReadElements, found: BatchFound) -> str | None:
        """Add one element to its group; the reason if it is not an event."""
        if self._find_quickly(read, [(position, raw)]):
            return None
        try:
            event = element(raw)
        except UnreadableElementError as error:
            return str(error)
        values, extra_fields = normalise(event)
        group = GroupKey(0, event.event_class, values.get("type"), None)
        self.layouts.observe(group.event_type, event.fields)
        found.extra_fields.update(extra_fields)
        event_key = values.get("event_id") or content_key(event.raw)
        read.lenient[group, values.get("customer_id")].append((values, event_key, position))
        return None

    def _find_quickly(self, read: ReadElements, elements: Sequence[tuple[int, bytes]]) -> bool:
        """Whether all of them fit the layouts that were known when the batch began; then they are added."""
        raws = [raw for _, raw in elements]
        decoded = self.layouts.decode_elements(raws)
        if decoded is None:
            return False
        read.quick.event_classes.extend(decoded.event_classes)
        read.quick.events.extend(decoded.events)
        read.quick_raws.extend(raws)
        read.quick_places.extend(position for position, _ in elements)
        return True

    def _find_decoded(
        self, found: BatchFound, batch: StoredBatch, decoded: DecodedBatch, body: bytes, places: Sequence[int] = ()
    ) -> None:
        """`body` is what the events were decoded from, `places` are theirs in the batch."""
        events = decoded.events
        by_kind: dict[tuple[str, Any, str | None], list[int]] = defaultdict(list)
        for number, kind in enumerate(
            zip(decoded.event_classes, map(type, events), map(_account, events), strict=True)
        ):
            by_kind[kind].append(number)
        raws: Mapping[int, bytes] = {}
        for (event_class, struct, account), numbers in by_kind.items():
            layout = self.layouts.by_struct[struct]
            self.layouts.use(layout.event_type)
            some = _picked(numbers, events)
            event_keys = list(map(_event_id, some))
            if not all(event_keys):
                raws = raws or raw_events(body, events)
                event_keys = [key or content_key(raws[id(event)]) for key, event in zip(event_keys, some, strict=True)]
            timestamps = [None if seconds is None else seconds * 1000 for seconds in map(_timestamp, some)]
            by_day = _rows_by_day(timestamps, batch.received_at)
            group = GroupKey(0, event_class, layout.event_type, layout)
            # Structs become tuples here, while they are in the processor's cache: later it takes twice as long.
            tuples = list(map(astuple, some))
            of_these = _picked(numbers, places) if places else ()
            found.events.append(Found(group, account, tuples, event_keys, timestamps, by_day, of_these))

    def _keep(self, batch: StoredBatch, found: BatchFound) -> None:
        groups, rows = len(self._gathered), self.counts.rows
        without_body = batch._replace(body=b"")
        for one in found.events:
            self._keep_group(without_body, one)
        for quarantined in found.quarantined:
            self.quarantine(quarantined)
        self.quarantined += found.repaired
        self.counts.repaired += len(found.repaired)
        self.counts.count_extra(found.extra_fields)
        self.body_bytes += max(
            len(batch.body),
            (self.counts.rows - rows) * MIN_ROW_BYTES + (len(self._gathered) - groups) * MIN_GROUP_BYTES,
        )

    def _keep_group(self, batch: StoredBatch, found: Found) -> None:
        group, _, events, event_keys, timestamps, by_day, _, later_copies = found
        self.counts.events += len(events)
        seen = self._seen[found.kind]
        keys = event_keys if max(map(len, event_keys)) <= MAX_KEY_CHARACTERS else [_short(key) for key in event_keys]
        distinct = set(keys)
        if len(distinct) < len(keys) or later_copies or not seen.isdisjoint(distinct):
            rows_of_keys = reversed(list(enumerate(keys)))
            first = {key: row for row, key in rows_of_keys if key not in seen and row not in later_copies}
            fresh = sorted(first.values())
            self.counts.duplicates += len(events) - len(fresh)
            if not fresh:
                return
            events, event_keys, timestamps = (
                _picked(fresh, events),
                _picked(fresh, event_keys),
                _picked(fresh, timestamps),
            )
            by_day = _rows_by_day(timestamps, batch.received_at)
        seen |= distinct
        self.counts.rows += len(events)
        for day, rows in by_day.items():
            gathered = self._gathered[group._replace(day=day)]
            gathered.events.extend(events if len(by_day) == 1 else _picked(rows, events))
            gathered.event_keys.extend(event_keys if len(by_day) == 1 else _picked(rows, event_keys))
            gathered.timestamps.extend(timestamps if len(by_day) == 1 else _picked(rows, timestamps))
            gathered.batches.extend([batch] * len(rows))

    def _to_columns(self, group: GroupKey, gathered: Gathered) -> RowsInOrder:
        timestamps = [_NO_TIMESTAMP if timestamp is None else timestamp for timestamp in gathered.timestamps]
        order = sorted(range(len(timestamps)), key=timestamps.__getitem__)
        events = _picked(order, gathered.events)
        if group.layout is None:
            columns = columns_of_values(events)
        else:
            columns, extra_fields = columns_of_events(group.layout, events)
            self.counts.count_extra(extra_fields)
        if self.protection:
            self.protection.apply(columns)
        event_keys, batches = _picked(order, gathered.event_keys), _picked(order, gathered.batches)
        return RowsInOrder(record_batch(columns, group.event_class, event_keys, batches), _picked(order, timestamps))


_account = attrgetter("customer_id")
_event_id = attrgetter("event_id")
_timestamp = attrgetter("timestamp")


def _check_size(body: bytes, bounds: Bounds) -> None:
    """Checked before the body is decoded. One of up to LIGHT.body_bytes is checked after that only.

    Errors: BeyondBoundsError.
    """
    if len(body) > bounds.body_bytes:
        raise BeyondBoundsError(f"larger than {bounds.body_bytes} bytes")
    if len(body) > LIGHT.body_bytes:
        if body.count(b",") > MAX_VALUES:
            raise BeyondBoundsError(f"more than {MAX_VALUES} values")
        _check_elements(number_of_elements(body), bounds)


def _check_elements(number: int, bounds: Bounds) -> None:
    """Errors: BeyondBoundsError."""
    if number > bounds.elements:
        raise BeyondBoundsError(f"more than {bounds.elements} elements")


def _short(key: str) -> str | bytes:
    """Bird's are 18 digits, or 64 of a hash."""
    return key if len(key) <= MAX_KEY_CHARACTERS else hashlib.blake2b(key.encode(), digest_size=16).digest()


def _nothing_gathered() -> Gathered:
    return Gathered([], [], [], [])


def _rows_by_day(timestamps: Sequence[int | None], received_at: int) -> Mapping[int, Sequence[int]]:
    """Days since 1970, and which of the timestamps fall on each."""
    if None not in timestamps:  # mostly of one day, which the first and the last of them tell
        first, last = _event_day(min(timestamps), received_at), _event_day(max(timestamps), received_at)  # type: ignore[type-var]
        if first == last:
            return {first: range(len(timestamps))}
    by_day: dict[int, list[int]] = defaultdict(list)
    for row, timestamp in enumerate(timestamps):
        by_day[_event_day(timestamp, received_at)].append(row)
    return by_day


def _event_day(timestamp: int | None, received_at: int) -> int:
    """Days since 1970 of the event, or of its batch's arrival if the event's own date cannot be a partition."""
    arrival = received_at // DAY_MILLISECONDS
    if timestamp is None:
        return arrival
    day = timestamp // DAY_MILLISECONDS
    return day if FIRST_EVENT_DAY <= day <= arrival + 1 else arrival


def _picked[T](rows: Sequence[int], values: Sequence[T]) -> list[T]:
    return [values[row] for row in rows]


def _nulls_first(event_type: str | None) -> tuple[bool, str]:
    return event_type is not None, event_type or ""
