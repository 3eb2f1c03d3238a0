"""Where batches are kept: one object each, written once."""

import time
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

# S3 takes 2 kB of metadata in all.
MAX_METADATA_CHARACTERS = 1024
# A second put has to end within the 8 s of ingest.
LAST_START_SECONDS = 4


class StorageUnavailableError(Exception):
    """The batch was not stored; the sender should try again."""


@dataclass(frozen=True)
class RawBatchStore:
    store: S3Store
    prefix: str

    def put(
        self, name: str, body: bytes, *, received_at: str, content_encoding: str | None, original: str | None
    ) -> bool:
        """Write `<prefix>/<name>.json` unless it is there: True if written, False if it was there before.

        Errors: StorageUnavailableError.
        """
        attributes = {"Content-Type": "application/json", "batch-id": name, "received-at": received_at}
        if content_encoding:
            attributes["Content-Encoding"] = content_encoding
        if original is not None:
            # Metadata is ASCII without control characters.
            attributes["batch-id-original"] = quote(original, safe=" !#$&'()*+,/:;=?@[]", errors="replace")[
                :MAX_METADATA_CHARACTERS
            ]
        try:
            self._put(f"{self.prefix}/{name}.json", body, attributes)
        except AlreadyExistsError as error:
            # obstore raises it for 412 (the object is there) and for 409 (another request is at it, and may yet fail);
            # only its text tells which. No duplicate unless S3 said so: a batch must not be lost to a conflict.
            if "status code: 412" not in str(error):
                raise StorageUnavailableError("conflict") from error
            return False
        except (BaseError, OSError) as error:  # OSError: a bucket that is not there
            raise StorageUnavailableError(type(error).__name__) from error
        return True

    def _put(self, path: str, body: bytes, attributes: dict[str, str]) -> None:
        """Twice if need be: obstore does not repeat a conditional put whose connection S3 had closed in a pause."""
        started = time.monotonic()
        try:
            obstore.put(self.store, path, body, attributes=attributes, mode="create", use_multipart=False)
        except AlreadyExistsError:
            raise
        except BaseError:
            if time.monotonic() - started > LAST_START_SECONDS:
                raise
            obstore.put(self.store, path, body, attributes=attributes, mode="create", use_multipart=False)


def open_store(bucket: str, prefix: str, *, allow_http: bool) -> RawBatchStore:
    """Timeouts and retries end within 8 s, before Bird gives up at 10 s and Lambda at 9 s."""
    store = S3Store(
        bucket,
        # TLS guards the body on its way already; its SHA-256 in the signature would be half of the time spent here.
        unsigned_payload=True,
        client_options={
            "timeout": timedelta(seconds=3.5),
            "connect_timeout": timedelta(seconds=1.5),
            "pool_idle_timeout": timedelta(seconds=4),  # S3 closes an idle connection after some 5 s
            "allow_http": allow_http,
        },
        retry_config={
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=3.5),
            "backoff": {
                "init_backoff": timedelta(milliseconds=50),
                "max_backoff": timedelta(milliseconds=500),
                "base": 2,
            },
        },
    )
    return RawBatchStore(store, prefix)
