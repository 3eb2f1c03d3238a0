"""What Bird says of its own failed batches: which fail, which it gave up, and which it wrongly calls delivered. Pure.

Batch status lists the batches of the last 24 hours that failed at least once. It has no word for "given up": that
follows from 8 hours or 12 tries without success.
https://docs.bird.com/api/email-api/webhooks
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconcile.events_api import BatchStatus

ATTEMPTS_TO_WARN = 3  # as Bird's own guide advises
LAST_ATTEMPT, LAST_TRY_AFTER = 12, timedelta(hours=8)
# A batch holds what happened before it was made; Bird makes one within minutes.
MADE_AFTER, MARGIN = timedelta(minutes=15), timedelta(minutes=1)
BATCH_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass
class Warned:
    failing: list[BatchStatus] = field(default_factory=list)
    given_up: list[BatchStatus] = field(default_factory=list)
    lost: list[BatchStatus] = field(default_factory=list)


def warned(statuses: Iterable[BatchStatus], is_stored: Callable[[str], bool], now: datetime) -> Warned:
    """`is_stored`: whether the raw bucket has a batch, by its id."""
    found = Warned()
    for status in statuses:
        if status.succeeded:
            if not is_stored(status.batch_id):
                found.lost.append(status)
        elif status.attempts >= LAST_ATTEMPT or now - status.at >= LAST_TRY_AFTER:
            if not is_stored(status.batch_id):  # Bird may not have heard our answer
                found.given_up.append(status)
        elif status.attempts >= ATTEMPTS_TO_WARN:
            found.failing.append(status)
    return found


def minutes(status: BatchStatus) -> tuple[datetime, datetime]:
    """Whole minutes that hold the events of a batch."""
    whole = status.at.replace(second=0, microsecond=0)
    return whole - MADE_AFTER, whole + MARGIN


def code(status: BatchStatus) -> str:
    """What Bird saw, such as 413; or its own failure code where there was no answer."""
    return status.response_code or status.failure_code or "no answer"


def raw_name(batch_id: str) -> str:
    """The name of the batch's raw object, as ingest makes it."""
    if BATCH_ID.fullmatch(batch_id):
        return f"{batch_id}.json"
    return f"sha256-{hashlib.sha256(batch_id.encode()).hexdigest()}.json"
