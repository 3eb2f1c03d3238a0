"""A body into its elements, and what can be read of a damaged one. Pure: bytes in, bytes out.

One damaged element costs that element: its boundaries are found by strings and brackets, and where these do not match,
by the next `{"msys":`, which in JSON cannot stand inside a string. One damaged field costs that field: its text is
repaired with the replacement character U+FFFD.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw

ENDS_TOO_EARLY = "the body ends too early"
_BOM = b"\xef\xbb\xbf"
# msgspec refuses deeper nesting.
_MAX_DEPTH = 10_000
# How far an element may reach beyond the next `{"msys":`, which metadata may have in it, and after how many elements
# that reached further in vain none may: bounds the search.
_MAX_BEYOND_BYTES, _MAX_IN_VAIN = 64 * 1024, 20
# A gzip body of which each member is an array has up to gzip_body.MAX_MEMBERS. Eight million empty ones are 70 kB of
# gzip, and would take half a minute.
_MAX_ARRAYS = 1_000

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)
_TO_COMMA = re.compile(rb'(?:[^"{}\[\],]++|' + _STRING + rb")*+", re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n,]*+")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_NEXT = re.compile(rb'\{[ \t\r\n]*+"msys"[ \t\r\n]*+:')
_PROBE = re.compile(rb'\s*+\{\s*+"msys"\s*+:\s*+\{\s*+\}\s*+\}\s*+')
_MAX_PROBE_BYTES = 1024

_raw_list = msgspec.json.Decoder(list[Raw])
_raw = msgspec.json.Decoder(Raw)


class UnreadableBatchError(Exception):
    """A body that is not an array; the text is the reason."""


class Part(NamedTuple):
    """An element as it came; or, with `damage`, bytes that cannot be an element, and why."""

    raw: bytes
    damage: str | None = None
    is_json: bool = False  # False also means not known, as in a damaged body


def split(body: bytes) -> list[bytes]:
    """The bytes of each element of a batch, in the sender's order.

    Errors: UnreadableBatchError, and no other, whatever a sender may have written.
    """
    return [part.raw for part in parts(body) if part.raw]


def parts(body: bytes) -> Iterator[Part]:
    """The same with what is wrong. Errors: UnreadableBatchError."""
    try:
        elements = _raw_list.decode(body)
    except msgspec.ValidationError:
        raise UnreadableBatchError("not a JSON array") from None
    except RecursionError:
        yield from _damaged_parts(body, "nested too deeply")
    except msgspec.DecodeError:
        yield from _damaged_parts(body, "not JSON")
    else:
        for raw in elements:
            yield Part(bytes(raw), is_json=True)


def number_of_elements(body: bytes) -> int:
    """0 if the body is not an array to a strict reader."""
    try:
        return len(_raw_list.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return 0


def is_probe(raw: bytes) -> bool:
    """Bird's test of a webhook, as an element or as the whole body."""
    return len(raw) <= _MAX_PROBE_BYTES and _PROBE.fullmatch(raw) is not None


def _damaged_parts(body: bytes, reason: str) -> Iterator[Part]:
    """One array or several in a row, as the members of a gzip body may bring them.

    Errors: UnreadableBatchError with that reason.
    """
    position = _after_space(body, len(_BOM) if body.startswith(_BOM) else 0)
    if body[position : position + 1] != b"[":
        raise UnreadableBatchError("not JSON")
    any_whole = False
    following, in_vain = -1, 0
    arrays = 0
    while position < len(body):
        arrays += 1
        if body[position : position + 1] != b"[" or arrays > _MAX_ARRAYS:
            yield Part(body[position:], "not part of an array")
            return
        position = _after(_BETWEEN, body, position + 1)
        while body[position : position + 1] != b"]":
            if position == len(body):
                yield Part(b"", ENDS_TOO_EARLY)
                return
            if following <= position:
                marker = _NEXT.search(body, position + 1)
                following = marker.start() if marker else len(body)
            end = _end(body, position, following, _MAX_BEYOND_BYTES if in_vain < _MAX_IN_VAIN else 0)
            in_vain += end == following
            raw = body[position:end].rstrip(b" \t\r\n,")
            if end == len(body) and not _is_json(raw):
                if not any_whole:
                    raise UnreadableBatchError(reason)
                yield Part(raw, ENDS_TOO_EARLY)
                return
            any_whole = True
            yield Part(raw)
            position = _after(_BETWEEN, body, end)
        position = _after_space(body, position + 1)


def _end(body: bytes, start: int, following: int, beyond: int) -> int:
    """Where the element ends that begins at `start`; after it, the next `{"msys":` is at `following`."""
    end = _end_by_brackets(body, start, min(len(body), following + beyond))
    if end is None or (end > following and not _is_json(body[start:end])):
        return following
    return end


def _end_by_brackets(body: bytes, start: int, limit: int) -> int | None:
    """None where strings or brackets do not match, or what follows is no end of an element."""
    if body[start : start + 1] not in (b"{", b"["):
        end = _TO_COMMA.match(body, start, limit).end()  # type: ignore[union-attr]  # matches nothing, too
        return end if end > start and body[end : end + 1] in (b",", b"]", b"") else None
    opened = bytearray()
    position = start
    while True:
        position = _TO_BRACKET.match(body, position, limit).end()  # type: ignore[union-attr]  # matches nothing, too
        bracket = body[position : position + 1]
        if position >= limit or bracket == b'"' or len(opened) > _MAX_DEPTH:
            return None
        position += 1
        if bracket in b"{[":
            opened += b"}" if bracket == b"{" else b"]"
        elif opened.pop() != bracket[0]:
            return None
        if not opened:
            after = _after_space(body, position)
            follows = body[after : after + 1] in (b",", b"]", b"") or _NEXT.match(body, after)
            return position if follows else None


def _after(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    return pattern.match(body, position).end()  # type: ignore[union-attr]  # each matches nothing, too


def _after_space(body: bytes, position: int) -> int:
    return _after(_SPACE, body, position)


def _is_json(raw: bytes) -> bool:
    try:
        _raw.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


# --- Repair -----------------------------------------------------------------------------------------------------------

# A string that nothing closes is a token, too: or each quote in it would be tried to its end.
# JSON's blanks are ASCII's. Another one is a part of a word: if it ended one, `repair_steps` would have to count it.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?+|,(?=[ \t\r\n]*+[}\]])|[^\s"{}\[\],:]++', re.DOTALL | re.ASCII)
_VALUE = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_IN_STRING = re.compile(
    r"(?P<good>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r'|(?P<escape>\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))'
    r"|(?P<backslash>\\)"
    r"|(?P<control>[\x00-\x1f])"
)


_STEPS = bytes(range(32)) + b' "\\{}[],:'


def repair_steps(raw: bytes) -> int:
    """At least as many as `repaired` has tokens and characters to look at one by one."""
    return len(raw) - len(raw.translate(None, _STEPS))


def repaired(raw: bytes) -> bytes:
    """The element with U+FFFD for what is no text (bytes, escapes, halves of surrogate pairs), and control characters
    escaped; values that are none (NaN, 007) as text; without commas that nothing follows."""
    return _TOKEN.sub(_repaired_token, raw.decode(errors="replace")).encode()


def _repaired_token(match: re.Match[str]) -> str:
    found = match[0]
    if found[0] == '"':
        return _IN_STRING.sub(_repaired_text, found)
    if found == ",":
        return ""
    return found if _VALUE.fullmatch(found) else json.dumps(found)


def _repaired_text(match: re.Match[str]) -> str:
    match match.lastgroup:
        case "half":
            return "\\ufffd"
        case "backslash":
            return "\ufffd"
        case "control":
            return f"\\u{ord(match[0]):04x}"
    return match[0]
