"""One POST from Bird -> one object in the raw bucket -> 200. The body is not parsed, so any format is accepted.

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

from ingest.credentials import challenge, refusal, uses_other, uses_previous
from ingest.metrics import counted
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
        return _reject(event, 400, "unreadable request", error=str(error))
    if request.method in ("GET", "HEAD"):
        logger.info("health check answered", extra=_counted("health_checks", {}))
        return answer(event, 200, '{"status":"ok"}')
    if request.method != "POST":
        return _reject(event, 405, "method not allowed", headers={"Allow": "GET, HEAD, POST"})
    if is_ping(request.body):  # Bird may probe before it has the credentials
        logger.info("ping answered", extra=_counted("pings", {}))
        return answer(event, 200, '{"status":"ping"}')
    reason = refusal(request, settings())
    if reason is not None:
        authenticate = challenge(settings())
        return _reject(event, 401, reason, headers={"WWW-Authenticate": authenticate} if authenticate else {})
    if uses_other(request, settings()):  # as long as this line is logged, `accept end` waits
        logger.info("credentials of another webhook used")
    elif uses_previous(request, settings()):  # a rotation must not be finished while this line is still logged
        logger.info("previous credentials used")
    name, original = batch_id(request)
    facts: dict[str, Any] = {"batch_id": name, "body_bytes": len(request.body)}
    started = time.perf_counter()
    try:
        outcome = raw_batches().put(
            name,
            request.body,
            received_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            content_encoding=content_encoding(request),
            original=original,
        )
    except StorageUnavailableError as error:
        facts |= {"reason": str(error), **_elapsed(started)}
        logger.error("batch not stored", extra=_counted("batches_not_stored", facts))
        return answer(event, 503, '{"status":"unavailable"}', {"Retry-After": str(RETRY_AFTER_SECONDS)})
    facts |= _elapsed(started)
    if outcome == "duplicate":
        logger.info("batch was a duplicate", extra=_counted("batches_duplicate", facts))
        return answer(event, 200, '{"status":"duplicate"}')
    if outcome == "reused":
        logger.warning("batch id came again with another body", extra=_counted("batch_ids_reused", facts))
    logger.info("batch stored", extra=_counted("batches_stored", facts))
    return answer(event, 200, '{"status":"stored"}')


def _reject(
    event: Mapping[str, Any], status: int, reason: str, *, headers: Mapping[str, str] | None = None, **more: str
) -> dict[str, Any]:
    facts = {"status": status, "reason": reason, **more}
    logger.warning("request rejected", extra=_counted("requests_rejected", facts))
    return answer(event, status, '{"status":"rejected"}', headers)


def _counted(outcome: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return counted(outcome, facts, os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"), time.time())


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
