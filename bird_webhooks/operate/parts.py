"""A batch beyond the limits of process -> batches within them, stored next to it so that process gets them.

They are ordinary raw batches: `erase` finds them, they expire like the others, and S3 announces them.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack
from process.bounds import LIGHT, LIMITS, MAX_REPAIR_STEPS, BeyondBoundsError
from process.elements import UnreadableBatchError, parts, repair_steps
from process.gzip_body import NotGzipError, decompressed
from process.normalise import StoredBatch, UnreadableElementError, element
from process.rows import REPAIRABLE, TOO_MUCH, Rows

# Elements of a part: within every limit of process.
ELEMENTS = min(LIMITS[1:])
# What fits into an operator's memory; only an operator can have stored such a body.
MAX_BODY_BYTES = 2**30
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class Stored(NamedTuple):
    key: str
    new: bool  # and therefore announced by S3


def store_parts(stack: Stack, key: str, *, limit: int) -> list[Stored]:
    """Store the parts of a batch; none if process accepts it whole. Parts from an earlier call stay as they are.

    Errors: OperateError, also for more than `limit` parts, before any is stored.
    """
    bucket, name = stack.raw_object(key)
    stored = stack.s3.get_object(Bucket=bucket, Key=name)
    raw = stored["Body"].read()
    try:
        unzipped = decompressed(raw, MAX_BODY_BYTES)
        if unzipped.damage:
            raise OperateError(f"{key} is damaged gzip: it cannot be split")
        if fits(unzipped.body, len(raw)):
            return []
        bodies = list(split_body(unzipped.body))
    except (NotGzipError, BeyondBoundsError, UnreadableBatchError) as error:
        raise OperateError(f"{key} cannot be split: {error}") from error
    if len(bodies) > limit:
        raise OperateError(f"{key} would become {len(bodies):,} parts: raise --limit")
    return [store(stack, key, stored, number, body) for number, body in enumerate(bodies, 1)]


def fits(body: bytes, stored_bytes: int) -> bool:
    """Whether process makes of the batch all rows that it can make of its parts."""
    if stored_bytes > LIMITS.body_bytes:
        return False
    rows = Rows()
    try:
        rows.add(StoredBatch("", "", 0, body))
    except BeyondBoundsError:
        return False
    return not any(one.reason.endswith(TOO_MUCH) for one in rows.quarantined)


def split_body(body: bytes) -> Iterator[bytes]:
    """All elements in their order, also damaged ones. Errors: UnreadableBatchError, OperateError."""
    some: list[bytes] = []
    steps = 0
    for part in parts(body):
        if len(part.raw) > LIMITS.body_bytes - 2:
            raise OperateError(f"an element is larger than {LIMITS.body_bytes} bytes: no part can hold it")
        too_long = sum(map(len, some)) + len(part.raw) > LIGHT.body_bytes - 1024
        more = steps_to_repair(part.raw)
        if some and (len(some) == ELEMENTS or too_long or steps + more > MAX_REPAIR_STEPS):
            yield joined(some)
            some, steps = [], 0
        if part.raw:
            some.append(part.raw)
            steps += more
    if some:
        yield joined(some)


def steps_to_repair(raw: bytes) -> int:
    """0 for what process does not repair: sound batches keep the parts that an older release has stored of them."""
    try:
        element(raw)
    except UnreadableElementError as error:
        if str(error) in REPAIRABLE:
            return repair_steps(raw)
    return 0


def joined(elements: list[bytes]) -> bytes:
    return b"[%b]" % b",\n".join(elements)


def store(stack: Stack, key: str, whole: dict[str, Any], number: int, body: bytes) -> Stored:
    """Errors: OperateError if another object has that key."""
    bucket, key = stack.raw_object(key)
    batch_id = f"{PurePosixPath(key).name.removesuffix('.json')}.part-{number:04d}"
    part_key = f"{key.rpartition('/')[0]}/{batch_id}.json"
    metadata = {name: value for name, value in whole["Metadata"].items() if name != "body-sha256"}
    metadata.setdefault("received-at", whole["LastModified"].isoformat(timespec="milliseconds"))
    metadata["batch-id"] = batch_id
    try:
        stack.s3.put_object(
            Bucket=bucket,
            Key=part_key,
            Body=body,
            IfNoneMatch="*",
            ContentType="application/json",
            Metadata=metadata,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in TAKEN:
            raise
        if stack.s3.get_object(Bucket=bucket, Key=part_key)["Body"].read() != body:
            raise OperateError(f"{part_key} exists already, with another content") from error
        return Stored(stack.raw_name(bucket, part_key), new=False)
    # Where batches lay before, S3 may announce nothing any more.
    return Stored(stack.raw_name(bucket, part_key), new=stack.raw_places[0].holds(bucket, part_key))
