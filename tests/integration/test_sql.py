"""The views and saved queries of sql/ on known events: DuckDB, in the place of Athena, and PostgreSQL give the same.

The events are there twice, of two batches. Days are counted back from today, for the queries are about the last 30
days. tests/e2e/test_sql.py compares the deployed views with these; tests/trino asks Athena's own engine.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from io import StringIO

import duckdb
import psycopg
import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import lists
from bird_webhooks.stack import Stack
from local_aws.emulator import ROOT
from local_aws.postgres import Postgres
from tests.integration.engines import in_duckdb, in_postgres, make_views
from tests.known_events import KNOWN, ago, known_events

Rows = list[tuple[str | None, ...]]
Ask = Callable[[str], Rows]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Iterator[duckdb.DuckDBPyConnection]:
    events = known_events()
    with in_duckdb([events, events], tmp_path_factory.mktemp("lake")) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(2 * len(events),)]
        assert connection.execute("SELECT count(*) FROM events_deduplicated").fetchall() == [(len(events),)]
        yield connection


@pytest.fixture(scope="module")
def database_and_server(rows) -> Iterator[tuple[psycopg.Connection, Postgres]]:
    with in_postgres(rows) as made:
        yield made


@pytest.fixture
def database(database_and_server) -> psycopg.Connection:
    return database_and_server[0]


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def ask(request) -> Ask:
    """`ask(sql)`: the rows of a statement, values as text that is the same for both engines."""
    if request.param == "PostgreSQL":
        return asking(request.getfixturevalue("database"))
    connection = request.getfixturevalue("rows")
    return lambda sql: [tuple(map(plain, row)) for row in connection.execute(sql).fetchall()]


def asking(connection: psycopg.Connection) -> Ask:
    return lambda sql: [tuple(map(plain, row)) for row in connection.execute(sql.encode()).fetchall()]


def plain(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def saved(name: str) -> str:
    return (ROOT / f"sql/queries/{name}.sql").read_text()


NOT_ALL = "non_transactional"
SUPPRESSED = [
    # address, subaccount, reason, class, campaign, events, first, last, scope
    ("447700900123", "4711", "hard_bounce", "10", None, "1", (12, "10:00:00"), (12, "10:00:00"), "all"),
    ("five-returned", "4711", "soft_bounces", "22", None, "5", (11, "12:30:00"), (7, "12:30:00"), "all"),
    ("five-soft", "4711", "soft_bounces", "24", None, "5", (11, "11:00:00"), (7, "11:00:00"), "all"),
    ("hard", "0", "link_unsubscribe", None, "known-primary", "1", (9, "08:00:00"), (9, "08:00:00"), NOT_ALL),
    ("hard", "4711", "hard_bounce", "30", None, "2", (20, "10:00:00"), (10, "10:00:00"), "all"),
    ("link-then-spam", "4711", "spam_complaint", None, "known-empty", "2", (5, "09:00:00"), (3, "09:00:00"), NOT_ALL),
    ("long-ago", "4711", "hard_bounce", "10", None, "1", (400, "10:00:00"), (400, "10:00:00"), "all"),
    ("only-link", "4711", "link_unsubscribe", None, None, "1", (6, "10:00:00"), (6, "10:00:00"), NOT_ALL),
    ("receipts", "4711", "list_unsubscribe", None, None, "1", (6, "09:00:00"), (6, "09:00:00"), "all"),
    ("unsubscribe-request", "4711", "hard_bounce", "90", None, "1", (12, "10:00:00"), (12, "10:00:00"), "all"),
]  # fmt: skip
# And not: admin (Bird's own refusal), spam-block, subscribe-request, policy, four-soft, four-and-an-old,
# five-then-delivered.


def test_suppression_candidates_and_their_latest_reason(ask):
    expected = [
        (name if name.isdigit() else f"{name}@known-a.example.com", *middle, ago(*first), ago(*last), scope, None, None)
        for name, *middle, first, last, scope in SUPPRESSED
    ]
    found = ask(f"SELECT * FROM suppression_candidates WHERE {KNOWN}")  # noqa: S608
    assert sorted(found) == sorted(expected)


SOFT_RULES = [
    pytest.param(0, 30, [], id="never"),
    pytest.param(4, 30, ["five-returned", "five-soft", "four-and-an-old", "four-soft"], id="four in a month"),
    pytest.param(5, 90, ["five-returned", "five-soft", "four-and-an-old"], id="five in a quarter"),
    pytest.param(5, 9, [], id="five in nine days"),
]


@pytest.mark.parametrize(("limit", "days", "expected"), SOFT_RULES)
def test_soft_bounces_make_a_candidate_by_the_rule_that_is_set(database, limit, days, expected):
    with database.transaction(force_rollback=True):
        make_views(database, SoftBounceLimit=limit, SoftBounceDays=days)
        sql = "SELECT rcpt_to FROM suppression_candidates WHERE reason = 'soft_bounces' ORDER BY rcpt_to"
        found = [address for (address,) in asking(database)(sql)]
    assert found == [f"{name}@known-a.example.com" for name in expected]


def test_views_can_be_made_again_over_those_that_others_built_on_them(database):
    with database.transaction(force_rollback=True):
        database.execute("CREATE VIEW theirs AS SELECT rcpt_to FROM suppression_candidates")
        make_views(database, SoftBounceLimit=3)
        seen = database.execute("SELECT rcpt_to FROM theirs WHERE rcpt_to LIKE 'four-%' ORDER BY 1").fetchall()
    assert seen == [("four-and-an-old@known-a.example.com",), ("four-soft@known-a.example.com",)]


def test_list_export_describes_the_reasons_and_leaves_out_what_is_no_address(ask):
    sql = f"SELECT * FROM list_export WHERE {KNOWN.replace('rcpt_to', 'email')} ORDER BY email, subaccount_id"  # noqa: S608
    found = ask(sql)
    assert [row[0] for row in found] == [f"{name}@known-a.example.com" for name, *_ in SUPPRESSED if not name.isdigit()]
    assert [row[3] for row in found] == [
        "Repeated bounces, the last one: 22 Mailbox Full",
        "Repeated bounces, the last one: 24 Timeout",
        "Unsubscribed by the link in the mail",
        "Bounced: 30 Generic Bounce: No RCPT",
        "Marked as spam",
        "Bounced: 10 Invalid Recipient",
        "Unsubscribed by the link in the mail",
        "Unsubscribed by the button of the mail client",
        "Bounced: 90 Unsubscribe",
    ]
    assert found[3] == (
        "hard@known-a.example.com",
        "4711",
        "hard_bounce",
        "Bounced: 30 Generic Bounce: No RCPT",
        "all",
        ago(10, "10:00:00"),
        None,
        None,
    )


def test_engagement_tells_machines_from_humans(ask):
    sql = """
        SELECT rcpt_to, delivered, human_opens, proxy_opens, machine_opens, clicks, machine_clicks,
          last_delivery, last_open, last_click, unsubscribed, complained
        FROM recipient_engagement
        WHERE rcpt_to IN ('reader@known-b.example.com', 'silent@known-b.example.com', 'angry@known-b.example.com',
          'link-then-spam@known-a.example.com') AND subaccount_id = '4711'
        ORDER BY rcpt_to
    """
    # fmt: off
    assert ask(sql) == [
        ("angry@known-b.example.com", "1", "0", "0", "0", "0", "0",
         ago(4, "10:00:00"), None, None, "false", "true"),
        ("link-then-spam@known-a.example.com", "0", "0", "0", "0", "0", "0",
         None, None, None, "true", "true"),
        ("reader@known-b.example.com", "2", "1", "1", "1", "1", "1",
         ago(5, "10:00:01"), ago(5, "10:05:00"), ago(5, "10:06:00"), "false", "false"),
        ("silent@known-b.example.com", "2", "1", "0", "0", "0", "0",
         ago(4, "10:00:00"), ago(5, "11:00:00"), None, "false", "false"),
    ]
    # fmt: on


def test_timeline_orders_a_message_within_the_second(ask):
    sql = "SELECT timestamp, type, detail, by_machine FROM message_timeline"
    found = ask(f"{sql} WHERE message_id = 'known-m1' ORDER BY timestamp, step")
    assert found == [
        (ago(5, "10:00:00"), "injection", None, None),
        (ago(5, "10:00:00"), "delay", "451 try again later", None),
        (ago(5, "10:00:01"), "delivery", None, None),
        (ago(5, "10:05:00"), "initial_open", None, "false"),
        (ago(5, "10:05:00"), "open", None, "false"),
        (ago(5, "10:06:00"), "click", "https://example.com/offer", "false"),
    ]


def test_all_bounce_classes_have_an_action(ask):
    found = ask("SELECT bounce_group, action, bounce_class FROM bounce_classes ORDER BY bounce_class")
    actions: dict[tuple[str | None, str | None], list[int]] = {}
    for group, action, code in found:
        actions.setdefault((group, action), []).append(int(code or 0))
    assert actions == {
        ("Undetermined", "count"): [1],
        ("Hard", "suppress"): [10, 30, 90],
        ("Soft", "count"): [20, 21, 22, 24, 40, 70],
        ("Soft", "none"): [23, 60, 100],
        ("Block", "none"): [50, 51, 52, 53, 54],
        ("Admin", "none"): [25, 26, 80],
    }


def test_delivered_by_day(ask):
    found = [row for row in ask(saved("delivered")) if row[0] in (ago(15), ago(16))]
    assert found == [
        (ago(15), "4", "5", "4", "3", "2", "2", "1", "0", "0", "1", "50.0000", "50.0000", "0.0000", "20.0000"),
        (ago(16), "1", "1", "0", "0", "0", "0", "0", "0", "0", "0", None, None, None, "0.0000"),
    ]


def test_bounces_by_class_and_provider(ask):
    assert [row for row in ask(saved("bounces_by_class_and_provider")) if row[0] == "Known Mail"] == [
        ("Known Mail", "10", "Invalid Recipient", "Hard", "2", "0", "1", "25.0000"),
        ("Known Mail", "22", "Mailbox Full", "Soft", "1", "1", "1", "12.5000"),
        ("Known Mail", "51", "Spam Block", "Block", "1", "0", "1", "12.5000"),
    ]


def test_complaint_rate_by_campaign(ask):
    found = [row for row in ask(saved("complaint_rate_by_campaign")) if str(row[0]).startswith("known-")]
    assert ("known-spring", "1", "5", "20.0000", "few", "5", None) in found


def test_by_campaign(ask):
    [found] = [row for row in ask(saved("by_campaign")) if row[0] == "known-spring"]
    assert found[:15] == ("known-spring", "5", "5", "5", "0", "0", "0", "1", "2", "0", "1", "1", "0", "0", "1")
    assert found[15:] == (
        "0.0000", "0.0000", "0.0000", "20.0000", "40.0000", "50.0000", "20.0000", "0.0000", "20.0000", None,
    )  # fmt: skip


def test_time_to_delivery(ask):
    found = [row for row in ask(saved("time_to_delivery")) if row[0] == "Known Mail"]
    assert found == [("Known Mail", "5", "3000", "60000", "60000", "60000", "100.0000", "0")]


def test_worst_domains(ask):
    domains = ("known-c.example.com", "known-d.example.com")
    found = [row for row in ask(saved("worst_domains")) if row[0] in domains]
    assert found == [("known-c.example.com", "20", "5", "0", "2", "1", "25.0000")]  # known-d: 19 are too few to tell


def test_likely_scanners(ask):
    assert ask(saved("likely_scanners")) == [("known-f.example.com", "1", "1", "1", "100.0000")]


def test_list_export_writes_from_postgresql_what_the_rows_of_duckdb_make(
    rows, database_and_server, monkeypatch, tmp_path
):
    _, server = database_and_server
    secret = server.secret()
    login = f"{secret['username']}:{secret['password']}@{secret['host']}:{secret['port']}/{secret['dbname']}"
    tls = f"sslmode=verify-full&sslrootcert={server.ca_certificate}"
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("none", lambda service: None))
    file = tmp_path / "suppression.csv"
    arguments = ["--subaccount", "4711", "--postgres", f"postgresql://{login}?{tls}"]
    assert operate.main(["list-export", "--output", str(file), *arguments]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    lines = file.read_bytes().split(b"\r\n")
    assert lines[0] == b"email,subaccount_id,reason,description,scope,added_at,customer_id,list_id"
    soft = f'five-soft@known-a.example.com,4711,soft_bounces,"Repeated bounces, the last one: 24 Timeout",all,{ago(7)}'
    assert f"{soft}T11:00:00Z,,".encode() in lines
    found = rows.execute(lists.statement(None, "4711", None)).fetchall()
    with closing(StringIO()) as expected:
        lists.write(expected, map(lists.plain, found))
        assert file.read_bytes().decode() == expected.getvalue()
