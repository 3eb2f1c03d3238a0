"""Each fault that the stack has to survive, with the simulator's ledger as judge: see docs/reliability.md."""

import json
import random
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest

from bird_webhooks.operate import rotation
from bird_webhooks.simulator.batches import Batch, BatchMaker, as_batch
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP
from bird_webhooks.simulator.sender import Basic
from bird_webhooks.simulator.verify import Lake, verify
from local_aws.faults import REFUSED, Fault
from local_aws.load import notification
from local_aws.query import poll, query
from local_aws.yaml_text import yaml_parse
from tests.faults.harness import ROOT, Front, Poller, invocation

ANSWER_LIMIT_SECONDS = 8  # what ingest promises; Bird waits for 10
HIDDEN_SECONDS = 2
QUEUE_TIMEOUT_SECONDS = 60


shuffled = random.Random(1).shuffle  # noqa: S311


def small(maker, count: int) -> list[Batch]:
    return [maker.batch(number, events=1 + number % 12) for number in range(count)]


def closes(verification, batches) -> bool:
    """Nothing lost, doubled, made up or altered; and it was these events that were looked at."""
    events = sum(batch.events for batch in batches)
    assert (str(verification), verification.closes) == (str(verification), True)
    return (verification.accepted, verification.found) == (events, events)


def rows_in_table(stack, batches) -> int:
    ids = ", ".join(f"'{batch.batch_id}'" for batch in batches)
    [row] = query(stack, f"SELECT count(*) AS n FROM events WHERE batch_id IN ({ids})")  # noqa: S608
    return int(row["n"])


def raw_versions(stack, batch_id: str) -> int:
    s3 = stack.emulator.client("s3")
    listed = s3.list_object_versions(Bucket=stack.outputs["RawBucketName"], Prefix=f"raw/{batch_id}.json")
    return len(listed.get("Versions", []))


def waiting(stack, url: str = "ProcessQueueUrl") -> int:
    attributes = stack.emulator.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[url], AttributeNames=["All"])[
        "Attributes"
    ]
    return int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])


def drained(stack) -> bool:
    return poll(lambda: waiting(stack), lambda count: count == 0, QUEUE_TIMEOUT_SECONDS) == 0


# --- S3 ---------------------------------------------------------------------------------------------------------------


def test_s3_refuses_for_a_while(stack, s3, sender, maker, judge):
    batches = small(maker, 30)
    s3.fault = lambda method, path, number: REFUSED if number <= 60 else None
    with Front(stack, s3.url) as front:
        sender.url = front.url
        report = sender.run(batches)
    assert set(report.refused_attempts) == {"503"}
    assert front.slowest_seconds < ANSWER_LIMIT_SECONDS
    assert (report.accepted, report.given_up) == (30, 0)
    assert closes(judge(), batches)


def test_s3_does_not_answer_for_a_while(stack, s3, sender, maker, judge):
    batches = small(maker, 12)
    s3.fault = lambda method, path, number: Fault(delay_seconds=15, passed_on=False) if number <= 10 else None
    with Front(stack, s3.url) as front:
        sender.url = front.url
        report = sender.run(batches)
    assert set(report.refused_attempts) == {"503"}
    assert 3 < front.slowest_seconds < ANSWER_LIMIT_SECONDS
    assert (report.accepted, report.given_up) == (12, 0)
    assert closes(judge(), batches)


def test_answers_of_s3_are_lost(stack, s3, sender, maker, judge):
    """Stored, and ingest does not hear of it: the next attempt finds the batch there."""
    batches = small(maker, 20)
    s3.fault = lambda method, path, number: Fault(answered=False) if number % 3 == 0 else None
    with Front(stack, s3.url) as front:
        sender.url = front.url
        report = sender.run(batches)
    assert (report.accepted, report.given_up) == (20, 0)
    assert s3.faults > 0
    assert closes(judge(), batches)


# --- ingest -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before S3 has the batch", "after S3 has the batch"])
def test_ingest_is_killed_in_mid_request(stack, s3, sender, maker, judge, moment):
    batches = small(maker, 30)
    with Front(stack, s3.url) as front:

        def kill(method: str, path: str, number: int) -> Fault | None:
            if number not in (3, 11, 19):
                return None
            front.kill_all()
            return Fault(passed_on=False, answered=False)

        if moment == "before S3 has the batch":
            s3.fault = kill
        else:
            s3.served = kill
        sender.url = front.url
        report = sender.run(batches)
    assert report.refused_attempts["502"] >= 3
    assert (report.accepted, report.given_up) == (30, 0)
    assert closes(judge(), batches)


def test_a_batch_comes_over_many_connections_at_once(stack, s3, sender, maker, judge):
    batch = maker.batch(0, events=40)
    with Front(stack, s3.url, processes=8) as front:
        sender.url, sender.connections = front.url, 32
        report = sender.run([batch] * 32)
    assert report.accepted == 32
    assert raw_versions(stack, batch.batch_id) == 1
    assert closes(judge(), [batch])
    assert rows_in_table(stack, [batch]) == 40


def test_accepted_batches_are_sent_once_more(stack, sender, maker, judge):
    batches = small(maker, 12)
    sender.sent_twice_share = 1
    report = sender.run(batches)
    assert (report.accepted, report.sent_twice, report.retried) == (12, 12, 0)
    assert {raw_versions(stack, batch.batch_id) for batch in batches} == {1}
    assert closes(judge(), batches)


ODD_IDS = [
    "../../etc/passwd",
    "..",
    "two words",
    "a/b\\c",
    "%2e%2e%2f",
    "naïve",
    "x" * 4096,
    "'; DROP TABLE events; --",
]


def test_batch_ids_that_are_no_names(stack, sender, maker, judge):
    batches = [batch._replace(batch_id=odd) for batch, odd in zip(small(maker, len(ODD_IDS)), ODD_IDS, strict=True)]
    report = sender.run(batches)
    assert (report.accepted, report.retried) == (len(ODD_IDS), 0)
    listed = stack.emulator.client("s3").list_objects_v2(Bucket=stack.outputs["RawBucketName"])["Contents"]
    assert [item["Key"] for item in listed if not re.fullmatch(r"raw/[A-Za-z0-9._-]{1,128}\.json", item["Key"])] == []
    assert closes(judge(), batches)


@pytest.mark.nightly  # the other front door takes such bodies in tests/e2e/test_one_click.py
def test_a_body_over_1_mb_goes_by_the_other_front_door(stack, s3, sender, maker, ledger, judge):
    """A load balancer answers 413, whatever stands behind it. MiniStack's does not: the harness imitates it."""
    heavy = json.loads(maker.batch(0, events=150).body)
    for element in heavy:
        for event in element["msys"].values():
            event["rcpt_meta"] = {"note": "x" * 8000}
    batch = as_batch("heavy-batch", heavy)
    assert len(batch.body) > 1024 * 1024
    with Front(stack, s3.url) as front:
        sender.url = front.url
        report = sender.run([batch])
    assert report.refused_attempts == {"413": 12}
    assert ledger.outcomes == {"heavy-batch": GIVEN_UP}
    with Front(stack, s3.url, http_api=True) as front:
        sender.url = front.url
        assert sender.run([batch]).accepted == 1
    assert ledger.outcomes == {"heavy-batch": ACCEPTED}
    assert closes(judge(), [batch])


def test_an_alarm_tells_of_413_and_the_documents_what_to_do():
    template = yaml_parse((ROOT / "template.yaml").read_text())
    alarms = [r["Properties"] for r in template["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    # Where AWS counts a body that is too large for a function (LambdaRequestTooLarge in the access log).
    [alarm] = [alarm for alarm in alarms if alarm.get("MetricName") == "LambdaUserError"]
    assert "413" in alarm["AlarmDescription"]
    assert "FrontDoor=HTTP_API" in alarm["AlarmDescription"]
    page = (ROOT / "docs/deploying.md").read_text()
    assert "413" in page
    assert "FrontDoor=HTTP_API" in page


def test_credentials_are_rotated_under_load(stack, emulator, sender, maker, judge):
    old, operated = stack.credentials(), stack.stack
    going_on, batches = threading.Event(), []
    going_on.set()

    def until_told():
        for number in range(2000):
            if not going_on.is_set():
                return
            batches.append(maker.batch(number, events=1 + number % 5))
            yield batches[-1]

    sender.credentials, sender.batches_per_second = Basic(*old), 5
    reports = []
    thread = threading.Thread(target=lambda: reports.append(sender.run(until_told())))
    thread.start()
    try:
        rotation.start(operated, show=False, username="bird-2")
        new = stack.credentials()
        assert new[0] == "bird-2"
        sender.credentials = Basic(*new)  # in Bird's form
        seen = len(batches)
        poll(lambda: len(batches), lambda count: count > seen + 10, QUEUE_TIMEOUT_SECONDS)
        rotation.finish(operated, quiet=timedelta(minutes=15), force=True, yes=True)
    finally:
        going_on.clear()
        thread.join()
    [report] = reports
    assert report.batches > 10
    assert report.refused_attempts["401"] == 0
    assert (report.accepted, report.given_up) == (report.batches, 0)
    stranger = maker.batch(9999, events=1)
    sender.credentials, sender.attempts = Basic(*old), 1
    assert sender.run([stranger]).refused_attempts == {"401": 1}
    assert closes(judge(), batches)


# --- process ----------------------------------------------------------------------------------------------------------


def test_notifications_come_twice_and_out_of_order(stack, sender, maker, judge):
    batches = small(maker, 20)
    sender.run(batches)
    assert closes(judge(), batches)
    keys = [f"raw/{batch.batch_id}.json" for batch in batches] * 2
    shuffled(keys)
    sqs = stack.emulator.client("sqs")
    while keys:
        together = [keys.pop() for _ in range(min(3, len(keys)))]
        body = notification(stack.outputs["RawBucketName"], together)
        sqs.send_message(QueueUrl=stack.outputs["ProcessQueueUrl"], MessageBody=body)
    assert drained(stack)
    assert closes(judge(), batches)


def test_process_is_killed_after_writing(stack, s3, process, sender, maker, judge):
    """Once as soon as the first of its files is written, and once after all of them, before the queue hears of it."""
    batches = small(BatchMaker(maker.seed, datetime.now(UTC)), 12)  # of three days, a file each
    assert drained(stack)
    with Poller(stack) as queue:
        sender.run(batches)
        written = []

        def kill(method: str, path: str, number: int) -> None:
            if method == "PUT":
                written.append(path)
                process.kill()

        s3.served = kill
        assert process.invoke(invocation(queue.take(12, hidden_seconds=HIDDEN_SECONDS))) is None
        s3.served = lambda method, path, number: None
        again = queue.take(12, hidden_seconds=HIDDEN_SECONDS)
        assert process.invoke(invocation(again)) == {"batchItemFailures": []}
        process.kill()  # the answer was on its way
        last = queue.take(12, hidden_seconds=QUEUE_TIMEOUT_SECONDS)
        assert process.invoke(invocation(last)) == {"batchItemFailures": []}
        queue.acknowledge(last)
    assert written
    assert closes(judge(), batches)


def test_the_queue_delivers_again_in_other_groups(stack, s3, process, sender, maker, judge):
    batches = small(maker, 15)
    assert drained(stack)
    with Poller(stack) as queue:
        sender.run(batches)
        for group, hidden_seconds in ((15, HIDDEN_SECONDS), (4, HIDDEN_SECONDS), (7, QUEUE_TIMEOUT_SECONDS)):
            messages = queue.take(15, hidden_seconds=hidden_seconds)
            shuffled(messages)
            for start in range(0, len(messages), group):
                answer = process.invoke(invocation(messages[start : start + group]))
                assert answer == {"batchItemFailures": []}
        queue.acknowledge(messages)
    assert closes(judge(), batches)
    # The table has what the view spares its readers.
    assert rows_in_table(stack, batches) > sum(batch.events for batch in batches)


def test_s3_fails_process_for_a_while(stack, s3, process, sender, maker, judge):
    batches = small(maker, 10)
    assert drained(stack)
    with Poller(stack) as queue:
        sender.run(batches)
        # Neither a retry within the invocation helps: what could not be read or written is given back.
        s3.fault = lambda method, path, number: REFUSED
        messages = queue.take(10, hidden_seconds=QUEUE_TIMEOUT_SECONDS)
        answer = process.invoke(invocation(messages))
        assert len(answer["batchItemFailures"]) == len(messages)
        s3.fault = lambda method, path, number: None
        assert process.invoke(invocation(messages)) == {"batchItemFailures": []}
        queue.acknowledge(messages)
    assert closes(judge(), batches)


POISON = [b"this is no JSON", b"[" * 100_000, b'{"msys":7}', b'[{"msys":{"message_event":7}},null]', b'["\\ud800"]']


def test_poison_lies_among_good_batches(stack, sender, maker, judge):
    good = small(maker, 12)
    poison = [Batch(f"poison-{number}-{maker.seed}", body, 0) for number, body in enumerate(POISON)]
    mixed = [*good, *poison]
    shuffled(mixed)
    report = sender.run(mixed)
    assert (report.accepted, report.retried) == (len(mixed), 0)
    assert closes(judge(), good)
    assert drained(stack)
    assert waiting(stack, "ProcessDeadLetterQueueUrl") == 0
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="quarantine/")["Contents"]
    files = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed]
    kept = {record["batch_id"] for file in files for record in map(json.loads, file.splitlines())}
    assert {batch.batch_id for batch in poison} <= kept


# --- The view ---------------------------------------------------------------------------------------------------------


def test_the_judge_finds_what_is_wrong(stack, sender, maker, ledger, judge):
    """Against a ledger that was tampered with: an event is lost, one was not sent, and one has another value."""
    batches = small(maker, 6)
    sender.run(batches)
    assert closes(judge(), batches)
    tampered = json.loads(batches[5].body)
    next(iter(tampered[0]["msys"].values()))["message_id"] = "another"
    [tampered[1]] = json.loads(maker.batch(99, events=1).body)
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    for line in lines:
        if line["batch_id"] == batches[5].batch_id and "body" in line:
            line["body"] = as_batch("", tampered).body.decode()
    ledger.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    verdict = verify(ledger, Lake.of(stack.stack), wait_seconds=0, progress=lambda text: None)
    assert (verdict.lost, verdict.duplicated, verdict.invented, verdict.different) == (1, 0, 1, 1)
