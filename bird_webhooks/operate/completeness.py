"""How far it is proved that all that Bird has is here: the one sentence, and a line for each hour.

It reads the verdicts that the function reconcile keeps in the lake bucket. With `--run` the function compares at once
what is due.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import print_json, say
from reconcile import calibration
from reconcile.proved import ALL, LOOK_BACK, Cell, State, proved_until, sentence
from reconcile.verdicts import Verdicts

FUNCTION = "ReconcileFunction"
TABLE_HOURS = timedelta(hours=48)
STILL_RUNS = "this run takes longer, up to 13 minutes, and goes on; what is shown is from before"
OFF = "off: it needs BirdApiKeySecretArn, and Reconcile=true"
QUIET = (State.PROVED, State.FILLED, State.UNPROVABLE)  # not worth naming the types


@dataclass(frozen=True)
class LakeFiles:
    stack: Stack

    def read(self, key: str) -> bytes | None:
        try:
            found = self.stack.s3.get_object(Bucket=self.stack.output("LakeBucketName"), Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return bytes(found["Body"].read())

    def write(self, key: str, body: bytes) -> None:
        self.stack.s3.put_object(Bucket=self.stack.output("LakeBucketName"), Key=key, Body=body)


def is_on(stack: Stack) -> bool:
    return FUNCTION in stack.resources


def known(stack: Stack, since: datetime, until: datetime) -> tuple[list[Cell], dict[str, Any], dict[str, Any]]:
    """The cells of these hours; what the function remembers; and the last calibration."""
    verdicts = Verdicts(LakeFiles(stack))
    return list(verdicts.cells(since, until).values()), verdicts.state(), verdicts.calibration()


def show(stack: Stack, since: datetime | None, until: datetime, *, run: bool, as_json: bool) -> None:
    if run:
        say(f"compared with Bird: {said_of_run(invoked(stack))}")
    now = datetime.now(UTC)
    cells, state, calibrated = known(stack, min(since or now, now - LOOK_BACK), now)
    shown = [cell for cell in cells if (since or now - TABLE_HOURS) <= cell.hour < until]
    remarks = list(notices(state, is_on(stack)))
    proved = proved_until(relevant(cells, now), now)
    said = sentence(relevant(cells, now), now)
    if as_json:
        print_json(
            {
                "sentence": said,
                "proved_until": proved,
                "notices": remarks,
                "calibration": calibrated,
                "cells": [asdict(cell) for cell in sorted(shown, key=lambda cell: (cell.hour, cell.type))],
            }
        )
        return
    if shown:
        print("\n".join(table(shown)) + "\n")
    print(said)
    for remark in remarks:
        print(remark)
    if is_on(stack):
        print(f"calibration: {calibration.in_words(calibrated)}")
        for name, found in calibrated.get("established", {}).items():
            print(f"  {name}: {found}")


def relevant(cells: Iterable[Cell], now: datetime) -> list[Cell]:
    """Of the time that the sentence is about: what is older has been proved, or never will be."""
    return [cell for cell in cells if cell.hour >= now - LOOK_BACK]


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """A line for each hour: what is here, what Bird has, and which types are in which state."""
    hours: dict[datetime, list[Cell]] = {}
    for cell in cells:
        hours.setdefault(cell.hour, []).append(cell)
    rows = [("hour (UTC)", "here", "at Bird", "state")]
    for hour in sorted(hours):
        compared = [cell for cell in hours[hour] if cell.state is not State.UNPROVABLE]
        ours = sum(cell.ours for cell in compared)
        theirs = [cell.theirs for cell in compared]
        total = "?" if None in theirs else f"{sum(number or 0 for number in theirs):,}"
        rows.append((f"{hour:%Y-%m-%d %H:%M}", f"{ours:,}", total, ", ".join(states(compared))))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for first, here, there, state in rows:
        yield f"{first:<{widths[0]}}  {here:>{widths[1]}}  {there:>{widths[2]}}  {state}".rstrip()


def states(cells: Iterable[Cell]) -> Iterator[str]:
    """Each state once, with its types where they matter."""
    by_state: dict[State, list[Cell]] = {}
    for cell in cells:
        by_state.setdefault(cell.state, []).append(cell)
    for state in State:
        found = by_state.get(state, [])
        filled = sum(cell.filled for cell in found)
        if state is State.FILLED and found:
            yield f"filled ({filled:,} fetched)"
        elif found and (state in QUIET or all(cell.type == ALL for cell in found)):
            yield str(state)
        elif found:
            yield f"{state} ({'; '.join(map(detail, found))})"


def detail(cell: Cell) -> str:
    numbers = [(cell.missing, "missing"), (cell.strange, "not at Bird")]
    said = ", ".join(f"{number:,} {what}" for number, what in numbers if number)
    return f"{cell.type}: {said}" if said else cell.type


def notices(state: Mapping[str, Any], on: bool) -> Iterator[str]:
    """What keeps it from going on, and what Bird says of its own batches."""
    if not on:
        yield f"comparing with Bird is {OFF}"
        return
    if grant := state.get("no_grant"):
        yield f'nothing is compared: the API key lacks the grant "{grant}"'
    if refused := state.get("refused"):
        yield f"Bird's answer cannot be used: {refused}"
    if held := state.get("held_by"):
        yield f"nothing is judged now: {held}"
    for name, words in (
        ("failing", "Bird fails to deliver batch {batch_id}: {attempts} attempts, {code}"),
        ("given_up", "Bird gave up batch {batch_id} after {attempts} attempts: {code}"),
        ("lost", "Bird delivered batch {batch_id}, and it is not in the raw bucket"),
    ):
        for batch in state.get(name, []):
            yield words.format(**batch)


def invoked(stack: Stack) -> dict[str, Any] | None:
    """The facts of one run of the function; None if it takes longer than the connection. Errors: OperateError."""
    if not is_on(stack):
        raise OperateError(f"comparing with Bird is {OFF}")
    event = json.dumps({"webhook_id": stack.output("BirdWebhookId")}).encode()
    try:
        answer = stack.client("lambda").invoke(FunctionName=stack.resources[FUNCTION][1], Payload=event)
        facts: dict[str, Any] = json.loads(answer["Payload"].read())
    except (ReadTimeoutError, ConnectionClosedError):
        return None
    if "FunctionError" in answer:
        raise OperateError(f"the function failed: {facts.get('errorMessage', 'its log has the reason')}")
    return facts


def said_of_run(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return STILL_RUNS
    said = [f"{facts.get('hours_counted', 0):,} hours counted in {facts.get('calls', 0):,} calls"]
    said += [f"{facts[name]:,} {words}" for name, words in WORDS.items() if facts.get(name)]
    return ", ".join(said)


WORDS = {
    "missing_events": "events missing",
    "surplus_events": "events that Bird does not have",
    "filled_events": "events fetched",
    "erased_left_out": "events of erased persons left out",
    "bounds_reached": "bound reached, so the next run goes on",
    "no_answer": "answer missing",
    "access_failures": "answer refused",
}
