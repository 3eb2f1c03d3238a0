"""Which months of the table stay."""

from datetime import date

import pytest

from load_postgres import retention

MONTHS = [
    pytest.param(0, 30, date(2026, 11, 26), date.min, id="all"),
    pytest.param(1, 30, date(2026, 11, 26), date(2026, 10, 1), id="one month and this one"),
    pytest.param(12, 30, date(2026, 11, 26), date(2025, 11, 1), id="a year"),
    pytest.param(11, 30, date(2026, 12, 1), date(2026, 1, 1), id="to January"),
    pytest.param(120, 30, date(2026, 1, 31), date(2016, 1, 1), id="ten years"),
    pytest.param(1, 30, date(2026, 11, 1), date(2026, 9, 1), id="soft bounces count for longer"),
    pytest.param(1, 365, date(2026, 11, 26), date(2025, 11, 1), id="they count for a year"),
]


@pytest.mark.parametrize(("months", "soft_bounce_days", "today", "first"), MONTHS)
def test_the_first_day_that_stays(months, soft_bounce_days, today, first):
    assert retention.first_day(months, soft_bounce_days, today) == first
    assert not months or first <= today - retention.NEVER_GOING
