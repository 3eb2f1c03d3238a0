"""Files a day, freshness and price by the batching window and the number of pollers: `python -m benchmarks.windows`.

A model, because AWS shows neither its pollers nor when their windows close. Lambda begins with five pollers. At little
traffic it reduces them to two, but only without a maximum concurrency (Lambda guide, "Configuring scaling behavior for
SQS event source mappings"). process has one, so five are assumed. Prints the table of docs/performance.md.
"""

import json
from math import ceil
from pathlib import Path
from typing import NamedTuple

from benchmarks.senders import SENDERS, Arrival, Sender, arrivals, invocations

MESSAGES = 100  # an invocation takes at most
JSON_BYTES_AN_EVENT = 1_305
JSON_BYTES_A_FILE = 16 * 2**20
WINDOWS, POLLERS = (0, 1, 5, 20, 60, 120, 300), (5, 2)
DAYS = 30
# What an invocation takes apart from its events, at 1 GB: mostly the answers of S3. Not measured on AWS.
INVOCATION_GB_SECONDS = 0.15
# What closing takes for a small file (docs/lake.md), at 3,008 MB with all processors at work.
CLOSING_GB_SECONDS = 0.007 * 3_008 / 1_024
PRICES = json.loads(Path(__file__).with_name("prices.json").read_text())["prices"]


class Setting(NamedTuple):
    window: int  # seconds
    pollers: int


TEMPLATE = Setting(window=20, pollers=5)


class Result(NamedTuple):
    invocations: int
    files: int
    waits: list[tuple[float, int]]  # seconds from a batch in S3 to its invocation, and its events; in order
    dollars_a_month: float

    def wait_of(self, share: float) -> float:
        """Seconds within which that share of the events is handed to process."""
        left = share * sum(events for _, events in self.waits)
        for seconds, events in self.waits:
            left -= events
            if left <= 0:
                return seconds
        return self.waits[-1][0]


def gathered(batches: list[Arrival], setting: Setting) -> Result:
    settings = {"pollers": setting.pollers, "window_seconds": setting.window, "batch_size": MESSAGES}
    found = invocations(batches, settings)
    files, waits, queue = 0, [], 0
    for invocation in found:
        files += ceil(sum(batch.events for batch in invocation) * JSON_BYTES_AN_EVENT / JSON_BYTES_A_FILE)
        full = len(invocation) == MESSAGES
        end = invocation[-1].second if full else invocation[0].second + setting.window
        waits += [(end - batch.second, batch.events) for batch in invocation]
        queue += 2 * ceil(len(invocation) / 10)  # to receive, and to delete
    return Result(len(found), files, sorted(waits), DAYS * dollars(len(found), files, queue))


def dollars(invocations: int, files: int, queue_requests: int) -> float:
    """What depends on the window: invocations, requests to the queue, files written, and read by the closing."""
    price = {name: one["price"] for name, one in PRICES.items()}
    second = price["lambda_gb_second_x86_64"]
    return (
        invocations * (price["lambda_request"] + INVOCATION_GB_SECONDS * second)
        + queue_requests * price["sqs_request"]
        + files * (price["s3_put"] + price["s3_get"] + CLOSING_GB_SECONDS * second)
    )


def lines(senders: list[Sender]) -> list[str]:
    days = {sender: arrivals(sender) for sender in senders}
    head = ["Window, pollers", *(f"{sender.name}: files; wait, half / 95 %; $ a month" for sender in senders)]
    rows = [head, ["---"] * len(head)]
    for setting in (Setting(window, pollers) for pollers in POLLERS for window in WINDOWS):
        cells = []
        for batches in days.values():
            found = gathered(batches, setting)
            waits = " / ".join(f"{found.wait_of(share):.0f}" for share in (0.5, 0.95))
            cells.append(f"{found.files:,}; {waits} s; {found.dollars_a_month:.2f}")
        name = f"{setting.window} s, {setting.pollers}"
        rows.append([f"**{name}**" if setting == TEMPLATE else name, *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    print("\n".join(lines(SENDERS)))
