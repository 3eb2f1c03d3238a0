"""Mail that arrives, runs of the table's maintenance that are killed, and readers at once: every answer is checked.

The table's clock is the test's own, so that days end and replaced files become old within a minute. It stands still
for as long as a day would go by during one question: the maintenance counts on questions that take less. It stands
still during an erasure too, because that renews its lease by the minute.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bird_webhooks.operate import closed_dates, erase, lease
from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import compact, differences, events_of, key_of
from local_aws.deploy import Deployed
from local_aws.load import notification
from tests.faults.harness import FunctionProcess

IDENTITY = ("customer_id", "event_class", "type", "event_key")
CLOSE_AFTER = timedelta(hours=10)
LONGEST_QUESTION = timedelta(hours=23)
RECEIVE_TOGETHER = 3
PERSON = "person@example.com"  # the simulator's have numbers
SETTLE_SECONDS = 20  # longer than an invocation of process or the loader takes here
ACCEPTED_SECONDS = 60

type Row = dict[str, str | None]
type Key = tuple[str | None, ...]
type Ask = Callable[[str], Iterable[Row]]  # every value as Athena's text, None for null


class Clock:
    """Simulated time."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._asking: list[datetime] = []
        self._changed = threading.Condition()

    def now(self, zone: object = UTC) -> datetime:
        """As `datetime.now`, in whose place it is."""
        with self._changed:
            return self._now

    def advance(self, by: timedelta) -> None:
        with self._changed:
            self._changed.wait_for(lambda: all(self._now + by <= began + LONGEST_QUESTION for began in self._asking))
            self._now += by

    @contextmanager
    def asking(self) -> Iterator[None]:
        with self._changed:
            began = self._now
            self._asking.append(began)
        try:
            yield
        finally:
            with self._changed:
                self._asking.remove(began)
                self._changed.notify_all()


@dataclass
class Stress:
    """`wrong` says what no reader should have seen. `closing`: dates whose rows may be out of sight for a moment.

    `erased`: events of the person, once an erasure has begun. A question may fail while it goes on, as the docs say.
    """

    stack: Deployed
    ledger: Ledger
    days: list[date]
    seed: int = 1
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)  # by the runs, as far as they lived to tell
    killed: int = 0
    files: set[str] = field(default_factory=set)
    closing: set[date] = field(default_factory=set)
    erased: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = Clock(datetime.combine(self.days[0] + timedelta(days=1), datetime.min.time(), UTC) + CLOSE_AFTER)
        self.clock.advance(timedelta(hours=-6))
        self.random = random.Random(self.seed)  # noqa: S311
        self.s3, self.glue = (self.stack.emulator.client(name) for name in ("s3", "glue"))
        self.bucket = self.stack.outputs["LakeBucketName"]
        # The deployment gave it back by the time of the real clock.
        self.s3.delete_object(Bucket=self.bucket, Key="maintenance/lease.json")
        self._sent: dict[Key, tuple[str, dict[str, Any], date]] = {}
        self._unsteady: set[Key] = set()
        self._seen: set[Key] = set()
        self._right: dict[Key, tuple[str | None, ...]] = {}
        self._over = threading.Event()
        self._person_sends = True
        self._erasing, self._erasure_is_over = threading.Event(), threading.Event()
        self._arriving = threading.Semaphore(0)  # so many a round, however long rounds take
        self._columns = self._read_columns()

    # --- Arrivals ---

    def batches(self) -> Iterator[Batch]:
        """Until the end, for a date at random; each is known before it is sent."""
        makers = {day: BatchMaker(self.seed, noon(day), spread_seconds=3_600) for day in self.days}
        number = 0
        while not self._over.is_set():
            if not self._arriving.acquire(timeout=0.1):
                continue
            day = self.random.choice(self.days)
            batch = self._of_person(makers[day].batch(number, events=self.random.choice((1, 2, 5, 12))))
            for event_class, event in events_of(batch):
                key = key_of(event_class, event)
                if day in self.closing:
                    self._unsteady.add(key)
                self._sent[key] = (batch.batch_id, event, day)
            number += 1
            yield batch

    def _of_person(self, batch: Batch) -> Batch:
        """One event of some batches is the person's, until it is erased."""
        if not self._person_sends or self.random.random() > 0.3:
            return batch
        elements = json.loads(batch.body)
        for element in elements:
            for event in element["msys"].values():
                if "rcpt_to" in event:
                    event["rcpt_to"] = event["raw_rcpt_to"] = PERSON
                    return batch._replace(body=compact(elements).encode())
        return batch

    def repeat(self) -> None:
        """Deliver some batches again, alone, which gives the same file, and together, which gives another."""
        accepted = [batch_id for batch_id, outcome in [*self.ledger.outcomes.items()] if outcome]
        keys = [f"raw/{batch_id}.json" for batch_id in accepted]
        for together in (1, RECEIVE_TOGETHER):
            if len(keys) >= together:
                body = notification(self.stack.outputs["RawBucketName"], self.random.sample(keys, together))
                queue = self.stack.outputs["ProcessQueueUrl"]
                self.stack.emulator.client("sqs").send_message(QueueUrl=queue, MessageBody=body)

    # --- Maintenance ---

    def rounds(
        self, count: int, *, batches: int, hours: int, runs: int = 2, erase_at: int = -1, postgres: str | None = None
    ) -> None:
        """In each, `batches` arrive, some come again, and there are `runs` at once, of which one is killed in most.

        With round `erase_at` the person is erased, from `postgres` too. No run is killed meanwhile: its lease would
        last until the clock goes on.
        """
        functions = [FunctionProcess(self.stack, "maintenance", self.stack.emulator.endpoint_url) for _ in range(runs)]
        try:
            number = 0
            while number < count or self._erasing.is_set():
                if self._erasing.is_set():
                    time.sleep(1)  # it waits by the real clock, and should not meet ever more files meanwhile
                else:
                    self.clock.advance(timedelta(hours=hours))
                if number == erase_at:
                    self._begin_to_erase(postgres)
                number += 1
                soon = self.clock.now() + timedelta(hours=2 * hours)
                open_ = {day for day in self.days if "/closed/" not in self.location(day)}
                self.closing = {day for day in open_ if noon(day) + timedelta(hours=12) + CLOSE_AFTER <= soon}
                self._arriving.release(1 if self._erasing.is_set() else batches)
                threads = [threading.Thread(target=self.maintain, args=(function,)) for function in functions]
                for thread in threads:
                    thread.start()
                self.repeat()
                if self.random.random() < 0.6 and not self._erasing.is_set():
                    threads[0].join(self.random.choice((0.02, 0.1, 0.3, 0.6, 1.0)))
                    self.killed += threads[0].is_alive()
                    functions[0].kill()
                for thread in threads:
                    thread.join()
                self.look_at_files()
        finally:
            for function in functions:
                function.end()

    def maintain(self, function: FunctionProcess, **order: Any) -> None:
        answer = function.invoke({"now": self.clock.now().isoformat(), **order})
        if answer is None:
            return
        if "error" in answer:
            self.wrong.append(f"the maintenance failed: {answer['error']}")
        self.done += Counter({name: count for name, count in answer.items() if name != "error"})

    def _begin_to_erase(self, postgres: str | None) -> None:
        self._person_sends = False
        time.sleep(1)  # for a batch that is being made
        of_person = {key: sent for key, sent in [*self._sent.items()] if sent[1].get("rcpt_to") == PERSON}
        deadline = time.monotonic() + ACCEPTED_SECONDS
        while not all(self.ledger.outcomes.get(batch_id) for batch_id, _, _ in of_person.values()):
            assert time.monotonic() < deadline
            self._arriving.release()  # the sender waits for its next batch under the lock that its answers need
            time.sleep(0.1)
        self.erased = set(of_person)
        self._erasing.set()
        threading.Thread(target=self._erase, args=(postgres,)).start()

    def _erase(self, postgres: str | None) -> None:
        try:
            with pytest.MonkeyPatch.context() as patch:
                for module in (lease, closed_dates):
                    patch.setattr(module, "datetime", self.clock)
                erase.erase(
                    self.stack.stack,
                    PERSON,
                    since=None,
                    postgres=postgres,
                    schema="bird",
                    hash_keys=[],
                    dry_run=False,
                    yes=True,
                    settle_seconds=SETTLE_SECONDS,
                )
            self.done["erased"] = len(self.erased)
        except Exception as error:  # whatever it is, the operator met it
            self.wrong.append(f"the erasure failed: {type(error).__name__}: {str(error)[:300]}")
        self._erasing.clear()
        self._erasure_is_over.set()

    def look_at_files(self) -> None:
        """Whoever was told of a small file finds it; an erasure may delete one that holds nothing but the person."""
        if self._erasing.is_set():
            self.files = set()
            return
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="events/")
        found = {item["Key"] for page in pages for item in page.get("Contents", [])}
        if self.files - found:
            self.wrong.append(f"{len(self.files - found)} small files are gone")
        self.files |= found

    def location(self, day: date) -> str:
        database = self.stack.outputs["GlueDatabaseName"]
        found = self.glue.get_partition(DatabaseName=database, TableName="events", PartitionValues=[str(day)])
        return str(found["Partition"]["StorageDescriptor"]["Location"])

    # --- Readers ---

    @contextmanager
    def readers(self, *questions: Callable[[], None]) -> Iterator[None]:
        """Each is asked until the block ends."""

        def until_over(question: Callable[[], None]) -> None:
            while not self._over.is_set():
                erasing = self._erasing.is_set()
                try:
                    question()
                except Exception as error:  # whatever it is, a reader met it
                    if erasing or self._erasing.is_set():
                        self.answers["failed during the erasure"] += 1
                    else:
                        self.wrong.append(f"a question failed: {type(error).__name__}: {str(error)[:300]}")

        threads = [threading.Thread(target=until_over, args=(question,), daemon=True) for question in questions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def arrivals(self) -> Iterator[None]:
        sender = Sender(
            *(self.stack.outputs["WebhookUrl"], Basic(*self.stack.credentials()), self.ledger),
            connections=2,
            time_scale=1000,
            sent_twice_share=0.2,
        )
        thread = threading.Thread(target=sender.run, args=(self.batches(),), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def ask_view(self, ask: Ask) -> None:
        """All rows of the view: none missing that was seen before, none twice, each value as it was sent."""
        with self.clock.asking():
            before, erased = set(self._seen), self._erasure_is_over.is_set()
            rows = list(ask(f"SELECT {', '.join(self._columns)} FROM events_deduplicated"))  # noqa: S608
        self.answers["view"] += 1
        keys = [identity(row) for row in rows]
        for key, times in Counter(keys).items():
            if times > 1:
                self.wrong.append(f"{times} times in the view: {key}")
        for key, row in zip(keys, rows, strict=True):
            values = tuple(row.values())
            if self._right.get(key) == values:
                continue
            if wrong := self._wrong_values(key, row):
                self.wrong.append(f"{key}: {wrong}")
            else:
                self._right[key] = values
        self._compare("view", before, set(keys), erased=erased)

    def ask_table(self, ask: Ask) -> None:
        """Events of the table: none missing that was seen before."""
        with self.clock.asking():
            before, erased = set(self._seen), self._erasure_is_over.is_set()
            rows = list(ask(f"SELECT DISTINCT {', '.join(IDENTITY)} FROM events"))  # noqa: S608
        self.answers["table"] += 1
        self._compare("table", before, {identity(row) for row in rows}, erased=erased)

    def _wrong_values(self, key: Key, row: Row) -> str:
        if key not in self._sent:
            return "was not sent"
        batch_id, event, _ = self._sent[key]
        return ", ".join(differences(row, batch_id, str(key[1]), event))

    def _compare(self, name: str, before: set[Key], found: set[Key], *, erased: bool) -> None:
        if erased and (back := found & self.erased):
            self.wrong.append(f"the {name} has {len(back)} events of the person who was erased")
        if missing := before - found - self.erased:
            days = sorted({str(self._sent[key][2]) for key in missing})
            self.wrong.append(f"the {name} has {len(missing)} events fewer than before, of {days}")
        if made_up := found - self._sent.keys():
            self.wrong.append(f"the {name} has {len(made_up)} events that were not sent")
        self._seen |= found - self._unsteady

    def _read_columns(self) -> list[str]:
        database = self.stack.outputs["GlueDatabaseName"]
        table = self.glue.get_table(DatabaseName=database, Name="events_deduplicated")["Table"]
        return [column["Name"] for column in table["StorageDescriptor"]["Columns"]]


def identity(row: Row) -> Key:
    return tuple(row[name] for name in IDENTITY)


def noon(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
