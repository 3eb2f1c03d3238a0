"""Messages that announce raw objects -> their batches -> rows in the lake, by day of the event.

A retry of the same input writes the same files. Only what a retry can mend fails a message; five failures bring it to
the dead-letter queue. What is no event goes to quarantine/ and is done with.
"""

import gc
import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cache
from itertools import batched
from typing import Any

from process import metrics
from process.lake import Lake, StorageUnavailableError, UnreadableObjectError, read_batch
from process.layouts import Layouts
from process.normalise import DAY_MILLISECONDS, Quarantined, StoredBatch
from process.notification import RawObject, UnreadableMessageError, messages, raw_objects
from process.protection import Protection, names
from process.quarantine import to_ndjson
from process.rows import Rows
from process.table import to_csv, to_parquet

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# Rows are written whenever this much JSON has been read, which bounds the memory whatever the number of objects.
FLUSH_BODY_BYTES = 16 * 1024 * 1024
READS_AT_ONCE = 8
MAX_LOGGED_FIELDS = 50


class RawBatchesNotProcessedError(Exception):
    """A bare S3 event failed, in part or wholly: Lambda shall invoke again."""


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    failed: set[str | None] = set()
    asked_by: dict[RawObject, set[str | None]] = defaultdict(set)
    for message in messages(event):
        try:
            for raw in raw_objects(message):
                asked_by[raw].add(message.message_id)
        except UnreadableMessageError as error:
            logger.error("message not understood", extra={"message_id": message.message_id, "reason": str(error)})
            failed.add(message.message_id)
    gc.disable()  # rows are many objects and no cycles: collecting them costs a quarter of the time
    try:
        for raw in _process(sorted(asked_by)):
            failed |= asked_by[raw]
    finally:
        gc.enable()
    if None in failed:
        raise RawBatchesNotProcessedError
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in sorted(filter(None, failed))]}


def _process(raws: Sequence[RawObject]) -> list[RawObject]:
    """Turn the objects into rows; return those whose rows are not in the lake."""
    rows = Rows(layouts(), protection())
    written = metrics.Written()
    failed: list[RawObject] = []
    gathered: list[RawObject] = []
    files = 0
    inputs = hashlib.sha256()
    for raw, outcome in _read(raws):
        try:
            batch = outcome.result()
        except UnreadableObjectError as error:
            rows.quarantine(Quarantined(error.batch, None, error.reason, error.batch.body))
        except StorageUnavailableError as error:
            logger.error("raw batch not read", extra={"raw_key": raw.key, "reason": str(error)})
            failed.append(raw)
            continue
        else:
            rows.add(batch)
        gathered.append(raw)
        # Files are named by all that was read up to here, for rows seen before this file are left out of it.
        inputs.update(f"{raw.bucket}/{raw.key}\n".encode())
        if rows.body_bytes >= FLUSH_BODY_BYTES:
            files += _write_or_fail(rows, written, inputs.hexdigest(), gathered, failed)
            gathered = []
    files += _write_or_fail(rows, written, inputs.hexdigest(), gathered, failed)
    if raws:
        _log(rows, written, len(raws) - len(failed), files)
    return failed


def _read(raws: Sequence[RawObject]) -> Iterator[tuple[RawObject, Future[StoredBatch]]]:
    """Read a few objects at a time, in order."""
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for some in batched(raws, READS_AT_ONCE, strict=False):
            reads = [pool.submit(read_batch, raw, allow_http=_allow_http()) for raw in some]
            wait(reads)  # or reading and making rows would take the one processor from each other
            yield from zip(some, reads, strict=True)


def _write_or_fail(
    rows: Rows, written: metrics.Written, part: str, gathered: list[RawObject], failed: list[RawObject]
) -> int:
    """Write what was gathered and return the number of files; on failure all of `gathered` has failed."""
    if not gathered:
        return 0
    try:
        return _write(rows, written, part[:32])
    except StorageUnavailableError as error:
        logger.error("rows not written", extra={"raw_batches": len(gathered), "reason": str(error)})
        failed += gathered
        return 0


def _write(rows: Rows, written: metrics.Written, part: str) -> int:
    files = 0
    days = rows.take_days()
    quarantined = rows.take_quarantined()
    if quarantined:
        arrived = _date(quarantined[0].batch.received_at // DAY_MILLISECONDS)
        lake().write(f"quarantine/{arrived}/{part}.ndjson", to_ndjson(quarantined), "application/x-ndjson")
        reasons: dict[str, int] = defaultdict(int)
        for one in quarantined:
            reasons[one.reason] += 1
        logger.error("events quarantined", extra={"quarantined": len(quarantined), "reasons": reasons})
        files += 1
    for day, table, sizes in days:
        if _output_format() == "CSV":
            lake().write(f"events-csv/event_date={_date(day)}/{part}.csv", to_csv(table), "text/csv")
        else:
            body = to_parquet(table)
            lake().write(f"events/event_date={_date(day)}/{part}.parquet", body, "application/vnd.apache.parquet")
        written.add(sizes, table["timestamp"], datetime.now(UTC))
        files += 1
    return files


def _log(rows: Rows, written: metrics.Written, raw_batches: int, files: int) -> None:
    counts = rows.counts
    common = sorted(counts.extra_fields.items(), key=lambda item: -item[1])[:MAX_LOGGED_FIELDS]
    facts = {
        "raw_batches": raw_batches,
        "events": counts.events,
        "rows": counts.rows,
        "duplicates": counts.duplicates,
        "quarantined": counts.quarantined,
        "files": files,
        "unknown_fields": sum(counts.extra_fields.values()),
        # Names only, and only such as Bird's are: a stranger could put anything into a name.
        "extra_fields": (named := {name: count for name, count in common if name.isidentifier() and len(name) <= 64}),
        "extra_field_names": ", ".join(
            named
        ),  # as text: Logs Insights shows an object's members only, each by its name
    }
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    logger.info("raw batches processed", extra=metrics.counted(facts, written, name, datetime.now(UTC)))


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86400, UTC).date().isoformat()


@cache
def layouts() -> Layouts:
    """What this execution environment has learnt of Bird's events."""
    return Layouts()


@cache
def protection() -> Protection | None:
    """What shall not reach the rows. Whatever is wrong with the settings or the key fails the invocation: no row is
    written unprotected, and the messages wait."""
    drop, hashed = names(os.environ.get("DROP_FIELDS", "")), names(os.environ.get("HASH_FIELDS", ""))
    if not drop and not hashed:
        return None
    return Protection(drop, hashed, _hash_key() if hashed else b"")


def _hash_key() -> bytes:
    import boto3  # half a second, and of the Lambda runtime: only those pay it who hash

    client = boto3.client("secretsmanager")
    return client.get_secret_value(SecretId=os.environ["HASH_KEY_ARN"])["SecretString"].encode()


@cache
def lake() -> Lake:
    return Lake(os.environ["LAKE_BUCKET"], _allow_http())


@cache
def _output_format() -> str:
    return os.environ.get("OUTPUT_FORMAT", "PARQUET")


@cache
def _allow_http() -> bool:
    """For a local S3 only; explicit client options replace what obstore reads from the environment."""
    return os.environ.get("AWS_ALLOW_HTTP") == "true"
