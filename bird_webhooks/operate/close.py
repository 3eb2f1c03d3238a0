"""Dates closed at once, by the function that does so every hour.

Each invocation begins nothing more after two minutes, and the next one goes on where it ended: NAT gateways, among
others, drop a connection on which nothing has been sent for 350 seconds. The date's state says how far it is.
https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import dates, lease
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json, say, step
from process.day_state import DayState

BEGINS_FOR_SECONDS = 120
LOOKS_EVERY_SECONDS = 2.0
# One that was given no answer may run for all that time.
WAIT_SECONDS = lease.WAIT_SECONDS
PAUSE_SECONDS = 5.0


def close(stack: Stack, days: Sequence[date], *, register: bool, as_json: bool) -> None:
    """Errors: OperateError, with the reason that the function gives."""
    answer: dict[str, Any] = {}
    if register:
        answer["registered"] = registered(stack)
        if not as_json:
            print(f"{answer['registered']:,} dates registered")
    if days:
        before = {day: dates.state(stack, day) for day in sorted({*days})}
        closed(stack, before)
        outcomes = [outcome(state, dates.state(stack, day)) for day, state in before.items()]
        answer["dates"] = outcomes
        if not as_json:
            print("\n".join(words(outcome) for outcome in outcomes))
    if as_json:
        print_json(answer)


def make_visible(stack: Stack, days: Iterable[date]) -> None:
    """What the next hour would do for rows of these dates: one try. Errors: as of close."""
    registered(stack)
    late = [str(day) for day in sorted({*days}) if dates.state(stack, day).current]
    if late:
        invoked(stack, {"close": late, "seconds": BEGINS_FOR_SECONDS})


def registered(stack: Stack) -> int:
    """How many dates got a partition. The function waits a minute for the lease, then does without it."""
    answer = invoked(stack, {"register": True})
    if answer is None:
        raise OperateError("the function gave no answer: see `status`, then give the command again")
    return int(answer["registered"])


def closed(stack: Stack, before: Mapping[date, DayState]) -> None:
    days = list(before)
    waits_until, waited_for = time.monotonic() + WAIT_SECONDS, ""
    last: list[Any] = []
    said: dict[date, str] = {}
    while True:
        with watched(stack, days, said):
            answer = invoked(stack, {"close": [str(day) for day in days], "seconds": BEGINS_FOR_SECONDS})
        if answer is None or answer.get("held"):
            held = lease.holder(stack)
            if time.monotonic() > waits_until:
                who = lease.named(held) if held else "the function, which gave no answer"
                raise OperateError(f"at work is {who}: give the command again then")
            if held and held.owner != waited_for:
                waited_for = held.owner
                say(f"waiting: at work is {lease.named(held)}")
            time.sleep(PAUSE_SECONDS)
            continue
        if not (answer.get("unfinished") or answer.get("waiting")):
            return
        now = [dates.state(stack, day) for day in days]
        if now == last:
            raise OperateError("the function makes no progress: its log says why")
        last, waits_until = now, time.monotonic() + WAIT_SECONDS


def invoked(stack: Stack, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the function answers; None if its answer was lost on the way, or none of it may run now.

    Errors: OperateError with its reason, if it refused or failed.
    """
    function = stack.output("TableMaintenanceFunctionArn")
    try:
        answer = stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        body = json.loads(answer["Payload"].read())
    except (ReadTimeoutError, ConnectionClosedError):
        return None
    except ClientError as error:
        if error.response["Error"]["Code"] == "TooManyRequestsException":
            return None
        raise
    if "FunctionError" in answer:
        raise OperateError(f"the table's maintenance failed: {body.get('errorMessage') or 'its log says why'}")
    if "refused" in body:
        raise OperateError(body["refused"])
    return dict(body)


@contextmanager
def watched(stack: Stack, days: Sequence[date], said: dict[date, str]) -> Iterator[None]:
    """Says how far each date is, whenever its state says something else than what was `said` of it last."""
    ended = threading.Event()
    stack.s3  # noqa: B018  # made here: boto3's clients may be used by several threads, but not made

    def look() -> None:
        while not ended.wait(LOOKS_EVERY_SECONDS):
            for day in days:
                try:
                    words = progress(dates.state(stack, day))
                except (BotoCoreError, ClientError):
                    return  # the answer will come without it
                if words and said.get(day) != words:
                    said[day] = words
                    step(f"{day}: {words}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def progress(state: DayState) -> str:
    """The step of the version that is on its way, in words; none if none is."""
    attempt = state.attempt
    if attempt is None:
        return ""
    files = len(attempt.inputs) + (len(state.current.files) if state.current else 0)
    if attempt.consumed < files or not attempt.parts:
        return f"reading {files:,} files, {100 * attempt.consumed // max(1, files)} % done"
    return f"writing, {attempt.merged:,} of {attempt.slices:,} slices done"


def outcome(before: DayState, after: DayState) -> dict[str, Any]:
    current = after.current
    return {
        "event_date": str(after.event_date),
        "version": current.name if current else None,
        "made": current is not None and (before.current is None or before.current.name != current.name),
        "files": len(current.files) if current else 0,
        "rows": after.rows,
        "exact": bool(current and current.exact),
        "files_gone": max(0, after.files_gone - before.files_gone),
    }


def words(outcome: Mapping[str, Any]) -> str:
    day, version = outcome["event_date"], outcome["version"]
    if version is None:
        return f"{day}  has no rows: nothing to close"
    made = "closed" if outcome["made"] else "was closed already, and nothing came late"
    exact = "" if outcome["exact"] else "; some events are in two files, and the view decides"
    gone = f"; {outcome['files_gone']:,} files were gone" if outcome["files_gone"] else ""
    return f"{day}  {made}: version {version}, {outcome['files']:,} files, {outcome['rows']:,} rows{exact}{gone}"
