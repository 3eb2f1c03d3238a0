"""Our counts: how many events are here, by hour and type, and which. Each event once, from its columns alone.

One statement answers for all hours of a run. Its cost is that of the columns that identify an event, of the dates that
the hours belong to.
"""

# ruff: noqa: S608  (what goes into the statements is made here, but for types, which are quoted)
import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from reconcile.athena import Athena
from reconcile.events_api import ALL_SUBACCOUNTS, PRIMARY_ONLY
from reconcile.filling import BATCH_PREFIX

Window = tuple[datetime, datetime]
Key = tuple[str, str, str, str]  # customer_id (empty if absent), event_class, type, event_key
DAY = timedelta(days=1)
# Batches that the webhook did not bring begin like this: of filling, and of `bird-webhooks import`.
BY_HAND = (BATCH_PREFIX, "import/")
IDENTITY = "customer_id, event_class, type, event_key"


class Here(NamedTuple):
    """An event that is here. `batch_id`: of the batch that brought it."""

    event_class: str
    type: str
    event_key: str
    at: datetime
    batch_id: str


@dataclass(frozen=True)
class Whose:
    """Of which account events are counted, and of which subaccounts, as the webhook sends them. None: of any account.

    An event that names no account may be anybody's, and is counted.
    """

    account: str | None = None
    subaccount: str = ALL_SUBACCOUNTS
    exceptions: tuple[str, ...] = ()


class Ours(Protocol):
    whose: Whose  # whose events all but `keys` give

    def counts_of(self, windows: Sequence[Window], *, by_webhook: bool = False) -> Counter[tuple[datetime, str]]:
        """Events by the beginning of their hour (UTC) and their type. `by_webhook`: only what the webhook brought."""

    def events_of(self, windows: Sequence[Window], types: Collection[str]) -> list[Here]:
        """The events themselves, for windows that hold few. In no order."""

    def minutes(self, since: datetime, until: datetime, types: Sequence[str]) -> Mapping[tuple[datetime, str], int]:
        """Events by minute (UTC) and type; nothing where there are none."""

    def keys(self, since: datetime, until: datetime, types: Sequence[str]) -> set[Key]:
        """Of events within this time, whichever of the dates from the day before to the day after has their row."""


@dataclass
class AthenaOurs:
    """`read_file` reads an object by its s3:// address; `of_text`: in CSV all columns of `events` are text."""

    athena: Athena
    read_file: Any
    of_text: bool = False
    whose: Whose = Whose()

    def counts_of(self, windows: Sequence[Window], *, by_webhook: bool = False) -> Counter[tuple[datetime, str]]:
        found: Counter[tuple[datetime, str]] = Counter()
        for row in self._rows(counts_sql(windows, self.of_text, whose=self.whose, by_webhook=by_webhook)):
            found[(moment(row["hour"]), row["type"])] += int(row["events"])
        return found

    def events_of(self, windows: Sequence[Window], types: Collection[str]) -> list[Here]:
        if not windows or not types:
            return []
        return [
            Here(row["event_class"], row["type"], row["event_key"], moment(row["happened"]), row["batch_id"])
            for row in self._rows(events_sql(windows, types, self.of_text, self.whose))
        ]

    def minutes(self, since: datetime, until: datetime, types: Sequence[str]) -> Mapping[tuple[datetime, str], int]:
        sql = counts_sql([(since, until)], self.of_text, period="minute", types=types, whose=self.whose)
        return {(moment(row["hour"]), row["type"]): int(row["events"]) for row in self._rows(sql)} if types else {}

    def keys(self, since: datetime, until: datetime, types: Sequence[str]) -> set[Key]:
        if not types:
            return set()
        rows = self._rows(keys_sql(since, until, types, self.of_text))
        return {(row["customer_id"], row["event_class"], row["type"], row["event_key"]) for row in rows}

    def _rows(self, sql: str) -> Iterator[dict[str, str]]:
        """From the file of the result: its pages by the API have 1,000 rows each."""
        text = self.read_file(self.athena.result_file(sql)).decode()
        yield from csv.DictReader(io.StringIO(text, newline=""))


def counts_sql(
    windows: Sequence[Window],
    of_text: bool,
    *,
    period: str = "hour",
    types: Collection[str] | None = None,
    whose: Whose = Whose(),
    by_webhook: bool = False,
) -> str:
    """A copy of an event may have come days after it; the first second that is told of it counts."""
    only = "" if types is None else f" AND type IN {texts(types)}"
    if by_webhook:
        only += "".join(f" AND batch_id NOT LIKE '{prefix}%'" for prefix in BY_HAND)
    return f"""
        SELECT date_trunc('{period}', happened) AS hour, type, count(*) AS events FROM (
          SELECT {IDENTITY}, min("timestamp") AS happened FROM {relation(of_text)}
          WHERE {within(windows)}{only}{of(whose)} GROUP BY {IDENTITY}
        ) AS once
        GROUP BY date_trunc('{period}', happened), type"""


def events_sql(windows: Sequence[Window], types: Collection[str], of_text: bool, whose: Whose = Whose()) -> str:
    return f"""
        SELECT event_class, type, event_key, min("timestamp") AS happened, min(batch_id) AS batch_id
        FROM {relation(of_text)} WHERE {within(windows)} AND type IN {texts(types)}{of(whose)} GROUP BY {IDENTITY}"""


def keys_sql(since: datetime, until: datetime, types: Collection[str], of_text: bool) -> str:
    return f"""
        SELECT DISTINCT coalesce(customer_id, '') AS customer_id, event_class, type, event_key
        FROM {relation(of_text)} WHERE {dates([(since - DAY, until + DAY)])} AND {times([(since, until)])}
          AND type IN {texts(types)}"""


def relation(of_text: bool) -> str:
    return "events_deduplicated" if of_text else "events"


def of(whose: Whose) -> str:
    subaccount = f"coalesce(nullif(subaccount_id, ''), '{PRIMARY_ONLY}')"
    parts = []
    if whose.account is not None:
        parts.append(f"coalesce(customer_id, '') IN {texts(['', whose.account])}")
    if whose.subaccount != ALL_SUBACCOUNTS:
        parts.append(f"{subaccount} IN {texts([whose.subaccount])}")
    if whose.exceptions:
        parts.append(f"{subaccount} NOT IN {texts(whose.exceptions)}")
    return "".join(f" AND {part}" for part in parts)


def within(windows: Sequence[Window]) -> str:
    return f"{dates(windows)} AND {times(windows)}"


def times(windows: Sequence[Window]) -> str:
    each = (f'("timestamp" >= {literal(since)} AND "timestamp" < {literal(until)})' for since, until in windows)
    return f"({' OR '.join(each)})"


def dates(windows: Sequence[Window]) -> str:
    """The dates that the windows touch: each is a partition, or a column of every row."""
    found = set()
    for since, until in windows:
        day = since.astimezone(UTC).date()
        while datetime(day.year, day.month, day.day, tzinfo=UTC) < until:
            found.add(day)
            day += timedelta(days=1)
    return "event_date IN ({})".format(", ".join(f"DATE '{day}'" for day in sorted(found)))


def literal(when: datetime) -> str:
    return f"TIMESTAMP '{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def texts(values: Iterable[str]) -> str:
    return "({})".format(", ".join("'" + value.replace("'", "''") + "'" for value in sorted(values)))


def moment(text: str) -> datetime:
    """Athena's notation, in UTC."""
    return datetime.fromisoformat(text.removesuffix(" UTC").strip()).replace(tzinfo=UTC)
