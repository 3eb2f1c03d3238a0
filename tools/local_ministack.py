"""MiniStack with an Athena that a function can use: run by .venv-ministack's Python in the place of `ministack`.

Its Athena knows tables only. Here a view that a statement names is written into it as a subquery, from the definition
in Glue, before MiniStack reads it. And where policies are enforced, MiniStack does not see which workgroup a query
belongs to once it has started; in AWS that is what the policy of a role names.

S3 compares the filter of a notification with the key as the notification writes it, a space as +; MiniStack with the
key itself. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
"""

import base64
import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote_plus

from ministack.app import main
from ministack.core import iam_actions
from ministack.services import athena, glue, s3

PREFIX, SUFFIX = "/* Presto View: ", " */"
run_duckdb = athena._run_duckdb
extract_resource_arn = iam_actions.extract_resource_arn
key_matches_filter = s3._key_matches_filter


async def run_with_views(query: str, database: str | None, catalog: str | None = None) -> Any:
    return await run_duckdb(with_views(query, database), database, catalog)


def with_views(query: str, database: str | None) -> str:
    """The statement with its views written out, those that views name too."""
    while views := [
        (reference, sql) for reference in athena._table_references(query) if (sql := view(reference, database))
    ]:
        for reference, sql in reversed(views):
            name = "" if reference.aliased else f" AS {reference.table}"
            query = f"{query[: reference.start]}({sql}){name}{query[reference.end :]}"
    return query


def view(reference: Any, database: str | None) -> str | None:
    """The SQL of the view that is named there, if it is one."""
    table = glue._tables.get(f"{reference.database or database or 'default'}/{reference.table}") or {}
    text = table.get("ViewOriginalText") or ""
    if not text.startswith(PREFIX):
        return None
    return str(json.loads(base64.b64decode(text.removeprefix(PREFIX).removesuffix(SUFFIX)))["originalSql"])


def resource_arn(
    service: str, method: str, path: str, headers: Any, body: bytes, query: Any, region: str, account: str
) -> str:
    arn = extract_resource_arn(service, method, path, headers, body, query, region, account)
    if service == "athena" and arn == "*":
        with suppress(ValueError, AttributeError):
            execution = athena._executions.get(json.loads(body).get("QueryExecutionId"))
            if execution:
                return f"arn:aws:athena:{region}:{account}:workgroup/{execution['WorkGroup']}"
    return str(arn)


def encoded_key_matches_filter(key: str, prefix: str | None, suffix: str | None) -> bool:
    return bool(key_matches_filter(quote_plus(key, safe="/!'()*"), prefix, suffix))


if __name__ == "__main__":
    s3._key_matches_filter = encoded_key_matches_filter
    athena._run_duckdb = run_with_views
    iam_actions.extract_resource_arn = resource_arn
    main()
