"""Where batches are kept: one object each, written once."""

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Literal, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PermissionDeniedError
from obstore.store import S3Store

# S3 takes 2 kB of metadata in all.
MAX_METADATA_CHARACTERS = 1024
# A request ends by itself after 2.8 s. None starts later than this, so that all end within 8 s, before Bird gives up
# at 10 s and Lambda at 9 s.
REQUEST_SECONDS = 2.8
LAST_START_SECONDS = 4.4
PAUSES_SECONDS = (0.05, 0.1, 0.2)

# `reused`: the batch id came before with another body. Both are kept.
Outcome = Literal["stored", "duplicate", "reused"]


class StorageUnavailableError(Exception):
    """The batch was not stored; the sender should try again."""


class RawBatchStore(NamedTuple):  # importing dataclasses takes a tenth of a cold start
    store: S3Store
    prefix: str

    def put(
        self, name: str, body: bytes, *, received_at: str, content_encoding: str | None, original: str | None
    ) -> Outcome:
        """Write `<prefix>/<name>.json`; where another body has that name, `<prefix>/<name>.<16 hex of SHA-256>.json`.

        Errors: StorageUnavailableError.
        """
        last_start = time.monotonic() + LAST_START_SECONDS
        digest = hashlib.sha256(body).hexdigest()
        attributes = {
            "Content-Type": "application/json",
            "batch-id": name,
            "received-at": received_at,
            "body-sha256": digest,
        }
        if content_encoding:
            attributes["Content-Encoding"] = content_encoding
        if original is not None:
            from urllib.parse import quote  # few batches need it, and it takes 3 ms to import

            # Metadata is ASCII without control characters.
            attributes["batch-id-original"] = quote(original, safe=" !#$&'()*+,/:;=?@[]", errors="replace")[
                :MAX_METADATA_CHARACTERS
            ]
        try:
            # A sender may have used the second name as a batch id; then the third one is free.
            for taken, key in enumerate((name, f"{name}.{digest[:16]}", f"{name}.{digest}")):
                outcome = self._put_once(f"{self.prefix}/{key}.json", body, attributes, last_start)
                if outcome is not None:
                    return "reused" if taken and outcome == "stored" else outcome
        except (BaseError, OSError) as error:  # OSError: a bucket that is not there
            conflict = isinstance(error, AlreadyExistsError)
            raise StorageUnavailableError("conflict" if conflict else type(error).__name__) from error
        raise StorageUnavailableError("no name is free")

    def _put_once(self, path: str, body: bytes, attributes: dict[str, str], last_start: float) -> Outcome | None:
        """None if the object is there with another body, or with one that ingest may not read: then nothing is lost."""
        tries = 0

        def put() -> None:
            nonlocal tries
            tries += 1
            obstore.put(self.store, path, body, attributes=attributes, mode="create", use_multipart=False)

        try:
            _repeated(put, last_start)
        except AlreadyExistsError as error:
            if not _is_there(error):
                raise
        else:
            return "stored"
        try:
            there = _repeated(lambda: obstore.get(self.store, path, options={"head": True}), last_start)
            if "body-sha256" in there.attributes:
                same = there.attributes["body-sha256"] == attributes["body-sha256"]
            else:  # by an older version or another tool; an ETag is no digest under KMS or after a multipart upload
                same = there.meta["size"] == len(body) and body == _repeated(
                    lambda: bytes(obstore.get(self.store, path).bytes()), last_start
                )
        except PermissionDeniedError:
            return None
        if not same:
            return None
        # S3 stored it, but its answer to an earlier try of this call was lost.
        ours = tries > 1 and there.attributes.get("received-at") == attributes["received-at"]
        return "stored" if ours else "duplicate"


def _repeated[T](request: Callable[[], T], last_start: float) -> T:
    """The request's answer, after up to three repetitions. Errors: those of obstore; StorageUnavailableError.

    obstore itself never repeats a conditional put whose connection broke, as happens to the first batch after a pause:
    S3 has closed the connection meanwhile. A repetition is safe, because it writes only what is not there.
    """
    pauses = iter(PAUSES_SECONDS)
    while time.monotonic() < last_start:
        try:
            return request()
        except (GenericError, AlreadyExistsError) as error:  # connection, time-out, 5xx; 409: another request is at it
            pause = next(pauses, None)
            if _is_there(error) or pause is None:
                raise
        time.sleep(pause)
    raise StorageUnavailableError("out of time")


def _is_there(error: BaseError) -> bool:
    """obstore raises AlreadyExistsError for 412 (it is there) and 409 (it may yet fail); only the text tells which."""
    return isinstance(error, AlreadyExistsError) and "status code: 412" in str(error)


def open_store(bucket: str, prefix: str, *, allow_http: bool) -> RawBatchStore:
    store = S3Store(
        bucket,
        # TLS protects the body in transit. Its SHA-256 in the signature would take half of the time spent here.
        unsigned_payload=True,
        # A bucket under Object Lock refuses objects without a checksum. This one is the fastest.
        checksum_algorithm="crc64nvme",
        client_options={
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=1.5),
            # S3 closes idle connections after 5 s or more; a connection that may be closed is not worth trying.
            "pool_idle_timeout": timedelta(seconds=4),
            "allow_http": allow_http,
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
    )
    return RawBatchStore(store, prefix)
