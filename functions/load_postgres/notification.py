"""The invocation event -> messages -> the lake files that they announce. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from load_postgres.errors import PoisonError

_EVENT_DATE = re.compile(r"(?:^|/)event_date=(\d{4}-\d{2}-\d{2})/")


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
    event_date: date


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


def lake_files(body: str) -> list[LakeFile]:
    """The files that a message announces, keys decoded (S3 writes a space as +); none for s3:TestEvent.

    Errors: PoisonError.
    """
    try:
        notification = json.loads(body)
        if notification.get("Event") == "s3:TestEvent":
            return []
        found = [
            (record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"], errors="strict"))
            for record in notification["Records"]
            if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
        ]
        # "Folders" made in the console are empty objects with a slash at the end.
        return [LakeFile(bucket, key, _event_date(key)) for bucket, key in found if not key.endswith("/")]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise PoisonError(f"not the notification of a file of rows: {type(error).__name__}") from error


def _event_date(key: str) -> date:
    found = _EVENT_DATE.search(key)
    if not found:
        raise PoisonError("the file's key has no event_date")
    return date.fromisoformat(found[1])
