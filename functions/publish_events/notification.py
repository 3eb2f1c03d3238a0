"""A message of the queue -> the files of rows that it announces. Pure.

load_postgres and publish_events each have this same file, because functions share no code; a test compares them.
"""

import json
from typing import NamedTuple
from urllib.parse import unquote_plus

# process writes Parquet files under the first prefix and CSV files under the second.
PREFIXES = ("events/", "events-csv/")


class UnreadableMessageError(Exception):
    """A message that is not an S3 notification."""


class LakeFile(NamedTuple):
    bucket: str
    key: str


class Announced(NamedTuple):
    """`refused`: how many names are not in the stack's own lake bucket and prefixes."""

    files: list[LakeFile]
    refused: int


def announced(body: str, bucket: str, prefixes: tuple[str, ...] = PREFIXES) -> Announced:
    """The files that S3 announces, with decoded keys (S3 writes a space as +); none for s3:TestEvent.

    The queue's policy allows the S3 service, not one bucket, so only names in `bucket` and under `prefixes` count.
    Errors: UnreadableMessageError.
    """
    try:
        notification = json.loads(body)
        if notification.get("Event") == "s3:TestEvent":
            return Announced([], 0)
        found = [
            LakeFile(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"], errors="strict"))
            for record in notification["Records"]
            if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
        ]
        ours = [file for file in found if file.bucket == bucket and file.key.startswith(prefixes)]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableMessageError(type(error).__name__) from error
    return Announced([file for file in ours if not is_marker(file.key)], len(found) - len(ours))


def is_marker(key: str) -> bool:
    """Whether Spark, Hadoop or the S3 console leaves such a file: Athena does not read these names either."""
    parts = key.split("/")
    hidden = any(part.startswith(("_", ".")) and part not in (".", "..") for part in parts)
    # A "folder" made in the console is an empty object whose key ends with a slash.
    return hidden or not parts[-1] or "$folder$" in parts[-1]
