"""Messages that announce files of rows -> events of the chosen types on an EventBridge bus, at least once.

A message is done with when each of its events was taken. If one was not, the message comes again with all of them, so
that consumers see repeats, with the same `id`; five failures bring it to the dead-letter queue.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from publish_events import lake, metrics
from publish_events.bus import Bus, connect
from publish_events.delivery import Outcome, publish
from publish_events.entries import Entry, entry_of
from publish_events.notification import LakeFile, UnreadableMessageError, lake_files
from publish_events.rows import UnreadableFileError, rows_of_types

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# Of the function's 120 s: one pause, one request and one file may still be under way when they are over.
TIME_FOR_PUBLISHING_SECONDS = 75


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    failed: set[str] = set()
    asked_by: dict[LakeFile, set[str]] = defaultdict(set)
    for record in event["Records"]:
        try:
            for file in lake_files(record["body"]):
                asked_by[file].add(record["messageId"])
        except UnreadableMessageError as error:
            logger.error("message not understood", extra={"message_id": record["messageId"], "reason": str(error)})
            failed.add(record["messageId"])
    for file in _publish(sorted(asked_by)):
        failed |= asked_by[file]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}


def _publish(files: Sequence[LakeFile]) -> set[LakeFile]:
    """Publish the chosen events of the files; return the files that are not done with."""
    left = set(files)
    unreadable: set[LakeFile] = set()

    def entries() -> Iterator[Entry]:
        """Of all files, so that requests are full though a file may have few to publish."""
        for file in files:
            try:
                yield from _entries(file)
            except (UnreadableFileError, lake.StorageUnavailableError) as error:
                logger.error("file not read", extra={"lake_key": file.key, "reason": str(error)})
                unreadable.add(file)
            left.discard(file)

    ends = time.monotonic() + TIME_FOR_PUBLISHING_SECONDS
    outcome = publish(entries(), bus().put, time.sleep, lambda: time.monotonic() > ends)
    failed = left | unreadable | outcome.incomplete
    if files:
        _log(outcome, len(files) - len(failed))
    return failed


def _entries(file: LakeFile) -> Iterator[Entry]:
    body = lake.read(file, allow_http=os.environ.get("AWS_ALLOW_HTTP") == "true")
    if body is None:
        logger.warning("file deleted before it was read", extra={"lake_key": file.key})
        return
    resource = f"{os.environ['LAKE_BUCKET_ARN']}/{file.key}"
    for row in rows_of_types(body, event_types(), csv=file.key.endswith(".csv")):
        yield entry_of(row, file, resource)


def _log(outcome: Outcome, files: int) -> None:
    facts = {
        "files": files,
        "published": outcome.published,
        "shortened": outcome.shortened,
        "not_published": outcome.not_published,
        "refusals": dict(outcome.refusals),
    }
    level = logging.ERROR if outcome.not_published else logging.INFO
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    logger.log(level, "events published", extra=metrics.counted(facts, name, datetime.now(UTC)))


@cache
def bus() -> Bus:
    return Bus(connect(), os.environ["EVENT_BUS_NAME"])


@cache
def event_types() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ["EVENT_TYPES"].split(","))
