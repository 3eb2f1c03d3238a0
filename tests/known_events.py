"""The events of tests/data/known_events.csv, whose answers the tests know; their days are counted back from today."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

TODAY = datetime.now(UTC).date()
KNOWN = "rcpt_to LIKE '%@known-a.example.com' OR rcpt_to LIKE '4477009%'"


def ago(days: int, time: str = "") -> str:
    return f"{TODAY - timedelta(days=days)} {time}".strip()


def known_events() -> list[dict]:
    """The elements of a batch, as Bird writes them."""
    elements = []
    with (Path(__file__).parent / "data/known_events.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            given = {name: value for name, value in line.items() if value}
            moment = datetime.fromisoformat(f"{ago(int(given.pop('days_ago')), given.pop('time'))}+00:00")
            event_class, times = given.pop("class"), int(given.pop("times"))
            flags = {name: given.pop(name) == "true" for name in ("is_prefetched", "is_proxy") if name in given}
            event = {**given, "timestamp": str(int(moment.timestamp()))}
            if "@" in event["rcpt_to"]:
                event["recipient_domain"] = event["rcpt_to"].partition("@")[2]
            if flags:
                event["user_agent_parsed"] = flags
            for _ in range(times):
                elements.append({"msys": {event_class: {**event, "event_id": f"known-{len(elements)}"}}})
    return elements
