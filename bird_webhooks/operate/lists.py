"""The view list_export as a CSV file, from Athena or from PostgreSQL, for the tools that import lists."""

import csv
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from bird_webhooks.errors import OperateError
from bird_webhooks.operate.private_file import private_file
from bird_webhooks.operate.quarantine import clean
from bird_webhooks.postgres import connected
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import say, step

QUERY_SECONDS = 1800  # as long as Athena itself lets a query run, unless the account has asked for more
BIRDS_COLUMNS = ("recipient", "type", "description")
# What a spreadsheet takes for the beginning of a formula. Some skip white space before it.
FORMULA = ("=", "+", "-", "@")


class Row(NamedTuple):
    """One line of the view, times in ISO 8601. '' where the view has NULL."""

    email: str
    subaccount_id: str
    reason: str
    description: str
    scope: str
    added_at: str
    customer_id: str
    list_id: str


def export(
    stack: Stack,
    *,
    output: Path | None,
    since: datetime | None,
    subaccount: str | None,
    account: str | None,
    of_list: str | None,
    bird: bool,
    postgres: str | None,
    schema: str,
) -> None:
    """Write the list to `output`, or to the standard output. `of_list`: only those who left this one list."""
    sql = statement(since, subaccount, account)
    step(f"asking {'PostgreSQL' if postgres else 'Athena'}; this may take minutes")
    rows = from_postgres(stack, postgres, schema, sql) if postgres else from_athena(stack, sql)
    if output is None:
        count = write(sys.stdout, rows, of_list=of_list, bird=bird)
    else:
        with private_file(output) as file:
            count = write(file, rows, of_list=of_list, bird=bird)
    say(f"{count} addresses{f' in {output}' if output else ''}")
    if not postgres and "HashKeyArn" in stack.outputs:
        say("addresses that HashFields has hashed are not in this list: find them in suppression_candidates")


def statement(since: datetime | None, subaccount: str | None, account: str | None) -> str:
    conditions = []
    if since:
        conditions.append(f"added_at >= timestamp '{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}'")
    if subaccount is not None:  # digits, as the command line sees to
        conditions.append(f"subaccount_id = '{subaccount}'")
    if account is not None:  # letters, digits, - and _
        conditions.append(f"customer_id = '{account}'" if account else "customer_id IS NULL")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "customer_id, subaccount_id, email, list_id"
    return f"SELECT {', '.join(Row._fields)} FROM list_export{where} ORDER BY {order}"  # noqa: S608


def write(file: IO[str], rows: Iterator[Row], *, of_list: str | None = None, bird: bool = False) -> int:
    """RFC 4180. How many addresses.

    An address is written as it is, even where a spreadsheet would take it for a formula: a changed address would
    suppress no recipient. One with control characters is left out: no mail can have been sent to it.
    """
    writer = csv.writer(file)
    writer.writerow(BIRDS_COLUMNS if bird else Row._fields)
    count = formulas = left_out = odd = 0
    accounts: set[str] = set()
    for row in rows:
        if row.list_id != (of_list or ""):
            left_out += 1
            continue
        if not row.email.isprintable():  # a line end in it would be a line of its own to some importers
            odd += 1
            continue
        row = Row(row.email, *map(clean, row[1:]))
        count += 1
        formulas += any(cell.lstrip().startswith(FORMULA) for cell in row)
        if not bird:
            writer.writerow(row)
            continue
        accounts.add(row.customer_id)
        if len(accounts) > 1:
            names = " and ".join(sorted(name or "(none)" for name in accounts))
            raise OperateError(f"Bird keeps a list for each account, and these are of {names}: give --account")
        stopped = ["non_transactional", *(["transactional"] if row.scope == "all" else [])]
        writer.writerows([row.email, kind, row.description] for kind in stopped)
    if odd:
        say(f"not in this file, because the address contains control characters: {odd}")
    if left_out and of_list is None:
        say(f"not in this file, because they left one list only: {left_out} (give --list ID for those of one list)")
    if formulas:
        say(f"lines that begin like a formula: {formulas} (import the file; do not open it in a spreadsheet)")
    return count


def plain(values: Any) -> Row:
    """Both engines' times as ISO 8601."""
    row = Row(*("" if value is None else str(value) for value in values))
    return row._replace(added_at=f"{row.added_at[:10]}T{row.added_at[11:19]}Z")


def from_athena(stack: Stack, sql: str) -> Iterator[Row]:
    for row in stack.athena(QUERY_SECONDS).stream(sql):
        yield plain(row.values())


def from_postgres(stack: Stack, where: str, schema: str, sql: str) -> Iterator[Row]:
    with connected(stack, where) as connection:
        connection.execute("SELECT set_config('search_path', %s, true), set_config('timezone', 'UTC', true)", [schema])
        with connection.cursor() as cursor:
            for values in cursor.stream(sql.encode()):
                yield plain(values)
