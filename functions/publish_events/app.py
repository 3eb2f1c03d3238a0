"""Messages that announce files of rows -> events of the chosen types on an EventBridge bus, at least once.

A message succeeds when EventBridge accepted each of its events, or rejected it for good and it was quarantined with the
reason. Otherwise the queue delivers the message again with all its events, so consumers see repeats, with the same
`id`. After five failures the message goes to the dead-letter queue.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import cache
from typing import Any

from publish_events import lake, metrics
from publish_events.bus import Bus, connect
from publish_events.columns import BIRD_TYPES
from publish_events.delivery import Outcome, publish
from publish_events.entries import Entry, entry_of
from publish_events.holding_back import is_held_back
from publish_events.notification import LakeFile, UnreadableMessageError, announced
from publish_events.quarantine import Refused, quarantine_object
from publish_events.rows import Row, UnreadableFileError, rows_of_types

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# Of the function's 120 s: one pause, one request and one file may still be running when this time is up.
TIME_FOR_PUBLISHING_SECONDS = 75


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    failed: set[str] = set()
    asked_by: dict[LakeFile, set[str]] = defaultdict(set)
    names_refused = 0
    for record in event["Records"]:
        try:
            files, refused = announced(record["body"], os.environ["LAKE_BUCKET_ARN"].rpartition(":")[2])
        except UnreadableMessageError as error:
            logger.error("message not understood", extra={"message_id": record["messageId"], "reason": str(error)})
            failed.add(record["messageId"])
            continue
        if refused:
            names_refused += refused
            logger.warning("name of another bucket or prefix refused", extra={"message_id": record["messageId"]})
        for file in files:
            if file.key.endswith((".parquet", ".csv")):
                asked_by[file].add(record["messageId"])
    for file in _publish(sorted(asked_by), names_refused):
        failed |= asked_by[file]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(failed)]}


def _publish(files: Sequence[LakeFile], names_refused: int) -> set[LakeFile]:
    """Publish the chosen events of the files; return the files that failed or were not finished."""
    unfinished = set(files)
    unreadable: set[LakeFile] = set()
    refused_events: dict[LakeFile, list[Refused]] = defaultdict(list)
    seen: set[str | None] = set()
    held_back = 0
    now = datetime.now(UTC)

    def entries() -> Iterator[Entry]:
        """The entries of all files, so that requests are full even if each file has few events to publish."""
        nonlocal held_back
        for file in files:
            try:
                for row in _rows(file, seen):
                    if is_held_back(row, now, _maximum_age_days()):
                        held_back += 1
                        continue
                    try:
                        entry = entry_of(row, file, f"{os.environ['LAKE_BUCKET_ARN']}/{file.key}")
                    except Exception as error:
                        reason = f"no event could be made of the row: {type(error).__name__}"
                        refused_events[file].append(Refused(row, reason))
                    else:
                        yield entry
            except Exception as error:  # one file's error must not keep the others from being published
                known = isinstance(error, UnreadableFileError | lake.StorageUnavailableError | lake.UnreadableKeyError)
                reason = str(error) if known else type(error).__name__
                logger.error("file not read", extra={"lake_key": file.key, "reason": reason})
                unreadable.add(file)
            unfinished.discard(file)

    deadline = time.monotonic() + TIME_FOR_PUBLISHING_SECONDS
    outcome = publish(entries(), bus().put, time.sleep, lambda: time.monotonic() > deadline)
    for entry, code in outcome.refused:
        refused_events[entry.file].append(Refused(entry.row, f"EventBridge refused the event: {code}"))
    failed = unfinished | unreadable | outcome.incomplete | _quarantine(refused_events)
    if files or names_refused:
        refused = sum(map(len, refused_events.values()))
        _log(outcome, len(files) - len(failed), len(failed), refused, names_refused, held_back)
    if seen:
        _warn_of_types_without_events(event_types() - BIRD_TYPES - seen)
    return failed


def _rows(file: LakeFile, seen: set[str | None]) -> Iterator[Row]:
    body = lake.read(file, allow_http=_allow_http())
    if body is None:
        # The closed files of its date do not say which of their events were in this one, and to publish a whole date
        # again would start journeys again.
        logger.error("file gone: its events are not published", extra={"lake_key": file.key})
        return
    yield from rows_of_types(body, event_types(), csv=file.key.endswith(".csv"), seen=seen)


def _quarantine(refused_events: Mapping[LakeFile, Sequence[Refused]]) -> set[LakeFile]:
    """Write each file's refused events to quarantine/; return the files for which that failed."""
    failed = set()
    for file, refused in refused_events.items():
        try:
            lake.write(file.bucket, *quarantine_object(file, refused, datetime.now(UTC)), allow_http=_allow_http())
        except lake.StorageUnavailableError as error:
            logger.error("refused events not kept aside", extra={"lake_key": file.key, "reason": str(error)})
            failed.add(file)
    return failed


def _log(outcome: Outcome, files: int, failed: int, refused: int, names_refused: int, held_back: int) -> None:
    facts = {
        "files": files,
        "files_failed": failed,
        "published": outcome.published,
        "shortened": outcome.shortened,
        "not_published": outcome.not_published,
        "refused": refused,
        "held_back": held_back,
        "names_refused": names_refused,
        "refusals": dict(outcome.refusals),
    }
    level = logging.ERROR if failed or refused else logging.INFO
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    logger.log(level, "events published", extra=metrics.counted(facts, name, datetime.now(UTC)))


def _warn_of_types_without_events(types: Set[str]) -> None:
    """A typo in PublishedEventTypes would otherwise publish nothing without any sign of it."""
    if new := types - _warned_of():
        _warned_of().update(new)
        logger.warning("PublishedEventTypes has types that no event has", extra={"types": sorted(new)})


@cache
def _warned_of() -> set[str]:
    """Types that this execution environment has warned of: one line for each event would be noise."""
    return set()


@cache
def bus() -> Bus:
    return Bus(connect(), os.environ["EVENT_BUS_NAME"])


@cache
def event_types() -> frozenset[str]:
    return frozenset(name.strip() for name in os.environ["EVENT_TYPES"].split(",") if name.strip())


@cache
def _maximum_age_days() -> int:
    """0: events of any age are published."""
    return int(os.environ.get("MAXIMUM_AGE_DAYS", "0"))


def _allow_http() -> bool:
    return os.environ.get("AWS_ALLOW_HTTP") == "true"
