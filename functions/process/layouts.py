"""The quick way from a stored batch to its events: one decoder for the whole batch, built from the fields seen. Pure.

Events of one type carry much the same fields in much the same order. A Layout is a struct of just those fields,
including fields that have no column, and a batch is decoded into such structs at once. An event that does not fit (a
type or a field seen for the first time, a number where text was) goes the lenient way of normalise.py, and its fields
are added to the layout. Layouts decide speed only: a test checks that both ways give the same rows.
"""

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, Union

import msgspec
from msgspec import Raw

from process.columns import BOOLEAN, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.metrics import TYPES
from process.normalise import INT64, UNIX_SECONDS, nested_columns, plain_columns

# Limits on the types and fields that a stranger can make process remember; the rest goes the lenient way. Bird's
# documented types are remembered at once, another type when a second batch has it. At a limit the least used one is
# dropped, so that a stranger cannot use a limit up for good.
MAX_LAYOUTS = 200
MAX_UNKNOWN_FIELDS = 100
MAX_TYPES_SEEN_ONCE = 1_000
# Making a decoder takes some milliseconds, so at most MAX_DECODERS are made in IN_BATCHES batches.
MAX_DECODERS, IN_BATCHES = 50, 1_000
# A buffer up to this size is kept, because getting new memory from the system takes longer than filling it.
MAX_KEPT_BYTES = 1024 * 1024

DOCUMENTED_TYPES = frozenset(name for names in TYPES.values() for name in names.split())

ABSENT = Raw(b"null")
# The only times that Bird writes as Unix seconds; all others are ISO 8601, and converted column by column.
UNIX_TIMES = frozenset({"timestamp", "scheduled_time"})


class Members(NamedTuple):
    """What the members of a struct become; positions are those of `msgspec.structs.astuple`."""

    struct: Any
    columns: list[tuple[int, Column]]
    nested: list[tuple[int, str, "Members"]]
    unknown: list[tuple[int, str]]  # by name, values are Raw, or None where there are none


@dataclass(frozen=True, eq=False)
class Layout:
    """How events of one type are held in memory."""

    event_type: str
    members: Members


# Names of fields in the order in which Bird writes them; a nested object has its own.
type SeenFields = dict[str, dict[str, None] | None]


class DecodedBatch(NamedTuple):
    """Parallel lists; each event is a struct with at least `customer_id`, `event_id`, `timestamp` (Unix seconds)."""

    event_classes: list[str]
    events: list[Any]


class Layouts:
    """All layouts known so far, and the decoder made of them."""

    def __init__(self) -> None:
        self.by_struct: dict[Any, Layout] = {}
        self._seen_fields: dict[str, SeenFields] = {}
        self._structs: dict[str, Any] = {}
        self._stale: set[str] = set()
        self._decode: Any = _decode_nothing
        self._batches = 0
        self._last_used: dict[str, int] = {}  # by type, in batches
        self._seen_once: dict[str, int] = {}  # the same
        self._decoders_made: deque[int] = deque(maxlen=MAX_DECODERS)
        self._again = bytearray()

    def decode(self, body: bytes) -> DecodedBatch | None:
        """All events of a batch, in its order; None if any of them has to go the lenient way."""
        self._batches += 1
        if self._stale and self._may_make_a_decoder():
            self._rebuild()
        return self._decoded(body)

    def decode_elements(self, raws: Sequence[bytes]) -> DecodedBatch | None:
        """The same for some elements of a batch, with what was known when the batch began."""
        return self._decoded(b"[%b]" % b",".join(raws))

    def _decoded(self, body: bytes) -> DecodedBatch | None:
        try:
            if not body.isascii():
                body.decode()  # what becomes Raw is not looked at otherwise
            elements = self._decode(body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            return None
        objects = list(map(_msys, elements))
        events = list(chain.from_iterable(map(dict.values, objects)))
        if len(events) != len(objects):  # none or several classes in one element
            return None
        if self._repeats_a_name(body, elements):
            return None
        return DecodedBatch(list(chain.from_iterable(objects)), events)

    def _repeats_a_name(self, body: bytes, elements: Any) -> bool:
        """Whether an object of the body has two members of one name. May be True for a body without such an object.

        msgspec keeps the last member of a name and drops the others silently, so the elements encoded again have fewer
        colons than the body. Members that are null are not encoded, so their colons do not count.
        """
        # An escaped colon could hide a missing one. Searching one character is much faster than searching several.
        if b"\\" in body and (b"\\u003a" in body or b"\\u003A" in body):
            return True
        again = self._again if len(body) <= MAX_KEPT_BYTES else bytearray()
        _encode_into(elements, again)
        return body.count(b":") != again.count(b":") and _colons_of_values(body) != _colons_of_values(again)

    def use(self, event_type: str) -> None:
        """Note that a batch has had events of this layout."""
        self._last_used[event_type] = self._batches

    def observe(self, event_type: Any, fields: Mapping[str, Raw]) -> None:
        """Add the fields of an event that went the lenient way to its type's layout, from the next batch on."""
        if not isinstance(event_type, str) or not _is_plain(event_type):
            return
        seen = self._seen_fields.get(event_type)
        if seen is None:
            if event_type not in DOCUMENTED_TYPES and not self._seen_before(event_type):
                return
            if len(self._seen_fields) >= MAX_LAYOUTS:
                self._forget(min(self._seen_fields.keys() - DOCUMENTED_TYPES, key=self._last_used.__getitem__))
            seen = self._seen_fields[event_type] = {}
            self._stale.add(event_type)
        self._last_used[event_type] = self._batches
        if _add_fields(seen, fields):
            self._stale.add(event_type)

    def seen_fields(self) -> dict[str, SeenFields]:
        """By type, for another process, which then reads the same batches as quickly. It can be pickled."""
        return self._seen_fields

    def adopt(self, seen_fields: dict[str, SeenFields]) -> None:
        """Take over the fields seen by another process that began with those known here."""
        old, self._seen_fields = self._seen_fields, seen_fields
        self._stale |= {name for name in old.keys() | seen_fields.keys() if old.get(name) != seen_fields.get(name)}
        self._last_used = {name: self._last_used.get(name, self._batches) for name in seen_fields}

    def _seen_before(self, event_type: str) -> bool:
        """Whether an earlier batch had the type."""
        if len(self._seen_once) >= MAX_TYPES_SEEN_ONCE:
            self._seen_once.pop(next(iter(self._seen_once)))
        return self._seen_once.setdefault(event_type, self._batches) < self._batches

    def _forget(self, event_type: str) -> None:
        """The decoder knows it until the next one is made."""
        del self._seen_fields[event_type], self._last_used[event_type]
        self._stale.add(event_type)

    def _may_make_a_decoder(self) -> bool:
        made = self._decoders_made
        return len(made) < MAX_DECODERS or self._batches - made[0] >= IN_BATCHES

    def _rebuild(self) -> None:
        self._decoders_made.append(self._batches)
        for event_type in sorted(self._stale):
            if (old := self._structs.pop(event_type, None)) is not None:
                del self.by_struct[old]
            if event_type in self._seen_fields:
                members = _members(self._seen_fields[event_type], tag=event_type)
                self._structs[event_type] = members.struct
                self.by_struct[members.struct] = Layout(event_type, members)
        self._stale.clear()
        event: Any = Union[(_Placeholder, *self._structs.values())]
        element: Any = msgspec.defstruct("Element", [("msys", dict[str, event])], forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.json.Decoder(list[element], strict=False).decode


class _Placeholder(msgspec.Struct, tag_field="type", tag=""):
    """Fits no event. msgspec requires the type's name in the JSON only where a union has several structs."""

    nothing: Annotated[int, msgspec.Meta(gt=0, lt=1)]


def _decode_nothing(body: bytes) -> Any:
    raise msgspec.ValidationError("nothing has been learnt yet")


def _colons_of_values(json: bytes | bytearray) -> int:
    return json.count(b":") - json.count(b":null") - json.count(b": null")


_encode_into = msgspec.json.Encoder().encode_into
_msys = attrgetter("msys")
_raw_elements = msgspec.json.Decoder(list[Raw])
_raw_event = msgspec.json.Decoder(dict[str, dict[str, Raw]])
_raw_object = msgspec.json.Decoder(dict[str, Raw])


def raw_events(body: bytes, events: Sequence[Any]) -> dict[int, bytes]:
    """The bytes of the events without an event id, by Python's id() of the event.

    `events` are all events that were decoded from `body`.
    """
    elements = _raw_elements.decode(body)
    return {
        id(event): bytes(next(iter(_raw_event.decode(element)["msys"].values())))
        for event, element in zip(events, elements, strict=True)
        if not event.event_id
    }


def _add_fields(seen: SeenFields, fields: Mapping[str, Raw]) -> bool:
    """Whether there was anything to add."""
    nested = nested_columns()
    objects = {name: members for name in fields.keys() & nested if (members := _names(fields[name])) is not None}
    names = [name for name in fields if name not in nested or name in objects]
    changed = _add(seen, names, {**plain_columns(), **nested}, objects)
    for name, members in objects.items():
        inner = seen[name]
        assert inner is not None  # noqa: S101  (a field is nested for good, or never)
        changed |= _add(inner, members, nested[name])
    return changed


def _names(value: Raw) -> Mapping[str, Raw] | None:
    try:
        return _raw_object.decode(value)
    except msgspec.DecodeError:
        return None


def _add(seen: dict[str, Any], names: Iterable[str], known: Mapping[str, Any], objects: Container[str] = ()) -> bool:
    """`known` has the names with a column. Where there are too many without one, those that are not in use go."""
    new = [name for name in names if name not in seen and (name in known or _is_plain(name))]
    if not new:
        return False
    unknown = [name for name in seen if name not in known]
    if len(unknown) + sum(name not in known for name in new) > MAX_UNKNOWN_FIELDS:
        for name in set(unknown).difference(names):
            del seen[name]
    room = MAX_UNKNOWN_FIELDS - sum(name not in known for name in seen)
    before = len(seen)
    for name in new:
        if name in known or room > 0:
            room -= name not in known
            seen[name] = {} if name in objects else None
    return len(seen) > before


def _is_plain(name: str) -> bool:
    """Whether msgspec accepts the name as a field's. Real senders' names always pass; very long ones do not."""
    return 0 < len(name) <= 128 and name.isprintable() and not set(name) & {'"', "\\"}


def _members(seen: Mapping[str, dict[str, None] | None], *, tag: str | None, within: str | None = None) -> Members:
    known = plain_columns() if within is None else nested_columns()[within]
    fields: list[Any] = []
    names: dict[str, str] = {}
    members = Members(None, [], [], [])
    wanted = dict(seen)
    if tag is not None:  # as every event is asked for them, whether the type was seen with them or not
        wanted.setdefault("customer_id")
        wanted.setdefault("event_id")
        wanted.setdefault("timestamp")
    for name, nested in wanted.items():
        if tag is not None and name == "type":
            continue  # the struct itself says it
        position = len(fields)
        if nested is not None:
            inner = _members(nested, tag=None, within=name)
            fields.append((name, inner.struct | None, None))
            members.nested.append((position, name, inner))
        elif name in known:
            column = known[name]
            fields.append((name, *_quick_type(name, column.type)))
            members.columns.append((position, column))
        else:  # under a name that is one in Python, too
            fields.append((f"unknown_{position}", Raw, None))
            names[f"unknown_{position}"] = name
            members.unknown.append((position, name))
    members.unknown.sort(key=lambda unknown: unknown[1])
    options: Any = {"forbid_unknown_fields": True, "omit_defaults": True, "gc": False}
    struct = msgspec.defstruct("Event", fields, tag_field=tag and "type", tag=tag, rename=names, **options)
    return members._replace(struct=struct)


def _quick_type(name: str, column_type: ColumnType) -> tuple[Any, Any]:
    """Type and default. Numbers and flags are not optional: msgspec would read the text "null" as null for those."""
    if column_type is TIMESTAMP:
        return (UNIX_SECONDS, None) if name in UNIX_TIMES else (str | None, None)
    if column_type in (JSON, DOUBLE):  # doubles column by column: msgspec would not say which digits it rounded off
        return Raw, ABSENT
    if column_type is TEXT:
        return str | None, None
    if column_type is BOOLEAN:
        return bool, None
    return INT64, None
