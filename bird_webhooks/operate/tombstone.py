"""The tombstone of a person in the lake bucket: left by an erasure, until it is forgotten (process.tombstones)."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import confirm
from process import tombstones
from process.tombstones import Tombstone, Tombstones

GONE = ("404", "NoSuchKey")
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", *GONE)
TRIES = 10
READ_AT_ONCE = 16


def has_key(stack: Stack) -> bool:
    """Not so for a stack that was deployed before there were tombstones."""
    return "TombstoneKeyArn" in stack.outputs


def leave(stack: Stack, address: str, erased_at: datetime, unfinished: Iterable[str]) -> None:
    """Of two erasures at once each keeps the later time. Errors: OperateError."""
    key, unfinished = _key(stack), list(unfinished)
    name = tombstones.name(address, key)
    for _ in range(TRIES):
        before, condition = _read(stack, name)
        body = tombstones.encode(tombstones.renewed(before, erased_at, key, unfinished))
        try:
            stack.s3.put_object(Bucket=_bucket(stack), Key=name, Body=body, ContentType="application/json", **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in CHANGED:
                raise
        else:
            return
    raise OperateError("another erasure of the same address is at work: give the command again later")


def forget(stack: Stack, address: str, *, yes: bool) -> None:
    """Errors: OperateError, if there is none."""
    name = tombstones.name(address, _key(stack))
    found, _ = _read(stack, name)
    if found is None:
        raise OperateError("there is no tombstone of this address")
    if found.unfinished:
        raise OperateError("its erasure was cut short: give `erase --address` again first")
    confirm(f"Forget that this person was erased at {found.erased_at:%Y-%m-%d %H:%M} UTC?", yes=yes)
    stack.s3.delete_object(Bucket=_bucket(stack), Key=name)
    print("forgotten: events from before the erasure may come in again")


def read_all(stack: Stack) -> Tombstones:
    """Of everybody who was erased. Errors: OperateError."""
    if not has_key(stack):
        return Tombstones(b"", {})
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=_bucket(stack), Prefix=tombstones.PREFIX)
    names = [item["Key"] for page in pages for item in page.get("Contents", [])]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        bodies = pool.map(lambda one: stack.s3.get_object(Bucket=_bucket(stack), Key=one)["Body"].read(), names)
        try:
            return tombstones.read(zip(names, bodies, strict=True), _key(stack))
        except tombstones.UnknownKeyError as error:
            raise OperateError(f"{error}: who was erased cannot be told") from error


def _key(stack: Stack) -> bytes:
    return stack.secret_text(stack.output("TombstoneKeyArn")).encode()


def _bucket(stack: Stack) -> str:
    return stack.output("LakeBucketName")


def _read(stack: Stack, name: str) -> tuple[Tombstone | None, dict[str, Any]]:
    """The tombstone, and the condition under which it may be replaced."""
    try:
        found = stack.s3.get_object(Bucket=_bucket(stack), Key=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return None, {"IfNoneMatch": "*"}
        raise
    return tombstones.decode(found["Body"].read()), {"IfMatch": found["ETag"]}
