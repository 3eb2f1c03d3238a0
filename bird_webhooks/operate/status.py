"""The state of the stack in one screen. A line that may not be read says so, and the others are shown."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.operate import quarantine, redrive, rotation
from bird_webhooks.operate.batches import PAGE_KEYS
from bird_webhooks.stack import Target

DAY = timedelta(days=1)
PERIOD_SECONDS = 300
PREFIXES = {"PARQUET": "events/", "CSV": "events-csv/"}


def show(target: Target) -> None:
    lines: list[tuple[str, Callable[[Target], str]]] = [
        ("stack", stack),
        ("front door", front_door),
        ("who may send", senders),
        ("credentials", credentials),
        ("last batch", last_batch),
        ("queue", queue),
        ("dead letters", dead_letters),
        ("rows", rows),
        ("quarantined", quarantined),
        ("errors, 24 h", errors),
        ("alarms", alarms),
        ("dashboard", lambda target: target.output("DashboardUrl")),
    ]
    target.description()  # no stack is an error, not a line
    for name, line in lines:
        try:
            said = line(target)
        except ClientError as error:
            said = f"not known: {error.operation_name} says {error.response['Error']['Code']}"
        print(f"{name:<14}{said}")


def stack(target: Target) -> str:
    found = target.description()
    changed = found.get("LastUpdatedTime", found["CreationTime"])
    return f"{target.name} {found['StackStatus']}, last changed {changed:%Y-%m-%d %H:%M} UTC"


def front_door(target: Target) -> str:
    return f"{target.parameters()['FrontDoor']} {target.output('WebhookUrl')}"


def senders(target: Target) -> str:
    parameters = target.parameters()
    if parameters["FrontDoor"] != "ALB":
        return "any address"
    return (
        parameters.get("SenderHostName") or parameters.get("SenderPrefixListId") or parameters.get("SenderCidrs") or "?"
    )


def credentials(target: Target) -> str:
    auth = target.parameters()["WebhookAuth"]
    if auth not in ("BASIC", "HEADER"):
        return {"OAUTH2": "OAUTH2, verified by the load balancer"}.get(auth, f"{auth}: anybody may send")
    return f"{auth}; rotation: {rotation.state(target).words}"


def last_batch(target: Target) -> str:
    """Exact while one listing holds all; then from the queue's own count of what S3 announced."""
    page = target.s3.list_objects_v2(
        Bucket=target.output("RawBucketName"), Prefix=f"{target.raw_prefix}/", MaxKeys=PAGE_KEYS
    )
    if not page["IsTruncated"]:
        times = [item["LastModified"] for item in page.get("Contents", [])]
        return f"stored {max(times):%Y-%m-%d %H:%M:%S} UTC; {len(times):,} in all" if times else "none yet"
    name = target.output("ProcessQueueUrl").rpartition("/")[2]
    points = metric(target, "AWS/SQS", "NumberOfMessagesSent", "QueueName", name, "Sum", DAY)
    busy = [(time, value) for time, value in points if value]
    if not busy:
        return "none in 24 hours"
    last = max(busy)[0]
    return f"stored within 5 minutes from {last:%Y-%m-%d %H:%M} UTC; {sum(value for _, value in busy):,.0f} in 24 hours"


def queue(target: Target) -> str:
    url = target.output("ProcessQueueUrl")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = target.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    points = metric(
        target,
        "AWS/SQS",
        "ApproximateAgeOfOldestMessage",
        "QueueName",
        url.rpartition("/")[2],
        "Maximum",
        timedelta(minutes=15),
    )
    age = f", oldest {max(points)[1]:,.0f} s" if points else ""
    return f"{int(found[names[0]]):,} waiting, {int(found[names[1]]):,} being processed{age}"


def dead_letters(target: Target) -> str:
    count = redrive.waiting(target)
    return f"{count:,}" + (": see `redrive --dry-run`" if count else "")


def rows(target: Target) -> str:
    """Days with rows in the format of the stack, and those that a change of OutputFormat left in the other."""
    written = target.parameters()["OutputFormat"]
    days = {name: days_under(target, prefix) for name, prefix in PREFIXES.items()}
    said = f"{len(days[written]):,} days in {written}"
    for other in days.keys() - {written}:
        if days[other]:
            only = len(days[other] - days[written])
            said += (
                f"; {len(days[other]):,} in {other}, {only:,} of them only there: Athena does not see them; `replay`"
            )
            said += " makes them anew (docs/operating.md, Another format)"
    return said


def days_under(target: Target, prefix: str) -> set[str]:
    """One request for a thousand days."""
    pages = target.s3.get_paginator("list_objects_v2").paginate(
        Bucket=target.output("LakeBucketName"), Prefix=f"{prefix}event_date=", Delimiter="/"
    )
    return {found["Prefix"].removeprefix(prefix) for page in pages for found in page.get("CommonPrefixes", [])}


def quarantined(target: Target) -> str:
    count = quarantine.count_today(target)
    return f"{count:,} today (UTC)" + (": see `quarantine`" if count else "")


def errors(target: Target) -> str:
    said = []
    for logical_id, (kind, name) in target.resources.items():
        if kind == "AWS::Lambda::Function":
            total = sum(value for _, value in metric(target, "AWS/Lambda", "Errors", "FunctionName", name, "Sum", DAY))
            said.append(f"{logical_id.removesuffix('Function')} {total:,.0f}")
    return ", ".join(said)


def alarms(target: Target) -> str:
    names = target.physical_ids("AWS::CloudWatch::Alarm")
    found: list[dict[str, Any]] = []
    for start in range(0, len(names), 100):
        answer = target.client("cloudwatch").describe_alarms(AlarmNames=names[start : start + 100])
        found += answer["MetricAlarms"]
    ringing = [alarm for alarm in found if alarm["StateValue"] == "ALARM"]
    said = [f"{len(ringing)} of {len(names)} in ALARM"]
    said += [f"{'':<14}{alarm['AlarmName']}: {alarm.get('AlarmDescription', '')}" for alarm in ringing]
    return "\n".join(said)


def metric(
    target: Target, namespace: str, name: str, dimension: str, value: str, statistic: str, back: timedelta
) -> list[tuple[datetime, float]]:
    """Points of five minutes each."""
    now = datetime.now(UTC)
    answer = target.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": value}],
        StartTime=now - back,
        EndTime=now,
        Period=PERIOD_SECONDS,
        Statistics=[statistic],
    )
    return [(point["Timestamp"], float(point[statistic])) for point in answer.get("Datapoints", [])]
