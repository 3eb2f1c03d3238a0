"""Adapter: deletes messages from their queue as soon as their rows are written.

Lambda deletes messages only after the function has answered. If it kills the function before, all of them come back.
"""

import logging
from collections.abc import Iterable
from functools import cache
from itertools import batched
from typing import Any

from process.notification import Message

logger = logging.getLogger(__name__)


def delete(messages: Iterable[Message]) -> None:
    """A message that cannot be deleted is left to Lambda."""
    from botocore.exceptions import BotoCoreError, ClientError

    by_queue: dict[str, list[Message]] = {}
    for message in messages:
        if message.receipt_handle and message.queue_arn.count(":") == 5:
            by_queue.setdefault(message.queue_arn, []).append(message)
    for queue_arn, of_queue in by_queue.items():
        _, _, _, region, account, name = queue_arn.split(":")
        try:
            client = sqs(region)
            url = f"{client.meta.endpoint_url}/{account}/{name}"
            for ten in batched(of_queue, 10, strict=False):
                entries = [{"Id": str(n), "ReceiptHandle": one.receipt_handle} for n, one in enumerate(ten)]
                answer = client.delete_message_batch(QueueUrl=url, Entries=entries)
                if failed := answer.get("Failed"):
                    logger.warning("messages not deleted", extra={"reason": failed[0]["Code"]})
        except (BotoCoreError, ClientError) as error:
            logger.warning("messages not deleted", extra={"reason": type(error).__name__})


@cache
def sqs(region: str) -> Any:
    import boto3  # comes with the Lambda runtime; importing it takes 0.5 s, so only messages that came back need it
    from botocore.config import Config

    limits = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
    return boto3.client("sqs", region_name=region, config=limits)
