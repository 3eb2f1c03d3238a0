"""Adapter: entries handed to the EventBridge bus."""

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

# One try a call: who asks has all of the refused ones to think of, not those of one request.
CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})


def connect() -> "EventBridgeClient":
    return boto3.client("events", config=CONFIG)


@dataclass(frozen=True)
class Bus:
    client: "EventBridgeClient"
    name: str

    def put(self, entries: Sequence[Entry]) -> list[str]:
        """For each entry the code of why it was refused, "" if it was taken.

        A request that is refused as a whole may be so because of one entry: then each goes by itself.
        """
        try:
            answer = self.client.put_events(Entries=[entry.request(self.name) for entry in entries])  # type: ignore[misc]
        except ClientError as error:
            refusal, temporary = error.response["Error"]["Code"], error.response["Error"]["Code"] in TEMPORARY
        except (ParamValidationError, ValueError, TypeError, OverflowError) as error:  # never left this machine
            refusal, temporary = type(error).__name__, False
        except BotoCoreError as error:  # no answer: it may have been taken, and comes a second time then
            refusal, temporary = type(error).__name__, True
        else:
            return [result.get("ErrorCode", "") for result in answer["Entries"]]
        if temporary or len(entries) == 1:
            return [refusal] * len(entries)
        return [self.put([entry])[0] for entry in entries]
