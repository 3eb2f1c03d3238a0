"""Adapter: sends entries to the EventBridge bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from publish_events.delivery import TEMPORARY
from publish_events.entries import Entry

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

# No retries here: the caller retries refused entries together with the next ones.
CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})


def connect() -> "EventBridgeClient":
    return boto3.client("events", config=CONFIG)


@dataclass(frozen=True)
class Bus:
    client: "EventBridgeClient"
    name: str

    def put(self, entries: Sequence[Entry]) -> list[str]:
        """For each entry the error code, "" if EventBridge accepted it.

        EventBridge may refuse a whole request because of one entry; then each entry is sent by itself.
        """
        try:
            answer = self.client.put_events(Entries=[entry.request(self.name) for entry in entries])  # type: ignore[misc]
        except ClientError as error:
            refusal, temporary = error.response["Error"]["Code"], error.response["Error"]["Code"] in TEMPORARY
        except (ParamValidationError, ValueError, TypeError, OverflowError) as error:  # boto3 did not send it
            refusal, temporary = type(error).__name__, False
        except BotoCoreError as error:  # no answer: EventBridge may have accepted it, and then gets it twice
            refusal, temporary = type(error).__name__, True
        else:
            return [result.get("ErrorCode", "") for result in answer["Entries"]]
        if temporary or len(entries) == 1:
            return [refusal] * len(entries)
        return [self.put([entry])[0] for entry in entries]
