"""Events that Bird has and the lake has not -> ordinary raw batches, of which process makes rows.

Windows whose counts differ are halved until one page holds them, and only these are fetched. What is absent is stored
in Bird's webhook form under `backfill-<hour>-<type>-<hash of the content>`, at most 500 events each, once: the name is
the content, and S3 refuses it a second time. S3 announces the object to process as it announces ingest's.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import msgspec

from reconcile.as_webhook import CLASS_OF_TYPE, NOT_IN_EVENTS_API, WITHOUT_ID, Event, element, values
from reconcile.events_api import ALL_SUBACCOUNTS, CallsSpentError, EventsApi, RefusedError, UntrustedError, Webhook

BATCH_PREFIX = "backfill-"
EVENTS_OF_A_BATCH = 500
BYTES_OF_A_BATCH = 900_000  # process makes rows of a batch of up to 1 MiB together with Bird's own
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
# An hour of which nothing is here is fetched whole, up to so many pages; its events wait in memory for the last one.
PAGES_OF_AN_EMPTY_HOUR = 5
# A row's second may be Bird's millisecond rounded in either direction, or a clock's difference.
MARGIN = timedelta(minutes=1)
_BETWEEN = r"\s\"<>()\[\],:;=?&/@"
# From the beginning of a run of characters on, so that a long one is looked through once.
_ADDRESS = re.compile(rf"(?<![^{_BETWEEN}])[^{_BETWEEN}]++@[^{_BETWEEN}]++")
_QUOTES = "'`*_~|.!{}"

type Key = tuple[str, str, str, str]  # customer_id (empty if absent), event_class, type, event_key


class Ours(Protocol):
    """What the lake or PostgreSQL has. Both count and name distinct events, by the time of the event itself."""

    def minutes(self, since: datetime, until: datetime, types: Sequence[str]) -> Mapping[tuple[datetime, str], int]:
        """How many by minute (UTC) and type; nothing where there are none."""
        ...

    def keys(self, since: datetime, until: datetime, types: Sequence[str]) -> set[Key]:
        """Of events within this time, whichever of the dates from the day before to the day after has their row."""
        ...


class Store(Protocol):
    """The raw batches of filling: reconcile.raw_batches, or nothing at all for a dry run."""

    def names(self, prefix: str) -> Iterator[str]:
        """Batch ids that begin like this."""
        ...

    def read(self, name: str) -> bytes: ...

    def put_once(self, name: str, body: bytes) -> bool:
        """False if it is there already."""
        ...


class Covers(Protocol):
    """process.tombstones.Tombstones, or this function's copy."""

    def covers(self, address: str | None, event_time: datetime | None) -> bool: ...


@dataclass(frozen=True)
class Limits:
    """`events` that one call stores at most."""

    events: int = 200_000


@dataclass
class Filled:
    """Events, counted; `batches` are raw objects. `left`: a bound was reached, and the next run goes on."""

    stored: int = 0
    batches: int = 0
    erased: int = 0  # left out: of persons who were erased
    waiting: int = 0  # in a backfill batch already, and not a row yet: for `replay` if it stays so
    compared: int = 0  # fetched, and told from ours by their ids
    held: Counter[str] = field(default_factory=Counter)  # by type: whose class is not known
    left: bool = False


class _Identity(msgspec.Struct):
    customer_id: str
    type: str
    event_id: str


_batch = msgspec.json.Decoder(list[dict[str, dict[str, _Identity]]])


class Absent(NamedTuple):
    """An event that is not here, as an element of a batch; in the order in which batches have them."""

    hour: datetime
    type: str
    at: datetime
    key: Key
    body: bytes


def fill(
    api: EventsApi,
    ours: Ours,
    store: Store,
    tombstones: Callable[[], Covers],
    since: datetime,
    until: datetime,
    types: Sequence[str],
    limits: Limits = Limits(),
    webhook: Webhook | None = None,
    progress: Callable[[Filled, datetime], None] = lambda filled, until: None,
    *,
    known_to_differ: bool = False,
) -> Filled:
    """Fill in what is absent from `since` to before `until`, both whole minutes, the oldest day first.

    `webhook`: events that it does not send are left out. `tombstones` are read again whenever a window was fetched.
    `progress` hears until when all is done. `known_to_differ`: what one page holds is compared by ids even if its
    counts are equal, because a surplus may hide a loss. Types that the Events API does not have, and those without ids,
    are left out; of unknown types the events are counted, and held.

    Errors: those of EventsApi, but for CallsSpentError, which sets `left`. What was stored until then stays.
    """
    if any(moment != moment.replace(second=0, microsecond=0) for moment in (since, until)):
        raise ValueError("a window to fill must have whole minutes")
    run = _Filling(api, ours, store, tombstones, types, limits, webhook, progress)
    try:
        run.hold_unknown_types(since, until)
        for day in _days(since, until):
            run.fill_day(*day, known_to_differ=known_to_differ)
    except CallsSpentError:
        run.filled.left = True
    return run.filled


@dataclass
class _Filling:
    api: EventsApi
    ours: Ours
    store: Store
    tombstones: Callable[[], Covers]
    asked: Sequence[str]
    limits: Limits
    webhook: Webhook | None
    progress: Callable[[Filled, datetime], None]
    filled: Filled = field(default_factory=Filled)
    _minutes: Mapping[tuple[datetime, str], int] = field(default_factory=dict)
    _stored: dict[tuple[datetime, str], set[Key]] = field(default_factory=dict)  # in batches of filling
    _names: dict[datetime, list[str]] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        return [kind for kind in self.asked if kind in CLASS_OF_TYPE and kind not in WITHOUT_ID]

    def hold_unknown_types(self, since: datetime, until: datetime) -> None:
        for kind in sorted(set(self.asked) - CLASS_OF_TYPE.keys() - NOT_IN_EVENTS_API):
            try:
                theirs = self._count(since, until, [kind])
            except RefusedError:  # Bird's Events API does not know it either
                continue
            if theirs > (here := sum(self.ours.minutes(since, until, [kind]).values())):
                self.filled.held[kind] += theirs - here

    def fill_day(self, since: datetime, until: datetime, *, known_to_differ: bool) -> None:
        if not self.types:
            return
        self._minutes = self.ours.minutes(since - MARGIN, until + MARGIN, self.types)
        self._names, self._stored = {}, {}
        theirs = self._count(since, until, self.types)
        if known_to_differ and theirs <= self.api.per_page:
            self._fetch(since, until)
        else:
            self._fill(since, until, theirs)

    def _fill(self, since: datetime, until: datetime, theirs: int) -> None:
        """`theirs`: Bird's count. A surplus here may hide a loss, so it is looked into as well."""
        here = self._here(since, until)
        if theirs == here:
            pass
        elif self._fits(until - since, theirs, here):
            self._fetch(since, until)
        else:
            middle = _middle(since, until)
            first = self._count(since, middle, self.types)
            self._fill(since, middle, first)
            self._fill(middle, until, max(0, theirs - first))
            return
        self.progress(self.filled, until)

    def _fits(self, span: timedelta, theirs: int, here: int) -> bool:
        """Whether to fetch it whole."""
        pages = PAGES_OF_AN_EMPTY_HOUR if here == 0 and span <= HOUR else 1
        return span <= MINUTE or theirs <= pages * self.api.per_page

    def _fetch(self, since: datetime, until: datetime) -> None:
        """Nothing is stored before all pages are checked."""
        keys: set[Key] = set()
        if self._here(since - MARGIN, until + MARGIN):
            keys = self.ours.keys(since - MARGIN, until + MARGIN, self.types)
        absent = []
        fetched = 0
        for event in self._events(since, until):
            fetched += 1
            key = _key(event)
            if key not in keys and (self.webhook is None or self.webhook.sends(event)):
                hour = event.at.replace(minute=0, second=0, microsecond=0)
                absent.append(Absent(hour, event.type, event.at, key, element(event)))
        self.filled.compared += fetched
        if absent:
            self._store(absent)

    def _store(self, absent: list[Absent]) -> None:
        """Errors: CallsSpentError at the limit of events."""
        erased = self.tombstones()
        fresh = []
        for one in sorted(absent):
            if one.key in self._stored_keys(one.hour, one.type):
                self.filled.waiting += 1
            elif any(erased.covers(address, one.at) for address in addresses(one.body)):
                self.filled.erased += 1
            else:
                fresh.append(one)
        for (hour, kind), group in groupby(fresh, key=lambda one: (one.hour, one.type)):
            for some in _batches(list(group)):
                room = self.limits.events - self.filled.stored
                if len(some) > room:
                    raise CallsSpentError(f"{self.limits.events} events are stored")
                body = b"[%b]" % b",\n".join(one.body for one in some)
                digest = hashlib.sha256(body).hexdigest()[:32]
                if self.store.put_once(f"{_prefix(hour)}{kind}-{digest}", body):
                    self.filled.stored += len(some)
                    self.filled.batches += 1
                else:
                    self.filled.waiting += len(some)
                self._stored_keys(hour, kind).update(one.key for one in some)

    def _stored_keys(self, hour: datetime, kind: str) -> set[Key]:
        """Of events in batches of an earlier filling, whose rows may be on their way, or have failed in process."""
        if hour not in self._names:
            self._names[hour] = list(self.store.names(_prefix(hour)))
        if (hour, kind) not in self._stored:
            names = [name for name in self._names[hour] if name.startswith(f"{_prefix(hour)}{kind}-")]
            self._stored[hour, kind] = {key for name in names for key in _keys_of(self.store.read(name))}
        return self._stored[hour, kind]

    def _here(self, since: datetime, until: datetime) -> int:
        return sum(count for (minute, _), count in self._minutes.items() if since <= minute < until)

    def _count(self, since: datetime, until: datetime, types: Sequence[str]) -> int:
        if self.webhook is not None:
            return self.api.count_sent(self.webhook, since, until, types)
        return self.api.count(since, until, types)

    def _events(self, since: datetime, until: datetime) -> Iterator[Event]:
        webhook = self.webhook
        if webhook is None or webhook.subaccount == ALL_SUBACCOUNTS:
            return self.api.events(since, until, self.types)
        return self.api.events(since, until, self.types, [webhook.subaccount])


def addresses(body: bytes) -> set[str]:
    """All that looks like an email address in an event's values, as it stands and without quotes, encoded or not."""
    found: set[str] = set()
    try:
        waiting: list[Any] = [_any(body)]
    except RecursionError:  # nested too deeply, by the sender of the mail
        waiting = [body.decode(errors="replace")]
    while waiting:
        match waiting.pop():
            case str(raw) if "@" in raw or "%40" in raw:
                # As process reads it, with U+FFFD for half of a surrogate pair.
                text = raw.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                for way in {text, unquote(text)}:
                    named = _ADDRESS.findall(way)
                    found.update([way] if way.count("@") == 1 else [], named, (one.strip(_QUOTES) for one in named))
            case dict(members):
                waiting += [*members.keys(), *members.values()]
            case list(elements):
                waiting += elements
    return found


def _any(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except ValueError:  # a number that it refuses, half of a surrogate pair, bytes that are not UTF-8
        return values(body)


def _key(event: Event) -> Key:
    if event.event_class is None or event.event_id is None:
        raise UntrustedError("an event without a class or an id")
    return event.customer_id, event.event_class, event.type, event.event_id


def _keys_of(body: bytes) -> Iterator[Key]:
    """Of a batch of filling. What `erase` has taken out of it is not among them; its tombstone keeps it away.

    None of a body that is no such batch: ingest stores what a sender calls `backfill-…` under that name, too.
    """
    try:
        elements = _batch.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for one in elements:
        for event_class, event in one.get("msys", {}).items():
            yield event.customer_id, event_class, event.type, event.event_id


def _batches(events: Sequence[Absent]) -> Iterator[list[Absent]]:
    some: list[Absent] = []
    size = 0
    for one in events:
        if some and (len(some) == EVENTS_OF_A_BATCH or size + len(one.body) > BYTES_OF_A_BATCH):
            yield some
            some, size = [], 0
        some.append(one)
        size += len(one.body)
    yield some


def _prefix(hour: datetime) -> str:
    return f"{BATCH_PREFIX}{hour.astimezone(UTC):%Y%m%dT%H}-"


def _days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """By UTC dates."""
    begin = since.astimezone(UTC)
    while begin < until:
        end = min(until, begin.replace(hour=0, minute=0) + timedelta(days=1))
        yield begin, end
        begin = end


def _middle(since: datetime, until: datetime) -> datetime:
    """On a whole hour if both sides have one, or else on a whole minute."""
    step = HOUR if until - since >= 2 * HOUR else MINUTE
    middle = since + (until - since) / 2
    back = (middle - middle.replace(hour=0, minute=0, second=0, microsecond=0)) % step
    return middle - back
