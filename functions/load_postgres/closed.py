"""A date's state in the lake -> the closed files that have the rows of a file that is announced. Pure.

process.day_state writes the state; docs/downstream/warehouses.md has its contract.
"""

import json
from typing import NamedTuple

from load_postgres.errors import PoisonError
from load_postgres.notification import LakeFile
from load_postgres.rows import event_date_of

PREFIX = "closed/"


class ClosedFile(NamedTuple):
    """`again`: load it from its beginning, even if it was loaded before, because a message names it."""

    file: LakeFile
    rows: int
    again: bool


def state_of(file: LakeFile) -> LakeFile:
    """Where the state of the file's date is. Errors: PoisonError."""
    return LakeFile(file.bucket, f"maintenance/days/event_date={event_date_of(file.key)}.json")


def files_with_rows_of(file: LakeFile, state: bytes) -> list[ClosedFile]:
    """For a small file that is gone, and for a closed file of an older version, all closed files of the date: none, if
    an erasure has left no row of it.

    Errors: PoisonError (the closed files do not have the rows, or the state says nothing about it).
    """
    try:
        known = json.loads(state)
        current = known["current"]
        version = {f"{known['location']}{one['name']}": one["rows"] for one in current["files"]} if current else {}
        taken_in = {name for group in known["taken_in"] for name, _ in group["files"]}
        taken_in |= {*known.get("deleted", [])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PoisonError(f"the state of the file's date cannot be read: {type(error).__name__}") from None
    if not current:
        raise PoisonError("the file was deleted before it was loaded, and its date is not closed")
    if file.key in version:
        return [ClosedFile(file, version[file.key], again=True)]
    if not file.key.startswith(PREFIX) and file.key.rpartition("/")[2] not in taken_in:
        raise PoisonError("the file was deleted before it was loaded, and its date's closed files do not have its rows")
    return [ClosedFile(LakeFile(file.bucket, key), rows, again=False) for key, rows in version.items()]
