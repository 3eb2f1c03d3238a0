"""The bus does not get events of long ago, nor imported ones that nobody asked to publish."""

from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.moving import names
from publish_events.holding_back import is_held_back

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
IMPORTED = names.name(None, "2025-11-26", NOW, [b"{}"], publish=False).text
FOR_THE_BUS = names.name(None, "2025-11-26", NOW, [b"{}"], publish=True).text


@pytest.mark.parametrize(
    ("batch_id", "age", "maximum_days", "held_back"),
    [
        ("live", timedelta(hours=1), 7, False),
        ("live", timedelta(days=7), 7, False),
        ("live", timedelta(days=330), 7, True),
        ("live", timedelta(days=330), 0, False),
        ("live", timedelta(days=-1), 7, False),
        (IMPORTED, timedelta(hours=1), 7, True),
        (IMPORTED, timedelta(hours=1), 0, True),
        (FOR_THE_BUS, timedelta(hours=1), 7, False),
        (FOR_THE_BUS, timedelta(days=330), 7, True),
        (FOR_THE_BUS, timedelta(days=330), 0, False),
        (None, timedelta(hours=1), 7, False),
    ],
)
def test_age_and_origin_decide(batch_id, age, maximum_days, held_back):
    row = {"batch_id": batch_id, "timestamp": NOW - age, "received_at": NOW}
    assert is_held_back(row, NOW, maximum_days) is held_back


def test_without_a_time_of_its_own_the_arrival_counts():
    assert is_held_back({"batch_id": "live", "received_at": NOW - timedelta(days=8)}, NOW, 7)
    assert not is_held_back({"batch_id": "live"}, NOW, 7)
