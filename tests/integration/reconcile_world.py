"""A lake and a raw bucket in memory, for what compares them with Bird."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import reconcile.counting
from bird_webhooks.simulator.verify import key_of


class Here:
    """What is in the lake: the second of each event, and the batch that brought it."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str, str, str], datetime] = {}
        self.batches: dict[tuple[str, str, str, str], str] = {}
        self.asked = Counter[str]()

    def take(self, event_class: str, event: dict, batch_id: str = "batch") -> None:
        account, event_class, kind, event_key = key_of(event_class, event)
        key = (account or "", event_class, kind, event_key)
        self.at.setdefault(key, datetime.fromtimestamp(int(float(event["timestamp"])), UTC))
        self.batches.setdefault(key, batch_id)

    def take_raw(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            for element in json.loads(body):
                for event_class, event in element["msys"].items():
                    self.take(event_class, event)

    def minutes(self, since, until, types):
        self.asked["minutes"] += 1
        return Counter(
            (at.replace(second=0), key[2]) for key, at in self.at.items() if since <= at < until and key[2] in types
        )

    def counts_of(self, windows, *, by_webhook=False):
        hours = Counter[tuple[datetime, str]]()
        for since, until in windows:
            for key, at in self.at.items():
                if by_webhook and self.batches[key].startswith(reconcile.counting.BY_HAND):
                    continue
                if since <= at < until:
                    hours[at.replace(minute=0, second=0), key[2]] += 1
        return hours

    def events_of(self, windows, types):
        return [
            reconcile.counting.Here(key[1], key[2], key[3], at, self.batches[key])
            for key, at in self.at.items()
            if key[2] in types and any(since <= at < until for since, until in windows)
        ]

    def keys(self, since, until, types):
        self.asked["keys"] += 1
        return {key for key, at in self.at.items() if since <= at < until and key[2] in types}


class Raw:
    """The raw bucket, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts = 0

    def names(self, prefix):
        return (name for name in self.objects if name.startswith(prefix))

    def read(self, name):
        return self.objects[name]

    def put_once(self, name, body):
        self.puts += 1
        return self.objects.setdefault(name, body) is body
