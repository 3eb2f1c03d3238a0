"""The same statements in PostgreSQL, asked by the program, give the literal figures of the recorded events."""

import json
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks import report_page as report
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.stack import Stack
from load_postgres.database import Database
from load_postgres.rows import rows_of
from local_aws import postgres as local_postgres
from maintain.generate.events import created, sqs
from process.app import lambda_handler
from report.counts import Rate
from report.figures import Quarantine, figures, found_in
from report.queries import DIMENSIONS, Period, queries
from report.rules import DEFAULTS
from tests.integration.engines import in_duckdb

EVENTS = Path(__file__).resolve().parents[1] / "data/report_events.json"
WEEK = Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC))


@pytest.fixture(scope="module")
def postgres():
    with local_postgres.running() as server:
        yield server


@pytest.fixture
def filled(postgres, s3):
    """The events as process makes rows of them and load_postgres loads them."""
    s3.put_object(Bucket="raw-bucket", Key="raw/report.json", Body=EVENTS.read_bytes())
    assert lambda_handler(sqs({"Records": [created("raw/report.json")]}), None) == {"batchItemFailures": []}
    with closing(Database(postgres.secret, "bird", verify=True)) as loader:
        for item in s3.list_objects_v2(Bucket="lake-bucket", Prefix="events/")["Contents"]:
            key = item["Key"]
            body = s3.get_object(Bucket="lake-bucket", Key=key)["Body"].read()
            loader.load(date.fromisoformat(key.split("event_date=")[1][:10]), rows_of(key, body))
    yield postgres
    with postgres.connect() as database:
        database.execute("DROP SCHEMA bird CASCADE")


def dsn(server) -> str:
    return (
        f"host={server.host} port={server.port} dbname={server.dbname} user={server.username} "
        f"password={server.password} sslmode=verify-full sslrootcert={server.ca_certificate}"
    )


def test_postgresql_gives_the_literal_figures(filled):
    statements = queries(WEEK, 500, tuple(DIMENSIONS))
    engine = report.PostgresEngine(Stack("", {}.__getitem__), dsn(filled), "bird")
    found = figures(WEEK, engine.rows(statements), by=tuple(DIMENSIONS))
    assert (found.events, found.events_before) == (18, 4)
    now = found.everything.now
    assert now.sent == 6
    assert now.accepted_rate == Rate(4, 6)  # one of the five that were delivered came back
    assert now.bounced_rate == Rate(2, 6)
    assert (now.all_complaints, now.complaint_rate) == (1, Rate(0, 0))  # about mail to Google, which reports none
    assert now.opened_rate == Rate(2, 4)
    assert now.clicked_rate == Rate(1, 4)
    assert now.stopped_rate == Rate(1, 2)
    assert (now.delayed, now.waiting, now.unsubscribed, now.scanned) == (1, 1, 1, 0)
    assert (now.by_proxy_only, now.unmeasurable) == (1, 1)
    assert found.everything.before.sent == 3
    tables = {table.dimension: table for table in found.tables}
    assert [(group.name, group.now.sent, group.now.bounced) for group in tables["provider"].groups] == [
        ("Gmail", 3, 0),
        ("Yahoo", 2, 2),
        ("(unknown)", 1, 0),
    ]
    assert [[group.name for group in tables[name].groups] for name in ("ip", "ab_version", "subaccount")] == [
        ["(unknown)"],
        ["(none)"],
        ["0"],
    ]
    hours = {item["start"]: item for item in found.series if item["delivered"]}
    ten = hours[datetime(2024, 3, 5, 10, tzinfo=UTC)]
    assert (ten["delivered"], ten["bounced"], ten["delayed"], ten["clicked"], ten["unmeasurable"]) == (3, 1, 1, 1, 1)
    assert {(reason.kind, reason.bounce_class, reason.text) for reason in found.reasons} == {
        ("Bounced", "Invalid recipient", "550 5.1.1 <<address>>: no such user"),
        ("Bounced later", "Mailbox full", "552 mailbox of <address> is full"),
        ("Delayed", "Transient failure", "421 try again later"),
        ("Rejected by Bird", "Admin failure", "550 refused by policy"),
    }
    assert found.unknown_fields == [("geo_ip.continent", 1), ("next_attempt", 1)]
    assert found.latest == datetime(2024, 3, 7, 12, 1, tzinfo=UTC)
    assert [lag.seconds for lag in found.lags] == [None, None]


def test_what_the_simulator_plants_needs_attention_and_nothing_else(tmp_path):
    """The mail of `make demo DOWNSTREAM=1`, in DuckDB."""
    end = datetime(2026, 11, 26, 9, tzinfo=UTC)
    maker = BatchMaker(1, end, spread_seconds=14 * 86_400, like_a_sender=True)
    batches = [maker.batch(0, events=7000), *maker.troubles(events=5000)]
    week = Period(end - timedelta(days=7), end)
    with in_duckdb([json.loads(batch.body) for batch in batches], tmp_path) as connection:
        answers = {}
        for name in ("groups", "overlaps"):
            asked = connection.execute(queries(week, 500)[name])
            columns = [column[0] for column in asked.description]
            answers[name] = [dict(zip(columns, row, strict=True)) for row in asked.fetchall()]
    found = [(one.verdict, one.rule.name, one.dimension, one.name) for one in found_in(answers, DEFAULTS)]
    assert found == [
        ("act", "hard", "recipient_domain", "closed-company.example.com"),
        ("act", "blocked", "provider", "GMX"),
        ("act", "complaint", "campaign", "Win back lapsed customers"),
    ]
    providers = {row["name"]: row for row in answers["groups"] if row["dimension"] == "provider"}
    assert providers["Gmail"]["reported"] == 0  # Google reports no complaints


def test_the_tool_writes_the_page_from_postgresql(filled, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PGPASSWORD", filled.password)
    output = tmp_path / "page.html"
    address = dsn(filled).replace(f"password={filled.password} ", "")
    arguments = ["report", "--postgres", address, "--until", "2024-03-11", "--output", str(output)]
    assert operate.main(arguments) == 0
    said = capsys.readouterr()
    assert said.out == f"{output}\n"
    assert "18 events" in said.err
    text = output.read_text()
    assert "4 of 6 sent" in text
    assert "from PostgreSQL" in text
    assert "not read" in text  # no stack was named whose quarantine could be
    assert "jane.doe" not in text


def test_a_database_that_is_not_there_is_one_line(postgres, tmp_path, capsys):
    address = f"host=127.0.0.1 port={local_postgres.free_port()} dbname=x user=x connect_timeout=2"
    assert operate.main(["report", "--postgres", address, "--output", str(tmp_path / "page.html")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("bird-webhooks: PostgreSQL: connection failed")
    assert not (tmp_path / "page.html").exists()


def test_quarantine_is_counted_by_reason_within_the_days(s3):
    for day, part, reasons in [
        ("2024-03-03", "a", ["not JSON"]),
        ("2024-03-04", "b", ["not JSON", "for jane.doe@example.com"]),
        ("2024-03-10", "c", ["not JSON"]),
        ("2024-03-11", "d", ["not JSON"]),
    ]:
        body = "".join(json.dumps({"reason": reason, "original": "?"}) + "\n" for reason in reasons)
        s3.put_object(Bucket="lake-bucket", Key=f"quarantine/{day}/{part}.ndjson", Body=body.encode())
    assert report.quarantine.count(s3, "lake-bucket", WEEK) == Quarantine({"not JSON": 2, "for <address>": 1})
    assert report.quarantine.count(s3, "lake-bucket", WEEK, max_files=1).unread == 1
