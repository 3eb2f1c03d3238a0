"""What an import costs and how long it takes, before it begins. Pure. Prices of us-east-1, November 2026."""

from typing import NamedTuple

PUT, GET, LIST = 0.005 / 1000, 0.0004 / 1000, 0.005 / 1000
MESSAGE = 0.4 / 1_000_000
REQUESTS_PER_BATCH = 3  # begin, one part, complete
REQUESTS_PER_MESSAGE = 6  # sent, received, deleted; files of rows; the ledger
GB_SECOND = 0.0000166667
GB_MONTH = 0.023
# Rows that process makes a second with 1 GB (computed); batches a second over eight connections at 40 ms a request
# (41 by `make bench ONLY=import`).
EVENTS_PER_SECOND = 20_000
BATCHES_PER_SECOND = 40


class Estimate(NamedTuple):
    batches: int
    messages: int
    megabytes: float
    requests: int
    dollars: float
    dollars_a_month: float
    hours: float


def of(batches: int, messages: int, events: int, body_bytes: int, objects: int) -> Estimate:
    writes, reads, lists = batches * REQUESTS_PER_BATCH + messages, objects + batches, objects // 1000 + 1
    seconds = events / EVENTS_PER_SECOND
    return Estimate(
        batches,
        messages,
        round(body_bytes / 1e6, 1),
        writes + reads + lists + messages * REQUESTS_PER_MESSAGE,
        round(
            writes * PUT + reads * GET + lists * LIST + messages * REQUESTS_PER_MESSAGE * MESSAGE + seconds * GB_SECOND,
            4,
        ),
        round(body_bytes / 1e9 * GB_MONTH, 4),
        round(max(batches / BATCHES_PER_SECOND, seconds / 2) / 3600, 2),
    )


def lines(found: Estimate) -> list[str]:
    money = f"${found.dollars:,.2f} once and ${found.dollars_a_month:,.2f} a month"
    return [
        f"{found.batches:,} raw batches, {found.megabytes:,} MB, handed over in {found.messages:,} messages",
        f"about {found.requests:,} requests, {money}, {found.hours:,.1f} hours: computed, not measured on AWS",
    ]
