"""An event of Bird's Events API -> the element that Bird's webhook sends for it. Pure.

All values but four go from one into the other byte for byte. Source of the differences:
https://github.com/SparkPost/support-docs, content/docs/tech-resources/events-api-integration.md, and Bird's samples of
both.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Any

import msgspec
from msgspec import Raw

CLASS_OF_TYPE = {
    kind: event_class
    for event_class, kinds in {
        "message_event": (
            *("injection", "delivery", "bounce", "delay", "out_of_band"),
            *("policy_rejection", "spam_complaint", "sms_status"),
        ),
        "track_event": ("open", "initial_open", "click", "amp_open", "amp_initial_open", "amp_click"),
        "gen_event": ("generation_failure", "generation_rejection"),
        "unsubscribe_event": ("list_unsubscribe", "link_unsubscribe"),
        "ingest_event": ("success", "error"),
    }.items()
    for kind in kinds
}
INGEST_TYPES = frozenset({"success", "error"})
# Bird sends these to the webhook, but its Events API neither counts nor returns them.
NOT_IN_EVENTS_API = frozenset(
    {
        *("relay_injection", "relay_rejection", "relay_delivery", "relay_tempfail", "relay_permfail"),
        *("ab_test_completed", "ab_test_cancelled"),
    }
)
# Their key is a hash of their bytes, which differ between webhook and API: they can be counted, but not filled in.
WITHOUT_ID = frozenset({"sms_status"})

_IDS = ("customer_id", "subaccount_id", "event_id")
_ONLY_IN_API = frozenset({"sending_domain"})
_ZIP = re.compile(r"[0-9]{1,18}")
# Python refuses to read longer ones (4,300 digits): sys.set_int_max_str_digits.
_MOST_DIGITS = 4000

_text_or_number: msgspec.json.Decoder[str | int] = msgspec.json.Decoder(str | int)
_text = msgspec.json.Decoder(str)
_members = msgspec.json.Decoder(dict[str, Raw])


class UnknownTypeError(Exception):
    """An event of a type whose class is not known. It must be held, because a guess would make another event of it."""


@dataclass(frozen=True)
class Event:
    """One event as it came: `fields` have Bird's own bytes. `at` is in UTC. An absent or empty id is None."""

    type: str
    event_id: str | None
    at: datetime
    customer_id: str
    subaccount_id: str | None
    fields: Mapping[str, Raw]

    @classmethod
    def of(cls, fields: Mapping[str, Raw]) -> "Event":
        """Errors: ValueError, with a text that holds no value."""
        try:
            at = datetime.fromisoformat(_text.decode(fields["timestamp"]))
            kind = _text.decode(fields["type"])
            customer_id = id_text(fields["customer_id"])
            event_id, subaccount_id = (
                id_text(fields[name]) if name in fields else "" for name in ("event_id", "subaccount_id")
            )
        except KeyError as error:
            raise ValueError(f"an event without {error.args[0]}") from None
        except (msgspec.DecodeError, ValueError):
            raise ValueError("an event whose id, type or time is in a form that is not known") from None
        if at.tzinfo is None or not customer_id:
            raise ValueError("an event whose time has no zone, or whose account is empty")
        primary = subaccount_id in ("", "0")
        return cls(kind, event_id or None, at.astimezone(UTC), customer_id, None if primary else subaccount_id, fields)

    @property
    def event_class(self) -> str | None:
        """None if the type is unknown."""
        return CLASS_OF_TYPE.get(self.type)


def element(event: Event) -> bytes:
    """`{"msys":{"<class>":{…}}}`. Errors: UnknownTypeError."""
    if event.event_class is None:
        raise UnknownTypeError(event.type)
    fields = {name: raw for name, raw in event.fields.items() if name not in _ONLY_IN_API}
    for name in _IDS:
        if name in fields:
            fields[name] = _encoded(id_text(fields[name]))
    if event.subaccount_id is None:
        fields.pop("subaccount_id", None)
    fields["timestamp"] = _encoded(str(floor(event.at.timestamp())))
    if "geo_ip" in fields:
        fields["geo_ip"] = _geo_ip(fields["geo_ip"])
    return msgspec.json.encode({"msys": {event.event_class: fields}})


def values(body: bytes) -> Any:
    """Of JSON, whatever numbers are in it: msgspec refuses 1e999, and Python whole numbers of thousands of digits. The
    latter stay text. Bytes that are not UTF-8 become U+FFFD, as process makes them.

    Errors: ValueError, RecursionError.
    """
    text = body.decode("utf-8-sig", "replace")
    return json.loads(text, parse_int=lambda digits: digits if len(digits) > _MOST_DIGITS else int(digits))


def id_text(raw: Raw) -> str:
    """An id as text, which Bird writes as a number or as text; empty for null. Errors: msgspec.DecodeError."""
    return "" if bytes(raw) == b"null" else str(_text_or_number.decode(raw))


def _geo_ip(raw: Raw) -> Raw:
    """With the postal code as the number that the webhook has."""
    try:
        members = _members.decode(raw)
        zip_code = _text.decode(members["zip"])
    except (ValueError, KeyError):
        return raw
    if not _ZIP.fullmatch(zip_code):
        return raw
    return Raw(msgspec.json.encode({**members, "zip": int(zip_code)}))


def _encoded(value: str) -> Raw:
    return Raw(msgspec.json.encode(value))
