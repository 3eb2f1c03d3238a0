"""Erases all events of one address: raw batches, rows, quarantine, query results, PostgreSQL; and proves it.

It searches, erases what it found, and searches again, until it finds nothing: by the rows (row_search), or everywhere.
It may be interrupted at any time and run again: each object is replaced as a whole, and only if it has not changed
since it was read. The raw batches come last, because some rows do not hold the address and only a raw batch tells whose
they are. A tombstone says that the person was erased, and until that is done, where they had been found.
"""

import gzip
import hashlib
import hmac
import re
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import batched, chain
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import closed_dates, put_back
from bird_webhooks.operate.erase_postgres import Erased, Table
from bird_webhooks.operate.gzip_pieces import Kind, Mark, stream, unpacked
from bird_webhooks.operate.lease import no_maintenance
from bird_webhooks.operate.mentions import (
    MAX_UNZIPPED_BYTES,
    Person,
    Remainder,
    UnreadableError,
    batch_without,
    csv_without,
    parquet_without,
    piece_mentions,
    quarantine_without,
)
from bird_webhooks.operate.row_search import DOLLARS_PER_BYTE, RowSearch, TooManyRowsError, why_not
from bird_webhooks.operate.stored import (
    CHANGED,
    LARGE_BYTES,
    OTHER,
    PLACES,
    QUARANTINE,
    RAW,
    RESULTS,
    ROWS,
    WORK,
    Stored,
    place_of,
)
from bird_webhooks.operate.tombstone import has_key, leave
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say
from process.gzip_body import GZIP

type Tell = Callable[[str], None]

AT_ONCE = 16
LOOKS = 4
CHUNK_BYTES = 8 * 1024 * 1024
MAX_SEARCHED_BYTES = 4 * 1024 * 1024 * 1024
SHOWN = 20
KEY_GONE, KEY_WAITS = "ResourceNotFoundException", "InvalidRequestException"  # the second can be restored for some days
KEPT = ("ContentType", "ContentEncoding", "CacheControl", "StorageClass")

UNSEEN = """\
Not checked, because this program cannot: Bird itself; your own backups, copies and snapshots of the buckets or of
PostgreSQL (which keeps deleted rows in its files until VACUUM, and in its WAL); what consumers of the event bus and
other readers of the rows have kept; Athena's history, which keeps the text of each query for 45 days, so an address in
a WHERE clause stays there until then. An address in another form is not found (hashed by others, in base64, compressed
by anything but gzip, cut in two), nor one in the key of an object.
Queues and dead letters hold keys of objects, not events. Logs hold no addresses."""


class Finding(NamedTuple):
    """`batches`: ids of the batches that brought the person's rows, for a file of rows."""

    stored: Stored
    events: int  # 0 for a file that is deleted as a whole
    batches: frozenset[str] = frozenset()


class Look:
    """What one search of everything found."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.found: list[Finding] = []
        self.unreadable: list[Stored] = []
        self.opened = 0
        self.postgres: int | None = None  # rows

    @property
    def clean(self) -> bool:
        return not self.found and not self.postgres

    def figures(self) -> dict[str, dict[str, int]]:
        """By place: objects, those with the address, and its events in them."""
        by_place = {place: [finding for finding in self.found if finding.stored.place == place] for place in PLACES}
        return {
            place: {"objects": self.seen[place], "found": len(found), "events": sum(one.events for one in found)}
            for place, found in by_place.items()
        }

    def document(self) -> dict[str, Any]:
        """For JSON."""
        found, unreadable = [str(finding.stored) for finding in self.found], list(map(str, self.unreadable))
        rows = {"postgres_rows": self.postgres, "found": found, "unreadable": unreadable}
        return {"clean": self.clean and not unreadable, "places": self.figures(), **rows}

    def show(self, tell: Tell) -> None:
        for place, figures in self.figures().items():
            if place == WORK and not figures["objects"]:
                continue
            what = f"{figures['found']:,} with the address" + (
                f", {figures['events']:,} events" * bool(figures["events"])
            )
            tell(f"{place:<26}{figures['objects']:>9,} objects  {what}")
        rows = "not checked" if self.postgres is None else f"{self.postgres:,} rows with the address"
        tell(f"{'PostgreSQL':<46}{rows}")
        if self.unreadable:
            tell(f"{len(self.unreadable):,} objects could not be read")


def erase(
    stack: Stack,
    address: str,
    *,
    since: datetime | None,
    postgres: str | None,
    schema: str,
    hash_keys: list[str],
    dry_run: bool,
    yes: bool,
    settle_seconds: float,
    thorough: bool = False,
    as_json: bool = False,
) -> None:
    """Errors: OperateError if anything is left, or could not be searched."""
    began = datetime.now(UTC)
    tell: Tell = say if as_json else print
    person = Person(address, frozenset(hashes(stack, address, hash_keys)))
    table = Table(stack, postgres, schema) if postgres else None
    search = RowSearch(stack)
    reason = "--thorough" if thorough else "--hash-key" if hash_keys else why_not(stack, person)
    seeker = Seeker(stack, person, table, since, None if reason else search)
    if since:
        seeker.cut_short = search.unfinished()
    if reason:
        say(f"looking through every object, because of this: {reason}")
    try:
        look = seeker.look()
    except TooManyRowsError as error:
        say(f"looking through every object, because of this: {error}")
        seeker.search = None
        look = seeker.look()
    look.show(tell)
    if dry_run:
        tell("nothing was changed")
        if as_json:
            print_json(look.document())
        return
    if not look.clean:
        confirm(f"Erase all this from stack {stack.name}? This cannot be undone.", yes=yes)
        with no_maintenance(stack, "erase"):
            look = erased(seeker, look, began, settle_seconds, tell)
    if table:
        table.refresh_copies()  # whatever was found: an erasure before this one may have been cut short
    if look.clean and not look.unreadable:
        remember(seeker, began, [])
    if as_json:
        print_json(look.document())
    beside = [f"s3://{bucket}/{prefix}" for bucket, prefix in raw_areas(stack) if prefix]
    report(look, beside, stack.former_lakes, since, postgres, tell)


def erased(seeker: "Seeker", look: Look, began: datetime, settle_seconds: float, tell: Tell) -> Look:
    """The last look, after erasing what each look found."""
    for _ in range(LOOKS - 1):
        erasable = [finding for finding in look.found if finding.stored.place != OTHER]
        if not erasable and not look.postgres:
            break
        # Rows go before raw batches: only this tells the next erasure where to look, if this one is cut short.
        remember(seeker, began, sorted(seeker.found | seeker.batches_of(look)))
        closed = take_out(seeker, erasable)
        say(f"waiting {settle_seconds:.0f} s until functions and queries that use the old data have ended")
        time.sleep(settle_seconds)
        closed_dates.delete_replaced(seeker.stack, closed)
        look = seeker.look()
        tell("\nchecked again")
        look.show(tell)
    return look


def remember(seeker: "Seeker", erased_at: datetime, unfinished: list[str]) -> None:
    if has_key(seeker.stack):
        leave(seeker.stack, seeker.person.address, erased_at, unfinished)
    elif not unfinished:
        say("no tombstone is left, because the stack has no key for one yet: update the stack, then erase once more")


def report(
    look: Look,
    beside: list[str],
    elsewhere: list[str],
    since: datetime | None,
    postgres: str | None,
    tell: Tell,
) -> None:
    """`beside`: folders of buckets that hold other things too; `elsewhere`: former lake buckets.

    Errors: OperateError if anything is left, or was not looked into.
    """
    tell(f"\n{UNSEEN}")
    for place in beside:
        tell(f"Not checked either: what others have in that bucket outside of {place}.")
    for lake in elsewhere:
        tell(f"Not checked either: s3://{lake}/, in which this stack's rows lay before.")
    if since:
        tell(f"Not checked either: what was stored before {since:%Y-%m-%dT%H:%M} UTC.")
    if not postgres:
        tell("Not checked either: PostgreSQL. Give --postgres if the stack loads rows into one.")
    remaining = [("unreadable", stored) for stored in look.unreadable]
    remaining += [("left", finding.stored) for finding in look.found]
    for what, stored in remaining[:SHOWN]:
        tell(f"{what}: {stored}")
    if len(remaining) > SHOWN:
        tell(f"... and {len(remaining) - SHOWN:,} more")
    if look.unreadable:
        raise OperateError(f"{len(look.unreadable):,} objects could not be read: they may hold the address")
    if not look.clean:
        raise OperateError("the address is still there: see above, then run the command again")
    if elsewhere:
        raise OperateError(
            f"the former lake bucket {', '.join(elsewhere)} may hold the address: delete it, or deploy a stack over it "
            "(ExistingLakeBucket) and erase there"
        )
    tell("\nNothing is left of the address in what was checked.")


def hashes(stack: Stack, address: str, keys: list[str]) -> Iterator[str]:
    """The address's hashes as process makes them, with the stack's key, with the one that it or a stack before it over
    the same lake had, and with earlier keys. Errors: OperateError."""
    for secret in dict.fromkeys([*lake_hash_keys(stack), *keys]):
        try:
            key = stack.secret_text(secret).encode()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == KEY_WAITS:
                raise OperateError(
                    "nothing was erased: the key of hashes in the rows will be deleted in days, and tells until then "
                    f"whose they are. Run `aws secretsmanager restore-secret --secret-id {secret}`, then this again"
                ) from error
            if secret in keys or code != KEY_GONE:
                raise
            say(f"rows with a hash of the address alone are not found, because the key is gone: {secret}")
        else:
            yield hmac.digest(key, address.lower().encode(), "sha256").hex()


def lake_hash_keys(stack: Stack) -> list[str]:
    """HashFields may be empty by now, and the rows still have hashes."""
    return [key for key in (stack.outputs.get("HashKeyArn"), stack.storage_record.get("hash_key")) if key]


# --- Searching ---


@dataclass
class Seeker:
    """`search` by the rows; without it every object is opened. `found`: addresses of all objects that looks found.

    These, and what an erasure that was cut short had found, are looked at whatever `since` is: rows that told of them
    may be gone.
    """

    stack: Stack
    person: Person
    table: Table | None
    since: datetime | None
    search: RowSearch | None
    found: set[str] = field(default_factory=set)
    cut_short: set[str] = field(default_factory=set)

    def look(self) -> Look:
        """The raw batches first, because they name events whose rows are searched for then.

        Errors: OperateError, TooManyRowsError.
        """
        look, progress = Look(), Progress()
        always = self.found | self.cut_short
        if self.search:
            say(
                "asking Athena for the rows that may mention the address; --thorough looks through every object instead"
            )
            self.search.look_again |= self.found
            self.search.ask(self.person)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for bucket, prefix in (*raw_areas(self.stack), (self.stack.output("LakeBucketName"), "")):
                raw = bucket != self.stack.output("LakeBucketName")
                if self.search and not raw:
                    self.search.ask_for_events(self.person)
                listed = versions(self.stack, bucket, self.since, always, raw=raw, prefix=prefix)
                for some in batched(listed, AT_ONCE * 8):
                    look.seen.update(stored.place for stored in some)
                    self._look_at(look, some, pool)
                    progress.show(
                        f"searched {look.seen.total():,} objects, opened {look.opened:,}, "
                        f"{len(look.found):,} with the address"
                    )
            self._look_at_batches(look, always, pool)
        progress.done()
        if self.search:
            self._check_that_all_rows_were_met(self.search, look)
            asked = self.search.asked_bytes
            say(
                f"opened {look.opened:,} of {look.seen.total():,} objects; Athena read at most {asked / 1e6:,.0f} MB, "
                f"${asked * DOLLARS_PER_BYTE:.2f}"
            )
        self.found |= {finding.stored.url for finding in look.found}
        if self.table:
            look.postgres = self.table.count(Erased(self.person))
        return look

    def _check_that_all_rows_were_met(self, search: RowSearch, look: Look) -> None:
        """Errors: OperateError. A row in an object that was not listed would stay, and nobody would know."""
        met = {finding.stored.url for finding in look.found} | {stored.url for stored in look.unreadable}
        unmet = search.rows.keys() - met
        if unmet and self.since is None:
            raise OperateError(
                f"{len(unmet):,} files with rows of the person are not listed in the lake: run the command again, or "
                "give --thorough"
            )

    def _look_at(self, look: Look, some: Iterable[Stored], pool: ThreadPoolExecutor) -> None:
        opened: list[Stored] = []
        for stored in some:
            if self.search is None or not self.search.answers_for(stored):
                opened.append(stored)
            elif rows := self.search.rows[stored.url]:
                look.found.append(Finding(stored, rows, frozenset(self.search.batches_of[stored.url])))
        look.opened += len(opened)
        for stored, outcome in each(pool, lambda stored: look_into(self.stack, self.person, stored), opened):
            if outcome is NOT_READ:
                look.unreadable.append(stored)
            elif outcome is not None:
                look.found.append(Finding(stored, outcome.erased, outcome.batches))

    def batches_of(self, look: Look) -> set[str]:
        """Addresses that the raw batches may have which brought the rows that were found: one in each place."""
        ids = {batch_id for finding in look.found for batch_id in finding.batches}
        return {f"{place}{batch_id}.json" for place in self.stack.raw_places for batch_id in ids}

    def _look_at_batches(self, look: Look, always: set[str], pool: ThreadPoolExecutor) -> None:
        """The raw batches of rows that only their file told of, and those stored before `since`."""
        if self.search is None and self.since is None:
            return  # all are opened
        opened = {finding.stored.url for finding in look.found} | {stored.url for stored in look.unreadable} | always
        urls = self.batches_of(look) - opened
        if self.search:
            self.search.look_again |= urls
        names = [self.stack.raw_object(url) for url in urls]
        for listed in pool.map(lambda one: list(versions(self.stack, one[0], None, raw=True, key=one[1])), names):
            look.seen[RAW] += sum(self.since is not None and stored.modified < self.since for stored in listed)
            self._look_at(look, listed, pool)


def each[T](
    pool: ThreadPoolExecutor, work: Callable[[Stored], T], some: Iterable[Stored]
) -> Iterator[tuple[Stored, T]]:
    """Of objects that are large in memory one at a time."""
    large = [stored for stored in some if stored.place == ROWS and stored.size > LARGE_BYTES]
    small = [stored for stored in some if stored not in large]
    yield from pool.map(lambda stored: (stored, work(stored)), small)
    yield from ((stored, work(stored)) for stored in large)


def raw_areas(stack: Stack) -> list[tuple[str, str]]:
    """Buckets, with the prefixes under which their objects are raw batches: a bucket that the stack has made holds
    nothing else, another one may."""
    own = [] if stack.parameters.get("ExistingRawBucket") else [stack.output("RawBucketName")]
    elsewhere = [place for place in stack.raw_places if place.bucket not in own]
    return [*((bucket, "") for bucket in own), *((place.bucket, f"{place.prefix}/") for place in elsewhere)]


def versions(
    stack: Stack,
    bucket: str,
    since: datetime | None,
    always: Container[str] = (),
    *,
    raw: bool,
    key: str = "",
    prefix: str = "",
) -> Iterator[Stored]:
    """Noncurrent versions too; delete markers hold nothing. `always`: addresses of objects that may be older.

    Of the one `key`, or of all that begin with `prefix`.
    """
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key or prefix):
        for item in page.get("Versions", []):
            if item["Key"].endswith("/") or (key and item["Key"] != key):
                continue
            stored = Stored.listed(RAW if raw else place_of(item["Key"]), bucket, item)
            if since is None or stored.modified >= since or stored.url in always:
                yield stored


UNREADABLE = -1
NOT_READ = Remainder(None, UNREADABLE)
MENTIONED = Remainder(None, 0)


def look_at(stack: Stack, person: Person, stored: Stored) -> int | None:
    """How many of the person's events it holds, or UNREADABLE; None if it does not mention the person."""
    found = look_into(stack, person, stored)
    return found and found.erased


def look_into(stack: Stack, person: Person, stored: Stored) -> Remainder | None:
    """What is to be erased, without the body that remains; NOT_READ; None if it does not mention the person."""
    if stored.place == WORK:
        return MENTIONED
    try:
        if stored.place == OTHER and COMPRESSED.search(stored.key):
            return NOT_READ
        answer = get(stack, stored)
        with closing(answer["Body"]) as body:  # it is not always read to its end
            if stored.place in (RESULTS, OTHER):
                chunks = body.iter_chunks(CHUNK_BYTES)
                first = next(chunks, b"")
                if stored.place == OTHER and first.startswith(COMPRESSED_STARTS):
                    return NOT_READ
                return MENTIONED if person.in_any(chain([first], chunks)) or is_opaque(stored) else None
            remainder = without(body.read(), stored, person)
        if remainder is None and stored.place == RAW and mentioned(answer["Metadata"], person):
            return MENTIONED
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in CHANGED:  # deleted since it was listed
            return None
        if code == "InvalidObjectState":  # in an archive
            return NOT_READ
        raise
    except (UnreadableError, ValueError, RecursionError):
        return NOT_READ
    return remainder and remainder._replace(body=None)


# In folders that other programs write, whose formats are not known.
COMPRESSED = re.compile(r"\.(parquet|orc|avro|gz|zip|zst|bz2|snappy)$")
# How such files begin, whatever they are called: gzip, Parquet, Avro, zip, zstd, bzip2, snappy.
COMPRESSED_STARTS = (GZIP, b"PAR1", b"Obj\x01", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh91AY", b"\xff\x06\0\0sNaPpY")


def is_opaque(stored: Stored) -> bool:
    """Whether it is not text: what UNLOAD or CREATE TABLE AS wrote, in contrast to results; deleted as a whole."""
    return stored.place == RESULTS and not re.search(r"\.(csv|txt|csv\.metadata|metadata)$", stored.key)


def mentioned(metadata: dict[str, str], person: Person) -> list[str]:
    """The names of the metadata that hold the address, such as a batch id that could not be a key."""
    return [name for name, value in metadata.items() if person.in_text(value)]


def without(body: bytes, stored: Stored, person: Person, *, texts: bool = True) -> Remainder | None:
    """Without `texts`: rows of events that are known, for a file that was searched in another way."""
    try:
        if stored.place == RAW:
            return raw_without(body, person)
        if stored.place == QUARANTINE:
            return quarantine_without(body, person)
        if stored.key.endswith(".csv"):
            return csv_without(body, person)
        return parquet_without(body, person, closed=closed_dates.is_of_one(stored), texts=texts)
    except BaseException as error:  # for any error a person must look; arro3's panics are not an Exception
        raise UnreadableError from error


def raw_without(body: bytes, person: Person) -> Remainder | None:
    """Gzip stays gzip: one member, then the pieces that are not a whole member, without those that name the person.

    Errors: UnreadableError if nothing was found and some of it could not be searched; or if it is too large to rewrite.
    """
    whole, rest, too_large = unpacked(body, MAX_UNZIPPED_BYTES)
    kept = [piece for piece in rest if not piece_mentions(piece, person)]
    if too_large and (person.in_any(streamed(whole)) or len(kept) < len(rest)):
        raise UnreadableError  # process quarantined it whole, so no row comes from it
    remainder = None if too_large else batch_without(whole, person)
    erased = (remainder.erased if remainder else 0) + len(rest) - len(kept)
    if not erased:
        if any(piece.kind is Kind.DAMAGED for piece in rest):
            raise UnreadableError
        return None
    if remainder and remainder.body:
        whole = remainder.body
    zipped = gzip.compress(whole or b"[]", mtime=0) if body.startswith(GZIP) else whole
    return Remainder(zipped + b"".join(piece.raw for piece in kept), erased)


def streamed(body: bytes) -> Iterator[bytes]:
    """The text of gzip, however large. Errors: UnreadableError where it is damaged, compressed again, or endless."""
    size = 0
    for piece in stream(body):
        if isinstance(piece, Mark):
            if piece.kind is Kind.DAMAGED:
                raise UnreadableError
            continue
        if size == 0 and piece.startswith(GZIP):
            raise UnreadableError
        size += len(piece)
        if size > MAX_SEARCHED_BYTES:
            raise UnreadableError
        yield piece


def get(stack: Stack, stored: Stored) -> Any:
    version = {} if stored.version == "null" and stored.current else {"VersionId": stored.version}
    return stack.s3.get_object(Bucket=stored.bucket, Key=stored.key, **version)


# --- Erasing ---


def take_out(seeker: Seeker, found: list[Finding]) -> list[Stored]:
    """Returns the files of closed dates: they are there until `closed_dates.delete_replaced`, for queries under way."""
    progress, done = Progress(), 0
    stack, person = seeker.stack, seeker.person

    def texts(one: Stored) -> bool:
        """Of the rows that the query found, the events are known."""
        return seeker.search is None or not seeker.search.answers_for(one)

    def work(one: Stored) -> None:
        take_out_of(stack, person, one, texts=texts(one))

    closed = [finding.stored for finding in found if closed_dates.is_of_one(finding.stored)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for place in PLACES:
            stored = [finding.stored for finding in found if finding.stored.place == place]
            if place == RAW and seeker.table:
                seeker.table.delete(Erased(seeker.person))
            others = each(pool, work, [one for one in stored if not closed_dates.is_of_one(one)])
            of_closed = closed if place == ROWS else []
            for _ in chain(others, closed_dates.take_out(stack, person, of_closed, texts, work, pool)):
                done += 1
                progress.show(f"erased from {done:,} of {len(found):,} objects")
    progress.done()
    return closed


def take_out_of(stack: Stack, person: Person, stored: Stored, *, texts: bool = True, keep_time: bool = True) -> None:
    """An object that changed since it was read stays as it is, for the next search. `texts` as for `without`.

    `keep_time`: remember when a raw batch was stored.
    """
    try:
        if not stored.current:
            stack.s3.delete_object(Bucket=stored.bucket, Key=stored.key, VersionId=stored.version)
            return
        answer = get(stack, stored)
        if stored.place in (RESULTS, WORK):
            answer["Body"].close()
            delete(stack, stored, answer["ETag"])
            return
        body = answer["Body"].read()
        remainder = without(body, stored, person, texts=texts)
        if stored.place == RAW:
            found = mentioned(answer["Metadata"], person)
            if remainder is None and not found:
                return
            rest = remainder.body if remainder and remainder.body else body
            if keep_time:
                put_back.remember(stack, stored.key, answer["LastModified"])
            replace(stack, stored, rest, answer, raw_metadata(answer, body, found))
        elif remainder is None:
            return
        elif remainder.body is None:
            delete(stack, stored, answer["ETag"])
        else:
            replace(stack, stored, remainder.body, answer, answer["Metadata"])
        if stored.version != "null":
            stack.s3.delete_object(Bucket=stored.bucket, Key=stored.key, VersionId=stored.version)
    except ClientError as error:
        if error.response["Error"]["Code"] not in CHANGED:
            raise


def delete(stack: Stack, stored: Stored, etag: str) -> None:
    stack.s3.delete_object(Bucket=stored.bucket, Key=stored.key, IfMatch=etag)


def raw_metadata(was: Any, body: bytes, without: list[str]) -> dict[str, str]:
    """The metadata, with what process and ingest would otherwise take from the old object: its time and its digest.

    By the whole batch's digest ingest recognises it when Bird sends it again, and stores nothing.
    """
    kept = {name: value for name, value in was["Metadata"].items() if name not in without}
    received_at = was["LastModified"].isoformat(timespec="milliseconds")
    return {"received-at": received_at, "body-sha256": hashlib.sha256(body).hexdigest(), **kept}


def replace(stack: Stack, stored: Stored, body: bytes, was: Any, metadata: dict[str, str]) -> None:
    """Replace the object by a multipart upload of one part, because the buckets announce all other writes, and then the
    other events would become rows, be loaded and be published again."""
    s3, place = stack.s3, {"Bucket": stored.bucket, "Key": stored.key}
    kept = {name: was[name] for name in KEPT if name in was}
    # boto3 always sends a part's checksum, and S3 refuses one whose algorithm the upload has not declared.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    upload = s3.create_multipart_upload(**place, **kept, Metadata=metadata, ChecksumAlgorithm="CRC32")["UploadId"]
    try:
        part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=body, ChecksumAlgorithm="CRC32")
        parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1, "ChecksumCRC32": part["ChecksumCRC32"]}]}
        s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, IfMatch=was["ETag"])
    except BaseException:
        s3.abort_multipart_upload(**place, UploadId=upload)
        raise
