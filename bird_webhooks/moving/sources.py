"""Where old batches come from: a bucket, a folder, the standard input. They are listed and read, and nothing else."""

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate.quarantine import clean
from process.notification import MARKERS
from report.athena import QueryFailedError
from report.figures import masked

PIECE_BYTES = 1024 * 1024
# Bird's batch ids: UUIDs, or hexadecimal digits without hyphens; and those that ingest makes.
_BATCH_ID = re.compile(
    r"(?:^|[_.])((?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|sha256-[0-9a-f]{64}))(?:\.[a-z.]+)?$",
    re.IGNORECASE,
)
_TIME = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:]?(\d\d)[-:]?(\d\d)(?!\d)")
_UNIX_TIME = re.compile(r"(?<![0-9a-zA-Z-])(1[4-9]\d{8})(?:\d{3})?(?![0-9a-zA-Z-])")


class NotReadError(Exception):
    """An object that cannot be read now; the text is the reason. The next run tries it again."""


# Not of an object, but of the stack or the machine: the next object would meet them, too.
STACK_ERRORS = (OperateError, QueryFailedError, BotoCoreError, ClientError, OSError)


def shown(name: str) -> str:
    """An object's name without addresses: somebody may have named files by recipient. Also without what a terminal
    would obey."""
    return clean(masked(name))


class Entry(NamedTuple):
    """One object. `modified` is None where nothing says when it was written; `version` changes with the content."""

    name: str
    size: int
    modified: datetime | None
    version: str
    unreadable: str = ""

    @property
    def fingerprint(self) -> str:
        text = f"{self.name}\n{self.version}\n{self.size}"
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]  # a file's name may be any bytes

    @property
    def is_marker(self) -> bool:
        """An empty object that other tools leave."""
        return self.size == 0 and self.name.endswith(MARKERS)

    @property
    def batch_id(self) -> str | None:
        found = _BATCH_ID.search(self.name.rpartition("/")[2])
        return found[1] if found else None

    @property
    def time_in_name(self) -> datetime | None:
        base = self.name.rpartition("/")[2]
        if found := _TIME.search(base):
            try:
                return datetime(*map(int, found.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
            except ValueError:
                return None
        found = _UNIX_TIME.search(base)
        return datetime.fromtimestamp(int(found[1]), UTC) if found else None


class Opened(NamedTuple):
    """`metadata` as ingest writes them, if it was a stack that stored the object."""

    chunks: Iterator[bytes]
    metadata: dict[str, str]


class Source(Protocol):
    def entries(self) -> Iterator[Entry]: ...

    def open(self, entry: Entry) -> Opened:
        """Errors: NotReadError, also while the chunks are read."""
        ...


def source(where: str, s3: Any) -> Source:
    """`s3`: a function that gives a client. Errors: OperateError."""
    what_to_give = "give s3://bucket/prefix, a folder, a file, or -"
    if where == "-":
        return Lines(sys.stdin.buffer)
    if where.startswith("s3://"):
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        if not bucket:
            raise OperateError(f"{where} names no bucket: {what_to_give}")
        return Bucket(s3(), bucket, prefix)
    if not where:  # as of an empty variable: not the folder in which the shell is
        raise OperateError(f"the source is empty: {what_to_give}")
    path = Path(where)
    if path.is_dir() or path.is_file():
        return Folder(path)
    if path.exists():  # a named pipe, or what a shell makes of <(…)
        return Lines(path.open("rb"))
    raise OperateError(f"there is no file or folder {where}: {what_to_give}")


@dataclass(frozen=True)
class Bucket:
    s3: Any
    bucket: str
    prefix: str

    def entries(self) -> Iterator[Entry]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        for page in pages:
            for item in page.get("Contents", []):
                yield Entry(
                    f"s3://{self.bucket}/{item['Key']}", item["Size"], item["LastModified"], item["ETag"].strip('"')
                )

    def open(self, entry: Entry) -> Opened:
        key = entry.name.removeprefix(f"s3://{self.bucket}/")
        try:
            found = self.s3.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            raise NotReadError(why_not(error)) from error
        except BotoCoreError as error:
            raise NotReadError(f"S3 did not answer: {type(error).__name__}") from error
        return Opened(_pieces(found["Body"]), found.get("Metadata", {}))


def why_not(error: ClientError) -> str:
    code = error.response["Error"]["Code"]
    if code == "InvalidObjectState":
        return "archived: restore it, then import again"
    if code in ("AccessDenied", "403"):
        return "not allowed to read it, or to use its KMS key"
    if code.startswith("KMS."):
        return f"its KMS key cannot be used: {code}"
    if code in ("NoSuchKey", "404"):
        return "deleted since it was listed"
    return f"S3 says {code}"


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        yield from body.iter_chunks(PIECE_BYTES)
    except (BotoCoreError, OSError) as error:
        raise NotReadError(f"S3 did not send all of it: {type(error).__name__}") from error


@dataclass(frozen=True)
class Folder:
    """A folder with all below it, or one file."""

    path: Path

    def entries(self) -> Iterator[Entry]:
        for path in [self.path] if self.path.is_file() else sorted(self.path.rglob("*")):
            if path.is_file():
                found = path.stat()
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield Entry(str(path), found.st_size, modified, str(found.st_mtime_ns))

    def open(self, entry: Entry) -> Opened:
        return Opened(_of_file(Path(entry.name)), {})


def _of_file(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise NotReadError(f"cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Lines:
    """The standard input, as one object."""

    file: BinaryIO
    entry: Entry = field(default_factory=lambda: Entry("-", 0, None, ""))

    def entries(self) -> Iterator[Entry]:
        yield self.entry

    def open(self, entry: Entry) -> Opened:
        return Opened(iter(lambda: self.file.read(PIECE_BYTES), b""), {})
