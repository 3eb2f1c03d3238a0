"""One POST of Bird's -> one object in the raw bucket -> 200. The body is not read, so that no change of it is refused.

Bird waits 10 s for exactly 200 and otherwise sends the same batch again, 12 times within 8 hours.
Source: https://docs.bird.com/api/email-api/webhooks
"""

import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from ingest.credentials import challenge, refusal, uses_previous
from ingest.raw_store import RawBatchStore, StorageUnavailableError, open_store
from ingest.settings import Settings, load_settings
from ingest.webhook import UnreadableRequestError, answer, batch_id, content_encoding, is_ping, parse_request

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

RETRY_AFTER_SECONDS = 30


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    try:
        request = parse_request(event)
    except UnreadableRequestError as error:
        return _reject(event, 400, f"unreadable request: {error}")
    if request.method in ("GET", "HEAD"):  # a health check
        return answer(event, 200, '{"status":"ok"}')
    if request.method != "POST":
        return _reject(event, 405, "method not allowed", {"Allow": "GET, HEAD, POST"})
    if is_ping(request.body):  # Bird may probe before it has the credentials
        logger.info("ping answered")
        return answer(event, 200, '{"status":"ping"}')
    reason = refusal(request, settings())
    if reason is not None:
        authenticate = challenge(settings())
        return _reject(event, 401, reason, {"WWW-Authenticate": authenticate} if authenticate else {})
    if uses_previous(request, settings()):  # a rotation must not be finished while this is still said
        logger.info("previous credentials used")
    name, original = batch_id(request)
    facts = {"batch_id": name, "body_bytes": len(request.body)}
    started = time.perf_counter()
    try:
        stored = raw_batches().put(
            name,
            request.body,
            received_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            content_encoding=content_encoding(request),
            original=original,
        )
    except StorageUnavailableError as error:
        logger.error("batch not stored", extra={**facts, "reason": str(error), **_elapsed(started)})
        return answer(event, 503, '{"status":"unavailable"}', {"Retry-After": str(RETRY_AFTER_SECONDS)})
    logger.info("batch stored" if stored else "batch was a duplicate", extra={**facts, **_elapsed(started)})
    return answer(event, 200, '{"status":"stored"}' if stored else '{"status":"duplicate"}')


def _reject(
    event: Mapping[str, Any], status: int, reason: str, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    logger.warning("request rejected", extra={"status": status, "reason": reason})
    return answer(event, status, '{"status":"rejected"}', headers)


def _elapsed(started: float) -> dict[str, float]:
    return {"store_milliseconds": round((time.perf_counter() - started) * 1000, 1)}


@cache
def settings() -> Settings:
    return load_settings()


@cache
def raw_batches() -> RawBatchStore:
    """Built on first use, kept for the life of the execution environment."""
    # Explicit client options replace what obstore reads from the environment, so the local one is carried over.
    allow_http = os.environ.get("AWS_ALLOW_HTTP") == "true"
    return open_store(settings().raw_bucket, settings().raw_prefix, allow_http=allow_http)
