"""Adapter: reads a file of the lake bucket whole, and writes one with the rows that PostgreSQL refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from load_postgres.errors import GoneError, NotNowError, PoisonError
from load_postgres.notification import LakeFile

# process writes a file for 16 MB of events, or up to 64 MB if one batch is that large; compressed it is far smaller.
MAX_FILE_BYTES = 128 * 1024 * 1024
# A closed file has up to 1.5 million rows of some hundred bytes each.
MAX_CLOSED_FILE_BYTES = 384 * 1024 * 1024
# So that a request for a part of it ends within the client's timeout.
RANGE_BYTES = 32 * 1024 * 1024


def read_file(file: LakeFile, *, allow_http: bool) -> bytes:
    """Errors: GoneError, PoisonError (too large), NotNowError (S3 did not answer as it should)."""
    with _s3_errors():
        result = obstore.get(_store(file.bucket, allow_http), file.key)
        if result.meta["size"] > MAX_FILE_BYTES:
            raise PoisonError(f"the file is larger than {MAX_FILE_BYTES} bytes")
        return bytes(result.bytes())


def read_new_file(file: LakeFile, is_known: Callable[[str], bool], *, allow_http: bool) -> tuple[str, bytes | None]:
    """The file's ETag, and its body unless that ETag is known. Errors: as of read_file, and those of `is_known`."""
    with _s3_errors():
        result = obstore.get(_store(file.bucket, allow_http), file.key)
        etag = result.meta["e_tag"] or ""
        if result.meta["size"] > MAX_FILE_BYTES:
            raise PoisonError(f"the file is larger than {MAX_FILE_BYTES} bytes")
    if etag and is_known(etag):
        return etag, None
    with _s3_errors():
        return etag, bytes(result.bytes())


def read_closed_file(file: LakeFile, *, allow_http: bool) -> bytes:
    """The same for a closed file, which is larger. It never changes once its date's state names it; if somebody wrote
    over it while it was read, that is a NotNowError, and never a file of two."""
    with _s3_errors():
        store = _store(file.bucket, allow_http)
        found = obstore.head(store, file.key)
        size = found["size"]
        if size > MAX_CLOSED_FILE_BYTES:
            raise PoisonError(f"the closed file is larger than {MAX_CLOSED_FILE_BYTES} bytes")
        body = bytearray()
        while len(body) < size:
            options: Any = {"range": (len(body), min(size, len(body) + RANGE_BYTES)), "if_match": found["e_tag"]}
            body += obstore.get(store, file.key, options=options).bytes()
        return bytes(body)


@contextmanager
def _s3_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise GoneError("the file was deleted before it was loaded") from None
    except ValueError:  # an empty part, `.`, `..` or a control character: object_store has no path for it
        raise PoisonError("the file's key is one that cannot be asked for: give the file another name") from None
    except (BaseError, OSError) as error:
        raise NotNowError(f"the file was not read: {type(error).__name__}") from error


def write_file(bucket: str, key: str, body: bytes, *, allow_http: bool) -> None:
    """Errors: NotNowError."""
    try:
        obstore.put(_store(bucket, allow_http), key, body, use_multipart=False)
    except (BaseError, OSError) as error:
        raise NotNowError(f"rejected rows were not kept aside: {type(error).__name__}") from error


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
