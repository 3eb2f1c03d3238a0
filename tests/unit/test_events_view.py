"""The view that gives each event once: what Athena keeps of it in the Glue table."""

import base64
import json
import re

import pytest

from local_aws.yaml_text import yaml_parse
from maintain.check_template import TEMPLATE
from maintain.generate.columns import TRINO_TYPES
from process.columns import COLUMNS


@pytest.fixture(scope="module")
def table():
    return yaml_parse(TEMPLATE.read_text())["Resources"]["EventsDeduplicatedView"]["Properties"]["TableInput"]


def definition(table, *, csv: bool) -> dict:
    """What CloudFormation makes of the two nested Fn::Sub."""
    text, variables = table["ViewOriginalText"]["Fn::Sub"]
    inner, parts = variables["View"]["Fn::Base64"]["Fn::Sub"]
    condition, when_csv, when_parquet = parts["Sql"]["Fn::If"]
    assert condition == "UseCsv"
    filled = inner.replace("${GlueDatabase}", "the_database")
    filled = filled.replace("${Sql}", when_csv if csv else when_parquet).replace("${Columns}", parts["Columns"])
    encoded = base64.b64encode(filled.encode()).decode()
    original = text.replace("${View}", encoded)
    assert original == f"/* Presto View: {encoded} */"
    made: dict = json.loads(base64.b64decode(encoded))
    return made


def test_it_is_a_view_as_athena_makes_them(table):
    assert table["Name"] == "events_deduplicated"
    assert table["TableType"] == "VIRTUAL_VIEW"
    assert table["Parameters"] == {"presto_view": "true", "comment": "Presto View"}
    assert table["PartitionKeys"] == []
    assert table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"].endswith(".LazySimpleSerDe")
    assert table["ViewExpandedText"] == "/* Presto View */"
    assert "Description" not in table, "Athena's engine reads it in place of the comment, and knows no view then"


@pytest.mark.parametrize("csv", [False, True], ids=["Parquet", "CSV"])
def test_definition_decodes_and_its_columns_are_those_of_process(table, csv):
    view = definition(table, csv=csv)
    assert (view["catalog"], view["schema"]) == ("awsdatacatalog", "the_database")
    assert (view["comment"].partition(".")[0], view["runAsInvoker"], view["path"]) == ("Each event once", False, [])
    names = [column.name for column in COLUMNS] + ["event_date"]
    types = [TRINO_TYPES[column.type] for column in COLUMNS] + ["date"]
    assert [(column["name"], column["type"]) for column in view["columns"]] == list(zip(names, types, strict=True))
    meanings = [column.description for column in COLUMNS] + ["UTC date of the event"]
    catalogue = [(column["Name"], column["Comment"]) for column in table["StorageDescriptor"]["Columns"]]
    assert catalogue == list(zip(names, meanings, strict=True))
    selected = view["originalSql"].removeprefix("SELECT ").partition(" FROM (SELECT *")[0]
    assert [part.rpartition(" ")[2] for part in re.split(r", (?![^(]*\))", selected)] == names


@pytest.mark.parametrize("csv", [False, True], ids=["Parquet", "CSV"])
def test_copies_are_told_apart_within_a_day(table, csv):
    """By columns that a filter may name without reading the other days, and in an order that leaves no choice."""
    sql = definition(table, csv=csv)["originalSql"]
    identity = "event_date, customer_id, event_class, type, event_key"
    assert f"PARTITION BY {identity} ORDER BY received_at, batch_id, extra NULLS FIRST" in sql
    assert sql.endswith("FROM events) WHERE copy_number = 1")


def test_csv_gets_its_types_from_the_view(table):
    sql = definition(table, csv=True)["originalSql"]
    assert "try_cast(msg_size AS bigint) AS msg_size" in sql
    assert "try_cast(open_tracking AS boolean) AS open_tracking" in sql
    assert "try_cast(replace(replace(timestamp, 'T', ' '), 'Z', '') AS timestamp) AS timestamp" in sql
