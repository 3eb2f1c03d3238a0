"""What a million events cost: what the end-to-end run asked of each service, times list prices (prices.json).

Not counted for anybody: what is there without traffic (the load balancer's hours, empty receives of the queue,
alarms), storage, logs, and Firehose's own puts, which are few.
"""

import json
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.measure import Measures

PRICES = Path(__file__).with_name("prices.json")
MEMORY_GB = {"Ingest": 256 / 1024, "Process": 1024 / 1024}  # the template's defaults
# A function gets one processor at 1,769 MB and less below it. All of its time is taken for processor time, so this
# is the most it can come to.
SLOWER = {name: 1.769 * 1000 / 1024 / memory for name, memory in MEMORY_GB.items()}
LCU_BYTES, LCU_CONNECTIONS = 0.4e9, 25 * 3600
FIREHOSE_ROUNDING = 5 * 1024
FIREHOSE_RECORD_BYTES = 1_024_000
MESSAGES_A_REQUEST = 10
BYTES_AN_EVENT = 1220
MILLION = 1_000_000


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
            for what, cost in firehose(int(size), prices).items():
                measures.add(name, "USD", what, sum(front.values()) + cost)
    return [measures]


def ours(load: dict[str, Any], prices: dict[str, Any], architecture: str) -> dict[str, float]:
    """US dollars by service for a million events, from one load's counts."""
    price = {name: one["price"] for name, one in prices.items()}
    scale = MILLION / load["events"]
    batches = load["batches"] * scale
    calls, puts = load["calls"], load["puts"]
    lcu_hours = max(MILLION * BYTES_AN_EVENT / LCU_BYTES, batches / LCU_CONNECTIONS)
    # One message is sent for each batch; they are received and deleted up to ten at a time.
    requests = batches + 2 * max(calls["Process"]["count"] * scale, batches / MESSAGES_A_REQUEST)

    def function(name: str) -> float:
        seconds = calls[name]["milliseconds"] / 1000 * scale * SLOWER[name]
        gigabyte_seconds = seconds * MEMORY_GB[name] * price[f"lambda_gb_second_{architecture}"]
        return calls[name]["count"] * scale * price["lambda_request"] + gigabyte_seconds

    return {
        "load balancer": lcu_hours * price["alb_lcu_hour"],
        "ingest": function("Ingest"),
        "S3 puts": (puts["raw"] + puts["lake"]) * scale * price["s3_put"],
        "S3 gets": batches * price["s3_get"],
        "queue": requests * price["sqs_request"],
        "process": function("Process"),
    }


def firehose(size: int, prices: dict[str, Any]) -> dict[str, float]:
    """Firehose with conversion to Parquet, behind the same load balancer and function; it keeps no raw batch."""
    price = prices["firehose_gb"]["price"] + prices["firehose_conversion_gb"]["price"]

    def billed(record_bytes: int) -> int:
        return ceil(record_bytes / FIREHOSE_ROUNDING) * FIREHOSE_ROUNDING

    # Its readers take several JSON objects in a record, one after another, but no array.
    packed = min(size, FIREHOSE_RECORD_BYTES // BYTES_AN_EVENT)
    return {
        "Firehose to Parquet, a record an event": MILLION * billed(BYTES_AN_EVENT) / 2**30 * price,
        "Firehose to Parquet, a record a batch": MILLION / packed * billed(packed * BYTES_AN_EVENT) / 2**30 * price,
    }
