"""Which events the bus does not get: those of long ago, and imported ones unless the import said so. Pure.

An automation must not start for what happened a year ago. `bird-webhooks import` names the batches that are for the bus
(bird_webhooks/moving/names.py).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

IMPORTED, PUBLISHED = "import/", ".publish"


def is_held_back(row: Mapping[str, Any], now: datetime, maximum_age_days: int) -> bool:
    """By the event's own time, or its arrival if it has none. 0 days: whatever its age."""
    batch_id = str(row.get("batch_id") or "")
    if batch_id.startswith(IMPORTED) and not batch_id.endswith(PUBLISHED):
        return True
    moment = row.get("timestamp") or row.get("received_at")
    return bool(maximum_age_days and moment and moment < now - timedelta(days=maximum_age_days))
