"""The SQL of this project in two engines of this process's own: DuckDB, in the place of Athena, and PostgreSQL."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from string import Template
from typing import Any

import duckdb
import psycopg
from psycopg.sql import SQL, Identifier

from load_postgres import retention
from local_aws import postgres as local_postgres
from local_aws.postgres import Postgres
from maintain.generate import sql
from maintain.generate.columns import view_sql
from process.columns import COLUMNS
from process.layouts import Layouts
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_parquet

RULE = {"SoftBounceLimit": "5", "SoftBounceDays": "30"}
POSTGRES_TYPES = {
    "TEXT": "text",
    "JSON": "jsonb",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamptz",
}
EPOCH = date(1970, 1, 1)


@contextmanager
def in_duckdb(batches: Iterable[list[dict[str, Any]]], folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The table and the views over the files that process writes, one a day of each batch."""
    layouts, now = Layouts(), int(time.time())
    for number, events in enumerate(batches):
        body, gathered = json.dumps(events).encode(), Rows(layouts)
        gathered.add(StoredBatch(f"batch-{number}", f"raw/batch-{number}.json", (now + number) * 1000, body))
        for day, table, _ in gathered.take_days():
            partition = folder / f"event_date={EPOCH + timedelta(days=day)}"
            partition.mkdir(exist_ok=True)
            (partition / f"{number}.parquet").write_bytes(to_parquet(table))
    with duckdb.connect() as connection:
        connection.execute("SET timezone TO 'UTC'")
        files = f"read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
        connection.execute(f"CREATE VIEW events AS SELECT * FROM {files}")  # noqa: S608
        connection.execute(f"CREATE VIEW events_deduplicated AS {view_sql(csv=False)}")
        connection.execute(sql.VERDICTS)
        for view in sql.views():
            connection.execute(f"CREATE VIEW {view.name} AS {Template(view.sql).substitute(RULE)}")
        yield connection


@contextmanager
def in_postgres(rows: duckdb.DuckDBPyConnection) -> Iterator[tuple[psycopg.Connection[Any], Postgres]]:
    """The same rows in a server of its own, in a table that holds each once, with its views."""
    definitions = [SQL("{} {}").format(Identifier(c.name), SQL(POSTGRES_TYPES[c.type])) for c in COLUMNS]
    found = rows.execute("SELECT * FROM events_deduplicated")
    names = SQL(", ").join(Identifier(column[0]) for column in found.description)
    with local_postgres.running() as server, server.connect() as connection:
        connection.execute("CREATE SCHEMA bird; SET search_path TO bird; SET timezone TO 'UTC'")
        connection.execute(SQL("CREATE TABLE events ({}, event_date date)").format(SQL(", ").join(definitions)))
        with connection.cursor().copy(SQL("COPY events ({}) FROM STDIN").format(names)) as copy:
            for row in found.fetchall():
                copy.write_row(row)
        retention.make_tables(connection, "bird")
        make_views(connection)
        yield connection, server


def make_views(connection: psycopg.Connection[Any], **rule: int) -> None:
    connection.execute(Template(sql.POSTGRES_VIEWS.read_text()).substitute(RULE | rule).encode())
