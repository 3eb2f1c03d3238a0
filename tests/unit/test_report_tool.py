"""The period that a report is asked for."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bird_webhooks.arguments import parser
from bird_webhooks.errors import OperateError
from bird_webhooks.report_page import Asked, asked_period
from report.queries import Period


def period(*arguments: str, rows: list[dict] | None = None) -> Period:
    class Engine:
        name = "a test"

        def rows(self, statements):
            return dict.fromkeys(statements, rows)

    options = parser().parse_args(["report", *arguments])
    return asked_period(Engine(), Asked(options.days, options.until, options.timezone))


def test_a_date_ends_the_period_at_its_midnight():
    assert period("--until", "2024-03-11") == Period(
        datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC)
    )


def test_its_midnight_is_that_of_the_time_zone():
    found = period("--until", "2024-03-11", "--timezone", "Europe/Berlin")
    assert found == Period(*(datetime(2024, 3, day, tzinfo=ZoneInfo("Europe/Berlin")) for day in (4, 11)))
    assert found.since == datetime(2024, 3, 3, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--timezone", "Mars/Olympus", "not a time zone, such as Europe/Berlin: Mars/Olympus"),
        ("--timezone", "../../etc/passwd", "not a time zone"),
        ("--by", "campaigns", "not one of sending-domain, recipient-domain, ip, ip-pool, subaccount, template"),
        ("--thresholds", "spam=1/2", "spam=1/2 is not a threshold: hard, blocked, soft, complaint, delayed, stopped"),
    ],
)
def test_what_it_does_not_know_is_refused(option, value, said, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["report", option, value])
    assert said in capsys.readouterr().err


def test_tables_are_asked_for_by_name():
    assert parser().parse_args(["report", "--by", "ip-pool", "--by", "ab-version"]).by == ["ip_pool", "ab_version"]


@pytest.mark.parametrize("newest", ["2016-04-18", datetime(2016, 4, 18, tzinfo=UTC).date()])
def test_latest_ends_it_after_the_newest_day(newest):
    found = period("--until", "latest", "--days", "1", rows=[{"latest": newest}])
    assert found == Period(datetime(2016, 4, 18, tzinfo=UTC), datetime(2016, 4, 19, tzinfo=UTC))


def test_latest_of_nothing_is_said():
    with pytest.raises(OperateError, match="no events at all"):
        period("--until", "latest", rows=[{"latest": None}])


def test_now_ends_with_the_hour_that_has_begun():
    found = period()
    assert found.until > datetime.now(UTC)
    assert (found.until.minute, found.until.second) == (0, 0)
