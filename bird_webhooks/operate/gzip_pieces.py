"""A body that may be gzip -> all that it decompresses to, however damaged it is; and what does not decompress. Pure.

process refuses damaged gzip (process/gzip_body.py). `erase` must search it all the same, so this module ignores
checksums and lengths, and goes on reading after the damage.
"""

import zlib
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import NamedTuple

from process.gzip_body import GZIP, MAX_TIMES

DEFLATED = GZIP + b"\x08"
# RFC 1952, section 2.3: flags of the header, and the sizes of its fixed part and of the checksum and length at the end.
HEADER_CHECKSUM, EXTRA, NAME, COMMENT = 2, 4, 8, 16
HEADER_BYTES, TRAILER_BYTES = 10, 8
MAX_NAME_BYTES = 4096  # or each of many headers without an end would be searched to the end of the body
# Deflate makes at most 1,032 times as much of it.
WINDOW_BYTES = 8 * 1024


class Kind(Enum):
    MEMBER = auto()  # decompressed to its end, or to where the body was cut
    DAMAGED = auto()  # decompressed up to the damage, if at all
    PLAIN = auto()  # not compressed: between members, after them, or in a header


class Piece(NamedTuple):
    raw: bytes  # as it is in the body
    text: bytes  # decompressed
    kind: Kind


class Mark(NamedTuple):
    """Ends a piece: where it is in the body."""

    start: int
    end: int
    kind: Kind


class Unpacked(NamedTuple):
    """`body`: the members' text, or what never was gzip. `rest`: everything else.

    `too_large`: `body` is still gzip, of more text than was asked for.
    """

    body: bytes
    rest: list[Piece]
    too_large: bool = False


def unpacked(body: bytes, at_most: int) -> Unpacked:
    """Compressed as often as process takes it; what is compressed more often comes as damaged."""
    rest: list[Piece] = []
    for _ in range(MAX_TIMES):
        if not body.startswith(GZIP):
            return Unpacked(body, rest)
        found = pieces(body, at_most)
        if found is None:
            return Unpacked(body, rest, too_large=True)
        rest += [piece for piece in found if piece.kind is not Kind.MEMBER]
        body = b"".join(piece.text for piece in found if piece.kind is Kind.MEMBER)
    if body.startswith(GZIP):
        return Unpacked(b"", [*rest, Piece(body, b"", Kind.DAMAGED)])
    return Unpacked(body, rest)


def pieces(body: bytes, at_most: int) -> list[Piece] | None:
    """Of a gzip body; None if there are more than `at_most` bytes of text."""
    found: list[Piece] = []
    texts: list[bytes] = []
    size = 0
    for one in stream(body):
        if isinstance(one, Mark):
            found.append(Piece(body[one.start : one.end], b"".join(texts), one.kind))
            texts = []
            continue
        texts.append(one)
        size += len(one)
        if size > at_most:
            return None
    return found


def stream(body: bytes) -> Iterator[bytes | Mark]:
    """The text of each piece in its order, a little at a time; after it, the piece's mark."""
    position = 0
    damaged = True
    while position < len(body):
        start = position
        if not body.startswith(GZIP, start):
            position = _next_member(body, start)
            yield body[start:position]
            yield Mark(start, position, Kind.DAMAGED if damaged else Kind.PLAIN)
            continue
        data = _after_header(body, start)
        if data is None:
            position, damaged = _next_member(body, start + len(GZIP)), True
        else:
            if data > start + HEADER_BYTES:
                yield body[start + HEADER_BYTES : data]
                yield Mark(start, start, Kind.PLAIN)
            position, damaged = yield from _inflated(body, data)
            position = _next_member(body, position) if damaged else position + TRAILER_BYTES
        yield Mark(start, min(position, len(body)), Kind.DAMAGED if damaged else Kind.MEMBER)


def _next_member(body: bytes, start: int) -> int:
    position = body.find(DEFLATED, start)
    return len(body) if position < 0 else position


def _after_header(body: bytes, start: int) -> int | None:
    """Where the compressed data begins; None if this is no whole header of a member."""
    position = start + HEADER_BYTES
    if position > len(body) or not body.startswith(DEFLATED, start):
        return None
    flags = body[start + 3]
    if flags & EXTRA:
        position += 2 + int.from_bytes(body[position : position + 2], "little")
    for flag in (NAME, COMMENT):
        if flags & flag:
            position = body.find(b"\0", position, position + MAX_NAME_BYTES) + 1
            if not position:
                return None
    if flags & HEADER_CHECKSUM:
        position += 2
    return position if position <= len(body) else None


def _inflated(body: bytes, position: int) -> Generator[bytes, None, tuple[int, bool]]:
    """The text; then, where the data ends and whether that is because of damage."""
    member = zlib.decompressobj(-zlib.MAX_WBITS)
    while position < len(body) and not member.eof:
        window = body[position : position + WINDOW_BYTES]
        before = member.copy()
        try:
            text = member.decompress(window)
        except zlib.error:  # and the window's text is lost with it
            read, text = _up_to_damage(before, window)
            yield text
            return position + read, True
        yield text
        position += len(window) - len(member.unused_data)
    return position, False


def _up_to_damage(member: "zlib._Decompress", window: bytes) -> tuple[int, bytes]:
    """How many bytes of the window were read, and their text."""
    text = b""
    for read in range(len(window)):
        try:
            text += member.decompress(window[read : read + 1])
        except zlib.error:
            return read + 1, text
    return len(window), text
