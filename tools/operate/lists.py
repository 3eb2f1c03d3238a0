"""The view list_export as a CSV file, from Athena or from PostgreSQL, for the tools that import lists."""

import csv
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psycopg

from tools.local_query import written_out
from tools.operate.target import OperateError, Target, postgres_connection, say

COLUMNS = ("email", "subaccount_id", "reason", "description", "scope", "added_at")
BIRDS_COLUMNS = ("recipient", "type", "description")
# What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = tuple[str, ...]


def export(
    target: Target,
    *,
    output: Path | None,
    since: datetime | None,
    subaccount: str | None,
    bird: bool,
    postgres: str | None,
    schema: str,
) -> None:
    sql = statement(since, subaccount)
    rows = from_postgres(target, postgres, schema, sql) if postgres else from_athena(target, sql)
    if output is None:
        count = write(sys.stdout, rows, bird=bird)
    else:
        output.touch(mode=0o600)  # the addresses of people
        with output.open("w", encoding="utf-8", newline="") as file:
            count = write(file, rows, bird=bird)
    say(f"{count} addresses{f' in {output}' if output else ''}")
    if not postgres and "HashKeyArn" in target.outputs:
        say("without those that HashFields has made hashes of: find them in suppression_candidates")


def statement(since: datetime | None, subaccount: str | None) -> str:
    conditions = []
    if since:
        conditions.append(f"added_at >= timestamp '{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}'")
    if subaccount is not None:  # digits, as the command line sees to
        conditions.append(f"subaccount_id = '{subaccount}'")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {', '.join(COLUMNS)} FROM list_export{where} ORDER BY subaccount_id, email"  # noqa: S608


def write(file: IO[str], rows: Iterator[Row], *, bird: bool) -> int:
    """RFC 4180. How many addresses.

    An address is written as it is, even where a spreadsheet would take it for a formula: changed it suppresses nobody.
    """
    writer = csv.writer(file)
    writer.writerow(BIRDS_COLUMNS if bird else COLUMNS)
    count = formulas = 0
    for email, subaccount_id, reason, description, scope, added_at in rows:
        count += 1
        formulas += email.startswith(FORMULA)
        if not bird:
            writer.writerow([email, subaccount_id, reason, description, scope, added_at])
            continue
        writer.writerow([email, "non_transactional", description])
        if scope == "all":
            writer.writerow([email, "transactional", description])
    if formulas:
        say(f"{formulas} begin like a formula: import the file, do not open it in a spreadsheet")
    return count


def plain(values: Any) -> Row:
    """Both engines' times as ISO 8601."""
    *others, added_at = [str(value) for value in values]
    return (*others, f"{added_at[:10]}T{added_at[11:19]}Z")


def from_athena(target: Target, sql: str) -> Iterator[Row]:
    athena, database = target.client("athena"), target.output("GlueDatabaseName")
    if target.athena_lacks_views:
        sql = written_out(target.client("glue"), database, sql)
    query = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": database},
        WorkGroup=target.output("AthenaWorkGroupName"),
    )["QueryExecutionId"]
    while True:
        status = athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]
        if status["State"] == "SUCCEEDED":
            break
        if status["State"] in ("FAILED", "CANCELLED"):
            raise OperateError(f"Athena: {status.get('StateChangeReason', status['State'])}")
        time.sleep(target.poll_seconds)
    pages = athena.get_paginator("get_query_results").paginate(QueryExecutionId=query)
    lines = (line["Data"] for page in pages for line in page["ResultSet"]["Rows"])
    next(lines)  # the names of the columns
    for line in lines:
        yield plain(cell.get("VarCharValue", "") for cell in line)


def from_postgres(target: Target, where: str, schema: str, sql: str) -> Iterator[Row]:
    given = postgres_connection(target, where)
    try:
        with psycopg.connect(**given) as connection:
            connection.execute(
                "SELECT set_config('search_path', %s, true), set_config('timezone', 'UTC', true)", [schema]
            )
            with connection.cursor() as cursor:
                for values in cursor.stream(sql.encode()):
                    yield plain(values)
    except psycopg.Error as error:
        raise OperateError(f"PostgreSQL: {error}") from error
