"""The sample events are what maintain/generate/events.py writes, and hold no real address."""

import re
from pathlib import Path

from maintain.generate.events import invocation_events, rendered

EVENTS = Path(__file__).resolve().parents[2] / "events"


def test_events_are_up_to_date():
    written = {path.name: path.read_text() for path in EVENTS.glob("*.json")}
    assert written == {name: rendered(event) for name, event in invocation_events().items()}


def test_every_address_is_an_example():
    addresses = {
        address for path in EVENTS.rglob("*.json") for address in re.findall(r"[\w.+-]+@[\w.-]+\w", path.read_text())
    }
    assert addresses == {"recipient@example.com", "sender@example.com"}
