"""Entries -> full requests; what was refused goes again with the next ones, until it is taken or time is up. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from publish_events.entries import MAX_BYTES, Entry
from publish_events.notification import LakeFile

MAX_ENTRIES = 10  # of one request
TRIES = 6
# EventBridge will not change its mind about these: of one entry in its answer, of a request of one entry, or of what
# boto3 cannot even send. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
REJECTED_FOR_GOOD = {
    *("InvalidArgument", "MalformedDetail"),
    *("ValidationException", "ValidationError", "SerializationException", "RequestEntityTooLarge", "413"),
    *("ParamValidationError", "ValueError", "TypeError", "OverflowError"),
}
# These say nothing about the entry: they pass, or the account has to be mended.
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
    # Events that were published with fields left out.
    shortened: int = 0
    not_published: int = 0
    # Entries that EventBridge will never take, with its code.
    refused: list[tuple[Entry, str]] = field(default_factory=list)
    # Files with an event that was not taken.
    incomplete: set[LakeFile] = field(default_factory=set)


def publish(
    entries: Iterable[Entry],
    put: Callable[[Sequence[Entry]], Sequence[str]],
    pause: Callable[[float], None],
    time_is_up: Callable[[], bool],
) -> Outcome:
    """`put` tells for each entry of a request why it was refused, with "" for one that was taken.

    When time is up, entries that were not asked for yet stay where they are.
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
                # It is set aside: those behind it shall not wait for it.
                doubtful.append((entry, refusal))
        waiting.extendleft(reversed(again))
        if again:
            pause(FIRST_PAUSE_SECONDS * 2 ** (max(entry.tries for entry in again) - 1))
    for entry, refusal in doubtful:
        # A refusal that is not known here is the entry's own if others were taken. What passes, or seems to be a fault
        # of the network, fails the message, which comes again.
        if refusal not in TEMPORARY and not refusal.endswith("Error") and outcome.published:
            outcome.refused.append((entry, refusal))
        else:
            waiting.append(entry)
    outcome.incomplete |= {entry.file for entry in waiting}
    outcome.not_published += len(waiting)
    return outcome


def _next_request(waiting: "deque[Entry]", source: Iterator[Entry]) -> list[Entry]:
    """As many as one request takes; those that wait come first. What does not fit any more waits."""
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
