"""Adapter: entries handed to the EventBridge bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from publish_events.entries import Entry

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

# One try a call: who asks has all of the refused ones to think of, not those of one request.
CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})


def connect() -> "EventBridgeClient":
    return boto3.client("events", config=CONFIG)


@dataclass(frozen=True)
class Bus:
    client: "EventBridgeClient"
    name: str

    def put(self, entries: Sequence[Entry]) -> list[str]:
        """For each entry the code of why it was refused, "" if it was taken."""
        try:
            answer = self.client.put_events(Entries=[entry.request(self.name) for entry in entries])  # type: ignore[misc]
        except ClientError as error:
            return [error.response["Error"]["Code"]] * len(entries)
        except BotoCoreError as error:  # no answer: it may have been taken, and comes a second time then
            return [type(error).__name__] * len(entries)
        return [result.get("ErrorCode", "") for result in answer["Entries"]]
