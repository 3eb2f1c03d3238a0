"""The table `events` with its indexes and partitions: created on first use, extended when the list of columns grows.

Each change holds an advisory lock, so that loaders that start together make it one after the other. It needs only the
right to create in the schema (or in the database, if the schema must be created too).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

type Connection = psycopg.Connection[tuple[Any, ...]]

LOCK = 0x62697264  # "bird"
HERE = Path(__file__).parent
STAGING = Identifier("bird_staging")
# How far each closed file was loaded: many messages may ask for one, and one may take longer than an invocation.
CLOSED_FILES = "closed_files_loaded"
IDENTITY_INDEX = "events_account_identity"
# Each index takes about a tenth of a load's time.
INDEXES = {
    # Keeps an event from being inserted twice; also finds it by its id. A missing type or account is its own value.
    IDENTITY_INDEX: (
        "UNIQUE INDEX {name} ON {events} (event_key, type, event_class, customer_id, event_date) NULLS NOT DISTINCT"
    ),
    # Everything about one address, as the views ask for it.
    "events_recipient": "INDEX {name} ON {events} (lower(COALESCE(NULLIF(rcpt_to, ''), raw_rcpt_to)))",
    # The timeline of a message.
    "events_message_id": "INDEX {name} ON {events} (message_id)",
    # A campaign's figures.
    "events_campaign_id": "INDEX {name} ON {events} (campaign_id)",
    # The few bounces, complaints and unsubscribes among all events, from which the suppression list is made.
    "events_type": "INDEX {name} ON {events} (type)",
    # A few days of a month. Rows arrive roughly in the order of time, so a BRIN index stays tiny.
    "events_time": "INDEX {name} ON {events} USING brin (event_date, timestamp)",
}


class Column(NamedTuple):
    name: str
    type: str
    comment: str


@cache
def columns() -> tuple[Column, ...]:
    """The copy of functions/process/columns.py that `make generate` writes, with PostgreSQL's types."""
    return tuple(Column(*column) for column in json.loads((HERE / "columns.json").read_text()))


def views_sql(parameters: Mapping[str, str]) -> str:
    """views.sql with each `${Name}` replaced; '' if there is no such file."""
    path = HERE / "views.sql"
    text = path.read_text() if path.exists() else ""
    return re.sub(r"\$\{(\w+)\}", lambda found: parameters[found[1]], text)


def prepare(connection: Connection, schema: str) -> None:
    """Create whatever is missing: schema, table, indexes, columns, and this session's staging table."""
    wanted = {column.name for column in columns()}
    if not wanted <= existing_columns(connection, schema):
        with connection.transaction():
            take_lock(connection)
            found = existing_columns(connection, schema)
            if not found:
                make_table(connection, schema)
            elif missing := [column for column in columns() if column.name not in found]:
                add_columns(connection, schema, missing)
    # JSON is text in the staging table: the insertion handles what jsonb does not accept.
    staged = [
        SQL("{} {}").format(Identifier(column.name), SQL("text" if column.type == "jsonb" else column.type))
        for column in columns()
    ]
    connection.execute(
        SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            STAGING, SQL(", ").join(staged)
        )
    )


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
    """Create the partition for the day's month, unless it exists.

    It is created as a table and then attached, because CREATE TABLE … PARTITION OF would wait for all running queries.
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
        connection.execute(SQL("CREATE TABLE {} (LIKE {})").format(partition, events))
        connection.execute(
            SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                events, partition, Literal(first), Literal(next_first)
            )
        )
        # A month that was dropped has no rows of them any more.
        if has_table(connection, schema, CLOSED_FILES):
            connection.execute(
                SQL("DELETE FROM {} WHERE event_date >= {} AND event_date < {}").format(
                    Identifier(schema, CLOSED_FILES), Literal(first), Literal(next_first)
                )
            )


def make_closed_files(connection: Connection, schema: str) -> None:
    """Create the table of closed files, unless it exists."""
    if has_table(connection, schema, CLOSED_FILES):
        return
    with connection.transaction():
        take_lock(connection)
        connection.execute(
            SQL(
                "CREATE TABLE IF NOT EXISTS {table} "
                "(file text PRIMARY KEY, event_date date NOT NULL, rows bigint NOT NULL); "
                "COMMENT ON TABLE {table} IS 'How many rows of each closed file of the lake load_postgres has loaded'"
            ).format(table=Identifier(schema, CLOSED_FILES))
        )


def has_table(connection: Connection, schema: str, name: str) -> bool:
    return bool(
        connection.execute("SELECT to_regclass(%s) IS NOT NULL", [quoted(connection, schema, name)]).fetchall()[0][0]
    )


def partition_name(day: date) -> str:
    return f"events_{day:%Y_%m}"


def has_partition(connection: Connection, schema: str, day: date) -> bool:
    sql = "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(%s) AND inhrelid = to_regclass(%s)"
    names = [quoted(connection, schema, "events"), quoted(connection, schema, partition_name(day))]
    return bool(connection.execute(sql, names).fetchall()[0][0])


def apply_views(connection: Connection, schema: str, sql: str) -> bool:
    """Run `sql` in one transaction with the schema as its search path, unless it ran last. Returns whether it ran.

    The table's comment holds the digest of what ran last.
    """
    if not sql.strip():
        return False
    events = Identifier(schema, "events")
    applied = f"Bird's email events, loaded by bird-webhooks. Views: {hashlib.sha256(sql.encode()).hexdigest()}"
    last = "SELECT obj_description(to_regclass(%s), 'pg_class')"
    about = [quoted(connection, schema, "events")]
    if connection.execute(last, about).fetchall() == [(applied,)]:
        return False
    with connection.transaction():
        take_lock(connection)
        if connection.execute(last, about).fetchall() == [(applied,)]:
            return False
        connection.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(schema)))
        connection.execute(sql.encode())
        connection.execute(SQL("COMMENT ON TABLE {} IS {}").format(events, Literal(applied)))
    return True


def take_lock(connection: Connection) -> None:
    """Hold the lock until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def quoted(connection: Connection, *names: str) -> str:
    return Identifier(*names).as_string(connection)
