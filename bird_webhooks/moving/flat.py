"""An event without the webhook's wrapping -> the element that Bird's webhook sends for it. Pure.

Bird's Events API, connectors and databases store the event alone, so its class is lost. Each documented type has one.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import Raw

from bird_webhooks.moving import documents
from process.columns import BOOLEAN, COLUMNS, JSON, TEXT, TIMESTAMP
from process.metrics import TYPES
from process.normalise import read_timestamp
from reconcile import as_webhook

CLASS_OF_TYPE = {kind: event_class for event_class, kinds in TYPES.items() for kind in kinds.split()}
# `bounce_class` as a column of a table, `geo_ip_country` for what Bird nests.
_COLUMNS = {column.name: column for column in COLUMNS if column.field}
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")
_IDS = ("customer_id", "subaccount_id", "event_id")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# Programs that take a column for numbers, of which some are missing, write 7 as 7.0, and long ones rounded.
_WHOLE = re.compile(r"([0-9]{1,15})\.0+")
_ROUNDED = re.compile(r"[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+")
_SMALLEST_MILLISECONDS = 10**11  # as Unix seconds in the year 5138

_text = msgspec.json.Decoder(str)
_scalar: msgspec.json.Decoder[str | int | float] = msgspec.json.Decoder(str | int | float)


# The account of events that name none; asked for the first of them. Errors: RefusedError.
type Account = Callable[[], str]


class RefusedError(Exception):
    """An event that cannot be brought in; the text is the reason, and holds nothing of the event."""


class ShiftedError(RefusedError):
    """Of a table: then none of its rows can be trusted."""

    def __init__(self) -> None:
        super().__init__(
            "columns do not fit the header, as in the CSV that Bird's guide writes: bring the raw objects instead"
        )


class Flat(msgspec.Struct, frozen=True):
    """`has_id`: without an id, the key of an event is a hash of its bytes, which this origin has not kept."""

    element: bytes
    has_id: bool


def is_event(fields: Mapping[str, Raw]) -> bool:
    """Whether it looks like one, whatever its type: it has a type, and an id or a time beside it."""
    return "type" in fields and ("event_id" in fields or ("timestamp" in fields and "customer_id" in fields))


def element(fields: Mapping[str, Raw], account: Account) -> Flat:
    """Values go over byte for byte, but for what Bird writes in another way in its webhook.

    Errors: RefusedError.
    """
    # A connector's own columns begin with _: _dlt_id, _sdc_sequence, _airbyte_meta.
    found = _nested({name: raw for name, raw in fields.items() if bytes(raw) != b"null" and not name.startswith("_")})
    kind = _text_of(found.get("type"))
    event_class = CLASS_OF_TYPE.get(kind)
    if event_class is None:
        raise RefusedError("of a type that Bird does not document: its class is not known")
    for name in ("customer_id", "subaccount_id"):
        if whole := _WHOLE.fullmatch(_text_of(found.get(name))):
            found[name] = _raw(whole[1])
    if not _text_of(found.get("customer_id")):
        found["customer_id"] = _raw(account())
    has_id = bool(_text_of(found.get("event_id")))
    if not has_id and kind not in as_webhook.WITHOUT_ID:
        raise RefusedError("without event_id: it can never be counted once")
    if has_id and _ROUNDED.fullmatch(_text_of(found["event_id"])):
        raise RefusedError("with an event_id that a program has taken for a number and rounded")
    moment = _moment(found.get("timestamp"))
    if moment is None or event_class not in as_webhook.CLASS_OF_TYPE.values():
        return Flat(_wrapped(event_class, found, moment), has_id)
    found["timestamp"] = _raw(moment.isoformat())
    try:
        return Flat(as_webhook.element(as_webhook.Event.of(found)), has_id)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _wrapped(event_class: str, fields: dict[str, Raw], moment: datetime | None) -> bytes:
    """As it was inside of the webhook's element already; or of a class that Bird's Events API does not have."""
    for name in _IDS:
        if name in fields:
            fields[name] = _raw(_text_of(fields[name]))
    if moment is not None:
        fields["timestamp"] = _raw(str(int(moment.timestamp())))
    return msgspec.json.encode({"msys": {event_class: fields}})


def _moment(raw: Raw | None) -> datetime | None:
    """Of a time that is not Unix seconds, as the webhook has it: ISO 8601, also with a blank, or Unix milliseconds.

    Errors: RefusedError, for what is none of these: without its time, it would be another event of another date.
    """
    text = _text_of(raw)
    if not text:
        raise RefusedError("without a time")
    milliseconds = _milliseconds(text)
    try:
        if _NUMBER.fullmatch(text):
            if milliseconds is not None:
                return None
            milliseconds = int(float(text)) if float(text) > _SMALLEST_MILLISECONDS else None
        if milliseconds is not None:
            return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise RefusedError("with a time that cannot be read")


def _nested(fields: Mapping[str, Raw]) -> dict[str, Raw]:
    """`geo_ip_country` and the like, as tables have them, in the object that Bird sends."""
    found: dict[str, Raw] = {}
    objects: dict[str, dict[str, Raw]] = {}
    for name, raw in fields.items():
        outer, _, inner = (_COLUMNS[name].field or name if name in _COLUMNS else name).partition(".")
        if inner:
            objects.setdefault(outer, {})[inner] = raw
        else:
            found[outer] = raw
    for name, members in objects.items():
        found.setdefault(name, Raw(msgspec.json.encode(members)))
    return found


def from_texts(row: Mapping[str, str]) -> dict[str, Raw]:
    """A row of a table with a column for each field, as text; an empty text is no value.

    Errors: ShiftedError for a value that is not of its column's kind.
    """
    return {name: _typed(name, text) for name, text in row.items() if text}


def _typed(name: str, text: str) -> Raw:
    kind = _COLUMNS[name].type if name in _COLUMNS else JSON
    if kind is TEXT:
        return _raw(text)
    if kind is JSON:
        if text[0] not in "{[":
            return _raw(text)
        fits = documents.is_json(text.encode())
        raw = Raw(text.encode())
    elif kind is BOOLEAN:
        fits = text.lower() in _TRUE + _FALSE
        raw = Raw(b"true" if text.lower() in _TRUE else b"false")
    elif kind is TIMESTAMP:
        fits = text.isdecimal() or _milliseconds(text) is not None
        raw = _raw(text)
    else:
        fits = _NUMBER.fullmatch(text) is not None
        raw = _raw(text)
    if not fits:
        raise ShiftedError
    return raw


def _milliseconds(text: str) -> int | None:
    """As databases print it, too: with a blank for the T, and the zone as a word."""
    return read_timestamp(text.removesuffix(" UTC"))[0]


def _text_of(raw: Raw | None) -> str:
    """Of a text or a number; empty for anything else."""
    if raw is None:
        return ""
    try:
        return str(_scalar.decode(raw))
    except ValueError:
        return ""


def _raw(value: str) -> Raw:
    return Raw(msgspec.json.encode(value))
