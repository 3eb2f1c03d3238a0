"""Bars and labels of the charts, as literal parts of an SVG."""

from datetime import UTC, datetime, timedelta

import pytest

from report.charts import chart, day_labels, marks

START = datetime(2024, 3, 4, tzinfo=UTC)


def slots(*counts: tuple[int, int], step: timedelta = timedelta(hours=1)) -> list[dict]:
    return [
        {"start": START + number * step, "delivered": delivered, "bounced": bounced}
        for number, (delivered, bounced) in enumerate(counts)
    ]


def test_parts_of_a_bar_are_stacked_with_a_gap_and_an_empty_slot_has_none():
    drawn = chart("Sent", slots((100, 50), (0, 0)), [("Delivered", "delivered"), ("Bounced", "bounced")], hourly=True)
    assert drawn.paths == [("delivered", "M1 150h8v-100h-8z"), ("bounced", "M1 49h8v-49h-8z")]
    assert drawn.tips == [(0, "4 Mar, 00:00: 100 delivered, 50 bounced")]
    assert (drawn.width, drawn.total) == (20, 150)
    assert drawn.lines == [(100.0, "50"), (50.0, "100"), (0.0, "150")]


def test_one_message_among_many_is_still_seen():
    drawn = chart("Bounced", slots((0, 1), (0, 10_000)), [("Bounced", "bounced")], hourly=True)
    assert drawn.paths == [("bounced", "M1 150h8v-1h-8zM11 150h8v-150h-8z")]


@pytest.mark.parametrize(
    ("top", "lines"),
    [(1, [1]), (4, [1, 2, 3, 4]), (7, [2, 4, 6]), (149, [50, 100]), (1_000_000, [500_000, 1_000_000])],
)
def test_lines_are_at_round_numbers(top, lines):
    assert marks(top) == lines


@pytest.mark.parametrize(
    ("hours", "step", "labels"),
    [
        (24, 1, ["4 Mar", "06:00", "12:00", "18:00"]),
        (7 * 24, 1, ["4 Mar", "5 Mar", "6 Mar", "7 Mar", "8 Mar", "9 Mar", "10 Mar"]),
        (28 * 24, 24, ["4 Mar", "8 Mar", "12 Mar", "16 Mar", "20 Mar", "24 Mar", "28 Mar"]),
        (2, 1, ["4 Mar"]),
    ],
)
def test_labels_have_room_on_a_phone(hours, step, labels):
    made = day_labels(slots(*[(1, 1)] * (hours // step), step=timedelta(hours=step)))
    assert [text for _, text in made] == labels
