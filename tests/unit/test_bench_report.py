"""The arithmetic of the benchmark: medians, ratios, the table, costs."""

import json
import threading

import pytest

from benchmarks import costs, monthly
from benchmarks.measure import Measure, Run, goal, table
from benchmarks.senders import Sender

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


def test_a_goal_says_whether_it_is_reached_and_by_how_much():
    assert goal(1.5, 1.2, "speed").split() == ["reached", "1.50", "of", "1.20,", "x", "1.25", "speed"]
    assert goal(0.6, 1.2, "speed").split() == ["NOT", "REACHED", "0.60", "of", "1.20,", "x", "0.50", "speed"]
    assert goal(20, 16, "MB", at_most=True).split() == [
        "NOT",
        "REACHED",
        "20.00",
        "at",
        "most",
        "16.00,",
        "x",
        "0.80",
        "MB",
    ]
    assert goal(16, 16, "MB", at_most=True).startswith("reached")
    assert goal(0, 0, "rows", at_most=True).startswith("reached")
    assert goal(0, 1.2, "speed").split()[:3] == ["NOT", "REACHED", "0.00"]


def test_figures_are_added_in_order_although_several_contenders_work_at_once():
    slow, done = threading.Event(), []

    def measure(contender: str):
        if contender == "first":
            assert slow.wait(5)
        else:
            slow.set()
        return lambda: done.append(contender)

    Run(quick=False).alternate(1, ["first", "second"], measure, "both", at_once=2)
    assert done == ["first", "second"]


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


DAY = {
    "day": {
        "rows": 10_000,
        "batches": 8_000,
        "invocations": 5_000,
        "files": 5_400,
        "body_bytes": 12_000_000,
        "small_bytes": 160_000_000,
        "process_cpu": 50.0,
    },
    "closed": {
        "files": 1,
        "bytes": 900_000,
        "slices": 1,
        "parts": 0,
        "cpu": 40.0,
        "idle_cpu": 0.01,
        "idle_requests": {"get": 2, "put": 2, "glue": 2, "list": 5},
        "sample_pages": 1,
    },
}
SETTINGS = {
    "pollers": 5,
    "alarms": 13,
    "secrets": 2,
    "memory_megabytes": {"ingest": 256, "process": 1024, "maintenance": 3008},
}


def test_requests_of_a_day_with_and_without_closing():
    assert monthly.requests(DAY["day"], DAY["closed"], closing=True) == {
        "puts": 13_400,
        "gets": 8_000,
        "maintenance puts": 48,
        "maintenance gets": 24 + 24 * 15,
        "maintenance lists": 24 * 4 + 24 * 15 * 6,
        "maintenance glue": 49,
        "closing puts": 6,
        "closing gets": 5_401,
    }
    assert monthly.requests(DAY["day"], DAY["closed"], closing=False) == {
        "puts": 13_400,
        "gets": 8_000,
        "maintenance puts": 48,
        "maintenance gets": 24,
        "maintenance lists": 96,
        "maintenance glue": 48,
    }


def test_what_a_month_costs_after_a_year():
    cost = monthly.month(DAY, SETTINGS, PRICES, closing=True)
    days = 730 / 24
    hours = 48 + 384 + 2256 + 49
    maintained = 0.24 + hours * 0.1 + 40 + (5_400 / 16 + 1 + 6) * 0.1
    processed = 50 * 1769 / 1024 + 5_000 * 2 * 0.1 + 5_000 * 0.1 - 500
    assert cost == pytest.approx(
        {
            "load balancer, hours": 730 * 0.0225,
            "alarms, metrics, secrets": 1.3 + 22 * 0.3 + 2 * 0.4,
            "load balancer, bytes": days * 8_000 / 90_000 * 0.008,
            "ingest": days * (8_000 * 0.0000002 + 800 * 256 / 1024 * 0.0000166667),
            "process": days * (5_000 * 0.0000002 + processed * 0.0000166667),
            "maintenance": days * (24 * 0.0000002 + maintained * 3008 / 1024 * 0.0000166667),
            "S3 puts": days * (13_400 + 48 + 6) * 0.000005,
            "S3 gets": days * (8_000 + 384 + 5_401) * 0.0000004,
            "S3 lists": days * 2_256 * 0.000005,
            "Glue": days * 49 * 0.000001,
            "queue": days * (8_000 + 2 * 5_000 + 5 * 4_320) * 0.0000004,
            "RowsTopic": days * 5_400 * 0.0000005,
            "logs": days * 13_024 * 1_500 / 2**30 * 0.5,
            "raw batches, stored": 12_000_000 * 365 / 2**30 * 0.023,
            "rows, stored": (160_000_000 * 16.5 + 900_000 * 365) / 2**30 * 0.023,
        }
    )
    without = monthly.month(DAY, SETTINGS, PRICES, closing=False)
    assert without["rows, stored"] == pytest.approx(160_000_000 * 365 / 2**30 * 0.023)
    assert without["maintenance"] < cost["maintenance"]


def test_what_a_million_events_in_small_batches_pay_for():
    settings = {"window_seconds": 20, "batch_size": 100, "pollers": 5}
    cost = monthly.small_batches(Sender("1.728 million a day", 1_728_000, 1), 20, settings)
    # A batch a second: five in each poller's window, and 10,000 invocations for the 50,000 batches.
    polls = 4_320 / 1.728 * 0.0000004
    assert cost == pytest.approx(
        {
            "put of each batch, before its 200": 0.25,
            "its announcement: S3 asks nothing, the queue a request": 0.02,
            "its receipt and deletion, up to ten at a time": 2 * 10_000 * 0.0000004,
            "put of each small file": 0.05,
            "*saved by the window*: a file for each batch": -0.20,
            "empty receives, each after 20 s": 5 * polls,
            "*would be saved without a maximum concurrency*: two pollers": -3 * polls,
            "*saved by 20 s of long polling*, beside 1 s": -19 * 5 * polls,
            "encryption: S3's and the queue's own keys": 0,
            "encryption: `KmsKeyArn`, requests to KMS": 0.0036,
            "*saved by Bucket Keys*": -0.3564,
            "lifecycle: expiry of batches and of old versions": 0,
        }
    )


def test_the_documented_costs_are_those_of_the_counts():
    counts = json.loads(monthly.COUNTS.read_text())
    assert monthly.tables(counts) in monthly.PAGE.read_text()
    assert monthly.settings(counts["settings"]) in monthly.PAGE.read_text()
    assert monthly.priced(counts) in monthly.PAGE.read_text()
    assert monthly.read(counts) in monthly.READS.read_text()


def test_athena_charges_ten_megabytes_at_least():
    assert costs.athena({"bytes": 1, "gets": 0, "lists": 0}) == pytest.approx(10 / 1024 / 1024 * 5)
    read = {"bytes": 2**40, "gets": 1_000_000, "lists": 1_000_000}
    assert costs.athena(read) == pytest.approx(5 + 0.4 + 5)


def test_the_applications_page_gives_the_costs_of_alarms_and_secrets_that_the_tables_have():
    """As many with HTTP_API, which that page is about, as with the load balancer of the tables."""
    counted = json.loads(monthly.COUNTS.read_text())["settings"]
    cost = counted["alarms"] * PRICES["alarm_month"]["price"] + counted["secrets"] * PRICES["secret_month"]["price"]
    page = (monthly.PAGE.parent / "sar-readme.md").read_text()
    assert f"about ${cost:.2f} a\nmonth for alarms and two secrets" in page
