"""`bird-webhooks import`: what a sender has from before, into the raw bucket as ordinary batches, once, and by day.

Each object is read, its events become batches of one day, and each batch is stored once under a name made of its
content. A message of the import queue names up to some hundred batches of a day: an invocation of process makes one
file of them. A cut at any moment leaves batches that no message named; the next run finds them and hands them over.
"""

import json
import time
from collections import Counter, OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import books, forms, names, raw_batches, splitting
from bird_webhooks.moving.accounts import OnlyAccount
from bird_webhooks.moving.books import Books
from bird_webhooks.moving.forms import Found, Probe, Refusal
from bird_webhooks.moving.ledger import Done, Ledger
from bird_webhooks.moving.listing import Entries
from bird_webhooks.moving.raw_batches import RawBatches
from bird_webhooks.moving.sources import STACK_ERRORS, Entry, NotReadError, Source
from bird_webhooks.moving.splitting import Batch, Splitting
from bird_webhooks.moving.twins import Twins
from bird_webhooks.operate import tombstone
from bird_webhooks.operate.quarantine import clean
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, print_json, say
from process.elements import repaired
from process.normalise import DAY_MILLISECONDS, FIRST_EVENT_DAY
from process.tombstones import Tombstones
from reconcile.filling import addresses

AT_ONCE = 8
# Larger ones are read one at a time.
LARGE_BYTES = 2 * 1024 * 1024
# What one invocation of process makes one file of each day of.
GROUP_BATCHES = 100
GROUP_BYTES = 10 * 1024 * 1024
# Days whose messages are not full yet; the one that got nothing for longest is handed over first.
OPEN_DAYS = 64
SHOWN = 20
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
    by_month: Counter[tuple[str, str]]  # and type


@dataclass
class Outcome:
    """What became of one object."""

    entry: Entry
    batches: list[Stored] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    refused_events: int = 0
    probes: int = 0
    here: int = 0  # events
    erased: int = 0
    oldest: datetime | None = None


def run(stack: Stack, source: Source, choice: Choice) -> None:
    """Errors: OperateError, also after everything else was done, while anything is refused."""
    raw_batches.check(stack)
    importing = Import(stack, source, choice, Ledger.read(stack), tombstone.read_all(stack))
    importing.run()
    if choice.as_json:
        print_json(books.document(importing.books, dry_run=choice.dry_run))
    else:
        for line in books.summary(stack, importing.books, dry_run=choice.dry_run):
            print(line)
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
        self.twins = Twins(stack)
        self.raw = RawBatches(stack)
        self.books = Books()
        self.progress = Progress()
        retention = int(stack.parameters().get("RawRetentionDays", "0"))
        self.oldest = self.now - timedelta(days=retention) if retention and not choice.beyond_retention else None
        self._seen: set[str] = set()
        self._groups: OrderedDict[date, list[tuple[Stored, Entry]]] = OrderedDict()
        self._left: dict[str, int] = {}  # batches of an object that no message has named yet
        self._complete: dict[str, Done] = {}
        self._done: list[Done] = []

    def run(self) -> None:
        with closing(Entries(self.source.entries())) as entries, ThreadPoolExecutor(AT_ONCE) as pool:
            waiting: deque[Future[Outcome]] = deque()
            for entry in entries:
                self.books.listed += 1
                if self._is_done(entry):
                    continue
                large = entry.size > LARGE_BYTES or entry.name == "-"
                while waiting and (large or len(waiting) >= 2 * AT_ONCE):
                    self._take(waiting.popleft().result())
                if large:
                    self._take(self._work(entry))
                else:
                    waiting.append(pool.submit(self._work, entry))
            while waiting:
                self._take(waiting.popleft().result())
        for day in list(self._groups):
            self._hand_over(day)
        if self._done and not self.choice.dry_run:
            self.ledger.write([], self._done)
        if self.choice.wait and not self.choice.dry_run and self.books.messages:
            self._wait_until_done()
        self.progress.done()

    # --- One object, in a thread ---

    def _work(self, entry: Entry) -> Outcome:
        outcome = Outcome(entry)
        if entry.is_marker:
            outcome.probes = 1
            return outcome
        try:
            opened = self.source.open(entry)
            row = splitting.row_of(opened.metadata, entry.batch_id)
            arrived = row.received_at or entry.time_in_name or entry.modified or self.now
            split = Splitting(arrived, row.received_at is not None)
            for item in forms.read(opened.chunks, self.account, row):
                if isinstance(item, Probe):
                    outcome.probes += 1
                elif isinstance(item, Refusal):
                    outcome.refusals.append(item)
                    outcome.refused_events += item.place is not None
                elif (found := self._with_key(item, outcome)) is not None:
                    for batch in split.add(found):
                        self._store(batch, outcome)
            for batch in split.rest():
                self._store(batch, outcome)
        except NotReadError as error:
            outcome.refusals.append(Refusal(str(error), None))
        except STACK_ERRORS:
            raise
        except Exception as error:
            outcome.refusals.append(forms.fault(error))
        return outcome

    def _with_key(self, found: Found, outcome: Outcome) -> Found | None:
        """An event without an id counts once only if the lake does not have it by the webhook's own bytes."""
        if found.has_key:
            return found
        if found.timestamp is None or found.timestamp / 1000 > (self.now - STILL_COMING).timestamp():
            outcome.refusals.append(Refusal("without an id, and so new that it may still come by the webhook", None))
            outcome.refused_events += 1
        elif self.twins.has(found):
            outcome.here += 1
        else:
            return found
        return None

    def _store(self, batch: Batch, outcome: Outcome) -> None:
        count = len(batch.found)
        if self.oldest and batch.received_at < self.oldest:
            reason = (
                f"of {batch.day}, older than RawRetentionDays: give --beyond-retention to keep it for as long again"
            )
            outcome.refusals.append(Refusal(reason, None))
            outcome.refused_events += count
            return
        elements = [found.element for found in batch.found]
        name = names.name(
            batch.batch_id, batch.day.isoformat(), batch.received_at, elements, publish=self.choice.publish
        )
        if name.identity in self.ledger.identities:
            outcome.here += count
            return
        kept = [found for found in batch.found if not self._is_erased(found)]
        outcome.erased += count - len(kept)
        if not kept:
            return
        outcome.oldest = min(batch.received_at, outcome.oldest or batch.received_at)
        body = b"[%b]" % b",".join(found.element for found in kept)
        if not self.choice.dry_run:
            self.raw.put_once(name.text, body, batch.received_at, outcome.entry.name)
        by_month = Counter((_month(found, batch), found.type) for found in kept)
        odd_dates = sum(_is_odd(found, batch) for found in kept)
        outcome.batches.append(
            Stored(name.text, name.identity, batch.day, len(body), len(kept), odd_dates, by_month),
        )

    def _is_erased(self, found: Found) -> bool:
        if not self.erased.erased_at:
            return False
        moment = None if found.timestamp is None else datetime.fromtimestamp(found.timestamp / 1000, UTC)
        return any(self.erased.covers(address, moment) for address in {*found.addresses, *_addresses(found.element)})

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

    def _take(self, outcome: Outcome) -> None:
        books, entry = self.books, outcome.entry
        new: list[Stored] = []
        for stored in outcome.batches:
            if stored.identity in self._seen:  # the same content in another object
                outcome.here += stored.events
                continue
            self._seen.add(stored.identity)
            new.append(stored)
        events = sum(stored.events for stored in new)
        books.events.update(
            {
                "imported": events,
                "here already": outcome.here,
                "erased": outcome.erased,
                "refused": outcome.refused_events,
            }
        )
        for stored in new:
            books.by_month.update(stored.by_month)
        books.batches += len(new)
        books.body_bytes += sum(stored.size for stored in new)
        books.read_bytes += entry.size
        books.odd_dates += sum(stored.odd_dates for stored in new)
        if outcome.oldest:
            books.oldest = min(outcome.oldest, books.oldest or outcome.oldest)
        for refusal in outcome.refusals:
            self._refuse(entry, refusal)
        books.objects[_kind(outcome, new)] += 1
        if not outcome.refusals:
            done = Done(entry.fingerprint + self._suffix, events + outcome.here + outcome.erased, outcome.probes)
            if new:
                self._left[entry.fingerprint] = len(new)
                self._complete[entry.fingerprint] = done
            else:
                self._done.append(done)
        for stored in new:
            group = self._groups.setdefault(stored.day, [])
            group.append((stored, entry))
            self._groups.move_to_end(stored.day)
            if len(group) == GROUP_BATCHES or sum(one.size for one, _ in group) > GROUP_BYTES:
                self._hand_over(stored.day)
            elif len(self._groups) > OPEN_DAYS:
                self._hand_over(next(iter(self._groups)))
        counts = f"{books.listed:,} objects read, {books.events['imported']:,} events imported"
        self.progress.show(f"{counts}, {books.objects['refused']:,} objects refused, at {entry.name}")

    def _refuse(self, entry: Entry, refusal: Refusal) -> None:
        known = self.books.refused
        known.append((entry.name, refusal.reason, refusal.place))
        if not self.choice.as_json:
            place = "" if refusal.place is None else f", at its value {refusal.place:,}"
            print(f"refused: {clean(entry.name)}{place}: {refusal.reason}", flush=True)

    def _hand_over(self, day: date) -> None:
        group = self._groups.pop(day)
        self.books.messages += 1
        if self.choice.dry_run:
            return
        while reason := self.raw.busy():
            self.progress.show(f"waiting: {reason}")
            time.sleep(self.stack.poll_seconds)
        self.raw.hand_over([stored.name for stored, _ in group])
        done = self._done
        self._done = []
        for _, entry in group:
            left = self._left.get(entry.fingerprint, 0) - 1
            if left == 0 and entry.fingerprint in self._complete:
                done.append(self._complete.pop(entry.fingerprint))
                del self._left[entry.fingerprint]
            elif left > 0:
                self._left[entry.fingerprint] = left
        self.ledger.write([stored.name for stored, _ in group], done)

    def _wait_until_done(self) -> None:
        say("all is handed over: Ctrl-C ends the waiting, and nothing else")
        while left := self.raw.left():
            self.progress.show(f"waiting: {left:,} messages in the import queue")
            time.sleep(self.stack.poll_seconds)


def _addresses(element: bytes) -> set[str]:
    """All in it, as filling finds them: a person is not only in rcpt_to."""
    try:
        return addresses(element)
    except ValueError:  # what process repairs, as it will read it
        return addresses(json.dumps(json.loads(repaired(element), parse_int=str, parse_float=str)).encode())


def _month(found: Found, batch: Batch) -> str:
    moment = batch.day if found.timestamp is None else datetime.fromtimestamp(found.timestamp / 1000, UTC)
    return f"{moment:%Y-%m}"


def _is_odd(found: Found, batch: Batch) -> bool:
    """Whether its own date is one that the table does not file it under."""
    if found.timestamp is None:
        return False
    day = found.timestamp // DAY_MILLISECONDS
    return not FIRST_EVENT_DAY <= day <= batch.received_at.timestamp() // 86400 + 1


def _kind(outcome: Outcome, new: list[Stored]) -> str:
    if outcome.refusals:
        return "refused"
    if new or outcome.erased:
        return "imported"
    return "here already" if outcome.here else "probes"
