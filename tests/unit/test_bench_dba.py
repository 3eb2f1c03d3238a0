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
    "suppression_candidates, one address with soft bounces, random_page_cost 4": {"this version": [0.999]},
    "suppression_candidates, all": {"this version": [301.0, 1450.0]},
    dba.BY_CAMPAIGN: {"this version": [4900.0], "the first round's": [2450.0, 2500.0]},
}


def test_each_goal_has_a_line_by_the_best_of_the_rounds():
    assert list(dba.goals(ASKED, 0)) == [
        "suppression_candidates, one address: 0.60 ms at best, 0.90 in the middle, goal 1 ms: met",
        "suppression_candidates, one address, random_page_cost 4: 1.00 ms at best, 1.40 in the middle, "
        "goal 1 ms: NOT met",
        "suppression_candidates, one address with soft bounces: 0.40 ms at best, 0.40 in the middle, goal 1 ms: met",
        "suppression_candidates, one address with soft bounces, random_page_cost 4: 1.00 ms at best, 1.00 in the "
        "middle, goal 1 ms: met",
        "suppression_candidates, all: 301.00 ms at best, 1,450.00 in the middle, goal 300 ms: NOT met",
        "figures of one campaign: from the index alone: met",
        "by_campaign: 4,900 ms, 2.0 times what it replaced",
    ]


@pytest.mark.parametrize("fetches", [None, 3])
def test_figures_that_read_the_table_do_not_meet_their_goal(fetches):
    assert "figures of one campaign: from the index alone: NOT met" in list(dba.goals(ASKED, fetches))


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
def test_a_quick_run_makes_few_rows_and_has_all_its_figures(monkeypatch, quick, size):
    asked: list[dict[str, Any]] = []

    def child(module: str, arguments: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        asked.append(arguments)
        return {"rows": 17654, "milliseconds": ASKED, "heap_fetches": 0, "making_seconds": 7, "asking_seconds": 4}

    monkeypatch.setattr(dba, "child", child)
    run = Run(quick)
    [measures] = dba.measure(run)
    assert [{name: value for name, value in one.items() if name != "keep_in"} for one in asked] == [size]
    assert set(measures) == set(ASKED)
    assert measures["suppression_candidates, one address"].result()["contenders"]["this version"]["median"] == 0.9
    assert [table.count(": met") for table in run.tables] == [4]


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
