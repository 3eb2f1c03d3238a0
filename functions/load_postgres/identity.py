"""What makes two rows the same event, and the unique index for it, which is replaced in tables of an older version.

Since 0.3 the account is part of the identity. An older table has an index without the account, which rejects a second
account's event with the same id. It is replaced month by month while loads go on: each month's new index is built
CONCURRENTLY and attached, then the old one is dropped. Until then the old index decides which rows exist already (it is
stricter, so nothing is inserted twice), and a file with an event that it rejects waits for the new one.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

from psycopg.sql import SQL, Composed, Identifier, Literal

from load_postgres.schema import IDENTITY_INDEX, INDEXES, LOCK, Connection, quoted

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

OLD_INDEX = "events_identity"
COLUMNS = SQL("event_key, type, event_class, customer_id, event_date")
OLD_COLUMNS = SQL("event_key, type, event_class, event_date")
# One file has one event_date, and process sorts by type and time, so nearly all rows are in this order already.
# The order does not depend on the file, so two loaders with events in common can wait but never deadlock.
ORDER = SQL("type, timestamp, event_class, event_key, customer_id")
# While this waits for the parent's lock, all other sessions queue behind it.
LOCK_TIMEOUT = "2s"
MIN_SECONDS = 20


class Identity(NamedTuple):
    """`target` of ON CONFLICT, `order` of the insertion; `old`: the index does not distinguish accounts yet."""

    target: SQL
    order: SQL
    old: bool

    def hidden(self, connection: Connection, schema: str, source: Identifier, event_date: date) -> int:
        """How many rows of `source` are missing in the table after the insertion, rejected by the old index."""
        if not self.old:
            return 0
        sql = SQL(
            "SELECT count(*) FROM {} s WHERE s.event_key IS NOT NULL AND NOT EXISTS (SELECT FROM {} e WHERE "
            "e.event_date = {} AND e.event_key = s.event_key AND e.type IS NOT DISTINCT FROM s.type AND "
            "e.event_class IS NOT DISTINCT FROM s.event_class AND e.customer_id IS NOT DISTINCT FROM s.customer_id)"
        )
        [[count]] = connection.execute(sql.format(source, Identifier(schema, "events"), Literal(event_date))).fetchall()
        return int(count)


def identity_of(connection: Connection, schema: str) -> Identity:
    old = has_old_index(connection, schema)
    return Identity(OLD_COLUMNS if old else COLUMNS, ORDER, old)


def has_old_index(connection: Connection, schema: str) -> bool:
    sql = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(%s) AND indrelid = to_regclass(%s)"
    names = [quoted(connection, schema, OLD_INDEX), quoted(connection, schema, "events")]
    return bool(connection.execute(sql, names).fetchall()[0][0])


def replace(connection: Connection, schema: str, seconds: float) -> None:
    """Replace as much as `seconds` allow, one loader at a time. Errors: psycopg.Error (the next call continues)."""
    ends = time.monotonic() + seconds
    [[mine]] = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK + 1]).fetchall()
    if not mine:
        return
    try:
        if not index_state(connection, schema, IDENTITY_INDEX):
            with limits(connection, lock=LOCK_TIMEOUT):
                connection.execute(index(schema, IDENTITY_INDEX, "events", only=True))
        for month in remaining_months(connection, schema):
            left = ends - time.monotonic()
            if left < MIN_SECONDS:
                return
            build(connection, schema, month, left)
            logger.info("index of a month replaced", extra={"month": month})
        if index_state(connection, schema, IDENTITY_INDEX) == "valid":
            with limits(connection, lock=LOCK_TIMEOUT):
                connection.execute(SQL("DROP INDEX {}").format(Identifier(schema, OLD_INDEX)))
            logger.info("index of the table replaced")
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK + 1])


def remaining_months(connection: Connection, schema: str) -> list[str]:
    """The partitions whose new index is not attached yet, smallest first."""
    sql = """
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(%s) AND c.relnamespace = to_regnamespace(%s) AND NOT EXISTS (
            SELECT FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid
            WHERE x.indrelid = c.oid AND xi.inhparent = to_regclass(%s))
        ORDER BY c.relpages, c.relname"""
    names = [quoted(connection, schema, "events"), quoted(connection, schema)]
    return [name for (name,) in connection.execute(sql, [*names, quoted(connection, schema, IDENTITY_INDEX)])]


def build(connection: Connection, schema: str, month: str, seconds: float) -> None:
    """Build one month's index while loads go on, unless one was built by hand under this name; then attach it."""
    name = f"{month}_account_identity"
    with limits(connection, statement=f"{seconds:.0f}s", lock="0"):
        state = index_state(connection, schema, name)
        if state == "invalid":  # an attempt was interrupted
            connection.execute(SQL("DROP INDEX CONCURRENTLY {}").format(Identifier(schema, name)))
        if state != "valid":
            connection.execute(index(schema, name, month, concurrently=True))
    with limits(connection, lock=LOCK_TIMEOUT):
        connection.execute(
            SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
                Identifier(schema, IDENTITY_INDEX), Identifier(schema, name)
            )
        )


def index(schema: str, name: str, table: str, *, only: bool = False, concurrently: bool = False) -> Composed:
    on = SQL("ONLY {}" if only else "{}").format(Identifier(schema, table))
    given = SQL("CONCURRENTLY {}" if concurrently else "{}").format(Identifier(name))
    return SQL("CREATE " + INDEXES[IDENTITY_INDEX]).format(name=given, events=on)


def index_state(connection: Connection, schema: str, name: str) -> str:
    """`valid`, `invalid`, or '' if there is no such index."""
    sql = "SELECT CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END FROM pg_index WHERE indexrelid = to_regclass(%s)"
    found = connection.execute(sql, [quoted(connection, schema, name)]).fetchall()
    return str(found[0][0]) if found else ""


@contextmanager
def limits(connection: Connection, *, statement: str | None = None, lock: str) -> Iterator[None]:
    """Change the session's time limits for a block: SET LOCAL needs a transaction, which CONCURRENTLY refuses."""
    usual = connection.execute(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    ).fetchall()
    set_limits(connection, statement or usual[0][0], lock)
    try:
        yield
    finally:
        if not connection.closed:
            set_limits(connection, *usual[0])


def set_limits(connection: Connection, statement: str, lock: str) -> None:
    sql = "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)"
    connection.execute(sql, [statement, lock])
