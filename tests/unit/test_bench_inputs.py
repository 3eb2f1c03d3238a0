"""What the benchmark feeds everybody: the same bytes every time, of the size and the mix that it claims."""

import json
from collections import Counter

import pytest

from benchmarks.events import SHARES, UNKNOWN, Input, batches
from process.normalise import StoredBatch
from process.rows import Rows

KNOWN_TYPES = 27


def elements(wanted: Input) -> list[list[dict]]:
    return [json.loads(body) for body in batches(wanted)]


def test_same_arguments_give_the_same_bytes():
    assert list(batches(Input(batches=3, events=20))) == list(batches(Input(batches=3, events=20)))
    assert list(batches(Input(batches=3, events=20))) != list(batches(Input(batches=3, events=20, seed=2)))


def test_events_are_of_the_size_and_the_mix_that_is_claimed():
    wanted = Input(batches=10, events=350)
    sizes = [len(body) / wanted.events for body in batches(wanted)]
    assert min(sizes) > 1000
    assert max(sizes) < 1500
    counts = Counter(event["type"] for batch in elements(wanted) for [event] in map(in_it, batch))
    assert len(counts) == KNOWN_TYPES
    shares = {name: counts[name] / counts.total() for name in SHARES}
    assert shares == pytest.approx(SHARES, abs=0.02)


def test_no_event_comes_twice_nor_in_a_copied_batch():
    ids = [
        event["event_id"]
        for batch in elements(Input(batches=102, events=10))
        for [event] in map(in_it, batch)
        if "event_id" in event
    ]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.05, 2), (0.5, 20), (1, 40)])
def test_share_of_batches_with_unknown_fields(share, expected):
    having = [
        any(UNKNOWN.keys() & event.keys() for [event] in map(in_it, batch))
        for batch in elements(Input(batches=40, events=30, unknown=share))
    ]
    assert sum(having) == expected


def test_all_of_it_becomes_rows():
    rows = Rows()
    wanted = Input(batches=4, events=350, unknown=0.5)
    for number, body in enumerate(batches(wanted)):
        rows.add(StoredBatch(f"batch-{number}", "raw/x.json", wanted.arrival(number) * 1000, body))
    assert (rows.counts.events, rows.counts.rows, rows.counts.quarantined) == (1400, 1400, 0)
    rows.make_columns()
    assert set(rows.counts.extra_fields) == set(UNKNOWN)


def in_it(element: dict) -> list[dict]:
    return list(element["msys"].values())
