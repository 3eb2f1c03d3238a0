"""Events of one object -> batches by day, so that process writes few files. Pure; the same events, the same batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from bird_webhooks.moving.forms import Found, Row
from process.normalise import DAY_MILLISECONDS, FIRST_EVENT_DAY

# Within what process accepts as one of Bird's batches (process.bounds.LIGHT).
MAX_ELEMENTS = 1_000
MAX_BYTES = 900 * 1024
# A file may hold a year in any order: so much waits in memory, whatever it holds.
MAX_WAITING_BYTES = 32 * 1024 * 1024
# Bird gives up after eight hours. What is dated later than this was written by an export, or by a copy.
LONGEST_WAY = timedelta(days=2)
_HOUR = timedelta(hours=1)


class Batch(NamedTuple):
    """`received_at`: when the source got it, as far as that is known. `day` is that of its events."""

    day: date
    received_at: datetime
    batch_id: str | None
    found: list[Found]


class _Key(NamedTuple):
    batch_id: str | None
    day: int
    untimed_at: datetime | None  # events without a usable time are filed under their arrival


@dataclass
class _Waiting:
    found: list[Found] = field(default_factory=list)
    size: int = 0
    newest: int | None = None
    received_at: datetime | None = None


@dataclass
class Splitting:
    """`arrived`: when the whole object came, if `is_arrival` for certain; none of it came after `latest`."""

    arrived: datetime
    latest: datetime
    is_arrival: bool
    _waiting: dict[_Key, _Waiting] = field(default_factory=dict)
    _size: int = 0

    def add(self, found: Found) -> Iterator[Batch]:
        key = self._key(found)
        waiting = self._waiting.setdefault(key, _Waiting())
        size = len(found.element)
        if waiting.found and (len(waiting.found) == MAX_ELEMENTS or waiting.size + size > MAX_BYTES):
            yield self._take(key)
            waiting = self._waiting.setdefault(key, _Waiting())
        waiting.found.append(found)
        waiting.size += size
        self._size += size
        if key.untimed_at is None and found.timestamp is not None:
            waiting.newest = max(found.timestamp, waiting.newest or found.timestamp)
        if found.row.received_at:
            waiting.received_at = max(found.row.received_at, waiting.received_at or found.row.received_at)
        if self._size > MAX_WAITING_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        for key in list(self._waiting):
            yield self._take(key)

    def _key(self, found: Found) -> _Key:
        latest = (found.row.received_at or self.latest).timestamp() // 86400
        if found.timestamp is not None:
            day = found.timestamp // DAY_MILLISECONDS
            if FIRST_EVENT_DAY <= day <= latest + 1:
                return _Key(found.row.batch_id, day, None)
        filed_at = found.row.received_at or self.arrived
        return _Key(found.row.batch_id, int(filed_at.timestamp() // 86400), filed_at)

    def _take(self, key: _Key) -> Batch:
        waiting = self._waiting.pop(key)
        self._size -= waiting.size
        day = datetime.fromtimestamp(key.day * 86400, UTC).date()
        return Batch(day, self._received_at(waiting), key.batch_id, waiting.found)

    def _received_at(self, waiting: _Waiting) -> datetime:
        """The row's own time; otherwise the object's, unless it was written long after its newest event."""
        if waiting.received_at is not None:
            return waiting.received_at
        if self.is_arrival or waiting.newest is None:
            return self.arrived
        newest = datetime.fromtimestamp(waiting.newest / 1000, UTC)
        return self.arrived if newest - _HOUR <= self.arrived <= newest + LONGEST_WAY else newest


def row_of(metadata: dict[str, str], batch_id: str | None) -> Row:
    """What a stack of this application, which may have stored the object, says of it."""
    try:
        received_at = datetime.fromisoformat(metadata["received-at"])
    except (KeyError, ValueError):
        received_at = None
    if received_at is not None and received_at.tzinfo is None:  # written by other tools: ingest gives the zone
        received_at = received_at.replace(tzinfo=UTC)
    return Row(received_at, metadata.get("batch-id") or batch_id)
