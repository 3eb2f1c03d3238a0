"""The hour, a deployment or the operator -> the table's partitions true, dates closed, old files deleted.

Every hour: each date has a partition that says where its rows are now; dates that ended long enough ago are closed;
what no reader can be using any more is deleted. A lease keeps runs apart, and erasures from runs.
Deployments call it as a custom resource, before and after the table, to register dates.
The operator may send {"register": true}, or {"close": ["2026-11-24"], "seconds": 120} for dates that cannot wait: such
a run works on these dates alone, begins no step after that time, and answers {"refused": "why"} where it does nothing.
"""

import logging
import os
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.exceptions import ClientError
from obstore.exceptions import PermissionDeniedError

from process import day_state, unshown
from process.close_day import (
    LIMITS,
    READ_AT_ONCE,
    RESERVED_SECONDS,
    CloseDay,
    FileGoneError,
    Limits,
    OutOfTimeError,
    small_folder,
)
from process.cloudformation import AWS_LIMITS, answer_to, seconds_left, send, stack_status, when_allowed
from process.day_state import DayState, state_key
from process.lake_files import ChangedError, HeldError, LakeFiles, LakeUnavailableError
from process.partitions import Partitions

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

NAMESPACE = "BirdWebhooks"
# So that no row is invisible if this function stands still for weeks.
BACK = AHEAD = timedelta(days=31)
# Of dates that were never closed, so many a run; the newest first.
NEW_DAYS_PER_RUN = 10
# Files that come while a date is being closed make a further version before readers are sent to it: so many at most.
MOST_VERSIONS_BEFORE_MOVE = 3
# A run ends before its lease: Lambda ends it after 15 minutes at most.
LEASE_SECONDS = 16 * 60
# A date without small files may have a version to announce, and within this time one to delete. So each run looks at
# the states written since so long before the last run that got through all of its dates, however long ago that was.
RECENT = timedelta(days=3)
LOOKED = "maintenance/looked.json"
ANSWER_RESERVE_SECONDS = 30
LEASE_PAUSE_SECONDS = 5


class MaintenanceError(Exception):
    """Some dates failed; the log has each with its reason."""


class RefusedError(Exception):
    """What the operator asked for cannot be done; the text says why."""


class Looked(msgspec.Struct):
    """When the last run began that got through all of its dates."""

    at: datetime


class NoTableError(RefusedError):
    """The table is not there: it was dropped, or its stack was deleted."""


@dataclass(frozen=True)
class Settings:
    database: str
    csv: bool
    close_days: bool
    close_after: timedelta
    topic: str


def lambda_handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    if "RequestType" in event:
        answer_deployment(event, context)
        return {}
    run = Run(lake_files(), settings(), _stop_at(context, event.get("seconds")))
    if not event.keys() & {"register", "close"}:
        return maintained(run, [])
    try:
        return {"registered": register(run)} if "register" in event else closed(run, event["close"])
    except RefusedError as refused:  # not a failure of the function, so it counts for no alarm
        return {"refused": str(refused)}


def closed(run: "Run", dates: Iterable[str]) -> dict[str, Any]:
    """Errors: RefusedError."""
    asked = [date.fromisoformat(text) for text in dates]
    if run.settings.csv:
        raise RefusedError("CSV files are not closed: OutputFormat is CSV")
    if open_ones := [str(day) for day in asked if not day_state.ended(day, run.now())]:
        raise RefusedError(f"{', '.join(open_ones)} has not ended yet (UTC)")
    return maintained(run, asked)


def maintained(run: "Run", asked: Iterable[date]) -> dict[str, Any]:
    """Errors: NoTableError, MaintenanceError."""
    owner = f"maintenance {uuid.uuid4()}"
    try:
        lease = run.files.take_lease(owner, run.now(), LEASE_SECONDS)
    except HeldError:
        logger.info("another run, or an erasure, is at work")
        return {"held": True}
    try:
        outcome = run.work(asked)
    finally:
        run.files.give_back_lease(owner, run.now(), lease)
        name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local")
        logger.info("table maintenance ended", extra=counted(run.counts, len(run.reasons), name, run.now()))
    if run.reasons:
        raise MaintenanceError("; ".join(f"{day}: {reason}" for day, reason in sorted(run.reasons.items())))
    return outcome


def answer_deployment(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait until the resource's ServiceTimeout."""
    answer = answer_to(event, "registered-partitions")
    seconds = seconds_left(context) - ANSWER_RESERVE_SECONDS
    try:
        if event["RequestType"] != "Delete":
            run = Run(lake_files(), settings(), time.monotonic() + seconds)
            try:
                made = when_allowed(lambda: deployed(run, created=event["RequestType"] == "Create"), seconds)
                logger.info("dates registered", extra={"registered": made})
            except NoTableError:  # before its creation: the step after it registers
                logger.info("no table yet")
        answer |= {"Status": "SUCCESS", "Data": {}}
    except Exception as error:  # whatever it is, the stack's event must name it
        logger.exception("dates not registered")
        if "ROLLBACK" in stack_status(event["StackId"]):  # a failure here would leave the stack stuck; an hour heals it
            answer |= {"Status": "SUCCESS", "Data": {}}
        else:
            answer |= {"Status": "FAILED", "Reason": f"The table's dates could not be registered: {named(error)}"}
    send(event["ResponseURL"], answer, context)


def deployed(run: "Run", *, created: bool) -> int:
    """How many dates were registered. Errors: S3's denial as AWS's own, which a new role may meet as any other."""
    try:
        if created:  # also after a rollback to a release without this resource, whose process names no batches
            run.files.write(unshown.SINCE, b"", "text/plain")
        return register(run)
    except LakeUnavailableError as error:
        if isinstance(error.__cause__, PermissionDeniedError):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "S3") from error
        raise


def register(run: "Run") -> int:
    """Also without the lease, because it only adds; then what is there gets its new description from the next run."""
    owner = f"maintenance {uuid.uuid4()}"
    lease = None
    while lease is None:
        try:
            lease = run.files.take_lease(owner, run.now(), LEASE_SECONDS)
        except HeldError:
            if run.seconds_left < LEASE_PAUSE_SECONDS or run.waited > 60:
                break
            run.waited += LEASE_PAUSE_SECONDS
            time.sleep(LEASE_PAUSE_SECONDS)
    try:
        partitions = run.partitions()
        locations = run.locations(partitions, everything=True)
        made = partitions.register(locations)
        if lease is not None:
            partitions.point(locations)
    finally:
        if lease is not None:
            run.files.give_back_lease(owner, run.now(), lease)
    return made


@dataclass
class Run:
    """`stop_at` by the monotonic clock. `reasons`: why dates failed, which the next run tries again."""

    files: LakeFiles
    settings: Settings
    stop_at: float
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    limits: Limits = LIMITS
    waited: float = 0
    reasons: dict[date, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> set[date]:
        return {*self.reasons}

    @property
    def seconds_left(self) -> float:
        return self.stop_at - time.monotonic()

    def partitions(self) -> Partitions:
        """Errors: NoTableError."""
        partitions = Partitions.read(glue(), self.settings.database)
        if partitions is None:
            raise NoTableError(f"there is no table events in the database {self.settings.database}")
        return partitions

    def work(self, asked: Iterable[date]) -> dict[str, Any]:
        """With `asked` on those dates alone, also where no further date is closed or a file of theirs is lost.

        Errors: NoTableError; whatever else goes wrong with a date is logged, and the others go on.
        """
        self.files.create(unshown.SINCE)
        partitions = self.partitions()
        locations = self.locations(partitions, everything=False)
        self.counts["registered"] = partitions.register(locations)
        partitions.point(locations)
        self.counts["dates"] = len(partitions.existing)
        if not (self.settings.csv or partitions.csv):
            self._work_on_dates(partitions, set(asked))
        return {**self.counts, "failed": len(self.reasons)}

    def locations(self, partitions: Partitions, *, everything: bool) -> dict[date, str]:
        """Where each date's partition should point, of all that may not do so: a partition that is there and
        described as the table is points where it was moved, unless `everything` is to be looked at, somebody
        deleted the state of a date that was closed, or the stack has got another lake bucket.

        The table's format decides, not the setting's: an update changes this function before the table."""
        prefix = "events-csv/" if partitions.csv else "events/"
        today = self.now().date()
        window = {today + timedelta(days=days) for days in range(-BACK.days, AHEAD.days + 1)}
        states = set(self.files.states())
        with_rows = states | self.files.dates(prefix)
        # As it was found: what is missing is registered now.
        self.counts["without_partition"] = len(with_rows - partitions.existing.keys())
        self.counts[AHEAD_DAYS] = partitions.days_ahead(today)
        ours, closed_to = self._place(""), self._place("closed/")
        stale = {
            day
            for day, there in partitions.existing.items()
            if not partitions.is_described(day)
            or not there.location.startswith(ours)
            or (day not in states and there.location.startswith(closed_to))
        }
        days = [
            day
            for day in window | with_rows | set(partitions.existing)
            if everything or day not in partitions.existing or day in stale
        ]
        closed = [day for day in days if day in states and not partitions.csv]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            read = dict(zip(closed, pool.map(self.files.state, closed), strict=True))
        places = {day: read[day].value.location if day in read else "" for day in days}
        return {day: self._place(place or f"{prefix}event_date={day}/") for day, place in places.items()}

    def _work_on_dates(self, partitions: Partitions, asked: set[date]) -> None:
        now = self.now()
        states = self.files.states()
        looked = self.files.read(LOOKED)
        since = msgspec.json.decode(looked.value, type=Looked).at - RECENT if looked else None
        recent = {day for day, written in states.items() if since is None or written > since}
        dates = asked or {day for day in self.files.dates("events/") | recent if day_state.ended(day, now)}
        begun = 0
        # Those that are closed already and have late files, then the newest.
        for day in sorted(dates, key=lambda day: (day not in states, -day.toordinal())):
            new = day not in states
            if new and not self._may_begin(day, asked, begun):
                continue
            if self.seconds_left < 0:
                self.counts["waiting"] += 1
                continue
            try:
                begun += self._work_on(day, partitions, force=day in asked) and new
            except OutOfTimeError:
                self.counts["unfinished"] += 1
            except ChangedError:
                logger.warning("another run was faster", extra={"event_date": str(day)})
                self.counts["unfinished"] += 1
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # arro3's panics are no Exception; the other dates must not wait for it
                logger.error("date not closed", extra={"event_date": str(day), "reason": named(error)})
                self.reasons[day] = named(error)
        if not (asked or self.reasons or self.counts["unfinished"] or self.counts["waiting"]):
            self.files.write(LOOKED, msgspec.json.encode(Looked(now)), "application/json")

    def _may_begin(self, day: date, asked: set[date], begun: int) -> bool:
        if day in asked:
            return True
        if not self.settings.close_days or not day_state.due(day, self.now(), self.settings.close_after):
            return False
        if begun >= NEW_DAYS_PER_RUN:
            self.counts["waiting"] += 1
            return False
        if day_state.due(day, self.now(), self.settings.close_after + day_state.OVERDUE):
            self.counts["overdue"] += 1
        return True

    def _work_on(self, day: date, partitions: Partitions, *, force: bool) -> bool:
        """Whether a version was made. Errors: see CloseDay.close."""
        found = self.files.state(day)
        work = CloseDay(self.files, found.value, found.etag, self.stop_at, self.now, self.limits, without_lost=force)
        gone = work.state.files_gone
        small = self.files.small_files(small_folder(day))
        late = day_state.late(work.state, small)
        allowed = force or self.settings.close_days or work.state.current is not None
        made = False
        if allowed and (work.state.attempt or late):
            made = work.close(late)
            if made and self._is_open(day, partitions):
                self._take_in_meanwhile(work)
            self.counts["closed"] += made
            self.counts["rows"] += work.state.rows if made else 0
            self.counts["files_gone"] += work.state.files_gone - gone
        if force and gone:  # the operator has seen it, and replayed what was to be had
            work.state.files_gone -= gone
            work.save()
        if work.state.current:
            self._finish(work, partitions)
            self._delete(work, {(file.name, file.etag) for file in small})
        return made

    def _is_open(self, day: date, partitions: Partitions) -> bool:
        """Whether readers read its small files, each as soon as it is written."""
        there = partitions.existing.get(day)
        return there is None or there.location == self._place(small_folder(day))

    def _take_in_meanwhile(self, work: CloseDay) -> None:
        """What came since the version was begun: readers have seen it, and would miss it until the next run."""
        while work.state.number < MOST_VERSIONS_BEFORE_MOVE:
            late = day_state.late(work.state, self.files.small_files(small_folder(work.day)))
            if not late or not work.close(late):
                return

    def _finish(self, work: CloseDay, partitions: Partitions) -> None:
        state = work.state
        location = {work.day: self._place(state.location)}
        there = partitions.existing.get(work.day)
        moved = 0 if partitions.register(location) else partitions.point(location)
        self.counts["moved"] += moved
        if moved and there:
            day_state.left(state, there.location, self.now())
        current = state.current
        if current is None:
            return
        if state.announced == current.name:
            if moved:
                work.save()
            return
        if self.settings.topic:
            sns().publish(
                TopicArn=self.settings.topic,
                Message=message(self.files.bucket, state).decode(),
                MessageAttributes={"event_date": {"DataType": "String", "StringValue": str(state.event_date)}},
            )
        state.announced = current.name
        work.save()

    def _delete(self, work: CloseDay, listed: set[tuple[str, str]]) -> None:
        state, now = work.state, self.now()
        small = day_state.small_to_delete(state, now)
        replaced = day_state.replaced_to_delete(state, now)
        if not small and not replaced and not any(g.at + day_state.SMALL_FILES_STAY <= now for g in state.taken_in):
            return
        self.files.delete_small(small_folder(work.day), [file for file in small if (file.name, file.etag) in listed])
        folders = [f"closed/event_date={work.day}/{version.name}/" for version in replaced]
        self.files.delete([key for folder in folders for key in self.files.keys(folder)])
        day_state.small_deleted(state, now)
        day_state.replaced_deleted(state, replaced)
        work.save()
        self.counts["small_files_deleted"] += len(small)

    def _place(self, key: str) -> str:
        return f"s3://{self.files.bucket}/{key}"


def message(bucket: str, state: DayState) -> bytes:
    """What subscribers are told: which version of which date there is now, and where the manifest is."""
    current = state.current
    files = [f"s3://{bucket}/{state.location}{file.name}" for file in current.files] if current else []
    return msgspec.json.encode(
        {
            "event_date": state.event_date,
            "version": current.name if current else "",
            "files": files if len(files) <= MOST_FILES_IN_MESSAGE else None,
            "rows": state.rows,
            "exact": bool(current and current.exact),
            "manifest": f"s3://{bucket}/{state_key(state.event_date)}",
        }
    )


# SNS takes 256 kB.
MOST_FILES_IN_MESSAGE = 1_000


AHEAD_DAYS = "registered_ahead_days"
# Of the facts of the log line, those that are metrics too. Each costs money in a month in which it is sent, so all but
# the one that has an alarm are sent only if they are not 0.
COUNTED = ("overdue", "files_gone", "without_partition", AHEAD_DAYS)


def counted(counts: Mapping[str, int], failed: int, function_name: str, now: datetime) -> dict[str, Any]:
    """The facts of the log line, some also as metrics (embedded metric format, see process.metrics)."""
    facts = {"overdue": 0, "files_gone": 0, **counts, "failed": failed}
    metrics = [{"Name": name, "Unit": "Count"} for name in COUNTED if facts.get(name) or name == AHEAD_DAYS in facts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}
    stamp = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return {**facts, "FunctionName": function_name, "_aws": stamp}


def named(error: BaseException) -> str:
    """AWS's own code where there is one; otherwise the error's kind and place. Its text may hold anything."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"]
    if isinstance(error, FileGoneError):
        return str(error)
    places = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {places[-1].name}, line {places[-1].lineno}" if places else type(error).__name__


@cache
def lake_files() -> LakeFiles:
    return LakeFiles(os.environ["LAKE_BUCKET"], os.environ.get("AWS_ALLOW_HTTP") == "true")


@cache
def settings() -> Settings:
    return Settings(
        database=os.environ["GLUE_DATABASE"],
        csv=os.environ.get("OUTPUT_FORMAT") == "CSV",
        close_days=os.environ.get("CLOSE_DAYS", "true") == "true",
        close_after=timedelta(hours=int(os.environ.get("CLOSE_AFTER_HOURS", "10"))),
        topic=os.environ.get("CLOSED_DAYS_TOPIC_ARN", ""),
    )


@cache
def glue() -> Any:
    return boto3.client("glue", config=AWS_LIMITS)


@cache
def sns() -> "SNSClient":
    return boto3.client("sns", config=AWS_LIMITS)


def _stop_at(context: Any, seconds: float | None) -> float:
    """When to begin with no further step, by the monotonic clock; after `seconds` at most."""
    left = context.get_remaining_time_in_millis() / 1000 if context else 900
    return time.monotonic() + min(left - RESERVED_SECONDS, seconds or left)
