"""Once a day: the figures of the last days, from Athena -> one HTML page in the lake bucket.

Runs by schedule. What one run missed, the next one shows, so a failure is told by an alarm and by nothing else. By hand
it takes `{"days": 30, "until": "2026-11-24"}`: so many days before that midnight, in UTC.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3

from report import quarantine
from report.athena import Athena
from report.figures import figures
from report.page import render
from report.queries import Period, queries

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

DAYS = 7
MAX_DAYS = 90


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, str]:
    now = datetime.now(UTC)
    period = whole_days(event, now)
    bucket, name = os.environ["LAKE_BUCKET"], os.environ["STACK_NAME"]
    athena = Athena(boto3.client("athena"), os.environ["ATHENA_WORKGROUP"], os.environ["GLUE_DATABASE"])
    s3 = boto3.client("s3")
    found = figures(period, athena.rows(queries(period)), quarantine.count(s3, bucket, period))
    page = render(found, made_at=now, title=name, source="Athena").encode()
    keys = [f"reports/{period.last_day}.html"]
    if "until" not in event:  # a look at older days is not the latest
        keys.append("reports/latest.html")
    for key in keys:
        # Not kept by a browser: `latest` is another page tomorrow.
        s3.put_object(
            Bucket=bucket, Key=key, Body=page, ContentType="text/html; charset=utf-8", CacheControl="no-store"
        )
    logger.info("report written", extra={"events": found.events, "page_bytes": len(page), "key": keys[0]})
    return {"key": keys[0]}


def whole_days(event: Mapping[str, Any], now: datetime) -> Period:
    """The days before today, or those that the event asks for."""
    until = date.fromisoformat(event["until"]) if "until" in event else now.date()
    end = datetime(until.year, until.month, until.day, tzinfo=UTC)
    length = int(event.get("days", DAYS))
    if not 1 <= length <= MAX_DAYS:
        raise ValueError(f"days: {length} is not 1 to {MAX_DAYS}")
    return Period(end - timedelta(days=length), end)
