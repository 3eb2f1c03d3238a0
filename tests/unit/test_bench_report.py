"""The arithmetic of the benchmark: medians, ratios, the table, costs."""

import json

import pytest

from benchmarks import costs
from benchmarks.measure import Measure, table

PRICES = json.loads(costs.PRICES.read_text())["prices"]


def test_ratio_says_how_many_times_better_ours_is():
    time = Measure("ingest", "time", "ms")
    rate = Measure("process", "rate", "events", higher_is_better=True)
    for contender, values in {"ours": [3, 1, 2], "other": [8, 8, 8]}.items():
        for value in values:
            time.add(contender, value)
            rate.add(contender, value)
    assert time.result()["contenders"]["ours"] == {
        "median": 2,
        "min": 1,
        "max": 3,
        "rounds": 3,
        "ours_is_better_by": 1,
    }
    assert time.result()["contenders"]["other"]["ours_is_better_by"] == 4
    assert rate.result()["contenders"]["other"]["ours_is_better_by"] == 0.25
    lines = table([time.result(), rate.result()]).splitlines()
    assert [line.split() for line in lines if line.startswith("  other")] == [
        ["other", "8.00", "8.00", "..", "8.00", "x", "4.00"],
        ["other", "8.00", "8.00", "..", "8.00", "x", "0.25", "ours", "is", "worse"],
    ]


LOAD = {
    "events": 1_000_000,
    "batches": 1000,
    "bytes": 1_220_000_000,
    "puts": {"raw": 1000, "lake": 10},
    "calls": {
        "Ingest": {"count": 1000, "milliseconds": 1024, "memory_megabytes": 256},
        "Process": {"count": 10, "milliseconds": 0, "memory_megabytes": 2048},
    },
}


def test_cost_of_a_million_events_in_a_thousand_batches():
    cost = costs.ours(LOAD, PRICES, "x86_64")
    assert cost == pytest.approx(
        {
            "load balancer": 3.05 * 0.008,
            "ingest": 0.0002 + 1.769 * 0.0000166667,
            "S3 puts": 1010 * 0.000005,
            "S3 gets": 0.0004,
            "queue": 1200 * 0.0000004,
            "process": 0.000002,
        }
    )


def test_firehose_rounds_each_record_up():
    cost = costs.firehose(LOAD, PRICES)
    assert cost["Firehose to Parquet, a record an event"] == pytest.approx(5120e6 / 2**30 * 0.047)
    assert cost["Firehose to Parquet, a record a batch"] == pytest.approx(1000 * 239 * 5120 / 2**30 * 0.047)


def test_every_price_says_where_it_is_from():
    assert [name for name, one in PRICES.items() if not (one["source"] and one["read"] and "verified" in one)] == []
