"""What the lake and the catalogue say of the table's dates: states, folders of files, partitions. Only reads."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.operate.lease import MISSING
from bird_webhooks.stack import Stack
from process.day_state import STATES, DayState, decode, state_key
from process.partitions import Partitions

OPEN = {"PARQUET": "events/", "CSV": "events-csv/"}
CLOSED = "closed/"
DATE = re.compile(r"event_date=(\d{4}-\d{2}-\d{2})(?:/|\.json)$")


def state(stack: Stack, day: date) -> DayState:
    return state_and_etag(stack, day)[0]


def state_and_etag(stack: Stack, day: date) -> tuple[DayState, str | None]:
    """And the ETag by which it may be replaced; None if there is none yet."""
    try:
        found = stack.s3.get_object(Bucket=stack.output("LakeBucketName"), Key=state_key(day))
    except ClientError as error:
        if error.response["Error"]["Code"] not in MISSING:
            raise
        return DayState(day), None
    return decode(found["Body"].read()), str(found["ETag"])


def states(stack: Stack) -> dict[date, datetime]:
    """Dates that have a state, and when it was written. One request for a thousand."""
    pages = listed(stack, STATES)
    return {day: item["LastModified"] for page in pages for item in page.get("Contents", []) for day in of(item["Key"])}


def with_folder(stack: Stack, prefix: str) -> set[date]:
    """One request for a thousand dates."""
    pages = listed(stack, f"{prefix}event_date=", Delimiter="/")
    return {day for page in pages for found in page.get("CommonPrefixes", []) for day in of(found["Prefix"])}


def partitions(stack: Stack) -> Partitions | None:
    """None if there is no table."""
    return Partitions.read(stack.client("glue"), stack.output("GlueDatabaseName"))


def is_closed(location: str) -> bool:
    return f"/{CLOSED}event_date=" in location


def listed(stack: Stack, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
    pages = stack.s3.get_paginator("list_objects_v2")
    yield from pages.paginate(Bucket=stack.output("LakeBucketName"), Prefix=prefix, **more)


def of(key: str) -> Iterator[date]:
    """The date that the name of a folder or a state holds; none for a name of another program's."""
    if found := DATE.search(key):
        try:
            yield date.fromisoformat(found[1])
        except ValueError:  # such as 30 February
            return
