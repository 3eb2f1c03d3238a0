"""Fields that must not reach the rows: dropped, or hashed with a key. Pure.

Applied to columns, once events have become such, and to `extra`, where a value stands under Bird's own name when it has
no column or did not fit its column.
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import cache

import msgspec
from arro3.core import Array, DataType
from msgspec import Raw

from process.columns import COLUMNS, TEXT, Column
from process.normalise import BESIDE_MSYS, json_object, nested_columns, plain_columns

# What says which event a row is, and where it came from. The account is part of it: without it, one account's event
# would hide another's that has the same id.
IDENTITY = ("event_class", "type", "timestamp", "event_id", "event_key", "batch_id", "received_at", "customer_id")
IDENTITY_FIELDS = ("type", "timestamp", "event_id", "customer_id")  # of Bird's; its `batch_id` is another one
# Prefix that names a field of Bird's without a column. Without it, a misspelt column would pass as such a field.
WITHOUT_COLUMN = "extra."
EXTRA = "extra"


class Treatment(Enum):
    DROPPED = 1
    HASHED = 2


class UnknownFieldError(Exception):
    """A setting names a field that does not exist or must not be protected; the text says which."""


@cache
def droppable() -> tuple[str, ...]:
    """Columns, the objects that are flattened into several, and `extra` as a whole."""
    return (*(column.name for column in COLUMNS if column.name not in IDENTITY), *nested_columns())


@cache
def hashable() -> tuple[str, ...]:
    """Columns of text only: a hash is text, so a hashed column of another type would change its type."""
    return tuple(column.name for column in COLUMNS if column.type is TEXT and column.name not in IDENTITY)


class Protection:
    """How each field is treated. `key` is used for the hashes only."""

    def __init__(self, drop: Iterable[str], hashed: Iterable[str], key: bytes) -> None:
        """Errors: UnknownFieldError."""
        named = {path: Treatment.HASHED for name in hashed for path in _paths(name, hashable(), "hashed")}
        named |= {path: Treatment.DROPPED for name in drop for path in _paths(name, droppable(), "dropped")}
        if "rcpt_to" in named:  # the same address, in the sender's spelling
            named.setdefault("raw_rcpt_to", named["rcpt_to"])
        if Treatment.HASHED in named.values() and not key:
            raise UnknownFieldError("there are fields to hash, and no key")
        self._key = key
        self._treatments: Mapping[str, Treatment] = named
        self._parents = {before for path in named for before in _before(path)}
        self.dropped = [column.name for column in COLUMNS if self._treatment(column) is Treatment.DROPPED]
        self.hashed = [column.name for column in COLUMNS if self._treatment(column) is Treatment.HASHED]

    def apply(self, columns: dict[str, Array]) -> None:
        """Take the dropped columns out, and put hashes in the place of values."""
        for name in self.dropped:
            columns.pop(name, None)
        known = _Hashes(self)
        for name in self.hashed:
            if name in columns:
                columns[name] = _text_array([text and known[text] for text in columns[name].to_pylist()])
        if EXTRA in columns:
            columns[EXTRA] = _text_array([text and self._extra(text) for text in columns[EXTRA].to_pylist()])

    def hash(self, text: str) -> str:
        """The same for `Ann@example.com` and `ann@example.com`, whatever the field: rows are joined by it."""
        return hmac.digest(self._key, text.lower().encode(), "sha256").hex()

    def _treatment(self, column: Column) -> Treatment | None:
        path = _path(column)
        return next((self._treatments[one] for one in (*_before(path), path) if one in self._treatments), None)

    def _extra(self, text: str) -> str | None:
        kept: dict[str, str] = {}
        for name, value in _object.decode(text).items():
            rest = self._kept(name.removesuffix(BESIDE_MSYS), value)
            if rest is not None:
                kept[name] = rest
        return json_object(kept) if kept else None

    def _kept(self, path: str, value: Raw) -> str | None:
        """What is left of a value in `extra`, as JSON."""
        treatment = self._treatments.get(path)
        if treatment is Treatment.DROPPED:
            return None
        if treatment is Treatment.HASHED:
            return f'"{self.hash(_text(value))}"'
        if path not in self._parents:
            return str(value, "utf-8")
        try:
            members = _object.decode(value)
        except msgspec.DecodeError:  # not an object, so its protected members cannot be told from the others
            return None
        kept = {name: self._kept(f"{path}.{name}", member) for name, member in members.items()}
        rest = {name: member for name, member in kept.items() if member is not None}
        return json_object(rest) if rest else None


class _Hashes(dict[str, str]):
    """By text; most recipients come more than once."""

    def __init__(self, protection: Protection) -> None:
        self.protection = protection

    def __missing__(self, text: str) -> str:
        self[text] = hashed = self.protection.hash(text)
        return hashed


_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)


def names(setting: str) -> list[str]:
    return [name.strip() for name in setting.split(",") if name.strip()]


def _paths(name: str, allowed: Sequence[str], what: str) -> list[str]:
    """Bird's name for the field, `object.member` where it lies in an object."""
    if name in IDENTITY or name.removeprefix(WITHOUT_COLUMN) in IDENTITY_FIELDS:
        raise UnknownFieldError(f"{name} cannot be {what}: it is part of what tells one event from another")
    if name.startswith(WITHOUT_COLUMN) and what == "dropped":
        path = name.removeprefix(WITHOUT_COLUMN)
        # Nor a part of what is a column as a whole: it would stay there.
        if path and not set(_before(path)) & plain_columns().keys():
            return [path]
    if name not in allowed:
        raise UnknownFieldError(f"{name} is no field that can be {what}")
    return [_path(column) for column in COLUMNS if column.name == name] or [name]


def _path(column: Column) -> str:
    return column.field or column.name


def _before(path: str) -> list[str]:
    """The objects that `a.b.c` lies in: `a`, `a.b`."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _text(value: Raw) -> str:
    try:
        return _string.decode(value)
    except msgspec.DecodeError:
        return str(value, "utf-8")


def _text_array(values: Sequence[str | None]) -> Array:
    return Array(values, DataType.utf8())
