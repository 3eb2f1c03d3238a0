"""The account is a part of an event's identity; a table of an older release gets the new index while loads go on."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any

import psycopg
import pytest

from load_postgres import identity
from load_postgres import schema as tables
from load_postgres.database import Database
from load_postgres.errors import NotNowError
from load_postgres.rows import Rows
from local_aws import postgres as local_postgres
from local_aws.postgres import Postgres

COLUMNS = ("event_class", "type", "event_key", "customer_id")
OLD_INDEX = "UNIQUE INDEX {name} ON {events} (event_key, type, event_class, event_date) NULLS NOT DISTINCT"
OCTOBER, NOVEMBER, DECEMBER = date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1)
SECONDS = 120


def rows(*found: tuple[str, str | None]) -> Rows:
    """(event_key, customer_id)"""
    lines = [f"message_event,delivery,{key},{account or ''}" for key, account in found]
    return Rows(COLUMNS, "\n".join(lines).encode(), "")


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
    with closing(Database(server.secret, "bird", verify=True)) as target:
        yield target


@pytest.fixture
def old_table(server, database, monkeypatch) -> psycopg.Connection[Any]:
    """The table as release 0.2 made it: two months, the index without the account."""
    others = {name: text for name, text in tables.INDEXES.items() if name != tables.IDENTITY_INDEX}
    with monkeypatch.context() as release:
        release.setattr(tables, "INDEXES", {identity.OLD_INDEX: OLD_INDEX, **others})
        with closing(Database(server.secret, "bird", verify=True)) as older:
            older.load(OCTOBER, rows(*((f"o{number}", "1") for number in range(1000))))
            older.load(NOVEMBER, rows(*((f"n{number}", "1") for number in range(1000)), ("without", None)))
    return database


def indexes(database) -> dict[str, bool]:
    """The indexes of the table as a whole, and whether each is valid."""
    sql = (
        "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
        "WHERE x.indrelid = 'bird.events'::regclass AND x.indisunique"
    )
    return dict(database.execute(sql).fetchall())


def accounts(database, key: str) -> list[str | None]:
    sql = "SELECT customer_id FROM bird.events WHERE event_key = %s ORDER BY 1"
    return [account for (account,) in database.execute(sql, [key])]


def count(database) -> int:
    [[found]] = database.execute("SELECT count(*) FROM bird.events").fetchall()
    return int(found)


def test_two_accounts_with_the_same_ids_are_two_rows_and_none_is_an_account_too(loader, database):
    given = rows(("1", "us"), ("1", "eu"), ("1", None), ("1", "us"), ("1", None))
    assert loader.load(NOVEMBER, given)[:2] == (5, 3)
    assert loader.load(NOVEMBER, given)[:2] == (5, 0)
    assert accounts(database, "1") == ["eu", "us", None]
    assert indexes(database) == {"events_account_identity": True}


def test_index_of_an_older_table_is_replaced_while_loaders_run(old_table, server, loader):
    """Four loaders bring new, known and both months' rows all the while; nothing fails, and nothing is there twice."""
    stop = threading.Event()
    failures: list[str] = []
    loads: list[float] = []

    def load(turn: int) -> None:
        with closing(Database(server.secret, "bird", verify=True)) as target:
            number = 0
            while not stop.is_set():
                number += 1
                day = OCTOBER if number % 2 else NOVEMBER
                key = "o1" if day == OCTOBER else "n1"
                try:
                    target.load(day, rows((key, "1"), (f"{turn}-{number}", "1"), (f"shared-{number}", "1")))
                    loads.append(time.monotonic())
                except NotNowError as error:
                    failures.append(str(error))

    loaders = [threading.Thread(target=load, args=[turn]) for turn in range(4)]
    for thread in loaders:
        thread.start()
    began = time.monotonic()
    loader.load(DECEMBER, rows(("d1", "1")))  # a month that comes in between
    while identity.has_index(old_table, "bird", identity.OLD_INDEX) and time.monotonic() - began < SECONDS:
        loader.keep_up(SECONDS)
    ended = time.monotonic()
    loader.load(date(2026, 1, 1), rows(("j1", "1")))
    stop.set()
    for thread in loaders:
        thread.join()
    assert failures == []
    assert sum(began < moment < ended for moment in loads) > 4
    assert indexes(old_table) == {"events_account_identity": True}
    twice = "SELECT event_key FROM bird.events GROUP BY event_key HAVING count(*) > 1"
    assert old_table.execute(twice).fetchall() == []
    old_table.execute("SET enable_seqscan = off")
    plan = str(old_table.execute("EXPLAIN SELECT FROM bird.events WHERE event_key = 'o1'").fetchall())
    assert "events_2025_10_account_identity" in plan
    # From now on, another account's event with the same id is a row.
    assert loader.load(OCTOBER, rows(("o1", "2")))[:2] == (1, 1)
    assert accounts(old_table, "o1") == ["1", "2"]


def test_event_that_the_old_index_hides_waits_for_the_new_one(old_table, loader):
    given = rows(("n1", "2"), ("new", "2"), ("n1", "1"))
    with pytest.raises(NotNowError, match="another account has 1 of its ids"):
        loader.load(NOVEMBER, given)
    assert accounts(old_table, "new") == ["2"]  # the others of its file do not wait
    loader.keep_up(SECONDS)
    assert indexes(old_table) == {"events_account_identity": True}
    assert loader.load(NOVEMBER, given)[:2] == (3, 1)
    assert accounts(old_table, "n1") == ["1", "2"]
    assert accounts(old_table, "without") == [None]


def test_replacement_that_was_cut_short_goes_on(old_table, loader, server):
    loader.load(NOVEMBER, rows(("x", "1")))
    # GIVEN an index of one month that was built by hand, and one whose building was ended
    old_table.execute(
        "CREATE UNIQUE INDEX CONCURRENTLY events_2025_10_account_identity ON bird.events_2025_10 "
        "(event_key, type, event_class, customer_id, event_date) NULLS NOT DISTINCT"
    )
    old_table.execute("CREATE UNIQUE INDEX events_2025_11_account_identity ON bird.events_2025_11 (event_key)")
    administrator = f"host={server.sockets} port={server.port} user=postgres dbname=marketing"
    with psycopg.connect(administrator, autocommit=True) as admin:
        named = "indexrelid = 'bird.events_2025_11_account_identity'::regclass"
        admin.execute(f"UPDATE pg_index SET indisvalid = false WHERE {named}")  # noqa: S608
    # WHEN no time is left, nothing is done
    loader.keep_up(0)
    assert indexes(old_table)["events_identity"]
    loader.keep_up(SECONDS)
    assert indexes(old_table) == {"events_account_identity": True}


def test_reader_that_does_not_end_delays_the_replacement_and_no_load(old_table, server, loader):
    loader.load(NOVEMBER, rows(("x", "1")))
    with closing(server.connect(autocommit=False)) as reader:
        reader.execute("SELECT count(*) FROM bird.events")
        loader.keep_up(SECONDS)
        assert indexes(old_table) == {"events_account_identity": True, "events_identity": True}
        assert loader.load(NOVEMBER, rows(("y", "1")))[:2] == (1, 1)
        reader.rollback()
    loader.keep_up(SECONDS)
    assert indexes(old_table) == {"events_account_identity": True}


def test_loader_that_knew_the_old_index_goes_on_after_another_replaced_it(old_table, server, loader):
    loader.load(NOVEMBER, rows(("x", "1")))
    with closing(Database(server.secret, "bird", verify=True)) as other:
        other.load(NOVEMBER, rows(("y", "1")))
        other.keep_up(SECONDS)
    assert loader.load(NOVEMBER, rows(("x", "2"), ("x", "1")))[:2] == (2, 1)
    assert count(old_table) == 2004
