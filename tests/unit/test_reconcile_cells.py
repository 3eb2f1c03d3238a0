"""Cells: two counts -> a state, when each is due, and "proved complete until T"."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconcile import cells
from reconcile.cells import DAY_2, DAY_9, TOTAL, TYPES, Counted, Ids, Known, Times, judge
from reconcile.proved import ALL, Cell, State, proved_until, sentence

TIMES = Times()
HOUR = timedelta(hours=1)
TEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
KNOWN = Known(TEN - 100 * HOUR)
SETTLED = TEN + HOUR + timedelta(hours=9, minutes=10)


def cell(hour=TEN, kind="delivery", state=State.PROVED, ours=5, theirs=5, stage=TYPES, **more):
    return Cell(hour, kind, state, ours, theirs, stage, more.pop("counted_at", SETTLED), **more)


@pytest.mark.parametrize(
    ("age", "stage"),
    [
        pytest.param(timedelta(minutes=79), None, id="too early"),
        pytest.param(timedelta(minutes=80), TOTAL, id="80 minutes"),
        pytest.param(timedelta(hours=9, minutes=9), TOTAL, id="Bird may still deliver"),
        pytest.param(timedelta(hours=9, minutes=10), TYPES, id="9 h 10 min"),
        pytest.param(timedelta(days=2), DAY_2, id="2 days"),
        pytest.param(timedelta(days=9), DAY_9, id="9 days"),
    ],
)
def test_an_hour_is_counted_in_stages(age, stage):
    assert TIMES.stage(TEN, TEN + HOUR + age) == stage


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [
        pytest.param(5, 5, State.PROVED, id="equal"),
        pytest.param(0, 0, State.PROVED, id="nothing here and nothing there"),
        pytest.param(4, 5, State.GAP, id="one is missing"),
        pytest.param(6, 5, State.SURPLUS, id="one too many"),
        pytest.param(5, None, State.UNKNOWN, id="no answer"),
    ],
)
def test_a_settled_cell_is_judged_by_its_counts(ours, theirs, state):
    assert judge(TEN, "delivery", Counted(ours, theirs), KNOWN, TIMES, SETTLED).state == state


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [(5, 5, State.PROVISIONAL), (4, 5, State.LATE), (6, 5, State.LATE), (5, None, State.UNKNOWN)],
)
def test_before_it_is_settled_nothing_is_proved_and_nothing_is_a_gap(ours, theirs, state):
    early = TEN + HOUR + timedelta(minutes=80)
    assert judge(TEN, ALL, Counted(ours, theirs), KNOWN, TIMES, early).state == state


@pytest.mark.parametrize("kind", ["relay_delivery", "ab_test_completed", "sms_status"])
def test_what_the_events_api_does_not_cover_is_unprovable(kind):
    assert judge(TEN, kind, Counted(3, None), KNOWN, TIMES, SETTLED).state == State.UNPROVABLE


def test_a_loss_hidden_by_a_surplus_of_the_same_size_is_a_gap_by_id():
    judged = judge(TEN, "delivery", Counted(5, 5, ids=Ids(1, 1)), KNOWN, TIMES, SETTLED)
    assert (judged.state, judged.missing, judged.strange, judged.proof) == (State.GAP, 1, 1, "ids")


def test_a_surplus_stays_when_the_loss_beside_it_was_filled():
    last = cell(state=State.GAP, ours=5, missing=1, strange=1, filled=1)
    assert judge(TEN, "delivery", Counted(6, 5, ids=Ids(0, 1)), KNOWN, TIMES, SETTLED, last).state == State.SURPLUS


def test_a_gap_that_was_filled_and_is_equal_now_is_filled():
    last = cell(state=State.GAP, ours=3, missing=2, filled=2, filled_at=SETTLED)
    judged = judge(TEN, "delivery", Counted(5, 5), KNOWN, TIMES, SETTLED + HOUR, last)
    assert (judged.state, judged.filled, judged.filled_at) == (State.FILLED, 2, SETTLED)


def test_what_is_missing_of_erased_persons_is_no_gap():
    last = cell(state=State.GAP, ours=3, missing=2, erased=2)
    assert judge(TEN, "delivery", Counted(3, 5), KNOWN, TIMES, SETTLED + HOUR, last).state == State.ERASED


def test_more_missing_than_was_erased_is_a_gap():
    last = cell(state=State.GAP, ours=3, missing=2, erased=1)
    assert judge(TEN, "delivery", Counted(3, 5), KNOWN, TIMES, SETTLED + HOUR, last).state == State.GAP


def test_hours_before_the_webhook_are_no_gaps():
    assert judge(TEN, "bounce", Counted(0, 9), Known(TEN + HOUR), TIMES, SETTLED).state == State.BEFORE


def test_a_type_that_the_webhook_got_later_has_no_gaps_before():
    known = Known(TEN - 9 * HOUR, {"click": TEN + HOUR})
    assert judge(TEN, "click", Counted(0, 9), known, TIMES, SETTLED).state == State.BEFORE
    assert judge(TEN, "open", Counted(0, 9), known, TIMES, SETTLED).state == State.GAP


def test_what_was_imported_by_hand_from_before_the_webhook_is_proved():
    assert judge(TEN, "bounce", Counted(9, 9), Known(TEN + HOUR), TIMES, SETTLED).state == State.PROVED


@pytest.mark.parametrize("state", [State.PROVED, State.GAP, State.FILLED, State.SURPLUS, State.ERASED, State.BEFORE])
def test_no_answer_moves_no_verdict(state):
    last = cell(state=state)
    assert judge(TEN, "delivery", Counted(5, None), KNOWN, TIMES, SETTLED + 24 * HOUR, last) == last


def test_a_proved_cell_stays_proved_when_birds_index_loses_events():
    later = TEN + timedelta(days=9, hours=1)
    assert judge(TEN, "delivery", Counted(5, 2), KNOWN, TIMES, later, cell()).state == State.PROVED


@pytest.mark.parametrize(
    ("ours", "theirs", "ids", "missing"),
    [
        pytest.param(5, 5, None, 3, id="the missing ones are gone"),
        pytest.param(5, 5, Ids(0, 0), 3, id="by id"),
        pytest.param(5, 6, None, 3, id="some of the missing ones are gone"),
        pytest.param(6, 6, None, 2, id="one came"),
        pytest.param(5, 4, Ids(0, 1), 3, id="one of ours is gone, too"),
    ],
)
def test_a_gap_is_not_proved_by_a_count_that_shrinks(ours, theirs, ids, missing):
    last = cell(state=State.GAP, theirs=8, missing=3)
    judged = judge(TEN, "delivery", Counted(ours, theirs, ids=ids), KNOWN, TIMES, SETTLED + HOUR, last)
    assert (judged.state, judged.missing, judged.theirs) == (State.GAP, missing, 8)
    assert judged.note == "Bird had more before"
    assert judge(TEN, "delivery", Counted(8, 7), KNOWN, TIMES, SETTLED + HOUR, last).state == State.PROVED
    assert judge(TEN, "delivery", Counted(9, 7), KNOWN, TIMES, SETTLED + HOUR, last).state == State.SURPLUS


def test_a_gap_whose_ids_were_compared_by_filling_is_proved_by_the_next_count():
    """Nothing was absent, so Bird had counted too many."""
    last = cell(state=State.GAP, theirs=8, missing=3, filled_at=SETTLED)
    assert judge(TEN, "delivery", Counted(5, 5), KNOWN, TIMES, SETTLED + HOUR, last).state == State.PROVED


def test_a_filled_gap_is_no_surplus_when_birds_index_loses_events():
    last = cell(state=State.GAP, theirs=8, missing=3, filled=3, filled_at=SETTLED)
    assert judge(TEN, "delivery", Counted(8, 6), KNOWN, TIMES, SETTLED + HOUR, last).state == State.FILLED
    assert judge(TEN, "delivery", Counted(9, 6), KNOWN, TIMES, SETTLED + HOUR, last).state == State.SURPLUS


def test_a_proved_cell_to_which_a_forged_event_comes_is_a_surplus():
    later = TEN + timedelta(days=9, hours=1)
    assert judge(TEN, "delivery", Counted(6, 5), KNOWN, TIMES, later, cell()).state == State.SURPLUS


def test_birds_own_backlog_is_a_gap_on_day_two():
    later = TEN + timedelta(days=2, hours=1)
    judged = judge(TEN, "delivery", Counted(5, 8), KNOWN, TIMES, later, cell())
    assert (judged.state, judged.missing, judged.stage) == (State.GAP, 3, DAY_2)


# --- The edge of an hour ---


@pytest.mark.parametrize(("ours", "moved"), [(3, -2), (7, 2)])
def test_a_shift_over_the_edge_of_the_hour_is_no_gap_and_no_surplus(ours, moved):
    judged = judge(TEN, "open", Counted(ours, 5, moved), KNOWN, TIMES, SETTLED)
    assert (judged.state, judged.missing, judged.strange) == (State.PROVED, 0, 0)
    assert judged.note == f"{moved:+d} at the edge of the hour"


def test_a_gap_and_a_surplus_in_neighbouring_hours_that_are_no_shift_stay():
    states = [judge(TEN, "open", Counted(ours, 5), KNOWN, TIMES, SETTLED).state for ours in (3, 7)]
    assert states == [State.GAP, State.SURPLUS]


# --- What is due ---


def test_hours_are_due_oldest_first():
    now = TEN + 12 * HOUR
    found = cells.due([], TEN, now, TIMES)
    assert found[0] == (TEN, TYPES)
    assert found[1:3] == [(TEN + HOUR, TYPES), (TEN + 2 * HOUR, TOTAL)]
    assert found[-1] == (TEN + 9 * HOUR, TOTAL)


def test_a_judged_hour_is_due_again_at_its_next_stage():
    judged = [cell()]
    assert cells.due(judged, TEN, SETTLED, TIMES)[0] == (TEN + HOUR, TOTAL)
    later = TEN + HOUR + timedelta(days=2)
    assert (TEN, DAY_2) in cells.due(judged, TEN, later, TIMES)


def test_an_open_gap_is_counted_again_before_all_others():
    now = SETTLED + HOUR
    gap = cell(hour=TEN, state=State.GAP, counted_at=now - HOUR)
    assert cells.due([gap], TEN - 3 * HOUR, now, TIMES)[0] == (TEN, TYPES)


def test_what_was_just_counted_is_not_due():
    gap = cell(state=State.GAP, counted_at=SETTLED)
    assert (TEN, TYPES) not in cells.due([gap], TEN, SETTLED + timedelta(minutes=15), TIMES)


def test_hours_of_which_bird_forgets_events_while_a_run_counts_them_are_not_due():
    now = TEN + timedelta(days=20)
    assert cells.due([], TEN, now, TIMES)[0][0] == now - timedelta(days=10) + HOUR


def test_neighbouring_hours_are_one_window():
    assert cells.windows([TEN + HOUR, TEN, TEN + 5 * HOUR]) == [
        (TEN, TEN + 2 * HOUR),
        (TEN + 5 * HOUR, TEN + 6 * HOUR),
    ]


def test_what_was_not_proved_in_ten_days_is_expired():
    later = TEN + timedelta(days=11)
    assert cells.expired(cell(state=State.GAP), later, TIMES).state == State.EXPIRED
    assert cells.expired(cell(state=State.PROVED), later, TIMES).state == State.PROVED
    assert cells.expired(cell(state=State.SURPLUS), later, TIMES).state == State.SURPLUS
    assert cells.expired(cell(state=State.GAP), TEN + timedelta(days=9), TIMES).state == State.GAP


def test_what_is_missing_when_bird_forgets_it_is_said_for_good():
    gap = replace(cell(state=State.GAP), missing=500)
    later = TEN + timedelta(days=11)
    never = replace(cell(hour=TEN + HOUR, state=State.EXPIRED), ours=0)
    forgotten = [cells.expired(gap, later, TIMES), never]
    assert sentence(forgotten, later) == (
        "proved complete until 25 November, 12:00 UTC; 500 events are missing for good in 1 hour; "
        "1 hour can no longer be proved"
    )
    assert sentence([replace(forgotten[0], missing=1)], later).endswith("; 1 event is missing for good in 1 hour")


# --- Proved until T ---


def row(*states):
    return [cell(hour=TEN + number * HOUR, state=state) for number, state in enumerate(states)]


@pytest.mark.parametrize(
    ("states", "hours"),
    [
        pytest.param([], None, id="nothing judged"),
        pytest.param([State.PROVED, State.FILLED, State.ERASED], 3, id="all done"),
        pytest.param([State.PROVED, State.GAP, State.PROVED], 1, id="a gap holds it up"),
        pytest.param([State.PROVED, State.SURPLUS, State.PROVED], 1, id="a surplus is never proved"),
        pytest.param([State.PROVISIONAL], None, id="not settled"),
        pytest.param([State.PROVED, State.UNKNOWN], 1, id="no answer"),
        pytest.param([State.BEFORE, State.UNPROVABLE, State.EXPIRED, State.PROVED], 4, id="what cannot be proved"),
    ],
)
def test_proved_until_is_derived_from_the_cells(states, hours):
    assert proved_until(row(*states), SETTLED) == (None if hours is None else TEN + hours * HOUR)


def test_one_type_holds_up_its_hour():
    assert proved_until([cell(), cell(kind="bounce", state=State.GAP)], SETTLED) is None


def test_a_hole_holds_it_up():
    assert proved_until([cell(), cell(hour=TEN + 2 * HOUR)], SETTLED) == TEN + HOUR


def test_a_surplus_that_bird_has_forgotten_holds_nothing_up():
    cells_of = row(State.SURPLUS, State.PROVED)
    assert proved_until(cells_of, TEN + timedelta(days=10, hours=2)) == TEN + 2 * HOUR


def test_the_one_sentence():
    assert sentence(row(State.PROVED, State.PROVED), SETTLED) == "proved complete until 25 November, 12:00 UTC"
    assert sentence([], SETTLED) == "nothing is proved yet"


def test_the_sentence_names_what_is_not_proved():
    gap = replace(cell(hour=TEN + HOUR, state=State.GAP), missing=1)
    more = replace(cell(hour=TEN + 2 * HOUR, state=State.SURPLUS), strange=3)
    assert sentence([cell(), gap, more], SETTLED) == (
        "proved complete until 25 November, 11:00 UTC; 1 event missing in 1 hour; "
        "3 events that Bird does not have in 1 hour"
    )
