"""All events of one address out of the raw batches, the rows, the quarantine, query results and PostgreSQL; and proof.

Look everywhere, take out what was found, look again, until nothing is found. It may be cut short anywhere and given
again: each object is replaced as a whole, and only if it is still what was read. The raw batches come last, for they
tell which rows are of the address where the rows themselves do not.
"""

import gzip
import hashlib
import hmac
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import BytesIO
from itertools import batched
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bird_webhooks.operate.erase_postgres import Table
from bird_webhooks.operate.lease import no_maintenance
from bird_webhooks.operate.mentions import (
    Person,
    Remainder,
    batch_without,
    csv_without,
    parquet_without,
    quarantine_without,
)
from bird_webhooks.stack import OperateError, Progress, Target, confirm, say
from process.bounds import BeyondBoundsError
from process.gzip_body import CUT, GZIP, NotGzipError, decompressed

AT_ONCE = 16
LOOKS = 4
# An invocation of process, or of a loader, that read what was there before has ended by then.
SETTLE_SECONDS = 300
CHUNK_BYTES = 8 * 1024 * 1024
MAX_UNZIPPED_BYTES = 64 * 1024 * 1024
MAX_SEARCHED_BYTES = 4 * 1024 * 1024 * 1024
SHOWN = 20
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchVersion", "404")
KEPT = ("ContentType", "ContentEncoding", "CacheControl", "StorageClass")

RAW, ROWS, QUARANTINE, RESULTS, OTHER = "raw batches", "rows", "quarantine", "query results", "other files of the lake"
# Of dates that the table's maintenance is closing: compressed, and made again when they are gone.
WORK = "parts of rows"
# In the order of erasing.
PLACES = [WORK, ROWS, QUARANTINE, RESULTS, OTHER, RAW]
UNSEEN = """\
Not looked at, for this tool cannot: Bird itself; backups, copies and snapshots of yours, of the buckets or of
PostgreSQL (deleted rows stay in its files until VACUUM, and in its WAL); what consumers of the automation bus, and
other readers of the rows, have kept; Athena's history of queries, which keeps the text of each for 45 days: an
address in a WHERE stands there until then. An address that is written otherwise (hashed by others, in base64,
compressed by anything but gzip, cut in two) is not found, nor one in the key of an object.
Queues and dead letters hold keys of objects and no events; logs hold no addresses."""


class Stored(NamedTuple):
    """One version of an object."""

    place: str
    bucket: str
    key: str
    version: str
    current: bool

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" + ("" if self.current else f" (version {self.version})")


class Finding(NamedTuple):
    stored: Stored
    events: int  # 0 for a file that goes as a whole


class Look:
    """What one look at everything found."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.found: list[Finding] = []
        self.unreadable: list[Stored] = []
        self.postgres: int | None = None  # rows

    @property
    def clean(self) -> bool:
        return not self.found and not self.postgres

    def show(self) -> None:
        for place in PLACES:
            if place == WORK and not self.seen[place]:
                continue
            found = [finding for finding in self.found if finding.stored.place == place]
            events = sum(finding.events for finding in found)
            what = f"{len(found):,} with the address" + (f", {events:,} events" if events else "")
            print(f"{place:<26}{self.seen[place]:>9,} objects  {what}")
        rows = "not looked at" if self.postgres is None else f"{self.postgres:,} rows with the address"
        print(f"{'PostgreSQL':<46}{rows}")
        if self.unreadable:
            print(f"{len(self.unreadable):,} objects could not be read")


def erase(
    target: Target,
    address: str,
    *,
    since: datetime | None,
    postgres: str | None,
    schema: str,
    hash_keys: list[str],
    dry_run: bool,
    yes: bool,
    settle_seconds: float,
) -> None:
    """Errors: OperateError if anything is left, or could not be looked at."""
    person = Person(address, frozenset(hashes(target, address, hash_keys)))
    table = Table(target, postgres, schema) if postgres else None
    look = look_everywhere(target, person, table, since)
    look.show()
    if dry_run:
        print("nothing was changed")
        return
    if not look.clean:
        confirm(f"Erase all this from stack {target.name}? It cannot be had back.", yes=yes)
    if look.clean:
        report(look, since, postgres)
        return
    with no_maintenance(target):
        look = until_clean(target, person, table, since, look, settle_seconds)
    report(look, since, postgres)


def until_clean(
    target: Target, person: Person, table: Table | None, since: datetime | None, look: Look, settle_seconds: float
) -> Look:
    """The last look."""
    for _ in range(LOOKS - 1):
        mendable = [finding for finding in look.found if finding.stored.place != OTHER]
        if not mendable and not look.postgres:
            break
        take_out(target, person, mendable, table)
        say(f"waiting {settle_seconds:.0f} s for what still runs with batches read before")
        time.sleep(settle_seconds)
        look = look_everywhere(target, person, table, since)
        print("\nlooked again")
        look.show()
    return look


def report(look: Look, since: datetime | None, postgres: str | None) -> None:
    print(f"\n{UNSEEN}")
    if since:
        print(f"Nor was what was stored before {since:%Y-%m-%dT%H:%M} UTC.")
    if not postgres:
        print("Nor was PostgreSQL: give --postgres if the rows are loaded into one.")
    for stored in [*look.unreadable, *(finding.stored for finding in look.found)][:SHOWN]:
        print(f"{'unreadable' if stored in look.unreadable else 'left'}: {stored}")
    if look.unreadable:
        raise OperateError(f"{len(look.unreadable):,} objects could not be read: they may hold the address")
    if not look.clean:
        raise OperateError("the address is still there: see above, and give the command again")
    print("\nNothing is left of the address in what was looked at.")


def hashes(target: Target, address: str, keys: list[str]) -> Iterator[str]:
    """As process makes them, with the stack's key and with others that it may have had before."""
    own = target.outputs.get("HashKeyArn")
    for secret in [*([own] if own else []), *keys]:
        key = target.secret_text(secret).encode()
        yield hmac.digest(key, address.lower().encode(), "sha256").hex()


# --- Looking ---


def look_everywhere(target: Target, person: Person, table: Table | None, since: datetime | None) -> Look:
    """The raw batches first: they name events whose rows are looked for then."""
    look, progress = Look(), Progress()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for bucket in (target.output("RawBucketName"), target.output("LakeBucketName")):
            raw = bucket == target.output("RawBucketName")
            for some in batched(versions(target, bucket, since, raw=raw), AT_ONCE * 8, strict=False):
                outcomes = pool.map(lambda stored: (stored, look_at(target, person, stored)), some)
                for stored, outcome in outcomes:
                    look.seen[stored.place] += 1
                    if outcome is UNREADABLE:
                        look.unreadable.append(stored)
                    elif outcome is not None:
                        look.found.append(Finding(stored, outcome))
                progress.show(f"looked at {look.seen.total():,} objects, {len(look.found):,} with the address")
    progress.done()
    if table:
        look.postgres = table.count(person)
    return look


def versions(target: Target, bucket: str, since: datetime | None, *, raw: bool) -> Iterator[Stored]:
    """The noncurrent ones too; deletions hold nothing."""
    for page in target.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in page.get("Versions", []):
            if (since is None or item["LastModified"] >= since) and not item["Key"].endswith("/"):
                place = RAW if raw else place_of(item["Key"])
                yield Stored(place, bucket, item["Key"], item["VersionId"], item["IsLatest"])


def place_of(key: str) -> str:
    if key.startswith("maintenance/work/"):
        return WORK
    prefixes = {"events": ROWS, "events-csv": ROWS, "closed": ROWS, "quarantine": QUARANTINE, "athena-results": RESULTS}
    return prefixes.get(key.partition("/")[0], OTHER)


UNREADABLE = -1


def look_at(target: Target, person: Person, stored: Stored) -> int | None:
    """How many events it has of the person; None for none at all."""
    if stored.place == WORK:
        return 0
    try:
        if stored.place == OTHER and COMPRESSED.search(stored.key):
            return UNREADABLE
        answer = get(target, stored)
        if stored.place in (RESULTS, OTHER):
            found = person.in_any(answer["Body"].iter_chunks(CHUNK_BYTES)) or is_opaque(stored)
            return 0 if found else None
        remainder = without(answer["Body"].read(), stored, person)
        if remainder is None and stored.place == RAW and mentioned(answer["Metadata"], person):
            return 0
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in CHANGED:  # gone since it was listed
            return None
        if code == "InvalidObjectState":  # in an archive
            return UNREADABLE
        raise
    except (UnreadableError, ValueError, RecursionError):
        return UNREADABLE
    return remainder and remainder.erased


# In folders of somebody else's, of whose files nothing is known.
COMPRESSED = re.compile(r"\.(parquet|orc|avro|gz|zip|zst|bz2|snappy)$")


def is_opaque(stored: Stored) -> bool:
    """Athena's results are text; what UNLOAD or CREATE TABLE AS wrote beside them is not, and goes as a whole."""
    return stored.place == RESULTS and not re.search(r"\.(csv|txt|csv\.metadata|metadata)$", stored.key)


class UnreadableError(Exception):
    """Nobody can say what the object holds."""


def mentioned(metadata: dict[str, str], person: Person) -> list[str]:
    """The names of the members that hold the address, such as a batch id that could not be a key."""
    return [name for name, value in metadata.items() if person.in_text(value)]


def without(body: bytes, stored: Stored, person: Person) -> Remainder | None:
    try:
        match stored.place:
            case "raw batches":
                return raw_without(body, person)
            case "quarantine":
                return quarantine_without(body, person)
            case _ if stored.key.endswith(".csv"):
                return csv_without(body, person)
            case _:
                return parquet_without(body, person)
    except (
        BaseException
    ) as error:  # whatever is wrong with it, a person has to look; a panic of arro3's is no Exception
        raise UnreadableError from error


def raw_without(body: bytes, person: Person) -> Remainder | None:
    """Gzip stays gzip, of one member. What cannot be decompressed is searched as it is."""
    try:
        whole, damage = decompressed(body, MAX_UNZIPPED_BYTES)
    except NotGzipError:
        if person.in_any(members(body)):
            raise UnreadableError from None
        return batch_without(body, person)
    except BeyondBoundsError:  # process has quarantined it whole: no row is of it, and it may hold anything
        if person.in_any(members(body)):
            raise UnreadableError from None
        return None
    remainder = batch_without(whole, person)
    # What is left of a member that is cut is in `whole`; what follows may be members of others, and stays.
    tail = b"".join(rest for reason, rest in damage if reason != CUT)
    if tail.startswith(GZIP) and person.in_any(members(tail)):
        raise UnreadableError
    in_tail = person.in_bytes(tail)
    if remainder is None and not in_tail:
        return None
    kept = remainder.body if remainder and remainder.body else whole
    zipped = gzip.compress(kept) if body.startswith(GZIP) else kept
    return Remainder(zipped + (b"" if in_tail else tail), (remainder.erased if remainder else 0) + in_tail)


def members(body: bytes) -> Iterator[bytes]:
    """A gzip body piece by piece, however large. Errors: UnreadableError."""
    size = 0
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as file:
            while piece := file.read(CHUNK_BYTES):
                size += len(piece)
                if size > MAX_SEARCHED_BYTES:
                    raise UnreadableError
                yield piece
    except (OSError, EOFError, zlib.error):  # from here on it is damaged, and what came before was searched
        return


def get(target: Target, stored: Stored) -> Any:
    version = {} if stored.version == "null" and stored.current else {"VersionId": stored.version}
    return target.s3.get_object(Bucket=stored.bucket, Key=stored.key, **version)


# --- Taking out ---


def take_out(target: Target, person: Person, found: list[Finding], table: Table | None) -> None:
    progress, done = Progress(), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for place in PLACES:
            stored = [finding.stored for finding in found if finding.stored.place == place]
            if place == RAW and table:
                table.delete(person)
            for _ in pool.map(lambda one: take_out_of(target, person, one), stored):
                done += 1
                progress.show(f"erased from {done:,} of {len(found):,} objects")
    progress.done()


def take_out_of(target: Target, person: Person, stored: Stored) -> None:
    """What has changed since it was looked at is left as it is, for the next look."""
    try:
        if not stored.current:
            target.s3.delete_object(Bucket=stored.bucket, Key=stored.key, VersionId=stored.version)
            return
        answer = get(target, stored)
        if stored.place in (RESULTS, WORK):
            delete(target, stored, answer["ETag"])
            return
        body = answer["Body"].read()
        remainder = without(body, stored, person)
        if stored.place == RAW:
            found = mentioned(answer["Metadata"], person)
            if remainder is None and not found:
                return
            rest = remainder.body if remainder and remainder.body else body
            replace(target, stored, rest, answer, raw_metadata(answer, body, found))
        elif remainder is None:
            return
        elif remainder.body is None:
            delete(target, stored, answer["ETag"])
        else:
            replace(target, stored, remainder.body, answer, answer["Metadata"])
        if stored.version != "null":
            target.s3.delete_object(Bucket=stored.bucket, Key=stored.key, VersionId=stored.version)
    except ClientError as error:
        if error.response["Error"]["Code"] not in CHANGED:
            raise


def delete(target: Target, stored: Stored, etag: str) -> None:
    target.s3.delete_object(Bucket=stored.bucket, Key=stored.key, IfMatch=etag)


def raw_metadata(was: Any, body: bytes, without: list[str]) -> dict[str, str]:
    """What process and ingest would otherwise take from the object itself: when it came, and what it was.

    By the digest of the whole batch ingest knows it when Bird sends it again, and stores nothing.
    """
    kept = {name: value for name, value in was["Metadata"].items() if name not in without}
    received_at = was["LastModified"].isoformat(timespec="milliseconds")
    return {"received-at": received_at, "body-sha256": hashlib.sha256(body).hexdigest(), **kept}


def replace(target: Target, stored: Stored, body: bytes, was: Any, metadata: dict[str, str]) -> None:
    """In one part of a multipart upload: the buckets announce every other way of writing, and the events of others
    would be rows, be loaded and be sent once more."""
    s3, place = target.s3, {"Bucket": stored.bucket, "Key": stored.key}
    kept = {name: was[name] for name in KEPT if name in was}
    # boto3 sends a part's checksum unasked: S3 refuses one of an algorithm that the upload has not declared.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    upload = s3.create_multipart_upload(**place, **kept, Metadata=metadata, ChecksumAlgorithm="CRC32")["UploadId"]
    try:
        part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=body, ChecksumAlgorithm="CRC32")
        parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1, "ChecksumCRC32": part["ChecksumCRC32"]}]}
        s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, IfMatch=was["ETag"])
    except BaseException:
        s3.abort_multipart_upload(**place, UploadId=upload)
        raise
