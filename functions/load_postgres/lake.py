"""Adapter: reads a file of the lake bucket whole, and writes one with the rows that PostgreSQL refused."""

from datetime import timedelta
from functools import cache

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from load_postgres.errors import NotNowError, PoisonError
from load_postgres.notification import LakeFile

# process writes a file for 16 MB of events, or up to 64 MB if one batch is that large; compressed it is far smaller.
MAX_FILE_BYTES = 128 * 1024 * 1024


def read_file(file: LakeFile, *, allow_http: bool) -> bytes:
    """Errors: PoisonError (deleted, too large), NotNowError (S3 did not answer as it should)."""
    try:
        result = obstore.get(_store(file.bucket, allow_http), file.key)
        if result.meta["size"] > MAX_FILE_BYTES:
            raise PoisonError(f"the file is larger than {MAX_FILE_BYTES} bytes")
        return bytes(result.bytes())
    except FileNotFoundError:
        raise PoisonError("the file was deleted before it was loaded") from None
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
