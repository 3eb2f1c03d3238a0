"""Whether an event that has no id came before, by what it says: into the lake, or earlier in this import.

The key of such an event is a hash of the bytes that Bird sent. A database has kept the values and not the bytes, so its
key would be another one, and the event would count twice.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
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
    """Each date is read once, and only if an event without an id is of it; `before_reading` is called before the first.

    Events of this import are kept on the disk, as there may be millions. Gone when it is closed.
    """

    stack: Stack
    before_reading: Callable[[], None]
    _of_date: dict[date, set[What]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @cached_property
    def _rows(self) -> LakeRows:
        return LakeRows(self.stack)

    @cached_property
    def _came(self) -> sqlite3.Connection:
        database = sqlite3.connect("", check_same_thread=False)
        database.execute("CREATE TABLE came (what BLOB PRIMARY KEY, element BLOB) WITHOUT ROWID")
        return database

    def close(self) -> None:
        self._came.close()

    def came_before(self, found: Found) -> bool:
        """Whether this import has met the event already, in other bytes. `found` has a time."""
        with self._lock:
            said = self._what(found)
            if said is None:
                return False
            what, element = _digest(repr(sorted(said)).encode()), _digest(found.element)
            self._came.execute("INSERT OR IGNORE INTO came VALUES (?, ?)", (what, element))
            [(first,)] = self._came.execute("SELECT element FROM came WHERE what = ?", (what,))
        return bool(first != element)

    def has(self, found: Found) -> bool:
        """Whether the lake has it. `found` has a time."""
        with self._lock:
            said = self._what(found)
        return any(said in self._known(_moment(found).date() + days) for days in AROUND)

    def _what(self, found: Found) -> What | None:
        """None if process would make no row of it. One at a time: `_rows` keeps a decoder."""
        rows = list(self._rows.of_elements([found.element], _moment(found)))
        return _what(rows[0]) if rows else None

    def _known(self, day: date) -> set[What]:
        with self._lock:
            if not self._of_date:
                self.before_reading()
            if day not in self._of_date:
                rows = self._rows.of_date(day)
                self._of_date[day] = {_what(row) for row in rows if row.get("event_id") is None}
            return self._of_date[day]


def _moment(found: Found) -> datetime:
    return datetime.fromtimestamp((found.timestamp or 0) / 1000, UTC)


def _digest(what: bytes) -> bytes:
    return hashlib.blake2b(what, digest_size=16).digest()


def _what(row: dict[str, Any]) -> What:
    return frozenset(canonical(row, WITHOUT).items())
