"""The quick way from a stored batch to its events: one decoder for all of it, learnt from the events. Pure.

Events of one type carry much the same fields in much the same order. A Layout is a struct of just those fields, fields
that have no column among them, and a batch is decoded into such structs at once. Whatever does not fit (a type or a
field seen for the first time, a number where text was) goes the lenient way of normalise.py, and is learnt from.
So layouts decide speed only, no list of fields per type is kept, and a test holds both ways equal.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, Union

import msgspec
from msgspec import Raw

from process.columns import BOOLEAN, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.normalise import INT64, UNIX_SECONDS, nested_columns, plain_columns

# Bounds on what a stranger's inventions can make us learn; the rest goes the lenient way.
MAX_LAYOUTS = 200
MAX_LESSONS = 500
MAX_UNKNOWN_FIELDS = 100

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
    """How events of one type are laid out in memory."""

    event_type: str
    members: Members


# Names of fields in the order in which Bird writes them; a nested object has its own.
type Lesson = dict[str, dict[str, None] | None]


class DecodedBatch(NamedTuple):
    """Parallel lists; each event is a struct with at least `customer_id`, `event_id`, `timestamp` (Unix seconds)."""

    event_classes: list[str]
    events: list[Any]


class Layouts:
    """All layouts learnt so far, and the decoder made of them."""

    def __init__(self) -> None:
        self.by_struct: dict[Any, Layout] = {}
        self._lessons: dict[str, Lesson] = {}
        self._structs: dict[str, Any] = {}
        self._lessons_taken = 0
        self._stale: set[str] = set()
        self._decode: Any = _decode_nothing

    def decode(self, body: bytes) -> DecodedBatch | None:
        """All events of a batch, in its order; None if any of them has to go the lenient way."""
        if self._stale:
            self._rebuild()
        return self._decoded(body)

    def decode_element(self, raw: bytes) -> DecodedBatch | None:
        """The same for one element of a batch, with what was known when the batch began."""
        return self._decoded(b"[%b]" % raw)

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
        # Of several members of one name msgspec takes the last, and says nothing of the others: these miss when the
        # elements are written again. Their colons are counted, and without those of nulls, which are not written.
        again = _encode(elements)
        if body.count(b":") != again.count(b":") and _colons_of_values(body) != _colons_of_values(again):
            return None
        return DecodedBatch(list(chain.from_iterable(objects)), events)

    def learn(self, event_type: Any, fields: Mapping[str, Raw]) -> None:
        """Widen the layout of a type by the fields of an event that went the lenient way; from the next batch on."""
        if not isinstance(event_type, str) or not _is_plain(event_type) or self._lessons_taken >= MAX_LESSONS:
            return
        lesson = self._lessons.get(event_type)
        if lesson is None:
            if len(self._lessons) >= MAX_LAYOUTS:
                return
            lesson = self._lessons[event_type] = {}
            self._stale.add(event_type)
        if _widen(lesson, fields):
            self._lessons_taken += 1
            self._stale.add(event_type)

    def _rebuild(self) -> None:
        for event_type in sorted(self._stale):
            if (old := self._structs.get(event_type)) is not None:
                del self.by_struct[old]
            members = _members(self._lessons[event_type], tag=event_type)
            self._structs[event_type] = members.struct
            self.by_struct[members.struct] = Layout(event_type, members)
        self._stale.clear()
        event: Any = Union[(_Nothing, *self._structs.values())]
        element: Any = msgspec.defstruct("Element", [("msys", dict[str, event])], forbid_unknown_fields=True, gc=False)
        self._decode = msgspec.json.Decoder(list[element], strict=False).decode


class _Nothing(msgspec.Struct, tag_field="type", tag=""):
    """An alternative that no event can be: msgspec wants a type to be named only where there are several."""

    nothing: Annotated[int, msgspec.Meta(gt=0, lt=1)]


def _decode_nothing(body: bytes) -> Any:
    raise msgspec.ValidationError("nothing has been learnt yet")


def _colons_of_values(json: bytes) -> int:
    return json.count(b":") - json.count(b":null") - json.count(b": null")


_encode = msgspec.json.Encoder().encode
_msys = attrgetter("msys")
_raw_events = msgspec.json.Decoder(list[dict[str, dict[str, Raw]]])
_raw_object = msgspec.json.Decoder(dict[str, Raw])


def raw_events(body: bytes) -> Iterator[bytes]:
    """The bytes of each event of a batch that `Layouts.decode` has read."""
    for element in _raw_events.decode(body):
        (raw,) = element["msys"].values()
        yield bytes(raw)


def _widen(lesson: Lesson, fields: Mapping[str, Raw]) -> bool:
    """Whether there was anything to add."""
    changed = False
    for name, value in fields.items():
        if name in nested_columns():
            members = _names(value)
            if members is not None:
                changed |= name not in lesson
                inner = lesson.setdefault(name, {})
                assert inner is not None  # noqa: S101  (a field is nested for good, or never)
                changed |= _add(inner, members, nested_columns()[name])
        else:
            changed |= _add(lesson, [name], plain_columns())
    return changed


def _names(value: Raw) -> Iterable[str] | None:
    try:
        return _raw_object.decode(value)
    except msgspec.DecodeError:
        return None


def _add(lesson: dict[str, Any], names: Iterable[str], known: Mapping[str, Column]) -> bool:
    unknown = sum(name not in known for name in lesson)
    before = len(lesson)
    for name in names:
        if name in known or (unknown < MAX_UNKNOWN_FIELDS and _is_plain(name)):
            unknown += name not in known and name not in lesson
            lesson.setdefault(name, None)
    return len(lesson) > before


def _is_plain(name: str) -> bool:
    """Whether msgspec takes the name; those it does not, no sender in earnest would choose."""
    return name.isprintable() and name != "" and not set(name) & {'"', "\\"}


def _members(lesson: Mapping[str, dict[str, None] | None], *, tag: str | None, within: str | None = None) -> Members:
    known = plain_columns() if within is None else nested_columns()[within]
    fields: list[Any] = []
    names: dict[str, str] = {}
    members = Members(None, [], [], [])
    wanted = dict(lesson)
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
    """Type and default. Numbers and flags are not optional: for those, msgspec would take the text "null" for null."""
    if column_type is TIMESTAMP:
        return (UNIX_SECONDS, None) if name in UNIX_TIMES else (str | None, None)
    if column_type in (JSON, DOUBLE):  # doubles column by column: msgspec would not say which digits it rounded off
        return Raw, ABSENT
    if column_type is TEXT:
        return str | None, None
    if column_type is BOOLEAN:
        return bool, None
    return INT64, None
