"""Entries -> full requests. Refused entries are sent again with the next ones, until accepted or time is up. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from publish_events.entries import MAX_BYTES, Entry
from publish_events.notification import LakeFile

MAX_ENTRIES = 10  # of one request
TRIES = 6
# Retrying does not help: codes of one entry in an answer, of a request with one entry, and of what boto3 cannot send.
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
REJECTED_FOR_GOOD = {
    *("InvalidArgument", "MalformedDetail"),
    *("ValidationException", "ValidationError", "SerializationException", "RequestEntityTooLarge", "413"),
    *("ParamValidationError", "ValueError", "TypeError", "OverflowError"),
}
# Not caused by the entry: these errors pass, or someone has to fix the account.
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/CommonErrors.html
TEMPORARY = {
    *(
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
    ),
    *(
        "InternalFailure",
        "InternalException",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    ),
    *("RequestTimeout", "RequestTimeoutException", "RequestExpired", "ConcurrentModificationException"),
    *("AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation", "OptInRequired"),
    *("NotAuthorizedForDetailTypeException", "NotAuthorizedForSourceException", "InvalidAccountIdException"),
    *("UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException"),
    *("InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken"),
    *("ResourceNotFoundException", "500", "502", "503", "504", "429"),
}
FIRST_PAUSE_SECONDS = 0.2


@dataclass
class Outcome:
    published: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    # Events published with some fields left out.
    shortened: int = 0
    not_published: int = 0
    # Entries that EventBridge will never take, with its code.
    refused: list[tuple[Entry, str]] = field(default_factory=list)
    # Files with an event that EventBridge did not accept.
    incomplete: set[LakeFile] = field(default_factory=set)


def publish(
    entries: Iterable[Entry],
    put: Callable[[Sequence[Entry]], Sequence[str]],
    pause: Callable[[float], None],
    time_is_up: Callable[[], bool],
) -> Outcome:
    """`put` returns the error code of each entry in a request, "" for an accepted one.

    When time is up, entries that were not taken from `entries` yet stay there.
    """
    outcome = Outcome()
    doubtful: list[tuple[Entry, str]] = []
    source = iter(entries)
    waiting: deque[Entry] = deque()
    while not time_is_up() and (request := _next_request(waiting, source)):
        again = []
        for entry, refusal in zip(request, put(request), strict=True):
            if not refusal:
                outcome.published += 1
                outcome.shortened += bool(entry.omitted)
                continue
            outcome.refusals[refusal] += 1
            simplified = entry.simplified() if refusal in REJECTED_FOR_GOOD else entry
            if simplified is None:
                outcome.refused.append((entry, refusal))
                continue
            simplified.tries = entry.tries + 1
            if simplified.tries < TRIES:
                again.append(simplified)
            elif refusal in REJECTED_FOR_GOOD:
                outcome.refused.append((entry, refusal))
            else:
                # Set aside, so that the entries after it do not wait for it.
                doubtful.append((entry, refusal))
        waiting.extendleft(reversed(again))
        if again:
            pause(FIRST_PAUSE_SECONDS * 2 ** (max(entry.tries for entry in again) - 1))
    for entry, refusal in doubtful:
        # An unknown code is taken to be caused by the entry if others were accepted. A temporary or network error
        # fails the message, and the queue delivers it again.
        if refusal not in TEMPORARY and not refusal.endswith("Error") and outcome.published:
            outcome.refused.append((entry, refusal))
        else:
            waiting.append(entry)
    outcome.incomplete |= {entry.file for entry in waiting}
    outcome.not_published += len(waiting)
    return outcome


def _next_request(waiting: "deque[Entry]", source: Iterator[Entry]) -> list[Entry]:
    """As many entries as fit into one request, the waiting ones first. An entry that does not fit waits."""
    request: list[Entry] = []
    size = 0
    while len(request) < MAX_ENTRIES:
        if not waiting:
            following = next(source, None)
            if following is None:
                break
            waiting.append(following)
        if request and size + waiting[0].size > MAX_BYTES:
            break
        size += waiting[0].size
        request.append(waiting.popleft())
    return request
