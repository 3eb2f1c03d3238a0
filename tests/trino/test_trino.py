"""What a user asks Athena, asked of Trino over the stack as it was deployed: equal to what the other tests judge by."""

# ruff: noqa: S608  (names of tables of the template, days that were found)
from datetime import UTC, datetime, timedelta

import pytest
from trino.exceptions import TrinoQueryError

from bird_webhooks import __main__ as operate
from bird_webhooks.report_page import AthenaEngine, write
from bird_webhooks.simulator.verify import Lake as RowsOf
from bird_webhooks.simulator.verify import verify
from bird_webhooks.terminal import say
from local_aws.deploy import TEMPLATE, read_template
from report.queries import DIMENSIONS, Period, latest_day, queries
from tests import grafana

RESOURCES = read_template(TEMPLATE)["Resources"].values()
TABLES = {
    resource["Properties"]["TableInput"]["Name"]: resource["Properties"]["TableInput"]["TableType"]
    for resource in RESOURCES
    if resource["Type"] == "AWS::Glue::Table"
}
VIEWS = [name for name, kind in TABLES.items() if kind == "VIRTUAL_VIEW"]
# `make generate` writes these, by_campaign, by_provider and by_ab_version from one text.
OF_ONE_FORM = ("by_ip_pool", "by_sending_domain", "by_sending_ip", "by_subaccount", "by_template")
SAVED = {
    resource["Properties"]["Name"]: resource["Properties"]["QueryString"]
    for resource in RESOURCES
    if resource["Type"] == "AWS::Athena::NamedQuery"
}
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
WEEK, MONTHS = Period(NOW - timedelta(days=7), NOW), Period(NOW - timedelta(days=90), NOW)
MOMENT = f"TIMESTAMP '{NOW:%Y-%m-%d %H:%M:%S}'"
JSON_IN_POSTGRES = ["events_deduplicated"]  # jsonb there: same values, other text
TEXT_OF_JSON = ["extras"]  # selects that text


def test_the_table_and_six_views_are_asked_about():
    assert {"events": "EXTERNAL_TABLE", "events_deduplicated": "VIRTUAL_VIEW"}.items() <= TABLES.items()
    assert len(VIEWS) >= 6
    assert len(SAVED) >= 6


def test_some_dates_are_closed_and_some_are_open(lake):
    glue, database = lake.client("glue"), lake.stack.outputs["GlueDatabaseName"]
    pages = glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName="events")
    locations = [one["StorageDescriptor"]["Location"] for page in pages for one in page["Partitions"]]
    closed = [location for location in locations if "/closed/event_date=" in location]
    assert len(locations) > len(closed)
    assert len(closed) >= (3 if lake.output_format == "PARQUET" else 0)


def without_serde(view: dict) -> None:
    del view["StorageDescriptor"]["SerdeInfo"]


def with_description(view: dict) -> None:
    view["Description"] = "Bird's bounce classes"


REFUSED = [
    pytest.param(without_serde, "SerDeInfo is null", id="no serde"),
    pytest.param(with_description, "does not exist", id="a description in place of the comment"),
]


@pytest.mark.parametrize(("spoil", "words"), REFUSED)
def test_a_view_registered_as_athena_does_not_take_it_is_refused(lake, spoil, words):
    """What the tests below would meet. Version 0.1.0 had both faults."""
    glue, database = lake.client("glue"), lake.stack.outputs["GlueDatabaseName"]
    view = glue.get_table(DatabaseName=database, Name="bounce_classes")["Table"]
    names = ("TableType", "Parameters", "PartitionKeys", "StorageDescriptor", "ViewOriginalText", "ViewExpandedText")
    copy = {"Name": spoil.__name__, **{name: view[name] for name in names}}
    spoil(copy)
    glue.create_table(DatabaseName=database, TableInput=copy)
    try:
        with pytest.raises(TrinoQueryError, match=words):
            lake.engine.query(f"SELECT * FROM {spoil.__name__}", database)
    finally:
        glue.delete_table(DatabaseName=database, Name=spoil.__name__)


@pytest.mark.parametrize("name", TABLES)
def test_all_of_it_without_a_date(lake, name):
    assert lake.ask(f"SELECT * FROM {name}", postgres=name in VIEWS and name not in JSON_IN_POSTGRES)


@pytest.mark.parametrize(
    "name",
    [
        "events",
        *(pytest.param(view, marks=pytest.mark.nightly) for view in ("events_deduplicated", "message_timeline")),
    ],
)
def test_days_of_it(lake, name):
    for chosen in (
        "= current_date",
        "> current_date - interval '30' day",
        "BETWEEN DATE '2016-04-01' AND DATE '2016-05-01'",
    ):
        assert lake.ask(f"SELECT * FROM {name} WHERE event_date {chosen}")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly) if name in OF_ONE_FORM else name for name in SAVED]
)
def test_saved_query(lake, name):
    """At one moment, because the engines are asked one after another, and of reasons that are said once, too."""
    text = SAVED[name].replace("current_timestamp", MOMENT).replace("events >= 10", "events >= 1")
    assert lake.ask(text, postgres=True, ordered=True)


@pytest.mark.nightly  # 26 statements; tests/integration asks them of PostgreSQL with every change
def test_panels_of_grafana_answer_as_their_saved_queries(lake):
    if lake.output_format == "PARQUET":
        for panel in grafana.panels("athena"):
            texts = grafana.statement(panel), SAVED[grafana.query(panel)]
            filtered, saved = (lake.athena.answer(text.replace("current_timestamp", MOMENT)) for text in texts)
            assert filtered == saved, panel["title"]


@pytest.mark.parametrize(
    "period", [pytest.param(WEEK, id="week"), pytest.param(MONTHS, id="months", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("name", queries(WEEK, 500))
def test_statement_of_the_report(lake, name, period):
    assert lake.ask(queries(period, 500, tuple(DIMENSIONS))[name], postgres=name not in TEXT_OF_JSON)


def test_newest_day_of_the_report(lake):
    assert lake.ask(latest_day()) != [(None,)]


def make_report(lake, directory):
    assert write(AthenaEngine(lake.target), WEEK, lake.target, directory / "report.html").events > 1000


def export_lists(lake, directory):
    file = directory / "suppression.csv"
    assert operate.main(["list-export", "--output", str(file), "--since", "2024-01-01", "--subaccount", "4711"]) == 0
    assert "hard@known-a.example.com" in file.read_text()


def verify_ledger(lake, directory):
    result = verify(lake.ledger, RowsOf.of(lake.target), wait_seconds=1, progress=say)
    assert result.closes, str(result)


@pytest.mark.parametrize("tool", [make_report, export_lists, verify_ledger], ids=lambda tool: tool.__name__)
def test_what_a_tool_asks(lake, monkeypatch, tmp_path, tool):
    """It works over Trino, and each of its statements gives the same in all engines."""
    monkeypatch.setattr(operate, "deployed", lambda *names: lake.target)
    before = len(lake.athena.asked)
    tool(lake, tmp_path)
    asked = dict.fromkeys(lake.athena.asked[before:])
    assert asked
    for sql in asked:
        # The ledger's statements write a text into jsonb columns, and one of the report's selects that text.
        assert lake.ask(sql, postgres=tool is not verify_ledger and "CAST(extra" not in sql)
