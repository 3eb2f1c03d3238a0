"""The command line of the report; test_docs.py reads the examples of its document."""

from datetime import UTC, datetime

import pytest

from bird_webhooks import report_page as report
from report.queries import Period


def period(*arguments: str, rows: list[dict] | None = None) -> Period:
    class Engine(report.Engine):
        name = "a test"

        def rows(self, statements):
            return dict.fromkeys(statements, rows)

    return report.asked_period(report.parser().parse_args(arguments), Engine())


def test_a_date_ends_the_period_at_its_midnight():
    assert period("--until", "2024-03-11") == Period(
        datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC)
    )


@pytest.mark.parametrize("newest", ["2016-04-18", datetime(2016, 4, 18, tzinfo=UTC).date()])
def test_latest_ends_it_after_the_newest_day(newest):
    found = period("--until", "latest", "--days", "1", rows=[{"latest": newest}])
    assert found == Period(datetime(2016, 4, 18, tzinfo=UTC), datetime(2016, 4, 19, tzinfo=UTC))


def test_latest_of_nothing_is_said():
    with pytest.raises(report.OperateError, match="no events at all"):
        period("--until", "latest", rows=[{"latest": None}])


def test_now_ends_with_the_hour_that_has_begun():
    found = period()
    assert found.until > datetime.now(UTC)
    assert (found.until.minute, found.until.second) == (0, 0)


@pytest.mark.parametrize(
    "arguments", [["--days", "0"], ["--days", "91"], ["--until", "soon"], ["--postgres", "x", "--postgres-secret", "y"]]
)
def test_wrong_usage_is_refused(arguments):
    with pytest.raises(SystemExit) as refused:
        report.parser().parse_args(arguments)
    assert refused.value.code == 2


def test_without_a_database_it_asks_for_one(capsys):
    assert report.main([]) == 1
    assert capsys.readouterr().err == (
        "report: where from? give --stack-name, --local, --postgres or --postgres-secret\n"
    )
