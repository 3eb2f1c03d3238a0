"""Batches lost in each way on the deployed stack are found, fetched, and once in the table; the ledger judges."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.bird_events import Recording
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import DROPPED, DROPPED_LATER, TOO_LARGE, UNAVAILABLE, Basic, Sender
from bird_webhooks.simulator.verify import events_of, key_of
from local_aws.query import poll, query
from reconcile.as_webhook import NOT_IN_EVENTS_API, WITHOUT_ID

ROWS_TIMEOUT_SECONDS = 60
EVENTS = 30  # of a batch


@pytest.fixture
def recording(bird):
    before, bird.recording = bird.recording, Recording()
    yield bird.recording
    bird.recording = before


@pytest.fixture
def ledger(recording, tmp_path):
    """What is sent by it is recorded at Bird, whether it arrives or not."""
    made = Ledger(tmp_path / "ledger")
    recording.follow(made.path)
    yield made
    made.close()


def keys_here(stack, customer_id: str) -> Counter[tuple]:
    sql = f"SELECT customer_id, event_class, type, event_key FROM events WHERE customer_id = '{customer_id}'"  # noqa: S608
    return Counter(tuple(row.values()) for row in query(stack, sql))


def fillable(batch) -> set[tuple]:
    keys = {key_of(event_class, event) for event_class, event in events_of(batch)}
    return {key for key in keys if key[2] not in NOT_IN_EVENTS_API | WITHOUT_ID}


def send_and_delete_before_process_reads(stack, sender, batch) -> None:
    """Process is held meanwhile: its message names an object that is gone."""
    functions, s3 = (stack.emulator.client(service) for service in ("lambda", "s3"))
    process = stack.resources()["ProcessFunction"]
    [mapping] = functions.list_event_source_mappings(FunctionName=process)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        sender.run([batch])
        s3.delete_object(Bucket=stack.outputs["RawBucketName"], Key=f"raw/{batch.batch_id}.json")
    finally:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def test_batches_lost_in_each_way_are_fetched_once_and_an_erased_person_stays_erased(stack, recording, ledger, run):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    maker = BatchMaker(19, start, spread_seconds=2 * 3600)
    arrives, *lost = (maker.batch(number, EVENTS) for number in range(6))
    ways = dict(zip((batch.batch_id for batch in lost), (TOO_LARGE, UNAVAILABLE, DROPPED, DROPPED_LATER), strict=False))
    login, trust = Basic(*stack.credentials()), stack.stack.trust
    sender = Sender(stack.stack.webhook_url, login, ledger, time_scale=1e6, sent_twice_share=0, trust=trust)
    sender.lose = lambda batch: ways.get(batch.batch_id)

    sender.run([arrives, *lost[:4]])
    send_and_delete_before_process_reads(stack, sender, lost[4])
    here = poll(lambda: keys_here(stack, maker.customer_id), lambda found: len(found) == EVENTS, ROWS_TIMEOUT_SECONDS)
    assert set(here) >= fillable(arrives)
    statuses = {one["batch_id"]: (one["attempts"], one["response_code"]) for one in recording.batch_statuses()}
    assert statuses == {
        lost[0].batch_id: (12, "413"),
        lost[1].batch_id: (12, "503"),
        lost[3].batch_id: (1, "200"),
    }

    # A person of whom nothing is here is erased: what Bird still has of them must not come in.
    [person, *_] = [event["rcpt_to"] for _, event in events_of(lost[0]) if "rcpt_to" in event]
    of_person = {key_of(c, e) for batch in lost for c, e in events_of(batch) if person in json.dumps(e)}
    assert run(stack, "erase", "--address", person, "--yes", "--settle", "0")[0] == 0

    wanted = set().union(*map(fillable, lost))
    status, printed, said = run(stack, "backfill", "--since", "1d", "--yes", "--json")
    assert status == 0, said
    answer = json.loads(printed)
    assert answer["calls"] <= 10
    assert (answer["stored"], answer["erased"]) == (len(wanted - of_person), len(wanted & of_person))
    assert answer["erased"] >= 1
    expected = set(here) | (wanted - of_person)
    found = poll(
        lambda: keys_here(stack, maker.customer_id), lambda found: len(found) >= len(expected), ROWS_TIMEOUT_SECONDS
    )
    assert found == Counter(dict.fromkeys(expected, 1))

    # A second run writes nothing.
    answer = json.loads(run(stack, "backfill", "--since", "1d", "--yes", "--json")[1])
    assert (answer["stored"], answer["waiting"], answer["erased"]) == (0, 0, len(wanted & of_person))
