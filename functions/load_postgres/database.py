"""The connection: made from the secret, over TLS, kept between invocations, and replaced when it is lost."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from load_postgres import ownership, retention, table, upkeep
from load_postgres import schema as tables
from load_postgres.connection import parameters
from load_postgres.errors import ForeignObjectError, NotNowError, PoisonError, UnavailableError
from load_postgres.rows import ParquetRows, Rows
from load_postgres.schema import Connection

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

MIN_SERVER_VERSION = 150000  # NULLS NOT DISTINCT
# The last line undoes what a role may have set: the bounds of partitions are read in ISO, PostgreSQL refuses a
# partitioned table in a tablespace that is named though it is the database's own, and a backslash means itself.
SESSION = """
SET statement_timeout = '60s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s';
SET idle_session_timeout = '10min'; SET client_encoding = 'UTF8';
SET datestyle = 'ISO'; SET default_tablespace = ''; SET standard_conforming_strings = on"""
# These may succeed when tried again at once; the last one after another loader has just replaced the index.
RETRYABLE = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.InvalidColumnReference,
)

# What a kept connection cannot go on with: the server is a standby since, or the table was dropped, which a new
# connection makes again.
OUTDATED = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
)

VIEW_PARAMETERS: Mapping[str, str] = {"SoftBounceLimit": "5", "SoftBounceDays": "30"}  # the template's defaults


@dataclass
class Database:
    """`verify`: whether the server's certificate must be signed by a known authority and name its host.

    `retention_months`: how many months before the current one the table keeps; 0 - all.
    """

    read_secret: Callable[[], Mapping[str, Any]]
    schema: str
    verify: bool
    view_parameters: Mapping[str, str] = field(default_factory=lambda: VIEW_PARAMETERS)
    retention_months: int = 0
    _secret: Mapping[str, Any] | None = None
    _connection: Connection | None = None

    def load(
        self,
        event_date: date,
        rows: Rows | ParquetRows,
        quarantine: table.Quarantine = table.fail_on_rejected,
        mark: table.Mark | None = None,
    ) -> table.Loaded:
        """`quarantine` takes the rows that PostgreSQL refuses. Errors: PoisonError, NotNowError."""
        kept = self.retention()
        loaded = self._retried(lambda to: table.load(to, self.schema, event_date, rows, quarantine, kept, mark))
        refuse_hidden(loaded)
        return loaded

    def is_loaded(self, event_date: date, mark: table.Mark) -> bool:
        """Whether all rows of the file with this content are in the table. Errors: PoisonError, NotNowError."""
        return self._retried(lambda to: table.is_loaded(to, self.schema, event_date, mark, self.retention()))

    def position(self, event_date: date, file: str, *, again: int = 0) -> int:
        """How many rows of a closed file are loaded. Errors: PoisonError, NotNowError."""
        return self._retried(
            lambda to: table.position(to, self.schema, event_date, file, self.retention(), again=again)
        )

    def load_part(
        self, part: table.Part, rows: Rows | ParquetRows, quarantine: table.Quarantine
    ) -> tuple[int, table.Loaded]:
        """See table.load_part. Errors: PoisonError, NotNowError."""

        def in_one_transaction(connection: Connection) -> tuple[int, table.Loaded]:
            with connection.transaction():
                position, loaded = table.load_part(connection, self.schema, part, rows, quarantine, self.retention())
                refuse_hidden(loaded)
            return position, loaded

        return self._retried(in_one_transaction)

    def write_verdicts(self, verdicts: Sequence[Mapping[str, Any]]) -> None:
        """Each in place of the one of its hour and type. Errors: PoisonError, NotNowError."""
        self._retried(lambda to: replace_verdicts(to, self.schema, verdicts))

    def retention(self) -> retention.Retention:
        today = datetime.now(UTC).date()
        days = int(self.view_parameters["SoftBounceDays"])
        return retention.Retention(retention.first_day(self.retention_months, days, today), today)

    def drop_months(self, seconds: float) -> int:
        """Drop the months before those that the retention keeps. Returns how many are left.

        Errors: PoisonError, NotNowError.
        """
        if not self.retention_months:
            return 0
        kept_from = self.retention().kept_from
        return self._retried(lambda to: retention.drop_months(to, self.schema, kept_from, seconds))

    def keep_up(self, seconds: float) -> None:
        """Replace an older version's indexes, vacuum and analyze. All of it can wait, so errors are only logged."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        try:
            upkeep.keep_up(connection, self.schema, seconds)
        except psycopg.Error as error:
            logger.warning("upkeep not finished", extra={"reason": described(error)})

    def _retried[T](self, action: Callable[[Connection], T]) -> T:
        try:
            return action(self._connected())
        except psycopg.Error as error:
            # A kept connection may have been closed long ago or lead to what is a standby since, and after a deadlock
            # the other side has finished.
            if isinstance(error, OUTDATED):
                self.close()
            if not (self._is_lost() or isinstance(error, RETRYABLE)):
                raise classified(error) from None
        try:
            return action(self._connected())
        except psycopg.Error as error:
            raise classified(error) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.closed

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = self._connect()
            try:
                prepare(connection, self.schema, self.view_parameters)
            except UnavailableError:
                connection.close()
                raise
            except psycopg.Error as error:
                connection.close()
                raise UnavailableError(f"the table was not prepared: {described(error)}") from None
            self._connection = connection
        return self._connection

    def _connect(self) -> Connection:
        """Errors: UnavailableError."""
        known, self._secret = self._secret, self._secret or self.read_secret()
        try:
            return connect(self._secret, verify=self.verify)
        except psycopg.Error as error:
            # The password may have changed since. libpq has no error code for that, so read the secret after any error.
            fresh = self.read_secret() if known else self._secret
            if fresh == self._secret:
                raise UnavailableError(f"no connection: {one_line(error)}") from None
        self._secret = fresh
        try:
            return connect(fresh, verify=self.verify)
        except psycopg.Error as error:
            raise UnavailableError(f"no connection: {one_line(error)}") from None


def replace_verdicts(connection: Connection, schema: str, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Whole hours: a cell that is not among them any more is gone, such as that of all types together."""
    if not verdicts:
        return
    columns = sorted(verdicts[0])
    name = Identifier(schema, "verdicts")
    with connection.transaction():
        connection.execute(
            SQL("DELETE FROM {} WHERE hour = ANY(%s::timestamp[])").format(name),
            [sorted({v["hour"] for v in verdicts})],
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    name, SQL(", ").join(map(Identifier, columns)), SQL(", ").join([SQL("%s")] * len(columns))
                ),
                [[verdict[column] for column in columns] for verdict in verdicts],
            )


def refuse_hidden(loaded: table.Loaded) -> None:
    if loaded.hidden:
        raise NotNowError(f"another account has {loaded.hidden} of its ids: it waits until the index is replaced")


def connect(secret: Mapping[str, Any], *, verify: bool) -> Connection:
    """Errors: psycopg.Error, UnavailableError (the secret lacks something)."""
    return psycopg.connect(
        **parameters(secret, verify=verify),
        # Not into a standby, nor by an endpoint that still resolves to the writer from before a failover.
        target_session_attrs="read-write",
        application_name="bird-webhooks",
        keepalives_idle=30,
        tcp_user_timeout=30_000,
        autocommit=True,
    )


def prepare(connection: Connection, schema: str, view_parameters: Mapping[str, str]) -> None:
    """Once for each connection: set the session's limits, then prepare the table and the views."""
    if connection.info.server_version < MIN_SERVER_VERSION:
        raise UnavailableError(f"PostgreSQL 15 or later is needed, this is {connection.info.server_version // 10000}")
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise UnavailableError(f"the database's encoding must be UTF8, it is {encoding}")
    connection.execute(SESSION)
    ownership.take_role(connection, schema)
    try:
        tables.prepare(connection, schema)
        retention.make_tables(connection, schema)
    except ForeignObjectError as error:
        raise UnavailableError(str(error)) from None
    connection.execute(table.AS_JSONB)
    try:
        tables.apply_views(connection, schema, tables.views_sql(view_parameters))
    except (psycopg.Error, ForeignObjectError) as error:
        # Rows matter more than views. If the connection is lost, the next statement fails.
        reason = described(error) if isinstance(error, psycopg.Error) else str(error)
        logger.error("views not applied", extra={"reason": reason})


def classified(error: psycopg.Error) -> PoisonError | NotNowError:
    if isinstance(error, table.PERMANENT_ERRORS) and not table.is_missing_partition(error):
        return PoisonError(f"PostgreSQL refused the rows: {described(error)}")
    if error.sqlstate is None or isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown):
        return UnavailableError(f"the connection was lost: {type(error).__name__}")
    return NotNowError(f"PostgreSQL did not load the file: {described(error)}")


def described(error: psycopg.Error) -> str:
    """The error's type and place, without its text, which may hold a value."""
    place = re.search(r"line \d+(, column \w+)?", error.diag.context or "")
    names = [error.diag.table_name, error.diag.constraint_name or error.diag.column_name]
    details = [place[0] if place else "", ".".join(name for name in names if name)]
    return ", ".join([f"{type(error).__name__} ({error.sqlstate})", *filter(None, details)])


def one_line(error: psycopg.Error) -> str:
    """libpq's own text, which names host and role but neither password nor data."""
    return " ".join(str(error).split())[:500]
