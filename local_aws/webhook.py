"""Sends the recorded batches of events/ through the local load balancer, as Bird would."""

import base64
import gzip
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local_aws.deploy import Deployed
from local_aws.emulator import ROOT, Emulator

SEND_TIMEOUT_SECONDS = 30
EVENTS = ROOT / "events"


@dataclass(frozen=True)
class Request:
    """An HTTP request. Header names are lower-case; `body` is as sent, possibly compressed."""

    method: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def recorded_request(path: Path) -> Request:
    """The request in a load balancer's invocation event, with a decoded body and without hop-by-hop headers."""
    event: dict[str, Any] = json.loads(path.read_text())
    many = event.get("multiValueHeaders") or {}
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    headers |= {name.lower(): ", ".join(values) for name, values in many.items()}
    for name in list(headers):
        if name in ("host", "content-length", "connection") or name.startswith(("x-forwarded-", "x-amzn-")):
            del headers[name]
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    return Request(event["httpMethod"], headers, body)


def events_in(request: Request) -> list[dict[str, Any]]:
    """The batch in a request."""
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    batch: list[dict[str, Any]] = json.loads(body)
    return batch


def send(stack: Deployed, request: Request, path: str | None = None) -> Answer:
    """Send one request to the stack's webhook, or to another path of its load balancer."""
    target = urlsplit(stack.outputs["WebhookUrl"])
    connection = connect(stack.emulator, target.netloc)
    try:
        connection.request(request.method, path or target.path, body=request.body, headers=request.headers)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


def connect(emulator: Emulator, address: str) -> http.client.HTTPConnection:
    if not emulator.auth:
        return http.client.HTTPConnection(address, timeout=SEND_TIMEOUT_SECONDS)
    trust = ssl.create_default_context(cafile=emulator.certificate)
    return http.client.HTTPSConnection(address, timeout=SEND_TIMEOUT_SECONDS, context=trust)


def basic(credentials: tuple[str, str]) -> Mapping[str, str]:
    """The header of Basic authentication."""
    return {"authorization": "Basic " + base64.b64encode(":".join(credentials).encode()).decode()}
