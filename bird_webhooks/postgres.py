"""The way to the PostgreSQL that a stack loads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bird_webhooks.errors import OperateError, PostgresError
from bird_webhooks.stack import Stack
from load_postgres import connection
from load_postgres.errors import UnavailableError


def connection_string(stack: Stack, where: str) -> str:
    """What psycopg connects with. `where`: a connection string, or the name or ARN of a secret as load_postgres has.

    The server of a secret has to prove who it is, as the stack's function asks of it. Errors: OperateError.
    """
    if not where.startswith("arn:") and ("=" in where or "://" in where or not where):
        return connection.guarded(where)
    try:
        secret = connection.settings_of(stack.secret_text(where))
        return make_conninfo(**connection.parameters(secret, verify=verifies_server(stack)))
    except UnavailableError as error:
        raise OperateError(str(error)) from error


def verifies_server(stack: Stack) -> bool:
    """Unless the stack says otherwise; where there is no stack to ask, the server has to prove who it is."""
    try:
        return not stack.name or stack.parameters.get("PostgresTls") != "REQUIRE"
    except OperateError:
        return True


@contextmanager
def connected(stack: Stack, where: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection, committed at the end of the block, rolled back after an error. `options` are psycopg's.

    Errors: OperateError as above; PostgresError for what the server refuses, in the block too.
    """
    given = connection_string(stack, where)
    try:
        with psycopg.connect(given, **options) as opened:
            yield opened
    except psycopg.Error as error:
        raise PostgresError(f"PostgreSQL: {error.diag.message_primary or error}") from error
