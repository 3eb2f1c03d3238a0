"""Batches lost in each way on the deployed stack are found, fetched, and once in the table; the ledger judges."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.operate import completeness
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.bird_events import Recording
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import DROPPED, DROPPED_LATER, TOO_LARGE, UNAVAILABLE, Basic, Sender
from bird_webhooks.simulator.verify import events_of, key_of
from local_aws.deploy import scale_time
from local_aws.query import poll, query
from reconcile.as_webhook import NOT_IN_EVENTS_API, WITHOUT_ID
from reconcile.proved import State

ROWS_TIMEOUT_SECONDS = 60
RUNS_TIMEOUT_SECONDS = 120
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


def sender_of(stack, ledger) -> Sender:
    login, trust = Basic(*stack.credentials()), stack.stack.trust
    return Sender(stack.stack.webhook_url, login, ledger, time_scale=1e6, sent_twice_share=0, trust=trust)


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


@pytest.mark.nightly  # each way also in tests/integration/test_reconcile_rounds.py
def test_batches_lost_in_each_way_are_fetched_once_and_an_erased_person_stays_erased(stack, recording, ledger, run):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    maker = BatchMaker(19, start, spread_seconds=2 * 3600)
    arrives, *lost = (maker.batch(number, EVENTS) for number in range(6))
    ways = dict(zip((batch.batch_id for batch in lost), (TOO_LARGE, UNAVAILABLE, DROPPED, DROPPED_LATER), strict=False))
    sender = sender_of(stack, ledger)
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


def test_the_stack_fills_a_gap_by_itself_once_calibration_has_passed(stack, recording, ledger):
    """With the rights of its role, on the day before, where no other test has events; from a beginning of its own."""
    scale_time(stack, 10_000)
    lake, s3 = stack.outputs["LakeBucketName"], stack.emulator.client("s3")
    for item in s3.list_objects_v2(Bucket=lake, Prefix="completeness/").get("Contents", []):
        s3.delete_object(Bucket=lake, Key=item["Key"])
    begins = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=30)
    hours = [begins + timedelta(hours=number) for number in range(3)]
    makers = [BatchMaker(20, hour + timedelta(seconds=3599), spread_seconds=3500) for hour in hours]
    for maker in makers:
        maker.customer_id = makers[0].customer_id
    # The first hour is from when on there is something to compare.
    first, calm, arrives, lost = (
        makers[number].batch(place, EVENTS) for number, place in ((0, 0), (1, 0), (2, 0), (2, 1))
    )
    sender = sender_of(stack, ledger)
    sender.lose = lambda batch: TOO_LARGE if batch is lost else None
    sender.run([first, calm, arrives, lost])
    account = makers[0].customer_id
    poll(lambda: keys_here(stack, account), lambda found: len(found) == 3 * EVENTS, ROWS_TIMEOUT_SECONDS)

    def states_after_a_run() -> Counter[State]:
        completeness.invoked(stack.stack)
        cells, *_ = completeness.known(stack.stack, begins, begins + timedelta(hours=4))
        return Counter(cell.state for cell in cells if cell.hour == hours[2])

    states = poll(states_after_a_run, lambda found: found[State.FILLED] and not found[State.GAP], RUNS_TIMEOUT_SECONDS)
    assert states[State.FILLED] == len({key[2] for key in fillable(lost)})
    assert set(states) <= {State.PROVED, State.FILLED, State.UNPROVABLE}
    expected = set().union(*map(fillable, (first, calm, arrives, lost)))
    found = keys_here(stack, account)
    assert {key: times for key, times in found.items() if key in expected} == dict.fromkeys(expected, 1)
