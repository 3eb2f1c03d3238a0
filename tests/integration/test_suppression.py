"""Who is suppressed, by awkward events: DuckDB (in the place of Athena) and PostgreSQL give the same rows.

The batches of tests/data/inputs go through process; their times are moved so that the newest is an hour ago.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from maintain.generate import sql as sync_sql
from report.queries import Period, queries
from tests.integration.engines import in_duckdb, in_postgres

INPUTS = Path(__file__).parent.parent / "data/inputs"
FILES = ("04", "05", "06", "07", "08", "09", "18", "19", "20")
HOUR = 3600
DAY = 24 * HOUR
LAST = int(time.time()) - HOUR

Ask = Callable[[str], list[tuple[Any, ...]]]
Event = dict[str, Any]


def event(kind: str, ago: int, address: str | None, **fields: str) -> Event:
    """An element of a batch; `ago` in seconds before the newest event."""
    event_class = "unsubscribe_event" if "unsubscribe" in kind else "message_event"
    known = {"type": kind, "timestamp": str(LAST - ago), "event_id": f"{kind}-{ago}-{address}-{sorted(fields.items())}"}
    return {"msys": {event_class: {**known, **({"rcpt_to": address} if address else {}), **fields}}}


def recorded(name: str) -> list[Event]:
    [path] = INPUTS.glob(f"{name}-*.json")
    events: list[Event] = json.loads(path.read_text())
    insides = [inside for element in events for inside in element["msys"].values()]
    late = LAST - max(int(inside["timestamp"]) for inside in insides)
    for inside in insides:
        inside["timestamp"] = str(int(inside["timestamp"]) + late)
    return events


MADE = [
    # A cancelled campaign: Bird answers each recipient with class 25, between two deliveries.
    event("delivery", 3 * DAY, "cancelled@example.com", message_id="c1"),
    event("bounce", 2 * DAY, "cancelled@example.com", message_id="c2", bounce_class="25"),
    # An automatic reply undoes no delivery, so four and one are not five.
    *[
        event("bounce", day * DAY, "holiday@example.com", bounce_class="22", message_id=f"h{day}")
        for day in (9, 8, 7, 6)
    ],
    event("delivery", 5 * DAY, "holiday@example.com", message_id="h5"),
    event("out_of_band", 5 * DAY - 60, "holiday@example.com", message_id="h5", bounce_class="60"),
    event("bounce", 4 * DAY, "holiday@example.com", message_id="h4", bounce_class="22"),
    # One message, five notices without its id.
    event("delivery", 2 * DAY, "one-message@example.com", message_id="o1"),
    *[event("out_of_band", DAY + hour * HOUR, "one-message@example.com", bounce_class="70") for hour in range(5)],
    # The same address and ids in two accounts, and without an account: three persons.
    event("bounce", DAY, "shared@example.com", bounce_class="10", customer_id="1"),
    event("list_unsubscribe", DAY, "shared@example.com", customer_id="2", campaign_id="spring"),
    event("spam_complaint", DAY, "shared@example.com", fbtype="abuse"),
    # Four soft bounces in each of two accounts are not eight of one person.
    *[
        event(
            "bounce",
            day * DAY,
            "split@example.com",
            bounce_class="22",
            customer_id=account,
            message_id=f"{account}{day}",
        )
        for day in (4, 3, 2, 1)
        for account in ("1", "2")
    ],
    # Two accounts with a campaign of one name, and a message of one id: one of them is opened.
    *[
        event("delivery", DAY, "both@example.com", customer_id=account, message_id="b1", campaign_id="both")
        for account in "12"
    ],
    event("open", HOUR, "both@example.com", customer_id="2", message_id="b1", campaign_id="both"),
    # Left one list, and later everything.
    event("list_unsubscribe", 2 * DAY, "two-lists@example.com", list_id="weekly"),
    event("link_unsubscribe", DAY, "two-lists@example.com", list_id="daily"),
    event("link_unsubscribe", HOUR, "two-lists@example.com", list_id=""),
    # The recipient stands in raw_rcpt_to only.
    event("bounce", DAY, None, raw_rcpt_to="Raw.Only@Example.com", bounce_class="10", subaccount_id=""),
]


# A flood of invented types.
FLOOD = [[event(f"invented_{number}", HOUR + copy, None) for number in range(150)] for copy in range(2)]
FLOOD += [[event(f"invented_{number}", HOUR + copy, None) for number in range(150, 300)] for copy in range(2)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Iterator[duckdb.DuckDBPyConnection]:
    with in_duckdb([*map(recorded, FILES), MADE, *FLOOD], tmp_path_factory.mktemp("lake")) as connection:
        yield connection


@pytest.fixture(scope="module")
def database(rows) -> Iterator[psycopg.Connection[Any]]:
    with in_postgres(rows) as (connection, _):
        yield connection


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def ask(request) -> Ask:
    if request.param == "DuckDB":
        connection = request.getfixturevalue("rows")
        return lambda sql: connection.execute(sql).fetchall()
    database = request.getfixturevalue("database")
    return lambda sql: database.execute(sql.encode()).fetchall()


def test_every_column_of_every_view_says_what_it_is_in_postgresql(database):
    described = database.execute("""
        SELECT c.relname, a.attname, col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind = 'v' AND c.relnamespace = 'bird'::regnamespace
    """).fetchall()
    own = {"events_deduplicated", "suppression_events"}
    assert {view for view, _, _ in described} == own | {view.name for view in sync_sql.views()}
    assert [(view, column) for view, column, comment in described if not comment] == []
    comments = {(view, column): comment for view, column, comment in described}
    assert comments["events_deduplicated", "msg_size"] == "Message size in bytes"
    assert comments["events_deduplicated", "event_date"] == "UTC date of the event"
    assert comments["list_export", "email"] == "the address, in lower case"


SUPPRESSED = [
    # address, subaccount, reason, class, events, scope, account, list
    ("ann@example.com", "0", "list_unsubscribe", None, 1, "non_transactional", None, None),
    ("carl@example.com", "0", "soft_bounces", 22, 6, "all", None, None),
    ("cora@example.com", "0", "soft_bounces", 22, 6, "all", None, None),
    ("ida@example.com", "0", "hard_bounce", 10, 2, "all", None, None),
    ("jane@example.com", "0", "list_unsubscribe", None, 1, "non_transactional", None, None),
    ("joan@example.com", "0", "spam_complaint", None, 1, "non_transactional", None, None),
    ("kim@example.com", "0", "list_unsubscribe", None, 1, "list", None, "newsletter-weekly.example.com"),
    ("raw.only@example.com", "0", "hard_bounce", 10, 1, "all", None, None),
    ("shared@example.com", "0", "hard_bounce", 10, 1, "all", "1", None),
    ("shared@example.com", "0", "list_unsubscribe", None, 1, "non_transactional", "2", None),
    ("shared@example.com", "0", "spam_complaint", None, 1, "non_transactional", None, None),
    ("two-lists@example.com", "0", "link_unsubscribe", None, 1, "list", None, "daily"),
    ("two-lists@example.com", "0", "link_unsubscribe", None, 1, "non_transactional", None, None),
    ("two-lists@example.com", "0", "list_unsubscribe", None, 1, "list", None, "weekly"),
]
# And not: cancelled (Bird's own refusal), ben and holiday (automatic replies), dora and one-message (one message each),
# emil (Smart Send), fred and gina (no complaints), split (four in each account).


def test_candidates(ask):
    found = ask(
        """SELECT rcpt_to, subaccount_id, reason, bounce_class, events, scope, customer_id, list_id
        FROM suppression_candidates"""
    )
    assert sorted(found, key=str) == sorted(SUPPRESSED, key=str)


def test_export_names_account_and_list(ask):
    found = ask("SELECT email, description, scope, customer_id, list_id FROM list_export WHERE email LIKE 'shared@%'")
    assert sorted(found, key=str) == [
        ("shared@example.com", "Bounced: 10 Invalid Recipient", "all", "1", None),
        ("shared@example.com", "Marked as spam", "non_transactional", None, None),
        ("shared@example.com", "Unsubscribed by the button of the mail client", "non_transactional", "2", None),
    ]


def test_complaints_that_are_none_are_in_no_figure(ask):
    assert ask("SELECT rcpt_to FROM recipient_engagement WHERE complained ORDER BY rcpt_to") == [
        ("joan@example.com",),
        ("shared@example.com",),
    ]
    assert ask("SELECT count(*) FROM recipient_engagement WHERE rcpt_to = 'shared@example.com'") == [(2,)]


def query(name: str) -> str:
    return (sync_sql.ROOT / f"sql/queries/{name}.sql").read_text()


def test_automatic_replies_and_what_bird_refused_are_not_bounces(ask):
    found = ask(query("bounces_by_class_and_provider"))
    assert {row[1]: (row[2], row[4]) for row in found} == {
        10: ("Invalid Recipient", 4),
        22: ("Mailbox Full", 30),
        70: ("Transient Failure", 10),
    }
    days = ask(query("delivered"))
    assert sum(row[7] for row in days) == 12 + 5 + 5  # 06, 07 and one-message; not the replies of 05 and holiday
    assert sum(row[9] for row in days) == 2 + 6  # class 25: 04 and cancelled; 26: 08


def test_a_campaign_name_that_is_empty_is_none(ask):
    found = {(row[0], row[6]): row[5] for row in ask(query("complaint_rate_by_campaign"))}
    assert found == {("(none)", None): 4, ("weekly", None): 1, ("both", "1"): 1, ("both", "2"): 1}


def test_figures_of_a_campaign_are_those_of_one_account(ask):
    found = [row for row in ask(query("by_campaign")) if row[0] == "both"]
    assert [(row[2], row[8], row[24]) for row in found] == [(1, 0, "1"), (1, 1, "2")]


def test_a_flood_of_invented_types_hides_no_known_type_from_the_report(ask):
    period = Period(datetime.fromtimestamp(LAST - 40 * DAY, UTC), datetime.fromtimestamp(LAST + HOUR, UTC))
    statements = queries(period, 500)
    types = ask(statements["types"])
    assert len(types) == 200
    assert {"bounce", "injection", "list_unsubscribe", "spam_complaint"} < {row[1] for row in types[:10]}
    assert ask(statements["totals"])[0][0] == ask("SELECT count(*) FROM events_deduplicated")[0][0]


def test_the_report_counts_no_automatic_reply_and_no_report_that_is_no_complaint(ask):
    counted = dict(ask("SELECT metric, count(*) FROM mail_events GROUP BY metric"))
    assert counted["returned"] == 22  # 06, 07 and one-message; not the replies of 05 and holiday
    assert counted["complained"] == 2  # joan and shared; not fred and gina
