"""The account at Bird (`customer_id`) of events that do not name it: as it was given, or the only one in the rows."""

from dataclasses import dataclass, field
from threading import Lock

from bird_webhooks.moving.flat import RefusedError
from bird_webhooks.stack import Stack

QUERY = "SELECT DISTINCT customer_id FROM events WHERE customer_id IS NOT NULL LIMIT 2"
WITHOUT = "without customer_id, which is part of an event's identity"


@dataclass
class OnlyAccount:
    """Asked for the first event without one, once."""

    stack: Stack
    given: str | None
    _known: list[str] | None = None
    _lock: Lock = field(default_factory=Lock)

    def __call__(self) -> str:
        """Errors: RefusedError, QueryFailedError."""
        if self.given is not None:
            return self.given
        with self._lock:
            if self._known is None:
                self._known = self.seen()
        if len(self._known) > 1:
            raise RefusedError(f"{WITHOUT}; the stack has seen several accounts: give --account")
        if not self._known:
            raise RefusedError(f"{WITHOUT}; the stack has seen no account yet: give --account")
        return self._known[0]

    def seen(self) -> list[str]:
        """Two, if there are several."""
        return [str(row["customer_id"]) for row in self.stack.athena().stream(QUERY)]
