"""A body that may be gzip -> all that it decompresses to, however damaged it is; and what does not decompress. Pure.

process refuses damaged gzip (process/gzip_body.py). `erase` must search it all the same, so this module goes on reading
after the damage. Where a checksum is wrong, the text is given and damage is reported with it: one flipped bit can end a
member too early, or give text in which an address is no longer what it was.
"""

import re
import zlib
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import NamedTuple

from process.gzip_body import GZIP, MAX_TIMES

DEFLATED = GZIP + b"\x08"
# RFC 1952, section 2.3: flags of the header, and the sizes of its fixed part and of the checksum and length at the end.
HEADER_CHECKSUM, EXTRA, NAME, COMMENT = 2, 4, 8, 16
HEADER_BYTES, TRAILER_BYTES, CHECKSUM_BYTES = 10, 8, 4
MAX_NAME_BYTES = 4096  # or each of many headers without an end would be searched to the end of the body
# Deflate makes at most 1,032 times as much of it.
WINDOW_BYTES = 8 * 1024
# JSON of events compresses to a tenth. Four bytes that name up to so many times the data are taken for a length.
MAX_RATIO = 50
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f]")


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
    """`body`: the members' text, or what never was gzip. `rest`: everything else, and an empty piece for damage that is
    at no place.

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
            return _not_gzip(body, rest, at_most)
        found = pieces(body, at_most)
        if found is None:
            return Unpacked(body, rest, too_large=True)
        rest += [piece for piece in found if piece.kind is not Kind.MEMBER]
        body = b"".join(piece.text for piece in found if piece.kind is Kind.MEMBER)
    if body.startswith(GZIP):
        return Unpacked(b"", [*rest, Piece(body, b"", Kind.DAMAGED)])
    return _not_gzip(body, rest, at_most)


def _not_gzip(body: bytes, rest: list[Piece], at_most: int) -> Unpacked:
    """There may be gzip after its beginning, and it may have been gzip before one of its first bytes was damaged.

    Of an array each element is known, and searched by itself.
    """
    if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return Unpacked(body, rest)
    begins = _next_member(body, 0)
    found = pieces(body[begins:], at_most) or [Piece(body[begins:], b"", Kind.DAMAGED)] if begins < len(body) else []
    alike = sum(one == other for one, other in zip(body, DEFLATED, strict=False)) == len(DEFLATED) - 1
    damage = [Piece(b"", b"", Kind.DAMAGED)] if alike and is_binary(body[:begins]) else []
    return Unpacked(body[:begins], [*rest, *found, *damage])


def is_binary(body: bytes) -> bool:
    """Whether it is neither text nor text of which some bytes are damaged."""
    if body.isascii() or not _NO_TEXT.search(body):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return False


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
            binary = is_binary(body[start:position])
            yield Mark(start, position, Kind.DAMAGED if damaged or binary else Kind.PLAIN)
            continue
        certain = True
        data = _after_header(body, start)
        if data is None:
            position, damaged = _next_member(body, start + len(GZIP)), True
        else:
            if data > start + HEADER_BYTES:
                yield body[start + HEADER_BYTES : data]
                yield Mark(start, start, Kind.PLAIN)
            position, damaged, certain = yield from _inflated(body, data)
            position = _next_member(body, position) if damaged else position + TRAILER_BYTES
        yield Mark(start, min(position, len(body)), Kind.DAMAGED if damaged else Kind.MEMBER)
        if not certain:
            damaged = True
            yield Mark(start, start, Kind.DAMAGED)


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


def _inflated(body: bytes, position: int) -> Generator[bytes, None, tuple[int, bool, bool]]:
    """The text; then, where the data ends, whether that is because of damage, and whether the text is as it was."""
    member = zlib.decompressobj(-zlib.MAX_WBITS)
    start, checksum = position, 0
    while position < len(body) and not member.eof:
        window = body[position : position + WINDOW_BYTES]
        before = member.copy()
        try:
            text = member.decompress(window)
        except zlib.error:  # and the window's text is lost with it
            read, text = _up_to_damage(before, window)
            yield text
            return position + read, True, True
        yield text
        checksum = zlib.crc32(text, checksum)
        position += len(window) - len(member.unused_data)
    if member.eof:
        # A cut within the checksum changes nothing before it.
        stored = body[position : position + CHECKSUM_BYTES]
        return position, False, checksum.to_bytes(CHECKSUM_BYTES, "little").startswith(stored)
    return position, False, not _ends_like_a_member(body[start:])


def _ends_like_a_member(data: bytes) -> bool:
    """Whether the data was not cut: it ends with a length, so its end was read as data because of damage before it."""
    length = int.from_bytes(data[-4:], "little")
    return len(data) > TRAILER_BYTES and 0 < length <= len(data) * MAX_RATIO


def _up_to_damage(member: "zlib._Decompress", window: bytes) -> tuple[int, bytes]:
    """How many bytes of the window were read, and their text."""
    text = b""
    for read in range(len(window)):
        try:
            text += member.decompress(window[read : read + 1])
        except zlib.error:
            return read + 1, text
    return len(window), text
