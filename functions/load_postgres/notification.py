"""The invocation event -> messages -> the lake files that they announce. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from load_postgres.errors import PoisonError

# process writes Parquet under the one and CSV under the other.
PREFIXES = ("events/", "events-csv/")
_EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")


class Message(NamedTuple):
    """A message of the queue; `sent_at` in Unix seconds."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    sent_at: float


class LakeFile(NamedTuple):
    bucket: str
    key: str

    @property
    def event_date(self) -> date:
        """The day that its folder names. Errors: PoisonError."""
        found = _EVENT_DATE.search(self.key)
        if not found:
            raise PoisonError("the file's key has no event_date")
        try:
            return date.fromisoformat(found[1])
        except ValueError:
            raise PoisonError("the file's key has an event_date that is not a date") from None

    @property
    def name(self) -> str:
        """Its day and name in one word, for what is kept of it elsewhere."""
        return f"{self.event_date}-{self.key.rpartition('/')[2]}"


class Announced(NamedTuple):
    """`refused`: how many names are not of the stack's own lake bucket and prefixes."""

    files: list[LakeFile]
    refused: int


def messages(event: Mapping[str, Any]) -> Iterator[Message]:
    for record in event["Records"]:
        attributes = record["attributes"]
        yield Message(
            record["messageId"],
            record["receiptHandle"],
            record["body"],
            int(attributes["ApproximateReceiveCount"]),
            int(attributes["SentTimestamp"]) / 1000,
        )


def announced(body: str, bucket: str) -> Announced:
    """The files that a message announces, keys decoded (S3 writes a space as +); none for s3:TestEvent.

    A queue's policy admits S3 and not one bucket, so a name counts only if it is of `bucket` and of a prefix of rows.
    Errors: PoisonError.
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
        ours = [file for file in found if file.bucket == bucket and file.key.startswith(PREFIXES)]
        return Announced([file for file in ours if not is_marker(file.key)], len(found) - len(ours))
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise PoisonError(f"not the notification of a file of rows: {type(error).__name__}") from error


def is_marker(key: str) -> bool:
    """Whether it is what Spark, Hadoop or a console leave beside files: Athena does not read such names either."""
    parts = key.split("/")
    hidden = any(part.startswith(("_", ".")) and part not in (".", "..") for part in parts)
    # "Folders" made in the console are empty objects with a slash at the end.
    return hidden or not parts[-1] or "$folder$" in parts[-1]
