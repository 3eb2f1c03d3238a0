"""Rows that PostgreSQL refused -> NDJSON in quarantine/, where `erase` and `quarantine` look. Pure."""

import json
import re
from collections.abc import Sequence
from datetime import datetime

from load_postgres.notification import LakeFile
from load_postgres.rows import Rejected

PREFIX = "quarantine/postgres"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def kept_aside(file: LakeFile, rejected: Sequence[Rejected], now: datetime) -> tuple[str, bytes]:
    """The object's key and body; the same for the same file, so that a second try overwrites it.

    It lies under the day on which one of the batches arrived, as all of quarantine/ does.
    """
    lines = [_record(file, one, now) for one in rejected]
    day = str(lines[0]["received_at"])[:10]
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return f"{PREFIX}/{day}/{file.name}.ndjson", body.encode()


def _record(file: LakeFile, one: Rejected, now: datetime) -> dict[str, object]:
    """`index` counts the file's rows from 0; `original` has the columns as text, those without a value left out."""
    received_at = one.values.get("received_at") or ""
    try:
        arrived = datetime.fromisoformat(received_at) if _DAY.match(received_at) else now
    except ValueError:
        arrived = now
    return {
        "reason": one.reason,
        "batch_id": one.values.get("batch_id"),
        "lake_key": file.key,
        "received_at": arrived.replace(tzinfo=arrived.tzinfo or now.tzinfo).isoformat(timespec="milliseconds"),
        "index": one.position,
        "original": one.values,
    }
