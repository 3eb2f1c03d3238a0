"""The state of the stack in one screen. A line that may not be read says so, and the others are shown."""

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from io import StringIO
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import names
from bird_webhooks.operate import (
    accepting,
    completeness,
    dates,
    existing_bucket,
    lease,
    put_back,
    quarantine,
    rotation,
    unannounced,
)
from bird_webhooks.operate.batches import PAGE_KEYS
from bird_webhooks.operate.counts import NONE, Count, Metric, count_of, counts
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json
from ingest.metrics import REASONS
from process import day_state
from reconcile import calibration
from reconcile.proved import LOOK_BACK, State, proved_until, sentence

DAY = timedelta(days=1)
PERIOD_SECONDS = 300
# Of states that were written last, as many are read: those of unfinished dates are among them.
STATES_READ = 20
REFUSED = [Metric("IngestFunction", "requests_rejected", reason) for reason in [*sorted(REASONS), "other"]]
NOT_STORED = Metric("IngestFunction", "batches_not_stored")
# What is so recent may still go on: longer than the 15 minutes after which the queue tries a message again.
RECENT = timedelta(minutes=20)
CLEAR = "\x1b[2J\x1b[H"


class Health(IntEnum):
    """As the exit status of `status --check`: the numbers that monitoring systems expect of a check."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


class Line(NamedTuple):
    """One line of the screen, and the same for programs."""

    text: str
    facts: Any
    health: Health = Health.OK


def show(stack: Stack, *, as_json: bool, check: bool = False, watch: float | None = None) -> int:
    """The exit status: with `check` the worst health of a line, otherwise 0. `watch`: again after so many seconds."""
    while watch is not None:
        screen = StringIO()
        with redirect_stdout(screen):
            show_once(stack, as_json=False)
        print(f"{CLEAR if sys.stdout.isatty() else ''}{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n{screen.getvalue()}")
        time.sleep(watch)
    health = show_once(stack, as_json=as_json)
    return int(health) if check else 0


def show_once(stack: Stack, *, as_json: bool) -> Health:
    lines: list[tuple[str, Callable[[Stack], Line]]] = [
        ("stack", deployment),
        ("front door", front_door),
        ("who may send", senders),
        ("credentials", credentials),
        ("buckets", buckets),
        ("last batch", last_batch),
        ("refused, 24 h", refused),
        ("queue", queue),
        ("dead letters", dead_letters),
        ("import", imports),
        ("PostgreSQL", postgres),
        ("event bus", event_bus),
        ("rows", rows),
        ("table", table),
        ("dates", dates_closed),
        ("completeness", complete),
        ("maintenance", maintenance),
        ("quarantined", quarantined),
        ("errors, 24 h", errors),
        ("alarms", alarms),
        ("dashboard", dashboard),
    ]
    stack = replace(stack)  # one that has asked AWS nothing yet
    _ = stack.described  # no stack is an error, not a line
    document: dict[str, Any] = {}
    unhealthy: dict[str, Health] = {}
    for name, line in lines:
        try:
            text, facts, health = line(stack)
        except ClientError as error:
            text, facts, health = not_known(f"{error.operation_name} says {error.response['Error']['Code']}")
        except OperateError as error:  # a stack of another release lacks an output
            text, facts, health = not_known(str(error))
        if not text:  # a part that this stack does not have
            continue
        if not as_json:
            print(f"{name:<14}{text}")
        document[name.replace(", ", "_").replace(" ", "_")] = facts
        if health:
            unhealthy[name] = health
    worst = max(unhealthy.values(), default=Health.OK)
    causes = [name for health in (Health.CRITICAL, Health.WARNING) for name, own in unhealthy.items() if own is health]
    if as_json:
        print_json({"health": worst.name, "because_of": causes, **document})
    else:
        print(f"{'health':<14}{worst.name}{f': {", ".join(causes)}' if causes else ''}")
    return worst


def not_known(why: str) -> Line:
    return Line(f"not known: {why}", {"not_known": why}, Health.WARNING)


def deployment(stack: Stack) -> Line:
    found = stack.described
    status, changed = found["StackStatus"], found.get("LastUpdatedTime", found["CreationTime"])
    text = f"{stack.name} {status}, last changed {changed:%Y-%m-%d %H:%M} UTC"
    failed = "FAILED" in status or "ROLLBACK" in status
    facts = {"name": stack.name, "status": status, "changed_at": changed}
    return Line(text, facts, Health.WARNING if failed else Health.OK)


def front_door(stack: Stack) -> Line:
    kind, url = kind_of_front_door(stack.parameters), stack.output("WebhookUrl")
    return Line(f"{kind} {url}", {"kind": kind, "url": url})


def kind_of_front_door(parameters: dict[str, str]) -> str:
    """The one-click stack has no choice."""
    return parameters.get("FrontDoor", "HTTP_API")


def senders(stack: Stack) -> Line:
    parameters = stack.parameters
    names = ("SenderHostName", "SenderPrefixListId", "SenderCidrs")
    behind_alb = kind_of_front_door(parameters) == "ALB"
    said = next((parameters[name] for name in names if parameters.get(name)), "?") if behind_alb else "any address"
    return Line(said, said)


def credentials(stack: Stack) -> Line:
    auth = stack.parameters["WebhookAuth"]
    if auth not in ("BASIC", "HEADER"):
        text = {"OAUTH2": "OAUTH2, verified by the load balancer"}.get(auth, f"{auth}: every sender is accepted")
        return Line(text, {"auth": auth})
    rotating = rotation.state(stack)
    text = "; ".join(filter(None, [auth, f"rotation: {rotating.words}", accepting.words(rotating)]))
    facts = {"auth": auth, "rotation": rotating.words, "also_accepted": accepting.is_open(rotating)}
    return Line(text, facts)


def buckets(stack: Stack) -> Line:
    """Buckets that the stack has not made, with what they lack; and where data lay before."""
    parameters = stack.parameters
    parts, lacks = [], False
    for name in ("Raw", "Lake"):
        if bucket := parameters.get(f"Existing{name}Bucket"):
            missing = existing_bucket.lacks(stack, bucket, raw=name == "Raw")
            lacks |= bool(missing)
            parts.append(f"{name.lower()} {bucket} was there before" + f", {'; '.join(missing)}" * bool(missing))
    parts += [f"raw batches also in {place}" for place in stack.former_raw_places]
    parts += [f"rows also in s3://{lake}/, which no query sees" for lake in stack.former_lakes]
    text = f"\n{'':<14}".join(parts)
    return Line(text, parts, Health.WARNING if lacks else Health.OK)


def refused(stack: Stack) -> Line:
    """Requests that ingest refused, by reason, and batches that S3 did not take."""
    found = counts(stack, [*REFUSED, NOT_STORED])
    not_stored = found.pop(NOT_STORED, NONE)
    by_reason = {metric.reason: count for metric, count in found.items() if count.number}
    parts = [f"{count.number:,} {reason}, last {clock(count)}" for reason, count in by_reason.items()]
    if not_stored.number:
        parts.append(f"{not_stored.number:,} not stored (503), last {clock(not_stored)}")
    facts = {
        "refused": {reason: count._asdict() for reason, count in by_reason.items()},
        "not_stored": not_stored._asdict(),
    }
    health = Health.WARNING if any(map(recent, by_reason.values())) else Health.OK
    return Line("; ".join(parts) or "0", facts, Health.CRITICAL if recent(not_stored) else health)


def recent(count: Count) -> bool:
    return count.last is not None and datetime.now(UTC) - count.last < RECENT


def clock(count: Count) -> str:
    return f"{count.last:%H:%M}" if count.last else "?"


def last_batch(stack: Stack) -> Line:
    """Exact while one listing holds all; then from the queue's own count of what S3 announced."""
    page = stack.s3.list_objects_v2(
        Bucket=stack.output("RawBucketName"), Prefix=f"{stack.raw_prefix}/", MaxKeys=PAGE_KEYS
    )
    if not page["IsTruncated"]:
        before, items = put_back.times(stack), page.get("Contents", [])
        times = [before.get(item["Key"], item["LastModified"]) for item in items]
        if not times:
            return Line("none yet", {"batches": 0})
        place = stack.raw_places[0]
        in_parts = [
            item["Key"]
            for item in items
            if unannounced.uploaded_in_parts(item)
            and item["Key"] not in before
            and not names.identity(unannounced.batch_id(place, item["Key"]))
        ]
        text = f"stored {max(times):%Y-%m-%d %H:%M:%S} UTC; {len(times):,} in all"
        if in_parts:
            text += f"; {len(in_parts):,} copied in parts, which S3 does not announce: `verify` says which have no rows"
        return Line(text, {"stored_at": max(times), "batches": len(times), "copied_in_parts": len(in_parts)})
    name = stack.output("ProcessQueueUrl").rpartition("/")[2]
    points = metric(stack, "AWS/SQS", "NumberOfMessagesSent", "QueueName", name, "Sum", DAY)
    busy = [(time, value) for time, value in points if value]
    if not busy:
        return Line("none in 24 hours", {"batches_24_h": 0})
    last, count = max(busy)[0], sum(value for _, value in busy)
    text = f"stored within 5 minutes from {last:%Y-%m-%d %H:%M} UTC; {count:,.0f} in 24 hours"
    return Line(text, {"stored_after": last, "batches_24_h": int(count)})


def queue(stack: Stack) -> Line:
    """A message that has failed stays taken until its next try; only process itself tells that from one in work."""
    url = stack.output("ProcessQueueUrl")
    waiting, taken = messages_in(stack, url)
    failed = count_of(stack, Metric("ProcessFunction", "messages_failed"))
    queue_name, quarter_hour = url.rpartition("/")[2], timedelta(minutes=15)
    points = metric(stack, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue_name, "Maximum", quarter_hour)
    oldest = max(points)[1] if points else None
    age = "" if oldest is None else f", oldest {oldest:,.0f} s"
    going_on = taken > 0 and recent(failed)
    state = "failed and waiting for their next try, or being processed" if going_on else "being processed"
    text = f"{waiting:,} waiting, {taken:,} {state}{age}"
    if failed.number:
        text += f"; {failed.number:,} failures in 24 h, last {clock(failed)}"
    facts = {"waiting": waiting, "taken": taken, "oldest_seconds": oldest, "failures_24_h": failed._asdict()}
    return Line(text, facts, Health.WARNING if recent(failed) else Health.OK)


def messages_in(stack: Stack, url: str) -> tuple[int, int]:
    """How many wait, and how many were taken and are not done."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def dead_letters(stack: Stack) -> Line:
    count, _ = messages_in(stack, stack.output("ProcessDeadLetterQueueUrl"))
    return Line(
        f"{count:,}" + (": see `redrive --dry-run`" if count else ""), count, Health.CRITICAL if count else Health.OK
    )


def postgres(stack: Stack) -> Line:
    """With a retention also how many months the last run of the schedule left."""
    text, facts, health = further_queue(stack, "Postgres", "LoadPostgresFunction", "files_waiting", "postgres")
    if not text or stack.parameters.get("PostgresRetentionMonths", "0") == "0":
        return Line(text, facts, health)
    function = stack.resources["LoadPostgresFunction"][1]
    points = metric(stack, "BirdWebhooks", "months_left", "FunctionName", function, "Maximum", DAY)
    left = int(max(points)[1]) if points else None
    text += "" if left is None else f"; {left:,} months to drop"
    return Line(text, {**facts, "months_left": left}, health)


def imports(stack: Stack) -> Line:
    """What `import` has handed over. Batches that no queue was told of are not looked for: that reads all keys."""
    if "ImportQueueUrl" not in stack.outputs:
        return Line("", {})
    waiting, taken = messages_in(stack, stack.output("ImportQueueUrl"))
    dead, _ = messages_in(stack, stack.output("ImportDeadLetterQueueUrl"))
    text = f"{waiting + taken:,} messages waiting; {dead:,} dead letters"
    text += ": see `redrive --queue import --dry-run`" if dead else ""
    text += "; batches that no queue was told of: `verify` looks for them"
    facts = {"waiting": waiting + taken, "dead_letters": dead, "unannounced": None}
    return Line(text, facts, Health.CRITICAL if dead else Health.OK)


def event_bus(stack: Stack) -> Line:
    return further_queue(stack, "PublishEvents", "PublishEventsFunction", "files_failed", "events")


def further_queue(stack: Stack, outputs: str, function: str, failures: str, name: str) -> Line:
    """Files of rows on their way to PostgreSQL or to the bus; nothing where the stack has no such part."""
    if f"{outputs}QueueUrl" not in stack.outputs:
        return Line("", {})
    waiting, taken = messages_in(stack, stack.output(f"{outputs}QueueUrl"))
    dead, _ = messages_in(stack, stack.output(f"{outputs}DeadLetterQueueUrl"))
    failed = count_of(stack, Metric(function, failures))
    text = f"{waiting + taken:,} files waiting"
    if failed.number:
        text += f" (last failure {clock(failed)})"
    text += f"; {dead:,} dead letters" + (f": see `redrive --queue {name} --dry-run`" if dead else "")
    facts = {"waiting": waiting + taken, "dead_letters": dead, "failures_24_h": failed._asdict()}
    health = Health.WARNING if waiting + taken and recent(failed) else Health.OK
    return Line(text, facts, Health.CRITICAL if dead else health)


def rows(stack: Stack) -> Line:
    """Days with rows in the format of the stack, and those that a change of OutputFormat left in the other."""
    written = stack.parameters["OutputFormat"]
    days = {name: dates.with_folder(stack, prefix) for name, prefix in dates.OPEN.items()}
    days["PARQUET"] |= dates.with_folder(stack, dates.CLOSED)  # small files of closed dates are deleted
    text = f"{len(days[written]):,} days in {written}"
    for other in days.keys() - {written}:
        if days[other]:
            only = len(days[other] - days[written])
            text += (
                f"; {len(days[other]):,} in {other}, {only:,} of them only there: Athena does not see them; `replay`"
            )
            text += f" writes them in {written} too (docs/operating.md, Another format)"
    return Line(text, {"format": written, "days": {name: len(found) for name, found in days.items()}})


def table(stack: Stack) -> Line:
    """How far ahead dates are registered, and which have rows that no query sees."""
    found = dates.partitions(stack)
    if found is None:
        return Line("there is no table events: deploy the stack again", {"registered": 0}, Health.CRITICAL)
    prefix = dates.OPEN[stack.parameters["OutputFormat"]]
    with_rows = dates.with_folder(stack, prefix) | dates.states(stack).keys()
    without = sorted(with_rows - found.existing.keys())
    ahead = found.days_ahead(datetime.now(UTC).date())
    text = f"{len(found.existing):,} dates registered, {ahead} days ahead"
    if without:
        text += f"; {len(without):,} WITHOUT A PARTITION, not visible until the next hour or `close --register`: "
        text += ", ".join(map(str, without[:5])) + ("…" if len(without) > 5 else "")
    facts = {"registered": len(found.existing), "ahead_days": ahead, "without_partition": list(map(str, without))}
    return Line(text, facts, Health.WARNING if without else Health.OK)


def dates_closed(stack: Stack) -> Line:
    """Open and closed dates by where the table's partitions point, and what has not been done."""
    parameters, now = stack.parameters, datetime.now(UTC)
    if parameters["OutputFormat"] == "CSV":
        return Line("all open: CSV is never closed", {"closed": 0})
    found, written = dates.partitions(stack), dates.states(stack)
    closed = {day for day, where in (found.existing if found else {}).items() if dates.is_closed(where.location)}
    folders = dates.with_folder(stack, dates.OPEN["PARQUET"])
    still_open = sorted(folders - closed)
    close_after = timedelta(hours=int(parameters.get("CloseAfterHours", 10))) + day_state.OVERDUE
    closing = parameters.get("CloseDays") == "true"
    overdue = [day for day in still_open if closing and day_state.due(day, now, close_after)]
    states = [dates.state(stack, day) for day in sorted(written, key=lambda day: written[day])[-STATES_READ:]]
    newest = max((state for state in states if state.closed_at), key=lambda state: state.event_date, default=None)
    unfinished = sorted(state.event_date for state in states if state.attempt)
    gone = {str(state.event_date): state.files_gone for state in states if state.files_gone}
    text = f"{len(still_open):,} open, {len(closed):,} closed"
    if newest and newest.closed_at:
        text += f", the newest {newest.event_date} (at {newest.closed_at:%Y-%m-%d %H:%M} UTC)"
    text += "" if closing else "; CloseDays is off"
    text += f"; {len(unfinished):,} being closed" if unfinished else ""
    text += f"; {len(overdue):,} OVERDUE, the oldest {overdue[0]}: see `close --date`" if overdue else ""
    text += f"; FILES WERE GONE before they were read, of {', '.join(gone)}: see `replay`" if gone else ""
    facts = {
        "open": len(still_open),
        "closed": len(closed),
        "newest_closed": str(newest.event_date) if newest else None,
        "newest_closed_at": newest.closed_at if newest else None,
        "being_closed": list(map(str, unfinished)),
        "overdue": list(map(str, overdue)),
        "files_gone": gone,
    }
    return Line(text, facts, Health.CRITICAL if gone else Health.WARNING if overdue else Health.OK)


def complete(stack: Stack) -> Line:
    """How far it is proved that all that Bird has is here."""
    if not completeness.is_on(stack):
        return Line(f"not compared with Bird: {completeness.OFF}", None)
    now = datetime.now(UTC)
    cells, state, calibrated = completeness.known(stack, now - LOOK_BACK, now)
    said = sentence(cells, now)
    notices = list(completeness.notices(state, on=True))
    if cells and not calibrated.get("passed"):
        notices.append(f"nothing is filled by itself; calibration: {calibration.in_words(calibrated)}")
    text = "\n".join([said, *(f"{'':<14}{notice}" for notice in notices)])
    facts = {"sentence": said, "proved_until": proved_until(cells, now), "notices": notices}
    lost = any(cell.state in (State.GAP, State.SURPLUS) for cell in cells) or bool(state.get("lost"))
    warns = state.get("failing") or state.get("refused") or state.get("given_up")
    return Line(text, facts, Health.CRITICAL if lost else Health.WARNING if warns else Health.OK)


def maintenance(stack: Stack) -> Line:
    """Who has the lease that keeps the table's maintenance and erasures apart."""
    held = lease.holder(stack)
    if held is None:
        return Line("nothing is at work", None)
    return Line(f"at work is {lease.named(held)}", {"owner": held.owner.partition(" ")[0], "until": held.until})


def quarantined(stack: Stack) -> Line:
    count = quarantine.count_today(stack)
    text = f"{count:,} today (UTC)" + (": see `quarantine`" if count else "")
    return Line(text, {"today": count}, Health.WARNING if count else Health.OK)


def errors(stack: Stack) -> Line:
    numbers = {}
    for logical_id, (kind, name) in stack.resources.items():
        if kind == "AWS::Lambda::Function":
            points = metric(stack, "AWS/Lambda", "Errors", "FunctionName", name, "Sum", DAY)
            numbers[logical_id.removesuffix("Function")] = int(sum(value for _, value in points))
    text = ", ".join(f"{name} {count:,}" for name, count in numbers.items())
    return Line(text, numbers, Health.WARNING if any(numbers.values()) else Health.OK)


def alarms(stack: Stack) -> Line:
    names = stack.physical_ids("AWS::CloudWatch::Alarm")
    found: list[dict[str, Any]] = []
    for start in range(0, len(names), 100):
        answer = stack.client("cloudwatch").describe_alarms(AlarmNames=names[start : start + 100])
        found += answer["MetricAlarms"]
    firing = {
        alarm["AlarmName"]: alarm.get("AlarmDescription", "") for alarm in found if alarm["StateValue"] == "ALARM"
    }
    text = f"{len(firing)} of {len(names)} in ALARM"
    text += "".join(f"\n{'':<14}{name}: {description}" for name, description in firing.items())
    return Line(text, {"all": len(names), "firing": firing}, Health.CRITICAL if firing else Health.OK)


def dashboard(stack: Stack) -> Line:
    url = stack.output("DashboardUrl")
    return Line(url, url)


def metric(
    stack: Stack, namespace: str, name: str, dimension: str, value: str, statistic: str, back: timedelta
) -> list[tuple[datetime, float]]:
    """Points of five minutes each."""
    now = datetime.now(UTC)
    answer = stack.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": value}],
        StartTime=now - back,
        EndTime=now,
        Period=PERIOD_SECONDS,
        Statistics=[statistic],
    )
    return [(point["Timestamp"], float(point[statistic])) for point in answer.get("Datapoints", [])]
