"""The invocation event -> which objects to read, and which message asks for each. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec

# Empty objects of other tools: "folders" made in the console, and what Hadoop and Spark leave. No batch is named so.
MARKERS = ("/", "_$folder$", "/_SUCCESS")


class UnreadableMessageError(Exception):
    """A message that is no notification of S3's."""


class Place(NamedTuple):
    """Where raw batches lie. `prefix` is without slashes at its ends."""

    bucket: str
    prefix: str


class RawObject(NamedTuple):
    bucket: str
    key: str

    def place(self, places: Iterable[Place]) -> Place | None:
        """The first that it is in. A principal who may send to the queue may name any object."""
        inside = (one for one in places if self.bucket == one.bucket and self.key.startswith(f"{one.prefix}/"))
        return next(inside, None)

    def batch_id(self, prefix: str) -> str:
        """The key below the prefix, by which `replay` and `erase` find the object from a row."""
        return self.key.removeprefix(f"{prefix}/").removesuffix(".json")


class Message(NamedTuple):
    """A queue's message (`message_id`) or a bare S3 event (None), with its body still to be read."""

    message_id: str | None
    notification: Mapping[str, Any] | str
    receive_count: int = 1
    receipt_handle: str = ""
    queue_arn: str = ""


def messages(event: Mapping[str, Any]) -> Iterator[Message]:
    """One per record of a queue's batch; one for a bare S3 event, s3:TestEvent included."""
    records = event.get("Records", [])
    if records and "messageId" in records[0]:
        for record in records:
            yield Message(
                record["messageId"],
                record["body"],
                _receive_count(record),
                record.get("receiptHandle", ""),
                record.get("eventSourceARN", ""),
            )
    else:
        yield Message(None, event)


def _receive_count(record: Mapping[str, Any]) -> int:
    count = str((record.get("attributes") or {}).get("ApproximateReceiveCount", "1"))
    return int(count) if count.isdecimal() else 1


def raw_objects(message: Message) -> list[RawObject]:
    """The objects that a message announces, keys decoded (S3 writes a space as +); none for s3:TestEvent.

    Errors: UnreadableMessageError.
    """
    try:
        notification: Any = message.notification
        if isinstance(notification, str):
            notification = msgspec.json.decode(notification)
        if notification.get("Event") == "s3:TestEvent":
            return []
        found = [
            RawObject(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"], errors="strict"))
            for record in notification["Records"]
            if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
        ]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableMessageError(type(error).__name__) from error
    if not all(raw.bucket and raw.key for raw in found):
        raise UnreadableMessageError("empty key")
    return [raw for raw in found if not raw.key.endswith(MARKERS)]
