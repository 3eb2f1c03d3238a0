"""Whether the lake has an event that has no id, by what it says.

The key of such an event is a hash of the bytes that Bird sent. A database has kept the values and not the bytes, so its
key would be another one, and the event would count twice.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any

from bird_webhooks.moving.forms import Found
from bird_webhooks.moving.lake_rows import ORIGIN, LakeRows, canonical
from bird_webhooks.stack import Stack

WITHOUT = (*ORIGIN, "event_key")
# An event whose own time is unusable is filed under its arrival; others are in one date.
AROUND = (timedelta(days=-1), timedelta(), timedelta(days=1))

type What = frozenset[tuple[str, Any]]


@dataclass
class Twins:
    """Each date is read once, and only if an event without an id is of it."""

    stack: Stack
    _of_date: dict[date, set[What]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def has(self, found: Found) -> bool:
        """`found` has a time."""
        moment = datetime.fromtimestamp((found.timestamp or 0) / 1000, UTC)
        [row] = LakeRows(self.stack).of_elements([found.element], moment)
        said = _what(row)
        return any(said in self._known(moment.date() + days) for days in AROUND)

    def _known(self, day: date) -> set[What]:
        with self._lock:
            if day not in self._of_date:
                rows = LakeRows(self.stack).of_date(day)
                self._of_date[day] = {_what(row) for row in rows if row.get("event_id") is None}
            return self._of_date[day]


def _what(row: dict[str, Any]) -> What:
    return frozenset(canonical(row, WITHOUT).items())
