"""How batches arrive and are gathered; what a question of the lake reads."""

from types import SimpleNamespace

from benchmarks import questions, template
from benchmarks.senders import MIDNIGHT, SENDERS, Arrival, arrivals, invocations
from local_aws.yaml_text import yaml_parse

SETTINGS = {"pollers": 1, "window_seconds": 20, "batch_size": 3}


def test_a_day_has_the_events_of_its_sender():
    for sender in SENDERS[:2]:
        batches = arrivals(sender)
        assert abs(sum(one.events for one in batches) / sender.events - 1) < 0.03
        assert {one.events <= 350 and MIDNIGHT < one.second < MIDNIGHT + 86_400 for one in batches} == {True}
        assert batches == sorted(batches)


def test_an_invocation_gets_what_comes_within_its_window():
    batches = [Arrival(second, 1) for second in (0, 5, 19, 21, 40, 41, 100)]
    seconds = [[one.second for one in some] for some in invocations(batches, SETTINGS)]
    assert seconds == [[0, 5, 19], [21, 40], [41], [100]]


def test_each_batch_is_in_one_invocation():
    batches = arrivals(SENDERS[0])
    gathered = invocations(batches, SETTINGS | {"pollers": 5, "batch_size": 100})
    assert sorted(one for some in gathered for one in some) == batches
    assert all(some[-1].second < some[0].second + 20 for some in gathered)


def test_types_that_a_scan_allows():
    assert questions.types_in(["(type = 'bounce')"]) == ["bounce"]
    assert questions.types_in(["optional: (type IN ('open', 'click'))"]) == ["click", "open"]
    assert questions.types_in(["(type IN ('open', 'click')) AND (type = 'open')"]) == ["open"]
    both = "(optional: (type IN ('open', 'click')) AND optional: (type IN ('click', 'bounce')))"
    assert questions.types_in([both]) == ["click"]
    assert questions.types_in(["((type != 'bounce') OR (fbtype = 'x'))"]) is None
    assert questions.types_in(["((type = 'bounce') OR (transactional = 'x'))"]) is None


def test_row_groups_that_a_reader_skips():
    limits = SimpleNamespace(has_min_max=True, min="bounce", max="delivery")
    assert questions.allows(limits, ["click"])
    assert questions.allows(limits, ["delivery", "open"])
    assert not questions.allows(limits, ["injection", "open"])
    assert questions.allows(limits, None)
    assert questions.allows(SimpleNamespace(has_min_max=False), ["open"])


def test_a_cte_is_read_as_often_as_it_is_named():
    sql = "WITH a AS ( SELECT 1 ), b AS ( SELECT 2 ) SELECT * FROM a JOIN b ON x IN (SELECT y FROM c AS d)"
    assert questions.inlined(sql) == sql.replace("a AS (", "a AS NOT MATERIALIZED (").replace(
        "b AS (", "b AS NOT MATERIALIZED ("
    )


def test_the_model_takes_its_window_and_pollers_from_the_template():
    given = yaml_parse(template.TEMPLATE.read_text())
    source = given["Resources"]["ProcessFunction"]["Properties"]["Events"]["RawBatchCreated"]["Properties"]
    source |= {"MaximumBatchingWindowInSeconds": 7, "BatchSize": 9, "ScalingConfig": {"MaximumConcurrency": 3}}
    found = template.settings(given)
    assert (found["window_seconds"], found["batch_size"], found["pollers"]) == (7, 9, 3)
    assert "row_number()" in found["views"]["events_deduplicated"]
    assert "${" not in "".join(found["views"].values())
    del source["ScalingConfig"]
    assert template.settings(given)["pollers"] == 2
