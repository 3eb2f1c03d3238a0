"""Raw batches once more through process, by the same messages that S3 sends when it stores one.

Nothing is stored again. Rows that are missing are repaired; rows that are there may come again in another file, of
which the deduplicating view shows each once.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import batched, islice
from typing import Any, NamedTuple
from urllib.parse import quote_plus

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.moving import names
from bird_webhooks.operate.batches import Listing
from bird_webhooks.operate.parts import store_parts
from bird_webhooks.operate.quarantine import clean, records
from bird_webhooks.stack import RawPlace, Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say
from ingest.webhook import BATCH_ID_HEADER, Request, batch_id

ASK_ABOVE = 100
ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.2
AT_ONCE = 8
EXAMINED_AT_ONCE = 500
SQS_TAKES = 10  # messages in one request
SHOWN = 20
MAX_KEY_BYTES = 900  # S3 takes 1,024, the prefix among them
ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")
GONE = ("404", "NoSuchKey", "NotFound")


class Choice(NamedTuple):
    """Keys of raw batches: those that can be read, and the others with why not."""

    readable: list[str]
    left_out: dict[str, str]


def keys_by_time(stack: Stack, since: datetime, until: datetime, most: int | None = None) -> Iterator[str]:
    """The earliest first, so that process gets batches of one date together and makes few files of them.

    Of more than `most` one more, and not the earliest.
    """
    found = islice(Listing(stack, since, until), None if most is None else most + 1)
    return (batch.key for batch in sorted(found, key=lambda batch: batch.stored_at))


def keys_by_id(stack: Stack, ids: Iterable[str]) -> Iterator[str]:
    """The key as ingest makes it; as other programs have made it, whose id process takes from the key; and those under
    which an import has stored a batch of that id. In all places.

    Errors: OperateError for a batch that is nowhere.
    """
    for one in ids:
        if names.received_at(one):  # the id of an imported batch, as its rows have it
            name, imported = one, list[str]()
        else:
            name = batch_id(Request("POST", {BATCH_ID_HEADER: [one]}, b"")).name
            imported = imported_keys(stack, name)
        keys = keys_of(stack, f"{name}.json")
        others = keys_of(stack, f"{one}.json", one) if is_key(one) else []
        found = [*(key for key in dict.fromkeys([*keys, *others]) if is_there(stack, key)), *imported]
        if not found:
            raise OperateError(f"there is no raw batch {', '.join(keys)}")
        yield from found


def is_key(name: str) -> bool:
    return name.isprintable() and 0 < len(name.encode()) <= MAX_KEY_BYTES and not name.endswith("/")


def keys_of(stack: Stack, *below: str) -> list[str]:
    return [stack.raw_name(place.bucket, f"{place.prefix}/{one}") for place in stack.raw_places for one in below]


def is_there(stack: Stack, name: str) -> bool:
    bucket, key = stack.raw_object(name)
    try:
        stack.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise
        return False
    return True


def imported_keys(stack: Stack, name: str) -> list[str]:
    return [
        stack.raw_name(place.bucket, item["Key"])
        for place in stack.raw_places
        for page in stack.s3.get_paginator("list_objects_v2").paginate(
            Bucket=place.bucket, Prefix=f"{place.prefix}/{names.PREFIX}{name}/"
        )
        for item in page.get("Contents", [])
    ]


def keys_quarantined(stack: Stack, since: datetime, until: datetime) -> Iterator[str]:
    """Of the batches; what PostgreSQL or the bus refused names a file of rows, and a replay would not change it."""
    found = (record for record in records(stack, since, until) if "raw_key" in record)
    named = dict.fromkeys((record["raw_key"], record.get("raw_bucket")) for record in found)
    places = stack.raw_places
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return iter(dict.fromkeys(pool.map(lambda one: key_quarantined(stack, places, *one), named)))


def key_quarantined(stack: Stack, places: list[RawPlace], key: str, bucket: str | None) -> str:
    """Where the object is; of one that is in no place, where it was last. Before 0.3.0 records had no bucket."""
    buckets = [bucket] if bucket else [place.bucket for place in places if place.holds(place.bucket, key)]
    found = [stack.raw_name(one, key) for one in dict.fromkeys(buckets)] or [key]
    return next((one for one in found if len(found) == 1 or is_there(stack, one)), found[0])


def replay(
    stack: Stack, keys: Iterator[str], *, limit: int, force: bool, dry_run: bool, yes: bool, as_json: bool = False
) -> None:
    """With `force` a batch beyond the limits of process is split into parts, and these are processed in its place.

    Errors: OperateError for more than `limit` batches, before anything is sent, for those that SQS refused, and for
    those that cannot be read.
    """
    chosen = list(islice(keys, limit + 1))
    if len(chosen) > limit:
        raise OperateError(f"more than {limit:,} batches match: narrow the choice, or raise --limit")
    choice = examined(stack, chosen)
    for key, why in islice(choice.left_out.items(), SHOWN):
        say(f"left out, {why}: {clean(key)}")
    if dry_run:
        if as_json:
            print_json({"would_replay": choice.readable, "left_out": choice.left_out})
            return
        for key in choice.readable:
            print(clean(key))
        print(f"{len(choice.readable):,} batches would be replayed")
        return
    if len(choice.readable) > ASK_ABOVE:
        confirm(f"Replay {len(choice.readable):,} batches of stack {stack.name}?", yes=yes)
    wanted = (
        list(split(stack, choice.readable, limit=limit, tell=say if as_json else print)) if force else choice.readable
    )
    failed = send_all(stack, wanted)
    if as_json:
        print_json({"replayed": len(wanted) - len(failed), "not_replayed": failed, "left_out": choice.left_out})
    else:
        print(f"{len(wanted) - len(failed):,} batches replayed")
    if stack.parameters.get("OutputFormat") == "PARQUET" and "TableMaintenanceFunctionArn" in stack.outputs:
        say("rows of closed dates are visible within two hours, or at once after `bird-webhooks close --date <date>`")
    for key in failed[:SHOWN]:
        say(f"not replayed: {clean(key)}")
    if failed:
        raise OperateError(f"the queue refused {len(failed):,} batches in {ATTEMPTS} attempts: replay them again")
    if choice.left_out:
        raise OperateError(f"{len(choice.left_out):,} batches cannot be read and were left out")


def examined(stack: Stack, keys: list[str]) -> Choice:
    """Process could make no rows of an object that is archived, gone or elsewhere: it is named instead."""
    progress, found = Progress(), dict[str, str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for some in batched(keys, EXAMINED_AT_ONCE):
            found |= zip(some, pool.map(lambda key: unreadable(stack, key), some), strict=True)
            progress.show(f"looking at each: {len(found):,} of {len(keys):,} batches")
    progress.done()
    return Choice([key for key, why in found.items() if not why], {key: why for key, why in found.items() if why})


def unreadable(stack: Stack, key: str) -> str:
    """Why an object cannot be read; empty if it can be."""
    bucket, name = stack.raw_object(key)
    if not any(place.holds(bucket, name) for place in stack.raw_places):
        return "neither under RawPrefix nor in FormerRawPlaces"
    try:
        head = stack.s3.head_object(Bucket=bucket, Key=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return "deleted or expired"
        raise
    restored = 'ongoing-request="false"' in head.get("Restore", "")
    archived = head.get("StorageClass") in ARCHIVED or "ArchiveStatus" in head
    return "archived, restore it first" if archived and not restored else ""


def split(stack: Stack, keys: list[str], *, limit: int, tell: Callable[[str], None]) -> Iterator[str]:
    """The batches, but for one beyond the limits its parts. S3 announces new parts itself."""
    for key in keys:
        parts = store_parts(stack, key, limit=limit)
        if parts:
            new = sum(part.new for part in parts)
            tell(f"{clean(key)}: {new:,} parts stored, {len(parts) - new:,} were there ({clean(parts[0].key)} and on)")
        yield from [part.key for part in parts if not part.new] if parts else [key]


def send_all(
    stack: Stack,
    keys: list[str],
    *,
    bucket: str = "RawBucketName",
    queue: str = "ProcessQueueUrl",
    doing: str = "replaying",
) -> list[str]:
    """Those that the queue did not take. `bucket` and `queue` are outputs of the stack."""
    urls = stack.output(bucket), stack.output(queue)
    progress, sent, failed = Progress(), 0, list[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for ten, refused in pool.map(lambda ten: (ten, send(stack, ten, *urls)), batched(keys, SQS_TAKES)):
            sent += len(ten) - len(refused)
            failed += refused
            progress.show(f"{doing}: {sent:,} of {len(keys):,}")
    progress.done()
    return failed


def send(stack: Stack, keys: Sequence[str], bucket: str, queue: str) -> list[str]:
    """Send one message for each of ten keys at most; return those that the queue did not take."""
    waiting = {str(number): key for number, key in enumerate(keys)}
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        entries = [{"Id": number, "MessageBody": message(*place_of(bucket, key))} for number, key in waiting.items()]
        answer = stack.sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        waiting = {entry["Id"]: waiting[entry["Id"]] for entry in answer.get("Failed", [])}
        if not waiting:
            break
    return list(waiting.values())


def place_of(bucket: str, name: str) -> tuple[str, str]:
    """Bucket and key; `bucket` is that of names which are not addresses."""
    if not name.startswith("s3://"):
        return bucket, name
    other, _, key = name.removeprefix("s3://").partition("/")
    return other, key


def message(bucket: str, key: str) -> str:
    """As S3 announces a new object; a space in a key is a +."""
    return json.dumps({"Records": [record(bucket, key)]})


def record(bucket: str, key: str) -> dict[str, Any]:
    """One object of a message."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "replay",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/")},
        },
    }
