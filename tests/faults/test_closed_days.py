"""Days are closed while mail arrives, runs are killed and readers ask: none of their answers is wrong, none fails.

By night also with a PostgreSQL that is loaded, a bus, and a person who is erased meanwhile.
"""

import json
import os
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.simulator.ledger import ACCEPTED
from bird_webhooks.simulator.verify import Lake, events_of, key_of, verify
from demo.downstream import listen
from local_aws import deploy as local_stack
from local_aws.query import poll
from tests.faults.conftest import ROWS_TIMEOUT_SECONDS
from tests.faults.harness import FunctionProcess
from tests.stress import Stress

NIGHTLY = bool(os.environ.get("NIGHTLY"))
DAYS, ROUNDS, HOURS = (10, 100, 3) if NIGHTLY else (2, 14, 5)
BATCHES = 5


def waiting(stack) -> int:
    """In all queues that the stack has."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    urls = [url for name, url in stack.outputs.items() if name.endswith("QueueUrl")]
    sqs = stack.emulator.client("sqs")
    found = [sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] for url in urls]
    return sum(int(one[name]) for one in found for name in names)


def test_every_answer_is_right_while_days_are_closed(emulator, ledger, record_property):
    stack = local_stack.create_or_update(emulator, "bird-closed-days")
    stress = stressed(stack, ledger, DAYS)
    athena = stack.stack.athena(60)
    with (
        stress.arrivals(),
        stress.readers(lambda: stress.ask_view(athena.stream), lambda: stress.ask_table(athena.stream)),
    ):
        stress.rounds(ROUNDS, batches=BATCHES, hours=HOURS)
    all_is_well(stress, DAYS, record_property)
    settled(stress)
    verdict = verify(ledger, Lake.of(stack.stack), wait_seconds=10, alone=True, progress=lambda text: None)
    assert (str(verdict), verdict.closes) == (str(verdict), True)
    assert verdict.found == verdict.accepted > 50
    [row] = athena.stream("SELECT count(*) AS n FROM events")
    assert int(row["n"]) == verdict.found, "each event once, in the table too"


@pytest.mark.nightly
def test_loader_bus_and_erasure_meanwhile(emulator, ledger, postgres, postgres_secret, record_property):
    days, rounds, parameters = 3, 20, {"PublishEvents": "true", "PostgresSecretArn": postgres_secret}
    stack = local_stack.create_or_update(emulator, "bird-closed-days-2", parameters)
    bus = listen(stack, "closed-days", {})
    stress = stressed(stack, ledger, days)
    athena = stack.stack.athena(60)
    with (
        stress.arrivals(),
        stress.readers(lambda: stress.ask_view(athena.stream), lambda: stress.ask_table(athena.stream)),
    ):
        stress.rounds(rounds, batches=BATCHES, hours=HOURS + 2, erase_at=rounds // 2, postgres="marketing-database")
    all_is_well(stress, days, record_property)
    assert stress.done["erased"] == len(stress.erased) >= 5
    settled(stress)
    verdict = verify(ledger, Lake.of(stack.stack), wait_seconds=10, alone=True, progress=lambda text: None)
    figures = (verdict.lost, verdict.duplicated, verdict.invented, verdict.different)
    assert figures == (len(stress.erased), 0, 0, 0), str(verdict)
    kept = set(accepted_events(ledger)) - stress.erased
    with closing(postgres.connect()) as connection:
        rows = connection.execute("SELECT customer_id, event_class, type, event_key FROM bird.events").fetchall()
    assert (len(rows), set(rows)) == (len(kept), kept)
    published = set(stack.stack.parameters["PublishedEventTypes"].split(","))
    wanted = {key for key in kept if key[2] in published}
    heard = set(all_heard(stack, bus))
    assert wanted <= heard <= wanted | stress.erased
    assert len(heard) > 20


def accepted_events(ledger):
    """The identity of each event of an accepted batch."""
    for batch in ledger.batches():
        if ledger.outcomes[batch.batch_id] == ACCEPTED:
            yield from (key_of(event_class, event) for event_class, event in events_of(batch))


def all_heard(stack, queue: str):
    """The identities of all events that a rule on the bus has sent to the queue."""
    sqs = stack.emulator.client("sqs")
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages"):
        for message in messages:
            detail = json.loads(message["Body"])["detail"]
            yield detail.get("customer_id"), detail["event_class"], detail["type"], detail["event_key"]
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def stressed(stack, ledger, days: int) -> Stress:
    today = datetime.now(UTC).date()
    return Stress(stack, ledger, [today - timedelta(days=days + 2 - number) for number in range(days)])


def all_is_well(stress: Stress, days: int, record_property) -> None:
    figures = f"{dict(stress.answers)} answers, {dict(stress.done)}, {stress.killed} killed, {len(stress.files)} files"
    record_property("figures", figures)
    assert (stress.wrong, figures) == ([], figures)
    assert min(stress.answers["view"], stress.answers["table"]) >= 5, figures
    assert stress.done["closed"] >= 2 * days, figures
    assert stress.done["held"] >= 1, figures
    assert stress.killed >= 3, figures


def settled(stress: Stress) -> None:
    """What came last is taken in, and what was replaced is deleted when its time is over."""
    stack = stress.stack
    assert poll(lambda: waiting(stack), lambda count: count == 0, ROWS_TIMEOUT_SECONDS) == 0
    function = FunctionProcess(stack, "maintenance", stack.emulator.endpoint_url)
    for hours in (1, 1, 16 * 24):
        stress.clock.advance(timedelta(hours=hours))
        stress.maintain(function)
    function.end()
    assert stress.wrong == []
    closed = {day: stress.location(day).partition("closed/")[2] for day in stress.days}
    assert all(closed.values())
    assert {f"{key.rpartition('/')[0]}/" for key in keys(stress, "closed/")} == {f"closed/{p}" for p in closed.values()}
    assert [key for key in keys(stress, "events/") for day in stress.days if str(day) in key] == []


def keys(stress: Stress, prefix: str) -> list[str]:
    pages = stress.s3.get_paginator("list_objects_v2").paginate(Bucket=stress.bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]
