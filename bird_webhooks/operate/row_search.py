"""What of a person is in the rows, by one query of the table; and which objects that query answers for.

An object needs a look unless the rows show all that is in it:

- a raw batch, if all its events are rows with its id. Not so for a batch without a row, one of which process or closing
  left an event out (process.unshown), one whose id was made from something else, or one that was stored lately. What
  names a batch in process.unshown expires with it, so neither for one that an erasure put back, and so outlives that.
- a file of rows, if the table reads it; or if a closed date holds its rows, none of them is the person's, and none gave
  way to the row of another batch.

What an erasure that was cut short had found needs a look too: its rows may be gone, its raw batches not.
"""

import csv
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import put_back, row_filter
from bird_webhooks.operate.mentions import Identity, Person
from bird_webhooks.operate.status import messages_in, metric
from bird_webhooks.operate.stored import RAW, ROWS, Stored
from bird_webhooks.operate.tombstone import has_key
from bird_webhooks.stack import Stack
from process import day_state, tombstones, unshown
from process.day_state import DayState
from process.partitions import Partitions
from process.table import ENCODED
from report.athena import QueryFailedError

GONE = ("404", "NoSuchKey")
# Stored so lately that process may be at work on it; and how long after `unshown.SINCE` process was brought up to date.
FRESH = timedelta(days=1)
# In the process queue, so that with all its tries a batch is done, or a dead letter, before it is no longer fresh.
LONGEST_WAIT = FRESH / 2
# More rows than these that may mention the address are not worth a query: all objects are looked through instead.
MOST_ROWS = 500_000
KEYS_AT_ONCE = 500  # in one statement, which may have 262,144 bytes
READ_AT_ONCE = 16
QUERY_SECONDS = 30 * 60  # Athena's own limit
RESULT_SECONDS = 10
DOLLARS_PER_BYTE = 5 / 1e12
NO_DATE = date(1970, 1, 1)


class TooManyRowsError(Exception):
    """The rows cannot tell apart who is meant."""


@dataclass
class RowSearch:
    """`look_again` are addresses of objects that earlier looks found, or an erasure that was cut short."""

    stack: Stack
    look_again: set[str] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)  # of the person, by the address of their file
    batches: set[str] = field(default_factory=set)  # ids of the batches that brought these rows
    batches_of: dict[str, set[str]] = field(default_factory=dict)  # the same, by the address of the file of rows
    with_rows: set[str] = field(default_factory=set)  # ids of all batches that have a row
    asked_bytes: int = 0
    _bytes: dict[date, int] = field(default_factory=dict)  # where the table reads a date, when it was asked
    _known: set[Identity] = field(default_factory=set)
    _covered: dict[date, str] = field(default_factory=dict)  # where the table reads a date
    _unshown: set[str] = field(default_factory=set)
    _put_back: set[str] = field(default_factory=set)  # keys of raw batches
    _dates_with_rows_gone: set[date] = field(default_factory=set)
    _dates: set[date] = field(default_factory=set)  # of rows of the person
    _states: dict[date, DayState] = field(default_factory=dict)
    _taken_in: dict[date, set[tuple[str, str]]] = field(default_factory=dict)  # names and ETags
    _now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @cached_property
    def lake(self) -> str:
        return self.stack.output("LakeBucketName")

    def ask(self, person: Person) -> None:
        """Find the rows that mention the person. Their events are added to `person.events`.

        Errors: OperateError, TooManyRowsError.
        """
        self.rows, self.batches, self.batches_of, self.with_rows = Counter(), set(), {}, set()
        self._dates, self._states, self._taken_in = set(), {}, {}
        before = self._partitions()
        self._bytes, self.asked_bytes = self._sizes(before), 0
        for dates in self._chunks():  # first: a batch whose rows come between the two queries then has none yet
            ids = self._answer(f"SELECT DISTINCT batch_id FROM events WHERE {dates}")  # noqa: S608
            self.with_rows |= {row["batch_id"] for row in ids}
        for dates in self._chunks():
            sql = row_filter.statement(person.address, dates)
            if sql is None:
                raise TooManyRowsError("the address has no letter or digit of ASCII in a part of it")
            self._take_rows(self._answer(sql), person)
        after = self._partitions()
        self._covered = {day: place for day, place in before.items() if after.get(day) == place}
        # After the queries: what names a batch is written before its rows are, or go.
        self._read_unshown()
        self.look_again |= self.unfinished()
        person.events |= self._known

    def ask_for_events(self, person: Person) -> None:
        """The rows of events that only a raw batch shows to be of the person."""
        others = sorted(event for event in person.events - self._known if not person.in_text(event[3]))
        for begin in range(0, len(others), KEYS_AT_ONCE):
            some = others[begin : begin + KEYS_AT_ONCE]
            keys = ", ".join("'" + key.replace("'", "''") + "'" for *_, key in some)
            columns = ", ".join(row_filter.IDENTITY)
            wanted = set(some)
            for dates in self._chunks():
                condition = f"{dates} AND event_key IN ({keys})"
                sql = f'SELECT "$path" AS path, batch_id, {columns} FROM events WHERE {condition}'  # noqa: S608
                for row in self._answer(sql):
                    if _identity(row) in wanted:
                        self._take(row)

    def answers_for(self, item: Stored) -> bool:
        """Whether the rows show all that is in it."""
        if item.url in self.look_again:
            return self._is_covered(item)
        if item.place == RAW:
            return self._is_in_rows(item)
        return item.place == ROWS and (self._is_covered(item) or self._is_taken_in(item))

    # --- Raw batches ---

    def _is_in_rows(self, item: Stored) -> bool:
        batch_id = self._id(item.bucket, item.key)
        return (
            item.current
            and item.modified < self._now() - FRESH
            and item.modified > self._since + FRESH
            and not self._expired(item.modified)
            and item.key not in self._put_back
            and batch_id in self.with_rows
            and batch_id not in self.batches
            and batch_id not in self._unshown
            # Made from what was no key: the metadata then have the sender's own words.
            and not batch_id.startswith("sha256-")
        )

    def _id(self, bucket: str, key: str) -> str:
        """The batch's id in the rows; one that no row has for a key that ingest does not make."""
        place = next((place for place in self.stack.raw_places if place.holds(bucket, key)), None)
        if place is None or not key.endswith(".json"):
            return "/"
        return key.removeprefix(f"{place.prefix}/").removesuffix(".json")

    @cached_property
    def _since(self) -> datetime:
        """When process began to name the batches that the rows do not show."""
        try:
            found = self.stack.s3.head_object(Bucket=self.lake, Key=unshown.SINCE)["LastModified"]
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return datetime.max.replace(tzinfo=UTC) - 2 * FRESH
            raise
        return datetime.fromisoformat(found.isoformat())

    @cached_property
    def _retention_days(self) -> int:
        """Of raw batches, and of what names them in process.unshown; 0 if they stay."""
        return int(self.stack.parameters.get("RawRetentionDays", "0"))

    def _expired(self, modified: datetime) -> bool:
        """S3 may take days to delete what has expired, and what names it may be gone by then."""
        return bool(self._retention_days) and modified <= self._now() - timedelta(days=self._retention_days)

    def _read_unshown(self) -> None:
        self._put_back = set(put_back.times(self.stack))
        self._unshown, self._dates_with_rows_gone = set(), set()
        keys = [key for key in self._keys(unshown.PREFIX) if key.endswith(".json")]
        for key, body in self._bodies(keys):
            self._unshown |= set(unshown.decode(body))
            if day := _date(key):
                self._dates_with_rows_gone.add(day)

    def unfinished(self) -> set[str]:
        """Addresses of the objects that erasures which were cut short had found."""
        bodies = self._bodies(self._keys(tombstones.PREFIX))
        return {url for _, body in bodies for url in tombstones.decode(body).unfinished}

    # --- Files of rows ---

    def _is_covered(self, item: Stored) -> bool:
        folder, _, name = item.url.rpartition("/")
        return item.current and bool(name) and self._covered.get(_date(item.key) or NO_DATE) == f"{folder}/"

    def _is_taken_in(self, item: Stored) -> bool:
        """Whether its rows are in the closed date that the table reads, unless another batch's stay there for them."""
        day = _date(item.key)
        if day is None or not item.current or day in self._dates or day in self._dates_with_rows_gone:
            return False
        if 0 < self._retention_days <= day_state.SMALL_FILES_STAY.days:  # the file may outlive what names its date
            return False
        state = self._state(day)
        if not state.location or self._covered.get(day) != f"s3://{self.lake}/{state.location}":
            return False
        folder, _, name = item.key.rpartition("/")
        if folder == f"events/event_date={day}":
            return (name, item.etag) in self._taken_in[day]
        replaced = {f"closed/event_date={day}/{version.name}" for version in state.replaced if version.files}
        return folder in replaced

    def _state(self, day: date) -> DayState:
        if day not in self._states:
            found = list(self._bodies([f"maintenance/days/event_date={day}.json"]))
            state = self._states[day] = day_state.decode(found[0][1]) if found else DayState(day)
            self._taken_in[day] = {(file.name, file.etag) for group in state.taken_in for file in group.files}
        return self._states[day]

    # --- The table ---

    def _partitions(self) -> dict[date, str]:
        found = Partitions.read(self.stack.client("glue"), self.stack.output("GlueDatabaseName"))
        if found is None:
            raise OperateError("the table `events` is not there: give --thorough, which does not ask it")
        return {day: f"{partition.location.rstrip('/')}/" for day, partition in found.existing.items()}

    def _sizes(self, partitions: Mapping[date, str]) -> dict[date, int]:
        """Bytes of each date where the table reads it."""
        sizes: dict[date, int] = defaultdict(int)
        folders = {place: day for day, place in partitions.items()}
        for prefix in {place.removeprefix(f"s3://{self.lake}/").partition("/")[0] + "/" for place in folders}:
            for item in self._listed(prefix):
                day = folders.get(f"s3://{self.lake}/{item['Key'].rpartition('/')[0]}/")
                if day:
                    sizes[day] += item["Size"]
        return sizes

    def _chunks(self) -> Iterator[str]:
        """Conditions on the date, so that no query reads more than the workgroup allows; mostly one that is true."""
        sizes = self._bytes
        whole = sum(sizes.values())
        self.asked_bytes += whole
        limit = int(self.stack.parameters.get("AthenaScanLimitMegabytes", "10240")) * 900_000
        if whole <= limit:
            yield from ["true"] * bool(whole)
            return
        some: list[date] = []
        size = 0
        for day in sorted(sizes):
            if some and size + sizes[day] > limit:
                yield _between(some)
                some, size = [], 0
            some.append(day)
            size += sizes[day]
        yield _between(some)

    def _take_rows(self, rows: Iterable[Mapping[str, str]], person: Person) -> None:
        for number, row in enumerate(rows):
            if number == MOST_ROWS:
                raise TooManyRowsError(f"more than {MOST_ROWS:,} rows look as if they could mention the address")
            if any(map(person.in_text, _values(row["texts"]))):
                self._take(row)
                self._known.add(_identity(row))

    def _take(self, row: Mapping[str, str]) -> None:
        self.rows[row["path"]] += 1
        self.batches.add(row["batch_id"])
        self.batches_of.setdefault(row["path"], set()).add(row["batch_id"])
        if day := _date(row["path"]):
            self._dates.add(day)

    def _answer(self, sql: str) -> Iterator[Mapping[str, str]]:
        """The rows of one statement; its result is deleted when they have been read."""
        try:
            location = self.stack.athena(QUERY_SECONDS).result_file(sql)
        except QueryFailedError as error:
            raise OperateError(f"{error}: give --thorough to look through all objects instead") from error
        bucket, key = self._result(location)
        try:
            body = self.stack.s3.get_object(Bucket=bucket, Key=key)["Body"]
            yield from csv.DictReader(line.decode() for line in body.iter_lines(keepends=True))
        finally:
            for one in (key, f"{key}.metadata"):
                self.stack.s3.delete_object(Bucket=bucket, Key=one)

    def _result(self, location: str) -> tuple[str, str]:
        """Bucket and key. The local Athena puts the file a folder deeper, and a moment after it said SUCCEEDED."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        deadline = time.monotonic() + RESULT_SECONDS
        while time.monotonic() < deadline:
            for item in self.stack.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", []):
                if item["Key"].rpartition("/")[2] == key.rpartition("/")[2]:
                    return bucket, item["Key"]
            time.sleep(0.2)
        raise OperateError("Athena has put no result file: give the command again")

    # --- The lake bucket ---

    def _listed(self, prefix: str) -> Iterator[Any]:
        for page in self.stack.s3.get_paginator("list_objects_v2").paginate(Bucket=self.lake, Prefix=prefix):
            yield from page.get("Contents", [])

    def _keys(self, prefix: str) -> list[str]:
        return [item["Key"] for item in self._listed(prefix)]

    def _bodies(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Of those that are there."""
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            yield from ((key, body) for key, body in pool.map(self._body, keys) if body is not None)

    def _body(self, key: str) -> tuple[str, bytes | None]:
        try:
            return key, self.stack.s3.get_object(Bucket=self.lake, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return key, None
            raise


def why_not(stack: Stack, person: Person) -> str:
    """Why the rows do not tell who is meant; empty if they do."""
    if not has_key(stack):
        return "the stack has no key for tombstones yet: update it"
    settings = stack.parameters
    if settings.get("DropFields") or settings.get("HashFields"):
        return "DropFields or HashFields keeps fields out of the rows"
    found = stack.s3.list_objects_v2(Bucket=stack.output("LakeBucketName"), Prefix=unshown.FIELDS, MaxKeys=1)
    if found.get("Contents"):
        return "DropFields or HashFields has kept fields out of some rows"
    if row_filter.patterns(person.address) is None:
        return "the address has no letter or digit of ASCII in a part of it"
    return _partly_written(stack)


def _partly_written(stack: Stack) -> str:
    """Why a batch that is not FRESH may have only some of its rows: one of its dates could not be written.

    The queue first, because messages go from there to the dead letters.
    """
    url = stack.output("ProcessQueueUrl")
    if any(messages_in(stack, url)):
        name, quarter_hour = url.rpartition("/")[2], timedelta(minutes=15)
        points = metric(stack, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name, "Maximum", quarter_hour)
        if not points:
            return "batches wait for process, and CloudWatch does not know since when"
        if max(age for _, age in points) > LONGEST_WAIT.total_seconds():
            return f"a batch has waited for process for more than {LONGEST_WAIT.total_seconds() / 3600:.0f} hours"
    queues = ["ProcessDeadLetterQueueUrl", *({"ImportDeadLetterQueueUrl"} & stack.outputs.keys())]
    dead_letters = sum(sum(messages_in(stack, stack.output(output))) for output in queues)
    if dead_letters:
        return f"process has dead letters ({dead_letters:,}): batches that may have only some of their rows"
    return ""


def _values(texts: str) -> Iterator[str]:
    for value in texts.split(row_filter.SEPARATOR):
        yield value
        if value.startswith(ENCODED):  # a row of CSV
            yield unquote(value.removeprefix(ENCODED))


def _identity(row: Mapping[str, str]) -> Identity:
    account, event_class, kind, key = (
        unquote(value.removeprefix(ENCODED)) if value.startswith(ENCODED) else value
        for value in (row[name] for name in row_filter.IDENTITY)
    )
    return account, event_class, kind, key


def _date(key: str) -> date | None:
    _, found, rest = key.partition("event_date=")
    try:
        return date.fromisoformat(rest[:10]) if found else None
    except ValueError:
        return None


def _between(days: list[date]) -> str:
    return f"event_date BETWEEN DATE '{days[0]}' AND DATE '{days[-1]}'"
