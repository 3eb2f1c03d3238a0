"""What a user asks Athena, asked of Trino over the stack as it was deployed: equal to what the other tests judge by."""

# ruff: noqa: S608  (names of tables of the template, days that were found)
import sys
from datetime import UTC, datetime, timedelta

import pytest

from report.queries import Period, latest_day, queries
from tools.bird_simulator.verify import Lake as SimulatorsLake
from tools.bird_simulator.verify import verify
from tools.local_stack import TEMPLATE, read_template
from tools.operate import __main__ as operate
from tools.report import AthenaEngine, write

RESOURCES = read_template(TEMPLATE)["Resources"].values()
TABLES = {
    resource["Properties"]["TableInput"]["Name"]: resource["Properties"]["TableInput"]["TableType"]
    for resource in RESOURCES
    if resource["Type"] == "AWS::Glue::Table"
}
VIEWS = [name for name, kind in TABLES.items() if kind == "VIRTUAL_VIEW"]
SAVED = {
    resource["Properties"]["Name"]: resource["Properties"]["QueryString"]
    for resource in RESOURCES
    if resource["Type"] == "AWS::Athena::NamedQuery"
}
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
WEEK, MONTHS = Period(NOW - timedelta(days=7), NOW), Period(NOW - timedelta(days=90), NOW)
JSON_IN_POSTGRES = ["events_deduplicated"]  # jsonb there: same values, other text


def test_the_table_and_six_views_are_asked_about():
    assert {"events": "EXTERNAL_TABLE", "events_deduplicated": "VIRTUAL_VIEW"}.items() <= TABLES.items()
    assert len(VIEWS) >= 6
    assert len(SAVED) >= 6


@pytest.mark.parametrize("name", TABLES)
def test_all_of_it_without_a_date(lake, name):
    assert lake.ask(f"SELECT * FROM {name}", postgres=name in VIEWS and name not in JSON_IN_POSTGRES)


@pytest.mark.parametrize("name", ["events", "events_deduplicated", "message_timeline"])
def test_days_of_it(lake, name):
    for chosen in (
        "= current_date",
        "> current_date - interval '30' day",
        "BETWEEN DATE '2016-04-01' AND DATE '2016-05-01'",
    ):
        assert lake.ask(f"SELECT * FROM {name} WHERE event_date {chosen}")


@pytest.mark.parametrize("name", SAVED)
def test_saved_query(lake, name):
    assert lake.ask(SAVED[name], postgres=True)


@pytest.mark.parametrize("period", [WEEK, MONTHS], ids=["week", "months"])
@pytest.mark.parametrize("name", queries(WEEK))
def test_statement_of_the_report(lake, name, period):
    assert lake.ask(queries(period)[name], postgres=True)


def test_newest_day_of_the_report(lake):
    assert lake.ask(latest_day()) != [(None,)]


def test_the_report_itself(lake, tmp_path):
    assert write(AthenaEngine(lake.target), WEEK, lake.target, tmp_path / "report.html").events > 1000


@pytest.mark.parametrize("options", [[], ["--since", "2024-01-01", "--subaccount", "4711"]], ids=["all", "some"])
def test_list_export(lake, monkeypatch, tmp_path, options):
    """The command line over Trino, and its statement in all three engines."""
    monkeypatch.setattr(operate, "deployed", lambda *names: lake.target)
    file = tmp_path / "suppression.csv"
    assert operate.main(["list-export", "--output", str(file), *options]) == 0
    assert lake.ask(lake.athena.asked[-1], postgres=True)
    assert "hard@known-a.example.com" in file.read_text()


def test_verification_of_the_simulator_closes_and_its_statements_agree(lake):
    names = lake.stack.outputs["GlueDatabaseName"], lake.stack.outputs["AthenaWorkGroupName"]
    before = len(lake.athena.asked)
    result = verify(lake.ledger, SimulatorsLake(lake.athena, lake.client("s3"), *names), wait_seconds=1, progress=say)
    assert result.closes, str(result)
    for sql in dict.fromkeys(lake.athena.asked[before:]):
        assert lake.ask(sql)


def say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
