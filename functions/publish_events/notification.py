"""A message of the queue -> the files of rows that it announces. Pure."""

from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec

# process writes Parquet under the one and CSV under the other.
PREFIXES = ("events/", "events-csv/")


class UnreadableMessageError(Exception):
    """A message that is no notification of S3's."""


class LakeFile(NamedTuple):
    bucket: str
    key: str


class Announced(NamedTuple):
    """`refused`: how many names are not of the stack's own lake bucket and prefixes."""

    files: list[LakeFile]
    refused: int


def announced(body: str, bucket: str) -> Announced:
    """The files of rows in S3's notification, keys decoded; none for s3:TestEvent, and other objects are left out.

    A queue's policy admits S3 and not one bucket, so a name counts only if it is of `bucket` and of a prefix of rows.
    Errors: UnreadableMessageError.
    """
    try:
        notification: Any = msgspec.json.decode(body)
        if notification.get("Event") == "s3:TestEvent":
            return Announced([], 0)
        found = [
            LakeFile(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"], errors="strict"))
            for record in notification["Records"]
            if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
        ]
        ours = [file for file in found if file.bucket == bucket and file.key.startswith(PREFIXES)]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableMessageError(type(error).__name__) from error
    rows = [file for file in ours if file.key.endswith((".parquet", ".csv")) and not is_marker(file.key)]
    return Announced(rows, len(found) - len(ours))


def is_marker(key: str) -> bool:
    """Whether it is what Spark or Hadoop leave beside files: Athena does not read such names either."""
    return any(part.startswith(("_", ".")) and part not in (".", "..") for part in key.split("/"))
