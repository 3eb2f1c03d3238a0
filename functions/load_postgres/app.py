"""Messages that announce files of rows -> the table `events` in PostgreSQL, each file in one transaction.

While the database is down, nothing is lost but time: what a later try can load goes back to the queue, and waits
longer after each try. What no try can load goes to the dead-letter queue with its reason. This function sends it there
itself, because the queue only counts receptions and cannot tell the two cases apart.

The function reconcile hands over its verdicts by invoking this one: {"verdicts": [...]}, rows of the table `verdicts`.

A file that is gone because its date was closed is no loss: the date's closed files have its rows, and are loaded
instead. Each of them once, part by part, whatever the number of messages.
"""

import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from load_postgres import closed, metrics
from load_postgres.closed import ClosedFile, files_with_rows_of, state_of
from load_postgres.connection import secret_text, settings_of
from load_postgres.database import VIEW_PARAMETERS, Database
from load_postgres.errors import GoneError, NotNowError, PoisonError, UnavailableError, UnfinishedError
from load_postgres.lake import read_closed_file, read_file, read_new_file, write_file
from load_postgres.messages import Message, messages
from load_postgres.notification import PREFIXES, LakeFile, UnreadableMessageError, announced
from load_postgres.quarantine import quarantine_object
from load_postgres.rows import ParquetRows, Rejected, event_date_of, parts_of, rows_of
from load_postgres.schema import json_columns
from load_postgres.table import Loaded, Mark, Part, Quarantine

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

# Enough for one file in the worst case: waits for a connection and for locks, and the longest statements.
MILLISECONDS_FOR_A_FILE = 130_000
# The same for a part of a closed file: one statement, one wait for a lock, one pause of the network.
MILLISECONDS_FOR_A_PART = 80_000
FIRST_WAIT_SECONDS = 30
# With waits of 40 minutes a message is received about 480 times in 13 days; the queue gives up at 600. If the code
# does not run at all, the queue's visibility timeout of half an hour reaches 600 after 12.5 days, before the queue
# drops the message.
LONGEST_WAIT_SECONDS = 2400
# The queue drops a message after 14 days. Before that it goes to the dead-letter queue, which keeps it 14 more days.
GIVE_UP_AFTER_SECONDS = 13 * 86_400
# Tries for a file that fails with an unexpected error: waiting does not fix a bug in this code.
UNEXPECTED_ERROR_TRIES = 5
# Kept for the end of the invocation. A month whose index takes longer than the rest is built by hand:
# docs/downstream/postgresql.md.
RESERVED_SECONDS = 30
AWS_LIMITS = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})


def lambda_handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    if "verdicts" in event:  # of ReconcileFunction, which reaches no database
        database().write_verdicts(event["verdicts"])
        return {"written": len(event["verdicts"])}
    if "Records" not in event:  # the stack's schedule
        drop_months(context.get_remaining_time_in_millis() / 1000 - RESERVED_SECONDS)
        return {}
    done: list[Loaded] = []
    waiting: list[tuple[Message, int]] = []
    poisoned = refused = 0
    unavailable: str | None = None
    for message in messages(event):
        if unavailable or context.get_remaining_time_in_millis() < MILLISECONDS_FOR_A_FILE:
            waiting.append((message, wait_seconds(message) if unavailable else 0))
            continue
        try:
            refused += load(message, done, context.get_remaining_time_in_millis)
        except PoisonError as error:
            poisoned += 1
            if not send_to_dead_letter_queue(message, str(error)):
                waiting.append((message, wait_seconds(message)))
        except UnfinishedError as error:
            logger.info("closed date loaded in part", extra={"message_id": message.message_id, "reason": str(error)})
            waiting.append((message, 0))
        except NotNowError as error:
            logger.error("file not loaded yet", extra={"message_id": message.message_id, "reason": str(error)})
            waiting.append((message, wait_seconds(message)))
            if isinstance(error, UnavailableError):
                unavailable = str(error)  # the other files would fail in the same way
    postpone(waiting)
    log(done, waiting, poisoned, refused)
    if not unavailable and done:
        database().keep_up(context.get_remaining_time_in_millis() / 1000 - RESERVED_SECONDS)
    return {"batchItemFailures": [{"itemIdentifier": message.message_id} for message, _ in waiting]}


def drop_months(seconds: float) -> None:
    """Drop the months that are older than the retention. The next run continues what this one cannot do."""
    reason, months_left = "", 1
    try:
        months_left = database().drop_months(seconds)
    except (PoisonError, NotNowError) as error:
        reason = str(error)
        logger.error("months not dropped yet", extra={"reason": reason})
    facts = {"months_left": months_left, "reason": reason}
    logger.info("retention applied", extra=counted(facts))


def load(message: Message, done: list[Loaded], milliseconds_left: Callable[[], int]) -> int:
    """Load the files that a message announces (S3 announces one). Returns how many of its names were refused.

    Errors: PoisonError, NotNowError, after the message's other files are loaded.
    """
    try:
        files, refused = announced(message.body, os.environ["LAKE_BUCKET"], (*PREFIXES, closed.PREFIX))
    except UnreadableMessageError as error:
        raise PoisonError(f"not the notification of a file of rows: {error}") from error
    if refused:
        logger.warning("name of another bucket or prefix refused", extra={"message_id": message.message_id})
    if files and time.time() - message.sent_at > GIVE_UP_AFTER_SECONDS:
        raise PoisonError("could not be loaded in 13 days: see the log for why, then redrive it")
    first_error: PoisonError | NotNowError | None = None
    for file in files:
        try:
            load_file(file, done, milliseconds_left)
        except UnavailableError:
            raise
        except (PoisonError, NotNowError) as error:
            first_error = first_error or error
        except Exception as error:
            place = described(error)
            if message.receive_count >= UNEXPECTED_ERROR_TRIES:
                raise PoisonError(f"unforeseen: {place}") from None
            first_error = first_error or NotNowError(f"unforeseen: {place}")
    if first_error:
        raise first_error
    return refused


def load_file(file: LakeFile, done: list[Loaded], milliseconds_left: Callable[[], int]) -> None:
    """Errors: PoisonError, NotNowError, and any unexpected error."""
    event_date = event_date_of(file.key)
    if not file.key.startswith(closed.PREFIX):
        try:
            etag, body = read_new_file(
                file, lambda etag: database().is_loaded(event_date, Mark(file.key, etag)), allow_http=_allow_http()
            )
        except GoneError:
            if file.key.endswith(".csv"):  # CSV is never closed
                raise
            logger.info("file gone: the closed files of its date are loaded instead", extra={"lake_key": file.key})
        else:
            mark = Mark(file.key, etag) if etag else None
            loaded = Loaded(0, 0)
            if body is not None:
                loaded = database().load(event_date, rows_of(file.key, body), quarantine_for(file), mark)
            done.append(loaded)
            return
    for one in closed_files(file):
        done.append(load_closed_file(one, event_date, milliseconds_left))


def closed_files(file: LakeFile) -> list[ClosedFile]:
    """Those with the file's rows. Errors: PoisonError, NotNowError."""
    try:
        state = read_file(state_of(file), allow_http=_allow_http())
    except GoneError:
        raise GoneError("the file was deleted before it was loaded, and its date is not closed") from None
    return files_with_rows_of(file, state)


def load_closed_file(one: ClosedFile, event_date: date, milliseconds_left: Callable[[], int]) -> Loaded:
    """What is not loaded yet, in parts, each in one transaction. Errors: PoisonError, NotNowError."""
    key, total = one.file.key, Loaded(0, 0)
    position = database().position(event_date, key, again=one.rows if one.again else 0)
    if position >= one.rows:
        return total
    try:
        body = read_closed_file(one.file, allow_http=_allow_http())
    except GoneError:
        raise NotNowError("the date was closed again meanwhile: the next try reads its state again") from None
    begin = 0
    for table in parts_of(body):
        end = begin + table.num_rows
        if position < end:
            if milliseconds_left() < MILLISECONDS_FOR_A_PART:
                break
            part = Part(key, event_date, begin, end)
            rows = ParquetRows(table, event_date)
            position, loaded = database().load_part(part, rows, quarantine_for(one.file, begin))
            total = Loaded(*(sum(pair) for pair in zip(total, loaded, strict=True)))
        begin = end
    else:
        if begin != one.rows:  # what the file has is loaded, and no later try finds more
            facts = f"the closed file has {begin} rows, and its date's state says {one.rows}"
            raise PoisonError(f"{facts}: somebody wrote over it")
    if position < one.rows:
        raise UnfinishedError(f"{position} of {one.rows} rows of {key} are loaded")
    return total


def quarantine_for(file: LakeFile, first_row: int = 0) -> Quarantine:
    def quarantine(rejected: Sequence[Rejected]) -> None:
        key, body = quarantine_object(file, rejected, json_columns(), datetime.now(UTC), first_row)
        write_file(file.bucket, key, body, allow_http=_allow_http())

    return quarantine


def described(error: Exception) -> str:
    """The error's type and place, without its text, which may hold a value of a row."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"


def log(done: Sequence[Loaded], waiting: Sequence[tuple[Message, int]], poisoned: int, refused: int) -> None:
    rows, new = sum(one.rows for one in done), sum(one.new for one in done)
    rejected, too_old = sum(one.rejected for one in done), sum(one.too_old for one in done)
    now = time.time()
    facts = {
        "files": len(done),
        "rows": rows,
        "rows_known_before": rows - new - rejected - too_old,
        "rows_rejected": rejected,
        "rows_older_than_retention": too_old,
        "files_waiting": len(waiting),
        "waiting_seconds": round(max((now - message.sent_at for message, _ in waiting), default=0)),
        "files_poisoned": poisoned,
        "names_refused": refused,
    }
    logger.info("files loaded", extra=counted(facts))


def counted(facts: dict[str, Any]) -> dict[str, Any]:
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    return metrics.counted(facts, name, datetime.now(UTC))


def wait_seconds(message: Message) -> int:
    """30 seconds, 1 minute, 2 minutes, … up to 40 minutes."""
    return min(FIRST_WAIT_SECONDS << min(message.receive_count - 1, 10), LONGEST_WAIT_SECONDS)


def send_to_dead_letter_queue(message: Message, reason: str) -> bool:
    """Send a message that cannot be loaded to the dead-letter queue. Returns whether that worked."""
    logger.error("file cannot be loaded", extra={"message_id": message.message_id, "reason": reason})
    try:
        sqs().send_message(
            QueueUrl=os.environ["DEAD_LETTER_QUEUE_URL"],
            MessageBody=message.body,
            MessageAttributes={"Reason": {"DataType": "String", "StringValue": reason[:1000]}},
        )
    except (BotoCoreError, ClientError) as error:
        logger.error("dead letter not sent", extra={"reason": type(error).__name__})
        return False
    return True


def postpone(waiting: Sequence[tuple[Message, int]]) -> None:
    """Set when each message is delivered again. If that fails, the queue's visibility timeout applies: half an hour."""
    if not waiting:
        return
    entries = [
        {"Id": str(number), "ReceiptHandle": message.receipt_handle, "VisibilityTimeout": seconds}
        for number, (message, seconds) in enumerate(waiting)
    ]
    try:
        answer = sqs().change_message_visibility_batch(QueueUrl=os.environ["QUEUE_URL"], Entries=entries)  # type: ignore[arg-type]
        if failed := answer.get("Failed"):
            logger.warning("waits not set", extra={"reason": failed[0]["Code"]})
    except (BotoCoreError, ClientError) as error:
        logger.warning("waits not set", extra={"reason": type(error).__name__})


def secret() -> dict[str, Any]:
    """The connection's settings. Errors: UnavailableError."""

    def client(region: str | None) -> "SecretsManagerClient":
        return boto3.client("secretsmanager", region_name=region, config=AWS_LIMITS)

    try:
        text = secret_text(os.environ["POSTGRES_SECRET_ARN"], client)
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(f"the secret could not be read: {type(error).__name__}") from error
    return settings_of(text)


@cache
def database() -> Database:
    """One connection, kept as long as the execution environment lives."""
    parameters = {
        "SoftBounceLimit": os.environ.get("SOFT_BOUNCE_LIMIT", VIEW_PARAMETERS["SoftBounceLimit"]),
        "SoftBounceDays": os.environ.get("SOFT_BOUNCE_DAYS", VIEW_PARAMETERS["SoftBounceDays"]),
    }
    return Database(
        read_secret=secret,
        schema=os.environ["POSTGRES_SCHEMA"],
        verify=os.environ.get("POSTGRES_TLS", "VERIFY_FULL") != "REQUIRE",
        view_parameters=parameters,
        retention_months=int(os.environ.get("POSTGRES_RETENTION_MONTHS", "0")),
    )


@cache
def sqs() -> "SQSClient":
    return boto3.client("sqs", config=AWS_LIMITS)


@cache
def _allow_http() -> bool:
    """For a local S3 only. Explicit client options replace what obstore reads from the environment."""
    return os.environ.get("AWS_ALLOW_HTTP") == "true"
