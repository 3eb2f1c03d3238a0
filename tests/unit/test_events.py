"""The sample events are what maintain/generate/events.py writes, and hold no real address."""

import re
from pathlib import Path

from maintain.generate.events import invocation_events, rendered

EVENTS = Path(__file__).resolve().parents[2] / "events"


def test_events_are_up_to_date():
    written = {path.name: path.read_text() for path in EVENTS.glob("*.json")}
    assert written == {name: rendered(event) for name, event in invocation_events().items()}


def test_every_address_is_an_example():
    # Tried where a word begins only: bodies in base64 are words of megabytes.
    address = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w.-]+\w")
    addresses = {found for path in EVENTS.rglob("*.json") for found in address.findall(path.read_text())}
    assert addresses == {"recipient@example.com", "sender@example.com"}
