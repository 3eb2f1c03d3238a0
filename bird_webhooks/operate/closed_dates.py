"""A closed date without a person's rows: its next version, as the table's maintenance makes one (docs/lake.md).

    begin    the state names the version; one that the maintenance had begun is given up
    write    files that do not hold the person are copied; the others are written without those rows, or left out
    commit   the state names the new version as the current one
    point    the partition is moved there
    delete   the files that hold the person go after a wait (`delete_replaced`), because a query may have asked for
             the old place and not have read it yet; the others stay for a day, as those of any replaced version

The caller has the lease. Whatever step it ends at, the next erasure finds what is still there and goes on; the
maintenance gives up a version that was not committed, moves the partition to one that was, and announces it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.operate import dates, lease
from bird_webhooks.operate.mentions import Person, parquet_without
from bird_webhooks.operate.stored import CHANGED, LARGE_BYTES, Stored
from bird_webhooks.stack import Stack
from process import day_state
from process.day_state import DayState, File, Version, state_key
from process.partitions import Partitions

PARQUET = "application/vnd.apache.parquet"


def is_of_one(item: Stored) -> bool:
    return item.current and item.key.startswith(dates.CLOSED)


def take_out(
    stack: Stack,
    person: Person,
    files: Sequence[Stored],
    texts: Callable[[Stored], bool],
    in_place: Callable[[Stored], None],
    pool: Executor,
) -> Iterator[Stored]:
    """Each file when its date is done; dates of large files one at a time. `texts` as for `parquet_without`.

    A date that changed since it was read stays as it is, for the next search. `in_place` is for a file that no state
    names: who reads it cannot be told then.
    """
    if not files:
        return
    partitions, by_date = dates.partitions(stack), _by_date(files)

    def work(day: date | None) -> list[Stored]:
        try:
            unnamed = by_date[day]
            if day is not None:
                unnamed = ClosedDate(stack, person, day, partitions, texts).take_out(by_date[day])
            for item in unnamed:
                in_place(item)
        except ClientError as error:
            if error.response["Error"]["Code"] not in CHANGED:
                raise
        return by_date[day]

    large = [day for day, some in by_date.items() if any(item.size > LARGE_BYTES for item in some)]
    for done in pool.map(work, [day for day in by_date if day not in large]):
        yield from done
    for day in large:
        yield from work(day)


def delete_replaced(stack: Stack, files: Sequence[Stored]) -> None:
    """Those of versions that readers are not sent to any more. One that changed stays, for the next search."""
    for day, some in _by_date(files).items():
        replaced = _replaced(day, dates.state(stack, day)) if day else ()
        for item in some:
            if not item.key.startswith(replaced):
                continue
            try:
                stack.s3.delete_object(Bucket=item.bucket, Key=item.key, IfMatch=f'"{item.etag}"')
            except ClientError as error:
                if error.response["Error"]["Code"] not in CHANGED:
                    raise
            if item.version != "null":
                stack.s3.delete_object(Bucket=item.bucket, Key=item.key, VersionId=item.version)


def _by_date(files: Sequence[Stored]) -> dict[date | None, list[Stored]]:
    by_date: dict[date | None, list[Stored]] = defaultdict(list)
    for item in files:
        by_date[next(dates.of(f"{item.key.rpartition('/')[0].rpartition('/')[0]}/"), None)].append(item)
    return by_date


def _replaced(day: date, state: DayState) -> tuple[str, ...]:
    return tuple(f"{dates.CLOSED}event_date={day}/{version.name}/" for version in state.replaced)


@dataclass
class ClosedDate:
    stack: Stack
    person: Person
    day: date
    partitions: Partitions | None
    texts: Callable[[Stored], bool]

    def __post_init__(self) -> None:
        self.bucket = self.stack.output("LakeBucketName")
        self.state, self.etag = dates.state_and_etag(self.stack, self.day)

    def take_out(self, holding: Sequence[Stored]) -> list[Stored]:
        """Those that the state does not name. Errors: ClientError, with one of CHANGED if another was at work."""
        state = self.state
        if state.attempt:
            day_state.give_up(state, self._now())
            self._save()
        here = {item.key: item for item in holding if state.current and item.key.startswith(state.location)}
        if state.current and here:
            self._next_version(state.current, here)
            self._save()
        if state.current:
            self._point()
        replaced = _replaced(self.day, state)
        return [item for item in holding if not item.key.startswith(replaced)]

    def _next_version(self, current: Version, holding: dict[str, Stored]) -> None:
        before = self.state.location
        attempt = day_state.begin_erasure(self.state)
        self._save()
        for file in current.files:
            source, target = f"{before}{file.name}", f"closed/event_date={self.day}/{attempt.version}/{file.name}"
            written = self._written(file, source, target, holding.get(source))
            attempt.files += [written] if written else []
        day_state.commit(self.state, self._now())

    def _written(self, file: File, source: str, target: str, holding: Stored | None) -> File | None:
        """None for a file of which no row is left. One that was gone before stays named, because its date must stop the
        maintenance until the operator says otherwise (docs/runbook.md#tablemaintenancealarm)."""
        s3, place = self.stack.s3, {"Bucket": self.bucket, "Key": target}
        try:
            if holding is None:
                s3.copy_object(**place, CopySource={"Bucket": self.bucket, "Key": source})
                return file
            body = s3.get_object(Bucket=self.bucket, Key=source)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] not in lease.MISSING:
                raise
            return file
        remainder = parquet_without(body, self.person, closed=True, texts=self.texts(holding))
        if remainder and remainder.body is None:
            return None
        rest = remainder.body if remainder and remainder.body else body
        s3.put_object(**place, Body=rest, ContentType=PARQUET)
        return File(file.name, file.rows - (remainder.erased if remainder else 0), len(rest))

    def _point(self) -> None:
        """A partition that is not there, or that CSV has now, is left to the maintenance: no reader uses the files."""
        there = self.partitions.existing.get(self.day) if self.partitions else None
        if self.partitions is None or there is None or f"/{dates.OPEN['CSV']}" in there.location:
            return
        if self.partitions.point({self.day: f"s3://{self.bucket}/{self.state.location}"}):
            day_state.left(self.state, there.location, self._now())
            self._save()

    def _save(self) -> None:
        condition: dict[str, Any] = {"IfMatch": self.etag} if self.etag else {"IfNoneMatch": "*"}
        answer = self.stack.s3.put_object(
            Bucket=self.bucket,
            Key=state_key(self.day),
            Body=day_state.encode(self.state),
            ContentType="application/json",
            **condition,
        )
        self.etag = str(answer["ETag"])

    @staticmethod
    def _now() -> datetime:
        return datetime.now(UTC)
