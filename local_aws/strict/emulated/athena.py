"""Athena: which of Glue's tables and views its engine reads, and the messages with which it refuses others."""

import base64
import json
from collections.abc import Callable
from typing import Any

from ministack.services import athena, glue

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule
from local_aws.strict.template import VIEW_MEMBERS

PREFIX, SUFFIX = "/* Presto View: ", " */"
GUIDE = "https://docs.aws.amazon.com/athena/latest/ug/views.html"
TRINO = "https://github.com/trinodb/trino/blob/476"
CHECKS: list[Callable[[dict[str, Any]], None]] = []


class QueryRefusedError(Exception):
    """The query fails with this reason."""


@rule(f"{TRINO}/plugin/trino-hive/src/main/java/io/trino/plugin/hive/metastore/glue/GlueConverter.java", RULES)
def tables_and_views_need_a_serde() -> None:
    """A table without SerdeInfo, or with an empty serialization library, cannot be queried; a view is a table too."""
    before_each_table(has_a_serde)


@rule(GUIDE, RULES)
def views_need_partition_keys() -> None:
    """A view created through Glue must have PartitionKeys, an empty list; without them its queries fail."""
    before_each_table(has_partition_keys)


@rule(f"{TRINO}/plugin/trino-hive/src/main/java/io/trino/plugin/hive/ViewReaderUtil.java", RULES)
def a_description_hides_a_view() -> None:
    """The engine takes a table for a view if its comment is `Presto View`; Glue's Description replaces that comment."""
    before_each_table(has_a_views_comment)


@rule(f"{TRINO}/core/trino-spi/src/main/java/io/trino/spi/connector/ConnectorViewDefinition.java", RULES)
def views_need_the_members_that_athena_writes() -> None:
    """The JSON in a view names its SQL, catalog, schema in lower case and columns, and says runAsInvoker."""
    before_each_table(has_a_views_json)


def before_each_table(check: Callable[[dict[str, Any]], None]) -> None:
    """Apply `check` to each Glue table that a query names, before the engine reads the query."""
    if not CHECKS:
        run = athena._run_duckdb

        async def checked(query: str, database: str | None, catalog: str | None = None) -> Any:
            check_tables(query, database)
            return await run(query, database, catalog)

        athena._run_duckdb = checked
    CHECKS.append(check)


def check_tables(query: str, database: str | None) -> None:
    for reference in athena._table_references(query):
        table = glue._tables.get(f"{reference.database or database or 'default'}/{reference.table}")
        if not table:
            continue
        for check in CHECKS:
            check(table)
        if is_view(table):  # the engine reads the tables behind a view too
            check_tables(original_sql(table), definition(table)["schema"])


def has_a_serde(table: dict[str, Any]) -> None:
    serde = (table.get("StorageDescriptor") or {}).get("SerdeInfo") or {}
    if not serde.get("SerializationLibrary"):
        raise QueryRefusedError(
            f"HIVE_METASTORE_ERROR: Table storage descriptor is missing SerDe info: {table['Name']}"
        )


def has_partition_keys(table: dict[str, Any]) -> None:
    if is_view(table) and table.get("PartitionKeys") is None:
        raise QueryRefusedError(f"GENERIC_INTERNAL_ERROR: null (the view {table['Name']} has no PartitionKeys)")


def has_a_views_comment(table: dict[str, Any]) -> None:
    parameters = table.get("Parameters") or {}
    comment = table.get("Description") or parameters.get("comment")
    if is_view(table) and (parameters.get("presto_view"), comment) != ("true", "Presto View"):
        name = f"awsdatacatalog.{table['DatabaseName']}.{table['Name']}"
        raise QueryRefusedError(f"TABLE_NOT_FOUND: Table '{name}' does not exist")


def has_a_views_json(table: dict[str, Any]) -> None:
    if not is_view(table):
        return
    view = definition(table)
    for name, kind in VIEW_MEMBERS.items():
        if not isinstance(view.get(name), kind):
            raise QueryRefusedError(f"GENERIC_INTERNAL_ERROR: Invalid JSON bytes for ConnectorViewDefinition: {name}")
    if view["schema"] != view["schema"].lower():
        raise QueryRefusedError(f"GENERIC_INTERNAL_ERROR: schemaName is not lowercase: {view['schema']}")


def is_view(table: dict[str, Any]) -> bool:
    return str(table.get("ViewOriginalText") or "").startswith(PREFIX)


def definition(table: dict[str, Any]) -> dict[str, Any]:
    encoded = str(table["ViewOriginalText"]).removeprefix(PREFIX).removesuffix(SUFFIX)
    decoded: dict[str, Any] = json.loads(base64.b64decode(encoded))
    return decoded


def original_sql(table: dict[str, Any]) -> str:
    return str(definition(table)["originalSql"])
