"""Whether an old event is of a person who was erased since (process.tombstones). Pure."""

import json
from datetime import UTC, datetime

from bird_webhooks.moving.forms import Found
from process.elements import repaired
from process.tombstones import Tombstones
from reconcile.filling import addresses


def is_erased(found: Found, erased: Tombstones) -> bool:
    if not erased.erased_at:
        return False
    moment = None if found.timestamp is None else datetime.fromtimestamp(found.timestamp / 1000, UTC)
    return any(erased.covers(address, moment) for address in {*found.addresses, *_addresses(found.element)})


def _addresses(element: bytes) -> set[str]:
    """All in it, as filling finds them: a person is not only in rcpt_to."""
    try:
        return addresses(element)
    except ValueError:  # what process repairs, as it will read it
        return addresses(json.dumps(json.loads(repaired(element), parse_int=str, parse_float=str)).encode())
