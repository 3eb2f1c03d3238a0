"""Adapter: what the table's maintenance reads, writes and deletes in the lake bucket."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from process.day_state import STATES, DayState, Small, decode, encode, state_key
from process.lease import LEASE, Lease

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DATE = re.compile(r"event_date=(\d{4}-\d{2}-\d{2})(?:/|\.json)?$")
# S3's limit for one request to delete.
DELETED_AT_ONCE = 1_000
GONE_OR_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


class LakeUnavailableError(Exception):
    """S3 did not answer as it should."""


class ChangedError(Exception):
    """The object is no longer what was read: another run is at work."""


class HeldError(Exception):
    """Another run, or an erasure, has the lease."""


class Listed(NamedTuple):
    small: Small
    modified: datetime


class Found[T](NamedTuple):
    """An object and the ETag by which it is replaced; None where there is none yet."""

    value: T
    etag: str | None


@dataclass(frozen=True)
class LakeFiles:
    bucket: str
    allow_http: bool

    def dates(self, prefix: str) -> set[date]:
        """Those that have a folder under the prefix, which ends in a slash; other names are left alone."""
        try:
            found = obstore.list_with_delimiter(self._store, prefix)
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error
        return set(_dates([*found["common_prefixes"], *(item["path"] for item in found["objects"])]))

    def small_files(self, folder: str) -> list[Small]:
        """Parquet files of the folder, in the order in which they were written."""
        listed = [
            Listed(Small(item["path"].rpartition("/")[2], _bare(item["e_tag"])), item["last_modified"])
            for item in self._list(folder)
            if item["path"].endswith(".parquet") and item["size"]
        ]
        return [one.small for one in sorted(listed, key=lambda one: (one.modified, one.small.name))]

    def keys(self, folder: str) -> list[str]:
        return [item["path"] for item in self._list(folder)]

    def read(self, key: str) -> Found[bytes] | None:
        """None if it is not there."""
        try:
            result = obstore.get(self._store, key)
            return Found(bytes(result.bytes()), _bare(result.meta["e_tag"]))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    def read_range(self, key: str, offset: int, length: int) -> bytes | None:
        try:
            return bytes(obstore.get_range(self._store, key, start=offset, length=length))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    def write(self, key: str, body: bytes, content_type: str) -> None:
        try:
            obstore.put(self._store, key, body, attributes={"Content-Type": content_type}, use_multipart=False)
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    def create(self, key: str) -> None:
        """An empty object, unless there is one."""
        try:
            obstore.put(self._store, key, b"", mode="create", use_multipart=False)
        except AlreadyExistsError:
            return
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    def delete(self, keys: Sequence[str]) -> None:
        """What is gone already is no error."""
        try:
            for begin in range(0, len(keys), DELETED_AT_ONCE):
                obstore.delete(self._store, keys[begin : begin + DELETED_AT_ONCE])
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    def delete_small(self, folder: str, small: Sequence[Small]) -> None:
        """Each only if it is still what the ETag says: S3 compares it itself (S3 guide, "Conditional deletes").

        Errors: LakeUnavailableError, if one could not be deleted for another reason.
        """
        for begin in range(0, len(small), DELETED_AT_ONCE):
            objects = [
                {"Key": f"{folder}{file.name}", "ETag": file.etag} for file in small[begin : begin + DELETED_AT_ONCE]
            ]
            answer = _s3().delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
            codes = {error.get("Code", "") for error in answer.get("Errors", [])} - GONE_OR_CHANGED
            if codes:
                raise LakeUnavailableError(", ".join(sorted(codes)))

    # --- State ---

    def state(self, day: date) -> Found[DayState]:
        """Errors: LakeUnavailableError, msgspec.ValidationError if it is none of ours."""
        found = self.read(state_key(day))
        return Found(DayState(day), None) if found is None else Found(decode(found.value), found.etag)

    def write_state(self, state: DayState, etag: str | None) -> str:
        """Its new ETag. Errors: ChangedError."""
        return self._replace(state_key(state.event_date), encode(state), etag)

    def states(self) -> dict[date, datetime]:
        """Dates that have a state, and when it was written."""
        return {day: item["last_modified"] for item in self._list(STATES) for day in _dates([item["path"]])}

    # --- Lease ---

    def take_lease(self, owner: str, now: datetime, for_seconds: float) -> str:
        """The ETag to give it back with. Errors: HeldError."""
        found = self.read(LEASE)
        if found is not None and msgspec.json.decode(found.value, type=Lease).until > now:
            raise HeldError
        lease = Lease(owner, now + timedelta(seconds=for_seconds))
        try:
            return self._replace(LEASE, msgspec.json.encode(lease), found.etag if found else None)
        except ChangedError:
            raise HeldError from None

    def give_back_lease(self, owner: str, now: datetime, etag: str) -> None:
        """If it was taken by another meanwhile, it stays that one's."""
        try:
            self._replace(LEASE, msgspec.json.encode(Lease(owner, now)), etag)
        except ChangedError:
            return

    def _replace(self, key: str, body: bytes, etag: str | None) -> str:
        mode: Any = "create" if etag is None else {"e_tag": f'"{etag}"'}
        try:
            result = obstore.put(
                self._store, key, body, attributes={"Content-Type": "application/json"}, mode=mode, use_multipart=False
            )
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            raise ChangedError(key) from error
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error
        return _bare(result["e_tag"])

    def _list(self, prefix: str) -> list[Any]:
        try:
            return [item for page in obstore.list(self._store, prefix, chunk_size=1_000) for item in page]
        except (BaseError, OSError) as error:
            raise LakeUnavailableError(type(error).__name__) from error

    @property
    def _store(self) -> S3Store:
        return _store(self.bucket, self.allow_http)


def _dates(paths: Sequence[str]) -> Iterator[date]:
    for path in paths:
        found = _DATE.search(path)
        if found:
            try:
                yield date.fromisoformat(found[1])
            except ValueError:  # a folder of somebody else's, such as that of 30 February
                continue


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


@cache
def _store(bucket: str, allow_http: bool) -> S3Store:
    """As of process' own store, with time for large files."""
    return S3Store(
        bucket,
        client_options={
            "timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=3),
            # S3 closes idle connections after 5 s or more. After a pause each retry would take another dead one.
            "pool_idle_timeout": timedelta(seconds=2),
            "allow_http": allow_http,
        },
        retry_config={"max_retries": 6, "retry_timeout": timedelta(seconds=90)},
    )


@cache
def _s3() -> "S3Client":
    """For what obstore cannot do: to delete an object only if it is still what it was."""
    import boto3  # comes with Lambda's runtime; half a second, which only a run that deletes pays

    return boto3.client("s3")
