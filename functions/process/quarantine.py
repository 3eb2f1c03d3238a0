"""What could not become a row -> NDJSON, with its original bytes, its place and the reason. Pure."""

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from process.normalise import Quarantined


def to_ndjson(quarantined: Iterable[Quarantined]) -> bytes:
    return b"".join(msgspec.json.encode(_record(one)) + b"\n" for one in quarantined)


def _record(one: Quarantined) -> dict[str, Any]:
    """`index` counts from 0 and is null for a whole batch; bytes that are not UTF-8 come as `original_base64`."""
    record: dict[str, Any] = {
        "reason": one.reason,
        "batch_id": one.batch.batch_id,
        "raw_key": one.batch.raw_key,
        "received_at": datetime.fromtimestamp(one.batch.received_at / 1000, UTC).isoformat(timespec="milliseconds"),
        "index": one.position,
    }
    try:
        return {**record, "original": one.original.decode()}
    except UnicodeDecodeError:
        return {**record, "original_base64": base64.b64encode(one.original).decode()}
