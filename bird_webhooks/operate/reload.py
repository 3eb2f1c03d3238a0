"""Days of the table in PostgreSQL, made again from the lake: after a restored dump, a dropped table or deleted rows.

The current files of these days are announced to load_postgres, which leaves rows that are there as they are. The proof
is a count for each day: the events in the files, and the rows in PostgreSQL. Rows of persons who were erased since,
which a restored dump brings back, are deleted first, from all days.
"""

import csv
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from io import BytesIO, StringIO
from typing import Any

from arro3.io import read_parquet
from psycopg.sql import SQL, Identifier

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import files, tombstone
from bird_webhooks.operate.erase import hashes
from bird_webhooks.operate.erase_postgres import Erased, Table
from bird_webhooks.operate.files import Day
from bird_webhooks.operate.mentions import IDENTITY, Person
from bird_webhooks.operate.replay import ASK_ABOVE, send_all
from bird_webhooks.postgres import connected
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say
from load_postgres.database import VIEW_PARAMETERS
from load_postgres.retention import first_day
from load_postgres.rows import rows_of
from load_postgres.schema import CLOSED_FILES, LOADED_FILES
from process.addresses import normalised
from process.tombstones import name

READ_AT_ONCE = 8
POLL_SECONDS = 5.0


@dataclass
class Lake:
    """How many events the files of each day hold."""

    stack: Stack
    days: dict[date, Day] = field(default_factory=dict)
    events: dict[date, int] = field(default_factory=dict)

    def look(self, since: date, until: date | None) -> None:
        """List the files of the days; those that changed since the last look are counted again."""
        for day in files.days(self.stack, since, until):
            if self.days.get(day.event_date) != day:
                self.days[day.event_date] = day
                self.events[day.event_date] = self._count(day)

    def keys(self) -> list[str]:
        return [key for day in self.days.values() for key in map(key_of, [*day.files, *day.late])]

    def _count(self, day: Day) -> int:
        """Of a closed day its state knows; otherwise the files are read, each event once."""
        if day.version and day.exact and not day.late:
            return day.rows or 0
        seen: set[bytes] = set()
        progress, addresses = Progress(), [*day.files, *day.late]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            for number, identities in enumerate(pool.map(self._identities, map(key_of, addresses))):
                seen |= identities
                progress.show(f"{day.event_date}: {number + 1:,} of {len(addresses):,} files counted")
        progress.done()
        return len(seen)

    def _identities(self, key: str) -> set[bytes]:
        answer = self.stack.s3.get_object(Bucket=self.stack.output("LakeBucketName"), Key=key)
        return {hashlib.sha256(repr(one).encode()).digest()[:16] for one in identities(key, answer["Body"].read())}


def reload(
    stack: Stack,
    *,
    since: date,
    until: date | None,
    postgres: str | None,
    schema: str | None,
    wait_seconds: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """The exit status: 1 if a day has other numbers of events in the lake and in PostgreSQL. Errors: OperateError."""
    parameters = stack.parameters
    if "PostgresQueueUrl" not in stack.outputs:
        raise OperateError("the stack loads no PostgreSQL: set PostgresSecretArn first")
    database = Database(stack, postgres or parameters["PostgresSecretArn"], schema or parameters["PostgresSchema"])
    kept_from = first_day(
        int(parameters.get("PostgresRetentionMonths", "0")),
        int(parameters.get("SoftBounceDays", VIEW_PARAMETERS["SoftBounceDays"])),
        datetime.now(UTC).date(),
    )
    lake = Lake(stack)
    before = database.counts(since, until)  # and before files are read, whether it answers at all
    lake.look(since, until)
    keys = lake.keys()
    erased = database.erased()
    rows_erased = database.table.count(*erased) if erased else 0
    answer: dict[str, Any] = {"files": len(keys), "rows_of_erased_persons": rows_erased}
    if dry_run:
        if not as_json:
            show(lake.events, before, kept_from)
            print(f"{rows_erased:,} rows of erased persons would be deleted, and {len(keys):,} files loaded")
        else:
            print_json({**answer, "dates": compared(lake.events, before, kept_from)})
        return 0
    if len(keys) > ASK_ABOVE or rows_erased:
        gone = f"Delete {rows_erased:,} rows of erased persons, and load" if rows_erased else "Load"
        confirm(f"{gone} {len(keys):,} files of {len(lake.days):,} days into PostgreSQL?", yes=yes)
    if erased:
        database.table.delete(*erased)
    if not as_json:
        print(f"{rows_erased:,} rows of erased persons deleted")
    database.forget(since, until)
    refused = send_all(stack, keys, bucket="LakeBucketName", queue="PostgresQueueUrl", doing="announcing")
    if refused:
        raise OperateError(f"the queue refused {len(refused):,} files: give the command again")
    say(f"{len(keys):,} files announced to load_postgres")
    loaded = wait(lake, database, since, until, kept_from, wait_seconds)
    if loaded:
        database.table.refresh_copies()
    dates = compared(lake.events, loaded, kept_from)
    if as_json:
        print_json({**answer, "dates": dates})
    else:
        show(lake.events, loaded, kept_from)
    differing = sum(not one["equal"] for one in dates if "older_than_retention" not in one)
    if differing:
        say(f"{differing:,} of {len(dates):,} days differ: docs/downstream/backup.md says why that may be")
    return 1 if differing else 0


def wait(
    lake: Lake, database: "Database", since: date, until: date | None, kept_from: date, wait_seconds: float
) -> dict[date, int]:
    """The rows of each day, when all files are loaded and no event is missing, or nothing has changed for that long.

    Events of days before `kept_from` are not missing.
    """
    progress, stack = Progress(), lake.stack
    before: tuple[int, dict[date, int]] | None = None
    changed = time.monotonic()
    while True:
        pause(POLL_SECONDS)
        queued = messages(stack)  # before the rows: what is loaded meanwhile is seen by the next look
        loaded = database.counts(since, until)
        if before != (queued, loaded):
            before, changed = (queued, loaded), time.monotonic()
        if any(loaded.get(day, 0) > events for day, events in lake.events.items()):
            lake.look(since, until)  # events came meanwhile
        missing = sum(max(0, events - loaded.get(day, 0)) for day, events in lake.events.items() if day >= kept_from)
        if not (missing or queued) or time.monotonic() - changed > wait_seconds:
            break
        progress.show(
            f"loading: {queued:,} files wait, {missing:,} of {sum(lake.events.values()):,} events are missing"
        )
    progress.done()
    return loaded


def messages(stack: Stack) -> int:
    """How many files load_postgres has not loaded yet; SQS may be a minute late with it."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    found = stack.sqs.get_queue_attributes(QueueUrl=stack.output("PostgresQueueUrl"), AttributeNames=names)
    return sum(map(int, found["Attributes"].values()))


def pause(seconds: float) -> None:
    time.sleep(seconds)


def compared(lake: Mapping[date, int], postgres: Mapping[date, int], kept_from: date) -> list[dict[str, Any]]:
    """A day that is in PostgreSQL alone is one with none in the lake. The retention drops days before `kept_from`."""
    return [
        {
            "event_date": str(day),
            "lake": lake.get(day, 0),
            "postgres": postgres.get(day, 0),
            "equal": lake.get(day, 0) == postgres.get(day, 0),
            **({"older_than_retention": True} if day < kept_from else {}),
        }
        for day in sorted({*lake, *postgres})
    ]


def show(lake: Mapping[date, int], postgres: Mapping[date, int], kept_from: date) -> None:
    for one in compared(lake, postgres, kept_from):
        equal = "older than the retention" if "older_than_retention" in one else "equal" if one["equal"] else "DIFFERS"
        print(f"{one['event_date']}  lake {one['lake']:>13,}  PostgreSQL {one['postgres']:>13,}  {equal}")


class Database:
    """Reads and changes nothing until it is asked; the table may be missing."""

    def __init__(self, stack: Stack, where: str, schema: str) -> None:
        self.stack, self.where, self.schema = stack, where, schema

    @property
    def table(self) -> Table:
        return Table(self.stack, self.where, self.schema)

    def counts(self, since: date, until: date | None) -> dict[date, int]:
        sql = SQL(
            "SELECT event_date, count(*) FROM {} WHERE event_date >= %s AND event_date <= %s GROUP BY event_date"
        ).format(Identifier(self.schema, "events"))
        with connected(self.stack, self.where) as connection:
            if not self._has(connection, "events"):
                return {}
            return dict(connection.execute(sql, [since, until or date.max]).fetchall())

    def forget(self, since: date, until: date | None) -> None:
        """Which files of the days were loaded: what claims that would keep rows from being loaded again."""
        with connected(self.stack, self.where) as connection:
            for table in (CLOSED_FILES, LOADED_FILES):
                if self._has(connection, table):
                    sql = SQL("DELETE FROM {} WHERE event_date >= %s AND event_date <= %s")
                    connection.execute(sql.format(Identifier(self.schema, table)), [since, until or date.max])

    def erased(self) -> list[Erased]:
        """Persons with a tombstone, of whom the table has a row of before."""
        known = tombstone.read_all(self.stack)
        if not known.erased_at:
            return []
        with connected(self.stack, self.where) as connection:
            if not self._has(connection, "events"):
                return []
        say("looking for rows of erased persons in the whole table")
        found: dict[str, Erased] = {}
        for address, earliest in self.table.addresses():
            if known.covers(address, earliest):  # perhaps twice, once from each table
                person = name(address, known.key)
                plain = "@".join(normalised(address))
                all_hashes = frozenset(hashes(self.stack, plain, []))
                found[person] = Erased(Person(plain, all_hashes), known.erased_at[person])
        return list(found.values())

    def _has(self, connection: Any, table: str) -> bool:
        named = Identifier(self.schema, table).as_string(connection)
        [[there]] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [named]).fetchall()
        return bool(there)


def key_of(address: str) -> str:
    return address.removeprefix("s3://").partition("/")[2]


def identities(key: str, body: bytes) -> Iterator[Sequence[str | None]]:
    """Of each row of a file; null and an empty text are two."""
    if key.endswith(".parquet"):
        rows = read_parquet(BytesIO(body)).read_all()
        nothing = [None] * rows.num_rows
        columns = [rows[one].to_pylist() if one in rows.schema.names else nothing for one in IDENTITY]
        yield from zip(*columns, strict=True)
        return
    csv.field_size_limit(sys.maxsize)
    table = rows_of(key, body).whole()
    text = StringIO(table.copy_data.decode(), newline="")
    for record in csv.DictReader(text, table.columns):
        yield [record.get(one) or None for one in IDENTITY]
