"""Adapters: the raw bucket's batches read, the lake bucket's files written."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from process.bounds import BeyondBoundsError, Bounds
from process.gzip_body import NotGzipError, decompressed
from process.normalise import DAY_MILLISECONDS, FIRST_EVENT_DAY, Quarantined, StoredBatch
from process.notification import RawObject

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Of what another tool may have called `received-at`: a date without its own becomes a partition, and a file's name.
_FIRST, _END = FIRST_EVENT_DAY * DAY_MILLISECONDS, 7_258_118_400_000  # 2014 to 2199
ARCHIVED = "the raw object is archived: restore it, then replay the batch"


class StorageUnavailableError(Exception):
    """S3 did not answer as it should; the queue should try again."""


class UnreadableObjectError(Exception):
    """An object that no later try can read: `original` is what is left of it, None where the object has it."""

    def __init__(self, reason: str, batch: StoredBatch, original: bytes | None = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.batch = batch
        self.original = original


class LargeObjectError(UnreadableObjectError):
    """Larger than the bounds allow, as it is or decompressed."""


class ReadBatch(NamedTuple):
    """A batch as it was sent, no longer compressed, if it could be read; and what could not be."""

    batch: StoredBatch | None
    damaged: list[Quarantined]


def read_batch(raw: RawObject, prefix: str, bounds: Bounds, *, allow_http: bool) -> ReadBatch:
    """Whether it is gzip, the body's own bytes say: labels are wrong where a proxy has unpacked it, and lost by some.

    `prefix` is that of all raw batches, without slashes at its ends.
    Errors: UnreadableObjectError (deleted, archived, too large, damaged gzip), StorageUnavailableError.
    """
    now = _milliseconds(datetime.now(UTC))
    batch = StoredBatch(raw.batch_id(prefix), raw.key, now, b"", raw_bucket=raw.bucket)
    try:
        result = obstore.get(_store(raw.bucket, allow_http), raw.key)
        stored_at = _milliseconds(result.meta["last_modified"])
        batch = batch._replace(received_at=_received_at(result.attributes, stored_at), stored_at=stored_at)
        if result.meta["size"] > bounds.body_bytes:
            raise LargeObjectError(f"larger than {bounds.body_bytes} bytes", batch, None)
        body = bytes(result.bytes())
    except FileNotFoundError:
        raise UnreadableObjectError("the raw object was deleted before it was read", batch) from None
    except ValueError:  # obstore takes no empty segment, none of dots, and no control characters; ingest makes none
        raise UnreadableObjectError("the key of the raw object cannot be read", batch) from None
    except (BaseError, OSError) as error:
        if "InvalidObjectState" in str(error):  # obstore has no class for it
            raise UnreadableObjectError(ARCHIVED, batch, None) from None
        raise StorageUnavailableError(type(error).__name__) from error
    try:
        unzipped = decompressed(body, bounds.body_bytes)
    except BeyondBoundsError as error:
        raise LargeObjectError(str(error), batch, None) from None
    except NotGzipError as error:
        raise UnreadableObjectError(str(error), batch, body) from None
    batch = batch._replace(body=unzipped.body)
    return ReadBatch(batch, [Quarantined(batch, None, damage, rest) for damage, rest in unzipped.damage])


def _received_at(attributes: Any, stored_at: int) -> int:
    try:
        received_at = _milliseconds(datetime.fromisoformat(attributes["received-at"]))
    except (KeyError, ValueError, TypeError):  # not stored by ingest
        return stored_at
    return received_at if _FIRST <= received_at < _END else stored_at


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
            # S3 closes idle connections after 5 s or more. After a pause each retry would take another dead one.
            "pool_idle_timeout": timedelta(seconds=2),
            "allow_http": allow_http,
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
    )
