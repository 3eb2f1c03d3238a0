"""Files of rows that are not Parquet, one of which fails every query of its date; and their rows again, from raw.

Checked are the magic bytes at both ends and the footer, by range requests; not the rows, which S3 keeps as they were
written. What damages a file is a program that writes over it, so neither its name nor its time tells which batches were
in it. But an event of a date is stored at most a day before that date begins (a clock that is ahead), and before the
file was last written. So the batches of that time are read, and those with an event of the date that no other file has
are replayed. The broken file goes when every such event has a row in another file.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from io import SEEK_CUR, SEEK_END, SEEK_SET, BytesIO
from itertools import batched, islice
from typing import Any, NamedTuple

import msgspec
from arro3.core import RecordBatch
from arro3.io import read_parquet
from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import close, dates, replay
from bird_webhooks.operate.batches import Listing
from bird_webhooks.operate.lease import MISSING, no_maintenance
from bird_webhooks.operate.mentions import IDENTITY, Identity
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say, step
from process import day_state
from process.bounds import LIMITS, BeyondBoundsError
from process.day_state import DayState
from process.gzip_body import NotGzipError, decompressed
from process.layouts import Layouts
from process.normalise import StoredBatch
from process.rows import Rows

AT_ONCE = 16
MAGIC = b"PAR1"
# Magic bytes twice, and the length of the footer.
LEAST_BYTES = 12
TAIL_BYTES = 64 * 1024  # holds nearly every footer, so that one request is enough
ROWS_PER_READ = 10_000
# An event may be dated a day after its arrival.
AHEAD = timedelta(days=1)
# Without a new row for so long, process does not make them: it tries a batch again after 15 minutes.
WAIT_SECONDS = 40 * 60
EPOCH = date(1970, 1, 1)
CHANGED = (*MISSING, "PreconditionFailed", "412")


class LakeFile(NamedTuple):
    """`modified` is None for a file of a closed date that is gone. `etag` with its quotation marks."""

    day: date
    key: str
    closed: bool
    size: int
    etag: str
    modified: datetime | None


class Damaged(NamedTuple):
    file: LakeFile
    reason: str


def check(
    stack: Stack, since: date | None, until: date | None, *, repair: bool, limit: int, yes: bool, as_json: bool
) -> None:
    """Errors: OperateError for files that are damaged, and stay so."""
    parameters = stack.parameters
    if parameters["OutputFormat"] != "PARQUET":
        raise OperateError("only Parquet files can be checked, and the OutputFormat of this stack is CSV")
    known = dates.with_folder(stack, dates.OPEN["PARQUET"]) | dates.states(stack).keys()
    days = sorted(day for day in known if (since is None or since <= day) and (until is None or day <= until))
    checked, found = look(stack, days)
    for one in found if not as_json else ():
        print(f"s3://{stack.output('LakeBucketName')}/{one.file.key}  {one.reason}")
    repaired: list[Damaged] = []
    reasons: list[str] = []
    for day in sorted({one.file.day for one in found}) if repair else ():
        of_day = [one for one in found if one.file.day == day]
        try:
            Repair(stack, day, [one.file for one in of_day], parameters, limit, yes).run()
            repaired += of_day
        except OperateError as error:
            reasons.append(f"{day}: {error}")
    if as_json:
        print_json({"dates": len(days), "files": checked, "damaged": [facts(one, one in repaired) for one in found]})
    else:
        print(f"{checked:,} files of {len(days):,} dates checked, {len(found):,} damaged, {len(repaired):,} repaired")
    if reasons:
        raise OperateError("; ".join(reasons))
    if len(repaired) < len(found):
        raise OperateError(f"{len(found):,} files are damaged: --repair rebuilds their rows and removes them")


def facts(one: Damaged, repaired: bool) -> dict[str, Any]:
    file = one.file
    named = {"key": file.key, "event_date": str(file.day), "closed": file.closed, "reason": one.reason}
    return {**named, "bytes": file.size, "modified": file.modified, "repaired": repaired}


# --- Checking ---


def look(stack: Stack, days: Sequence[date]) -> tuple[int, list[Damaged]]:
    """How many files there are, and the damaged ones."""
    progress, checked, found = Progress(), 0, list[Damaged]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for day in days:
            files = current_files(stack, day)
            reasons = pool.map(lambda file: damage(stack, file), files)
            found += [Damaged(file, reason) for file, reason in zip(files, reasons, strict=True) if reason]
            checked += len(files)
            progress.show(f"checked {checked:,} files, to {day}; {len(found):,} damaged")
    progress.done()
    return checked, found


def current_files(stack: Stack, day: date) -> list[LakeFile]:
    """What holds the rows of a date now: of a closed one, its version and what came late."""
    state = dates.state(stack, day)  # first: small files that a later version takes in stay for days
    small = small_files(stack, day)
    if state.current is None:
        return small
    there = {file.key: file for file in in_folder(stack, day, state.location, closed=True)}
    keys = [f"{state.location}{file.name}" for file in state.current.files]
    late = {file.name for file in day_state.late(state, [as_small(file) for file in small])}
    return [there.get(key, LakeFile(day, key, True, 0, "", None)) for key in keys] + [
        file for file in small if as_small(file).name in late
    ]


def small_files(stack: Stack, day: date) -> list[LakeFile]:
    return list(in_folder(stack, day, f"{dates.OPEN['PARQUET']}event_date={day}/", closed=False))


def in_folder(stack: Stack, day: date, folder: str, *, closed: bool) -> Iterator[LakeFile]:
    for page in dates.listed(stack, folder):
        for item in page.get("Contents", []):
            if item["Key"].endswith(".parquet"):
                yield LakeFile(day, item["Key"], closed, item["Size"], item["ETag"], item["LastModified"])


def as_small(file: LakeFile) -> day_state.Small:
    return day_state.Small(file.key.rpartition("/")[2], file.etag.strip('"'))


def damage(stack: Stack, file: LakeFile) -> str:
    """Why it is not Parquet; empty if it is, or was replaced since it was listed."""
    if file.modified is None:
        return "is gone"
    if file.size < LEAST_BYTES:
        return "is too small to be Parquet"
    try:
        tail = read(stack, file, max(0, file.size - TAIL_BYTES))
        start = tail[:4] if file.size <= TAIL_BYTES else read(stack, file, 0, 3)
        if start != MAGIC or tail[-4:] != MAGIC:
            return "lacks the magic bytes of Parquet"
        length = int.from_bytes(tail[-8:-4], "little")
        if length > file.size - LEAST_BYTES:
            return "ends with a footer that is longer than the file"
        if length + 8 > len(tail):
            tail = read(stack, file, file.size - length - 8)
    except ClientError as error:
        if error.response["Error"]["Code"] in CHANGED:
            return ""
        raise
    try:
        read_parquet(Tail(file.size, tail))  # type: ignore[arg-type]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # arro3's panics are not an Exception
        return "has a footer that cannot be read"
    return ""


def read(stack: Stack, file: LakeFile, first: int, last: int | None = None) -> bytes:
    """To the end without `last`. Errors: ClientError, also if it was replaced since it was listed."""
    place = {"Bucket": stack.output("LakeBucketName"), "Key": file.key, "IfMatch": file.etag}
    wanted = f"bytes={first}-{file.size - 1 if last is None else last}"
    return bytes(stack.s3.get_object(**place, Range=wanted)["Body"].read())


class Tail:
    """A file of which the last bytes are known, and the others are read as zeros."""

    def __init__(self, size: int, tail: bytes) -> None:
        self.size, self.tail, self.place = size, tail, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self.place = {SEEK_SET: 0, SEEK_CUR: self.place, SEEK_END: self.size}[whence] + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, number: int = -1) -> bytes:
        end = self.size if number < 0 else min(self.size, self.place + number)
        known_from = self.size - len(self.tail)
        zeros = bytes(max(0, min(end, known_from) - self.place))
        known = self.tail[max(0, self.place - known_from) : max(0, end - known_from)]
        self.place = max(self.place, end)
        return zeros + known


# --- Repairing ---


class Repair:
    """Of the damaged files of one date."""

    def __init__(
        self, stack: Stack, day: date, damaged: Sequence[LakeFile], parameters: dict[str, str], limit: int, yes: bool
    ) -> None:
        self.stack, self.day, self.damaged, self.parameters = stack, day, damaged, parameters
        self.limit, self.yes = limit, yes
        self.seen = {(file.key, file.etag) for file in damaged}

    def run(self) -> None:
        """Errors: OperateError; what was done by then changes nothing when it is done again."""
        retention = int(self.parameters.get("RawRetentionDays", "0"))
        if retention and self.day - AHEAD <= datetime.now(UTC).date() - timedelta(days=retention):
            raise OperateError(
                "its raw batches are expiring (RawRetentionDays), so its rows cannot be rebuilt from them: see "
                "docs/runbook.md, A query says HIVE_BAD_DATA"
            )
        step(f"{self.day}: reading the rows of its other files, and its raw batches")
        there = self._new_rows(current_files(self.stack, self.day))
        needed = self._batches_without_rows(there)
        again = "; their events go to the bus once more" if self.parameters.get("PublishEvents") == "true" else ""
        confirm(
            f"Replay {len(needed):,} batches, and remove {len(self.damaged):,} files of {self.day}{again}?",
            yes=self.yes,
        )
        if refused := replay.send_all(self.stack, list(needed)):
            raise OperateError(f"the queue refused {len(refused):,} batches: give the command again")
        self._wait_for({identity for identities in needed.values() for identity in identities})
        with no_maintenance(self.stack, "check-lake"):
            before = self._remove()
        if before.current is None:
            return
        step(f"{self.day}: making a version without the damaged files")
        close.closed(self.stack, {self.day: before})
        if dates.state(self.stack, self.day).location == before.location:  # its rows were in other closed files
            self._delete([file for file in self.damaged if file.closed and file.modified])

    def _new_rows(self, files: Iterable[LakeFile]) -> set[Identity]:
        """Of the events in files that were not read yet."""
        new = [file for file in files if (file.key, file.etag) not in self.seen]
        self.seen |= {(file.key, file.etag) for file in new}
        found: set[Identity] = set()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for some in batched(new, AT_ONCE):
                for body in pool.map(self._body, some):
                    if body:
                        for rows in read_parquet(BytesIO(body), batch_size=ROWS_PER_READ):
                            found |= identities(rows)
        return found

    def _body(self, file: LakeFile) -> bytes:
        """Empty for a file that is gone, or that is not Parquet."""
        if damage(self.stack, file):
            return b""
        try:
            place = {"Bucket": self.stack.output("LakeBucketName"), "Key": file.key}
            return bytes(self.stack.s3.get_object(**place)["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                return b""
            raise

    def _batches_without_rows(self, there: set[Identity]) -> dict[str, set[Identity]]:
        """By the key of a raw batch, its events of the date that have no row.

        Errors: OperateError if the batches are too many, archived, or none has an event of the date.
        """
        began = datetime.combine(self.day, datetime.min.time(), UTC) - AHEAD
        last = max(file.modified or datetime.now(UTC) for file in self.damaged) + timedelta(seconds=1)
        keys = [batch.key for batch in islice(Listing(self.stack, began, last), self.limit + 1)]
        if len(keys) > self.limit:
            raise OperateError(f"more than {self.limit:,} raw batches may have its events: raise --limit")
        layouts, progress = Layouts(), Progress()
        needed: dict[str, set[Identity]] = {}
        any_of_date = False
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, batch in enumerate(pool.map(self._batch, keys)):
                of_date = self._events(batch, layouts) if batch else set()
                any_of_date |= bool(of_date)
                if batch and (without := of_date - there):
                    needed[batch.raw_key] = without
                progress.show(f"read {number + 1:,} of {len(keys):,} raw batches")
        progress.done()
        if not any_of_date:
            raise OperateError("no raw batch has an event of this date any more, so its rows cannot be rebuilt")
        return needed

    def _batch(self, key: str) -> StoredBatch | None:
        """As process reads it; None for one of which it makes no rows."""
        bucket, name = self.stack.raw_object(key)
        try:
            found = self.stack.s3.get_object(Bucket=bucket, Key=name)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in MISSING:
                return None
            if code == "InvalidObjectState":
                raise OperateError("some of its raw batches are archived: restore them first") from error
            raise
        try:
            body = decompressed(found["Body"].read(), LIMITS.body_bytes).body
        except (NotGzipError, BeyondBoundsError):
            return None
        received = found["LastModified"]
        with suppress(KeyError, ValueError):  # not stored by ingest
            received = datetime.fromisoformat(found["Metadata"]["received-at"])
        name = key.rpartition("/")[2].removesuffix(".json")
        return StoredBatch(name, key, int(received.timestamp() * 1000), body)

    def _events(self, batch: StoredBatch, layouts: Layouts) -> set[Identity]:
        rows = Rows(layouts)
        try:
            rows.add(batch)
        except BeyondBoundsError:  # quarantined whole
            return set()
        days = [day for day in rows.take_days() if EPOCH + timedelta(days=day.day) == self.day]
        return {identity for day in days for identity in identities(day.rows)}

    def _wait_for(self, missing: set[Identity]) -> None:
        """Until each event has a row in a small file of the date. Errors: OperateError."""
        progress, ends, all_of_them = Progress(), time.monotonic() + WAIT_SECONDS, len(missing)
        while missing:
            found = self._new_rows(small_files(self.stack, self.day)) & missing
            if found:
                missing -= found
                ends = time.monotonic() + WAIT_SECONDS
                continue
            if time.monotonic() > ends:
                raise OperateError(
                    f"{len(missing):,} of {all_of_them:,} events have no row yet, so the damaged files stay: see "
                    "`status` and the log of process, then give the command again"
                )
            progress.show(f"waiting for process: {all_of_them - len(missing):,} of {all_of_them:,} rows are there")
            time.sleep(self.stack.poll_seconds)
        progress.done()

    def _remove(self) -> DayState:
        """Small files go, closed ones leave the state: the next version is made without them, and readers are sent to
        it. The state as it is then."""
        s3, bucket = self.stack.s3, self.stack.output("LakeBucketName")
        key = day_state.state_key(self.day)
        try:
            found = s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in MISSING:
                raise
            found = None
        state = day_state.decode(found["Body"].read()) if found else DayState(self.day)
        broken = {file.key for file in self.damaged if file.closed}
        if found and (state.attempt or broken):
            day_state.give_up(state, datetime.now(UTC))  # it would count the file as lost
            if state.current:
                whole = [file for file in state.current.files if f"{state.location}{file.name}" not in broken]
                state.current = msgspec.structs.replace(state.current, files=whole)
                state.rows = state.current.rows
            s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=day_state.encode(state),
                ContentType="application/json",
                IfMatch=found["ETag"],
            )
        self._delete([file for file in self.damaged if not file.closed])
        return state

    def _delete(self, files: Iterable[LakeFile]) -> None:
        for file in files:
            try:
                place = {"Bucket": self.stack.output("LakeBucketName"), "Key": file.key}
                self.stack.s3.delete_object(**place, IfMatch=file.etag)
            except ClientError as error:
                if error.response["Error"]["Code"] not in CHANGED:
                    raise
                say(f"stays, because it was written again: {file.key}")
            else:
                say(f"removed: {file.key}")


def identities(rows: RecordBatch) -> set[Identity]:
    columns = [[value or "" for value in rows[name].to_pylist()] for name in IDENTITY]
    return set(zip(*columns, strict=True))
