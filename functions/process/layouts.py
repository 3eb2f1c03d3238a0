"""The quick way from a stored batch to its events: one decoder for all of them, made of the fields known. Pure.

Every event is decoded into one struct that has every field of Bird's with a column, and those without one that were
seen before. An event that does not fit (a field seen for the first time, a number where text was) goes the lenient way
of normalise.py, and its fields are known from then on. Layouts decide speed only: a test checks that both ways give the
same rows.

One struct serves all types, so that nothing has to be learnt of Bird's own fields, an invocation has few, long columns,
and a decoder is made in a millisecond; a union of a struct for each type takes ten.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from process.columns import BIGINT, BOOLEAN, DOUBLE, JSON, TIMESTAMP, Column, ColumnType
from process.normalise import INT64, nested_columns, plain_columns

# How many fields without a column a stranger can make process remember, in an event and in each of its objects. When
# there are more, those that the newest event lacks are forgotten, so that a stranger cannot use the limit up for good.
MAX_UNKNOWN_FIELDS = 100
# Making a decoder takes a millisecond or two, so at most MAX_DECODERS are made in IN_BATCHES batches.
MAX_DECODERS, IN_BATCHES = 50, 1_000
# A buffer up to this size is kept, because getting new memory from the system takes longer than filling it.
MAX_KEPT_BYTES = 1024 * 1024

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
    """How events are held in memory while certain fields are known."""

    members: Members
    decode: Callable[[bytes], Any]


# Names of fields without a column, by the object that they are in ("" for the event itself).
type SeenFields = dict[str, dict[str, None]]


class DecodedBatch(NamedTuple):
    """Parallel lists. Numbers, flags and times are as the sender wrote them, text or not."""

    layout: Layout | None
    event_classes: list[str]
    events: list[Any]


class Layouts:
    """The fields known so far, and the layout made of them."""

    def __init__(self) -> None:
        self._seen_fields: SeenFields = {}
        self._batches = 0
        self._decoders_made: deque[int] = deque(maxlen=MAX_DECODERS)
        self._again = bytearray()
        self._rebuild()

    def decode(self, body: bytes) -> DecodedBatch | None:
        """All events of a batch, in its order; None if any of them has to go the lenient way."""
        self._batches += 1
        if self._is_stale and self._may_make_a_decoder():
            self._rebuild()
        return self._decoded(body)

    def decode_elements(self, raws: Sequence[bytes]) -> DecodedBatch | None:
        """The same for some elements of a batch, with what was known when the batch began."""
        return self._decoded(b"[%b]" % b",".join(raws))

    def _decoded(self, body: bytes) -> DecodedBatch | None:
        layout = self.layout
        try:
            if not body.isascii():
                body.decode()  # what becomes Raw is not looked at otherwise
            elements = layout.decode(body)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            return None
        objects = list(map(_msys, elements))
        events = list(chain.from_iterable(map(dict.values, objects)))
        if len(events) != len(objects):  # none or several classes in one element
            return None
        if self._repeats_a_name(body, elements):
            return None
        return DecodedBatch(layout, list(chain.from_iterable(objects)), events)

    def _repeats_a_name(self, body: bytes, elements: Any) -> bool:
        """Whether an object of the body has two members of one name. May be True for a body without such an object.

        msgspec keeps the last member of a name and drops the others silently, so the elements encoded again are shorter
        than the body. They are also shorter where the body has blanks, nulls or needless escapes, but never longer;
        then the colons are counted: fewer of them are members that were dropped.
        """
        again = self._again if len(body) <= MAX_KEPT_BYTES else bytearray()
        _encode_into(elements, again)
        if len(again) == len(body):
            return False
        # An escaped colon could hide a missing one. Searching one character is much faster than searching several.
        if b"\\" in body and (b"\\u003a" in body or b"\\u003A" in body):
            return True
        return body.count(b":") != again.count(b":") and _colons_of_values(body) != _colons_of_values(again)

    def observe(self, fields: Mapping[str, Raw]) -> None:
        """Know the fields of an event that went the lenient way, from the next batch on."""
        nested = nested_columns()
        self._is_stale |= self._add("", fields, {**plain_columns(), **nested})
        for name in fields.keys() & nested:
            self._is_stale |= self._add(name, _names(fields[name]), nested[name])

    def seen_fields(self) -> SeenFields:
        """For another process, which then reads the same batches as quickly. It can be pickled."""
        return self._seen_fields

    def adopt(self, seen_fields: SeenFields) -> None:
        """Take over the fields seen by another process that began with those known here."""
        self._is_stale |= seen_fields != self._seen_fields
        self._seen_fields = seen_fields

    def _add(self, within: str, names: Iterable[str], known: Mapping[str, Any]) -> bool:
        """Whether there was anything to add. `known` has the names with a column."""
        seen = self._seen_fields.setdefault(within, {})
        wanted = [name for name in names if name not in known and _is_plain(name)]
        new = [name for name in wanted if name not in seen]
        if not new:
            return False
        if len(seen) + len(new) > MAX_UNKNOWN_FIELDS:
            for name in seen.keys() - set(wanted):
                del seen[name]
        added = new[: max(0, MAX_UNKNOWN_FIELDS - len(seen))]
        seen |= dict.fromkeys(added)
        return bool(added)

    def _may_make_a_decoder(self) -> bool:
        made = self._decoders_made
        return len(made) < MAX_DECODERS or self._batches - made[0] >= IN_BATCHES

    def _rebuild(self) -> None:
        self._decoders_made.append(self._batches)
        members = _members(self._seen_fields)
        fields = [("msys", dict[str, members.struct])]  # type: ignore[name-defined]  # one of many
        element: Any = msgspec.defstruct("Element", fields, forbid_unknown_fields=True, gc=False)
        self.layout = Layout(members, msgspec.json.Decoder(list[element]).decode)
        self._is_stale = False


def _colons_of_values(json: bytes | bytearray) -> int:
    return json.count(b":") - json.count(b":null") - json.count(b": null")


_encode_into = msgspec.json.Encoder().encode_into
_msys = attrgetter("msys")
_raw_elements = msgspec.json.Decoder(list[Raw])
_raw_event = msgspec.json.Decoder(dict[str, dict[str, Raw]])
_raw_object = msgspec.json.Decoder(dict[str, Raw])


def raw_events(body: bytes, events: Sequence[Any]) -> dict[int, bytes]:
    """The bytes of the events without an event id, by their place among `events`, all that were decoded from `body`."""
    elements = _raw_elements.decode(body)
    places = [place for place, event in enumerate(events) if not event.event_id]
    return {place: bytes(next(iter(_raw_event.decode(elements[place])["msys"].values()))) for place in places}


def _names(value: Raw) -> Iterable[str]:
    try:
        return _raw_object.decode(value)
    except msgspec.DecodeError:
        return ()


def _is_plain(name: str) -> bool:
    """Whether msgspec accepts the name as a field's. Real senders' names always pass; very long ones do not."""
    return 0 < len(name) <= 128 and name.isprintable() and not set(name) & {'"', "\\"}


def _members(seen_fields: SeenFields, within: str = "") -> Members:
    """Fields by name, which is the order in which Bird writes most of them: msgspec looks for one behind the last."""
    known = nested_columns()[within] if within else {**plain_columns(), **nested_columns()}
    fields: list[Any] = []
    names: dict[str, str] = {}
    members = Members(None, [], [], [])
    for name in sorted({*known, *seen_fields.get(within, ())}):
        position = len(fields)
        column = known.get(name)
        if isinstance(column, Column):
            fields.append((name, _quick_type(name, column.type), None))
            members.columns.append((position, column))
        elif column is not None:
            inner = _members(seen_fields, name)
            fields.append((name, inner.struct | None, None))
            members.nested.append((position, name, inner))
        else:  # under a name that is one in Python, too
            fields.append((f"unknown_{position}", Raw, None))
            names[f"unknown_{position}"] = name
            members.unknown.append((position, name))
    options: Any = {"forbid_unknown_fields": True, "omit_defaults": True, "gc": False}
    return members._replace(struct=msgspec.defstruct("Event", fields, rename=names, **options))


def _quick_type(name: str, column_type: ColumnType) -> Any:
    """Numbers and flags come as the sender wrote them, and become such column by column: encoded again they are as long
    as they were, and what is written in another way than Bird does is looked at value by value."""
    if column_type in (JSON, DOUBLE):  # msgspec would not say which digits of a double it rounded off
        return Raw
    if column_type is BOOLEAN:
        return bool | INT64 | str | None
    if column_type is BIGINT or (column_type is TIMESTAMP and name in UNIX_TIMES):
        return INT64 | str | None
    return str | None
