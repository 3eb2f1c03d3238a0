"""Sends batches the way Bird does: many connections, 10 s for an answer, anything but 200 sent again, same id and body.

Source: https://docs.bird.com/api/email-api/webhooks. The exact intervals are not published: these grow by doubling and
end after 8 hours, as Bird's do.
"""

import base64
import heapq
import http.client
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from bird_webhooks.errors import OperateError
from bird_webhooks.simulator.batches import Batch
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP, Ledger

ATTEMPTS = 12
RETRY_SECONDS = tuple(14 * 2**retry for retry in range(ATTEMPTS - 1))  # 14 s, 28 s, … 4 h; 8 h in all
PROBE = b'[{"msys":{}}]'

# Ways in which a batch is lost before it reaches the webhook, as Bird sees each: refused by something in between that
# takes no such body; no answer for eight hours; accepted by something in between that passed nothing on, at once or at
# the second attempt, which batch-status shows.
TOO_LARGE, UNAVAILABLE, DROPPED, DROPPED_LATER = "413", "503", "dropped", "dropped later"
_ANSWERS = {
    TOO_LARGE: ("413",) * ATTEMPTS,
    UNAVAILABLE: ("503",) * ATTEMPTS,
    DROPPED: ("200",),
    DROPPED_LATER: ("503", "200"),
}


class ProbeRefusedError(OperateError):
    """Bird would not create the webhook."""


class Credentials(Protocol):
    """What goes with a request; `refused` hears which headers were answered 400 or 401."""

    def headers(self) -> dict[str, str]: ...

    def refused(self, headers: dict[str, str]) -> None: ...


@dataclass
class NoCredentials:
    def headers(self) -> dict[str, str]:
        return {}

    def refused(self, headers: dict[str, str]) -> None:
        pass


@dataclass
class Header(NoCredentials):
    """A static header: Bird's custom_headers, or the legacy X-MessageSystems-Webhook-Token."""

    name: str
    value: str = field(repr=False)

    def headers(self) -> dict[str, str]:
        return {self.name: self.value}


@dataclass
class Basic(NoCredentials):
    username: str
    password: str = field(repr=False)

    def headers(self) -> dict[str, str]:
        return {"authorization": "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()}


@dataclass
class OAuth2:
    """Client credentials: a token is fetched when there is none, and again after a 400 or 401."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    trust: ssl.SSLContext | None = None
    _token: str | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def headers(self) -> dict[str, str]:
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
            return {"authorization": f"Bearer {self._token}"}

    def refused(self, headers: dict[str, str]) -> None:
        with self._lock:
            if headers["authorization"] == f"Bearer {self._token}":  # or another connection has fetched a new one
                self._token = None

    def _fetch(self) -> str:
        form = {"grant_type": "client_credentials", "client_id": self.client_id, "client_secret": self.client_secret}
        headers = {"content-type": "application/x-www-form-urlencoded"}
        status, body = _post(self.token_url, urlencode(form).encode(), headers, 10, self.trust)
        if status != HTTPStatus.OK:
            raise OSError(f"the token URL answered {status}")
        return str(json.loads(body)["access_token"])


@dataclass
class Report:
    """What happened, in figures."""

    batches: int = 0
    events: int = 0
    accepted: int = 0
    given_up: int = 0
    retried: int = 0  # batches that took more than one attempt
    sent_twice: int = 0  # accepted, and sent once more all the same
    refused_attempts: Counter[str] = field(default_factory=Counter)  # by answer
    acknowledgements: list[float] = field(default_factory=list)  # seconds, of the attempts answered 200
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the acknowledgements came."""
        ordered = sorted(self.acknowledgements) or [0.0]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def progress(self) -> str:
        repeated = self.refused_attempts.total()
        return f"{self.batches:,} sent, {self.accepted:,} accepted, {repeated:,} attempts to repeat"

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        milliseconds = {f"p{share * 100:g}": round(1000 * self.percentile(share)) for share in (0.5, 0.95, 0.99, 1)}
        counts = {name: value for name, value in vars(self).items() if name != "acknowledgements"}
        return {**counts, "acknowledged_milliseconds": milliseconds}

    def __str__(self) -> str:
        refused = ", ".join(f"{times} x {answer}" for answer, times in self.refused_attempts.most_common()) or "none"
        p50, p95, p99, most = (f"{1000 * self.percentile(share):.0f} ms" for share in (0.5, 0.95, 0.99, 1))
        return "\n".join(
            [
                f"sent          {self.batches} batches, {self.events} events, in {self.seconds:.1f} s",
                f"accepted      {self.accepted} batches, {self.retried} of them after retries",
                f"given up      {self.given_up} batches",
                f"sent twice    {self.sent_twice} batches although accepted",
                f"other answers {refused}",
                f"acknowledged  p50 {p50}, p95 {p95}, p99 {p99}, max {most}",
            ]
        )


@dataclass
class Sender:
    """One webhook of Bird's. `time_scale` 1000 makes 14 s between attempts 14 ms."""

    url: str
    credentials: Credentials
    ledger: Ledger
    connections: int = 16
    timeout_seconds: float = 10.0
    attempts: int = ATTEMPTS
    time_scale: float = 1.0
    sent_twice_share: float = 0.02
    batches_per_second: float | None = None
    seed: int = 0
    trust: ssl.SSLContext | None = None
    progress: Callable[[Report], None] = lambda report: None
    lose: Callable[[Batch], str | None] = lambda batch: None  # by one of the ways above, or not at all

    def probe(self) -> None:
        """What Bird does when a webhook is made. Errors: ProbeRefusedError."""
        answer = self._attempt(PROBE, None)
        if answer != "200":
            raise ProbeRefusedError(f"POST to webhook target URL failed: {answer}")

    def run(self, batches: Iterable[Batch]) -> Report:
        """Send them all; return when each is accepted or given up."""
        run = _Run(self, iter(batches))
        threads = [threading.Thread(target=run.work, daemon=True) for _ in range(self.connections)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(1 / self.connections)
            self.progress(run.report)
        if run.failure is not None:
            raise run.failure
        run.report.seconds = time.monotonic() - run.began
        return run.report

    def _attempt(self, body: bytes, batch_id: str | None) -> str:
        """The status as text, or what went wrong with the connection."""
        try:
            credentials = self.credentials
            login = credentials.headers()
            headers = {"content-type": "application/json", "connection": "close", **login}
            if batch_id is not None:
                headers["X-MessageSystems-Batch-ID"] = batch_id
            status, _ = _post(self.url, body, headers, self.timeout_seconds, self.trust)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED):
            credentials.refused(login)
        return str(status)


class _Run:
    """The state that the connections of one run share."""

    def __init__(self, sender: Sender, batches: Iterator[Batch]) -> None:
        self.sender = sender
        self.batches = batches
        self.report = Report()
        self.began = time.monotonic()
        self.failure: BaseException | None = None
        self._random = random.Random(sender.seed)  # noqa: S311
        self._changed = threading.Condition()
        self._order = count()
        self._waiting: list[tuple[float, int, int, Batch]] = []  # (due, order, attempt, batch); attempt 0: once more
        self._under_way = 0
        self._exhausted = False

    def work(self) -> None:
        try:
            while (task := self._next()) is not None:
                attempt, batch = task
                began = time.monotonic()
                way = self.sender.lose(batch)
                # Attempt 0, once more after a 200, is answered as the last one.
                answer = _ANSWERS[way][attempt - 1] if way else self.sender._attempt(batch.body, batch.batch_id)
                self._answered(attempt, batch, answer, time.monotonic() - began)
        except BaseException as error:
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _next(self) -> tuple[int, Batch] | None:
        """The next thing to send, waited for; None when nothing is left and nothing can come back."""
        with self._changed:
            while self.failure is None:
                now = time.monotonic()
                if self._waiting and self._waiting[0][0] <= now:
                    _, _, attempt, batch = heapq.heappop(self._waiting)
                    self._under_way += 1
                    return attempt, batch
                new_at = self._next_new_at()
                if new_at is not None and new_at <= now:
                    fresh = next(self.batches, None)
                    if fresh is None:
                        self._exhausted = True
                        self._changed.notify_all()
                        continue
                    self.report.batches += 1
                    self.report.events += fresh.events
                    self._under_way += 1
                    self.sender.ledger.sending(fresh)
                    return 1, fresh
                due = [moment for moment in (new_at, self._waiting[0][0] if self._waiting else None) if moment]
                if not due and not self._under_way:
                    self._changed.notify_all()
                    return None
                self._changed.wait(min(due) - now if due else None)
            return None

    def _next_new_at(self) -> float | None:
        if self._exhausted:
            return None
        if self.sender.batches_per_second is None:
            return self.began
        return self.began + self.report.batches / self.sender.batches_per_second

    def _answered(self, attempt: int, batch: Batch, answer: str, seconds: float) -> None:
        with self._changed:
            report = self.report
            self._under_way -= 1
            if answer == "200":
                report.acknowledgements.append(seconds)
            else:
                report.refused_attempts[answer] += 1
                if attempt:
                    self.sender.ledger.failed(batch, attempt, answer)
            if attempt == 0:  # whatever the answer: it was accepted before
                pass
            elif answer == "200":
                self.sender.ledger.done(batch, ACCEPTED)
                report.accepted += 1
                report.retried += attempt > 1
                if self._random.random() < self.sender.sent_twice_share:
                    report.sent_twice += 1
                    self._later(1.0, 0, batch)
            elif attempt >= self.sender.attempts:
                self.sender.ledger.done(batch, GIVEN_UP)
                report.given_up += 1
            else:
                self._later(RETRY_SECONDS[attempt - 1], attempt + 1, batch)
            self._changed.notify_all()

    def _later(self, seconds: float, attempt: int, batch: Batch) -> None:
        due = time.monotonic() + seconds / self.sender.time_scale
        heapq.heappush(self._waiting, (due, next(self._order), attempt, batch))


def _post(
    url: str, body: bytes, headers: dict[str, str], timeout_seconds: float, trust: ssl.SSLContext | None
) -> tuple[int, bytes]:
    """One request over one connection of its own, as Bird's are."""
    target = urlsplit(url)
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        connection = http.client.HTTPSConnection(target.netloc, timeout=timeout_seconds, context=trust)
    else:
        connection = http.client.HTTPConnection(target.netloc, timeout=timeout_seconds)
    with closing(connection):
        connection.request("POST", target.path or "/", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
