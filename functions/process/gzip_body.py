"""A body that may be gzip -> its bytes, within a bound. Pure."""

import zlib
from typing import NamedTuple

from process.bounds import BeyondBoundsError

GZIP = b"\x1f\x8b"
CUT = "gzip ends too early"
# A proxy may compress again what the sender has compressed.
MAX_TIMES = 2
# Each member costs a copy of all that follows it; tools that write several write one for 64 kB or more.
MAX_MEMBERS = 1_000


class NotGzipError(Exception):
    """The body begins like gzip but is damaged; the text is the reason."""


class Unzipped(NamedTuple):
    """`damage`: why, and which bytes could not be decompressed."""

    body: bytes
    damage: list[tuple[str, bytes]]


def decompressed(body: bytes, at_most: int) -> Unzipped:
    """All members (RFC 1952), compressed once or twice. A body that is not gzip is returned unchanged.

    Errors: NotGzipError, BeyondBoundsError for more than `at_most` bytes.
    """
    damage: list[tuple[str, bytes]] = []
    for _ in range(MAX_TIMES):
        if not body.startswith(GZIP):
            break
        unzipped = _members(body, at_most)
        body = unzipped.body
        damage += unzipped.damage
    return Unzipped(body, damage)


def _members(body: bytes, at_most: int) -> Unzipped:
    found = bytearray()
    rest = body
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            found += member.decompress(rest, at_most - len(found) + 1)
        except zlib.error:
            if rest is body:
                raise NotGzipError("not gzip") from None
            break
        if len(found) > at_most:
            raise BeyondBoundsError(f"larger than {at_most} bytes when decompressed")
        if not member.eof:
            return Unzipped(bytes(found), [(CUT, rest)])
        rest = member.unused_data
        if not rest.startswith(GZIP):
            break
    padding = not rest.strip(b"\0")  # as tape drives, and Python's gzip module, have it
    return Unzipped(bytes(found), [] if padding else [("not gzip after the end of gzip", rest)])
