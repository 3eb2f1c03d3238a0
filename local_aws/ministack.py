"""MiniStack with what it lacks: .venv-ministack's Python runs this module instead of `ministack`.

MiniStack's Athena knows only tables, so this module replaces each view in a statement by a subquery, from the view's
definition in Glue. MiniStack reads every file under a table's location; here a table with registered partitions has the
rows at their locations only, and "$path" is a row's object. A result's file is where the execution says that it is.
When policies are enforced, MiniStack does not know the workgroup of a running query, which a role's policy in AWS
names; this module looks it up. The rules of local_aws/strict refuse what AWS refuses.
"""

import hashlib
import json
import os
import re
import secrets
import subprocess
import tempfile
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ministack.app
import yaml
from ministack.core import iam_actions, iam_evaluator, lambda_runtime, tls
from ministack.services import athena, glue, lambda_svc, s3, sts
from ministack.services.cloudformation import engine

from local_aws import watching, workers
from local_aws.guard import Guard
from local_aws.strict import emulated
from local_aws.strict.emulated.athena import is_view, original_sql

run_duckdb = athena._run_duckdb
extract_iam_action = iam_actions.extract_iam_action
extract_resource_arn = iam_actions.extract_resource_arn
materialize_table_files = athena._materialize_table_files
table_relation = athena._table_relation
save_query_results = athena._save_query_results
sql_tokens = athena._sql_tokens
PATH = '"$path"'
# Trino's name for a function that DuckDB has by another one.
REGEXP_LIKE = re.compile(r"\bregexp_like\s*\(", re.IGNORECASE)
# Of the statement being run: the objects of the files that are read, if it asks for them.
OBJECTS: ContextVar[dict[str, str] | None] = ContextVar("objects")
# The partitioned tables that the statement being run names, by the location under which MiniStack would look.
PARTITIONED: ContextVar[dict[str, str]] = ContextVar("partitioned")


async def run_with_views(query: str, database: str | None, catalog: str | None = None) -> Any:
    query = REGEXP_LIKE.sub("regexp_matches(", with_views(query, database))
    OBJECTS.set({} if PATH in query else None)
    PARTITIONED.set(partitioned_tables(query, database))
    return await run_duckdb(query, database, catalog)


def partitioned_tables(query: str, database: str | None) -> dict[str, str]:
    """Their keys in MiniStack's Glue, by location."""
    names = [f"{one.database or database or 'default'}/{one.table}" for one in athena._table_references(query)]
    tables = {name: glue._tables.get(name) or {} for name in names}
    return {
        table["StorageDescriptor"]["Location"]: name
        for name, table in tables.items()
        if table.get("PartitionKeys")
        and (table.get("StorageDescriptor") or {}).get("Location")
        and (table.get("Parameters") or {}).get("projection.enabled") != "true"
    }


def files_of_partitions(location: str, workdirs: list[str]) -> list[str]:
    """As MiniStack's own: copies of the objects. Each is in a folder of its partition's values, for DuckDB.

    They stay for the next statement: to make and remove thousands of them took longer than the statements.
    """
    name = PARTITIONED.get({}).get(location)
    if name is None:
        return copies(location, workdirs)
    keys = [key["Name"] for key in glue._tables[name]["PartitionKeys"]]
    files = []
    for partition in glue._partitions.get(name, []):
        values = [f"{key}={value}" for key, value in zip(keys, partition["Values"], strict=True)]
        bucket, _, prefix = partition["StorageDescriptor"]["Location"].removeprefix("s3://").partition("/")
        prefix = f"{prefix.rstrip('/')}/"
        for key, kept in sorted((s3._buckets.get(bucket) or {"objects": {}})["objects"].items()):
            if not key.startswith(prefix) or key.endswith("/") or athena._hidden(key.removeprefix(prefix)):
                continue
            version = hashlib.sha256(f"{bucket}/{key} {kept['etag']}".encode()).hexdigest()
            file = Path(tempfile.gettempdir(), "partitions", version, *values, key.rpartition("/")[2])
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
                unfinished.write_bytes(s3._get_object_data(bucket, key) or b"")
                unfinished.rename(file)
            files.append(str(file))
            if (objects := OBJECTS.get(None)) is not None:
                objects[files[-1]] = f"s3://{bucket}/{key}"
    return files


def copies(location: str, workdirs: list[str]) -> list[str]:
    """MiniStack's files of a location, in a folder of their own; notes their objects."""
    files = list(materialize_table_files(location, workdirs))
    if files and (objects := OBJECTS.get(None)) is not None:
        for file in files:
            objects[file] = f"{location.rstrip('/')}/{Path(file).relative_to(workdirs[-1])}"
    return files


def relation_with_path(table: Any, files: list[str]) -> str:
    """As MiniStack's own; if the statement asks for "$path", with the object of each row."""
    relation = str(table_relation(table, files))
    objects = OBJECTS.get(None)
    if objects is None:
        return relation
    # In two parts, because MiniStack puts its own folder in place of each address of S3 in a statement.
    known = ", ".join(f"{literal(file)}: 's3' || {literal(objects[file].removeprefix('s3'))}" for file in files)
    return f"(SELECT *, MAP {{{known}}}[filename] AS {PATH} FROM {relation})"  # noqa: S608


async def save_at_the_location(query_id: str) -> None:
    """Put the file of a result where the execution says that it is; MiniStack puts it a folder deeper."""
    configuration = athena._executions[query_id]["ResultConfiguration"]
    location = configuration["OutputLocation"]
    configuration["OutputLocation"] = location.rpartition("/")[0]
    try:
        await save_query_results(query_id)
    finally:
        configuration["OutputLocation"] = location


@lru_cache(maxsize=512)
def tokens_once(sql: str) -> tuple[Any, ...]:
    """MiniStack goes through each statement and each view five times, character by character."""
    return tuple(sql_tokens(sql))


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def with_views(query: str, database: str | None) -> str:
    """The statement with its views as subqueries, also the views inside views."""
    while views := [
        (reference, sql) for reference in athena._table_references(query) if (sql := view(reference, database))
    ]:
        for reference, sql in reversed(views):
            name = "" if reference.aliased else f" AS {reference.table}"
            query = f"{query[: reference.start]}({sql}){name}{query[reference.end :]}"
    return query


def view(reference: Any, database: str | None) -> str | None:
    """The view's SQL; None if the reference is not to a view."""
    table = glue._tables.get(f"{reference.database or database or 'default'}/{reference.table}") or {}
    return original_sql(table) if is_view(table) else None


def iam_action(service: str, *request: Any) -> str | None:
    """SQS asks for the right to do the single thing, also where several are done by one request.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
    """
    action: str | None = extract_iam_action(service, *request)
    return action.removesuffix("Batch") if action and service == "sqs" else action


def resource_arn(
    service: str, method: str, path: str, headers: Any, body: bytes, query: Any, region: str, account: str
) -> str:
    arn = str(extract_resource_arn(service, method, path, headers, body, query, region, account))
    if service == "athena" and arn == "*":
        with suppress(ValueError, AttributeError):
            execution = athena._executions.get(json.loads(body).get("QueryExecutionId"))
            if execution:
                return f"arn:aws:athena:{region}:{account}:workgroup/{execution['WorkGroup']}"
    return arn.lower() if service == "glue" else arn  # Glue's names and ARNs are in lower case


HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", os.environ["BIND_HOST"]})
KEY = os.environ["AWS_ACCESS_KEY_ID"]
execution_credentials = lambda_runtime.execution_credentials


def with_our_key(config: dict[str, Any]) -> dict[str, str]:
    """Without enforced policies MiniStack gives functions the account's number as key, which everyone knows."""
    given: dict[str, str] = execution_credentials(config)
    return given if ministack.app.AUTH else {**given, "AWS_ACCESS_KEY_ID": KEY}


def knows(key: str) -> bool:
    """Whether this local AWS issued the key: its root key, a role session's or an IAM user's."""
    return key == KEY or key in sts._sessions or iam_evaluator.find_iam_access_key_account(key) is not None


class CfnLoader(yaml.CSafeLoader):
    """MiniStack's, by libyaml: it reads this template in 0.1 s instead of 1, and answers nothing else meanwhile."""

    yaml_constructors = engine.CfnLoader.yaml_constructors
    yaml_implicit_resolvers = engine.CfnLoader.yaml_implicit_resolvers


def run_openssl(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """MiniStack's certificate with a key of an elliptic curve: one of RSA takes a second, and each connection more."""
    curve = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words = [word for one in command for word in (curve if one == "rsa:2048" else [one])]
    return subprocess.run(words, **options)


if __name__ == "__main__":
    # MiniStack would also listen on 443. Of several that start at once one gets it, and the others would end.
    ministack.app._port_is_bindable = lambda *_: False
    tls.subprocess = SimpleNamespace(run=run_openssl, DEVNULL=subprocess.DEVNULL)
    athena._run_duckdb = run_with_views
    athena._materialize_table_files = files_of_partitions
    athena._table_relation = relation_with_path
    athena._save_query_results = save_at_the_location
    athena._sql_tokens = tokens_once
    athena._table_references = lru_cache(maxsize=512)(athena._table_references)
    iam_actions.extract_iam_action = iam_action
    iam_actions.extract_resource_arn = resource_arn
    engine.CfnLoader = CfnLoader
    emulated.apply()
    watching.apply()
    workers.apply()
    lambda_runtime.execution_credentials = lambda_svc.execution_credentials = with_our_key
    ministack.app.app = Guard(ministack.app.app, HOSTS, knows)
    ministack.app.main()
