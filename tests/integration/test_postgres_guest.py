"""load_postgres in a database that belongs to others: their objects, users, settings and readers."""

import logging
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import erase_postgres
from bird_webhooks.stack import Stack
from load_postgres import ownership, upkeep
from load_postgres import schema as tables
from load_postgres.database import VIEW_PARAMETERS, Database
from load_postgres.errors import NotNowError, UnavailableError
from load_postgres.rows import Rows
from local_aws import postgres as local_postgres
from local_aws.emulator import ROOT
from local_aws.postgres import Postgres

OCTOBER, NOVEMBER, DECEMBER = date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1)


def rows(*keys: str) -> Rows:
    lines = [f"message_event,delivery,{key}" for key in keys]
    return Rows(("event_class", "type", "event_key"), "\n".join(lines).encode(), "")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with local_postgres.running() as started:
        yield started


@pytest.fixture
def admin(server) -> Iterator[psycopg.Connection[Any]]:
    with closing(
        psycopg.connect(
            host=str(server.sockets), port=server.port, user="postgres", dbname="marketing", autocommit=True
        )
    ) as connection:
        connection.execute("SET client_min_messages = warning; DROP SCHEMA IF EXISTS bird, public CASCADE")
        connection.execute("CREATE SCHEMA public AUTHORIZATION bird")
        yield connection
        connection.execute("ALTER ROLE bird RESET ALL")


@pytest.fixture
def database(server, admin) -> Iterator[psycopg.Connection[Any]]:
    with closing(server.connect()) as connection:
        yield connection


@pytest.fixture
def loader(server, admin) -> Iterator[Database]:
    with closing(Database(server.secret, "bird", verify=True)) as target:
        yield target


def column(connection, sql: str) -> list[Any]:
    return [value for (value,) in connection.execute(sql)]


def objects(connection, schema: str) -> list[tuple[Any, ...]]:
    """Everything in a schema, with columns and comments."""
    sql = """
        SELECT c.relname, c.relkind::text, obj_description(c.oid, 'pg_class'), pg_get_viewdef(c.oid),
          (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
        FROM pg_class c WHERE relnamespace = %s::regnamespace
        UNION ALL SELECT typname, typtype::text, NULL, NULL, NULL FROM pg_type WHERE typnamespace = %s::regnamespace
        ORDER BY 1, 2"""
    return connection.execute(sql, [schema, schema]).fetchall()


STRANGERS = [
    pytest.param("CREATE TABLE public.events (id bigint PRIMARY KEY, name text)", "events", id="table"),
    pytest.param("CREATE TABLE public.events (happened date) PARTITION BY RANGE (happened)", "events", id="months"),
    pytest.param("CREATE VIEW public.events AS SELECT 1 AS id", "events", id="view"),
    pytest.param("CREATE TYPE public.events AS ENUM ('fair', 'concert')", "events", id="type"),
    pytest.param("CREATE TABLE public.events_time (id bigint)", "events_time", id="name of an index"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "name"), STRANGERS)
def test_what_is_not_ours_is_not_touched_and_named(server, database, sql, name):
    database.execute(sql)
    before = objects(database, "public")
    with closing(Database(server.secret, "public", verify=True)) as loader:
        for _ in range(2):
            with pytest.raises(UnavailableError, match=f"public.{name} is .*set PostgresSchema to another"):
                loader.load(NOVEMBER, rows("1"))
    assert objects(database, "public") == before


def test_a_stranger_s_month_is_not_touched_and_other_months_load(loader, database):
    loader.load(OCTOBER, rows("1"))
    database.execute("CREATE TABLE bird.events_2025_11 (id bigint)")
    with pytest.raises(NotNowError, match=r"bird.events_2025_11 is there and not a month of bird.events") as error:
        loader.load(NOVEMBER, rows("2"))
    assert not isinstance(error.value, UnavailableError)
    loader.load(DECEMBER, rows("3"))
    assert column(database, "SELECT event_key FROM bird.events ORDER BY 1") == ["1", "3"]
    assert column(database, "SELECT count(*) FROM bird.events_2025_11") == [0]


@pytest.mark.parametrize("kind", ["VIEW", "TABLE"])
def test_a_stranger_s_view_is_not_replaced_and_rows_load(loader, database, caplog, kind):
    database.execute(f"CREATE SCHEMA bird; CREATE {kind} bird.bounce_classes AS SELECT 1::bigint AS bounce_class")
    loader.load(NOVEMBER, rows("1"))
    assert column(database, "SELECT count(*) FROM bird.events") == [1]
    assert database.execute("SELECT * FROM bird.bounce_classes").fetchall() == [(1,)]
    [record] = [one for one in caplog.records if one.message == "views not applied"]
    assert record.reason == "bird.bounce_classes is there and not a view of this application: rename it"


def test_views_of_the_release_before_are_ours(loader, database):
    loader.load(NOVEMBER, rows("1"))
    database.execute("COMMENT ON VIEW bird.bounce_classes IS 'as it was'")
    database.execute("COMMENT ON TABLE bird.events IS 'Bird''s email events, loaded by bird-webhooks. Views: 0a1b'")
    loader.close()
    loader.load(NOVEMBER, rows("2"))
    assert "Applied views" in column(database, "SELECT obj_description('bird.events'::regclass)")[0]
    assert column(database, "SELECT obj_description('bird.bounce_classes'::regclass)")[0].endswith("(bird-webhooks)")


def as_user(server: Postgres, name: str) -> Database:
    return Database(lambda: {**server.secret(), "username": name, "password": "x"}, "bird", verify=True)


@pytest.fixture
def clone(server, admin) -> Iterator[str]:
    """The second user of Secrets Manager's rotation: tests/data/inputs2/03-alternating-users.sql."""
    admin.execute("CREATE ROLE bird_clone LOGIN PASSWORD 'x'; GRANT bird TO bird_clone")
    admin.execute("GRANT CREATE, TEMPORARY ON DATABASE marketing TO bird_clone")
    yield "bird_clone"
    admin.execute("DROP SCHEMA IF EXISTS bird CASCADE; DROP OWNED BY bird_clone; DROP ROLE bird_clone")


def owners(connection) -> set[str]:
    sql = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'bird'::regnamespace"
    return set(column(connection, sql))


@pytest.mark.parametrize("clone_first", [False, True])
def test_users_that_alternate_own_nothing_apart(server, admin, clone, loader, clone_first):
    cloned = as_user(server, clone)
    first, second = (cloned, loader) if clone_first else (loader, cloned)
    with closing(cloned):
        first.load(OCTOBER, rows("1"))
        first.close()
        second.load(NOVEMBER, rows("2"))
        second.close()
        admin.execute("ALTER TABLE bird.events DROP COLUMN sms_text CASCADE")  # a version with one more column
        first.load(DECEMBER, rows("3"))
        second.load(DECEMBER, rows("4"))
    assert column(admin, "SELECT count(*) FROM bird.events") == [4]
    assert owners(admin) == {"bird"}


def test_what_a_clone_made_under_an_older_release_is_handed_over(server, admin, clone, loader, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(ownership, "take_role", lambda *_: None)
        with closing(as_user(server, clone)) as cloned:
            cloned.load(OCTOBER, rows("1"))
    assert owners(admin) == {"bird_clone"}
    with closing(as_user(server, clone)) as cloned:
        cloned.load(NOVEMBER, rows("2"))
    loader.load(DECEMBER, rows("3"))
    assert owners(admin) == {"bird"}


def test_a_schema_s_owner_owns_what_its_members_make(server, admin):
    admin.execute("CREATE ROLE shared NOLOGIN; CREATE ROLE one LOGIN PASSWORD 'x' IN ROLE shared")
    admin.execute("CREATE ROLE two LOGIN PASSWORD 'x' IN ROLE shared; CREATE SCHEMA bird AUTHORIZATION shared")
    try:
        for name, day in (("one", OCTOBER), ("two", NOVEMBER), ("one", DECEMBER)):
            with closing(as_user(server, name)) as target:
                target.load(day, rows(name))
        assert owners(admin) == {"shared"}
    finally:
        admin.execute("DROP SCHEMA bird CASCADE; DROP OWNED BY one, two, shared; DROP ROLE one, two, shared")


def test_deletes_work_in_a_table_that_is_published(loader, database, admin):
    admin.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    try:
        loader.load(NOVEMBER, rows("1", "2"))
        database.execute("DELETE FROM bird.events WHERE event_key = '1'")
        assert column(database, "SELECT event_key FROM bird.events") == ["2"]
    finally:
        admin.execute("DROP PUBLICATION everything")


def login_of(server) -> str:
    secret = server.secret()
    login = f"host={secret['host']} port={secret['port']} dbname=marketing user=bird password={secret['password']}"
    return f"{login} sslmode=verify-full sslrootcert={server.ca_certificate}"


def test_a_table_that_is_not_there_is_named_before_anything_is_erased(server, database):
    with pytest.raises(OperateError, match=r"nothing was erased.*marketing has no table other\.events"):
        erase_postgres.Table(Stack("", lambda service: None), login_of(server), "other")


def test_months_of_an_older_release_become_deletable_and_erase_says_so_first(server, loader, database, admin):
    loader.load(NOVEMBER, rows("1"))
    database.execute("ALTER TABLE bird.events_2025_11 REPLICA IDENTITY DEFAULT")
    where = login_of(server)
    stack = Stack("", lambda service: None)
    erase_postgres.Table(stack, where, "bird")
    for publication in ("FOR ALL TABLES", "FOR TABLE bird.events WITH (publish_via_partition_root = true)"):
        admin.execute(f"CREATE PUBLICATION everything {publication}")
        try:
            with pytest.raises(OperateError, match=r"nothing was erased.*bird\.events_2025_11 REPLICA IDENTITY FULL"):
                erase_postgres.Table(stack, where, "bird")
            admin.execute("ALTER PUBLICATION everything SET (publish = 'insert')")
            erase_postgres.Table(stack, where, "bird")
        finally:
            admin.execute("DROP PUBLICATION everything")
    upkeep.keep_up(database, "bird", 120)
    admin.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    try:
        erase_postgres.Table(stack, where, "bird")
        database.execute("DELETE FROM bird.events")
    finally:
        admin.execute("DROP PUBLICATION everything")


def test_indexes_of_an_older_release_are_replaced_unless_they_were_dropped(loader, database, monkeypatch):
    older = {
        "events_campaign_id": "INDEX {name} ON {events} (campaign_id)",
        "events_type": "INDEX {name} ON {events} (type)",
        "events_rcpt_to": "INDEX {name} ON {events} (lower(rcpt_to))",
    }
    newer = {"events_campaign", "events_type_date", "events_suppression", "events_address"}
    others = {name: text for name, text in tables.INDEXES.items() if name not in newer}
    with monkeypatch.context() as release:
        release.setattr(tables, "INDEXES", {**others, **older})
        for day in (OCTOBER, NOVEMBER):
            loader.load(day, rows("1"))
    database.execute("DROP INDEX bird.events_type")
    upkeep.keep_up(database, "bird", 120)
    loader.load(DECEMBER, rows("1"))
    names = (
        "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = '{}'::regclass AND indisvalid"
    )
    expected = {*others, "events_campaign", "events_suppression", "events_address"}
    assert set(column(database, names.format("bird.events"))) == expected
    assert {len(column(database, names.format(f"bird.events_2025_{month}"))) for month in (10, 11, 12)} == {6}


def test_a_value_that_the_older_index_did_not_have_keeps_nothing_else_from_being_done(
    loader, database, monkeypatch, caplog
):
    """Release 0.2 had no index of raw_rcpt_to. An index row has 2,704 bytes at most, compressed."""
    newer = {"events_suppression", "events_address"}
    older = {name: text for name, text in tables.INDEXES.items() if name not in newer}
    with monkeypatch.context() as release:
        release.setattr(tables, "INDEXES", {**older, "events_rcpt_to": "INDEX {name} ON {events} (lower(rcpt_to))"})
        loader.load(NOVEMBER, rows("1"))
    monkeypatch.setattr(upkeep, "TOO_LONG", set())
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6_000))  # noqa: S311
    database.execute("UPDATE bird.events SET type = 'bounce', rcpt_to = NULL, raw_rcpt_to = %s", [long])
    for _ in range(2):
        upkeep.keep_up(database, "bird", 120)
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said == ["a value is too long for an index"]
    assert column(database, "SELECT to_regclass('bird.events_rcpt_to') IS NOT NULL") == [True]
    assert upkeep.last_analyzed(database, "bird") is not None


def test_figures_of_a_campaign_come_from_an_index_alone(loader, database):
    loader.load(NOVEMBER, rows("1"))
    database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    sql = "SELECT event_date, type, count(*) FROM bird.events WHERE campaign_id = 'spring' GROUP BY 1, 2"
    assert "Index Only Scan using events_2025_11_campaign_id_type_event_date_idx" in "\n".join(
        column(database, f"EXPLAIN {sql}")
    )


def test_an_address_is_found_among_the_few_rows_of_the_suppression_list(loader, database):
    """Read by the index of all rows, an address that gets much mail would take several times as long."""
    loader.load(NOVEMBER, rows("1"))
    database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    plan = "\n".join(
        column(database, "EXPLAIN SELECT * FROM bird.suppression_candidates WHERE rcpt_to = 'a@example.com'")
    )
    [few] = column(
        database,
        "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid "
        "WHERE indrelid = 'bird.events_2025_11'::regclass AND indpred IS NOT NULL",
    )
    # The reasons; soft bounces twice, once to count them and once to show them. Deliveries are in the other index.
    assert plan.count(f"Index Scan using {few} on") == 3


def documented(start: str) -> str:
    """The block of SQL in the guide that starts with the words."""
    text = (ROOT / "docs/downstream/postgresql.md").read_text()
    [found] = [block for block in re.findall(r"```sql\n(.*?)```", text, re.DOTALL) if block.startswith(start)]
    return found


def test_a_copy_of_recipient_engagement_is_made_and_refreshed_as_documented(loader, database):
    loader.load(NOVEMBER, Rows(("event_class", "type", "event_key", "rcpt_to"), b"c,delivery,1,a@example.com", ""))
    statements = documented("CREATE MATERIALIZED VIEW").split(";")
    for statement in statements:
        database.execute(statement)
    loader.load(NOVEMBER, Rows(("event_class", "type", "event_key", "rcpt_to"), b"c,delivery,2,b@example.com", ""))
    assert column(database, "SELECT rcpt_to FROM bird.engagement") == ["a@example.com"]
    database.execute(statements[2])
    assert column(database, "SELECT rcpt_to FROM bird.engagement ORDER BY 1") == ["a@example.com", "b@example.com"]


SETTINGS = [
    "default_tablespace = 'pg_default'",
    "search_path = 'public, pg_temp'",
    "datestyle = 'German'",
    "timezone = 'Asia/Kolkata'",
    "standard_conforming_strings = off",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_role_do_not_reach_us(loader, database, admin, setting):
    admin.execute(f"ALTER ROLE bird SET {setting}")
    # What a role's search_path finds first: not our staging table.
    admin.execute("CREATE TABLE public.bird_staging (event_class text)")
    for day, key in ((NOVEMBER, "1"), (NOVEMBER, "2"), (DECEMBER, "3")):
        loader.load(day, rows(key))
        loader.close()
    assert column(database, "SELECT event_key FROM bird.events ORDER BY 1") == ["1", "2", "3"]
    assert column(admin, "SELECT count(*) FROM public.bird_staging") == [0]


PASTED = [
    pytest.param(lambda pem: pem.replace("\n", "\\n"), id="two characters for a line end"),
    pytest.param(lambda pem: pem.replace("\n", "\\r\\n"), id="four characters for a line end"),
    pytest.param(lambda pem: " ".join(pem.split("\n")), id="blanks for line ends"),
    pytest.param(lambda pem: pem.replace("\n", "\r\n"), id="CRLF"),
    pytest.param(lambda pem: pem.strip(), id="no line end at the end"),
    pytest.param(lambda pem: "\\n".join(pem.split("\n") * 2), id="two in one line"),
    pytest.param(lambda pem: f"# Amazon's\n{pem}", id="a comment before it"),
]


@pytest.mark.parametrize("change", PASTED)
def test_certificates_and_hosts_are_read_as_people_paste_them(server, database, change):
    secret = server.secret()
    pasted = {
        **secret,
        "sslrootcert": change(secret["sslrootcert"]),
        **{name: f" {secret[name]}\n" for name in ("host", "port", "dbname", "username")},
    }
    with closing(Database(lambda: pasted, "bird", verify=True)) as loader:
        loader.load(NOVEMBER, rows("1"))
    assert column(database, "SELECT event_key FROM bird.events") == ["1"]


CHANGES = [
    pytest.param("ALTER TABLE bird.events ADD CONSTRAINT small CHECK (msg_size < 100)", id="check"),
    pytest.param("ALTER TABLE bird.events ADD kb bigint GENERATED ALWAYS AS (msg_size / 1000) STORED", id="generated"),
    pytest.param("ALTER TABLE bird.events ADD note text DEFAULT 'new' NOT NULL", id="default"),
    pytest.param("CREATE INDEX ON bird.events (subject)", id="index"),
    pytest.param("ALTER TABLE bird.events ALTER subject SET STORAGE EXTERNAL", id="storage"),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_new_months_are_like_the_table(loader, database, change):
    loader.load(OCTOBER, rows("1"))
    database.execute(change)
    loader.load(NOVEMBER, rows("2"))
    assert column(database, "SELECT event_key FROM bird.events ORDER BY 1") == ["1", "2"]
    shapes = """
        SELECT array(SELECT (attname, attgenerated, attstorage, attnotnull)::text FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attname),
          array(SELECT pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = c.oid AND contype = 'c' ORDER BY 1),
          (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)
        FROM pg_class c WHERE relname IN ('events_2025_10', 'events_2025_11')"""
    [october, november] = database.execute(shapes).fetchall()
    assert october == november


def test_a_partition_of_a_user_s_own_is_used(loader, database):
    loader.load(OCTOBER, rows("1"))
    database.execute("CREATE TABLE bird.next PARTITION OF bird.events FOR VALUES FROM ('2025-11-01') TO (MAXVALUE)")
    loader.load(NOVEMBER, rows("2"))
    loader.load(date(2026, 2, 1), rows("3"))
    assert column(database, "SELECT event_key FROM bird.next ORDER BY 1") == ["2", "3"]


def test_readers_of_views_that_are_replaced_see_no_deadlock(server, loader, database):
    loader.load(NOVEMBER, rows("1"))
    text, failures, reads, ends = tables.views_sql(VIEW_PARAMETERS), [], [], threading.Event()

    def read() -> None:
        with closing(server.connect()) as reader:
            while not ends.is_set():
                try:
                    reader.execute("SELECT count(*) FROM bird.list_export")
                    reads.append(1)
                except psycopg.Error as error:
                    failures.append(type(error).__name__)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(10):
            assert tables.apply_views(database, "bird", f"{text}\n-- {number}\nSELECT 1") is True
    finally:
        ends.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert len(reads) > 3


def test_a_new_column_waits_briefly_for_readers_and_does_not_hold_others_up(server, loader, database, monkeypatch):
    monkeypatch.setattr(tables, "LOCK_PAUSE_SECONDS", 0.5)
    loader.load(NOVEMBER, rows("1"))
    loader.close()
    database.execute("ALTER TABLE bird.events DROP COLUMN sms_text CASCADE")

    def load_in_vain() -> None:
        with pytest.raises(UnavailableError, match="LockNotAvailable"):
            loader.load(NOVEMBER, rows("2"))

    with closing(server.connect(autocommit=False)) as dump, closing(server.connect()) as reader:
        dump.execute("SELECT count(*) FROM bird.events")  # and its transaction stays open
        waiting = threading.Thread(target=load_in_vain)
        waiting.start()
        slowest = 0.0
        while waiting.is_alive():
            began = time.monotonic()
            reader.execute("SELECT count(*) FROM bird.events")
            slowest = max(slowest, time.monotonic() - began)
        waiting.join()
    assert slowest < 5  # ten seconds before; a lock is waited for one second, on a machine that may be busy
    loader.load(NOVEMBER, rows("2"))
    assert column(database, "SELECT event_key FROM bird.events ORDER BY 1") == ["1", "2"]


def test_months_that_are_over_are_vacuumed_and_the_table_analyzed(loader, database, caplog):
    caplog.set_level(logging.INFO)
    for day in (OCTOBER, NOVEMBER):
        loader.load(day, rows("1", "2"))
    loader.close()  # a session reports what it changed at its end, if not before
    soon = datetime(2025, 11, 2, 23, tzinfo=UTC)  # late events of October may still come
    upkeep.keep_up(database, "bird", 120, soon)
    assert done(caplog) == ["table analyzed"]
    upkeep.keep_up(database, "bird", 120, datetime.now(UTC))
    assert done(caplog) == []  # it was analyzed this week
    next_week = datetime.now(UTC) + timedelta(days=8)
    upkeep.keep_up(database, "bird", 120, next_week)
    assert done(caplog) == ["month vacuumed", "month vacuumed", "table analyzed"]
    upkeep.keep_up(database, "bird", 120, next_week)
    assert done(caplog) == ["table analyzed"]
    upkeep.keep_up(database, "bird", 5, next_week)
    assert done(caplog) == []  # no time
    assert column(
        database, "SELECT count(*) > 50 FROM pg_stats WHERE schemaname = 'bird' AND tablename = 'events'"
    ) == [True]


def done(caplog) -> list[str]:
    found = [record.message for record in caplog.records if record.name == "load_postgres.upkeep"]
    caplog.clear()
    return found
