"""Messages that announce raw objects -> their batches -> rows in the lake, by day of the event.

A retry of the same input writes the same files. A message fails only if a later try can succeed; after five failures
SQS moves it to the dead-letter queue. What is not an event goes to quarantine/, and its message succeeds.

A message that was received before may have killed its invocation, which then reports nothing. The batches of such
messages become rows in a child process: if it dies, only the batch it was working on fails, and process tries the
others again without it.
"""

import gc
import hashlib
import logging
import os
import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import batched
from typing import Any, NamedTuple

from process import isolation, metrics, queue, unshown
from process.bounds import LIGHT, LIMITS, MEBIBYTE, BeyondBoundsError, Bounds
from process.lake import (
    Lake,
    LargeObjectError,
    ReadBatch,
    StorageUnavailableError,
    UnreadableObjectError,
    read_batch,
)
from process.layouts import Layouts
from process.normalise import DAY_MILLISECONDS, Quarantined
from process.notification import Message, Place, RawObject, UnreadableMessageError, messages, raw_objects
from process.protection import Protection, names
from process.quarantine import to_ndjson
from process.rows import Counts, Rows
from process.table import schema, to_csv, to_parquet

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# Rows are written whenever this much JSON has been read, which bounds the memory whatever the number of objects.
FLUSH_BODY_BYTES = 16 * MEBIBYTE
READS_AT_ONCE = 8
WRITES_AT_ONCE = 8
MAX_LOGGED_FIELDS = 50
# Reserved for writing what was gathered, and for the answer. Objects not begun by then fail; SQS delivers them again.
RESERVED_SECONDS = 45
CHILD_SECONDS = 30
# For this process, the runtime and a margin; a child may use the rest of the function's memory.
RESERVED_MEMORY_BYTES = 350 * MEBIBYTE


class RawBatchesNotProcessedError(Exception):
    """A bare S3 event failed, in part or wholly: Lambda must invoke again."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    failed: set[str | None] = set()
    asked_by: dict[RawObject, list[Message]] = defaultdict(list)
    elsewhere = 0
    for message in messages(event):
        try:
            for raw in raw_objects(message):
                if raw.place(_raw_places()):
                    asked_by[raw].append(message)
                else:  # not ours; or ours of a moment ago, of an update that is being rolled back: no try is the last
                    elsewhere += 1
                    failed.add(message.message_id)
                    facts = {"message_id": message.message_id}
                    logger.error("object of another bucket or prefix", extra=facts)
        except UnreadableMessageError as error:
            logger.error("message not understood", extra={"message_id": message.message_id, "reason": str(error)})
            failed.add(message.message_id)
    came_back = {raw for raw, asking in asked_by.items() if any(message.receive_count > 1 for message in asking)}
    run = Run(_stop_at(context), asked_by, Rows(layouts(), protection()))
    gc.disable()  # rows are many objects and no cycles: collecting them costs a quarter of the time
    try:
        run.process_apart(sorted(came_back))
        run.process(sorted(asked_by.keys() - came_back))
    finally:
        gc.enable()
    for raw in run.failed:
        failed |= {message.message_id for message in asked_by[raw]}
    if asked_by or failed:
        run.log(elsewhere, len(failed))
    if None in failed:
        raise RawBatchesNotProcessedError
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(filter(None, failed))]}


class File(NamedTuple):
    """For the lake, with what is in it: rows, or what was quarantined for which reasons."""

    key: str
    body: bytes
    content_type: str
    written: metrics.Written
    reasons: Mapping[str, int] = {}


type Group = list[tuple[RawObject, ReadBatch]]


@dataclass
class Run:
    """The objects of an invocation on their way into files; `failed` are those whose rows are not in the lake."""

    stop_at: float  # by the monotonic clock
    asked_by: Mapping[RawObject, Sequence[Message]]
    rows: Rows
    failed: list[RawObject] = field(default_factory=list)
    written: metrics.Written = field(default_factory=metrics.Written)
    files: int = 0
    _done: set[RawObject] = field(default_factory=set)

    @property
    def seconds_left(self) -> float:
        return self.stop_at - time.monotonic()

    def process(self, raws: Sequence[RawObject]) -> None:
        """Batches like Bird's come first, so that larger ones cannot delay them or use up their time."""
        later: list[RawObject] = []
        gathered: list[RawObject] = []
        inputs = hashlib.sha256()
        for bounds, some in ((LIGHT, raws), (LIMITS, later)):
            for raw, read in self._read(some, bounds, later):
                try:
                    _add(self.rows, read, bounds)
                except BeyondBoundsError:
                    later.append(raw)
                    continue
                except BaseException as error:  # Rust's panics are no Exception
                    self._fail(raw, error)
                    continue
                gathered.append(raw)
                # Files are named by all that was read up to here, for rows seen before this file are left out of it.
                inputs.update(f"{raw.bucket}/{raw.key}\n".encode())
                if self.rows.body_bytes >= FLUSH_BODY_BYTES:
                    self._write(inputs.hexdigest(), gathered)
                    gathered = []
                elif self.rows.many_wait() and not self._succeeds(self.rows.make_columns, gathered):
                    gathered = []
        self._write(inputs.hexdigest(), gathered)

    def process_apart(self, raws: Sequence[RawObject]) -> None:
        """Each group as large as one of `process`, so that as few files are written."""
        later: list[RawObject] = []
        group: Group = []
        for bounds, some in ((LIGHT, raws), (LIMITS, later)):
            for raw, read in self._read(some, bounds, later):
                group.append((raw, read))
                if sum(len(one.batch.body) for _, one in group if one.batch) >= FLUSH_BODY_BYTES:
                    self._group_apart(group)
                    group = []
        self._group_apart(group)

    def log(self, elsewhere: int, messages_failed: int) -> None:
        done = len(self.asked_by) - len(set(self.failed))
        _log(self.rows.counts, self.written, done, self.files, elsewhere, messages_failed)

    def _read(
        self, raws: Sequence[RawObject], bounds: Bounds, later: list[RawObject]
    ) -> Iterator[tuple[RawObject, ReadBatch]]:
        """Read a few objects at a time, in order; large ones one at a time, after the others."""
        at_once = READS_AT_ONCE if bounds is LIGHT else 1
        with ThreadPoolExecutor(at_once) as pool:
            for some in batched(raws, at_once, strict=False):
                if self.seconds_left <= 0:
                    logger.warning("no time left for raw batches", extra={"raw_batches": len(some)})
                    self.failed += some
                    continue
                reads = [pool.submit(read_batch, raw, _prefix(raw), bounds, allow_http=_allow_http()) for raw in some]
                wait(reads)  # or reading and making rows would take the one processor from each other
                for raw, read in zip(some, reads, strict=True):
                    error = read.exception()
                    if error is None:
                        yield raw, read.result()
                    elif isinstance(error, LargeObjectError) and bounds is LIGHT:
                        later.append(raw)
                    elif isinstance(error, UnreadableObjectError):
                        gone = Quarantined(error.batch, None, error.reason, error.original)
                        yield raw, ReadBatch(None, [gone])
                    else:
                        self._fail(raw, error)

    def _fail(self, raw: RawObject, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        if isinstance(error, StorageUnavailableError):
            logger.error("raw batch not read", extra={"raw_key": raw.key, "reason": str(error)})
        else:  # where, and not the text, which may have values in it
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} in {last.name}, line {last.lineno}"
            logger.error("raw batch not processed", extra={"raw_key": raw.key, "reason": reason})
        self.failed.append(raw)

    def _write(self, part: str, gathered: Sequence[RawObject]) -> None:
        """On failure all of `gathered` has failed."""
        if gathered:
            self._succeeds(lambda: self._store(_files(self.rows, part[:32])), gathered)

    def _succeeds(self, work: Callable[[], None], gathered: Sequence[RawObject]) -> bool:
        """Whether work on the rows of `gathered` did; otherwise none of them is left."""
        try:
            work()
        except StorageUnavailableError as error:
            self._not_written(gathered, error)
        except BaseException as error:  # some batch of them; each by itself, then
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            logger.error("rows not made", extra={"raw_batches": len(gathered), "reason": type(error).__name__})
            self.rows.forget()
            self.process_apart(gathered)
        else:
            return True
        return False

    def _not_written(self, raws: Sequence[RawObject], error: StorageUnavailableError) -> None:
        logger.error("rows not written", extra={"raw_batches": len(raws), "reason": str(error)})
        self.rows.forget()
        self.failed += raws

    def _store(self, files: Iterable[File]) -> None:
        """A few at a time, rows only once `unshown` names their batches. Errors: StorageUnavailableError."""
        with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
            waiting: deque[tuple[File, Future[None]]] = deque()
            for file in files:
                if file.key.startswith(unshown.PREFIX):
                    lake().write(file.key, file.body, file.content_type)
                    self.files += 1
                    continue
                if len(waiting) == WRITES_AT_ONCE:
                    self._stored(*waiting.popleft())
                waiting.append((file, pool.submit(lake().write, file.key, file.body, file.content_type)))
            while waiting:
                self._stored(*waiting.popleft())

    def _stored(self, file: File, write: Future[None]) -> None:
        write.result()
        self.files += 1
        self.written.merge(file.written)
        if file.reasons:
            facts = {"quarantined": sum(file.reasons.values()), "reasons": file.reasons}
            logger.error("events quarantined", extra=facts)

    def _group_apart(self, group: Group) -> None:
        if not group:
            return
        raws = [raw for raw, _ in group]
        if self.seconds_left <= 0:
            self.failed += raws
            return
        files: list[File] = []
        counts: Counts | None = None
        at: int | None = None
        work = _work_on(group)
        seconds = min(CHILD_SECONDS, self.seconds_left + RESERVED_SECONDS / 2)
        for sent in isolation.in_child(work, seconds=seconds, memory_bytes=_memory_of_child()):
            match sent:
                case File():
                    files.append(sent)
                case Counts():
                    counts = sent
                case dict():
                    layouts().adopt(sent)
                case _:
                    at = sent
        if counts is not None:
            self._store_apart(raws, files, counts)
        elif at is not None or len(group) == 1:
            logger.error("raw batch ended its process", extra={"raw_key": raws[at or 0].key})
            self.failed.append(raws[at or 0])
            self._group_apart([one for one in group if one[0] != raws[at or 0]])
        else:  # when rows of all became a file
            for one in group:
                self._group_apart([one])

    def _store_apart(self, raws: Sequence[RawObject], files: Sequence[File], counts: Counts) -> None:
        self.rows.counts.add(counts)
        try:
            self._store(files)
        except StorageUnavailableError as error:
            self._not_written(raws, error)
            return
        self._done |= set(raws)
        asking = {message.message_id: message for raw in raws for message in self.asked_by[raw]}
        not_done = self.asked_by.keys() - self._done
        waiting = {message.message_id for raw in not_done for message in self.asked_by[raw]}
        queue.delete(message for message_id, message in asking.items() if message_id not in waiting)


def _work_on(group: Group) -> Callable[[Callable[[Any], None]], None]:
    """In a child process. Sends the place of each batch that it begins with, and None after the last; files; the fields
    it has seen, which the next child would otherwise have to observe again; counts."""

    def work(send: Callable[[Any], None]) -> None:
        rows = Rows(layouts(), protection())
        inputs = hashlib.sha256()
        for place, (raw, read) in enumerate(group):
            send(place)
            _add(rows, read, LIMITS)
            inputs.update(f"{raw.bucket}/{raw.key}\n".encode())
            if rows.body_bytes >= FLUSH_BODY_BYTES:
                send(None)
                for file in _files(rows, inputs.hexdigest()[:32]):
                    send(file)
            elif rows.many_wait():
                send(None)
                rows.make_columns()
        send(None)
        for file in _files(rows, inputs.hexdigest()[:32]):
            send(file)
        send(rows.layouts.seen_fields())
        send(rows.counts)

    return work


def _add(rows: Rows, read: ReadBatch, bounds: Bounds) -> None:
    """Errors: BeyondBoundsError, of a batch that has to wait."""
    if read.batch is not None:
        try:
            rows.add(read.batch, bounds)
        except BeyondBoundsError as error:
            if bounds is LIGHT:
                raise
            rows.quarantine(Quarantined(read.batch._replace(body=b""), None, str(error), None))
    for quarantined in read.damaged:
        rows.quarantine(quarantined)


def _files(rows: Rows, part: str) -> Iterator[File]:
    """What was gathered, as files; it is forgotten."""
    days = rows.take_days()
    quarantined = rows.take_quarantined()
    unshown_batches = rows.take_unshown()
    if unshown_batches:
        key = unshown.of_process(datetime.now(UTC).date().isoformat(), part)
        yield File(key, unshown.encode(unshown_batches), unshown.CONTENT_TYPE, metrics.Written())
    if quarantined:
        arrived = _date(quarantined[0].batch.received_at // DAY_MILLISECONDS)
        body = to_ndjson(quarantined, _raw_retention_days())
        reasons = Counter(one.reason for one in quarantined)
        yield File(f"quarantine/{arrived}/{part}.ndjson", body, "application/x-ndjson", metrics.Written(), reasons)
    for day, table, sizes in days:
        written = metrics.Written()
        written.add(sizes, table["timestamp"], datetime.now(UTC))
        if _output_format() == "CSV":
            yield File(f"events-csv/event_date={_date(day)}/{part}.csv", to_csv(table), "text/csv", written)
        else:
            key = f"events/event_date={_date(day)}/{part}.parquet"
            yield File(key, to_parquet(table), "application/vnd.apache.parquet", written)


def _log(
    counts: Counts, written: metrics.Written, raw_batches: int, files: int, elsewhere: int, messages_failed: int
) -> None:
    common = sorted(counts.extra_fields.items(), key=lambda item: -item[1])[:MAX_LOGGED_FIELDS]
    # Names only, and only such as Bird's are: a stranger could put anything into a name.
    extra_fields = {name: count for name, count in common if name.isidentifier() and len(name) <= 64}
    facts = {
        "raw_batches": raw_batches,
        "messages_failed": messages_failed,
        "events": counts.events,
        "rows": counts.rows,
        "duplicates": counts.duplicates,
        "quarantined": counts.quarantined,
        "repaired": counts.repaired,
        "objects_elsewhere": elsewhere,
        "files": files,
        "unknown_fields": sum(counts.extra_fields.values()),
        "extra_fields": extra_fields,
        # As text, because Logs Insights shows the members of an object only, each by its name.
        "extra_field_names": ", ".join(extra_fields),
    }
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    logger.info("raw batches processed", extra=metrics.counted(facts, written, name, datetime.now(UTC)))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86400, UTC).date().isoformat()


@cache
def layouts() -> Layouts:
    """The fields that this execution environment has seen in Bird's events."""
    return Layouts()


@cache
def protection() -> Protection | None:
    """Fields that must not reach the rows. An error in the settings or the key fails the invocation: no row is written
    unprotected, and the messages stay in the queue."""
    drop, hashed = names(os.environ.get("DROP_FIELDS", "")), names(os.environ.get("HASH_FIELDS", ""))
    if not drop and not hashed:
        return None
    found = Protection(drop, hashed, _hash_key() if hashed else b"")
    lake().write(unshown.FIELDS, b"", "text/plain")  # before the first such row: `erase` must not trust the rows then
    return found


def _hash_key() -> bytes:
    import boto3  # comes with the Lambda runtime; importing it takes 0.5 s, so only stacks with HashFields import it

    client = boto3.client("secretsmanager")
    return client.get_secret_value(SecretId=os.environ["HASH_KEY_ARN"])["SecretString"].encode()


@cache
def lake() -> Lake:
    return Lake(os.environ["LAKE_BUCKET"], _allow_http())


@cache
def _output_format() -> str:
    return os.environ.get("OUTPUT_FORMAT", "PARQUET")


@cache
def _raw_places() -> list[Place]:
    """Where raw batches lie, and where they lay before: some still wait, and `replay` names others."""
    former = [place.partition("/") for place in os.environ.get("FORMER_RAW_PLACES", "").split(",") if place]
    now = Place(os.environ["RAW_BUCKET"], os.environ["RAW_PREFIX"].strip("/"))
    return [now, *(Place(bucket, prefix.strip("/")) for bucket, _, prefix in former)]


def _prefix(raw: RawObject) -> str:
    place = raw.place(_raw_places())
    return place.prefix if place else ""


@cache
def _raw_retention_days() -> int:
    """0: raw objects never expire."""
    return int(os.environ.get("RAW_RETENTION_DAYS", "0"))


def _stop_at(context: Any) -> float:
    """After this time nothing more is begun, by the monotonic clock."""
    left = context.get_remaining_time_in_millis() / 1000 if context else 120
    return time.monotonic() + left - RESERVED_SECONDS


def _memory_of_child() -> int:
    whole = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")) * MEBIBYTE
    return max(whole - RESERVED_MEMORY_BYTES, whole // 3)


@cache
def _allow_http() -> bool:
    """For a local S3 only; explicit client options replace what obstore reads from the environment."""
    return os.environ.get("AWS_ALLOW_HTTP") == "true"


# Made while Lambda initialises the function, not in the first invocation, which they would lengthen by 2 ms.
layouts()
schema()
