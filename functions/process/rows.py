"""Batches -> rows, gathered by day and type until there are enough for a file. Pure."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from arro3.core import RecordBatch
from msgspec.structs import astuple

from process.bounds import LIGHT, LIMITS, MAX_REPAIR_STEPS, MAX_VALUES, BeyondBoundsError, Bounds
from process.elements import UnreadableBatchError, is_probe, number_of_elements, parts, repair_steps, repaired
from process.layouts import DecodedBatch, Layout, Layouts, raw_events
from process.normalise import (
    DAY_MILLISECONDS,
    FIRST_EVENT_DAY,
    Normalised,
    Quarantined,
    StoredBatch,
    UnreadableElementError,
    content_key,
    element,
    normalise,
)
from process.protection import Protection
from process.table import (
    LONG,
    Columns,
    add_ours,
    columns_of_events,
    columns_of_values,
    in_all_columns,
    in_order,
    milliseconds,
    together,
)

_NO_TIMESTAMP = -(2**63)  # before all others
# Least memory of a row and of a group, whatever the size of their JSON. Bird's events are larger than that.
MIN_ROW_BYTES = 800
MIN_GROUP_BYTES = 1024
# So many rows become columns at once: few enough for their values to be in the processor's cache still, and for little
# memory; and enough for the cost of an Arrow array, 7 µs, to be little beside that of its values.
ROWS_AT_ONCE = 2_000
MAX_TOGETHER = 64  # elements that are decoded at once, in a batch of which one element did not fit
MAX_KEY_CHARACTERS = 64  # of a key that is remembered for the whole invocation; a longer key's hash is remembered
# At most so many names of fields without a column are counted, because a stranger may invent any number.
MAX_EXTRA_FIELDS = 1_000
OTHER_FIELDS = "(others)"
REPAIRABLE = ("not UTF-8", "not JSON")
TOO_MUCH = ", and too much of the batch is damaged to repair it"


# What an event's key is unique in: class, type and account.
type Kind = tuple[str, str | None, str | None]
# Rows that are counted and sorted together: day (since 1970), class and type.
type GroupKey = tuple[int, str, str | None]


class Group(NamedTuple):
    """Numbers of rows in `Gathered`, and their timestamps in Unix milliseconds."""

    numbers: list[int]
    timestamps: list[int]


@dataclass
class Gathered:
    """Rows of one layout, in the order in which they came; or those that went the lenient way (`layout` is None).

    The first rows are columns already (`parts`). Of the others the values are gathered field by field (`fields`, by
    position in the layout), those of the lenient way event by event (`events`). `batch_numbers` says which
    of `batches` brought which row.
    """

    layout: Layout | None
    rows: int = 0
    parts: list[Columns] = field(default_factory=list)
    fields: list[Any] = field(default_factory=list)
    events: list[Normalised] = field(default_factory=list)
    event_classes: list[str] = field(default_factory=list)
    event_keys: list[str] = field(default_factory=list)
    batches: list[StoredBatch] = field(default_factory=list)
    batch_numbers: list[int] = field(default_factory=list)
    groups: dict[GroupKey, Group] = field(default_factory=lambda: defaultdict(lambda: Group([], [])))

    def add(self, batch: StoredBatch, found: "Found") -> None:
        first, self.rows = self.rows, self.rows + len(found.events)
        if self.layout is None:
            self.events += found.events
        else:
            by_field = zip(*map(astuple, found.events), strict=True)
            self.fields = self.fields or [[] for _ in self.layout.members.struct.__struct_fields__]
            for values, more in zip(self.fields, by_field, strict=True):
                values += more
        self.event_classes += found.event_classes
        self.event_keys += found.event_keys
        self.batch_numbers += [len(self.batches)] * len(found.events)
        self.batches.append(batch)
        timestamps = [_NO_TIMESTAMP if timestamp is None else timestamp for timestamp in found.timestamps]
        for key, rows in found.groups.items():
            group = self.groups[key]
            group.numbers.extend([first + row for row in rows])
            group.timestamps.extend(_picked(rows, timestamps))

    def put_in_order(self, order: Sequence[int]) -> None:
        """Rows that are no columns yet."""
        if len(order) > 1:  # of one, itemgetter would give the value by itself
            picked = itemgetter(*order)
            self.fields = list(map(picked, self.fields))
            self.events = list(picked(self.events)) if self.events else []
            self.event_classes, self.event_keys = list(picked(self.event_classes)), list(picked(self.event_keys))
            self.batch_numbers = list(picked(self.batch_numbers))


class Day(NamedTuple):
    """The rows of one file, by type and time; `sizes` says how many there are of which (class, type)."""

    day: int  # since 1970
    rows: RecordBatch
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


# Events that went the lenient way: class, what normalise gives, the event's key, its place in the batch.
type Lenient = list[tuple[str, Normalised, str, int]]


class ReadElements(NamedTuple):
    """Elements of one batch that were not read with all others.

    `quick_raws` is what `quick` was decoded from, `quick_places` are the elements' places in the batch.
    """

    quick: DecodedBatch
    quick_raws: list[bytes]
    quick_places: list[int]
    lenient: Lenient


@dataclass
class Found:
    """Events of one batch that went one way: parallel lists in the batch's order, times in Unix milliseconds.

    `places` in the batch are known if its events went different ways.
    """

    layout: Layout | None
    received_at: int
    events: list[Any]
    event_classes: list[str]
    types: list[str | None]
    accounts: list[str | None]
    event_keys: list[str]
    timestamps: list[int | None]
    places: Sequence[int] = ()
    kinds: dict[Kind, list[int]] = field(init=False)
    groups: dict[GroupKey, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = defaultdict(list)
        for row, (kind, _) in enumerate(self.identities()):
            self.kinds[kind].append(row)
        days = _event_days(self.timestamps, self.received_at)
        self.groups = defaultdict(list)
        for (event_class, event_type, _), rows in self.kinds.items():
            if isinstance(days, int):
                self.groups[days, event_class, event_type] += rows
            else:
                for row in rows:
                    self.groups[days[row], event_class, event_type].append(row)

    def identities(self) -> Iterator[tuple[Kind, str]]:
        return zip(zip(self.event_classes, self.types, self.accounts, strict=True), self.event_keys, strict=True)

    def picked(self, rows: Sequence[int]) -> "Found":
        lists = (self.events, self.event_classes, self.types, self.accounts, self.event_keys, self.timestamps)
        return Found(self.layout, self.received_at, *(_picked(rows, values) for values in lists))


@dataclass
class BatchFound:
    """What a batch holds, before any of it is kept."""

    events: list[Found] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    repaired: list[Quarantined] = field(default_factory=list)
    repair_steps: int = 0

    def drop_later_copies(self) -> int:
        """Of two events with one key the first in the batch becomes the row, whichever way each of them went.

        Returns how many went.
        """
        first: dict[tuple[Kind, str], int] = {}
        for one in self.events:
            for key, place in zip(one.identities(), one.places, strict=True):
                first[key] = min(place, first.get(key, place))
        before = sum(len(one.events) for one in self.events)
        for number, one in enumerate(self.events):
            places = enumerate(zip(one.identities(), one.places, strict=True))
            kept = [row for row, (key, place) in places if first[key] == place]
            if len(kept) < len(one.events):
                self.events[number] = one.picked(kept)
        return before - sum(len(one.events) for one in self.events)

    def check(self, bounds: Bounds) -> None:
        """Errors: BeyondBoundsError."""
        _check_elements(sum(len(found.events) for found in self.events) + len(self.quarantined), bounds)
        groups = {key for found in self.events for key in found.groups}
        if len({key[1:] for key in groups}) > bounds.types:
            raise BeyondBoundsError(f"more than {bounds.types} types")
        if len({day for day, _, _ in groups}) > bounds.days:
            raise BeyondBoundsError(f"more than {bounds.days} days")
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
    # Ids of batches of which not every event is a row with that id: some are quarantined, or rows of another batch.
    unshown: set[str] = field(default_factory=set)
    _seen: dict[Kind, set[str | bytes]] = field(default_factory=lambda: defaultdict(set))
    _gathered: dict[Layout | None, Gathered] = field(default_factory=dict)

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
        self.unshown.add(quarantined.batch.batch_id)

    def forget(self) -> None:
        """After rows were not written: nothing of them is left, and their duplicates must not be dropped again."""
        self._seen.clear()
        self._gathered.clear()
        self.body_bytes = 0
        self.take_quarantined()
        self.take_unshown()

    def many_wait(self) -> bool:
        """Whether there are enough rows for `make_columns`."""
        return any(len(gathered.event_keys) >= ROWS_AT_ONCE for gathered in self._gathered.values())

    def make_columns(self) -> None:
        """Of all rows so far, whatever batch they are of. Those that are left `take_days` makes."""
        self._make_columns(self._gathered.values())

    def _make_columns(self, some: Iterable[Gathered]) -> None:
        for gathered in some:
            if gathered.event_keys:
                gathered.parts.append(self._to_columns(gathered))
                gathered.fields, gathered.events, gathered.event_classes = [], [], []
                gathered.event_keys, gathered.batches, gathered.batch_numbers = [], [], []

    def take_days(self) -> Iterator[Day]:
        """Hand over the rows gathered so far; forget them."""
        taken, self._gathered = list(self._gathered.values()), {}
        self.body_bytes = 0
        if not taken:
            return
        days = _days(taken)
        first, *others = taken
        if first.rows < LONG and not first.parts and not others:  # few rows are put in order sooner than their columns
            first.put_in_order([number for _, order, _ in days for number in order])
            whole = in_all_columns(self._to_columns(first))
            before = 0
            for day, order, sizes in days:
                yield Day(day, whole.slice(before, len(order)) if len(days) > 1 else whole, sizes)
                before += len(order)
            return
        self._make_columns(taken)
        rows = together([part for gathered in taken for part in gathered.parts])
        for day, order, sizes in days:
            yield Day(day, in_order(rows, order), sizes)

    def take_quarantined(self) -> list[Quarantined]:
        taken, self.quarantined = self.quarantined, []
        return taken

    def take_unshown(self) -> set[str]:
        taken, self.unshown = self.unshown, set()
        return taken

    def _find_one_by_one(self, found: BatchFound, batch: StoredBatch, bounds: Bounds) -> None:
        """Elements of an intact body are decoded several at a time, so that one odd element does not slow the others.

        Errors: BeyondBoundsError.
        """
        read = ReadElements(DecodedBatch(self.layouts.layout, [], []), [], [], [])
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
        if read.lenient:
            event_classes, events, event_keys, places = map(list, zip(*read.lenient, strict=True))
            types, accounts, timestamps = (
                [values.get(name) for values, _ in events] for name in ("type", "customer_id", "timestamp")
            )
            lists = events, event_classes, types, accounts, event_keys, timestamps
            found.events.append(Found(None, batch.received_at, *lists, places))
        if read.quick.events:
            quick_body = b"[%b]" % b",".join(read.quick_raws)
            self._find_decoded(found, batch, read.quick, quick_body, read.quick_places)

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
            if repairable and (steps := repair_steps(raw)) <= MAX_REPAIR_STEPS:
                found.repair_steps += steps
                if found.repair_steps > MAX_REPAIR_STEPS:
                    repairable, reason = False, reason + TOO_MUCH
            else:
                repairable = False
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
        normalised = normalise(event)
        self.layouts.observe(event.fields)
        event_key = normalised.values.get("event_id") or content_key(event.raw)
        read.lenient.append((event.event_class, normalised, event_key, position))
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
        event_keys = list(map(_event_id, events))
        if not all(event_keys):
            raws = raw_events(body, events)
            event_keys = [key or content_key(raws[place]) for place, key in enumerate(event_keys)]
        timestamps = milliseconds(list(map(_timestamp, events)))
        types, accounts = list(map(_type, events)), list(map(_account, events))
        lists = events, decoded.event_classes, types, accounts, event_keys, timestamps
        found.events.append(Found(decoded.layout, batch.received_at, *lists, places))

    def _keep(self, batch: StoredBatch, found: BatchFound) -> None:
        groups, rows = self._number_of_groups(), self.counts.rows
        without_body = batch._replace(body=b"")
        self.counts.events += sum(len(one.events) for one in found.events)
        if len(found.events) > 1 and (dropped := found.drop_later_copies()):
            self._count_duplicates(batch, dropped)
        for one in found.events:
            self._keep_events(without_body, one)
        for quarantined in found.quarantined:
            self.quarantine(quarantined)
        self.quarantined += found.repaired
        if found.repaired:
            self.unshown.add(batch.batch_id)
        self.counts.repaired += len(found.repaired)
        self.body_bytes += max(
            len(batch.body),
            (self.counts.rows - rows) * MIN_ROW_BYTES + (self._number_of_groups() - groups) * MIN_GROUP_BYTES,
        )

    def _keep_events(self, batch: StoredBatch, found: Found) -> None:
        event_keys: Sequence[str | bytes] = found.event_keys
        if max(map(len, event_keys), default=0) > MAX_KEY_CHARACTERS:
            event_keys = list(map(_short, found.event_keys))
        repeated: set[int] = set()
        for kind, rows in found.kinds.items():
            keys, seen = _picked(rows, event_keys), self._seen[kind]
            distinct = set(keys)
            if len(distinct) < len(keys) or not seen.isdisjoint(distinct):
                for row, key in zip(rows, keys, strict=True):
                    if key in seen:
                        repeated.add(row)
                    seen.add(key)
            else:
                seen |= distinct
        if repeated:
            self._count_duplicates(batch, len(repeated))
            found = found.picked([row for row in range(len(event_keys)) if row not in repeated])
        if found.events:
            self.counts.rows += len(found.events)
            if found.layout not in self._gathered:
                self._gathered[found.layout] = Gathered(found.layout)
            self._gathered[found.layout].add(batch, found)

    def _count_duplicates(self, batch: StoredBatch, count: int) -> None:
        self.counts.duplicates += count
        self.unshown.add(batch.batch_id)

    def _number_of_groups(self) -> int:
        return sum(len(gathered.groups) for gathered in self._gathered.values())

    def _to_columns(self, gathered: Gathered) -> Columns:
        if gathered.layout is None:
            columns, extra_fields = columns_of_values(gathered.events)
        else:
            columns, extra_fields = columns_of_events(gathered.layout, gathered.fields)
        self.counts.count_extra(extra_fields)
        if self.protection:
            self.protection.apply(columns)
        add_ours(columns, gathered.event_classes, gathered.event_keys, gathered.batches, gathered.batch_numbers)
        return columns


_account = attrgetter("customer_id")
_event_id = attrgetter("event_id")
_timestamp = attrgetter("timestamp")
_type = attrgetter("type")


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


def _event_days(timestamps: Sequence[int | None], received_at: int) -> int | list[int]:
    """Days since 1970: one if all are of it, as they mostly are; otherwise one for each."""
    if timestamps and None not in timestamps:
        first, last = _event_day(min(timestamps), received_at), _event_day(max(timestamps), received_at)  # type: ignore[type-var]
        if first == last:
            return first
    return [_event_day(timestamp, received_at) for timestamp in timestamps]


def _event_day(timestamp: int | None, received_at: int) -> int:
    """Days since 1970 of the event, or of its batch's arrival if the event's own date cannot be a partition."""
    arrival = received_at // DAY_MILLISECONDS
    if timestamp is None:
        return arrival
    day = timestamp // DAY_MILLISECONDS
    return day if FIRST_EVENT_DAY <= day <= arrival + 1 else arrival


def _days(taken: Sequence[Gathered]) -> list[tuple[int, list[int], list[tuple[str, str | None, int]]]]:
    """Each day, its rows' numbers by type and time, and how many there are of which (class, type)."""
    by_day: dict[int, dict[str | None, list[tuple[str, Group]]]] = defaultdict(lambda: defaultdict(list))
    before = 0
    for gathered in taken:
        for (day, event_class, event_type), group in gathered.groups.items():
            moved = group._replace(numbers=[before + number for number in group.numbers]) if before else group
            by_day[day][event_type].append((event_class, moved))
        before += gathered.rows
    return [
        (
            day,
            [number for kind in sorted(by_type, key=_nulls_first) for number in _by_time(by_type[kind])],
            [(one, kind, len(group.numbers)) for kind, groups in by_type.items() for one, group in groups],
        )
        for day, by_type in sorted(by_day.items())
    ]


def _by_time(groups: Sequence[tuple[str, Group]]) -> list[int]:
    """The numbers of all rows."""
    timestamps = [timestamp for _, group in groups for timestamp in group.timestamps]
    numbers = [number for _, group in groups for number in group.numbers]
    return _picked(sorted(range(len(timestamps)), key=timestamps.__getitem__), numbers)


def _picked[T](rows: Sequence[int], values: Sequence[T]) -> list[T]:
    return [values[row] for row in rows]


def _nulls_first(event_type: str | None) -> tuple[bool, str]:
    return event_type is not None, event_type or ""
