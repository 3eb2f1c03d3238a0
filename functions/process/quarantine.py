"""What could not become a row -> NDJSON, with its original bytes, its place and the reason. Pure."""

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from process.bounds import MAX_ORIGINAL_BYTES
from process.normalise import DAY_MILLISECONDS, Quarantined


def to_ndjson(quarantined: Iterable[Quarantined], raw_retention_days: int) -> bytes:
    return b"".join(msgspec.json.encode(_record(one, raw_retention_days)) + b"\n" for one in quarantined)


def _record(one: Quarantined, raw_retention_days: int) -> dict[str, Any]:
    """`index` counts from 0 and is null for a whole batch; bytes that are not UTF-8 come as `original_base64`.

    What is longer than MAX_ORIGINAL_BYTES is cut, and of a batch beyond the bounds nothing is kept: `raw_key` and
    `index` then say where it is, `raw_expires_at` until when (null: it never expires), `original_bytes` how long it is.
    """
    batch, original = one.batch, one.original
    record: dict[str, Any] = {
        "reason": one.reason,
        "batch_id": batch.batch_id,
        "raw_bucket": batch.raw_bucket,
        "raw_key": batch.raw_key,
        "received_at": _iso(batch.received_at),
        "index": one.position,
    }
    if original is None or len(original) > MAX_ORIGINAL_BYTES:
        stored_at = batch.received_at if batch.stored_at is None else batch.stored_at
        record["raw_expires_at"] = _expiry(stored_at, raw_retention_days) if raw_retention_days else None
    if original is None:
        return record
    if len(original) > MAX_ORIGINAL_BYTES:
        record["original_bytes"] = len(original)
        original = _cut(original)
    try:
        return {**record, "original": original.decode()}
    except UnicodeDecodeError:
        return {**record, "original_base64": base64.b64encode(original).decode()}


def _cut(original: bytes) -> bytes:
    """After a string, where there is one: half an address would be found by no search for it."""
    start = original[:MAX_ORIGINAL_BYTES]
    whole = start[: start.rfind(b'"') + 1] or start
    while whole and whole[-1] & 0xC0 == 0x80:  # nor in the midst of a character
        whole = whole[:-1]
    return whole[:-1] if whole and whole[-1] >= 0xC0 else whole


def _expiry(stored_at: int, days: int) -> str:
    """S3 removes an object at the midnight after that many days.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
    """
    return _iso((stored_at // DAY_MILLISECONDS + days + 1) * DAY_MILLISECONDS)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
