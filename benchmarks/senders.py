"""How batches of three senders arrive, and how Lambda gathers them into invocations of process: a model.

Bird's servers each post what they have every few seconds, or as soon as they have BATCH_EVENTS. A message goes to one
of the pollers; a poller's window opens with its first message, and closes after the template's window, or when it has
the template's number of messages.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.events import FIRST_SECOND
from bird_webhooks.simulator.sender_mix import HOURS

SERVERS = 3
POST_SECONDS = 7, 13
BATCH_EVENTS = 350
HOUR, DAY = 3600, 86_400
MIDNIGHT = FIRST_SECOND + DAY
# Events are up to a minute older than their batch; those of the day before are left out.
FIRST_MOMENT = 60
_STEPS = 1000


class Sender(NamedTuple):
    name: str
    events: int  # a day
    sample: int  # one in so many invocations is made


SENDERS = [
    Sender("10 thousand a day", 10_000, 1),
    Sender("1 million a day", 1_000_000, 20),
    Sender("100 million a day", 100_000_000, 1_000),
]


class Arrival(NamedTuple):
    second: float  # Unix
    events: int


def arrivals(sender: Sender, seed: int = 1) -> list[Arrival]:
    """The batches of one day, in order."""
    chance = random.Random(f"{sender.events} {seed}")  # noqa: S311
    found = []
    for _ in range(SERVERS):
        moment = FIRST_MOMENT + chance.uniform(0, POST_SECONDS[1])
        while moment < DAY:
            rate = sender.events * HOURS[int(moment) // HOUR] / sum(HOURS) / HOUR / SERVERS
            pause = chance.uniform(*POST_SECONDS)
            if rate * pause >= BATCH_EVENTS:
                pause, events = BATCH_EVENTS / rate, BATCH_EVENTS
            else:
                events = chance.binomialvariate(_STEPS, rate * pause / _STEPS)
            moment += pause
            if events and moment < DAY:
                found.append(Arrival(MIDNIGHT + moment, events))
    return sorted(found)


def invocations(batches: Sequence[Arrival], settings: dict[str, Any], seed: int = 1) -> list[list[Arrival]]:
    """Which batches each invocation of process gets, in the order in which the invocations begin."""
    chance = random.Random(f"pollers {seed}")  # noqa: S311
    gathered: list[list[Arrival]] = [[] for _ in range(settings["pollers"])]
    found = []
    for batch in batches:
        for window in gathered:
            if window and batch.second >= window[0].second + settings["window_seconds"]:
                found.append([*window])
                window.clear()
        window = chance.choice(gathered)
        window.append(batch)
        if len(window) == settings["batch_size"]:
            found.append([*window])
            window.clear()
    return found + [window for window in gathered if window]
