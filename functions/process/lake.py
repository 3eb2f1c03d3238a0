"""Adapters: the raw bucket's batches read, the lake bucket's files written."""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from process.normalise import StoredBatch
from process.notification import RawObject

# More than any front door lets through (6 MB), and still small beside the function's memory.
MAX_BODY_BYTES = 64 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StorageUnavailableError(Exception):
    """S3 did not answer as it should; the queue should try again."""


class UnreadableObjectError(Exception):
    """An object that will never be readable: `original` is what is left of it."""

    def __init__(self, reason: str, batch: StoredBatch) -> None:
        super().__init__(reason)
        self.reason = reason
        self.batch = batch


def read_batch(raw: RawObject, *, allow_http: bool) -> StoredBatch:
    """The batch as it was sent, no longer compressed.

    Errors: UnreadableObjectError (deleted, too large, or no gzip after all), StorageUnavailableError.
    """
    batch_id = PurePosixPath(raw.key).name.removesuffix(".json")
    try:
        result = obstore.get(_store(raw.bucket, allow_http), raw.key)
        received_at = _received_at(result.attributes, result.meta["last_modified"])
        if result.meta["size"] > MAX_BODY_BYTES:
            batch = StoredBatch(batch_id, raw.key, received_at, b"")
            raise UnreadableObjectError(f"larger than {MAX_BODY_BYTES} bytes", batch)
        body = bytes(result.bytes())
    except FileNotFoundError:
        batch = StoredBatch(batch_id, raw.key, _milliseconds(datetime.now(UTC)), b"")
        raise UnreadableObjectError("the raw object was deleted before it was read", batch) from None
    except (BaseError, OSError) as error:
        raise StorageUnavailableError(type(error).__name__) from error
    batch = StoredBatch(batch_id, raw.key, received_at, body)
    encoding = str(result.attributes.get("Content-Encoding", "identity")).lower()
    if encoding in ("", "identity"):
        return batch
    if encoding != "gzip":
        raise UnreadableObjectError("content-encoding is not gzip", batch)
    return batch._replace(body=_decompressed(batch))


def _decompressed(batch: StoredBatch) -> bytes:
    """Bounded, for a few kB of gzip can claim to be gigabytes."""
    try:
        decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
        body = decompressor.decompress(batch.body, MAX_BODY_BYTES)
    except zlib.error:
        raise UnreadableObjectError("not gzip", batch) from None
    if decompressor.unconsumed_tail:
        raise UnreadableObjectError(f"larger than {MAX_BODY_BYTES} bytes when decompressed", batch)
    if not decompressor.eof:
        raise UnreadableObjectError("gzip ends too early", batch)
    return body


def _received_at(attributes: Any, last_modified: datetime) -> int:
    try:
        return _milliseconds(datetime.fromisoformat(attributes["received-at"]))
    except (KeyError, ValueError, TypeError):  # not stored by ingest
        return _milliseconds(last_modified)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Lake:
    bucket: str
    allow_http: bool

    def write(self, key: str, body: bytes, content_type: str) -> None:
        """Overwrites: the same input writes the same object. Errors: StorageUnavailableError."""
        try:
            obstore.put(
                _store(self.bucket, self.allow_http),
                key,
                body,
                attributes={"Content-Type": content_type},
                use_multipart=False,
            )
        except (BaseError, OSError) as error:  # OSError: a bucket that is not there
            raise StorageUnavailableError(type(error).__name__) from error


@cache
def _store(bucket: str, allow_http: bool) -> S3Store:
    """Kept for the life of the execution environment; gives up well before the function's 120 s."""
    return S3Store(
        bucket,
        client_options={
            "timeout": timedelta(seconds=15),
            "connect_timeout": timedelta(seconds=3),
            "allow_http": allow_http,
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
    )
