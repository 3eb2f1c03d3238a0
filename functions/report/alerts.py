"""On a schedule: what needs attention by the report's rules, from Athena -> alarm topic and event bus, once each.

At 06:20 UTC all rules look at the last 24 hours. With DeliverabilityAlerts=HOURLY, blocks and delays of the last six
hours are looked at every hour between. Only what is over the threshold to act is told. `alerts/state.json` in the lake
bucket remembers what was: a trouble is told again after two days without it. If publishing or writing fails, the run is
repeated, so a trouble may be told twice, but never not at all. When invoked by hand it accepts `{"hours": 24, "until":
"2026-11-24T06:00", "rules": ["blocked"]}`, in UTC.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError

from report.athena import Athena
from report.figures import found_in
from report.page import duration, moment, percent
from report.queries import TROUBLES, Period, groups, overlaps, rows_of
from report.rules import ACT, NAMES, Finding, Thresholds, thresholds

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

STATE = "alerts/state.json"
DAILY_HOUR, DAILY_HOURS = 6, 24
HOURLY_RULES, HOURLY_HOURS = ("blocked", "delayed"), 6
FORGOTTEN_AFTER = timedelta(days=2)
MAX_HOURS = 14 * 24
MAX_ENTRIES = 10  # of EventBridge's PutEvents
# SNS takes subjects "less than 100 characters long": https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT = 99
MAX_TOLD = 50  # by one run; the next one tells more, and the page has them all

State = dict[str, dict[str, str]]


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, int]:
    now = datetime.now(UTC)
    period, rules = asked(event, now)
    given = only(thresholds(os.environ["THRESHOLDS"]), rules)
    athena = Athena(boto3.client("athena"), os.environ["ATHENA_WORKGROUP"], os.environ["GLUE_DATABASE"])
    answers = athena.rows({"groups": groups(period, given.least_volume), "overlaps": overlaps(period)})
    found = [one for one in found_in(answers, given) if one.verdict == ACT]
    s3, bucket = boto3.client("s3"), os.environ["LAKE_BUCKET"]
    before = read(s3, bucket)
    new = [one for one in found if one.key not in before][:MAX_TOLD]
    state = after(before, [one for one in found if one.key in before] + new, rules, now)
    if new:
        publish(new, period, os.environ)
    s3.put_object(Bucket=bucket, Key=STATE, Body=json.dumps(state, indent=1).encode(), ContentType="application/json")
    logger.info("deliverability looked at", extra={"found": len(found), "told": len(new), "rules": list(rules)})
    return {"found": len(found), "told": len(new)}


def asked(event: Mapping[str, Any], now: datetime) -> tuple[Period, Sequence[str]]:
    """The event's hours and rules; of a schedule those of its time of day. Errors: ValueError."""
    daily = now.hour == DAILY_HOUR
    hours = int(event.get("hours", DAILY_HOURS if daily else HOURLY_HOURS))
    rules = event.get("rules", list(TROUBLES) if daily or "hours" in event else HOURLY_RULES)
    if not 1 <= hours <= MAX_HOURS or not set(rules) <= TROUBLES.keys():
        raise ValueError(f"hours: 1 to {MAX_HOURS}; rules: some of {', '.join(TROUBLES)}")
    until = datetime.fromisoformat(event["until"]).replace(tzinfo=UTC) if "until" in event else now
    end = until.replace(minute=0, second=0, microsecond=0)
    return Period(end - timedelta(hours=hours), end), rules


def only(given: Thresholds, rules: Sequence[str]) -> Thresholds:
    return Thresholds(tuple(rule for rule in given.rules if rule.name in rules), given.least_volume)


def read(s3: Any, bucket: str) -> State:
    """By a finding's key: since when it is known, and when it was last found."""
    try:
        state: State = json.loads(s3.get_object(Bucket=bucket, Key=STATE)["Body"].read())
        return {str(key): {name: str(one[name]) for name in ("since", "last")} for key, one in state.items()}
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.warning("state not readable, so everything is told again", extra={"key": STATE})
    return {}


def after(before: State, found: Sequence[Finding], rules: Sequence[str], now: datetime) -> State:
    """What is known after this run. What the rules of this run do not find any more is kept for two days."""
    at, oldest = now.isoformat(timespec="seconds"), (now - FORGOTTEN_AFTER).isoformat(timespec="seconds")
    kept = {key: one for key, one in before.items() if one["last"] > oldest or key.partition("|")[0] not in rules}
    return kept | {one.key: {"since": before.get(one.key, {"since": at})["since"], "last": at} for one in found}


def publish(found: Sequence[Finding], period: Period, settings: Mapping[str, str]) -> None:
    """One message to the topic; one event for each finding to the bus, if there is one. Errors: AWS's; RuntimeError."""
    stack, bus = settings["STACK_NAME"], settings["EVENT_BUS_NAME"]
    if bus:
        to_bus([detail(one, period, stack) for one in found], bus)
    many = "1 deliverability alert" if len(found) == 1 else f"{len(found)} deliverability alerts"
    boto3.client("sns").publish(
        TopicArn=settings["ALARM_TOPIC_ARN"],
        Subject=f"{stack}: {many}"[:MAX_SUBJECT],
        Message="\n\n".join(text(one, period) for one in found)
        + "\n\nYou are told once, and again after two days without the trouble. The report has more: "
        f"bird-webhooks report --stack-name {stack}",
    )


def to_bus(details: Sequence[Mapping[str, Any]], bus: str) -> None:
    client = boto3.client("events")
    for first in range(0, len(details), MAX_ENTRIES):
        answer = client.put_events(
            Entries=[
                {
                    "Source": "bird-webhooks",
                    "DetailType": "Bird Deliverability Alert",
                    "EventBusName": bus,
                    "Detail": json.dumps(one),
                }
                for one in details[first : first + MAX_ENTRIES]
            ]
        )
        if answer["FailedEntryCount"]:
            raise RuntimeError(f"{answer['FailedEntryCount']} alerts were not taken by the event bus")


def detail(one: Finding, period: Period, stack: str) -> dict[str, Any]:
    return {
        "stack": stack,
        "rule": one.rule.name,
        "verdict": one.verdict,
        "dimension": one.dimension,
        "name": one.name,
        "account": one.account,
        "affected": one.rate.part,
        "of": one.rate.whole,
        "percent": round(100 * (one.rate.share or 0), 4),
        "percent_of_rest": round(100 * (one.rest.share or 0), 4) if one.rest else None,
        "percent_before": round(100 * (one.before.share or 0), 4) if one.before else None,
        "since": f"{period.since:%Y-%m-%dT%H:%MZ}",
        "until": f"{period.until:%Y-%m-%dT%H:%MZ}",
        "what": text(one, period),
        "advice": one.rule.advice,
    }


def text(one: Finding, period: Period) -> str:
    """What, where, since when, and what to do."""
    length = duration(period.until - period.since)
    return (
        f"{NAMES[one.dimension]}{f' {one.name}' if one.name else ''}: {percent(one.rate, 2)} {one.rule.what} "
        f"({one.rate.part:,} of {one.rate.whole:,} {one.rule.of_what}) "
        f"from {moment(period.since)} to {moment(period.until)} UTC."
        + (f" The rest of the mail: {percent(one.rest, 2)}." if one.rest else "")
        + (f" The {length} before: {percent(one.before, 2)}." if one.before else "")
        + f"\nWhat to do: {one.rule.advice}"
        + f"\nIts events:\n{rows_of(period, one.dimension, one.name, one.account, one.rule.condition)}"
    )
