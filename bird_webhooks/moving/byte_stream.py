"""Chunks of bytes as a file that can be read once."""

from collections.abc import Iterator
from io import BufferedReader, RawIOBase


def byte_stream(chunks: Iterator[bytes]) -> BufferedReader:
    return BufferedReader(_Chunks(chunks))


class _Chunks(RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self.rest:
            chunk = next(self.chunks, None)
            if chunk is None:
                return 0
            self.rest = chunk
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count
