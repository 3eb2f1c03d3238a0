"""Adapter: reads files of the lake bucket, and writes one with the events that EventBridge refused."""

from datetime import timedelta
from functools import cache

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from publish_events.notification import LakeFile


class StorageUnavailableError(Exception):
    """S3 did not answer as expected; the queue should deliver the message again."""


class UnreadableKeyError(Exception):
    """A key that object_store does not accept as a path: it has an empty part, `.`, `..` or a control character."""


def read(file: LakeFile, *, allow_http: bool) -> bytes | None:
    """The file; None if it is gone. Errors: StorageUnavailableError, UnreadableKeyError."""
    try:
        return bytes(obstore.get(_store(file.bucket, allow_http), file.key).bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UnreadableKeyError("the file's key is one that cannot be asked for") from None
    except (BaseError, OSError) as error:
        raise StorageUnavailableError(type(error).__name__) from error


def write(bucket: str, key: str, body: bytes, *, allow_http: bool) -> None:
    """Errors: StorageUnavailableError."""
    try:
        obstore.put(_store(bucket, allow_http), key, body, use_multipart=False)
    except (BaseError, OSError) as error:
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
