"""Bird's Events API, Metrics API and webhooks, read only: one request at a time, every answer checked.

Each try is a call, and calls are bounded. Between two calls it pauses as the vendor's own example does. 429, 5xx, an
answer that is not JSON behind a 5xx, and a connection that broke are tried again after growing waits. The API key goes
to the one address and nowhere else: no redirect is followed, and of `links.next` only the cursor is taken.

Sources: https://docs.bird.com/api/email-api/events, /metrics, /webhooks, and
https://github.com/SparkPost/events-search-example for the pauses.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from reconcile.as_webhook import INGEST_TYPES, NOT_IN_EVENTS_API, WITHOUT_ID, Event

PER_PAGE = 10_000  # the most that Bird gives
FEWEST_PER_PAGE = 100
REQUEST_TIMEOUT_SECONDS = 60  # 10,000 events took Bird up to 6 s
PAUSE_SECONDS = 5.0
WAITS_SECONDS = (10.0, 20.0, 40.0, 80.0)  # before the second to the fifth try
LONGEST_WAIT_SECONDS = 300.0  # if Bird's Retry-After asks for more, the next run tries again
# 10,000 events are about 15 MB; a larger page is asked for again in smaller ones.
MAX_ANSWER_BYTES = 128 * 1024 * 1024
READ_BYTES = 1024 * 1024
MAX_TEXT_CHARACTERS = 300
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

EVENTS_GRANT = "Events Search: Read-only"
METRICS_GRANT = "Metrics: Read-only"
WEBHOOKS_GRANT = "Webhooks: Read-only"

ALL_SUBACCOUNTS, PRIMARY_ONLY = "-1", "0"

# The metric that counts a type's events. Types that share a metric, or of which Bird's pages contradict each other, are
# left out: their numbers prove nothing.
METRIC_OF_TYPE = {
    "injection": "count_injected",
    "delivery": "count_delivered",
    "delay": "count_delayed",
    "out_of_band": "count_outofband_bounce",
    "policy_rejection": "count_policy_rejection",
    "generation_failure": "count_generation_failed",
    "generation_rejection": "count_generation_rejection",
    "spam_complaint": "count_spam_complaint",
}
# Beside those: they may count other types' events too, so they locate, and prove nothing.
DOUBTFUL_METRIC_OF_TYPE = {
    "bounce": "count_inband_bounce",
    "open": "count_rendered",
    "initial_open": "count_initial_rendered",
    "click": "count_clicked",
}


class NoGrantError(Exception):
    """403: the key lacks a grant; `grant` is its name in Bird's list."""

    def __init__(self, grant: str) -> None:
        super().__init__(f'the API key lacks the grant "{grant}"')
        self.grant = grant


class NoAnswerError(Exception):
    """Bird did not answer, or asked to wait for long: no verdict follows from it. The next run tries again."""


class CallsSpentError(Exception):
    """The bound of calls or of time is reached: the next run goes on."""


class UntrustedError(Exception):
    """An answer fails a check, so that nothing may be concluded from it; the text says which, without values."""


class RefusedError(Exception):
    """Bird refused: 400, 401, 404 and the like. A repetition would not help; the text is Bird's own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (HTTP {status})")
        self.status = status


class _TooLargeError(Exception):
    """An answer larger than MAX_ANSWER_BYTES."""


class _TryAgainError(Exception):
    """`wait_seconds` as Bird asked, None if it did not."""

    def __init__(self, why: str, wait_seconds: float | None = None) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


@dataclass
class CallBudget:
    """How many calls a run may make, and until when it may begin one, by the monotonic clock."""

    calls: int
    stop_at: float | None = None
    spent: int = 0
    waited_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def spend(self) -> None:
        """One call. Errors: CallsSpentError."""
        if self.spent >= self.calls:
            raise CallsSpentError(f"{self.calls} calls are spent")
        self.check_time(0)
        self.spent += 1

    def check_time(self, seconds: float) -> None:
        """Whether there is time for a wait. Errors: CallsSpentError."""
        if self.stop_at is not None and self.clock() + seconds > self.stop_at:
            raise CallsSpentError("the time of this run is over")


@dataclass(frozen=True)
class Webhook:
    """`subaccount`: ALL_SUBACCOUNTS, PRIMARY_ONLY, or a number. `exceptions` are subaccounts it does not send."""

    id: str
    types: tuple[str, ...]
    subaccount: str = ALL_SUBACCOUNTS
    exceptions: tuple[str, ...] = ()
    active: bool = True

    def sends(self, event: Event) -> bool:
        """Whether an event is one that this webhook sends."""
        subaccount = event.subaccount_id or PRIMARY_ONLY
        ours = self.subaccount in (ALL_SUBACCOUNTS, subaccount)
        return event.type in self.types and ours and subaccount not in self.exceptions


@dataclass(frozen=True)
class BatchStatus:
    """A batch of the last 24 hours that failed at least once. `attempts` failed; codes are text, empty if absent."""

    batch_id: str
    at: datetime
    attempts: int
    response_code: str
    failure_code: str
    events: int | None

    @property
    def succeeded(self) -> bool:
        return self.response_code.startswith("2")


class MetricsRow(NamedTuple):
    """The counts of one period by the name of the metric."""

    at: datetime
    counts: Mapping[str, int]


class _Page(msgspec.Struct):
    results: list[dict[str, msgspec.Raw]]
    total_count: int
    links: dict[str, Any] = {}


class _Results(msgspec.Struct):
    results: Any


_page = msgspec.json.Decoder(_Page)
_results = msgspec.json.Decoder(_Results)


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because urllib would send the API key along."""

    def redirect_request(self, *request: Any) -> None:
        return None


@cache
def opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(NoRedirects)


@dataclass
class EventsApi:
    """`host` is the API's address, such as https://api.sparkpost.com/api/v1.

    `account` is the customer_id that all events must have; None: that of the first event is, for all later ones.
    `subaccount` goes with calls about the webhook.

    Errors of every method: NoGrantError, NoAnswerError, CallsSpentError, UntrustedError, RefusedError.
    """

    host: str
    key: str = field(repr=False)
    calls: CallBudget
    wait: Callable[[float], None] = time.sleep
    account: str | None = None
    subaccount: str = ""
    per_page: int = PER_PAGE
    _called: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.host)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("the address of Bird's API must be https")
        self.host = self.host.rstrip("/")

    def count(
        self, since: datetime, until: datetime, types: Sequence[str], subaccounts: Sequence[str] | None = None
    ) -> int:
        """How many events of these types Bird has from `since` up to before `until`, both whole seconds."""
        total = 0
        for path, some in _by_path(types):
            page = self._page(path, since, until, some, subaccounts, 1, None)
            if len(page.results) > 1 or (page.total_count > 0) != bool(page.results):
                raise UntrustedError("a count that its own page contradicts")
            for fields in page.results:
                self._checked(fields, since, until, some, subaccounts)
            total += page.total_count
        return total

    def count_sent(self, webhook: Webhook, since: datetime, until: datetime, types: Sequence[str]) -> int:
        """How many of these the webhook sends: of its types and subaccount, without its exceptions."""
        wanted = [kind for kind in types if kind in webhook.types]
        if webhook.subaccount != ALL_SUBACCOUNTS:
            return (
                0
                if webhook.subaccount in webhook.exceptions
                else self.count(since, until, wanted, [webhook.subaccount])
            )
        whole = self.count(since, until, wanted)
        return whole - self.count(since, until, wanted, webhook.exceptions) if whole and webhook.exceptions else whole

    def events(
        self, since: datetime, until: datetime, types: Sequence[str], subaccounts: Sequence[str] | None = None
    ) -> Iterator[Event]:
        """The events, page by page. UntrustedError comes after the last page if these are not all."""
        for path, some in _by_path(types):
            yield from self._events(path, since, until, some, subaccounts)

    def metrics(self, since: datetime, until: datetime, precision: str, metrics: Sequence[str]) -> list[MetricsRow]:
        """Rows of the periods that begin from `since` up to before `until`; Bird widens the window by itself."""
        query = {
            "from": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M}",
            "to": f"{until.astimezone(UTC):%Y-%m-%dT%H:%M}",
            "metrics": ",".join(metrics),
            "precision": precision,
            "timezone": "UTC",
        }
        found = self._results("/metrics/deliverability/time-series", query, METRICS_GRANT, list[dict[str, Any]])
        try:
            rows = [
                MetricsRow(moment(row["ts"]), {name: whole_number(row.get(name, 0)) for name in metrics})
                for row in found
            ]
        except (KeyError, TypeError, ValueError):
            raise UntrustedError("metrics in a form that is not known") from None
        return [row for row in rows if since <= row.at < until]

    def webhook(self, webhook_id: str) -> Webhook:
        found = self._results(f"/webhooks/{quote(webhook_id, safe='')}", {}, WEBHOOKS_GRANT, dict[str, Any])
        subaccount = found.get("subaccount_id")
        try:
            return Webhook(
                webhook_id,
                tuple(msgspec.convert(found["events"], list[str])),
                (self.subaccount or ALL_SUBACCOUNTS) if subaccount in (None, "") else str(subaccount),
                tuple(str(one) for one in msgspec.convert(found.get("exception_subaccounts") or [], list[int | str])),
                msgspec.convert(found.get("active", True), bool),
            )
        except (KeyError, ValueError, msgspec.ValidationError):
            raise UntrustedError("a webhook in a form that is not known") from None

    def batch_status(self, webhook_id: str) -> list[BatchStatus]:
        """Batches of the last 24 hours that failed at least once, the oldest first."""
        path = f"/webhooks/{quote(webhook_id, safe='')}/batch-status"
        found = self._results(path, {}, WEBHOOKS_GRANT, list[dict[str, Any]])
        try:
            statuses = [
                BatchStatus(
                    str(one["batch_id"]),
                    moment(one["ts"]),
                    whole_number(one.get("attempts", 0)),
                    str(one.get("response_code") or ""),
                    str(one.get("failure_code") or ""),
                    None if one.get("batch_size") is None else whole_number(one["batch_size"]),
                )
                for one in found
            ]
        except (KeyError, TypeError, ValueError):
            raise UntrustedError("a batch's status in a form that is not known") from None
        return sorted(statuses, key=lambda status: status.at)

    def _events(
        self, path: str, since: datetime, until: datetime, types: Sequence[str], subaccounts: Sequence[str] | None
    ) -> Iterator[Event]:
        cursor: str | None = None
        had: set[str] = set()
        seen: set[tuple[str, str]] = set()
        total: int | None = None
        events, size = 0, self.per_page
        while True:
            try:
                page = self._page(path, since, until, types, subaccounts, size, cursor)
            except _TooLargeError:
                if size <= FEWEST_PER_PAGE:
                    raise UntrustedError(f"a page of {size} events is larger than {MAX_ANSWER_BYTES} bytes") from None
                size = max(FEWEST_PER_PAGE, size // 10)
                continue
            total = page.total_count if total is None else total
            if page.total_count != total:
                raise UntrustedError("total_count changed between two pages")
            for fields in page.results:
                event = self._checked(fields, since, until, types, subaccounts)
                if event.event_id is not None:
                    if (event.type, event.event_id) in seen:
                        raise UntrustedError("an event came twice")
                    seen.add((event.type, event.event_id))
                events += 1
                yield event
            if events > total:  # or pages without an end would be read until the calls are spent
                break
            following = self._cursor(path, page.links)
            if following is None or not page.results or following in had:
                break
            had.add(following)
            cursor = following
        if events != total:
            raise UntrustedError(f"{events} events came, but total_count is {total}")

    def _checked(
        self,
        fields: Mapping[str, msgspec.Raw],
        since: datetime,
        until: datetime,
        types: Sequence[str],
        subaccounts: Sequence[str] | None,
    ) -> Event:
        """Errors: UntrustedError."""
        try:
            event = Event.of(fields)
        except ValueError as error:
            raise UntrustedError(str(error)) from None
        if not since <= event.at < until:
            raise UntrustedError("an event outside the time asked for")
        if event.type not in types:
            raise UntrustedError("an event of a type that was not asked for")
        if event.event_id is None and event.type not in WITHOUT_ID:
            raise UntrustedError("an event without an id")
        if subaccounts and (event.subaccount_id or PRIMARY_ONLY) not in subaccounts:
            raise UntrustedError("an event of a subaccount that was not asked for")
        if self.account is None:
            self.account = event.customer_id
        if event.customer_id != self.account:
            raise UntrustedError("an event of another account")
        return event

    def _cursor(self, path: str, links: Mapping[str, Any]) -> str | None:
        """Of the next page; None if this is the last one. Errors: UntrustedError."""
        following = links.get("next")
        if following is None:
            return None
        if not isinstance(following, str):
            raise UntrustedError("a next page in a form that is not known")
        try:
            parts, ours = urlsplit(following), urlsplit(self.host)
        except ValueError:
            raise UntrustedError("a next page in a form that is not known") from None
        if (parts.scheme or parts.netloc) and (parts.scheme, parts.netloc) != (ours.scheme, ours.netloc):
            raise UntrustedError("a next page at another host")
        if not parts.path.endswith(path):
            raise UntrustedError("a next page of another kind")
        # Not by parse_qs: a + in base64 would become a space.
        cursors = [part[7:] for part in parts.query.split("&") if part.startswith("cursor=")]
        if len(cursors) != 1 or not cursors[0]:
            raise UntrustedError("a next page without a cursor, or with several")
        return unquote(cursors[0])

    def _page(
        self,
        path: str,
        since: datetime,
        until: datetime,
        types: Sequence[str],
        subaccounts: Sequence[str] | None,
        per_page: int,
        cursor: str | None,
    ) -> _Page:
        if since.microsecond or until.microsecond or since >= until:
            raise ValueError("a window must have whole seconds, and end after it begins")
        query = {
            "from": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "to": f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "events": ",".join(types),
            "per_page": str(per_page),
            "cursor": cursor or "initial",
        }
        if subaccounts:
            query["subaccounts"] = ",".join(subaccounts)
        body = self._ask(path, query, EVENTS_GRANT)
        try:
            page = _page.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UntrustedError("an answer that is not a page of events") from None
        if page.total_count < 0 or len(page.results) > per_page:
            raise UntrustedError("a page that contradicts the question")
        return page

    def _results[T](self, path: str, query: Mapping[str, str], grant: str, kind: type[T]) -> T:
        try:
            body = self._ask(path, query, grant)
            return msgspec.convert(_results.decode(body).results, kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _TooLargeError):
            raise UntrustedError("an answer that is not Bird's") from None

    def _ask(self, path: str, query: Mapping[str, str], grant: str) -> bytes:
        """The body of a 200, after as many tries as it takes."""
        address = f"{self.host}{path}" + (f"?{urlencode(query, safe=',:')}" if query else "")
        waits = iter(WAITS_SECONDS)
        if self._called:
            self._pause(PAUSE_SECONDS)
        while True:
            self.calls.spend()
            self._called = True
            try:
                return self._once(address, grant)
            except _TryAgainError as error:
                usual = next(waits, None)
                asked = error.wait_seconds
                if usual is None or (asked or 0) > LONGEST_WAIT_SECONDS:
                    raise NoAnswerError(str(error)) from None
                self._pause(max(usual, asked or 0))

    def _pause(self, seconds: float) -> None:
        self.calls.check_time(seconds)
        self.calls.waited_seconds += seconds
        self.wait(seconds)

    def _once(self, address: str, grant: str) -> bytes:
        headers = {"Authorization": self.key, "Accept": "application/json"}
        if self.subaccount and grant == WEBHOOKS_GRANT:
            headers["X-MSYS-SUBACCOUNT"] = self.subaccount
        request = urllib.request.Request(address, headers=headers)  # noqa: S310
        try:
            with opener().open(request, timeout=REQUEST_TIMEOUT_SECONDS) as answer:
                return _whole(answer)
        except urllib.error.HTTPError as error:
            with error:
                status, asked = error.code, _retry_after(error.headers.get("Retry-After"))
                text = _error_text(_begin_of(error))
            if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
                raise _TryAgainError(f"{text} (HTTP {status})", asked) from None
            if status == HTTPStatus.FORBIDDEN:
                raise NoGrantError(grant) from None
            raise RefusedError(status, text) from None
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(f"Bird was not reached: {type(error).__name__}") from None


def moment(text: object) -> datetime:
    """ISO 8601 with a zone in any notation. Errors: ValueError."""
    found = datetime.fromisoformat(text) if isinstance(text, str) else None
    if found is None or found.tzinfo is None:
        raise ValueError("not a time with its zone")
    return found.astimezone(UTC)


def whole_number(value: object) -> int:
    """Bird's samples have numbers as text too. Errors: ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("not a whole number")
    return int(value)


def _by_path(types: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Types by the endpoint that has them. Without a type it would answer all, so none is asked without."""
    if outside := sorted(set(types) & NOT_IN_EVENTS_API):
        raise ValueError(f"the Events API does not have {', '.join(outside)}")
    some = {
        "/events/message": [kind for kind in types if kind not in INGEST_TYPES],
        "/events/ingest": [kind for kind in types if kind in INGEST_TYPES],
    }
    yield from ((path, kinds) for path, kinds in some.items() if kinds)


def _whole(answer: Any) -> bytes:
    """To its real end. Errors: _TooLargeError, http.client.IncompleteRead."""
    body = bytearray()
    while some := answer.read(READ_BYTES):
        body += some
        if len(body) > MAX_ANSWER_BYTES:
            raise _TooLargeError
    if answer.length:  # http.client says nothing if the connection ends before Content-Length is reached
        raise http.client.IncompleteRead(b"", answer.length)
    return bytes(body)


def _begin_of(error: urllib.error.HTTPError) -> bytes:
    """Nothing of it if the connection breaks: the status alone decides."""
    try:
        return error.read(READ_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _retry_after(value: str | None) -> float | None:
    """Seconds, or a date. Source: RFC 9110, 10.2.3."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)) / timedelta(seconds=1))
    except (ValueError, TypeError):
        return None


def _error_text(body: bytes) -> str:
    """Bird's own words. Its answers have several forms, or are not JSON."""
    try:
        errors = msgspec.json.decode(body)["errors"]
        said = [": ".join(str(one[name]) for name in ("message", "description") if one.get(name)) for one in errors]
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError, RecursionError):
        said = []
    return " ".join("; ".join(filter(None, said)).split())[:MAX_TEXT_CHARACTERS] or "no reason given"
