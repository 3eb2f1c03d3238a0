"""A row -> an entry for EventBridge: the row as JSON, small enough, with an id that identifies repeats. Pure.

Sources: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html and, for the size of an entry,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from publish_events.columns import KINDS, Kind
from publish_events.notification import LakeFile

SOURCE = "bird-webhooks"
DETAIL_TYPE = "Bird Email Event"
# EventBridge accepts 1 MB since January 2026. But a Step Functions execution accepts 256 KiB with the envelope, and a
# region may still have the older limit of the same size. An event should fit any target of a rule.
MAX_BYTES = 250_000
# Batches of events that were fetched from Bird's Events API, because the webhook had not brought them.
BACKFILL = "backfill-"
# These identify an event and are never left out. If they alone are too large, EventBridge refuses the event.
_KEPT = {"id", "customer_id", "event_class", "type", "event_key", "batch_id", "backfilled"}
_JSON_COLUMNS = {name for name, kind in KINDS.items() if kind is Kind.JSON}


@dataclass
class Entry:
    """One event to publish, made from a row; `tries` counts how often EventBridge refused it."""

    file: LakeFile
    resource: str
    time: datetime | None
    fields: dict[str, Any]
    omitted: list[str]
    detail: str
    row: Mapping[str, Any]
    tries: int = 0

    @property
    def size(self) -> int:
        """In bytes, as EventBridge counts it."""
        return len(self.detail.encode()) + _size_beside_detail(self.resource)

    def request(self, bus_name: str) -> dict[str, Any]:
        """What PutEvents takes."""
        time = {"Time": self.time} if self.time else {}
        return {
            **time,
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Detail": self.detail,
            "Resources": [self.resource],
            "EventBusName": bus_name,
        }

    def simplified(self) -> "Entry | None":
        """Without what EventBridge may refuse: free-form JSON (because of its depth or numbers) and an odd time.

        None if nothing more can be left out.
        """
        json_fields = [name for name in self.fields if name in _JSON_COLUMNS]
        if not json_fields and self.time is None:
            return None
        return _fitting(self.file, self.resource, None, self.fields, [*self.omitted, *json_fields], self.row)


def entry_of(row: Mapping[str, Any], file: LakeFile, resource: str) -> Entry:
    """The row without its missing values; a repeat of the event has the same `id`.

    One that was fetched from Bird's Events API has `backfilled`: it may be days old. Two accounts may have events with
    the same Bird id, so `id` begins with the account, if the event names one.
    """
    parts = (str(row.get(name) or "") for name in ("customer_id", "event_class", "type"))
    fields: dict[str, Any] = {"id": "/".join([*(part.replace("/", "%2F") for part in parts), row["event_key"]])}
    fields |= {name: _json_value(name, value) for name, value in row.items() if value is not None}
    if str(row.get("batch_id")).startswith(BACKFILL):
        fields["backfilled"] = True
    return _fitting(file, resource, row.get("timestamp") or row.get("received_at"), fields, [], row)


def _fitting(
    file: LakeFile,
    resource: str,
    time: datetime | None,
    fields: Mapping[str, Any],
    omitted: list[str],
    row: Mapping[str, Any],
) -> Entry:
    """Without the fields in `omitted`, and without the largest others until it fits; the event lists them all."""
    kept = {name: value for name, value in fields.items() if name not in omitted and name != "omitted"}
    left_out = list(omitted)
    detail = _encoded(kept, left_out)
    while len(detail) + _size_beside_detail(resource) > MAX_BYTES and kept.keys() - _KEPT:
        largest = max(kept.keys() - _KEPT, key=lambda name: len(msgspec.json.encode(kept[name])))
        left_out.append(largest)
        del kept[largest]
        detail = _encoded(kept, left_out)
    return Entry(file, resource, time, kept, left_out, detail.decode(), row)


def _encoded(fields: Mapping[str, Any], omitted: list[str]) -> bytes:
    return msgspec.json.encode({**fields, "omitted": omitted} if omitted else fields)


def _json_value(name: str, value: Any) -> Any:
    """Times in UTC with milliseconds; JSON byte for byte as Bird sent it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.Raw(value.encode()) if name in _JSON_COLUMNS else value


def _size_beside_detail(resource: str) -> int:
    """EventBridge counts 14 bytes for the time."""
    return 14 + len(SOURCE) + len(DETAIL_TYPE) + len(resource.encode())
