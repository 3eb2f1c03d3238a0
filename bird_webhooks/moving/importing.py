"""`bird-webhooks import`: what a sender has from before, into the raw bucket as ordinary batches, once, and by day.

Each object is read, its events become batches of one day, and each batch is stored once under a name made of its
content. A message of the import queue names up to some hundred batches of a day: an invocation of process makes one
file of them. A cut at any moment leaves batches that no message named; the next run finds them and hands them over.
"""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from threading import Event
from typing import NamedTuple

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import books, forms, names, raw_batches, splitting
from bird_webhooks.moving.accounts import OnlyAccount
from bird_webhooks.moving.books import Books
from bird_webhooks.moving.erased import is_erased
from bird_webhooks.moving.forms import Found, Probe, Refusal
from bird_webhooks.moving.ledger import Done, Ledger
from bird_webhooks.moving.listing import Entries
from bird_webhooks.moving.raw_batches import RawBatches
from bird_webhooks.moving.sources import STACK_ERRORS, Entry, NotReadError, Source, shown
from bird_webhooks.moving.splitting import Batch, Splitting
from bird_webhooks.moving.twins import Twins
from bird_webhooks.operate import tombstone
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, print_json, say
from process.normalise import DAY_MILLISECONDS, FIRST_EVENT_DAY
from process.tombstones import Tombstones

AT_ONCE = 8
# Larger ones are read one at a time.
LARGE_BYTES = 2 * 1024 * 1024
# What one invocation of process makes one file of each day of.
GROUP_BATCHES = 100
GROUP_BYTES = 10 * 1024 * 1024
# A day whose message is not full waits until so many batches of other days came, because a file that is not sorted
# comes back to each day: handing it over at once would make a file of rows for each of its batches.
IDLE_BATCHES = 2_000
TOO_OLD = "older than RawRetentionDays: give --beyond-retention to keep it for as long again"
# Persons may be erased while an import goes on for hours.
ERASED_AGAIN_SECONDS = 60
# Bird has given up, and process has read what came last.
STILL_COMING = timedelta(hours=9)


@dataclass(frozen=True)
class Choice:
    """What the operator asked for."""

    account: str | None = None
    publish: bool = False
    beyond_retention: bool = False
    dry_run: bool = False
    wait: bool = True
    as_json: bool = False


class Stored(NamedTuple):
    """A batch of an object. Another object may have the same."""

    name: str
    identity: str
    day: date
    size: int
    events: int
    odd_dates: int
    untimed: int
    by_month: Counter[tuple[str, str]]  # and type


@dataclass
class Group:
    """Batches of one day for one message. `touched`: how many batches of all days there were before the newest."""

    batches: list[tuple[str, Entry]] = field(default_factory=list)
    size: int = 0
    touched: int = 0


@dataclass
class Refused:
    """All that one object has been refused for one reason. `place` is of the first of them."""

    place: int | None
    times: int = 0


@dataclass
class Outcome:
    """What became of an object, or of a part of a large one."""

    entry: Entry
    is_last: bool = False
    batches: list[Stored] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)  # by reason
    refused_events: int = 0
    probes: int = 0
    here: int = 0  # events
    erased: int = 0

    def refuse(self, refusal: Refusal, events: int = 0) -> None:
        self.refused.setdefault(refusal.reason, Refused(refusal.place)).times += 1
        self.refused_events += events

    def taken(self) -> "Outcome":
        """All of it until now; what follows is counted from zero."""
        taken = replace(self)
        self.batches, self.refused = [], {}
        self.refused_events = self.probes = self.here = self.erased = 0
        return taken


@dataclass
class Progressing:
    """What became of an object so far, until the last message that names one of its batches is sent."""

    refused: dict[str, Refused] = field(default_factory=dict)
    new: bool = False
    events: int = 0
    here: int = 0
    erased: int = 0
    probes: int = 0
    left: int = 0  # batches that no message has named yet
    is_read: bool = False
    done: Done | None = None

    @property
    def kind(self) -> str:
        if self.refused:
            return "refused"
        if self.new or self.erased:
            return "imported"
        return "here already" if self.here else "probes"

    def add(self, outcome: Outcome, new: list[Stored]) -> None:
        for reason, refused in outcome.refused.items():
            self.refused.setdefault(reason, Refused(refused.place)).times += refused.times
        self.new = self.new or bool(new)
        self.events += sum(stored.events for stored in new)
        self.here += outcome.here
        self.erased += outcome.erased
        self.probes += outcome.probes
        self.left += len(new)


def run(stack: Stack, source: Source, choice: Choice) -> None:
    """Errors: OperateError, also after everything else was done, while anything is refused."""
    raw_batches.check(stack)
    importing = Import(stack, source, choice, Ledger.read(stack), tombstone.read_all(stack))
    importing.run()
    if not importing.books.listed:
        raise OperateError("there is no object: look at the bucket and the prefix, or at the folder")
    if choice.as_json:
        print_json(books.document(importing.books, dry_run=choice.dry_run))
    else:
        for line in books.summary(stack, importing.books, dry_run=choice.dry_run):
            print(line)
    if count := importing.erased_meanwhile():
        raise OperateError(
            f"{count:,} persons were erased while this import read: give `erase` again for each of them, because what "
            "had been read before may have been stored after"
        )
    if count := importing.books.objects["refused"]:
        raise OperateError(f"{count:,} objects are refused, in whole or in part: each is named above with its reason")


class Import:
    def __init__(
        self,
        stack: Stack,
        source: Source,
        choice: Choice,
        ledger: Ledger,
        erased: Tombstones,
        now: datetime | None = None,
    ) -> None:
        self.stack, self.source, self.choice, self.ledger, self.erased = stack, source, choice, ledger, erased
        self.now = now or datetime.now(UTC)
        self.account = OnlyAccount(stack, choice.account)
        self.twins = Twins(stack, self._wait_for_earlier)
        self.raw = RawBatches(stack)
        self.books = Books()
        self.progress = Progress()
        retention = int(stack.parameters.get("RawRetentionDays", "0"))
        self.oldest = self.now - timedelta(days=retention) if retention and not choice.beyond_retention else None
        self._seen: set[str] = set()
        self._groups: OrderedDict[date, Group] = OrderedDict()  # the one that got nothing for longest comes first
        self._open: dict[str, Progressing] = {}  # objects by their fingerprint
        self._done: list[Done] = []
        self._ended = Event()
        self._erased_before, self._erased_read_at = erased, time.monotonic()

    def run(self) -> None:
        entries_by_time = closing(Entries(self.source.entries()))
        with (
            closing(self.twins),
            entries_by_time as entries,
            ThreadPoolExecutor(AT_ONCE) as pool,
            ExitStack() as at_end,
        ):
            at_end.callback(self._ended.set)  # or a thread that waits would hold up Ctrl-C
            waiting: deque[Future[list[Outcome]]] = deque()
            for entry in entries:
                self.books.listed += 1
                if self._is_done(entry):
                    continue
                large = entry.size > LARGE_BYTES or entry.name == "-"
                while waiting and (large or len(waiting) >= 2 * AT_ONCE):
                    self._take_all(waiting.popleft().result())
                if large:
                    for outcome in self._parts(entry):
                        self._take(outcome)
                else:
                    waiting.append(pool.submit(self._work, entry))
            while waiting:
                self._take_all(waiting.popleft().result())
        for day in list(self._groups):
            self._hand_over(day)
        if self._done and not self.choice.dry_run:
            self.ledger.write([], self._done)
        if self.choice.wait and not self.choice.dry_run and self.books.messages:
            self._wait_until_done()
        self.progress.done()

    def erased_meanwhile(self) -> int:
        """How many persons, of whom a batch that was read before may have been stored after."""
        if self.choice.dry_run or not self.books.batches:
            return 0
        now = tombstone.read_all(self.stack).erased_at
        return sum(self._erased_before.erased_at.get(person) != at for person, at in now.items())

    # --- One object, in a thread ---

    def _work(self, entry: Entry) -> list[Outcome]:
        return list(self._parts(entry))

    def _parts(self, entry: Entry) -> Iterator[Outcome]:
        """So that what is handed over need not wait for the end of a large object, nor be kept in memory."""
        outcome = Outcome(entry)
        try:
            for batch in self._batches(entry, outcome) if not entry.is_marker else ():
                self._store(batch, outcome)
                if len(outcome.batches) == GROUP_BATCHES:
                    yield outcome.taken()
        except NotReadError as error:
            outcome.refuse(Refusal(str(error), None))
        except STACK_ERRORS:
            raise
        except Exception as error:
            outcome.refuse(forms.fault(error))
        outcome.probes += entry.is_marker
        outcome.is_last = True
        yield outcome

    def _batches(self, entry: Entry, outcome: Outcome) -> Iterator[Batch]:
        opened = self.source.open(entry)
        row = splitting.row_of(opened.metadata, entry.batch_id)
        arrived = row.received_at or entry.time_in_name or entry.modified or self.now
        # A file that is named when it is begun, and then appended to, holds what came later.
        latest = row.received_at or max(arrived, entry.modified or arrived)
        split = Splitting(arrived, latest, row.received_at is not None)
        for item in forms.read(opened.chunks, self.account, row):
            if isinstance(item, Probe):
                outcome.probes += 1
            elif isinstance(item, Refusal):
                outcome.refuse(item, events=item.place is not None)
            elif (found := self._with_key(item, outcome)) is not None:
                yield from split.add(found)
        yield from split.rest()

    def _with_key(self, found: Found, outcome: Outcome) -> Found | None:
        """An event without an id counts once only if nothing has brought it in other bytes."""
        if found.has_id or (found.has_key and found.timestamp is None):
            return found
        if not found.has_key and self._may_still_come(found):
            outcome.refuse(Refusal("without an id, and so new that it may still come by the webhook", None), events=1)
        elif self.twins.came_before(found) or (not found.has_key and self.twins.has(found)):
            outcome.here += 1
        else:
            return found
        return None

    def _may_still_come(self, found: Found) -> bool:
        return found.timestamp is None or found.timestamp / 1000 > (self.now - STILL_COMING).timestamp()

    def _wait_for_earlier(self) -> None:
        """An import before this one may have handed over what has no rows yet."""
        if not self.choice.dry_run:
            self._wait_until_empty(", because what was handed over before must be rows first", self._ended.is_set)

    def _store(self, batch: Batch, outcome: Outcome) -> None:
        count = len(batch.found)
        if self.oldest and batch.received_at < self.oldest:
            outcome.refuse(Refusal(TOO_OLD, None), events=count)
            return
        elements = [found.element for found in batch.found]
        name = names.name(
            batch.batch_id, batch.day.isoformat(), batch.received_at, elements, publish=self.choice.publish
        )
        if name.identity in self.ledger.identities:
            outcome.here += count
            return
        kept = [found for found in batch.found if not is_erased(found, self.erased)]
        outcome.erased += count - len(kept)
        if not kept:
            return
        body = b"[%b]" % b",".join(found.element for found in kept)
        if not self.choice.dry_run:
            self.raw.put_once(name.text, body, batch.received_at, shown(outcome.entry.name))
        by_month = Counter((_month(found, batch), found.type) for found in kept)
        odd_dates = sum(_is_odd(found, batch) for found in kept)
        untimed = sum(found.timestamp is None for found in kept)
        outcome.batches.append(
            Stored(name.text, name.identity, batch.day, len(body), len(kept), odd_dates, untimed, by_month),
        )

    # --- All objects, in their order ---

    def _is_done(self, entry: Entry) -> bool:
        counted = self.ledger.done.get(entry.fingerprint + self._suffix)
        if counted is None or entry.name == "-":
            return False
        self.books.objects["here already" if counted.events or not counted.probes else "probes"] += 1
        self.books.events["here already"] += counted.events
        return True

    @property
    def _suffix(self) -> str:
        return names.PUBLISHED if self.choice.publish else ""

    def _take_all(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        books, entry = self.books, outcome.entry
        new: list[Stored] = []
        for stored in outcome.batches:
            if stored.identity in self._seen:  # the same content in another object
                outcome.here += stored.events
                continue
            self._seen.add(stored.identity)
            new.append(stored)
        reading = self._open.setdefault(entry.fingerprint, Progressing())
        reading.add(outcome, new)
        books.events.update(
            {
                "imported": sum(stored.events for stored in new),
                "here already": outcome.here,
                "erased": outcome.erased,
                "refused": outcome.refused_events,
            }
        )
        for stored in new:
            books.by_month.update(stored.by_month)
        books.batches += len(new)
        books.body_bytes += sum(stored.size for stored in new)
        books.odd_dates += sum(stored.odd_dates for stored in new)
        books.untimed += sum(stored.untimed for stored in new)
        if outcome.is_last:
            self._end(entry, reading)
        for number, stored in enumerate(new, books.batches - len(new)):
            group = self._groups.setdefault(stored.day, Group())
            group.batches.append((stored.name, entry))
            group.size += stored.size
            group.touched = number
            self._groups.move_to_end(stored.day)
            if len(group.batches) == GROUP_BATCHES or group.size > GROUP_BYTES:
                self._hand_over(stored.day)
            while self._groups and number - (oldest := next(iter(self._groups.items())))[1].touched > IDLE_BATCHES:
                self._hand_over(oldest[0])
        counts = f"{books.listed:,} objects read, {books.events['imported']:,} events imported"
        self.progress.show(f"{counts}, {books.objects['refused']:,} objects refused, at {shown(entry.name)}")

    def _end(self, entry: Entry, reading: Progressing) -> None:
        """All of the object was read."""
        reading.is_read = True
        self.books.objects[reading.kind] += 1
        for reason, refused in reading.refused.items():
            self._refuse(entry, reason, refused)
        if not reading.refused:
            counted = reading.events + reading.here + reading.erased
            reading.done = Done(entry.fingerprint + self._suffix, counted, reading.probes)
        if not reading.left:
            self._close(entry)

    def _close(self, entry: Entry) -> None:
        """All of the object was read and handed over, or none of it is to be."""
        if done := self._open.pop(entry.fingerprint).done:
            self._done.append(done)

    def _refuse(self, entry: Entry, reason: str, refused: Refused) -> None:
        name = shown(entry.name)
        self.books.refused.append((name, reason, refused.place, refused.times))
        if not self.choice.as_json:
            place = "" if refused.place is None else f", at its value {refused.place:,}"
            more = f" (and {refused.times - 1:,} more)" if refused.times > 1 else ""
            print(f"refused: {name}{place}{more}: {reason}", flush=True)

    def _hand_over(self, day: date) -> None:
        group = self._groups.pop(day).batches
        self.books.messages += 1
        if self.choice.dry_run:
            return
        self._read_erased()
        while reason := self.raw.busy():
            self.progress.show(f"waiting: {reason}")
            time.sleep(self.stack.poll_seconds)
        self.raw.hand_over([name for name, _ in group])
        for _, entry in group:
            reading = self._open[entry.fingerprint]
            reading.left -= 1
            if not reading.left and reading.is_read:
                self._close(entry)
        done, self._done = self._done, []
        self.ledger.write([name for name, _ in group], done)

    def _read_erased(self) -> None:
        if time.monotonic() - self._erased_read_at > ERASED_AGAIN_SECONDS:
            self.erased, self._erased_read_at = tombstone.read_all(self.stack), time.monotonic()

    def _wait_until_done(self) -> None:
        say("all is handed over: Ctrl-C ends the waiting, and nothing else")
        self._wait_until_empty("", lambda: False)

    def _wait_until_empty(self, why: str, no_more: Callable[[], bool]) -> None:
        while not no_more() and (left := self.raw.left()):
            self.progress.show(f"waiting: {left:,} messages in the import queue{why}")
            time.sleep(self.stack.poll_seconds)


def _month(found: Found, batch: Batch) -> str:
    moment = batch.day if found.timestamp is None else datetime.fromtimestamp(found.timestamp / 1000, UTC)
    return f"{moment:%Y-%m}"


def _is_odd(found: Found, batch: Batch) -> bool:
    """Whether its own date is one that the table does not file it under."""
    if found.timestamp is None:
        return False
    day = found.timestamp // DAY_MILLISECONDS
    return not FIRST_EVENT_DAY <= day <= batch.received_at.timestamp() // 86400 + 1
