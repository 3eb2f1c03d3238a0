"""The table `events` with its indexes and partitions: created on first use, extended when the list of columns grows.

Each change holds an advisory lock, so that loaders that start together make it one after the other. It needs only the
right to create in the schema (or in the database, if the schema must be created too).
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from load_postgres.errors import ForeignObjectError

type Connection = psycopg.Connection[tuple[Any, ...]]

LOCK = 0x62697264  # "bird"
HERE = Path(__file__).parent
# Named with its schema, because a role's search_path may put another one before it.
STAGING = Identifier("pg_temp", "bird_staging")
# How far each closed file was loaded: many messages may ask for one, and one may take longer than an invocation.
CLOSED_FILES = "closed_files_loaded"
CLOSED_FILES_COMMENT = "How many rows of each closed file of the lake load_postgres has loaded"
# Which other files were loaded whole, so that what announces one again sends no row of it.
LOADED_FILES = "files_loaded"
IDENTITY_INDEX = "events_account_identity"
ADDRESS = "lower(COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to))"
# Bounces of all classes: a later version may judge a class in another way.
SUPPRESSING_TYPES = ("bounce", "out_of_band", "spam_complaint", "list_unsubscribe", "link_unsubscribe")
SUPPRESSING = ", ".join(f"'{name}'" for name in SUPPRESSING_TYPES)
# Each index takes about a tenth of a load's time, but that of few rows.
INDEXES = {
    # Keeps an event from being inserted twice; also finds it by its id. A missing type or account is its own value.
    IDENTITY_INDEX: (
        "UNIQUE INDEX {name} ON {events} (event_key, type, event_class, customer_id, event_date) NULLS NOT DISTINCT"
    ),
    # Everything about one address, as the views ask for it, of all days or of some.
    "events_address": f"INDEX {{name}} ON {{events}} ({ADDRESS}, event_date)",
    # What the suppression list is made of, in a hundredth of the rows: among them an address is found at once.
    "events_suppression": f"INDEX {{name}} ON {{events}} ({ADDRESS}, event_date) WHERE type IN ({SUPPRESSING})",
    # The timeline of a message.
    "events_message_id": "INDEX {name} ON {events} (message_id)",
    # A campaign's figures, from the index alone.
    "events_campaign": "INDEX {name} ON {events} (campaign_id, type, event_date)",
    # The few bounces, complaints and unsubscribes among all events, from which the suppression list is made; and how
    # many events of a type a day has.
    "events_type_date": "INDEX {name} ON {events} (type, event_date)",
    # A few days of a month. Rows arrive roughly in the order of time, so a BRIN index stays tiny.
    "events_time": "INDEX {name} ON {events} USING brin (event_date, timestamp)",
}


# Before the digest of the views in the table's comment, and at the end of each view's: so we know them as ours.
OURS = "Bird's email events, loaded by bird-webhooks."
OUR_VIEW = "(bird-webhooks)"
VIEW = re.compile(r"^CREATE OR REPLACE VIEW (\w+)", re.MULTILINE)
IDENTIFYING = {"event_class", "type", "event_key", "event_date"}
# While a change waits for readers, all other readers queue behind it. So it waits briefly, and tries again.
LOCK_SECONDS = 1
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 2


class Column(NamedTuple):
    name: str
    type: str
    comment: str


@cache
def columns() -> tuple[Column, ...]:
    """The copy of functions/process/columns.py that `make generate` writes, with PostgreSQL's types."""
    return tuple(Column(*column) for column in json.loads((HERE / "columns.json").read_text()))


@cache
def json_columns() -> tuple[str, ...]:
    return tuple(column.name for column in columns() if column.type == "jsonb")


def views_sql(parameters: Mapping[str, str]) -> str:
    """views.sql with each `${Name}` replaced; '' if there is no such file."""
    path = HERE / "views.sql"
    text = path.read_text() if path.exists() else ""
    return re.sub(r"\$\{(\w+)\}", lambda found: parameters[found[1]], text)


def prepare(connection: Connection, schema: str) -> None:
    """Create whatever is missing: schema, table, indexes, columns, and this session's staging table.

    Errors: ForeignObjectError (what has one of the names is not ours; nothing is changed), psycopg.Error.
    """
    check_table(connection, schema)
    wanted = {column.name for column in columns()}
    if not wanted <= existing_columns(connection, schema):
        with_short_locks(connection, lambda: make_or_extend_table(connection, schema))
    make_loaded_files(connection, schema)
    # JSON is text in the staging table: the insertion handles what jsonb does not accept.
    staged = [
        SQL("{} {}").format(Identifier(column.name), SQL("text" if column.type == "jsonb" else column.type))
        for column in columns()
    ]
    staged.append(SQL("{} date").format(Identifier("event_date")))
    connection.execute(
        SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            STAGING, SQL(", ").join(staged)
        )
    )


def make_or_extend_table(connection: Connection, schema: str) -> None:
    take_lock(connection)
    check_table(connection, schema)
    found = existing_columns(connection, schema)
    if not found:
        make_table(connection, schema)
    elif missing := [column for column in columns() if column.name not in found]:
        add_columns(connection, schema, missing)


def check_table(connection: Connection, schema: str) -> None:
    """Errors: ForeignObjectError, unless `events` is ours, or neither it nor anything with a name that we need exists.

    A table of ours is partitioned by event_date and has the columns that identify an event, whatever its comment says.
    """
    table = """
        SELECT c.relkind = 'p' AND pg_get_partkeydef(c.oid) = 'RANGE (event_date)' AND %s <@ (
            SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped)
        FROM pg_class c WHERE c.oid = to_regclass(%s)"""
    found = connection.execute(table, [sorted(IDENTIFYING), quoted(connection, schema, "events")]).fetchall()
    if found == [(True,)]:
        return
    if found:
        raise ForeignObjectError(f"{schema}.events is not a table of this application: set PostgresSchema to another")
    # Once more without a table: another loader may have made it, and the indexes with it, since the last question.
    names = """
        WITH names AS (
            SELECT relname AS name, relname = 'events' AS is_table FROM pg_class
            WHERE relnamespace = to_regnamespace(%s) AND relname = ANY(%s)
            UNION ALL
            SELECT typname, false FROM pg_type WHERE typnamespace = to_regnamespace(%s) AND typname = 'events')
        SELECT name FROM names WHERE NOT (SELECT COALESCE(bool_or(is_table), false) FROM names)"""
    space = quoted(connection, schema)
    for (name,) in connection.execute(names, [space, ["events", *INDEXES], space]):
        raise ForeignObjectError(f"{schema}.{name} is there and not of this application: set PostgresSchema to another")


def with_short_locks(connection: Connection, change: Callable[[], object]) -> None:
    """Make a change in one transaction, again if a lock was not free in time. Errors: psycopg.Error."""
    for tries in range(1, LOCK_TRIES + 1):
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_SECONDS}s"])
                change()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if tries == LOCK_TRIES:
                raise
            time.sleep(LOCK_PAUSE_SECONDS)


def make_table(connection: Connection, schema: str) -> None:
    # IF NOT EXISTS would need the right to create schemas even if this one exists.
    if not connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [quoted(connection, schema)]).fetchall()[0][0]:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
    events = Identifier(schema, "events")
    definitions = [SQL("{} {}").format(Identifier(c.name), SQL(c.type)) for c in columns()]
    connection.execute(
        SQL("CREATE TABLE {} ({}, event_date date NOT NULL) PARTITION BY RANGE (event_date)").format(
            events, SQL(", ").join(definitions)
        )
    )
    for name, definition in INDEXES.items():
        connection.execute(SQL("CREATE " + definition).format(name=Identifier(name), events=events))
    comments = [comment(schema, column.name, column.comment) for column in columns()]
    comments.append(comment(schema, "event_date", "Day of the event in UTC; the partitions are its months"))
    comments.append(SQL("COMMENT ON TABLE {} IS {}").format(events, Literal(OURS)))
    connection.execute(SQL("; ").join(comments))


def add_columns(connection: Connection, schema: str, missing: list[Column]) -> None:
    additions = [SQL("ADD COLUMN {} {}").format(Identifier(c.name), SQL(c.type)) for c in missing]
    connection.execute(SQL("ALTER TABLE {} {}").format(Identifier(schema, "events"), SQL(", ").join(additions)))
    connection.execute(SQL("; ").join(comment(schema, column.name, column.comment) for column in missing))


def comment(schema: str, column: str, text: str) -> Composed:
    return SQL("COMMENT ON COLUMN {} IS {}").format(Identifier(schema, "events", column), Literal(text))


def existing_columns(connection: Connection, schema: str) -> set[str]:
    """The columns of the table; none if there is no table."""
    sql = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    return {name for (name,) in connection.execute(sql, [quoted(connection, schema, "events")])}


def make_partition(connection: Connection, schema: str, day: date) -> None:
    """Create the partition for the day's month, unless one covers the day.

    It is created as a table and then attached, because CREATE TABLE … PARTITION OF would wait for all running queries.
    Errors: ForeignObjectError (a table with the month's name is not a month of `events`), psycopg.Error.
    """
    if has_partition(connection, schema, day):
        return
    first = day.replace(day=1)
    next_first = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    events, partition = Identifier(schema, "events"), Identifier(schema, partition_name(day))
    with connection.transaction():
        take_lock(connection)
        if has_partition(connection, schema, day):
            return
        taken = "SELECT to_regclass(%s) IS NOT NULL OR to_regtype(%s) IS NOT NULL"
        name = quoted(connection, schema, partition_name(day))
        if connection.execute(taken, [name, name]).fetchall() == [(True,)]:
            raise ForeignObjectError(
                f"{schema}.{partition_name(day)} is there and not a month of {schema}.events: attach or rename it"
            )
        # What a user added to the table: PostgreSQL attaches no partition that lacks it.
        as_table = "INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION"
        connection.execute(SQL("CREATE TABLE {} (LIKE {} " + as_table + ")").format(partition, events))
        # Without it, PostgreSQL refuses DELETE in a table whose deletes are published. Other tables lose nothing by it.
        connection.execute(SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(partition))
        connection.execute(
            SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                events, partition, Literal(first), Literal(next_first)
            )
        )
        forget_files(connection, schema, first, next_first)  # a month that was dropped has no rows of them any more


def forget_files(connection: Connection, schema: str, first: date, end: date) -> None:
    """Which files of the days before `end` were loaded."""
    for table in (CLOSED_FILES, LOADED_FILES):
        if has_table(connection, schema, table):
            days = SQL("DELETE FROM {} WHERE event_date >= %s AND event_date < %s").format(Identifier(schema, table))
            connection.execute(days, [first, end])


def make_loaded_files(connection: Connection, schema: str) -> None:
    """Errors: ForeignObjectError."""
    definition = (
        "(file text PRIMARY KEY, etag text NOT NULL, event_date date NOT NULL, loaded_at timestamptz DEFAULT now())"
    )
    comment = "Files of the lake that load_postgres has loaded whole (bird-webhooks)"
    make_own_table(connection, schema, LOADED_FILES, definition, comment)


def make_closed_files(connection: Connection, schema: str) -> None:
    """Errors: ForeignObjectError."""
    definition = "(file text PRIMARY KEY, event_date date NOT NULL, rows bigint NOT NULL)"
    make_own_table(connection, schema, CLOSED_FILES, definition, CLOSED_FILES_COMMENT)


def make_own_table(connection: Connection, schema: str, name: str, definition: str, comment: str) -> None:
    """Create a table beside `events`, unless it exists. `definition` is what follows its name; `{table}` in it is that.

    Errors: ForeignObjectError, if what has the name is not ours, by its comment.
    """
    if has_table(connection, schema, name):
        named = quoted(connection, schema, name)
        if connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [named]).fetchall() != [
            (comment,)
        ]:
            raise ForeignObjectError(f"{schema}.{name} is there and not of this application: rename it")
        return
    with connection.transaction():
        take_lock(connection)
        if has_table(connection, schema, name):
            return
        statements = SQL("CREATE TABLE {table} " + definition + "; COMMENT ON TABLE {table} IS {comment}")
        connection.execute(statements.format(table=Identifier(schema, name), comment=Literal(comment)))


def has_table(connection: Connection, schema: str, name: str) -> bool:
    """By what is committed: to_regclass may remember for a transaction that there was no such table."""
    sql = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relname = %s"
    return bool(connection.execute(sql, [quoted(connection, schema), name]).fetchall()[0][0])


def partition_name(day: date) -> str:
    return f"events_{day:%Y_%m}"


# Of all partitions but those of the month's own name, because reading a bound takes longer than finding a name.
COVERING = r"""
WITH partitions AS (
  SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = to_regclass(%(events)s) AND NOT i.inhdetachpending
    AND (NOT %(named)s OR c.oid = to_regclass(%(month)s))
)
SELECT count(*) FROM partitions WHERE bound <> 'DEFAULT'
  AND replace(substring(bound FROM 'FROM \(''?(\w[-\w]*)'), 'MINVALUE', '-infinity')::date <= %(day)s
  AND replace(substring(bound FROM 'TO \(''?(\w[-\w]*)'), 'MAXVALUE', 'infinity')::date > %(day)s"""


def has_partition(connection: Connection, schema: str, day: date) -> bool:
    names = {"events": quoted(connection, schema, "events"), "month": quoted(connection, schema, partition_name(day))}
    return any(
        connection.execute(COVERING, {**names, "named": named, "day": day}).fetchall()[0][0] for named in (True, False)
    )


def apply_views(connection: Connection, schema: str, sql: str) -> bool:
    """Run `sql` with the schema as its search path, unless it ran last and its views are there. Returns whether it ran.

    Each part of it, up to a semicolon and a blank line, has a transaction of its own: one that replaced several views
    would deadlock with a reader of two. The table's comment, written last, holds the digest of what ran.
    Errors: ForeignObjectError (what has the name of a view is not ours; nothing is changed), psycopg.Error.
    """
    if not sql.strip():
        return False
    events = Identifier(schema, "events")
    applied = f"{OURS} Applied views: {hashlib.sha256(sql.encode()).hexdigest()}"
    views = VIEW.findall(sql)
    last, existing = table_comment(connection, schema), views_there(connection, schema, views)
    if last == applied and len(existing) == len(views):
        return False
    made_by_older_release = f"{OURS} Views: " in last
    for name, is_view, view_comment in existing:
        if not (is_view and (made_by_older_release or view_comment.endswith(OUR_VIEW))):
            raise ForeignObjectError(f"{schema}.{name} is there and not a view of this application: rename it")

    def run(statement: bytes | Composed) -> None:
        take_lock(connection)
        connection.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(schema)))
        connection.execute(statement)

    for part in re.split(r"(?<=;)\n\n", sql):
        with_short_locks(connection, partial(run, part.encode()))
    with_short_locks(connection, partial(run, SQL("COMMENT ON TABLE {} IS {}").format(events, Literal(applied))))
    return True


def table_comment(connection: Connection, schema: str) -> str:
    sql = "SELECT COALESCE(obj_description(to_regclass(%s), 'pg_class'), '')"
    return str(connection.execute(sql, [quoted(connection, schema, "events")]).fetchall()[0][0])


def views_there(connection: Connection, schema: str, names: list[str]) -> list[tuple[str, bool, str]]:
    """Name, whether it is a view, and comment of whatever has one of the names."""
    sql = """
        SELECT relname, relkind = 'v', COALESCE(obj_description(oid, 'pg_class'), '') FROM pg_class
        WHERE relnamespace = to_regnamespace(%s) AND relname = ANY(%s)"""
    return [(str(n), bool(v), str(c)) for n, v, c in connection.execute(sql, [quoted(connection, schema), names])]


def take_lock(connection: Connection) -> None:
    """Hold the lock until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def quoted(connection: Connection, *names: str) -> str:
    return Identifier(*names).as_string(connection)
