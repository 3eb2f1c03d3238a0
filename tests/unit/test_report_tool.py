"""The period that a report is asked for."""

from datetime import UTC, datetime

import pytest

from bird_webhooks.arguments import parser
from bird_webhooks.errors import OperateError
from bird_webhooks.report_page import asked_period
from report.queries import Period


def period(*arguments: str, rows: list[dict] | None = None) -> Period:
    class Engine:
        name = "a test"

        def rows(self, statements):
            return dict.fromkeys(statements, rows)

    options = parser().parse_args(["report", *arguments])
    return asked_period(Engine(), options.days, options.until)


def test_a_date_ends_the_period_at_its_midnight():
    assert period("--until", "2024-03-11") == Period(
        datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC)
    )


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
