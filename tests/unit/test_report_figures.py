"""From the rows of the queries to the figures of the page. The rows are Athena's: all text."""

import csv
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from report.app import whole_days
from report.figures import BOUNCE_CLASSES, Rate, Reason, figures, masked, moment
from report.queries import RETURN_NOTHING, Period, queries

ANSWERS = json.loads((Path(__file__).resolve().parents[1] / "data/report_answers.json").read_text())
WEEK = Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC))


@pytest.fixture
def found():
    return figures(WEEK, ANSWERS)


def test_headline_has_the_rates_by_their_denominators(found):
    assert found.now.sent == 20_000
    assert found.now.delivered == Rate(19_600, 20_000)
    assert found.now.bounced == Rate(460, 20_000)  # out of band too
    assert found.now.complaints == Rate(13, 19_600)
    assert found.now.opened_by_people == Rate(6860, 19_600)
    assert found.now.opened_by_people.share == 0.35
    assert found.now.clicked_by_people == Rate(588, 19_600)


def test_the_period_before_has_its_own(found):
    assert found.before.sent == 18_500
    assert found.before.bounced == Rate(500, 18_500)
    assert found.before.opened_by_people == Rate(6300, 18_000)


def test_counts_beside_the_rates(found):
    assert (found.events, found.events_before) == (31_224, 28_214)
    assert (found.rejected, found.returned, found.delays, found.unsubscribes) == (8, 60, 1300, 42)
    assert found.opens == {"direct": 4000, "proxy": 3000, "machine": 2000}
    assert found.with_extra == 5


def test_automatic_replies_and_reports_that_are_no_complaint_are_in_no_rate():
    [totals] = ANSWERS["totals"]
    found = figures(WEEK, {**ANSWERS, "totals": [{**totals, "returned": "20", "complaints": "3"}]})
    assert (found.now.bounced, found.returned, found.replies) == (Rate(420, 20_000), 20, 40)
    assert found.now.complaints == Rate(3, 19_600)


def test_campaigns_of_several_accounts_are_told_apart():
    first = ANSWERS["campaigns"][0]
    rows = [{**first, "account": "1"}, {**first, "account": ""}]
    found = figures(WEEK, {**ANSWERS, "campaigns": rows})
    assert [group.name for group in found.campaigns] == [
        "Autumn sale (account 1)",
        "Autumn sale (account unknown)",
    ]


def test_what_returns_nothing_is_what_has_no_action_in_the_views():
    with (Path(__file__).resolve().parents[2] / "sql/bounce_classes.csv").open(newline="") as file:
        none = [int(row["bounce_class"]) for row in csv.DictReader(file) if row["action"] == "none"]
    assert list(RETURN_NOTHING) == none


def test_no_rate_of_nothing():
    assert Rate(0, 0).share is None


def test_campaigns_of_few_messages_are_marked(found):
    assert [(group.sent, group.few) for group in found.campaigns] == [
        (15_000, False),
        (4900, False),
        (60, True),
        (40, True),
    ]
    assert found.all_campaigns == 31
    assert found.campaigns[3].complaints.share is None


def test_each_hour_of_the_period_has_its_place(found):
    assert len(found.series) == 7 * 24
    assert found.bars == "hour"
    assert found.series[0] == {
        "start": datetime(2024, 3, 4, tzinfo=UTC),
        **dict.fromkeys(
            ("events", "delivered", "bounced", "delayed", "complaints", "opens", "machine_opens", "clicks"), 0
        ),
    }
    assert found.series[6]["delivered"] == 34


def test_long_periods_are_shown_by_day():
    month = figures(Period(datetime(2024, 2, 10, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC)), ANSWERS)
    assert (month.bars, len(month.series)) == ("day", 30)
    assert month.series[23]["start"] == datetime(2024, 3, 4, tzinfo=UTC)
    assert month.series[23]["delivered"] == 2276


def test_reasons_are_equal_without_the_addresses_in_them(found):
    assert found.reasons[:2] == [
        Reason("Delayed", "Transient failure", "421 try again later", 1000),
        Reason("Bounced", "Invalid recipient", "550 <<address>>: no such user", 190),
    ]
    assert found.reasons[-1] == Reason("Not generated", "", "", 1)


def test_bounce_classes_have_their_names_and_unknown_ones_their_number(found):
    assert found.bounce_classes == [
        ("Invalid recipient", "hard", 300),
        ("Mailbox full", "soft", 100),
        ("Class 999", "other", 50),
        ("No class", "other", 10),
    ]


def test_bounce_classes_are_those_of_the_views():
    with (Path(__file__).resolve().parents[2] / "sql/bounce_classes.csv").open(newline="") as file:
        views = {int(row["bounce_class"]): row["bounce_group"].lower() for row in csv.DictReader(file)}
    assert {code: group.replace("other", "undetermined") for code, (_, group) in BOUNCE_CLASSES.items()} == views


def test_unknown_fields_are_counted_by_name_and_strange_names_not_shown(found):
    assert found.unknown_fields == [("next_attempt", 3), ("(not a plain name)", 1), ("geo_ip.continent", 1)]
    assert found.extra_events_read == 4


def test_lag_is_the_bound_that_half_and_nineteen_of_twenty_keep(found):
    assert [(lag.share, lag.seconds) for lag in found.lags] == [(0.5, 30), (0.95, 600)]


def test_newest_event_and_arrival(found):
    assert found.latest == datetime(2024, 3, 10, 23, 57, tzinfo=UTC)
    assert found.latest_received == datetime(2024, 3, 10, 23, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("550 <jane.doe@example.com>: unknown", "550 <<address>>: unknown"),
        ("to=jane@example.com,john@example.com", "<address>,<address>"),
        ("mailto:jane+tag@example.com!", "mailto:<address>"),
        ("Grüße@büro.example.com", "<address>"),
        ("at 5 @ noon", "at 5 @ noon"),
        ('550 "anna b"@example.com unknown', "550 <address> unknown"),
        ("550 anna@[192.0.2.1] unknown", "550 <address> unknown"),
        ("550 anna%40example.com unknown", "550 <address> unknown"),
        ("550 anna%2540example.com unknown", "550 <address> unknown"),
        ("550 <bounces+123-anna=example.com@lists.example.com> unknown", "550 <<address>> unknown"),
        ("550 o'brien@example.com unknown", "550 <address> unknown"),
        ("550 =?utf-8?q?anna=40example.com?= unknown", "550 <encoded> unknown"),
        ("550 =?utf-8?B?YW5uYUBleGFtcGxlLmNvbQ==?= unknown", "550 <encoded> unknown"),
        ("550 anna&#64example.com unknown", "550 <address> unknown"),
        ("550 anna&amp;#64;example.com unknown", "550 <address> unknown"),
        ("550 anna\ufe6bexample.com unknown", "550 <address> unknown"),
        ("550 anna%EF%BC%A0example.com unknown", "550 <address> unknown"),
        ("550 anna%25%34%30example.com unknown", "550 <address> unknown"),
        (r"550 anna%5Cu0040example.com unknown", "550 <address> unknown"),
        (r'550 "anna\"x"@example.com unknown', "550 <address> unknown"),
        ("100%25 of https://example.com/?a=%20b", "100%25 of https://example.com/?a=%20b"),
        ("550 anna&#64;example.com unknown", "550 <address> unknown"),
        ("550 anna\uff20example.com unknown", "550 <address> unknown"),
        (r"550 anna\u0040example.com unknown", "550 <address> unknown"),
        ("two: a@example.com, b@example.com", "two: <address>, <address>"),
        (None, ""),
    ],
)
def test_addresses_are_masked(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize("text", ["a" * 1_000_000, "@" * 1_000_000, "a@" * 500_000, '"' * 1_000_000, "%25" * 300_000])
def test_a_long_text_is_cut_and_takes_no_time(text):
    began = time.process_time()
    assert len(masked(text)) <= 501
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "value",
    [
        "2024-03-05 10:00:00.000",
        "2024-03-05 10:00:00.000 UTC",
        "2024-03-05 10:00:00",
        datetime(2024, 3, 5, 10),  # noqa: DTZ001  (as PostgreSQL gives a timestamp without a zone)
        datetime(2024, 3, 5, 10, tzinfo=UTC),
    ],
)
def test_a_time_is_the_same_from_either_database(value):
    assert moment(value) == datetime(2024, 3, 5, 10, tzinfo=UTC)


def test_the_period_before_ends_where_the_period_begins():
    assert WEEK.before == Period(datetime(2024, 2, 26, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC))
    assert WEEK.last_day == "2024-03-10"


def test_every_statement_names_the_days_that_it_reads():
    statements = queries(WEEK)
    assert sorted(statements) == sorted(ANSWERS)
    for name, sql in statements.items():
        first = "2024-02-26" if name in ("types", "totals") else "2024-03-04"
        assert f"event_date >= DATE '{first}' AND event_date <= DATE '2024-03-10'" in sql, name
        assert "TIMESTAMP '2024-03-11 00:00:00'" in sql, name


NOW = datetime(2024, 3, 11, 6, tzinfo=UTC)


def test_the_daily_page_is_of_the_seven_days_before_today():
    assert whole_days({"source": "aws.events", "time": "2024-03-11T06:00:00Z"}, NOW) == WEEK


def test_by_hand_it_is_of_the_days_asked_for():
    asked = whole_days({"days": 1, "until": "2024-03-05"}, NOW)
    assert asked == Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC))


@pytest.mark.parametrize("days", [0, 91])
def test_by_hand_it_has_its_bounds(days):
    with pytest.raises(ValueError, match="is not 1 to 90"):
        whole_days({"days": days}, NOW)
