"""What the table needs beside its rows. It may wait, so it happens at the end of invocations that have time left.

Indexes of older versions are replaced month by month while loads go on: each month's new index is built CONCURRENTLY
and attached, then the old one is dropped. Months that are over are vacuumed once more: autovacuum waits until a fifth
of a table has changed, which does not happen any more. The table itself is analyzed, which autovacuum never does with a
partitioned table: https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-STATISTICS
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from load_postgres.identity import OLD_INDEX, has_index
from load_postgres.schema import IDENTITY_INDEX, INDEXES, LOADED_FILES, LOCK, Connection, partition_name, quoted

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# An index that was dropped by hand stays dropped: its successors are built only where the older one is.
ADDRESS_INDEXES = ("events_suppression", "events_address")
REPLACED = {
    OLD_INDEX: (IDENTITY_INDEX,),
    "events_campaign_id": ("events_campaign",),
    "events_type": ("events_type_date",),
    "events_rcpt_to": ADDRESS_INDEXES,
    "events_recipient": ADDRESS_INDEXES,
}
# While this waits for the parent's lock, all other sessions queue behind it.
LOCK_TIMEOUT = "2s"
MIN_SECONDS = 20
# Indexes and months, so that one that cannot be built is tried once as long as the execution environment lives.
TOO_LONG: set[tuple[str, str]] = set()
ANALYZE_AFTER = timedelta(days=7)
# A message is in the queue for 14 days at most, and as long in the dead-letter queue.
OLD_MARKS = "DELETE FROM {} WHERE loaded_at < now() - interval '30 days'"
LATE_EVENTS = timedelta(days=2)  # a month is over when it has been for this long


def keep_up(connection: Connection, schema: str, seconds: float, now: datetime | None = None) -> None:
    """Do as much as `seconds` allow, one loader at a time. Errors: psycopg.Error (the next call continues)."""
    ends = time.monotonic() + seconds
    now = now or datetime.now(UTC)
    older = [old for old in REPLACED if has_index(connection, schema, old)]
    analyzed = last_analyzed(connection, schema)
    if not older and analyzed and now - analyzed < ANALYZE_AFTER:
        return
    [[mine]] = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK + 1]).fetchall()
    if not mine:
        return
    try:
        for old in older:
            replace_index(connection, schema, old, ends)
        make_deletable(connection, schema)
        tend_statistics(connection, schema, ends, now)
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK + 1])


def replace_index(connection: Connection, schema: str, old: str, ends: float) -> None:
    for new in REPLACED[old]:
        if not index_state(connection, schema, new):
            with limits(connection, lock=LOCK_TIMEOUT):
                connection.execute(index(schema, new, new, "events", only=True))
        for month in remaining_months(connection, schema, new):
            left = ends - time.monotonic()
            if left < MIN_SECONDS:
                return
            if not built(connection, schema, new, month, left):
                return
            logger.info("index of a month replaced", extra={"month": month, "index": new})
    if all(index_state(connection, schema, new) == "valid" for new in REPLACED[old]):
        with limits(connection, lock=LOCK_TIMEOUT):
            connection.execute(SQL("DROP INDEX {}").format(Identifier(schema, old)))
        logger.info("index of the table replaced", extra={"index": old})


def make_deletable(connection: Connection, schema: str) -> None:
    """Give months of older versions the replica identity without which DELETE is refused once they are published."""
    sql = r"""
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(%s) AND c.relname ~ '^events_\d{4}_\d{2}$' AND c.relreplident = 'd'"""
    for (month,) in connection.execute(sql, [quoted(connection, schema, "events")]).fetchall():
        with limits(connection, lock=LOCK_TIMEOUT):
            connection.execute(SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(Identifier(schema, month)))


def last_analyzed(connection: Connection, schema: str) -> datetime | None:
    sql = "SELECT last_analyze FROM pg_stat_all_tables WHERE relid = to_regclass(%s)"
    found = connection.execute(sql, [quoted(connection, schema, "events")]).fetchall()
    return found[0][0] if found else None


def tend_statistics(connection: Connection, schema: str, ends: float, now: datetime) -> None:
    """Vacuum the months that are over and have changed since they last were, then analyze the table.

    Files that nothing announces again are forgotten.
    """
    with limits(connection, lock=LOCK_TIMEOUT):
        connection.execute(SQL(OLD_MARKS).format(Identifier(schema, LOADED_FILES)))
    for month in unvacuumed_months(connection, schema, partition_name((now - LATE_EVENTS).date())):
        left = ends - time.monotonic()
        if left < MIN_SECONDS:
            return
        with limits(connection, statement=f"{left:.0f}s", lock=LOCK_TIMEOUT):
            connection.execute(SQL("VACUUM (FREEZE, ANALYZE) {}").format(Identifier(schema, month)))
        logger.info("month vacuumed", extra={"month": month})
    left = ends - time.monotonic()
    if left >= MIN_SECONDS:
        with limits(connection, statement=f"{left:.0f}s", lock=LOCK_TIMEOUT):
            connection.execute(SQL("ANALYZE {}").format(Identifier(schema, "events")))
        logger.info("table analyzed")


def unvacuumed_months(connection: Connection, schema: str, before: str) -> list[str]:
    """Our partitions of months before the one of that name, that have changes since they were vacuumed."""
    sql = r"""
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        JOIN pg_stat_all_tables s ON s.relid = c.oid
        WHERE i.inhparent = to_regclass(%s) AND c.relname ~ '^events_\d{4}_\d{2}$' AND c.relname < %s
          AND (s.n_ins_since_vacuum > 0 OR s.n_dead_tup > 0)
        ORDER BY c.relname"""
    return [name for (name,) in connection.execute(sql, [quoted(connection, schema, "events"), before])]


def remaining_months(connection: Connection, schema: str, new: str) -> list[str]:
    """The partitions whose new index is not attached yet, smallest first."""
    sql = """
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(%s) AND c.relnamespace = to_regnamespace(%s) AND NOT EXISTS (
            SELECT FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid
            WHERE x.indrelid = c.oid AND xi.inhparent = to_regclass(%s))
        ORDER BY c.relpages, c.relname"""
    names = [quoted(connection, schema, "events"), quoted(connection, schema)]
    return [name for (name,) in connection.execute(sql, [*names, quoted(connection, schema, new)])]


def built(connection: Connection, schema: str, new: str, month: str, seconds: float) -> bool:
    """False if a value of the month is too long for the index, which the older one did not have: that one stays."""
    if (new, month) in TOO_LONG:
        return False
    try:
        build(connection, schema, new, month, seconds)
    except psycopg.errors.ProgramLimitExceeded:
        TOO_LONG.add((new, month))
        logger.error("a value is too long for an index", extra={"month": month, "index": new})
        return False
    return True


def build(connection: Connection, schema: str, new: str, month: str, seconds: float) -> None:
    """Build one month's index while loads go on, unless one was built by hand under this name; then attach it."""
    name = f"{month}_{new.removeprefix('events_')}"
    with limits(connection, statement=f"{seconds:.0f}s", lock="0"):
        state = index_state(connection, schema, name)
        if state == "invalid":  # an attempt was interrupted
            connection.execute(SQL("DROP INDEX CONCURRENTLY {}").format(Identifier(schema, name)))
        if state != "valid":
            connection.execute(index(schema, new, name, month, concurrently=True))
    with limits(connection, lock=LOCK_TIMEOUT):
        connection.execute(
            SQL("ALTER INDEX {} ATTACH PARTITION {}").format(Identifier(schema, new), Identifier(schema, name))
        )


def index(schema: str, kind: str, name: str, table: str, *, only: bool = False, concurrently: bool = False) -> Composed:
    on = SQL("ONLY {}" if only else "{}").format(Identifier(schema, table))
    given = SQL("CONCURRENTLY {}" if concurrently else "{}").format(Identifier(name))
    return SQL("CREATE " + INDEXES[kind]).format(name=given, events=on)


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
