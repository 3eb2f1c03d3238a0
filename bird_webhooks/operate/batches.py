"""The raw batches by the time they were stored, also where an erasure has put them back since. Of an imported batch it
is the time at which its source got it, which its name says.

Counted by the rows: each has the id of its batch and the time. A batch without a row, because all of it was quarantined
or process has not read it yet, is found by listing only. S3 lists by key, not by time: every listing reads all keys, a
thousand for a request ($0.005 per thousand requests, so half a cent for a million batches). The keys are split into
ranges that are listed side by side. Where batches lay before a change of the bucket or the prefix is listed too.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import names
from bird_webhooks.operate import put_back
from bird_webhooks.stack import RawPlace, Stack
from bird_webhooks.terminal import Progress, print_json
from report.athena import QueryFailedError

PAGE_KEYS = 1000
DOLLARS_PER_LIST_REQUEST = 0.005 / 1000
AT_ONCE = 8
QUERY_SECONDS = 30 * 60  # Athena's own limit
# Where ranges of keys begin: batch ids are mostly hexadecimal, and what is not lies in the first or the last range.
RANGES = ["", *"123456789abcdef"]


class RawBatch(NamedTuple):
    """`key`: as Stack.raw_object takes it."""

    key: str
    stored_at: datetime
    body_bytes: int


class Listing:
    """Iterate over it once; `listed` and `requests` count what that took."""

    def __init__(self, stack: Stack, since: datetime, until: datetime) -> None:
        self.stack, self.since, self.until = stack, since, until
        self.listed = self.requests = 0

    def __iter__(self) -> Iterator[RawBatch]:
        progress, put_back_since = Progress(), put_back.times(self.stack)
        for place in self.stack.raw_places:
            for page in self._pages(place):
                self.listed += len(page)
                progress.show(f"listing: {self.listed:,} objects, {self.requests:,} requests")
                for item in page:
                    name = item["Key"].removeprefix(f"{place.prefix}/").removesuffix(".json")
                    before = names.received_at(name) or put_back_since.get(item["Key"])
                    stored_at = before or item["LastModified"]
                    if self.since <= stored_at < self.until and not item["Key"].endswith("/"):
                        yield RawBatch(self.stack.raw_name(place.bucket, item["Key"]), stored_at, item["Size"])
        progress.done()

    @property
    def cost(self) -> str:
        dollars = self.requests * DOLLARS_PER_LIST_REQUEST
        return f"{self.listed:,} objects listed by {self.requests:,} requests, about ${dollars:.5f}"

    def _pages(self, place: RawPlace) -> Iterator[list[dict[str, Any]]]:
        first, more = self._page(place, "")
        if not more:  # few batches: one request was enough
            yield first
            return
        folder = f"{place.prefix}/"
        ends = {start: folder + end for start, end in pairwise(RANGES)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            reading: dict[Future[tuple[list[dict[str, Any]], bool]], str] = {}
            for start in RANGES:
                reading[pool.submit(self._page, place, folder + start if start else "")] = start
            while reading:
                done, _ = wait(reading, return_when=FIRST_COMPLETED)
                for future in done:
                    start = reading.pop(future)
                    page, more = future.result()
                    end = ends.get(start, "")
                    inside = [item for item in page if not end or item["Key"].encode() <= end.encode()]
                    if more and len(inside) == len(page):
                        reading[pool.submit(self._page, place, page[-1]["Key"])] = start
                    yield inside

    def _page(self, place: RawPlace, after: str) -> tuple[list[dict[str, Any]], bool]:
        self.requests += 1
        answer = self.stack.s3.list_objects_v2(
            Bucket=place.bucket, Prefix=f"{place.prefix}/", MaxKeys=PAGE_KEYS, StartAfter=after
        )
        return answer.get("Contents", []), answer["IsTruncated"]


def show(stack: Stack, since: datetime, until: datetime, *, by_list: bool, keys: bool, as_json: bool) -> None:
    """Counts by hour, by day for more than two days: of batches that have rows, or `by_list` of all.

    With `keys` each batch as it is listed, in no order. CSV is listed too: it has no columns to read apart.
    """
    by_day = until - since > timedelta(days=2)
    if keys or by_list or stack.parameters["OutputFormat"] == "CSV":
        show_listed(stack, since, until, "%Y-%m-%d" if by_day else "%Y-%m-%d %H:00", keys=keys, as_json=as_json)
    else:
        show_with_rows(stack, since, until, "day" if by_day else "hour", as_json=as_json)


def show_with_rows(stack: Stack, since: datetime, until: datetime, unit: str, *, as_json: bool) -> None:
    """Errors: OperateError. A date's files tell by their statistics that they hold nothing of the time."""
    moments = [f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'" for moment in (since, until)]
    sql = (
        f"SELECT date_trunc('{unit}', received_at) AS slot, count(DISTINCT batch_id) AS batches, count(*) AS found "  # noqa: S608
        f"FROM events WHERE received_at >= {moments[0]} AND received_at < {moments[1]} GROUP BY 1 ORDER BY 1"
    )
    try:
        found = list(stack.athena(QUERY_SECONDS).stream(sql))
    except QueryFailedError as error:
        raise OperateError(f"{error}: --list counts the batches without Athena") from error
    by_time: list[dict[str, Any]] = [
        {
            "time": str(row["slot"])[: 10 if unit == "day" else 16],
            "batches": int(row["batches"] or 0),
            "rows": int(row["found"] or 0),
        }
        for row in found
    ]
    total = {name: sum(one[name] for one in by_time) for name in ("batches", "rows")}
    if as_json:
        print_json({"counted": "with rows", **total, "by_time": by_time})
        return
    for one in by_time:
        print(f"{one['time']}  {one['batches']:>10,} batches  {one['rows']:>12,} rows")
    print(f"{total['batches']:,} batches with {total['rows']:,} rows; --list counts those without rows too")


def show_listed(stack: Stack, since: datetime, until: datetime, form: str, *, keys: bool, as_json: bool) -> None:
    """`form`: of the times that are counted together."""
    listing = Listing(stack, since, until)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for batch in listing:
        if keys and as_json:
            found.append({"key": batch.key, "stored_at": batch.stored_at, "bytes": batch.body_bytes})
        elif keys:
            print(f"{batch.stored_at:%Y-%m-%dT%H:%M:%SZ}  {batch.body_bytes:>9}  {batch.key}")
        slot = batch.stored_at.strftime(form)
        counts[slot] += 1
        sizes[slot] += batch.body_bytes
    if as_json:
        by_time = [{"time": slot, "batches": counts[slot], "bytes": sizes[slot]} for slot in sorted(counts)]
        total = {"batches": counts.total(), "bytes": sizes.total(), "list_requests": listing.requests}
        print_json({"counted": "listed", **total, **({"found": found} if keys else {"by_time": by_time})})
        return
    if not keys:
        for slot in sorted(counts):
            print(f"{slot}  {counts[slot]:>10,} batches  {sizes[slot] / 1e6:>10,.1f} MB")
    print(f"{counts.total():,} batches, {sizes.total() / 1e6:,.1f} MB ({listing.cost})")
