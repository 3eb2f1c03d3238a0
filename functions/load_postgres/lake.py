"""Adapter: a file of the lake bucket, read whole."""

from datetime import timedelta
from functools import cache

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from load_postgres.errors import NotNowError, PoisonError
from load_postgres.notification import LakeFile

# process writes a file for 16 MB of events, for 64 MB at most if one batch is as large; compressed far less.
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
    except (BaseError, OSError) as error:
        raise NotNowError(f"the file was not read: {type(error).__name__}") from error


@cache
def _store(bucket: str, allow_http: bool) -> S3Store:
    return S3Store(
        bucket,
        client_options={
            "timeout": timedelta(seconds=15),
            "connect_timeout": timedelta(seconds=3),
            "allow_http": allow_http,
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )
