"""Batches to the webhook of a deployed stack, and what becomes of them."""

import json
from typing import NamedTuple

from local_aws.deploy import Deployed
from local_aws.query import Row, poll, query
from local_aws.webhook import Request, basic, send

ROWS_TIMEOUT_SECONDS = 60
STACKS_OWN = ("", "")  # in the place of credentials


class Answer(NamedTuple):
    status: int
    said: str | None
    headers: dict[str, str]


def batch(*events: dict, event_class: str = "message_event") -> str:
    """A body of these events; of 2016-04-18, unless they say otherwise."""
    return json.dumps([{"msys": {event_class: {"timestamp": "1460989507", **event}}} for event in events])


def post(
    stack: Deployed,
    body: bytes | str,
    *,
    batch_id: str | None = None,
    credentials: tuple[str, str] | None = STACKS_OWN,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    path: str | None = None,
) -> Answer:
    """What the webhook answers."""
    login = stack.credentials() if credentials is STACKS_OWN else credentials
    given = {"content-type": "application/json", **(basic(login) if login else {}), **(headers or {})}
    if batch_id:
        given["x-messagesystems-batch-id"] = batch_id
    answer = send(stack, Request(method, given, body.encode() if isinstance(body, str) else body), path)
    return Answer(answer.status, json.loads(answer.body).get("status") if answer.body else None, answer.headers)


def post_one(stack: Deployed, login: dict[str, str], *, batch_id: str) -> int:
    """The status for a batch of one bounce, with these headers for a login."""
    body = batch({"type": "bounce", "event_id": batch_id})
    return post(stack, body, batch_id=batch_id, credentials=None, headers=login).status


def raw_keys(stack) -> list[str]:
    s3 = stack.emulator.client("s3")
    return [item["Key"] for item in s3.list_objects_v2(Bucket=stack.outputs["RawBucketName"]).get("Contents", [])]


def rows_of(stack, batch_id: str, columns: str, count: int) -> list[Row]:
    sql = f"SELECT {columns} FROM events WHERE batch_id = '{batch_id}' ORDER BY type, event_key"  # noqa: S608
    return poll(lambda: query(stack, sql), lambda rows: len(rows) >= count, ROWS_TIMEOUT_SECONDS)
