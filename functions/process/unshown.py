"""Batches and rows that do not show everything, for `erase`: it finds a person by the rows. Pure.

A raw batch whose events are all rows with its id needs no look, if none of these rows names the person. So whatever
keeps an event out of the rows, or takes it out of them, names the batch here first.
"""

from collections.abc import Iterable

import msgspec

PREFIX = "maintenance/unshown/"
# There as soon as DropFields or HashFields has kept a field out of a row.
FIELDS = f"{PREFIX}fields"
# Written when this began; again when a stack gets it back after a rollback. Of batches before, only a look tells.
SINCE = f"{PREFIX}since"
CONTENT_TYPE = "application/json"


def of_process(arrived: str, part: str) -> str:
    """The key for the batches of one file of process: repeats, and what is quarantined."""
    return f"{PREFIX}{arrived}/{part}.json"


def of_closing(event_date: str, version: str, files: str) -> str:
    """The key for the batches of which a closed date has a row from another batch in place of theirs."""
    return f"{PREFIX}event_date={event_date}/{version}-{files}.json"


def encode(batch_ids: Iterable[str]) -> bytes:
    return msgspec.json.encode(sorted(batch_ids))


def decode(body: bytes) -> list[str]:
    """Errors: msgspec.MsgspecError."""
    return msgspec.json.decode(body, type=list[str])
