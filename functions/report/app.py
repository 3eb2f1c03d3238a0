"""Once a day: figures of the last days, from Athena -> one HTML page in the lake bucket.

Runs on a schedule. The next report covers the days that a failed run missed, so a failure only fires an alarm. When
invoked by hand it accepts `{"days": 30, "until": "2026-11-24", "by": ["ip_pool"]}`: that many days before that
midnight, in the time zone of the setting ReportTimezone, and one table more.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import boto3

from report import completeness, quarantine
from report.athena import Athena, QueryFailedError
from report.figures import figures
from report.page import render
from report.queries import Period, queries
from report.rules import thresholds

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

DAYS = 7
MAX_DAYS = 90


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, str]:
    now = datetime.now(UTC)
    period = whole_days(event, now.astimezone(ZoneInfo(os.environ["TIMEZONE"])))
    given, by = thresholds(os.environ["THRESHOLDS"]), tuple(event.get("by", ()))
    bucket, name = os.environ["LAKE_BUCKET"], os.environ["STACK_NAME"]
    athena = Athena(boto3.client("athena"), os.environ["ATHENA_WORKGROUP"], os.environ["GLUE_DATABASE"])
    s3 = boto3.client("s3")
    answers = athena.rows(queries(period, given.least_volume, by))
    found = figures(period, answers, quarantine.count(s3, bucket, period), by=by, thresholds=given)
    complete = compared_with_bird(athena, period, now)
    page = render(found, made_at=now, title=name, source="Athena", completeness=complete).encode()
    keys = [f"reports/{period.last_day}.html"]
    if "until" not in event:  # a report of older days is not the latest
        keys.append("reports/latest.html")
    for key in keys:
        # No caching by browsers, because tomorrow `latest` is another page.
        s3.put_object(
            Bucket=bucket, Key=key, Body=page, ContentType="text/html; charset=utf-8", CacheControl="no-store"
        )
    logger.info("report written", extra={"events": found.events, "page_bytes": len(page), "key": keys[0]})
    return {"key": keys[0]}


def compared_with_bird(athena: Athena, period: Period, now: datetime) -> completeness.Section | None:
    """None where nothing was compared. The page does without it if its question fails."""
    try:
        rows = athena.rows({"completeness": completeness.query(period.since, now)})["completeness"]
    except QueryFailedError as error:
        logger.warning("completeness not shown", extra={"reason": str(error)})
        return None
    return completeness.section(rows, period.since, now)


def whole_days(event: Mapping[str, Any], now: datetime) -> Period:
    """The days before today, or the event's, in the zone of `now`."""
    until = date.fromisoformat(event["until"]) if "until" in event else now.date()
    end = datetime(until.year, until.month, until.day, tzinfo=now.tzinfo)
    length = int(event.get("days", DAYS))
    if not 1 <= length <= MAX_DAYS:
        raise ValueError(f"days: {length} is not 1 to {MAX_DAYS}")
    return Period(end - timedelta(days=length), end)
