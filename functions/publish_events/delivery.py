"""Entries -> full requests; what was refused goes again with the next ones, until it is taken or time is up. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from publish_events.entries import MAX_BYTES, Entry
from publish_events.notification import LakeFile

MAX_ENTRIES = 10  # of one request
TRIES = 6
# EventBridge will not change its mind about these. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
DISLIKED = {"InvalidArgument", "MalformedDetail"}
FIRST_PAUSE_SECONDS = 0.2


@dataclass
class Outcome:
    published: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    # Events that were published with fields left out.
    shortened: int = 0
    not_published: int = 0
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
            plainer = entry.plainer() if refusal in DISLIKED else entry
            if plainer is not None:
                plainer.tries = entry.tries + 1
            if plainer is None or plainer.tries == TRIES:
                # It is set aside: those behind it shall not wait for it. Its message fails, and comes again.
                outcome.incomplete.add(entry.file)
                outcome.not_published += 1
            else:
                again.append(plainer)
        waiting.extendleft(reversed(again))
        if again:
            pause(FIRST_PAUSE_SECONDS * 2 ** (max(entry.tries for entry in again) - 1))
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
