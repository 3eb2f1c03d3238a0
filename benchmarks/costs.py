"""What a million events cost: the end-to-end run's requests to each service, times list prices (prices.json).

Not counted for any contender: costs without traffic (the load balancer's hours, the queue's empty receives, alarms),
storage, logs, and Firehose's own puts, which are few.
"""

import json
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.measure import Measures

PRICES = Path(__file__).with_name("prices.json")
# A function gets one processor at this size, and less below it. All its time counts as processor time, so this is an
# upper bound.
MEGABYTES_OF_ONE_PROCESSOR = 1769
LCU_BYTES, LCU_CONNECTIONS = 0.4e9, 25 * 3600
FIREHOSE_ROUNDING = 5 * 1024
MESSAGES_A_REQUEST = 10
MILLION = 1_000_000
ATHENA_LEAST_BYTES = 10 * 2**20


def athena(read: Mapping[str, float]) -> float:
    """US dollars for one query that reads so many bytes with so many gets and lists."""
    price = {name: one["price"] for name, one in json.loads(PRICES.read_text())["prices"].items()}
    scanned = max(read["bytes"], ATHENA_LEAST_BYTES) / 2**40 * price["athena_tb"]
    return float(scanned + read["gets"] * price["s3_get"] + read["lists"] * price["s3_list"])


def measure(end_to_end: dict[str, Any]) -> list[Measures]:
    prices = json.loads(PRICES.read_text())["prices"]
    measures = Measures("cost")
    for size, load in end_to_end["gathered"].items():
        for architecture in ("x86_64", "arm64"):
            items = ours(load, prices, architecture)
            front = {name: items[name] for name in ("load balancer", "ingest")}
            name = f"a million events, {size} a batch, {architecture}"
            note = "ours: " + ", ".join(f"{item} {cost:.4f}" for item, cost in items.items())
            measures.add(name, "USD", "ours", sum(items.values()), note=note)
            for what, cost in firehose(load, prices).items():
                measures.add(name, "USD", what, sum(front.values()) + cost)
    return [measures]


def cheapest(measures: Measures) -> str:
    """Which of the contenders costs least at each size of a batch."""
    lines = ["## cost: the cheapest", ""]
    for name, measure in measures.items():
        costs = {contender: values[0] for contender, values in measure.samples.items()}
        least = min(costs, key=costs.__getitem__)
        lines.append(f"{name}: {least}, {costs[least]:.2f} USD; ours {costs['ours']:.2f}")
    return "\n".join(lines)


def ours(load: dict[str, Any], prices: dict[str, Any], architecture: str) -> dict[str, float]:
    """US dollars by service for a million events, from the counts of one load."""
    price = {name: one["price"] for name, one in prices.items()}
    scale = MILLION / load["events"]
    batches = load["batches"] * scale
    calls, puts = load["calls"], load["puts"]
    lcu_hours = max(load["bytes"] * scale / LCU_BYTES, batches / LCU_CONNECTIONS)
    # Each batch sends one message; messages are received and deleted up to ten at a time.
    requests = batches + 2 * max(calls["Process"]["count"] * scale, batches / MESSAGES_A_REQUEST)

    def function(name: str) -> float:
        megabytes = calls[name]["memory_megabytes"]
        slower = max(1, MEGABYTES_OF_ONE_PROCESSOR / megabytes)
        gigabyte_seconds = calls[name]["milliseconds"] / 1000 * scale * slower * megabytes / 1024
        requests = calls[name]["count"] * scale
        return requests * price["lambda_request"] + gigabyte_seconds * price[f"lambda_gb_second_{architecture}"]

    return {
        "load balancer": lcu_hours * price["alb_lcu_hour"],
        "ingest": function("Ingest"),
        "S3 puts": (puts["raw"] + puts["lake"]) * scale * price["s3_put"],
        "S3 gets": batches * price["s3_get"],
        "queue": requests * price["sqs_request"],
        "process": function("Process"),
    }


def firehose(load: dict[str, Any], prices: dict[str, Any]) -> dict[str, float]:
    """Firehose with conversion to Parquet, behind the same load balancer and function; it keeps no raw batch."""
    price = prices["firehose_gb"]["price"] + prices["firehose_conversion_gb"]["price"]

    def records(count: float, record_bytes: float) -> float:
        return count * ceil(record_bytes / FIREHOSE_ROUNDING) * FIREHOSE_ROUNDING / 2**30 * price

    # Its readers accept several JSON objects in a record, but not an array. A batch fits into a record.
    batches = load["batches"] * MILLION / load["events"]
    return {
        "Firehose to Parquet, a record an event": records(MILLION, load["bytes"] / load["events"]),
        "Firehose to Parquet, a record a batch": records(batches, load["bytes"] / load["batches"]),
    }
