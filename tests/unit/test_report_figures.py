"""From the rows of the queries to the figures of the page. The rows are Athena's: all text."""

import csv
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from report.app import whole_days
from report.counts import Rate
from report.figures import Reason, figures, masked, moment
from report.queries import BOUNCE_CLASSES, Period, queries
from tests.report_answers import ANSWERS, WEEK, answers, group

KOLKATA = ZoneInfo("Asia/Kolkata")  # UTC+05:30
BERLIN = ZoneInfo("Europe/Berlin")  # goes from UTC+01:00 to UTC+02:00 on 31 March 2024


@pytest.fixture
def found():
    return figures(WEEK, ANSWERS)


def test_rates_have_the_denominators_of_the_vocabulary(found):
    now = found.everything.now
    assert now.sent == 20_000
    assert now.accepted_rate == Rate(19_540, 20_000)  # without what came back
    assert now.bounced_rate == Rate(460, 20_000)  # out of band too
    assert now.accepted_rate.part + now.bounced_rate.part == now.sent
    assert now.stopped_rate == Rate(100, 20_108)  # 92 admin bounces and 8 rejections, of those targeted
    assert now.complaint_rate == Rate(13, 12_000)  # where complaints are reported
    assert now.opened_rate == Rate(6860, 19_540)
    assert now.opened_of_measurable == Rate(6860, 18_400)  # without 1,140 that only machines opened
    assert now.clicked_rate == Rate(588, 19_540)
    assert now.unsubscribed_rate == Rate(42, 19_540)
    assert now.delayed_rate == Rate(700, 20_020)  # 20 messages are still waiting


def test_the_period_before_has_its_own(found):
    assert found.everything.before.sent == 18_500
    assert found.everything.before.bounced_rate == Rate(500, 18_500)
    assert found.everything.before.opened_rate == Rate(6300, 18_000)


def test_counts_beside_the_rates(found):
    assert (found.events, found.events_before, found.with_extra) == (31_224, 28_214, 5)


def test_bird_s_own_refusals_are_neither_sent_nor_bounced():
    """500 delivered, 250 of a cancelled campaign: in Bird's own figures 100 % are delivered."""
    cancelled = answers({"injected": 750, "rejected": 0, "delivered": 500, "in_band": 0, "admin": 250, "returned": 0})
    now = figures(WEEK, cancelled).everything.now
    assert (now.sent, now.accepted_rate, now.bounced_rate) == (500, Rate(500, 500), Rate(0, 500))
    assert now.stopped_rate == Rate(250, 750)


def test_more_returns_than_deliveries_accept_nothing():
    assert figures(WEEK, answers({"delivered": 3, "returned": 5})).everything.now.accepted == 0


def test_a_campaign_is_told_apart_by_its_account():
    rows = [ANSWERS["groups"][0], group("campaign", "Sale", "1", delivered=9), group("campaign", "Sale", delivered=9)]
    [campaigns, _] = figures(WEEK, answers(groups=rows)).tables
    assert [(one.name, one.account) for one in campaigns.groups] == [("Sale", "1"), ("Sale", "")]


def test_other_tables_are_made_by_what_is_asked_for():
    rows = [ANSWERS["groups"][0], group("ip_pool", "marketing", delivered=150), group("ip", "192.0.2.1", delivered=150)]
    tables = figures(WEEK, answers(groups=rows), by=("ip_pool", "provider")).tables
    assert [(table.dimension, [one.name for one in table.groups]) for table in tables] == [
        ("campaign", []),
        ("provider", []),
        ("ip_pool", ["marketing"]),
    ]


def test_no_rate_of_nothing():
    assert Rate(0, 0).share is None


def test_campaigns_of_few_messages_are_marked(found):
    campaigns = found.tables[0]
    assert [(group.now.sent, group.now.few) for group in campaigns.groups] == [
        (15_000, False),
        (4900, False),
        (60, True),
        (40, True),
    ]
    assert campaigns.all_groups == 31
    assert campaigns.groups[3].now.complaint_rate.share is None


def test_each_hour_of_the_period_has_its_place(found):
    assert len(found.series) == 7 * 24
    assert found.bars == "hour"
    assert found.series[0] == {
        "start": datetime(2024, 3, 4, tzinfo=UTC),
        **dict.fromkeys(("delivered", "bounced", "delayed", "complaints", "clicked", "opened", "unmeasurable"), 0),
    }
    assert (found.series[6]["delivered"], found.series[6]["opened"]) == (34, 17)


def test_hours_begin_as_clocks_of_the_zone_do():
    """SQL gives the hour of the shifted time: 12:00 is from 11:30 to 12:30 in UTC, 17:00 to 18:00 in Kolkata."""
    week = Period(datetime(2024, 3, 4, tzinfo=KOLKATA), datetime(2024, 3, 11, tzinfo=KOLKATA))
    assert "INTERVAL '30' MINUTE" in queries(week, 500)["hours"]
    assert "seen >= TIMESTAMP '2024-03-03 18:30:00'" in queries(week, 500)["hours"]
    hours = [dict(ANSWERS["hours"][0], hour="2024-03-05 12:00:00.000", delivered="7")]
    series = figures(week, answers(hours=hours, engagement=[])).series
    assert [(slot["start"].isoformat(), slot["delivered"]) for slot in series if slot["delivered"]] == [
        ("2024-03-05T17:00:00+05:30", 7)
    ]


def test_a_day_in_which_clocks_change_has_23_hours():
    weeks = Period(datetime(2024, 3, 25, tzinfo=BERLIN), datetime(2024, 4, 8, tzinfo=BERLIN))
    hours = [
        dict(ANSWERS["hours"][0], hour=hour, delivered="1")
        for hour in ("2024-03-30 23:00:00", "2024-03-31 21:00:00", "2024-03-31 22:00:00")
    ]
    series = figures(weeks, answers(hours=hours, engagement=[])).series
    assert len(series) == 14
    assert [(slot["start"].isoformat(), slot["delivered"]) for slot in series if slot["delivered"]] == [
        ("2024-03-31T00:00:00+01:00", 2),
        ("2024-04-01T00:00:00+02:00", 1),
    ]
    assert weeks.before.since == datetime(2024, 3, 11, tzinfo=BERLIN)


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
        ("Class 999", "undetermined", 50),
        ("No class", "undetermined", 10),
    ]


def test_bounce_classes_are_those_of_the_views():
    with (Path(__file__).resolve().parents[2] / "sql/bounce_classes.csv").open(newline="") as file:
        views = {int(row["bounce_class"]): row["bounce_group"].lower() for row in csv.DictReader(file)}
    assert {code: group for code, (_, group) in BOUNCE_CLASSES.items()} == views


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


@pytest.mark.parametrize("address", ["ann.bell@example.com", "=?utf-8?b?YW5uLmJlbGxAZXhhbXBsZS5jb20=?="])
def test_no_part_of_an_address_is_left_where_a_long_text_is_cut(address):
    for place in range(475, 500):
        assert masked("x" * place + " " + address).strip("x …") in ("", "<address>", "<encoded>")
        assert masked("x" * place + "<" + address).strip("x <…") in ("", "address>", "encoded>")


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
    statements = queries(WEEK, 500)
    assert sorted(statements) == sorted(ANSWERS)
    for name, sql in statements.items():
        first = "2024-02-26" if name in ("types", "totals", "groups") else "2024-03-04"
        assert f"event_date >= DATE '{first}' AND event_date <= DATE '2024-03-10'" in sql, name
        assert "TIMESTAMP '2024-03-11 00:00:00'" in sql, name


NOW = datetime(2024, 3, 11, 6, tzinfo=UTC)


def test_the_daily_page_is_of_the_seven_days_before_today():
    assert whole_days({"source": "aws.events", "time": "2024-03-11T06:00:00Z"}, NOW) == WEEK


def test_by_hand_it_is_of_the_days_asked_for():
    asked = whole_days({"days": 1, "until": "2024-03-05"}, NOW)
    assert asked == Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC))


def test_its_days_are_those_of_the_zone():
    now = datetime(2024, 3, 11, 20, tzinfo=UTC).astimezone(KOLKATA)  # 12 March there
    assert whole_days({"days": 1}, now).since == datetime(2024, 3, 10, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize("days", [0, 91])
def test_by_hand_it_has_its_bounds(days):
    with pytest.raises(ValueError, match="is not 1 to 90"):
        whole_days({"days": days}, NOW)
