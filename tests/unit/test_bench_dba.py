"""What the benchmark of PostgreSQL's views asks for, and what it says about its goals."""

import os
from typing import Any

import pytest

from benchmarks import dba
from benchmarks.measure import Run

ASKED = {
    "suppression_candidates, one address": {"this version": [0.9, 0.6, 1.2]},
    "suppression_candidates, one address, random_page_cost 4": {"this version": [1.0, 1.4]},
    "suppression_candidates, one address with soft bounces": {"this version": [0.4]},
    "suppression_candidates, one address with soft bounces, random_page_cost 4": {"this version": [1.2]},
    "suppression_candidates, all": {"this version": [301.0, 1450.0]},
    dba.BY_CAMPAIGN: {"this version": [4900.0], "the first round's": [2450.0, 2500.0]},
}


def test_each_goal_has_a_line_by_the_best_of_the_rounds():
    assert list(dba.goals(ASKED, 0)) == [
        "reached          0.60 at most 1.00, x 1.67  ms, suppression_candidates, one address; median 0.90",
        "reached          1.00 at most 1.00, x 1.00  ms, suppression_candidates, one address, random_page_cost 4; "
        "median 1.40",
        "reached          0.40 at most 1.00, x 2.50  ms, suppression_candidates, one address with soft bounces; "
        "median 0.40",
        "NOT REACHED      1.20 at most 1.00, x 0.83  ms, suppression_candidates, one address with soft bounces, "
        "random_page_cost 4; median 1.20",
        "NOT REACHED    301.00 at most 300.00, x 1.00  ms, suppression_candidates, all; median 1,450.00",
        "reached          0.00 at most 0.00, x inf  rows of the table read for figures of one campaign",
        "NOT REACHED      2.00 at most 1.00, x 0.50  times what by_campaign replaced, in processor time",
    ]


@pytest.mark.parametrize(("fetches", "said"), [(None, "inf"), (3, "3.00")])
def test_figures_that_read_the_table_do_not_reach_their_goal(fetches, said):
    [line] = [one for one in dba.goals(ASKED, fetches) if "rows of the table read" in one]
    assert line.split()[:3] == ["NOT", "REACHED", said]


PLANS = [
    pytest.param(["->  Index Only Scan using a on b (rows=1)", "      Heap Fetches: 0"], 0, id="index alone"),
    pytest.param(
        ["Index Only Scan using a on b", "Heap Fetches: 2", "Index Only Scan", "Heap Fetches: 5"], 7, id="changed"
    ),
    pytest.param(["Index Scan using a on b"], None, id="table"),
    pytest.param(["Bitmap Heap Scan on b", "  ->  Bitmap Index Scan on a"], None, id="bitmap"),
    pytest.param(["Seq Scan on b"], None, id="no index"),
]


@pytest.mark.parametrize(("plan", "expected"), PLANS)
def test_a_plan_says_whether_it_reads_the_table(plan, expected):
    assert dba.heap_fetches(plan) == expected


def test_one_address_is_asked_prepared_and_not_and_at_both_page_costs_beside_the_first_round():
    found = [
        one
        for one in dba.questions({"address": "a@example.com", "soft": "s", "campaign": "c"})
        if one.name.startswith(dba.HARD)
    ]
    of_hard = [one for one in found if not one.name.startswith(dba.SOFT)]
    assert [(one.name.removeprefix(dba.HARD), one.contender, one.page_cost, one.prepared) for one in of_hard] == [
        ("", "this version", "1.1", True),
        (", random_page_cost 4", "this version", "4", True),
        (", planned each time", "this version", "1.1", False),
        ("", "the first round's", "1.1", True),
        (", random_page_cost 4", "the first round's", "4", True),
        (", planned each time", "the first round's", "1.1", False),
    ]
    assert of_hard[0].sql == "SELECT * FROM bird.suppression_candidates WHERE rcpt_to = 'a@example.com'"
    # Else the second would be given the first one's plan.
    assert len({one.sql for one in of_hard if one.prepared}) == 4


SIZES = [
    pytest.param(True, {"days": 35, "messages": 200, "rounds": 1}, id="quick"),
    pytest.param(False, {"days": 148, "messages": 16000, "rounds": 5}, id="whole"),
]


@pytest.mark.parametrize(("quick", "size"), SIZES)
def test_a_quick_run_makes_few_rows_and_has_all_its_figures(monkeypatch, tmp_path, quick, size):
    asked: list[dict[str, Any]] = []

    def child(module: str, arguments: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        asked.append(arguments)
        return {"rows": 17654, "milliseconds": ASKED, "heap_fetches": 0, "making_seconds": 7, "asking_seconds": 4}

    monkeypatch.setattr(dba, "child", child)
    monkeypatch.setattr(dba, "WORK", tmp_path)  # .local/bench is not there before the first benchmark
    run = Run(quick)
    [measures] = dba.measure(run)
    assert [{name: value for name, value in one.items() if name != "keep_in"} for one in asked] == [size]
    assert set(measures) == set(ASKED)
    assert measures["suppression_candidates, one address"].result()["contenders"]["this version"]["median"] == 0.9
    assert [line.startswith("reached") for line in run.goals].count(True) == 4


def test_data_of_another_date_or_size_or_of_a_run_that_was_cut_off_is_removed(tmp_path):
    first = dba.kept_data(tmp_path, 35, 200)
    first.mkdir()
    (first / dba.MADE).touch()
    assert dba.kept_data(tmp_path, 35, 200) == first
    assert first.exists()
    other = dba.kept_data(tmp_path, 148, 16000)
    assert (other != first, first.exists()) == (True, False)
    other.mkdir()
    assert dba.kept_data(tmp_path, 148, 16000) == other
    assert not other.exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o755, True), (0o700, False)])
def test_the_servers_account_has_to_reach_its_data(tmp_path, monkeypatch, mode, expected):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tmp_path.chmod(mode)
    assert dba.reachable(tmp_path) is expected
