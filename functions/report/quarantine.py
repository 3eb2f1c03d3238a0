"""Counts what process quarantined because it was not an event. Reads only the reasons, and keeps nothing else."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

from report.figures import Quarantine, masked
from report.queries import Period

# Objects are read one by one, so a flood of them must not keep the report from being written.
MAX_FILES = 200
MAX_BYTES = 64 * 1024 * 1024
MAX_REASONS = 20


def count(s3: Any, bucket: str, period: Period, max_files: int = MAX_FILES) -> Quarantine:
    """By the day in a file's key, which is the day of one of its batches."""
    reasons, files, size, unread = Counter[str](), 0, 0, 0
    day = period.since.date()
    while day < (period.until + timedelta(days=1) - timedelta(microseconds=1)).date():
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"quarantine/{day}/"):
            for item in page.get("Contents", []):
                if files == max_files or size + item["Size"] > MAX_BYTES:
                    unread += 1
                else:
                    files, size = files + 1, size + item["Size"]
                    body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"]
                    reasons.update(masked(json.loads(line)["reason"]) for line in body.iter_lines())
        day += timedelta(days=1)
    shown = dict(reasons.most_common(MAX_REASONS))
    if others := reasons.total() - sum(shown.values()):
        shown["other reasons"] = others
    return Quarantine(shown, unread)
