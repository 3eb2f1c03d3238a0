"""Events that EventBridge refused -> NDJSON in quarantine/, which `erase` and `quarantine` read. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from publish_events.columns import KINDS, Kind
from publish_events.notification import LakeFile

PREFIX = "quarantine/bus"
_JSON_COLUMNS = {name for name, kind in KINDS.items() if kind is Kind.JSON}
_EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")


class Refused(NamedTuple):
    row: Mapping[str, Any]
    reason: str


def quarantine_object(file: LakeFile, refused: Sequence[Refused], now: datetime) -> tuple[str, bytes]:
    """The object's key and body. A file always gets the same key, so a second try overwrites the first.

    The key names the day on which one of the batches arrived, as all keys in quarantine/ do.
    """
    arrivals = [one.row.get("received_at") or now for one in refused]
    lines = [_record(file, one, arrived) for one, arrived in zip(refused, arrivals, strict=True)]
    found = _EVENT_DATE.search(file.key)
    name = (f"{found[1]}-" if found else "") + file.key.rpartition("/")[2]
    return f"{PREFIX}/{arrivals[0]:%Y-%m-%d}/{name}.ndjson", b"".join(line + b"\n" for line in lines)


def _record(file: LakeFile, one: Refused, arrived: datetime) -> bytes:
    """`original` has the row's values: JSON columns as JSON, or as text if they are not JSON."""
    values = {name: _value(name, value) for name, value in one.row.items() if value is not None}
    record = {
        "reason": one.reason,
        "batch_id": one.row.get("batch_id"),
        "lake_key": file.key,
        "received_at": arrived.isoformat(timespec="milliseconds"),
        "index": None,
        "original": values,
    }
    return msgspec.json.encode(record)


def _value(name: str, value: Any) -> Any:
    if name not in _JSON_COLUMNS or "\n" in value:
        return value
    try:
        return msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError:
        return value
