"""S3: how filters of notifications are compared, idle connections, and old signatures."""

import asyncio
import socket
import struct
import time
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any
from urllib.parse import quote_plus

import ministack.app
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from ministack.services import s3

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule, seconds

# The characters that S3 calls safe in keys: a filter contains them as they are.
SAFE = "/!-_.*'()"


@rule("https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html", RULES)
def notification_filters_are_encoded() -> None:
    """The prefix and suffix of a filter are in S3's encoding: a space is `+`, other special characters are %XX."""
    s3._key_matches_filter = encoded_key_matches


def encoded_key_matches(key: str, prefix: str | None, suffix: str | None) -> bool:
    encoded = quote_plus(key, safe=SAFE)
    return encoded.startswith(prefix or "") and encoded.endswith(suffix or "")


@rule("https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html", RULES)
def overlapping_notifications_are_refused() -> None:
    """Two entries of a bucket may not announce the same event of the same key, whatever their destinations."""
    validate = s3._validate_notification_configs

    def validating(entries: list[dict[str, Any]], *rest: Any, **named: Any) -> Any:
        if any(overlap(one, other) for one, other in combinations(entries, 2)):
            words = "Configurations overlap. Configurations on the same bucket cannot share a common event type."
            return s3._invalid_notification_config(words)
        return validate(entries, *rest, **named)

    s3._validate_notification_configs = validating


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    prefixes, suffixes = (
        [entry[affix] or "" for entry in (one, other)] for affix in ("filter_prefix", "filter_suffix")
    )
    begins = prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])
    ends = suffixes[0].endswith(suffixes[1]) or suffixes[1].endswith(suffixes[0])
    return (
        begins and ends and any(fnmatchcase(a, b) or fnmatchcase(b, a) for a in one["events"] for b in other["events"])
    )


@rule("https://aws.amazon.com/blogs/aws/amazon-s3-update-sigv2-deprecation-period-extended-modified/", RULES)
def old_presigned_links_are_refused() -> None:
    """A bucket created after 24 June 2020 refuses a link with a version 2 signature."""
    handle = s3.handle_request

    async def refusing(method: str, path: str, headers: Any, body: bytes, query: Any, **rest: Any) -> Any:
        if "AWSAccessKeyId" in query and "Signature" in query:
            words = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
            return s3._error("InvalidRequest", words, 400, path)
        return await handle(method, path, headers, body, query, **rest)

    s3.handle_request = refusing


class Idle:
    """Since when each connection has been idle, by the client's address and port."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.since: dict[Any, float] = {}
        self.busy: dict[Any, int] = {}

    def connects(self, client: Any) -> None:
        """The port of a client that has gone is another one's now."""
        self.since.pop(client, None)

    def begins(self, client: Any) -> None:
        self.since.pop(client, None)
        self.busy[client] = self.busy.get(client, 0) + 1

    def ends(self, client: Any) -> None:
        self.busy[client] -= 1
        if not self.busy[client]:
            del self.busy[client]
            self.since[client] = time.monotonic()

    def is_over(self, client: Any) -> bool:
        since = self.since.pop(client, None)
        return since is not None and time.monotonic() - since > self.limit_seconds


@rule("https://github.com/awslabs/aws-lambda-web-adapter/issues/830", RULES)
def idle_connections_are_reset() -> None:
    """S3 closes idle connections after 5 to 20 s; a function that was frozen meanwhile gets a connection reset."""
    limit = seconds("IDLE", 3)
    if not limit:
        return
    idle = Idle(limit)
    Config.alpn_protocols = ["http/1.1"]  # S3 supports no other
    app, run = ministack.app.app, TCPServer.run

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not for_s3(scope):
            await app(scope, receive, send)
            return
        client = tuple(scope["client"])
        idle.begins(client)
        try:
            await app(scope, receive, send)
        finally:
            idle.ends(client)

    async def run_watched(self: Any) -> None:
        self.reader = reader = Reader(self.reader, self.writer, idle)
        idle.connects(reader.client)
        await run(self)

    ministack.app.app = watched
    TCPServer.run = run_watched


def for_s3(scope: Any) -> bool:
    return any(name == b"authorization" and b"/s3/aws4_request" in value for name, value in scope["headers"])


class Reader:
    """A StreamReader that resets its connection when data comes after too long an idle time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: Idle) -> None:
        self.reader, self.writer, self.idle = reader, writer, idle
        self.client = tuple((writer.get_extra_info("peername") or ())[:2])

    def at_eof(self) -> bool:
        return self.reader.at_eof()

    async def read(self, most: int) -> bytes:
        data = await self.reader.read(most)
        if self.idle.is_over(self.client) and data:
            on, no_lingering = 1, 0
            linger = struct.pack("ii", on, no_lingering)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.writer.transport.abort()
            raise ConnectionResetError
        return data
