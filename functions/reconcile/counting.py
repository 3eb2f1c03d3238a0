"""Our counts: how many events are here, by hour and type, and which. Each event once, from its columns alone.

One statement answers for all hours of a run. Its cost is that of the columns that identify an event, of the dates that
the hours belong to.
"""

# ruff: noqa: S608  (what goes into the statements is made here, but for ids, which are quoted)
import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from reconcile.athena import Athena

Window = tuple[datetime, datetime]
Key = tuple[str, str, str]  # event_class, type, event_key
# Athena takes 262,144 bytes of a statement: https://docs.aws.amazon.com/athena/latest/ug/service-limits.html
IDS_A_STATEMENT = 4000
MAX_TYPE_CHARACTERS = 60
IDENTITY = "customer_id, event_class, type, event_key"


class Here(NamedTuple):
    """An event that is here. `batch_id`: of the batch that brought it."""

    event_class: str
    type: str
    event_key: str
    at: datetime
    batch_id: str


class Ours(Protocol):
    def counts_of(self, windows: Sequence[Window]) -> Counter[tuple[datetime, str]]:
        """Events by the beginning of their hour (UTC) and their type."""

    def events_of(self, windows: Sequence[Window], types: Collection[str]) -> list[Here]:
        """The events themselves, for windows that hold few. In no order."""

    def keys(self, since: datetime, until: datetime, types: Collection[str]) -> set[Key]:
        """Which events are here from `since` up to before `until`, by their own time."""

    def present(self, ids: Iterable[str], since: datetime, until: datetime) -> set[Key]:
        """Which of these event ids are here, on any date from that of `since` to that of `until`.

        For what was fetched: it asks for as many ids as were fetched, and not for all that a busy day has.
        """


@dataclass(frozen=True)
class AthenaOurs:
    """`read_file` reads an object by its s3:// address; `of_text`: in CSV all columns of `events` are text."""

    athena: Athena
    read_file: Any
    of_text: bool = False

    def counts_of(self, windows: Sequence[Window]) -> Counter[tuple[datetime, str]]:
        found: Counter[tuple[datetime, str]] = Counter()
        for row in self._rows(counts_sql(windows, self.of_text)):
            found[(moment(row["hour"]), row["type"])] += int(row["events"])
        return found

    def events_of(self, windows: Sequence[Window], types: Collection[str]) -> list[Here]:
        if not windows or not types:
            return []
        return [
            Here(row["event_class"], row["type"], row["event_key"], moment(row["at"]), row["batch_id"])
            for row in self._rows(events_sql(windows, types, self.of_text))
        ]

    def keys(self, since: datetime, until: datetime, types: Collection[str]) -> set[Key]:
        if not types:
            return set()
        rows = self._rows(keys_sql(f"{within([(since, until)])} AND type IN {texts(types)}", self.of_text))
        return {(row["event_class"], row["type"], row["event_key"]) for row in rows}

    def present(self, ids: Iterable[str], since: datetime, until: datetime) -> set[Key]:
        wanted, found = sorted(set(ids)), set()
        for start in range(0, len(wanted), IDS_A_STATEMENT):
            some = wanted[start : start + IDS_A_STATEMENT]
            condition = f"{dates([(since, until)])} AND event_key IN {texts(some)}"
            for row in self._rows(keys_sql(condition, self.of_text)):
                found.add((row["event_class"], row["type"], row["event_key"]))
        return found

    def _rows(self, sql: str) -> Iterator[dict[str, str]]:
        """From the file of the result: its pages by the API have 1,000 rows each."""
        text = self.read_file(self.athena.result_file(sql)).decode()
        yield from csv.DictReader(io.StringIO(text, newline=""))


def counts_sql(windows: Sequence[Window], of_text: bool) -> str:
    """A copy of an event may have come days after it; the first second that is told of it counts."""
    return f"""
        SELECT date_trunc('hour', at) AS hour, type, count(*) AS events FROM (
          SELECT {IDENTITY}, min("timestamp") AS at FROM {relation(of_text)}
          WHERE {within(windows)} GROUP BY {IDENTITY}
        ) AS once
        GROUP BY date_trunc('hour', at), type"""


def events_sql(windows: Sequence[Window], types: Collection[str], of_text: bool) -> str:
    return f"""
        SELECT event_class, type, event_key, min("timestamp") AS at, min(batch_id) AS batch_id
        FROM {relation(of_text)} WHERE {within(windows)} AND type IN {texts(types)} GROUP BY {IDENTITY}"""


def keys_sql(condition: str, of_text: bool) -> str:
    return f"SELECT DISTINCT event_class, type, event_key FROM {relation(of_text)} WHERE {condition}"


def relation(of_text: bool) -> str:
    return "events_deduplicated" if of_text else "events"


def within(windows: Sequence[Window]) -> str:
    times = " OR ".join(
        f'("timestamp" >= {literal(since)} AND "timestamp" < {literal(until)})' for since, until in windows
    )
    return f"{dates(windows)} AND ({times})"


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
