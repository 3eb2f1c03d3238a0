"""Every 15 minutes: what Bird has is compared with what is here, what is missing is fetched, and the verdicts are kept.

Addresses and ARNs come from the environment, which only a deployment can change, because the API key goes to that
address; from the event, only the webhook's id. A run ends before the next one begins.
"""

import gzip
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from reconcile import pipeline
from reconcile.api_key import UnusableSettingError, api_key
from reconcile.as_webhook import values
from reconcile.athena import Athena
from reconcile.cells import Times
from reconcile.counting import AthenaOurs, Here
from reconcile.early_warning import raw_name
from reconcile.events_api import CallBudget, EventsApi, Webhook
from reconcile.filling import Filled, Limits, fill
from reconcile.metrics import counted
from reconcile.proved import Cell
from reconcile.raw_batches import RawBatches
from reconcile.rounds import Bounds, Round
from reconcile.tombstones import Erased
from reconcile.verdicts import Verdicts, row

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

CALLS_A_RUN = 140
CALLS_A_DAY = 3000
RESERVED_SECONDS = 90  # for what a run writes at its end, and for one answer of Bird's
AWS_LIMITS = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
BATCHES_READ = 200  # by one calibration
MOST_BYTES = 64 * 1024 * 1024  # of a raw batch, no longer compressed
NOT_FILLED = ("filling_did_not_help", "events_held", "calibration_failed")
ABSENT = ("404", "NoSuchKey", "NotFound")


def lambda_handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The facts of the run. Errors: those of AWS; whatever Bird answers is a fact."""
    now = datetime.now(UTC)
    settings = os.environ
    files = LakeFiles(s3(), settings["LAKE_BUCKET"])
    verdicts = Verdicts(files)
    facts: dict[str, Any]
    try:
        key = read_key()
    except (ClientError, BotoCoreError, UnusableSettingError) as error:
        reason = str(error) if isinstance(error, UnusableSettingError) else type(error).__name__
        logger.error("the API key cannot be read", extra={"reason": reason})
        facts = {"access_failures": 1}
    else:
        facts = one_run(now, verdicts, key, str(event["webhook_id"]), seconds_left(context)).run()
    facts = with_zeros({**facts, "filling_failed": sum(facts.get(name, 0) for name in NOT_FILLED)})
    name = settings.get("AWS_LAMBDA_FUNCTION_NAME", "local")
    logger.info("compared with Bird", extra=counted(facts, name, now))
    return facts


def with_zeros(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm recovers by a 0."""
    names = ("missing_events", "surplus_events", "unproved_old_hours", "batches_failing", "batches_lost")
    more = ("filled_events", "filling_failed", "bounds_reached", "access_failures")
    return {**dict.fromkeys((*names, *more), 0), **facts}


def one_run(now: datetime, verdicts: Verdicts, key: str, webhook_id: str, seconds: float) -> Round:
    settings = os.environ
    scale = float(settings.get("TIME_SCALE", "1"))  # the local AWS sets it; the template does not
    left = CALLS_A_DAY - int(verdicts.state().get("calls", {}).get(str(now.date()), 0))
    calls = CallBudget(max(0, min(CALLS_A_RUN, left)), stop_at=time.monotonic() + seconds)
    url, subaccount = settings["BIRD_API_URL"], settings["BIRD_SUBACCOUNT"]
    account = verdicts.calibration().get("account")  # whose events were the webhook's
    api = EventsApi(url, key, calls, lambda pause: time.sleep(pause / scale), account, subaccount)
    raw = Raw(s3(), settings["RAW_BUCKET"], settings["RAW_PREFIX"], former_places(settings))
    athena = Athena(boto3.client("athena", config=AWS_LIMITS), settings["ATHENA_WORKGROUP"], settings["GLUE_DATABASE"])
    ours = AthenaOurs(athena, read_address, of_text=settings["OUTPUT_FORMAT"] == "CSV")
    store = RawBatches(s3(), settings["RAW_BUCKET"], settings["RAW_PREFIX"])

    @cache
    def webhook() -> Webhook:
        return api.webhook(webhook_id)

    @cache
    def erased() -> Erased:
        key = read_secret(settings["TOMBSTONE_KEY_ARN"]).encode()
        return Erased(s3(), settings["LAKE_BUCKET"], key)

    def filled(since: datetime, until: datetime, types: Sequence[str], events: int) -> Filled:
        limits = Limits(events)
        return fill(api, ours, store, erased(), since, until, types, limits, webhook(), known_to_differ=True)

    return Round(
        api,
        ours,
        verdicts,
        filled,
        raw.sent,
        raw.is_stored,
        held_by,
        hand_over,
        webhook_id,
        now,
        times_of(scale),
        Bounds(),
    )


def times_of(scale: float) -> Times:
    usual = Times()
    return Times(
        total=usual.total / scale,
        types=usual.types / scale,
        day_2=usual.day_2 / scale,
        day_9=usual.day_9 / scale,
        again=usual.again / scale,
    )


def seconds_left(context: Any) -> float:
    return float(context.get_remaining_time_in_millis()) / 1000 - RESERVED_SECONDS


def held_by() -> str | None:
    settings = os.environ
    return pipeline.held_by(
        pipeline.work(
            boto3.client("sqs", config=AWS_LIMITS),
            boto3.client("cloudwatch", config=AWS_LIMITS),
            settings["PROCESS_QUEUE_URL"],
            settings["PROCESS_DEAD_LETTER_QUEUE_URL"],
            settings["PROCESS_FUNCTION"],
            datetime.now(UTC),
        )
    )


def hand_over(cells: Sequence[Cell]) -> bool:
    """To the loader of PostgreSQL, which reaches the database; a date at once. A failure is no error of the run."""
    loader = os.environ["LOAD_POSTGRES_FUNCTION"]
    if not loader:
        return True
    by_hour = sorted(cells, key=lambda cell: cell.hour)
    parts = [[row(cell) for cell in group] for _, group in groupby(by_hour, key=lambda cell: cell.hour.date())]
    for part in parts:
        payload = json.dumps({"verdicts": part}).encode()
        try:
            answer = boto3.client("lambda", config=AWS_LIMITS).invoke(FunctionName=loader, Payload=payload)
        except (ClientError, BotoCoreError) as error:
            logger.warning("verdicts not in PostgreSQL", extra={"reason": type(error).__name__})
            return False
        if "FunctionError" in answer:
            logger.warning("verdicts not in PostgreSQL", extra={"reason": answer["FunctionError"]})
            return False
    return True


def read_key() -> str:
    """Errors: ClientError, UnusableSettingError."""
    return api_key(read_secret(os.environ["BIRD_API_KEY_SECRET_ARN"]))


def read_secret(arn: str) -> str:
    client = boto3.client("secretsmanager", region_name=arn.split(":")[3], config=AWS_LIMITS)
    return str(client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")["SecretString"])


def read_address(address: str) -> bytes:
    """An object by its s3:// address."""
    parts = urlsplit(address)
    return s3().get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))["Body"].read()


@dataclass(frozen=True)
class LakeFiles:
    s3: "S3Client"
    bucket: str

    def read(self, key: str) -> bytes | None:
        try:
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise

    def write(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)


def former_places(settings: Mapping[str, str]) -> list[tuple[str, str]]:
    named = [place.partition("/") for place in settings.get("FORMER_RAW_PLACES", "").split(",") if place]
    return [(bucket, prefix) for bucket, _, prefix in named]


@dataclass(frozen=True)
class Raw:
    """The raw batches, as they were sent."""

    s3: "S3Client"
    bucket: str
    prefix: str
    former: Sequence[tuple[str, str]] = ()  # bucket and prefix of each place where batches lay before
    read: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = field(default_factory=dict)

    def is_stored(self, batch_id: str) -> bool:
        """Bird tells of batches of a day, and the bucket or prefix may have been changed since."""
        name = raw_name(batch_id)
        if self._has(self.bucket, f"{self.prefix}/{name}", ABSENT):
            return True
        # A former bucket may be gone or be closed to the role by its policy: then it has no batch for us.
        return any(self._has(bucket, f"{prefix}/{name}", (*ABSENT, "403")) for bucket, prefix in self.former)

    def _has(self, bucket: str, key: str, absent: Sequence[str]) -> bool:
        try:
            self.s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in absent:
                return False
            raise
        return True

    def sent(self, here: Here) -> Mapping[str, Any] | None:
        """The fields of an event as its batch has them; None if the batch is gone, or after many."""
        if here.batch_id not in self.read:
            if len(self.read) >= BATCHES_READ:
                return None
            self.read[here.batch_id] = self.events_of(here.batch_id)
        return self.read[here.batch_id].get((here.type, here.event_key))

    def events_of(self, batch_id: str) -> dict[tuple[str, str], Mapping[str, Any]]:
        try:
            body = self.s3.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{batch_id}.json")["Body"].read(MOST_BYTES)
            if body[:2] == b"\x1f\x8b":
                with gzip.open(BytesIO(body)) as unzipped:
                    body = unzipped.read(MOST_BYTES)
            elements = values(body)
        except (ClientError, OSError, EOFError, ValueError, RecursionError):  # gone, archived, damaged, nested too deep
            return {}
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for element in elements if isinstance(elements, list) else []:
            by_class = element.get("msys") if isinstance(element, dict) else None
            for fields in by_class.values() if isinstance(by_class, dict) else ():
                if isinstance(fields, dict):
                    found[(str(fields.get("type")), str(fields.get("event_id")))] = fields
        return found


@cache
def s3() -> "S3Client":
    return boto3.client("s3", config=AWS_LIMITS)
