"""Days are closed while mail arrives, runs are killed and readers ask: none of their answers is wrong, none fails."""

import os
from datetime import UTC, datetime, timedelta

from bird_webhooks.simulator.verify import Lake, verify
from local_aws import deploy as local_stack
from local_aws.query import poll
from tests.faults.conftest import ROWS_TIMEOUT_SECONDS
from tests.faults.harness import FunctionProcess
from tests.stress import Stress

NIGHTLY = bool(os.environ.get("NIGHTLY"))
DAYS, ROUNDS, HOURS = (10, 100, 3) if NIGHTLY else (2, 14, 5)
BATCHES = 5


def waiting(stack) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    queue = stack.outputs["ProcessQueueUrl"]
    found = stack.emulator.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def test_every_answer_is_right_while_days_are_closed(emulator, ledger, record_property):
    stack = local_stack.create_or_update(emulator, "bird-closed-days")
    today = datetime.now(UTC).date()
    stress = Stress(stack, ledger, [today - timedelta(days=DAYS + 2 - number) for number in range(DAYS)])
    athena = stack.stack.athena(60)
    with (
        stress.arrivals(),
        stress.readers(lambda: stress.ask_view(athena.stream), lambda: stress.ask_table(athena.stream)),
    ):
        stress.rounds(ROUNDS, batches=BATCHES, hours=HOURS)
    figures = f"{dict(stress.answers)} answers, {dict(stress.done)}, {stress.killed} killed, {len(stress.files)} files"
    record_property("figures", figures)
    assert (stress.wrong, figures) == ([], figures)
    assert min(stress.answers["view"], stress.answers["table"]) >= 5, figures
    assert stress.done["closed"] >= 2 * DAYS, figures
    assert stress.done["held"] >= 1, figures
    assert stress.killed >= 3, figures
    # What came last is taken in, and what was replaced is deleted when its time is over.
    assert poll(lambda: waiting(stack), lambda count: count == 0, ROWS_TIMEOUT_SECONDS) == 0
    function = FunctionProcess(stack, "maintenance", emulator.endpoint_url)
    for hours in (1, 1, 16 * 24):
        stress.clock.advance(timedelta(hours=hours))
        stress.maintain(function)
    function.end()
    assert stress.wrong == []
    closed = {day: stress.location(day).partition("closed/")[2] for day in stress.days}
    assert all(closed.values())
    assert {f"{key.rpartition('/')[0]}/" for key in keys(stress, "closed/")} == {f"closed/{p}" for p in closed.values()}
    assert [key for key in keys(stress, "events/") for day in stress.days if str(day) in key] == []
    verdict = verify(ledger, Lake.of(stack.stack), wait_seconds=10, alone=True, progress=lambda text: None)
    assert (str(verdict), verdict.closes) == (str(verdict), True)
    assert verdict.found == verdict.accepted > 50
    [row] = athena.stream("SELECT count(*) AS n FROM events")
    assert int(row["n"]) == verdict.found, "each event once, in the table too"


def keys(stress: Stress, prefix: str) -> list[str]:
    pages = stress.s3.get_paginator("list_objects_v2").paginate(Bucket=stress.bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]
