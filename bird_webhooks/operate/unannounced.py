"""Raw batches that no queue was told of: S3 announces Put, Post and Copy, and not what is uploaded in parts.

The AWS CLI and others upload and copy in parts from 8 MB on. Such an object has a hyphen in its ETag, under every
encryption. `erase` and `import` write so on purpose, and leave word of it.

Nor was any queue told of what came while no stack listened to an existing bucket, or where batches lay before, in the
seconds of the update that changed the place. Of those the newest are looked at.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import batched, islice
from typing import Any, NamedTuple

from bird_webhooks.moving import names
from bird_webhooks.moving.ledger import Ledger
from bird_webhooks.operate import put_back
from bird_webhooks.stack import RawPlace, Stack
from process import unshown
from process.notification import MARKERS

# So many keys are listed, by a hundred requests.
MOST_LISTED = 100_000
# Of so many copies the rows are asked for their batch.
MOST_ASKED = 1_000
MOST_UNHEARD = 500
IDS_AT_ONCE = 500
READ_AT_ONCE = 16


class Unannounced(NamedTuple):
    """Batch ids: copies without a row; imported batches that no message has named; batches without a row that came
    while no stack may have listened. `listed_all` of the bucket."""

    copies: list[str]
    imported: list[str]
    unheard: list[str]
    listed_all: bool


def unannounced(stack: Stack) -> Unannounced:
    """Errors: OperateError, QueryFailedError."""
    items = list(
        islice(((place, item) for place in stack.raw_places for item in listed(stack, place)), MOST_LISTED + 1)
    )
    unheard = unheard_without_rows(stack, items[:MOST_LISTED])
    in_parts = [(place, item["Key"]) for place, item in items[:MOST_LISTED] if uploaded_in_parts(item)]
    if not in_parts:
        return Unannounced([], [], unheard, len(items) <= MOST_LISTED)
    before = put_back.times(stack)
    ids = [batch_id(place, key) for place, key in in_parts if key not in before]
    imported = [one for one in ids if names.identity(one)]
    copies = [one for one in ids if not names.identity(one)]
    handed = Ledger.read(stack).identities if imported else set()
    return Unannounced(
        without_rows(stack, copies[:MOST_ASKED]),
        [one for one in imported if names.identity(one) not in handed],
        unheard,
        len(items) <= MOST_LISTED,
    )


def unheard_without_rows(stack: Stack, items: list[tuple[RawPlace, Mapping[str, Any]]]) -> list[str]:
    """Without those that are known to have no rows: of what was quarantined, and of what others have brought first."""
    began = stack.described["CreationTime"] if stack.parameters.get("ExistingRawBucket") else None
    now = stack.raw_places[0]
    quiet = [
        (item["LastModified"], batch_id(place, item["Key"]))
        for place, item in items
        if not uploaded_in_parts(item)
        and not item["Key"].endswith(MARKERS)
        and (place != now or (began is not None and item["LastModified"] < began))
    ]
    without = without_rows(stack, [one for _, one in sorted(quiet, reverse=True)[:MOST_UNHEARD]])
    known = unshown_batches(stack) if without else set()
    return [one for one in without if one not in known]


def unshown_batches(stack: Stack) -> set[str]:
    bucket = stack.output("LakeBucketName")
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=unshown.PREFIX)
    keys = [item["Key"] for page in pages for item in page.get("Contents", []) if item["Key"].endswith(".json")]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        bodies = pool.map(lambda key: stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), keys)
        return {one for body in bodies for one in unshown.decode(body)}


def listed(stack: Stack, place: RawPlace) -> Iterator[Mapping[str, Any]]:
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=f"{place.prefix}/")
    return (item for page in pages for item in page.get("Contents", []))


def uploaded_in_parts(item: Mapping[str, Any]) -> bool:
    return "-" in item["ETag"]


def batch_id(place: RawPlace, key: str) -> str:
    return key.removeprefix(f"{place.prefix}/").removesuffix(".json")


def without_rows(stack: Stack, ids: list[str]) -> list[str]:
    found: set[str] = set()
    for some in batched(ids, IDS_AT_ONCE):
        listed = ", ".join("'" + one.replace("'", "''") + "'" for one in some)
        sql = f"SELECT DISTINCT batch_id FROM events WHERE batch_id IN ({listed})"  # noqa: S608
        found |= {str(row["batch_id"]) for row in stack.athena().stream(sql)}
    return [one for one in ids if one not in found]
