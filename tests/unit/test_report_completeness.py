"""The report's section about completeness: a sentence, a heat map, and what is open."""

from datetime import UTC, datetime, timedelta

import jinja2

from report import completeness
from report.page import HERE

TEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
NOW = TEN + timedelta(hours=14)


def row(hour, kind, state="proved", **more):
    """As Athena gives it."""
    usual = {"ours": "5", "theirs": "5", "missing": "0", "strange": "0", "proof": "ids", "filled": "0", "erased": "0"}
    when = f"{TEN + timedelta(hours=hour):%Y-%m-%d %H:%M:%S}.000"
    return {**usual, "hour": when, "type": kind, "state": state, "counted_at": when, "note": None, **more}


def section(rows, now=NOW, since=TEN - timedelta(days=1)):
    return completeness.section(rows, since, now)


def html(found):
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined)
    return page.get_template("completeness.html").render(completeness=found)


def test_hours_of_one_state_are_one_rectangle():
    found = section([row(0, "open"), row(1, "open"), row(2, "open", "gap"), row(4, "open")])
    [opens] = found.rows
    assert [(run.left, run.width, run.colour) for run in opens.runs] == [
        (0, 2, "#2f6fb3"),
        (2, 1, "#c8442b"),
        (4, 1, "#2f6fb3"),
    ]
    assert opens.runs[0].title == "open, 25 Nov 10:00 to 25 Nov 12:00 UTC: proved, 10 here, 10 at Bird"


def test_the_sentence_is_on_top_and_what_is_open_below():
    found = section([row(0, "open"), row(1, "open", "gap", missing="2", ours="3")])
    assert found.sentence == "proved complete until 25 November, 11:00 UTC; 2 events missing in 1 hour"
    assert found.proved is False
    text = html(found)
    assert "<strong>Proved complete until 25 november, 11:00 utc" not in text
    assert "<strong>Proved complete until 25 November, 11:00 UTC; 2 events missing in 1 hour.</strong>" in text
    assert text.count("<rect x=") == 2
    assert '<td class="text">gap</td><td>3</td><td>5</td><td>2</td><td>0</td>' in text


def test_the_sentence_is_about_the_same_time_whatever_the_days_of_the_page_are():
    """A gap before the page's days holds T up, and a hole of long ago does not."""
    hours = [row(-24 * 20, "open"), row(-24 * 9, "open"), row(-24 * 9 + 1, "open", "gap", missing="2")]
    today = [row(hour, "open") for hour in range(-24 * 9 + 2, 3)]
    for since in (TEN - timedelta(days=30), TEN - timedelta(days=1)):
        found = section([*hours, *today], since=since)
        assert found.sentence == "proved complete until 16 November, 11:00 UTC; 2 events missing in 1 hour"
        assert found.proved is False
    assert [run.left for run in found.rows[0].runs] == [0]


def test_what_was_proved_before_the_comparison_was_switched_off_is_said():
    found = section([row(hour, "open") for hour in range(-24 * 40, -24 * 20)], since=TEN - timedelta(days=45))
    assert (found.sentence, found.proved) == ("proved complete until 5 November, 10:00 UTC", True)


def test_all_types_together_come_last():
    found = section([row(1, "*", "provisional"), row(0, "open"), row(0, "bounce")])
    assert [one.type for one in found.rows] == ["bounce", "open", "*"]
    assert "all types" in html(found)


def test_a_month_is_a_small_page():
    rows = [row(hour, kind) for hour in range(720) for kind in ("open", "click", "delivery")]
    assert len(html(section(rows, NOW + timedelta(days=30)))) < 5000


def test_a_type_that_somebody_made_up_stays_text():
    assert "<script>" not in html(section([row(0, "<script>")]))


def test_nothing_was_compared():
    assert section([]) is None


def test_values_of_postgresql_are_taken_too():
    given = {**row(0, "open"), "hour": TEN.replace(tzinfo=None), "ours": 5, "theirs": None, "counted_at": NOW}
    assert section([given]).rows[0].runs[0].width == 1


def test_the_question_names_the_first_hour():
    assert "hour >= TIMESTAMP '2026-11-25 10:00:00'" in completeness.query(TEN, TEN + timedelta(days=13))
    assert "hour >= TIMESTAMP '2026-11-14 00:00:00'" in completeness.query(TEN, NOW)
