"""Glue: names in lower case, and no members that were not given."""

import functools
from collections.abc import Callable
from typing import Any

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import glue

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule

NAMES = ("DatabaseName", "TableName")
# The members of a table or database that may be absent.
OPTIONAL = {"Description", "LocationUri", "Owner", "Parameters", "PartitionKeys", "StorageDescriptor", "TableType"}
OPTIONAL |= {"ViewDefinition", "ViewExpandedText", "ViewOriginalText", "IsMultiDialectView"}
NAMED = (
    *("_create_database", "_delete_database", "_get_database", "_update_database"),
    *("_create_table", "_delete_table", "_get_table", "_get_tables", "_update_table", "_batch_delete_table"),
    *("_create_partition", "_delete_partition", "_get_partition", "_get_partitions"),
    *("_batch_create_partition", "_batch_get_partition", "_batch_update_partition"),
)


class LowerCaseKeys(AccountRegionScopedDict):  # type: ignore[misc]
    def _scoped(self, key: str) -> Any:
        return super()._scoped(key.lower())


@rule("https://docs.aws.amazon.com/glue/latest/webapi/API_DatabaseInput.html", RULES)
def names_are_folded_to_lower_case() -> None:
    """Glue stores the names of databases and tables in lower case, and finds them in any case."""
    glue._databases, glue._tables, glue._partitions = LowerCaseKeys(), LowerCaseKeys(), LowerCaseKeys()
    for name in NAMED:
        setattr(glue, name, with_lower_case_names(getattr(glue, name)))


def with_lower_case_names(call: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    @functools.wraps(call)
    def folded(data: dict[str, Any]) -> Any:
        data = {name: value.lower() if name in (*NAMES, "Name") else value for name, value in data.items()}
        for described in ("DatabaseInput", "TableInput"):
            if "Name" in (data.get(described) or {}):
                data[described] = {**data[described], "Name": data[described]["Name"].lower()}
        return call(data)

    return folded


@rule("https://docs.aws.amazon.com/glue/latest/webapi/API_Table.html", RULES)
def absent_members_stay_absent() -> None:
    """Glue returns no empty description or partition keys if none were given; UpdateTable replaces everything."""
    glue._create_database = keeping_what_was_given(glue._create_database, "DatabaseInput", database)
    glue._create_table = keeping_what_was_given(glue._create_table, "TableInput", table)
    glue._update_table = keeping_what_was_given(glue._update_table, "TableInput", table)


def keeping_what_was_given(
    call: Callable[[dict[str, Any]], Any], described: str, find: Callable[[dict[str, Any]], Any]
) -> Callable[[dict[str, Any]], Any]:
    @functools.wraps(call)
    def kept(data: dict[str, Any]) -> Any:
        answer = call(data)
        given = data.get(described) or {}
        stored: dict[str, Any] = (find(data) if answer[0] == 200 else None) or {}
        for name in OPTIONAL & stored.keys():
            # For what the template dropped MiniStack's CloudFormation passes "" or None; AWS's leaves it out.
            if given.get(name) in (None, ""):
                del stored[name]
        return answer

    return kept


def database(data: dict[str, Any]) -> Any:
    return glue._databases.get(data["DatabaseInput"]["Name"])


def table(data: dict[str, Any]) -> Any:
    return glue._tables.get(f"{data['DatabaseName']}/{data['TableInput']['Name']}")
