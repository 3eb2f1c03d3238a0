"""Bird's Webhooks API over HTTP. The API key goes to that one address and nowhere else."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from register_webhook.webhook import Webhook, documented, error_text

REQUEST_TIMEOUT_SECONDS = 20  # Bird waits up to 10 s for the target before it answers
MAX_ANSWER_BYTES = 5_000_000
RETRYABLE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)  # and 5xx


class BirdError(Exception):
    """Bird refused or failed; the text is Bird's own if it sent one."""


class RefusedError(BirdError):
    """Bird refused; a retry would not help."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status


class NotNowError(BirdError):
    """A retry may succeed: Bird was busy or not reached, or the target did not answer yet."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because urllib would send the API key along."""

    def redirect_request(self, *request: Any) -> None:
        return None


@cache
def opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(NoRedirects)


@dataclass(frozen=True)
class BirdApi:
    url: str
    key: str = field(repr=False)
    subaccount: str = ""

    def event_types(self) -> list[str]:
        """All of Bird's types, at least one, because Bird would silently send nothing to a webhook without types."""
        try:
            if found := documented(self._ask("GET", "/webhooks/events/documentation")):
                return found
        except (AttributeError, TypeError):
            pass
        raise RefusedError(HTTPStatus.OK, "its documentation names no types of events, name them in BirdEventTypes")

    def webhooks(self) -> list[Webhook]:
        found: list[Webhook] = self._ask("GET", "/webhooks")
        return found

    def read(self, webhook_id: str) -> Webhook | None:
        """None if there is no such webhook."""
        try:
            found: Webhook = self._ask("GET", _path(webhook_id))
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found

    def batch_statuses(self, webhook_id: str) -> list[dict[str, Any]]:
        """The last 24 hours' batches that failed at least once, the newest last."""
        found: list[dict[str, Any]] = self._ask("GET", f"{_path(webhook_id)}/batch-status")
        return sorted(found, key=lambda batch: str(batch.get("ts", "")))

    def create(self, fields: Webhook) -> str:
        return str(self._ask("POST", "/webhooks", fields)["id"])

    def update(self, webhook_id: str, fields: Webhook) -> None:
        self._ask("PUT", _path(webhook_id), fields)

    def delete(self, webhook_id: str) -> None:
        """Succeeds if the webhook does not exist any more."""
        try:
            self._ask("DELETE", _path(webhook_id))
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def _ask(self, method: str, path: str, content: Webhook | None = None) -> Any:
        """The `results` of the answer. Errors: RefusedError, NotNowError."""
        headers = {"Authorization": self.key, "Accept": "application/json"}
        if self.subaccount:
            headers["X-MSYS-SUBACCOUNT"] = self.subaccount
        body = None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310
        try:
            with opener().open(request, timeout=REQUEST_TIMEOUT_SECONDS) as answer:
                text = answer.read(MAX_ANSWER_BYTES)
                return json.loads(text)["results"] if text else None
        except urllib.error.HTTPError as error:
            with error:
                raise _meaning(error.code, error_text(_begin_of(error))) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotNowError(f"Bird was not reached: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise RefusedError(HTTPStatus.OK, "an answer that is not Bird's") from None


def _begin_of(error: urllib.error.HTTPError) -> bytes:
    """Nothing of it if the connection breaks: the status alone decides."""
    try:
        return error.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _path(webhook_id: str) -> str:
    return f"/webhooks/{quote(webhook_id, safe='')}"


def _meaning(status: int, text: str) -> BirdError:
    """Only Bird's words tell a target that does not answer (yet) from a request that is wrong: both are 400."""
    if status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NotNowError(f"{text} (HTTP {status})")
    if status == HTTPStatus.BAD_REQUEST and "webhook target url failed" in text.lower():
        return NotNowError(f"{text} (HTTP {status})")
    return RefusedError(status, text)
