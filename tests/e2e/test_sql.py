"""The views and saved queries of sql/ on known events: Athena and PostgreSQL give the same rows.

The events went through the webhook, twice; PostgreSQL has the same rows, once. Days are counted back from today, for
the queries are about the last 30 days. Not run here: Athena's own engine. DuckDB stands in for Trino.
"""

import csv
import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from string import Template

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from bird_webhooks import __main__ as operate
from local_aws import postgres as local_postgres
from local_aws.emulator import ROOT
from local_aws.query import poll, query
from local_aws.webhook import Request, basic, send
from process.columns import COLUMNS

ROWS_TIMEOUT_SECONDS = 60
TODAY = datetime.now(UTC).date()
POSTGRES_TYPES = {
    "TEXT": "text",
    "JSON": "jsonb",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamptz",
}
KNOWN = "rcpt_to LIKE '%@known-a.example.com' OR rcpt_to LIKE '4477009%'"

Rows = list[tuple[str | None, ...]]
Ask = Callable[[str], Rows]


def ago(days: int, time: str = "") -> str:
    return f"{TODAY - timedelta(days=days)} {time}".strip()


def known_events() -> list[dict]:
    """The elements of a batch, as Bird writes them."""
    elements = []
    with (ROOT / "tests/data/known_events.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            given = {name: value for name, value in line.items() if value}
            moment = datetime.fromisoformat(f"{ago(int(given.pop('days_ago')), given.pop('time'))}+00:00")
            event_class, times = given.pop("class"), int(given.pop("times"))
            flags = {name: given.pop(name) == "true" for name in ("is_prefetched", "is_proxy") if name in given}
            event = {**given, "timestamp": str(int(moment.timestamp()))}
            if "@" in event["rcpt_to"]:
                event["recipient_domain"] = event["rcpt_to"].partition("@")[2]
            if flags:
                event["user_agent_parsed"] = flags
            for _ in range(times):
                elements.append({"msys": {event_class: {**event, "event_id": f"known-{len(elements)}"}}})
    return elements


@pytest.fixture(scope="module")
def rows(stack) -> list[dict]:
    """The known events as Athena has them, sent as two batches of the same events."""
    events = known_events()
    for batch_id in (str(uuid.uuid4()), str(uuid.uuid4())):
        headers = {"content-type": "application/json", "x-messagesystems-batch-id": batch_id}
        request = Request("POST", {**headers, **basic(stack.credentials())}, json.dumps(events).encode())
        assert send(stack, request).status == 200
    count = "SELECT count(*) AS copies FROM events WHERE event_id LIKE 'known-%'"
    copies = str(2 * len(events))
    assert poll(lambda: query(stack, count), lambda found: found[0]["copies"] == copies, ROWS_TIMEOUT_SECONDS)
    found = query(stack, "SELECT * FROM events_deduplicated WHERE event_id LIKE 'known-%'")
    assert len(found) == len(events)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[local_postgres.Postgres]:
    with local_postgres.running() as started:
        yield started


@pytest.fixture(scope="module")
def database(rows, server) -> Iterator[psycopg.Connection]:
    """The same rows in PostgreSQL, in a table that holds each once."""
    definitions = [SQL("{} {}").format(Identifier(c.name), SQL(POSTGRES_TYPES[c.type])) for c in COLUMNS]
    with server.connect() as connection:
        connection.execute("CREATE SCHEMA bird; SET search_path TO bird; SET timezone TO 'UTC'")
        connection.execute(SQL("CREATE TABLE events ({}, event_date date)").format(SQL(", ").join(definitions)))
        with connection.cursor().copy(
            SQL("COPY events ({}) FROM STDIN").format(SQL(", ").join(map(Identifier, rows[0])))
        ) as copy:
            for row in rows:
                copy.write_row(list(row.values()))
        make_views(connection)
        yield connection


def make_views(connection: psycopg.Connection, *, limit: int = 5, days: int = 30) -> None:
    text = (ROOT / "functions/load_postgres/views.sql").read_text()
    connection.execute(Template(text).substitute(SoftBounceLimit=limit, SoftBounceDays=days).encode())


@pytest.fixture(params=["Athena", "PostgreSQL"])
def ask(request) -> Ask:
    """`ask(sql)`: the rows of a statement, values as text that is the same for both engines."""
    if request.param == "Athena":
        request.getfixturevalue("rows")
        stack = request.getfixturevalue("stack")
        return lambda sql: [tuple(map(plain, row.values())) for row in query(stack, sql)]
    return in_postgres(request.getfixturevalue("database"))


def in_postgres(connection: psycopg.Connection) -> Ask:
    return lambda sql: [tuple(map(plain, row)) for row in connection.execute(sql.encode()).fetchall()]


def plain(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case "True" | "False":
            return value.lower()
    # DuckDB says of a time from Parquet that it is in UTC; Athena's have milliseconds.
    return re.sub(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.000)?(\+00:00)?$", r"\1", str(value))


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
        make_views(database, limit=limit, days=days)
        sql = "SELECT rcpt_to FROM suppression_candidates WHERE reason = 'soft_bounces' ORDER BY rcpt_to"
        found = [address for (address,) in in_postgres(database)(sql)]
    assert found == [f"{name}@known-a.example.com" for name in expected]


def test_views_can_be_made_again_over_those_that_others_built_on_them(database):
    with database.transaction(force_rollback=True):
        database.execute("CREATE VIEW theirs AS SELECT rcpt_to FROM suppression_candidates")
        make_views(database, limit=3)
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
    assert found == [(ago(15), "4", "3", "1", "1", "1", "60.0000"), (ago(16), "1", "0", "0", "0", "0", None)]


def test_bounces_by_class_and_provider(ask):
    assert [row for row in ask(saved("bounces_by_class_and_provider")) if row[0] == "Known Mail"] == [
        ("Known Mail", "10", "Invalid Recipient", "Hard", "2", "1", "25.0000"),
        ("Known Mail", "22", "Mailbox Full", "Soft", "1", "1", "12.5000"),
        ("Known Mail", "51", "Spam Block", "Block", "1", "1", "12.5000"),
    ]


def test_complaint_rate_by_campaign(ask):
    found = [row for row in ask(saved("complaint_rate_by_campaign")) if str(row[0]).startswith("known-")]
    assert found == [("known-spring", "5", "1", "20.0000", None), ("known-empty", "0", "1", None, None)]


def test_opens_and_clicks_by_campaign(ask):
    found = [row for row in ask(saved("opens_and_clicks_by_campaign")) if row[0] == "known-spring"]
    assert found == [("known-spring", "5", "2", "1", "1", "40.0000", "20.0000", None)]


def test_time_to_inbox(ask):
    found = [row for row in ask(saved("time_to_inbox")) if row[0] == "Known Mail"]
    assert found == [("Known Mail", "5", "3000", "60000", "60000", "60000")]


def test_worst_domains(ask):
    domains = ("known-c.example.com", "known-d.example.com")
    found = [row for row in ask(saved("worst_domains")) if row[0] in domains]
    assert found == [("known-c.example.com", "20", "5", "2", "1", "25.0000")]  # known-d: 19 are too few to tell


@pytest.fixture
def export(stack, rows, monkeypatch, tmp_path):
    """`export("--bird")` as from the command line: the bytes of the file, and what was said beside it."""

    def command(*options: str) -> bytes:
        monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
        file = tmp_path / "suppression.csv"
        assert operate.main(["list-export", "--output", str(file), *options]) == 0
        assert file.stat().st_mode & 0o777 == 0o600
        return file.read_bytes()

    return command


def connection_string(server) -> str:
    secret = server.secret()
    return (
        f"postgresql://{secret['username']}:{secret['password']}@{secret['host']}:{secret['port']}/{secret['dbname']}"
        f"?sslmode=verify-full&sslrootcert={server.ca_certificate}"
    )


def test_list_export_writes_the_same_file_from_both_engines(export, database, server):
    from_athena = export("--subaccount", "4711")
    lines = from_athena.split(b"\r\n")
    assert lines[0] == b"email,subaccount_id,reason,description,scope,added_at,customer_id,list_id"
    spring = (
        f'five-soft@known-a.example.com,4711,soft_bounces,"Repeated bounces, the last one: 24 Timeout",all,{ago(7)}'
    )
    assert f"{spring}T11:00:00Z,,".encode() in lines
    assert export("--subaccount", "4711", "--postgres", connection_string(server)) == from_athena


def test_list_export_in_the_form_of_birds_upload_names_both_kinds_of_mail(export):
    lines = export("--subaccount", "4711", "--bird", "--since", ago(4)).decode().split("\r\n")
    assert lines == [
        "recipient,type,description",
        "angry@known-b.example.com,non_transactional,Marked as spam",
        "link-then-spam@known-a.example.com,non_transactional,Marked as spam",
        "",
    ]
    lines = export("--subaccount", "4711", "--bird", "--since", ago(6)).decode().split("\r\n")
    assert "receipts@known-a.example.com,transactional,Unsubscribed by the button of the mail client" in lines
    assert "receipts@known-a.example.com,non_transactional,Unsubscribed by the button of the mail client" in lines
