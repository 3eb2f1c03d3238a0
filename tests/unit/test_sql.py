"""What is made of sql/: views as Athena keeps them, saved queries, and the words about them."""

import base64
import csv
import json
import re

import pytest

from local_aws.yaml_text import yaml_parse
from maintain.check_template import ROOT, TEMPLATE
from maintain.generate import sql as sync_sql
from maintain.generate.sql import Text

SQL_FILES = [*sync_sql.views(), *sync_sql.queries()]


@pytest.fixture(scope="module")
def resources():
    return yaml_parse(TEMPLATE.read_text())["Resources"]


def view_text(resource: dict) -> str:
    """What CloudFormation makes of the nested Fn::Sub, the soft bounce rule being 5 in 30 days."""
    text, variables = resource["Properties"]["TableInput"]["ViewOriginalText"]["Fn::Sub"]
    inner, parts = variables["View"]["Fn::Base64"]["Fn::Sub"]
    sql = parts["Sql"]["Fn::Sub"] if isinstance(parts["Sql"], dict) else parts["Sql"]
    sql = sql.replace("${SoftBounceLimit}", "5").replace("${SoftBounceDays}", "30")
    assert "${" not in sql
    filled = inner.replace("${Sql}", sql).replace("${Columns}", parts["Columns"]).replace("${GlueDatabase}", "bird")
    return text.replace("${View}", base64.b64encode(filled.encode()).decode())


@pytest.mark.parametrize("text", SQL_FILES, ids=lambda text: text.name)
def test_each_engine_can_read_it_and_its_head_names_its_columns(text):
    assert list(sync_sql.unreadable(text)) == []


BROKEN = [
    pytest.param("SELECT a FROM b WHERE", "is not athena", id="syntax"),
    pytest.param("SELECT a, b FROM c", "the columns of its head", id="columns"),
]


@pytest.mark.parametrize(("sql", "finding"), BROKEN)
def test_what_an_engine_cannot_read_is_found(sql, finding):
    assert finding in next(sync_sql.unreadable(Text("text", "", sql, (("a", "bigint", "what it is"),))))


@pytest.mark.parametrize("view", sync_sql.views(), ids=lambda view: view.name)
def test_views_are_as_athena_makes_them(resources, view):
    table = resources[f"{view.logical_id}View"]["Properties"]["TableInput"]
    assert (table["Name"], table["TableType"]) == (view.name, "VIRTUAL_VIEW")
    assert table["Parameters"] == {"presto_view": "true", "comment": "Presto View"}
    assert (table["PartitionKeys"], table["ViewExpandedText"]) == ([], "/* Presto View */")
    assert table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"].endswith(".LazySimpleSerDe")
    assert "Description" not in table, "Athena's engine reads it in place of the comment, and knows no view then"
    encoded = view_text(resources[f"{view.logical_id}View"]).removeprefix("/* Presto View: ").removesuffix(" */")
    definition = json.loads(base64.b64decode(encoded, validate=True))
    assert (definition["catalog"], definition["schema"]) == ("awsdatacatalog", "bird")
    assert (definition["comment"], definition["runAsInvoker"], definition["path"]) == (view.answers, False, [])
    names = [name for name, _, _ in view.columns]
    assert [column["name"] for column in definition["columns"]] == names
    catalogue = table["StorageDescriptor"]["Columns"]
    assert [(column["Name"], column["Comment"]) for column in catalogue] == [(n, m) for n, _, m in view.columns]
    assert all(column.keys() == {"name", "type"} for column in definition["columns"])  # as Athena writes it


def test_queries_are_saved_word_for_word(resources):
    saved = {r["Properties"]["Name"]: r["Properties"] for r in resources.values() if "NamedQuery" in r["Type"]}
    files = {path.stem: path.read_text() for path in (ROOT / "sql/queries").glob("*.sql")}
    assert {name: properties["QueryString"] for name, properties in saved.items()} == files
    assert {str(properties["WorkGroup"]) for properties in saved.values()} == {"{'Ref': 'AthenaWorkGroup'}"}


def test_every_bounce_class_of_the_documents_is_that_of_the_table():
    with sync_sql.BOUNCE_CLASSES.open(newline="") as file:
        classes = [tuple(row.values())[:5] for row in csv.DictReader(file)]
    page = (ROOT / "docs/downstream/suppression.md").read_text()
    assert re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \| `(\w+)` \|", page, re.MULTILINE) == classes


def test_a_bounce_class_whose_text_has_a_comma_without_quotation_marks_is_refused(tmp_path, monkeypatch):
    line = "22,Mailbox Full,Soft,Full,count,it may be emptied, or it is abandoned,bounce\n"
    file = tmp_path / "bounce_classes.csv"
    file.write_text("bounce_class,name,bounce_group,meaning,action,because,counted_as\n" + line)
    monkeypatch.setattr(sync_sql, "BOUNCE_CLASSES", file)
    with pytest.raises(SystemExit, match="a comma needs quotation marks"):
        sync_sql.bounce_classes_sql()


def test_every_view_and_query_has_its_section_with_a_sample():
    pages = "".join((ROOT / f"docs/downstream/{name}.md").read_text() for name in ("suppression", "queries"))
    sections = {part.partition("\n")[0]: part for part in pages.split("\n## ")[1:]}
    for text in SQL_FILES:
        assert text.name in sections
        header = " | ".join(name for name, _, _ in text.columns)
        assert f"| {header} |" in sections[text.name], f"{text.name}: its sample lacks the line of its columns"
