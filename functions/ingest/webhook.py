"""The front door's invocation event <-> one HTTP request and its answer. Pure.

Envelopes: load balancer with single or multi-value headers, HTTP API payload 2.0 (also function URLs).
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

import hashlib
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any, NamedTuple

BATCH_ID_HEADER = "x-messagesystems-batch-id"
_SAFE_BATCH_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CONTENT_ENCODING = re.compile(r"[A-Za-z0-9][A-Za-z0-9,. _-]{0,63}")
# Bird's probe `{"msys":{}}`, in an array or not, an empty array, or nothing, in any white space. Possessive, so that
# the time is linear in what a stranger sends.
_PROBE = rb'\{\s*+"msys"\s*+:\s*+\{\s*+\}\s*+\}\s*+'
_PING = re.compile(rb"\s*+(?:%b|\[\s*+(?:%b)?\]\s*+)?" % (_PROBE, _PROBE))
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class UnreadableRequestError(Exception):
    """An envelope or a body that cannot be read."""


class Request(NamedTuple):
    """`headers` by lower-case name, each with all values that came."""

    method: str
    headers: Mapping[str, list[str]]
    body: bytes
    target_group_arn: str | None = None  # that of the load balancer it came by

    def header(self, name: str) -> str | None:
        """The last value, as a load balancer without multi-value headers would give it."""
        values = self.headers.get(name)
        return values[-1] if values else None

    def only(self, name: str) -> str | None:
        """The one value of a header; None without one, or where two contradict each other."""
        values = set(self.headers.get(name, ()))
        return values.pop() if len(values) == 1 else None


class BatchId(NamedTuple):
    """`name` is safe as part of an object key; `original` is what the sender wrote, if that differs."""

    name: str
    original: str | None


def parse_request(event: Mapping[str, Any]) -> Request:
    """Errors: UnreadableRequestError."""
    try:
        context = event.get("requestContext") or {}
        method = event["httpMethod"] if "httpMethod" in event else context["http"]["method"]
        headers: dict[str, list[str]] = {}
        if event.get("multiValueHeaders") is not None:
            for name, values in event["multiValueHeaders"].items():
                headers.setdefault(name.lower(), []).extend(values)
        else:
            for name, value in (event.get("headers") or {}).items():
                headers.setdefault(name.lower(), []).append(value)
        if not all(isinstance(value, str) for values in headers.values() for value in values):
            raise TypeError("headers")
        text = event.get("body") or ""
        body = (
            a2b_base64(text, strict_mode=True) if event.get("isBase64Encoded") else text.encode(errors="surrogatepass")
        )
        target_group = (context.get("elb") or {}).get("targetGroupArn")
        if not isinstance(method, str):
            raise TypeError("method")
        return Request(method, headers, body, target_group if isinstance(target_group, str) else None)
    except (KeyError, TypeError, AttributeError, Base64Error, ValueError) as error:
        raise UnreadableRequestError(type(error).__name__) from error


def is_ping(body: bytes) -> bool:
    return _PING.fullmatch(body) is not None


def batch_id(request: Request) -> BatchId:
    """What identifies the batch: equal for every attempt to deliver it."""
    given = dict.fromkeys(value.strip() for value in request.headers.get(BATCH_ID_HEADER, ()))
    if len(given) == 1 and "" not in given:
        (original,) = given
        if _SAFE_BATCH_ID.fullmatch(original) and original.strip("."):
            return BatchId(original, None)
        return BatchId(f"sha256-{hashlib.sha256(original.encode(errors='surrogatepass')).hexdigest()}", original)
    # No id, or two that contradict each other: then only the body identifies the batch.
    return BatchId(f"sha256-{hashlib.sha256(request.body).hexdigest()}", ", ".join(given) or None)


def content_encoding(request: Request) -> str | None:
    """How the body is compressed; None for a value that S3 would refuse, because Bird's retries would all fail."""
    given = request.header("content-encoding")
    return given if given and _CONTENT_ENCODING.fullmatch(given) else None


def answer(
    event: Mapping[str, Any], status: int, body: str, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An answer in the shape of the envelope: a null or a missing member would make the load balancer say 502."""
    all_headers = {"Content-Type": "application/json", **(headers or {})}
    response: dict[str, Any] = {"statusCode": status, "isBase64Encoded": False, "body": body}
    if "httpMethod" not in event:  # HTTP API
        return {**response, "headers": all_headers}
    response["statusDescription"] = f"{status} {_REASONS[status]}"
    if event.get("multiValueHeaders") is not None:
        return {**response, "multiValueHeaders": {name: [value] for name, value in all_headers.items()}}
    return {**response, "headers": all_headers}
