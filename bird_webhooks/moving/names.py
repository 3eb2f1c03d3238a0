"""The names of imported raw batches, below the raw prefix and without `.json`: also their `batch_id`. Pure.

`import/<Bird's batch id, or the event date>/<time of arrival>-<hash of the content>`, with `.publish` behind it if its
events are for the bus. A live batch's name has no slash, so neither can take the other's place.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

PREFIX = "import/"
PUBLISHED = ".publish"
_FORM = re.compile(r"import/[A-Za-z0-9._-]{1,128}/(\d{8}T\d{6}Z)-([0-9a-f]{32}(?:\.publish)?)")
_TIME = "%Y%m%dT%H%M%SZ"
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Name(NamedTuple):
    """`identity` is the same for the same events, whenever and from wherever they come."""

    text: str
    identity: str


def name(batch_id: str | None, day: str, received_at: datetime, elements: Iterable[bytes], *, publish: bool) -> Name:
    digest = hashlib.sha256()
    for element in elements:
        digest.update(b"%d " % len(element))
        digest.update(element)
    identity = digest.hexdigest()[:32] + (PUBLISHED if publish else "")
    folder = batch_id if batch_id and _SAFE.fullmatch(batch_id) and batch_id.strip(".") else day
    return Name(f"{PREFIX}{folder}/{received_at.astimezone(UTC):{_TIME}}-{identity}", identity)


def received_at(text: str) -> datetime | None:
    """When its source got the batch; None for a name of another kind."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def identity(text: str) -> str | None:
    found = _FORM.fullmatch(text)
    return found[2] if found else None
