"""Batches to the webhook of a deployed stack."""

import json
from typing import NamedTuple

from local_aws.deploy import Stack
from local_aws.webhook import Request, basic, send

STACKS_OWN = ("", "")  # in the place of credentials


class Answer(NamedTuple):
    status: int
    said: str | None
    headers: dict[str, str]


def batch(*events: dict, event_class: str = "message_event") -> str:
    """A body of these events; of 2016-04-18, unless they say otherwise."""
    return json.dumps([{"msys": {event_class: {"timestamp": "1460989507", **event}}} for event in events])


def post(
    stack: Stack,
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
    return Answer(answer.status, json.loads(answer.body)["status"] if answer.body else None, answer.headers)
