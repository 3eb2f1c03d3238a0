"""Rows of one file -> the table, in one transaction: all of them, or none; those that are there already are left."""

from datetime import date
from typing import NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from load_postgres.errors import NotNowError
from load_postgres.rows import Rows
from load_postgres.schema import IDENTITY, ORDER, STAGING, Connection, columns, make_partition

# JSON that jsonb does not take: a NUL is written as six characters, as it is in text columns; whatever else it is (half
# a surrogate pair, a number of a million digits) becomes a JSON string with the text as it came.
AS_JSONB = r"""
CREATE OR REPLACE FUNCTION pg_temp.bird_as_jsonb(value text) RETURNS jsonb LANGUAGE plpgsql STRICT AS $$
BEGIN
  RETURN regexp_replace(value, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\\\u0000', 'g')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN to_jsonb(value);
END $$"""


class Loaded(NamedTuple):
    """How many rows a file had, and how many of them were new."""

    rows: int
    new: int


def load(connection: Connection, schema: str, event_date: date, rows: Rows) -> Loaded:
    """Errors: NotNowError, psycopg.Error."""
    known = {column.name for column in columns()}
    if unknown := [name for name in rows.columns if name not in known]:
        # While an update is under way, process may know columns that this function does not.
        raise NotNowError(f"a newer version wrote the file: {len(unknown)} columns are not known here")
    make_partition(connection, schema, event_date)
    with connection.transaction():
        count = copy(connection, rows)
        try:
            with connection.transaction():
                new = insert(connection, schema, event_date, rows, SQL("{}::jsonb"))
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex):
            connection.execute(AS_JSONB)
            new = insert(connection, schema, event_date, rows, SQL("pg_temp.bird_as_jsonb({})"))
    return Loaded(count, new)


def copy(connection: Connection, rows: Rows) -> int:
    names = SQL(", ").join(map(Identifier, rows.columns))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL {})").format(STAGING, names, Literal(rows.null))
    cursor = connection.cursor()
    with cursor.copy(statement) as to_server:
        to_server.write(rows.copy_data)
    return cursor.rowcount


def insert(connection: Connection, schema: str, event_date: date, rows: Rows, as_jsonb: SQL) -> int:
    json_columns = {column.name for column in columns() if column.type == "jsonb"}
    names = {name: Identifier(name) for name in rows.columns}
    values = [as_jsonb.format(column) if name in json_columns else column for name, column in names.items()]
    statement = SQL(
        "INSERT INTO {} ({}, event_date) SELECT {}, {} FROM {} ORDER BY {} ON CONFLICT ({}) DO NOTHING"
    ).format(
        Identifier(schema, "events"),
        SQL(", ").join(names.values()),
        SQL(", ").join(values),
        SQL("{}::date").format(Literal(event_date)),
        STAGING,
        ORDER,
        IDENTITY,
    )
    return connection.execute(statement).rowcount
