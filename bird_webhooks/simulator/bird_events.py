"""What a stand-in for Bird has recorded, as its Events API and Metrics API tell it; and how these misbehave.

Written from https://docs.bird.com/api/email-api/events and /metrics, and from what clients have seen. The events are
those of a ledger of the simulator: Bird records an event whether or not its batch arrives.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

from bird_webhooks.simulator.batches import Batch
from bird_webhooks.simulator.ledger import ACCEPTED

Json = dict[str, Any]

MAX_PER_PAGE, USUAL_PER_PAGE = 10_000, 1000
OF_INGEST = ("ingest_event",)
NEVER_SEARCHED = ("relay_event", "ab_test_event")
PRECISIONS = {"1min": 60, "5min": 300, "15min": 900, "hour": 3600, "12hr": 43_200, "day": 86_400}
METRICS = {
    "count_injected": ("injection",),
    "count_delivered": ("delivery",),
    "count_delayed": ("delay",),
    "count_inband_bounce": ("bounce",),
    "count_outofband_bounce": ("out_of_band",),
    "count_policy_rejection": ("policy_rejection",),
    "count_generation_failed": ("generation_failure",),
    "count_generation_rejection": ("generation_rejection",),
    "count_spam_complaint": ("spam_complaint",),
    "count_rendered": ("open",),
    "count_initial_rendered": ("initial_open",),
    "count_clicked": ("click",),
    "count_unsubscribe": ("list_unsubscribe", "link_unsubscribe"),
}


class WrongParameterError(Exception):
    """A parameter that Bird refuses."""


class Recorded(NamedTuple):
    """`milliseconds` of Unix time; `event` as in the webhook."""

    milliseconds: int
    event_id: str
    event_class: str
    event: Json


@dataclass
class Misbehaviour:
    """What was seen of Bird, or must be expected. All off; integers for ids and text for postal codes are usual."""

    integer_ids: bool = True
    text_zip: bool = True
    zone: str = "Z"  # or +00:00, +05:30
    milliseconds: int = 0  # of every event
    late: timedelta = timedelta(0)  # an event is found only so long after it happened
    hidden: set[str] = field(default_factory=set)  # ids that are not found
    retention: timedelta = timedelta(days=10)
    empty_index: bool = False  # nothing is found, and no error says so
    empty_page_with_next: bool = False  # after the first page
    repeated_next: bool = False  # the second page leads to itself
    next_host: str | None = None  # such as https://elsewhere.example.com
    total_off_by: int = 0
    every_type: bool = False  # the filter by type is ignored
    every_time: bool = False  # the filter by time is ignored
    account: int | str | None = None  # of every event
    without: tuple[str, ...] = ()  # fields that no event has
    cut_after_bytes: int | None = None  # the connection ends there


@dataclass
class Batches:
    """The deliveries of a ledger, as `batch-status` shows them."""

    made_at: str
    failed: int = 0
    answer: str = ""
    outcome: str | None = None


class Recording:
    """All events of an account. With a ledger's file it goes on with what is written there meanwhile."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.batches: dict[str, Batches] = {}
        self.misbehaviour = Misbehaviour()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._ledgers: dict[Path, int] = {}

    def follow(self, ledger: Path) -> None:
        """Record all events of this ledger, those that it gets later too."""
        self._ledgers.setdefault(ledger, 0)

    def record(self, batch: Batch) -> None:
        for element in json.loads(batch.body):
            [(event_class, event)] = element["msys"].items()
            self.add(event_class, event)

    def add(self, event_class: str, event: Json) -> None:
        moment = _moment_of_webhook(event["timestamp"])
        self.events.append(Recorded(int(moment * 1000), str(event.get("event_id", "")), event_class, event))

    def search(self, kind: str, query: Mapping[str, str], path: str) -> Json:
        """The answer of /events/message or /events/ingest. Errors: WrongParameterError."""
        self._read_ledgers()
        wrong, now = self.misbehaviour, self.now()
        since = _given_time(query.get("from"), now - timedelta(days=1))
        until = _given_time(query.get("to"), now - timedelta(minutes=1))
        per_page = _number(query.get("per_page", str(USUAL_PER_PAGE)), "per_page", 1, MAX_PER_PAGE)
        found = [] if wrong.empty_index else self._found(kind, query, since, until)
        rest = found
        if (cursor := query.get("cursor", "initial")) != "initial":
            after = _uncoded(cursor)
            rest = [one for one in found if (one.milliseconds, one.event_id) < after]
            if wrong.empty_page_with_next:
                rest = []
        page = rest[:per_page]
        links: Json = {}
        if len(rest) > per_page or (wrong.empty_page_with_next and found):
            last = page[-1] if page else found[-1]
            follows = cursor if wrong.repeated_next and cursor != "initial" else _coded(last)
            asked = "&".join(f"{name}={value}" for name, value in query.items() if name != "cursor")
            links["next"] = f"{wrong.next_host or ''}{path}?{asked}&cursor={follows}"
        results = [self._as_told(one) for one in page]
        return {"results": results, "total_count": len(found) + wrong.total_off_by, "links": links}

    def time_series(self, query: Mapping[str, str]) -> Json:
        """The answer of /metrics/deliverability/time-series. Errors: WrongParameterError."""
        self._read_ledgers()
        if not query.get("metrics") or not query.get("from") or query.get("precision") not in PRECISIONS:
            raise WrongParameterError("from, metrics and precision are required")
        seconds = PRECISIONS[query["precision"]]
        since, until = _given_time(query["from"], self.now()), _given_time(query.get("to"), self.now())
        counts: Counter[tuple[int, str]] = Counter()
        for one in self.events:
            counts[one.milliseconds // 1000 // seconds, one.event["type"]] += 1
        first, last = (floor(moment.timestamp()) // seconds for moment in (since, until))
        rows = []
        for period in range(first, last + 1):
            row: Json = {
                name: sum(counts[period, kind] for kind in METRICS[name]) for name in query["metrics"].split(",")
            }
            rows.append({**row, "ts": datetime.fromtimestamp(period * seconds, UTC).isoformat()})
        return {"results": rows}

    def batch_statuses(self) -> list[Json]:
        """Batches that failed at least once."""
        self._read_ledgers()
        return [_status(batch_id, batch) for batch_id, batch in self.batches.items() if batch.failed]

    def _found(self, kind: str, query: Mapping[str, str], since: datetime, until: datetime) -> list[Recorded]:
        wrong, now = self.misbehaviour, self.now()
        types = _listed(query, "events")
        subaccounts = _listed(query, "subaccounts")
        ids = _listed(query, "event_ids")
        oldest, newest = (now - wrong.retention).timestamp(), (now - wrong.late).timestamp()
        begin, end = since.timestamp(), until.timestamp()
        found = []
        for one in self.events:
            seconds = (one.milliseconds + wrong.milliseconds) / 1000
            searched = one.event_class in OF_INGEST if kind == "ingest" else one.event_class not in OF_INGEST
            if (
                (searched and one.event_class not in NEVER_SEARCHED)
                and (wrong.every_type or not types or one.event["type"] in types)
                and (wrong.every_time or begin <= seconds < end)
                and oldest <= seconds <= newest
                and one.event_id not in wrong.hidden
                and (not ids or one.event_id in ids)
                and (not subaccounts or str(one.event.get("subaccount_id") or 0) in subaccounts)
            ):
                found.append(one)
        return sorted(found, key=lambda one: (one.milliseconds, one.event_id), reverse=True)

    def _as_told(self, one: Recorded) -> Json:
        wrong = self.misbehaviour
        event = dict(one.event)
        milliseconds = one.milliseconds + wrong.milliseconds
        event["timestamp"] = _in_zone(milliseconds, wrong.zone)
        if wrong.account is not None:
            event["customer_id"] = wrong.account
        for name in ("customer_id", "subaccount_id") if wrong.integer_ids else ():
            if str(event.get(name, "")).isdecimal():
                event[name] = int(event[name])
        if wrong.text_zip and isinstance(event.get("geo_ip"), dict) and "zip" in event["geo_ip"]:
            event["geo_ip"] = {**event["geo_ip"], "zip": str(event["geo_ip"]["zip"])}
        if "friendly_from" in event and event["type"] != "sms_status":
            event["sending_domain"] = str(event["friendly_from"]).rpartition("@")[2]
        return {name: value for name, value in event.items() if name not in wrong.without}

    def _read_ledgers(self) -> None:
        for path, position in self._ledgers.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(position)
                for line in file:
                    if not line.endswith(b"\n"):  # being written
                        break
                    position += len(line)
                    self._learn(json.loads(line))
            self._ledgers[path] = position

    def _learn(self, line: Json) -> None:
        known = self.batches.setdefault(line["batch_id"], Batches(line.get("at", "")))
        if "body" in line:
            self.record(Batch(line["batch_id"], line["body"].encode(errors="surrogateescape"), line["events"]))
        elif "failed" in line:
            known.failed, known.answer = line["failed"], line["answer"]
        else:
            known.outcome = line["outcome"]


def _status(batch_id: str, batch: Batches) -> Json:
    """As in the vendor's sample: codes are text."""
    answer = batch.answer if batch.answer.isdecimal() else ""
    codes = {"failure_code": answer or batch.answer, **({"response_code": answer} if answer else {})}
    if batch.outcome == ACCEPTED:
        codes = {"response_code": "200"}
    return {"batch_id": batch_id, "ts": batch.made_at, "attempts": batch.failed, **codes, "latency": 160}


def _moment_of_webhook(timestamp: str | float) -> float:
    if isinstance(timestamp, str) and "T" in timestamp:
        return datetime.fromisoformat(timestamp).timestamp()
    return float(timestamp)


def _in_zone(milliseconds: int, zone: str) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    if zone == "Z":
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    there = datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").tzinfo
    return moment.astimezone(there).isoformat(timespec="milliseconds")


def _given_time(text: str | None, usual: datetime) -> datetime:
    try:
        found = usual if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise WrongParameterError("Invalid date for 'from' or 'to'") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(text: str, name: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise WrongParameterError(f"Invalid value for '{name}'")
    return int(text)


def _listed(query: Mapping[str, str], name: str) -> set[str]:
    return set(_parts(query.get(name, ""), query.get("delimiter", ",")))


def _parts(text: str, delimiter: str) -> Iterator[str]:
    yield from filter(None, text.split(delimiter))


def _coded(one: Recorded) -> str:
    return base64.b64encode(f"{one.milliseconds},{one.event_id}".encode()).decode()


def _uncoded(cursor: str) -> tuple[int, str]:
    try:
        milliseconds, _, event_id = base64.b64decode(cursor, validate=True).decode().partition(",")
        return int(milliseconds), event_id
    except ValueError:
        raise WrongParameterError("Invalid value for 'cursor'") from None
