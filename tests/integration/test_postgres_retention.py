"""Months that are older than the retention go, and the suppression list, readers and loaders do not notice."""

import logging
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import load_postgres.app
from bird_webhooks.operate.erase_postgres import Erased, Table
from bird_webhooks.operate.mentions import Person
from bird_webhooks.stack import Stack
from load_postgres import retention, schema
from load_postgres.database import Database
from load_postgres.errors import NotNowError
from load_postgres.rows import Rows
from load_postgres.table import Loaded
from local_aws import postgres as local_postgres
from local_aws.postgres import Postgres

TODAY = datetime.now(UTC).date()
COLUMNS = (
    "event_class", "type", "event_key", "timestamp", "received_at", "customer_id", "subaccount_id", "rcpt_to",
    "raw_rcpt_to", "list_id", "bounce_class", "campaign_id", "transactional", "fbtype", "message_id",
)  # fmt: skip
SUPPRESSED = "SELECT * FROM bird.suppression_candidates ORDER BY rcpt_to, subaccount_id, customer_id, list_id, reason"
EXPORTED = "SELECT * FROM bird.list_export ORDER BY email, subaccount_id, customer_id, list_id, reason"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with local_postgres.running() as started:
        yield started


@pytest.fixture
def database(server) -> Iterator[psycopg.Connection[Any]]:
    with closing(server.connect()) as connection:
        connection.execute("SET client_min_messages = warning; DROP SCHEMA IF EXISTS bird CASCADE")
        yield connection


@pytest.fixture
def loader(server, database) -> Iterator[Database]:
    """Without a retention: it keeps all."""
    with closing(Database(server.secret, "bird", verify=True)) as target:
        yield target


def column(connection, sql: str) -> list[Any]:
    return [value for (value,) in connection.execute(sql)]


def months_in(database) -> list[str]:
    sql = """
        SELECT format('bird.%s', relname) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
        WHERE inhparent = 'bird.events'::regclass ORDER BY 1"""
    return column(database, sql)


def first_of_month(back: int) -> date:
    number = TODAY.year * 12 + TODAY.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)


def named(back: int) -> str:
    return f"bird.events_{first_of_month(back):%Y_%m}"


def event(key: str, kind: str = "bounce", **fields: str) -> dict[str, str]:
    return {"event_class": "message_event", "type": kind, "event_key": key, "rcpt_to": f"{key}@example.com", **fields}


def load(loader: Database, day: date, *events: dict[str, str]) -> Loaded:
    at = f"{day}T12:00:00Z"
    lines = [",".join({"timestamp": at, "received_at": at, **one}.get(name, "") for name in COLUMNS) for one in events]
    return loader.load(day, Rows(COLUMNS, "\n".join(lines).encode(), ""))


def months_of_bounces(loader: Database, *back: int) -> None:
    for number in back:
        load(
            loader,
            first_of_month(number),
            event(f"month-{number}", bounce_class="10"),
            event(f"mail-{number}", "delivery"),
        )


def dropping(loader: Database, months: int, seconds: float = 60) -> int:
    loader.retention_months = months
    return loader.drop_months(seconds)


def as_erase_sees_it(server: Postgres) -> Table:
    where = {"host": server.host, "port": server.port, "user": server.username, "password": server.password}
    return Table(Stack("", lambda *_: None, 0), make_conninfo("", dbname=server.dbname, **where), "bird")


def random_events(seed: int) -> dict[date, list[dict[str, str]]]:
    """What makes and unmakes candidates, of few persons, over fourteen months and the last weeks."""
    chance = random.Random(seed)  # noqa: S311
    back = (0, 1, 3, 8, 20, *(chance.randrange(430) for _ in range(25)))
    days = [TODAY - timedelta(days=number) for number in back]
    found: dict[date, list[dict[str, str]]] = {
        TODAY - timedelta(days=back): [event(f"soft-{back}", rcpt_to="soft@example.com", bounce_class="22")]
        for back in range(6)
    }
    for number in range(394):
        kind = chance.choice(
            ("bounce", "bounce", "out_of_band", "spam_complaint", "list_unsubscribe", "link_unsubscribe", "delivery")
        )
        address = f"Person{chance.randrange(8)}@example.com"
        found.setdefault(chance.choice(days), []).append({
            "event_class": "message_event",
            "type": kind,
            "event_key": str(number),
            "customer_id": chance.choice(("", "1", "2")),
            "subaccount_id": chance.choice(("", "0", "7")),
            **chance.choice(({"rcpt_to": address}, {"raw_rcpt_to": address}, {"rcpt_to": address.lower()}, {})),
            "list_id": chance.choice(("", "weekly")),
            "bounce_class": chance.choice(("", "10", "22", "25", "60", "70", "90")),
            "campaign_id": chance.choice(("", "spring")),
            "transactional": chance.choice(("", "true", "false")),
            "fbtype": chance.choice(("", "abuse", "not-spam")),
            "message_id": chance.choice(("", str(number))),
        })  # fmt: skip
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_suppression_list_is_the_same_row_by_row_before_and_after_months_go(loader, database, seed):
    events = random_events(seed)
    for day, some in events.items():
        load(loader, day, *some)
    suppressed, exported = database.execute(SUPPRESSED).fetchall(), database.execute(EXPORTED).fetchall()
    assert {row[2] for row in suppressed} >= {"hard_bounce", "soft_bounces", "spam_complaint", "list_unsubscribe"}
    for months in (6, 1):
        before = months_in(database)
        assert dropping(loader, months) == 0
        assert len(months_in(database)) < len(before)
        assert database.execute(SUPPRESSED).fetchall() == suppressed
        assert database.execute(EXPORTED).fetchall() == exported
    # All files come once more: those of months that are gone add no row, and nothing is counted twice.
    left = column(database, "SELECT event_key FROM bird.events ORDER BY 1")
    loaded = [load(loader, day, *some) for day, some in events.items()]
    assert sum(one.new for one in loaded) == 0
    assert sum(one.too_old for one in loaded) == 400 - len(left) > 0
    assert column(database, "SELECT event_key FROM bird.events ORDER BY 1") == left
    assert database.execute(SUPPRESSED).fetchall() == suppressed
    # One address is looked up by the indexes of both.
    plan = "\n".join(
        column(database, "EXPLAIN SELECT * FROM bird.suppression_candidates WHERE rcpt_to = 'a@example.com'")
    )
    assert "using suppression_events_kept_lower_idx" in plan.replace(
        "on suppression_events_kept_lower_idx", "using suppression_events_kept_lower_idx"
    )


def test_without_a_retention_nothing_goes(loader, database):
    months_of_bounces(loader, 0, 3, 30)
    assert dropping(loader, 0) == 0
    assert months_in(database) == [named(30), named(3), named(0)]


def test_a_retention_that_is_reset_drops_nothing_more_and_takes_late_events(loader, database):
    """As an update from the Serverless Application Repository does, which sets parameters to their defaults."""
    months_of_bounces(loader, 0, 3, 5)
    assert dropping(loader, 4) == 0
    assert dropping(loader, 0) == 0
    assert months_in(database) == [named(3), named(0)]
    late = event("late", "spam_complaint")
    assert load(loader, first_of_month(5), late, event("mail", "delivery")).new == 2
    assert months_in(database) == [named(5), named(3), named(0)]
    suppressed = database.execute(SUPPRESSED).fetchall()
    assert [row[0] for row in suppressed] == [f"{one}@example.com" for one in ("late", "month-0", "month-3", "month-5")]
    assert dropping(loader, 4) == 0
    assert months_in(database) == [named(3), named(0)]
    assert database.execute(SUPPRESSED).fetchall() == suppressed


def test_readers_and_loaders_go_on_while_a_month_goes_and_the_next_run_ends_it(server, loader, database, monkeypatch):
    months_of_bounces(loader, 0, 3, 4)
    suppressed = database.execute(SUPPRESSED).fetchall()
    monkeypatch.setattr(retention, "MIN_SECONDS", 0)
    loader.retention_months = 2
    with closing(server.connect(autocommit=False)) as reader:
        reader.execute("SELECT count(*) FROM bird.events")  # and its transaction stays open
        with pytest.raises(NotNowError, match="QueryCanceled"):
            loader.drop_months(1)
        assert column(database, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == [1]
        assert load(loader, TODAY, event("meanwhile")).new == 1
        assert database.execute(SUPPRESSED).fetchall() == suppressed
        # An event of a month that is halfway gone.
        late = load(loader, first_of_month(4), event("late", "spam_complaint"), event("mail", "delivery"))
        assert (late.new, late.too_old) == (0, 2)
        assert database.execute("SELECT count(*) FROM bird.suppression_candidates").fetchall() == [
            (len(suppressed) + 1,)
        ]
        loader.retention_months = 0
        assert load(loader, first_of_month(4), event("late", "spam_complaint")).too_old == 1
    loader.retention_months = 2
    assert loader.drop_months(60) == 0
    assert months_in(database) == [named(0)]
    assert not column(database, f"SELECT to_regclass('{named(4)}') IS NOT NULL")[0]


def test_a_table_with_a_default_partition_keeps_its_readers_waiting_for_a_second_at_most(
    server, loader, database, monkeypatch
):
    months_of_bounces(loader, 0, 3)
    database.execute("CREATE TABLE bird.others PARTITION OF bird.events DEFAULT")
    monkeypatch.setattr(schema, "LOCK_PAUSE_SECONDS", 0)
    monkeypatch.setattr(schema, "LOCK_SECONDS", 0.1)
    with closing(server.connect(autocommit=False)) as reader:
        reader.execute("SELECT count(*) FROM bird.events")
        with pytest.raises(NotNowError, match="LockNotAvailable"):
            dropping(loader, 1)
    assert months_in(database) == [named(3), named(0), "bird.others"]
    assert dropping(loader, 1) == 0
    assert months_in(database) == [named(0), "bird.others"]


def test_what_a_user_detached_or_attached_stays(loader, database):
    months_of_bounces(loader, 0, 3, 4)
    database.execute(f"ALTER TABLE bird.events DETACH PARTITION {named(4)}")
    database.execute(
        "CREATE TABLE bird.y1999 PARTITION OF bird.events FOR VALUES FROM ('1999-01-01') TO ('2000-01-01')"
    )
    load(loader, date(1999, 5, 1), event("old", bounce_class="10"))
    suppressed = database.execute(SUPPRESSED).fetchall()
    assert dropping(loader, 1) == 0
    assert months_in(database) == [named(0), "bird.y1999"]
    assert column(database, f"SELECT count(*) FROM {named(4)}") == [2]  # noqa: S608
    assert database.execute(SUPPRESSED).fetchall() == suppressed


def test_a_view_of_a_user_s_on_a_month_keeps_that_one_and_is_said(loader, database, caplog):
    months_of_bounces(loader, 0, 3, 4)
    database.execute(f"CREATE VIEW bird.mine AS SELECT * FROM {named(4)}")  # noqa: S608
    assert dropping(loader, 1) == 1
    [said] = [record.reason for record in caplog.records if record.message == "months not dropped yet"]
    assert said == f"DependentObjectsStillExist: something of a user's needs {named(4).removeprefix('bird.')}"
    assert months_in(database) == [named(0)]
    database.execute("DROP VIEW bird.mine")
    assert dropping(loader, 1) == 0
    assert column(database, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'events_2%'") == [1]


def test_rows_that_the_table_of_what_is_kept_refuses_are_refused_as_elsewhere(loader, database):
    months_of_bounces(loader, 0, 3)
    dropping(loader, 1)
    rejected: list[Any] = []
    at = f"{first_of_month(3)}T12:00:00Z"
    lines = [f"message_event,bounce,1,{at},a@example.com,10", "message_event,bounce,2,no time,b@example.com,10"]
    rows = Rows(
        ("event_class", "type", "event_key", "timestamp", "rcpt_to", "bounce_class"), "\n".join(lines).encode(), ""
    )
    loaded = loader.load(first_of_month(3), rows, rejected.extend)
    assert (loaded.rows, loaded.too_old, loaded.rejected, len(rejected)) == (2, 1, 1, 1)
    assert "a@example.com" in column(database, "SELECT rcpt_to FROM bird.suppression_candidates")


def test_a_person_is_erased_from_what_is_kept_and_from_copies_of_the_views(server, loader, database):
    months_of_bounces(loader, 0, 3)
    dropping(loader, 1)
    database.execute("CREATE MATERIALIZED VIEW bird.list AS SELECT * FROM bird.list_export")
    database.execute("CREATE MATERIALIZED VIEW bird.counts AS SELECT count(*) AS persons FROM bird.list")
    database.execute("CREATE MATERIALIZED VIEW bird.never AS SELECT * FROM bird.list_export WITH NO DATA")
    table = as_erase_sees_it(server)
    person = Erased(Person("month-3@example.com"))
    assert table.count(person) == 1
    table.delete(person)
    table.refresh_copies()
    assert table.count(person) == 0
    assert column(database, "SELECT event_key FROM bird.suppression_events_kept") == []
    assert column(database, "SELECT email FROM bird.list") == ["month-0@example.com"]
    assert column(database, "SELECT persons FROM bird.counts") == [1]


def test_a_person_is_erased_from_a_month_that_could_not_be_dropped(server, loader, database):
    """It is no part of the table any more, and stays as long as a view of a user's reads it."""
    months_of_bounces(loader, 0, 3, 4)
    database.execute(f"CREATE VIEW bird.mine AS SELECT * FROM {named(4)}")  # noqa: S608
    database.execute("CREATE MATERIALIZED VIEW bird.copy AS SELECT * FROM bird.mine")
    assert dropping(loader, 1) == 1
    table = as_erase_sees_it(server)
    person = Erased(Person("month-4@example.com"))
    assert table.count(person) == 2  # there, and in what is kept for the suppression list
    table.delete(person)
    table.refresh_copies()
    assert table.count(person) == 0
    assert column(database, "SELECT event_key FROM bird.mine") == ["mail-4"]
    assert column(database, "SELECT event_key FROM bird.copy") == ["mail-4"]


@pytest.mark.parametrize("left", [0, 1])
def test_the_stack_s_schedule_runs_it_and_says_what_is_left(loader, database, monkeypatch, caplog, left):
    months_of_bounces(loader, 0, 3)
    if left:
        database.execute(f"CREATE VIEW bird.mine AS SELECT * FROM {named(3)}")  # noqa: S608
    loader.retention_months = 1
    monkeypatch.setattr(load_postgres.app, "database", lambda: loader)
    caplog.set_level(logging.INFO)

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 300_000

    assert load_postgres.app.lambda_handler({"source": "aws.events"}, Context()) == {}
    [line] = [record for record in caplog.records if record.message == "retention applied"]
    assert line.months_left == left
    assert [one["Name"] for one in line._aws["CloudWatchMetrics"][0]["Metrics"]] == ["months_left"]
