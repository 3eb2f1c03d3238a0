"""Months that are older than the retention leave the table, while others read and load it.

What the suppression list needs of a month goes first into a table of its own, in one transaction with the day up to
which the view reads that table instead of `events`. So the view has each event once at any moment, and what is loaded
later for these days is written there, too. Then the month is detached CONCURRENTLY, which waits for the queries that
run and for no lock that others wait for, and dropped. What is cut off, the next run continues.
https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-DETACH-PARTITION
"""

import logging
import time
from datetime import date, timedelta
from functools import partial
from typing import NamedTuple

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from load_postgres.schema import (
    LOCK,
    SUPPRESSING_TYPES,
    Connection,
    columns,
    forget_files,
    make_own_table,
    quoted,
    with_short_locks,
)
from load_postgres.upkeep import LOCK_TIMEOUT, MIN_SECONDS, limits

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

KEPT = "suppression_events_kept"
RETENTION = "retention"
# What the view `suppression_events` reads, with what makes an event unique. `make generate` writes that view.
KEPT_COLUMNS = (
    "event_class", "type", "timestamp", "received_at", "event_key", "customer_id", "subaccount_id", "rcpt_to",
    "raw_rcpt_to", "list_id", "bounce_class", "campaign_id", "transactional", "fbtype",
)  # fmt: skip
NEEDED = SQL("type IN ({}) AND COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to) <> ''").format(
    SQL(", ").join(map(Literal, SUPPRESSING_TYPES))
)
# On a month that is to be dropped. A month that a user detached by hand has no such comment, and stays.
GOING = "To be dropped by bird-webhooks: older than PostgresRetentionMonths"
# Loaders of days before these need to know whether the month is going; the shortest retention keeps them all.
NEVER_GOING = timedelta(days=28)
# `current_date - interval '30' day` of the view is the session's day, which may be another than ours.
MARGIN = timedelta(days=2)


class Retention(NamedTuple):
    """`kept_from`: the first day of the months that stay."""

    kept_from: date = date.min
    today: date = date.max


class Place(NamedTuple):
    """Where the events of a day go: into the table, and into what is kept of months that are gone."""

    in_table: bool = True
    kept: bool = False


class Month(NamedTuple):
    """`state`: attached, pending (a DETACH was cut off) or detached."""

    name: str
    first: date
    state: str
    going: bool

    @property
    def end(self) -> date:
        return next_month(self.first)


def first_day(months: int, soft_bounce_days: int, today: date) -> date:
    """The first day of the months that stay: the current one, `months` before it, and all whose soft bounces count."""
    if not months:
        return date.min
    number = today.year * 12 + today.month - 1 - months
    soft_bounces = today - timedelta(days=soft_bounce_days) - MARGIN
    return min(date(number // 12, number % 12 + 1, 1), soft_bounces.replace(day=1))


def make_tables(connection: Connection, schema: str) -> None:
    """Errors: ForeignObjectError."""
    types = {column.name: column.type for column in columns()}
    definitions = [f"{name} {types[name]}" for name in KEPT_COLUMNS]
    identity = "UNIQUE NULLS NOT DISTINCT (event_key, type, event_class, customer_id, event_date)"
    make_own_table(
        connection,
        schema,
        KEPT,
        f"({', '.join(definitions)}, event_date date NOT NULL, {identity}); "
        # Without it, PostgreSQL refuses DELETE once the table is published.
        "ALTER TABLE {table} REPLICA IDENTITY FULL; "
        "CREATE INDEX ON {table} (lower(COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to)))",
        "What the suppression list needs of the days before retention.kept_before (bird-webhooks)",
    )
    make_own_table(
        connection,
        schema,
        RETENTION,
        "(kept_before date NOT NULL); INSERT INTO {table} VALUES ('-infinity')",
        f"One row. Of earlier days, the suppression list is made from {KEPT} (bird-webhooks)",
    )


def is_before(connection: Connection, schema: str, day: date) -> bool:
    """Whether the suppression list reads what is kept for that day."""
    sql = SQL("SELECT count(*) FROM {} WHERE kept_before > %s").format(Identifier(schema, RETENTION))
    return bool(connection.execute(sql, [day]).fetchall()[0][0])


def place(connection: Connection, schema: str, day: date, retention: Retention) -> Place:
    if day >= retention.today - NEVER_GOING or not is_before(connection, schema, day):
        return Place()
    # A month that was detached and not dropped has its name still: no other can be made.
    month = day.replace(day=1)
    halfway = any(
        one.first == month and one.going and one.state != "attached"
        for one in months(connection, schema, next_month(month))
    )
    return Place(in_table=day >= retention.kept_from and not halfway, kept=True)


def hold(connection: Connection) -> None:
    """Until the transaction ends, no month begins to go."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [LOCK + 2])


def keep(schema: str, source: Composable, where: Composable, day: Composable, *, cast: bool = False) -> Composed:
    """Insert what the suppression list needs of `source` into what is kept. `cast`: its columns are texts."""
    types = {column.name: SQL(column.type) for column in columns()}
    names = SQL(", ").join(map(Identifier, KEPT_COLUMNS))
    values = [
        SQL("{}::{}").format(Identifier(name), types[name]) if cast else Identifier(name) for name in KEPT_COLUMNS
    ]
    return SQL(
        "INSERT INTO {kept} ({names}, event_date) SELECT {values}, {day} FROM {source} WHERE {where} AND {needed} "
        "ON CONFLICT DO NOTHING"
    ).format(
        kept=Identifier(schema, KEPT),
        names=names,
        values=SQL(", ").join(values),
        day=day,
        source=source,
        where=where,
        needed=NEEDED,
    )


def drop_months(connection: Connection, schema: str, kept_from: date, seconds: float) -> int:
    """Drop the months before `kept_from`, as far as `seconds` allow. Returns how many are left.

    Errors: psycopg.Error (the next call continues).
    """
    ends = time.monotonic() + seconds
    [[mine]] = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK + 1]).fetchall()
    try:
        for month in months(connection, schema, kept_from) if mine else ():
            left = ends - time.monotonic()
            if left < MIN_SECONDS:
                break
            with limits(connection, statement=f"{left:.0f}s", lock=LOCK_TIMEOUT):
                try:
                    drop_month(connection, schema, month)
                except psycopg.errors.DependentObjectsStillExist as error:  # younger months can go
                    reason = f"{type(error).__name__}: something of a user's needs {month.name}"
                    logger.error("months not dropped yet", extra={"reason": reason})
        remaining = months(connection, schema, kept_from)
        if mine and not remaining:  # so no month is made for a day before them
            with connection.transaction():
                keep_before(connection, schema, kept_from)
    finally:
        if mine and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK + 1])
    return len(remaining)


def months(connection: Connection, schema: str, before: date) -> list[Month]:
    """The months before that first day of one that are partitions, or were until we detached them; the oldest first."""
    sql = r"""
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), COALESCE(obj_description(c.oid, 'pg_class') = %s, false),
          CASE WHEN i.inhrelid IS NULL THEN 'detached' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END
        FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = to_regclass(%s)
        WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' AND c.relname ~ '^events_\d{4}_(0[1-9]|1[0-2])$'
        ORDER BY c.relname"""
    names = [quoted(connection, schema, "events"), quoted(connection, schema)]
    found = []
    for name, bound, going, state in connection.execute(sql, [GOING, *names]).fetchall():
        first = date(int(name[7:11]), int(name[12:14]), 1)
        ours = bound == f"FOR VALUES FROM ('{first}') TO ('{next_month(first)}')"
        if first < before and (going if state == "detached" else ours):
            found.append(Month(name, first, state, going))
    return found


def drop_month(connection: Connection, schema: str, month: Month) -> None:
    table = Identifier(schema, month.name)
    if month.state == "attached":
        with connection.transaction():
            keep_before(connection, schema, month.end)
            connection.execute(SQL("COMMENT ON TABLE {} IS {}").format(table, Literal(GOING)))
        detach(connection, schema, table)
    elif month.state == "pending":
        with limits(connection, lock="0"):
            connection.execute(
                SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(Identifier(schema, "events"), table)
            )
        if not month.going:  # by hand, so it is the user's
            return
    with connection.transaction():
        connection.execute(SQL("DROP TABLE {}").format(table))
        forget_files(connection, schema, month.first, month.end)
    logger.info("month dropped", extra={"month": month.name})


def keep_before(connection: Connection, schema: str, day: date) -> None:
    """From now on the suppression list reads what is kept of all earlier days; in the caller's transaction."""
    events, retention = Identifier(schema, "events"), Identifier(schema, RETENTION)
    if is_before(connection, schema, day - timedelta(days=1)):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK + 2])
    since = SQL("event_date >= (SELECT max(kept_before) FROM {}) AND event_date < {}").format(retention, Literal(day))
    connection.execute(keep(schema, events, since, Identifier("event_date")))
    connection.execute(SQL("UPDATE {} SET kept_before = GREATEST(kept_before, %s)").format(retention), [day])


def detach(connection: Connection, schema: str, table: Identifier) -> None:
    events = Identifier(schema, "events")
    with_default = "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)"
    if connection.execute(with_default, [quoted(connection, schema, "events")]).fetchall() == [(True,)]:
        # PostgreSQL refuses CONCURRENTLY then.
        change = SQL("ALTER TABLE {} DETACH PARTITION {}").format(events, table)
        with_short_locks(connection, partial(connection.execute, change))
        return
    with limits(connection, lock="0"):
        connection.execute(SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY").format(events, table))


def next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)
