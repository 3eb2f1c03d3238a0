"""Bytes, gzip or not -> the JSON values in them, one after the other. Pure.

Memory is bounded by the largest value, whatever the size of the whole: a file may hold a year in one array.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec import Raw

from process.gzip_body import GZIP, MAX_TIMES

MEBIBYTE = 1024 * 1024
# Of one value outside of an array, or of one element: a page of 10,000 events of Bird's Events API takes 15 MB.
MAX_VALUE_BYTES = 64 * MEBIBYTE
PIECE_BYTES = MEBIBYTE
# JSON of events becomes 10 to 30 times smaller by gzip, and nothing more than 1,032 times.
MOST_EXPANDED = 300
BOMB_FROM_BYTES = 64 * MEBIBYTE
MAX_DEPTH = 1_000
# One value that cannot be read costs that value where the next line begins another; each may cost a search of 64 MB.
MOST_DAMAGED = 100
_BOM = b"\xef\xbb\xbf"

# Between values: also commas, the record separator of RFC 7464, and the byte order marks of files that were joined.
_BETWEEN = re.compile(rb"(?:[ \t\r\n,\x1e]|\xef\xbb\xbf)*+")
_NEXT_LINE = re.compile(rb"\n[ \t\r,\x1e]*+(?=[{\[])")
_STRING = rb'"(?:[^"\\\n]++|\\[^\n])*+"'
# Up to a bracket, or a string that has not ended yet.
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)
_WHOLE_STRING = re.compile(_STRING, re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9a-zA-Z]++")
_raw = msgspec.json.Decoder(Raw)


class UnreadableError(Exception):
    """What cannot be read any further; the text is the reason, and holds nothing of the content."""


class Damaged(NamedTuple):
    """In the place of one value that cannot be read."""

    reason: str


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompressed where the bytes are gzip, once or twice, all members. Errors: UnreadableError, while iterating."""
    found = iter(chunks)
    for _ in range(MAX_TIMES):
        first, found = begin(found, len(GZIP))
        if not first.startswith(GZIP):
            break
        found = _gunzipped(found)
    return found


def begin(chunks: Iterator[bytes], count: int) -> tuple[bytes, Iterator[bytes]]:
    """At least that many of the first bytes, if there are so many; and all bytes again."""
    taken: list[bytes] = []
    while sum(map(len, taken)) < count and (chunk := next(chunks, None)) is not None:
        taken.append(chunk)
    return b"".join(taken), chain(taken, chunks)


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    packed = expanded = 0
    for chunk in chunks:
        packed += len(chunk)
        rest = chunk
        while rest:
            if member is None or member.eof:
                if member is not None:
                    rest = rest.lstrip(b"\0")  # padding, as tape drives have it
                    if not rest:
                        break
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while True:
                try:
                    piece = member.decompress(rest, PIECE_BYTES)
                except zlib.error:
                    raise UnreadableError("damaged gzip") from None
                expanded += len(piece)
                if expanded > max(BOMB_FROM_BYTES, packed * MOST_EXPANDED):
                    raise UnreadableError(f"gzip that becomes more than {MOST_EXPANDED} times larger")
                if piece:
                    yield piece
                rest = member.unconsumed_tail
                if not rest and len(piece) < PIECE_BYTES:
                    break
            rest = member.unused_data
    if member is not None and not member.eof:
        raise UnreadableError("gzip ends too early")


def values(chunks: Iterable[bytes]) -> Iterator[bytes | Damaged]:
    """Values that follow each other, with or without a line end between; of an array its elements, one by one.

    Each is JSON, but may not be UTF-8. After one that is not, the next line that begins an object or an array is read.
    Errors: UnreadableError, after what could be read.
    """
    reader = _Reader(iter(chunks))
    damaged = 0
    while True:
        try:
            raw = reader.next_value()
        except UnreadableError as error:
            if not reader.skip_to_next_line():
                raise
            if damaged == MOST_DAMAGED:
                raise UnreadableError(f"more than {MOST_DAMAGED} damaged lines: the rest is not read") from error
            damaged += 1
            yield Damaged(str(error))
            continue
        if raw is None:
            return
        yield raw


class _Reader:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.buffer = bytearray()
        self.at = 0
        self.in_array = False

    def next_value(self) -> bytes | None:
        while True:
            self._drop_read()
            self.at = _BETWEEN.match(self.buffer, self.at).end()  # type: ignore[union-attr]  # matches nothing, too
            if self.at == len(self.buffer):
                if self._more():
                    continue
                if self.in_array:
                    raise UnreadableError("ends too early")
                return None
            first = bytes(self.buffer[self.at : self.at + 1])
            if first == _BOM[:1] and len(self.buffer) - self.at < len(_BOM) and self._more():
                continue
            if first == b"[" and not self.in_array:
                self.in_array = True
            elif first == b"]" and self.in_array:
                self.in_array = False
            else:
                return self._value(first)
            self.at += 1

    def skip_to_next_line(self) -> bool:
        """From the value that cannot be read. False if no line after it, of what was read, can begin another."""
        found = _NEXT_LINE.search(self.buffer, self.at)
        if found is None:
            return False
        self.at = found.end()
        if self.buffer.startswith(b"[", self.at):  # of another batch: not inside of the one before
            self.in_array = False
        return True

    def _value(self, first: bytes) -> bytes:
        if not self.in_array and (line := self._line()) is not None:
            return line
        if first in b"{[":
            end = self._end_of_brackets()
        elif first == b'"':
            end = self._end_of_string()
        else:
            end = self._end_of_scalar()
        raw = bytes(self.buffer[self.at : end])
        if not is_json(raw):
            raise UnreadableError("not JSON")
        self.at = end
        return raw

    def _line(self) -> bytes | None:
        """The rest of the line, if it is one value: quicker than to look for its end."""
        end = self.buffer.find(b"\n", self.at)
        if end < 0:
            return None
        line = bytes(self.buffer[self.at : end]).rstrip(b" \t\r,")
        if line.startswith(b"[") or not is_json(line):
            return None
        self.at = end
        return line

    def _end_of_brackets(self) -> int:
        opened = bytearray()
        position = self.at
        while True:
            position = _TO_BRACKET.match(self.buffer, position).end()  # type: ignore[union-attr]  # matches nothing, too
            bracket = bytes(self.buffer[position : position + 1])
            if bracket in (b"", b'"'):
                if bracket and self.buffer.find(b"\n", position) >= 0:  # no text in JSON goes beyond a line
                    raise UnreadableError("not JSON")
                self._must_have_more()
                continue
            position += 1
            if bracket in b"{[":
                opened += b"}" if bracket == b"{" else b"]"
                if len(opened) > MAX_DEPTH:  # as in many lines of which none is closed
                    raise UnreadableError("nested too deeply")
            elif opened.pop() != bracket[0]:
                raise UnreadableError("not JSON")
            if not opened:
                return position

    def _end_of_string(self) -> int:
        while (found := _WHOLE_STRING.match(self.buffer, self.at)) is None:
            self._must_have_more()
        return found.end()

    def _end_of_scalar(self) -> int:
        while True:
            found = _SCALAR.match(self.buffer, self.at)
            if found is None:
                raise UnreadableError("not JSON")
            if found.end() < len(self.buffer) or not self._more():
                return found.end()

    def _must_have_more(self) -> None:
        if len(self.buffer) - self.at > MAX_VALUE_BYTES:
            raise UnreadableError(f"one value is larger than {MAX_VALUE_BYTES // MEBIBYTE} MB")
        wanted = (
            len(self.buffer) + (len(self.buffer) - self.at) // 2
        )  # as the value is looked at from its beginning again
        if not self._more():
            raise UnreadableError("ends too early")
        while len(self.buffer) < wanted and self._more():
            pass

    def _more(self) -> bool:
        """Whether anything came."""
        chunk = next(self.chunks, None)
        while chunk is not None and not chunk:
            chunk = next(self.chunks, None)
        self.buffer += chunk or b""
        return chunk is not None

    def _drop_read(self) -> None:
        if self.at > PIECE_BYTES:
            del self.buffer[: self.at]
            self.at = 0


def is_json(raw: bytes) -> bool:
    try:
        _raw.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
