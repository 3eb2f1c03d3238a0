"""Events that Bird has and the lake has not -> ordinary raw batches, of which process makes rows.

Windows whose counts differ are halved until one page holds them, and only these are fetched. What is absent is stored
in Bird's webhook form under `backfill-<hour>-<type>-<hash of the content>`, at most 500 events each, once: the name is
the content, and S3 refuses it a second time. S3 announces the object to process as it announces ingest's.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from reconcile.events_api import EventsApi, Webhook

BATCH_PREFIX = "backfill-"
EVENTS_OF_A_BATCH = 500
# A row's second may be Bird's millisecond rounded in either direction, or a clock's difference.
MARGIN = timedelta(minutes=1)

type Key = tuple[str, str, str, str]  # customer_id (empty if absent), event_class, type, event_key


class Ours(Protocol):
    """What the lake or PostgreSQL has. Both count and name distinct events, by the time of the event itself."""

    def minutes(self, since: datetime, until: datetime, types: Sequence[str]) -> Mapping[tuple[datetime, str], int]:
        """How many by minute (UTC) and type; nothing where there are none."""
        ...

    def keys(self, since: datetime, until: datetime, types: Sequence[str]) -> set[Key]:
        """Of events within this time, whichever of the dates from the day before to the day after has their row."""
        ...


class Store(Protocol):
    """The raw batches of filling: reconcile.raw_batches, or nothing at all for a dry run."""

    def names(self, prefix: str) -> Iterator[str]:
        """Batch ids that begin like this."""
        ...

    def read(self, name: str) -> bytes: ...

    def put_once(self, name: str, body: bytes) -> bool:
        """False if it is there already."""
        ...


class Erased(Protocol):
    """process.tombstones.Tombstones, or this function's copy."""

    def covers(self, address: str | None, event_time: datetime | None) -> bool: ...


@dataclass(frozen=True)
class Limits:
    """`events` that one call stores at most."""

    events: int = 200_000


@dataclass
class Filled:
    """Events, counted; `batches` are raw objects. `left`: a bound was reached, and the next run goes on."""

    stored: int = 0
    batches: int = 0
    erased: int = 0  # left out: of persons who were erased
    waiting: int = 0  # in a backfill batch already, and not a row yet: for `replay` if it stays so
    held: Counter[str] = field(default_factory=Counter)  # by type: of an unknown one, or without an id
    left: bool = False


def fill(
    api: EventsApi,
    ours: Ours,
    store: Store,
    tombstones: Callable[[], Erased],
    since: datetime,
    until: datetime,
    types: Sequence[str],
    limits: Limits = Limits(),
    webhook: Webhook | None = None,
    progress: Callable[[Filled, datetime], None] = lambda filled, at: None,
) -> Filled:
    """`webhook`: events that it does not send are left out. `tombstones` are read again before each store.

    Errors: those of EventsApi but CallsSpentError, which sets `left`.
    """
    raise NotImplementedError
