"""What was set aside: no event, or refused by PostgreSQL or the bus. By reason, then each one; bodies on demand."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json

PREFIX = "quarantine/"
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
A_DAY = timedelta(days=1)
SHOWN_CHARACTERS = 2_000

Record = dict[str, Any]


def records(stack: Stack, since: datetime, until: datetime) -> Iterator[Record]:
    """The records of batches that arrived in that time, oldest day first; each once, after replays too."""
    seen: set[tuple[object, ...]] = set()
    for record in written(stack, since, until):
        where = (record.get("raw_key"), record.get("lake_key"), record["index"], record["reason"])
        if where not in seen:
            seen.add(where)
            yield record


def written(stack: Stack, since: datetime, until: datetime) -> Iterator[Record]:
    bucket = stack.output("LakeBucketName")
    first, last = (since - A_DAY).date().isoformat(), (until + A_DAY).date().isoformat()
    for page in stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX):
        for item in page.get("Contents", []):
            # A file lies under the day of one of its batches; another may have arrived on the day before or after.
            day = DAY.search(item["Key"])
            if day and not first <= day[0] <= last:
                continue
            body = stack.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            for line in body.splitlines():
                record: Record = json.loads(line)
                if since <= datetime.fromisoformat(record["received_at"]) < until:
                    yield record


def show(
    stack: Stack,
    since: datetime,
    until: datetime,
    *,
    details: bool,
    bodies: bool,
    full: bool = False,
    limit: int,
    as_json: bool = False,
) -> None:
    """The newest `limit` of each reason. Unless `full`, a long original text is cut."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records(stack, since, until):
        groups[record["reason"]].append(record)
    shown = []
    for reason, found in sorted(groups.items(), key=lambda group: -len(group[1])):
        found.sort(key=lambda record: str(record["received_at"]), reverse=True)
        first, last = found[-1]["received_at"], found[0]["received_at"]
        batches = len({record.get("raw_key", record.get("batch_id")) for record in found})
        if as_json:
            some = [
                with_cut_body(record, full) if bodies else without_body(record)
                for record in found[: limit if details or bodies else 0]
            ]
            group = {"reason": reason, "count": len(found), "batches": batches, "first": first, "last": last}
            shown.append({**group, "records": some})
            continue
        print(f"{len(found):>8,}  {clean(reason)}  ({batches:,} batches, {first} to {last})")
        for record in islice(found, limit if details or bodies else 0):
            print(f"          {record['received_at']}  {clean(place_of(stack, record))}")
            if bodies:
                original = record.get("original", record.get("original_base64"))
                print(f"            {cut(json.dumps(original), full)}")
        if (details or bodies) and len(found) > limit:
            print(f"          ... and {len(found) - limit:,} more (--limit)")
    total = sum(map(len, groups.values()))
    print_json({"quarantined": total, "reasons": shown}) if as_json else print(f"{total:,} quarantined")


def cut(text: str, full: bool) -> str:
    """At most SHOWN_CHARACTERS of it, with how many are missing."""
    missing = 0 if full else len(text) - SHOWN_CHARACTERS
    return f"{text[:SHOWN_CHARACTERS]} ... and {missing:,} characters more (--full)" if missing > 0 else text


def with_cut_body(record: Record, full: bool) -> Record:
    """A long original text as the beginning of its JSON."""
    texts = {name: json.dumps(value) for name, value in record.items() if name.startswith("original")}
    return record | {name: cut(text, full) for name, text in texts.items() if cut(text, full) != text}


def without_body(record: Record) -> Record:
    return {name: value for name, value in record.items() if not name.startswith("original")}


def place_of(stack: Stack, record: Record) -> str:
    """Of a batch; or of the file of rows of which PostgreSQL or the bus refused a row."""
    if "lake_key" in record:
        return f"{record['lake_key']}" + ("" if record["index"] is None else f"  row {record['index']}")
    key = stack.raw_name(record["raw_bucket"], record["raw_key"]) if record.get("raw_bucket") else record["raw_key"]
    return f"{key}  " + ("whole batch" if record["index"] is None else f"element {record['index']}")


def clean(text: str) -> str:
    """Without control characters, which would speak to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def count_today(stack: Stack) -> int:
    now = datetime.now(UTC)
    return sum(1 for _ in records(stack, now.replace(hour=0, minute=0, second=0, microsecond=0), now))
