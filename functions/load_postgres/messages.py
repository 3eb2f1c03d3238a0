"""The invocation event -> the queue's messages. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Message(NamedTuple):
    """A message of the queue; `sent_at` in Unix seconds."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    sent_at: float


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
