"""The figures of docs/metrics.md on awkward mail, as a person counts them: DuckDB (for Athena) and PostgreSQL agree.

Each case is a campaign, a domain or a day of its own. Its days are within the 30 of the queries, unless it says so.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import duckdb
import psycopg
import pytest

from maintain.generate import sql
from report.counts import Counts, Rate
from report.queries import Period, groups, of_group, rows_of
from tests import grafana
from tests.integration.engines import in_duckdb, in_postgres
from tests.known_events import TODAY, ago

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = 86_400
NUMBERS = count()
Event = dict[str, Any]
Row = dict[str, Any]
Ask = Callable[..., list[Row]]

CLASSES = {"list_unsubscribe": "unsubscribe_event", "link_unsubscribe": "unsubscribe_event"}
MACHINE, PROXY = {"is_prefetched": True, "is_proxy": True}, {"is_prefetched": False, "is_proxy": True}


def at(days: int, time: str = "10:00:00") -> int:
    return int(datetime.fromisoformat(f"{ago(days, time)}+00:00").timestamp())


def event(kind: str, when: int, message: str | None = None, /, **fields: Any) -> Event:
    number = next(NUMBERS)
    known = {"type": kind, "timestamp": str(when), "event_id": f"e{number}", "rcpt_to": f"{message}@people.example.com"}
    if message:
        known["message_id"] = message
    inside = {name: value for name, value in {**known, **fields}.items() if value is not None}
    return {"msys": {CLASSES.get(kind, "message_event"): inside}}


def delivered(campaign: str, message: str, *after: tuple[str, int, dict[str, Any]], **fields: Any) -> list[Event]:
    """A message delivered ten days ago at noon, and what happened so many seconds later."""
    given = {"campaign_id": campaign, **fields}
    start = at(10, "12:00:00")
    events = [event("delivery", start, message, **given)]
    return events + [event(kind, start + later, message, **{**given, **more}) for kind, later, more in after]


def link(number: int) -> dict[str, Any]:
    return {"target_link_url": f"https://example.com/{number}"}


TWICE = delivered("twice", "twice1")
CASES: list[Event] = [
    *TWICE,
    # One reading makes two events; a person read three times.
    *delivered("readings", "read1", *[(kind, 60 * n, {}) for n in (1, 2, 3) for kind in ("initial_open", "open")]),
    # Four messages: prefetched and read; prefetched only; prefetched and clicked; followed by a scanner.
    *delivered("machines", "ma1", ("initial_open", 5, {"user_agent_parsed": MACHINE}), ("open", 500, {})),
    *delivered("machines", "ma2", ("initial_open", 5, {"user_agent_parsed": MACHINE})),
    *delivered("machines", "ma3", ("open", 5, {"user_agent_parsed": MACHINE}), ("click", 500, link(1))),
    *delivered("machines", "ma4", *[("click", 30 + n // 3, link(n)) for n in range(5)]),
    # One click at once; two links by a person, a minute apart; one link twice in a second.
    *delivered("clickers", "cl1", ("click", 3, link(1)), recipient_domain="scanned.example.com"),
    *delivered("clickers", "cl2", ("click", 60, link(1)), ("click", 120, link(2)), recipient_domain="read.example.com"),
    *delivered("clickers", "cl3", ("click", 60, link(1)), ("click", 61, link(1)), recipient_domain="read.example.com"),
    *delivered("proxies", "px1", ("open", 60, {"user_agent_parsed": PROXY})),
    *delivered("proxies", "px2", ("open", 60, {"user_agent_parsed": PROXY}), ("click", 70, link(1))),
    *delivered("hard-later", "hl1", ("out_of_band", 600, {"bounce_class": "10"})),
    *delivered("holiday", "ho1", ("out_of_band", 600, {"bounce_class": "60"})),
    *delivered("asked-out", "ao1", ("out_of_band", 600, {"bounce_class": "90"})),
    *delivered("content", "co1", ("out_of_band", 600, {"bounce_class": "52"})),
    # Bird could name neither recipient nor message.
    event("out_of_band", at(25), None, bounce_class="10", rcpt_to=None),
    # An open of a message that was delivered before the days.
    event("delivery", at(40), "old1", campaign_id="older"),
    event("open", at(5), "old1", campaign_id="older"),
    *delivered("older", "old2"),
    event("injection", at(24, "08:00:00"), "dl1", campaign_id="delays", mailbox_provider="Slow"),
    *[event("delay", at(24, f"08:1{n}:00"), "dl1", num_retries=str(n), mailbox_provider="Slow") for n in range(3)],
    event("delivery", at(24, "09:00:00"), "dl1", campaign_id="delays", mailbox_provider="Slow", num_retries="3"),
    event("bounce", at(23), "bo1", campaign_id="no-injection", bounce_class="10"),
    # No event has a message_id.
    event("delivery", at(10), None, rcpt_to="j@example.com", transmission_id="7", campaign_id="no-id"),
    *[event("open", at(9), None, rcpt_to="j@example.com", transmission_id="7", campaign_id="no-id") for _ in range(3)],
    *delivered("not-spam", "ns1", ("spam_complaint", 600, {"fbtype": "not-spam"}), mailbox_provider="Yahoo"),
    *delivered(
        "unsubscribes", "un1", ("list_unsubscribe", 60, {}), ("list_unsubscribe", 70, {}), ("link_unsubscribe", 80, {})
    ),
    event("injection", at(22, "23:59:50"), "mn1", campaign_id="midnight"),
    event("delivery", at(21, "00:00:10"), "mn1", campaign_id="midnight"),
    *[
        event("delivery", at(10), f"sub{n}", rcpt_to="one@example.com", subaccount_id=account)
        for n, account in enumerate(("1", "2", "0", None))
    ],
    # A cancelled campaign, and an address that is on Bird's list: neither was sent.
    *[event("injection", at(18), f"ca{n}", campaign_id="cancelled") for n in range(3)],
    event("delivery", at(18), "ca0", campaign_id="cancelled"),
    *[
        event("bounce", at(18), f"ca{n}", campaign_id="cancelled", bounce_class="25", reason=reason)
        for n, reason in [
            (1, "554 5.7.1 [internal] Campaign cancelled"),
            (2, "Recipient address was suppressed due to customer policy"),
        ]
    ],
    event("policy_rejection", at(18), "po1", campaign_id="cancelled", bounce_class="25"),
    # A domain that takes everything and returns everything.
    *[
        event(
            kind, at(19, time), f"rt{n}", campaign_id="returned", recipient_domain="returns.example.com",
            mailbox_provider="Returner", bounce_class=bounce_class,
        )
        for n in range(20)
        for kind, time, bounce_class in (("delivery", "10:00:00", None), ("out_of_band", "10:10:00", "10"))
    ],
    *[
        event(
            "delivery", at(12), f"pc{n}", mailbox_provider="Twenty", queue_time=str(1000 * n), num_retries=str(n // 20)
        )
        for n in range(1, 21)
    ],
    *[
        event("delivery", at(12), f"pd{n}", mailbox_provider="Two dozen", queue_time=str(ms))
        for n, ms in enumerate([1000] * 13 + [20_000] * 10 + [300_000])
    ],
    # A push notification is not mail.
    *delivered("push", "pu1", delv_method="apn"),
    # A/B test: bounces do not name theirs.
    *[
        event("injection", at(10), f"ab{n}", ab_test_id="subject", ab_test_version=str(n % 2 + 1), campaign_id="test")
        for n in range(4)
    ],
    *[
        event("delivery", at(10, "10:01:00"), f"ab{n}", ab_test_id="subject", ab_test_version=str(n % 2 + 1))
        for n in (0, 1, 2)
    ],
    event("bounce", at(10, "10:01:00"), "ab3", bounce_class="51"),
    event("open", at(10, "10:02:00"), "ab0", ab_test_id="subject", ab_test_version="1"),
    # Reasons: new; five times as frequent as before; nearly so.
    *[event("bounce", at(3), f"nr{n}", bounce_class="51", reason="550 5.7.26 new") for n in range(10)],
    *[event("delay", at(3), f"ri{n}", bounce_class="70", reason="421 rising") for n in range(10)],
    *[event("delay", at(20), f"rb{n}", bounce_class="70", reason="421 rising") for n in range(8)],
    *[event("delay", at(3), f"st{n}", bounce_class="70", reason="421 steady") for n in range(10)],
    *[event("delay", at(20), f"sb{n}", bounce_class="70", reason="421 steady") for n in range(9)],
    # Waiting since an hour, and since a minute; delayed, then given up.
    event("injection", int(NOW.timestamp()) - 3600, "wa1", mailbox_provider="Waiting"),
    event("delay", int(NOW.timestamp()) - 3000, "wa1", mailbox_provider="Waiting", num_retries="0"),
    event("injection", int(NOW.timestamp()) - 60, "wa2", mailbox_provider="Waiting"),
    event("delay", at(2), "wa3", mailbox_provider="Waiting", num_retries="0"),
    event("bounce", at(2, "12:00:00"), "wa3", mailbox_provider="Waiting", bounce_class="24"),
    event("delivery", at(2), "wa4", mailbox_provider="Waiting"),
    # Opened after 30 hours; opened after four days; delivered two hours ago.
    *delivered("cohort", "ch1", ("open", 30 * 3600, {})),
    *delivered("cohort", "ch2", ("click", 4 * DAY, {**link(1)}), ("list_unsubscribe", 8 * DAY, {})),
    event("delivery", int(NOW.timestamp()) - 7200, "ch3", campaign_id="cohort"),
]  # fmt: skip


def many(campaign: str, provider: str, messages: int, complaints: int) -> list[Event]:
    """Delivered eleven days ago; the complaints came two days later."""
    given = {"campaign_id": campaign, "mailbox_provider": provider, "friendly_from": f"news@{campaign}.example.com"}
    ids = [f"{campaign}-{provider}-{n}" for n in range(messages)]
    sent = [event("delivery", at(11), name, **given) for name in ids]
    return sent + [event("spam_complaint", at(9), name, fbtype="abuse", **given) for name in ids[:complaints]]


COMPLAINTS = [
    *many("mixed", "Yahoo", 1000, 2),
    *many("mixed", "Gmail", 1000, 0),
    *many("angry", "Yahoo", 1000, 3),
    *many("calm", "Yahoo", 1001, 1),
    *many("tiny", "Yahoo", 2, 2),
    *many("only-gmail", "Gmail", 10, 0),
    # Read at another provider, where it was forwarded to and which reports complaints; and a name in odd case.
    *many("forwarded", "Gmail", 10, 1),
    *many("company", "GSUITE", 10, 1),
    # Bird names no provider of half of it.
    *many("nameless", "Yahoo", 1000, 0),
    *many("nameless", "", 1000, 5),
    # A name that begins with a sign which sorts before (none), and a return that does not name it.
    *delivered("#1 <b>'sale'</b>", "si1", ip_pool="!fast"),
    event("out_of_band", at(9), "si1", bounce_class="10"),
    # Two accounts at Bird, each with a subaccount 7 and a template of the same name.
    *[
        event("delivery", at(10), f"ac{account}{n}", customer_id=account, subaccount_id="7", template_id="welcome")
        for account in ("21", "22")
        for n in range(int(account) - 20)
    ],
]


def recipient(name: str, *happened: tuple[str, int, dict[str, Any]]) -> list[Event]:
    """Of an account of its own."""
    return [
        event(kind, at(days), f"{name}{n}", rcpt_to=f"{name}@segments.example.com", customer_id="9", **more)
        for n, (kind, days, more) in enumerate(happened)
    ]


SEGMENTS = [
    *recipient("recent", ("delivery", 20, {}), ("click", 3, link(1))),
    *recipient("quarter", ("delivery", 20, {}), ("open", 60, {})),
    *recipient("year", ("delivery", 20, {}), ("open", 200, {})),
    *recipient("starter", ("delivery", 2, {})),
    *recipient("apple", ("delivery", 200, {}), ("delivery", 20, {}), ("open", 20, {"user_agent_parsed": MACHINE})),
    *recipient("asleep", ("delivery", 500, {}), ("delivery", 20, {}), ("open", 400, {}), ("spam_complaint", 400, {})),
    *recipient("half-year", ("delivery", 200, {}), ("delivery", 20, {}), ("click", 150, link(1))),
    *recipient("left", ("delivery", 200, {}), ("open", 200, {})),  # no mail within 90 days
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Iterator[duckdb.DuckDBPyConnection]:
    with in_duckdb([[*CASES, *COMPLAINTS, *SEGMENTS], TWICE], tmp_path_factory.mktemp("lake")) as connection:
        yield connection


@pytest.fixture(scope="module")
def database(rows) -> Iterator[psycopg.Connection[Any]]:
    with in_postgres(rows) as (connection, _):
        yield connection


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def ask(request) -> Ask:
    """`ask(name, column=value)`: the rows of a saved query that have this value."""
    connection = request.getfixturevalue("rows" if request.param == "DuckDB" else "database")

    def asked(name: str, **wanted: Any) -> list[Row]:
        text = (sql.ROOT / f"sql/queries/{name}.sql").read_text() if " " not in name else name
        cursor = connection.execute(text if request.param == "DuckDB" else text.encode())
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]
        return [row for row in found if all(row[column] == value for column, value in wanted.items())]

    return asked


def plain(value: object) -> object:
    match value:
        case Decimal():
            return float(value)
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
    return value


BY_CAMPAIGN = [
    ("twice", {"sent": 1, "delivered": 1, "accepted": 1}),
    ("readings", {"delivered": 1, "opened": 1, "open_rate": 100.0}),
    (
        "machines",
        {
            "delivered": 4, "opened": 3, "unmeasurable": 1, "clicked": 2, "likely_scanners": 1, "open_rate": 75.0,
            "measurable_open_rate": 100.0, "click_rate": 50.0, "opened_by_proxy": 0,
        },
    ),
    ("clickers", {"clicked": 3, "opened": 3, "likely_scanners": 1}),
    ("proxies", {"opened": 2, "opened_by_proxy": 1, "unmeasurable": 0}),
    ("hard-later", {"sent": 1, "delivered": 1, "bounced": 1, "hard": 1, "accepted": 0, "bounce_rate": 100.0}),
    ("holiday", {"sent": 1, "delivered": 1, "bounced": 0, "accepted": 1, "bounce_rate": 0.0}),
    ("asked-out", {"delivered": 1, "bounced": 0, "hard": 0, "accepted": 1}),
    ("content", {"delivered": 1, "bounced": 1, "block": 1, "accepted": 0}),
    ("older", {"delivered": 1, "opened": 0, "open_rate": 0.0}),
    ("delays", {"sent": 1, "delivered": 1, "delayed": 1, "delayed_rate": 100.0}),
    ("no-injection", {"sent": 1, "delivered": 0, "bounced": 1, "open_rate": None}),
    ("no-id", {"delivered": 1, "opened": 1, "open_rate": 100.0}),
    ("not-spam", {"complaints": 0, "complaint_rate": 0.0}),
    ("unsubscribes", {"unsubscribed": 1, "unsubscribe_rate": 100.0}),
    ("cancelled", {"sent": 1, "delivered": 1, "bounced": 0, "bounce_rate": 0.0}),
    ("returned", {"sent": 20, "delivered": 20, "bounced": 20, "accepted": 0, "bounce_rate": 100.0, "hard_rate": 100.0}),
    ("mixed", {"delivered": 2000, "complaints": 2, "complaint_rate": 0.2}),
    ("only-gmail", {"delivered": 10, "complaints": 0, "complaint_rate": None}),
]  # fmt: skip


def test_what_became_of_each_campaign(ask):
    found = {row["campaign_id"]: row for row in ask("by_campaign")}
    assert {name: {key: found[name][key] for key in figures} for name, figures in BY_CAMPAIGN} == dict(BY_CAMPAIGN)
    assert "push" not in found


def figures(row: Row, *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def test_a_day(ask):
    days = {TODAY - timedelta(days=n): n for n in (18, 19, 21, 22, 23, 24, 25)}
    names = (
        "injected", "targeted", "sent", "delivered", "accepted", "bounced", "returned", "delayed", "admin_bounced",
        "rejected", "accepted_rate", "bounce_rate", "delayed_rate", "stopped_rate",
    )  # fmt: skip
    found = {days[row["day"]]: figures(row, *names) for row in ask("delivered") if row["day"] in days}
    assert found == {
        18: (3, 4, 1, 1, 1, 0, 0, 0, 2, 1, 100.0, 0.0, 0.0, 75.0),  # cancelled, suppressed, rejected
        19: (0, 0, 20, 20, 0, 20, 20, 0, 0, 0, 0.0, 100.0, None, None),  # everything came back
        21: (0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 100.0, 0.0, 0.0, None),  # around midnight
        22: (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, None, None, None, 0.0),
        23: (0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0.0, 100.0, None, None),  # a bounce without injection
        24: (1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 100.0, 0.0, 100.0, 0.0),  # three attempts are one delayed message
        25: (0, 0, 0, 0, 0, 1, 1, 0, 0, 0, None, None, None, None),  # returned, of nobody knows what
    }


def test_a_domain_that_returns_everything_bounces_100_percent_everywhere(ask):
    [domain] = ask("worst_domains", recipient_domain="returns.example.com")
    assert figures(domain, "sent", "bounced", "returned", "bounce_rate") == (20, 20, 20, 100.0)
    [bounces] = ask("bounces_by_class_and_provider", mailbox_provider="Returner")
    assert figures(bounces, "bounce_class", "bounced", "returned", "recipients", "bounce_rate") == (
        10,
        20,
        20,
        20,
        100.0,
    )
    [day] = ask("provider_day", mailbox_provider="Returner")
    assert figures(day, "sent", "delivered", "accepted", "hard", "bounce_rate", "hard_rate") == (
        20,
        20,
        0,
        20,
        100.0,
        100.0,
    )


def test_admin_bounces_are_stopped_by_bird_and_not_bounces(ask):
    assert not [row for row in ask("bounces_by_class_and_provider") if row["bounce_class"] == 25]
    day = TODAY - timedelta(days=18)
    assert [
        figures(row, "cause", "messages", "recipients", "stopped_rate") for row in ask("stopped_by_bird", day=day)
    ] == [
        ("cancelled", 1, 1, 25.0),
        ("policy", 1, 1, 25.0),
        ("suppressed", 1, 1, 25.0),
    ]


def test_who_becomes_a_candidate(ask):
    found = ask("SELECT rcpt_to, reason, scope FROM suppression_candidates")
    suppressed = {row["rcpt_to"].partition("@")[0]: (row["reason"], row["scope"]) for row in found}
    assert {name: suppressed.get(name) for name in ("ca1", "ca2", "po1", "ho1", "hl1", "ns1", "un1", "ao1")} == {
        "ca1": None,
        "ca2": None,
        "po1": None,
        "ho1": None,
        "hl1": ("hard_bounce", "all"),
        "ns1": None,
        "un1": ("link_unsubscribe", "non_transactional"),
        "ao1": ("hard_bounce", "all"),
    }
    assert None not in [row["rcpt_to"] for row in found]


def test_growth_of_the_list(ask):
    day = TODAY - timedelta(days=10)
    found = ask("suppression_growth", day=day, reason="hard_bounce")
    assert [figures(row, "scope", "campaign_id", "addresses") for row in found] == [
        ("all", "asked-out", 1),
        ("all", "hard-later", 1),
    ]


VERDICTS = [
    ("angry", 3, 1000, 0.3, "act", 1000),
    ("mixed", 2, 1000, 0.2, "watch", 2000),
    ("calm", 1, 1001, 0.0999, "fine", 1001),
    ("nameless", 0, 1000, 0.0, "fine", 2000),
    ("tiny", 2, 2, 100.0, "few", 2),
    ("not-spam", 0, 1, 0.0, "few", 1),
]


def test_complaints_are_of_the_providers_that_report_them(ask):
    reporters = ask("SELECT mailbox_provider, complaints FROM complaint_reporters")
    assert [tuple(row.values()) for row in reporters] == [("Yahoo", 8)]
    found = ask("complaint_rate_by_campaign")
    names = ("campaign_id", "complaints", "accepted", "complaint_rate", "verdict", "accepted_everywhere")
    assert [figures(row, *names) for row in found][:6] == VERDICTS
    for name in ("only-gmail", "forwarded", "company"):
        [google] = ask("complaint_rate_by_campaign", campaign_id=name)
        assert figures(google, *names) == (name, 0, 0, None, "not reported", 10)


def test_complaints_without_a_provider_are_in_no_rate(ask):
    """Their mail is not in the whole, so they must not be in the part."""
    [row] = ask("complaint_rate_by_campaign", campaign_id="nameless")
    assert figures(row, "complaints", "accepted", "complaint_rate", "verdict") == (0, 1000, 0.0, "fine")
    [row] = ask("by_campaign", campaign_id="nameless")
    assert figures(row, "accepted", "complaints", "complaint_rate") == (2000, 5, 0.0)


def test_complaints_by_the_day_of_delivery(ask):
    day = TODAY - timedelta(days=11)
    found = ask("complaints_by_delivery_day", day=day)
    names = ("mailbox_provider", "sending_domain", "complaints", "accepted", "complaint_rate", "verdict")
    assert sorted(figures(row, *names) for row in found) == [
        ("(unknown)", "nameless.example.com", 5, 1000, None, "not reported"),
        ("GSUITE", "company.example.com", 1, 10, None, "not reported"),
        ("Gmail", "forwarded.example.com", 1, 10, None, "not reported"),
        ("Gmail", "mixed.example.com", 0, 1000, None, "not reported"),
        ("Gmail", "only-gmail.example.com", 0, 10, None, "not reported"),
        ("Yahoo", "angry.example.com", 3, 1000, 0.3, "act"),
        ("Yahoo", "calm.example.com", 1, 1001, 0.0999, "fine"),
        ("Yahoo", "mixed.example.com", 2, 1000, 0.2, "watch"),
        ("Yahoo", "nameless.example.com", 0, 1000, 0.0, "fine"),
        ("Yahoo", "tiny.example.com", 2, 2, 100.0, "few"),
    ]


def test_percentiles(ask):
    names = ("delivered", "p50_ms", "p95_ms", "p99_ms", "max_ms", "first_try_share", "retried")
    [twenty] = ask("time_to_delivery", mailbox_provider="Twenty")
    assert figures(twenty, *names) == (20, 10_000, 19_000, 20_000, 20_000, 95.0, 1)
    [dozens] = ask("time_to_delivery", mailbox_provider="Two dozen")
    assert figures(dozens, *names) == (24, 1_000, 20_000, 300_000, 300_000, 100.0, 0)


def test_one_address_in_several_subaccounts(ask):
    found = ask(
        "SELECT subaccount_id, delivered FROM recipient_engagement WHERE rcpt_to = 'one@example.com' ORDER BY 1"
    )
    assert [tuple(row.values()) for row in found] == [("0", 2), ("1", 1), ("2", 1)]
    by = {row["subaccount_id"]: row["sent"] for row in ask("by_subaccount")}
    assert (by["1"], by["2"]) == (1, 1)


ENGAGEMENT = [
    # recipient, opens, opens by machine, clicks, scanner's, last engaged, last machine's open
    ("cl1", 0, 0, 1, 1, (10, "12:00:03"), None),
    ("cl2", 0, 0, 1, 0, (10, "12:02:00"), None),
    ("cl3", 0, 0, 1, 0, (10, "12:01:01"), None),
    ("ma1", 1, 1, 0, 0, (10, "12:08:20"), (10, "12:00:05")),
    ("ma2", 0, 1, 0, 0, None, (10, "12:00:05")),
    ("ma3", 0, 1, 1, 0, (10, "12:08:20"), (10, "12:00:05")),
    ("ma4", 0, 0, 1, 1, (10, "12:00:31"), None),
    ("read1", 1, 0, 0, 0, (10, "12:03:00"), None),
]


def test_engagement_knows_people_machines_and_scanners(ask):
    found = ask("""
        SELECT rcpt_to, human_opens, machine_opens, clicks, scanner_clicks, last_engaged, last_machine_open,
          first_delivery
        FROM recipient_engagement
        WHERE rcpt_to LIKE 'ma_@%' OR rcpt_to LIKE 'cl_@%' OR rcpt_to LIKE 'read_@%' ORDER BY rcpt_to
    """)
    assert [tuple(row.values()) for row in found] == [
        (
            f"{name}@people.example.com", *numbers, engaged and ago(*engaged), machine and ago(*machine),
            ago(10, "12:00:00"),
        )
        for name, *numbers, engaged, machine in ENGAGEMENT
    ]  # fmt: skip


def test_segments_tell_unknown_from_inactive(ask):
    text = (sql.ROOT / "sql/queries/engagement_segments.sql").read_text()
    of_account = text.replace("WHERE last_delivery", "WHERE customer_id = '9' AND last_delivery")
    names = ("segment", "recipients", "share", "complained", "complained_share")
    assert sorted(figures(row, *names) for row in ask(of_account)) == [
        ("14_days", 1, 14.2857, 0, 0.0),
        ("365_days", 2, 28.5714, 0, 0.0),
        ("90_days", 1, 14.2857, 0, 0.0),
        ("never", 1, 14.2857, 1, 100.0),
        ("new", 1, 14.2857, 0, 0.0),
        ("unmeasurable", 1, 14.2857, 0, 0.0),
    ]


def test_the_documented_sunset_leaves_out_who_is_new_and_who_is_unknown(ask):
    page = (sql.ROOT / "docs/downstream/suppression.md").read_text()
    [(_, _, text)] = [part.partition("```sql\n") for part in page.split("\n### ") if part.startswith("Sunsetting")]
    found = ask(text.partition("```")[0].replace(">= 10", ">= 1"), customer_id="9")
    assert [row["rcpt_to"] for row in found] == ["asleep@segments.example.com"]


def test_likely_scanners_by_domain(ask):
    [row] = ask("likely_scanners", recipient_domain="scanned.example.com")
    assert figures(row, "delivered", "clicked", "likely_scanners", "scanner_share") == (1, 1, 1, 100.0)
    assert ask("likely_scanners", recipient_domain="read.example.com") == []


def test_versions_of_a_test(ask):
    names = ("ab_version", "sent", "delivered", "bounced", "block", "opened", "open_rate")
    assert [figures(row, *names) for row in ask("by_ab_version")] == [
        ("subject version 1", 2, 2, 0, 0, 1, 50.0),
        ("subject version 2", 2, 1, 1, 1, 0, 0.0),
    ]


def test_reasons_that_are_new_or_rising(ask):
    names = ("reason", "what", "bounce_class", "events", "events_before", "first_seen")
    assert [figures(row, *names) for row in ask("new_reasons")] == [
        ("421 rising", "rising", 70, 10, 8, ago(20, "10:00:00")),
        ("550 5.7.26 new", "new", 51, 10, 0, ago(3, "10:00:00")),
    ]


def test_delayed_and_waiting(ask):
    [row] = ask("delays_and_waiting", mailbox_provider="Waiting")
    names = (
        "accepted",
        "delayed",
        "delayed_rate",
        "attempts",
        "delivered_late",
        "bounced_late",
        "waiting",
        "oldest_waiting",
    )
    oldest = f"{NOW - timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
    assert figures(row, *names) == (1, 2, 200.0, 2, 0, 1, 1, oldest)


def test_cohorts(ask):
    [row] = ask("campaign_cohorts", campaign_id="cohort")
    assert figures(row, "accepted", "accepted_24h", "opened_24h", "accepted_72h", "opened_72h") == (3, 2, 0.0, 2, 50.0)
    assert figures(row, "accepted_7d", "opened_7d", "clicked_7d", "unsubscribed_7d") == (2, 100.0, 50.0, 0.0)


def test_every_saved_query_answers(ask):
    for text in sql.queries():
        assert ask(text.name), text.name


@pytest.mark.parametrize("ask", ["PostgreSQL", pytest.param("DuckDB", marks=pytest.mark.nightly)], indirect=True)
def test_every_panel_of_grafana_answers_as_its_saved_query(ask):
    for panel in grafana.panels("postgresql"):
        assert ask(grafana.statement(panel)) == ask(grafana.query(panel)), panel["title"]


def test_a_panel_of_grafana_shows_what_is_chosen(ask):
    [panel] = [one for one in grafana.panels("postgresql") if grafana.query(one) == "provider_day"]
    found = ask(grafana.statement(panel, days=15, provider="Yahoo", domain="angry.example.com"))
    assert [figures(row, "mailbox_provider", "sending_domain", "sent") for row in found] == [
        ("Yahoo", "angry.example.com", 1000)
    ]


ON_THE_PAGE = {"likely_scanners": "scanned", "opened_by_proxy": "by_proxy_only"}


def report_period() -> Period:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return Period(end - timedelta(days=30), end)


def test_the_report_counts_each_campaign_alike(ask):
    """But by event: an open within the days counts whenever its message was delivered."""
    rows = ask(groups(report_period(), 1))
    found = {row["name"]: Counts.of(row) for row in rows if row["dimension"] == "campaign"}
    for name, figures in BY_CAMPAIGN:
        wanted = {key: value for key, value in figures.items() if not key.endswith("rate")}
        if name == "older":
            wanted["opened"] = 1
        counted = {key: getattr(found[name], ON_THE_PAGE.get(key, key)) for key in wanted}
        assert (name, counted) == (name, wanted)
    assert (found["cancelled"].stopped, found["cancelled"].targeted) == (3, 4)
    assert (found["delays"].attempts_delayed, found["delays"].waiting) == (3, 0)
    assert (found["holiday"].replies, found["mixed"].complaint_rate) == (1, Rate(2, 1000))
    assert [found[name].reported for name in ("only-gmail", "forwarded", "company")] == [0, 0, 0]
    assert "push" not in found


def test_a_message_belongs_to_the_name_that_one_of_its_events_has(ask):
    rows = ask(groups(report_period(), 1, ["ip_pool"]))
    found = {(row["dimension"], row["name"]): Counts.of(row) for row in rows}
    for group in (("campaign", "#1 <b>'sale'</b>"), ("ip_pool", "!fast")):
        assert (found[group].delivered, found[group].hard, found[group].accepted) == (1, 1, 0)


def test_names_of_two_accounts_are_two_groups(ask):
    rows = ask(groups(report_period(), 1, ["subaccount", "template"]))
    found = {(row["dimension"], row["name"], row["account"]): row["delivered"] for row in rows}
    for dimension, name in (("subaccount", "7"), ("template", "welcome")):
        assert [found.get((dimension, name, account)) for account in ("21", "22", "")] == [1, 2, None]


def test_the_query_behind_a_finding_has_its_events(ask):
    hard = ask(rows_of(report_period(), "campaign", "returned", "", of_group("Hard")))
    assert [row["metric"] for row in hard] == ["returned"] * 20
    of_one_account = ask(rows_of(report_period(), "campaign", "(none)", "22", "metric = 'delivered'"))
    assert sorted(row["message_id"] for row in of_one_account) == ["ac220", "ac221"]
    signs = ask(rows_of(report_period(), "campaign", "#1 <b>'sale'</b>", "", "metric = 'delivered'"))
    assert [row["message_id"] for row in signs] == ["si1"]
