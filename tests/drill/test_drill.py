"""Each fault of the on-call drill: its first sign, the alarm, the way back by the runbook, and the ledger.

`make drill` prints the table. What takes 15 minutes on AWS takes seconds here: only the queues' visibility timeouts
are shortened, by the tooling. The third column is the time of this machine; the fifth is computed from the template.
"""

import time

from local_aws.query import poll
from tests.drill.conftest import EVENTS

ELEMENT = b'[{"msys":{"message_event":{"type":"bounce","event_id":"1"}}}]'


def waiting(stack, output: str) -> int:
    attributes = stack.stack.sqs.get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def dead_letters(stack, output: str, number: int) -> None:
    """Five tries have failed."""
    assert poll(lambda: waiting(stack, output), lambda count: count == number, 120) == number


def test_bird_sends_other_credentials(drill):
    drill.begin()
    for number in range(12):
        assert drill.attempt(ELEMENT, f"refused-{number}", password="wrong") == 401
    status = drill.sees("refused, 24 h")
    assert status["refused_24_h"]["refused"]["wrong credentials"]["number"] == 12
    drill.alarms("RequestsRejectedAlarm")
    drill.post(4)  # the right ones, as Bird repeats its batches once its form has them
    drill.row.steps.append("put the secret's password into Bird's form")
    drill.closes()


def test_s3_refuses_ingest(drill):
    with drill.denied("IngestRole", "s3:PutObject"):
        drill.begin()
        assert drill.attempt(ELEMENT, "not-stored") == 503
        status = drill.sees("refused, 24 h")
        assert status["refused_24_h"]["not_stored"]["number"] >= 1
        drill.alarms("BatchesNotStoredAlarm")
    drill.row.steps.append("give the right back; Bird repeats")
    drill.post(4)
    drill.closes()


def test_process_cannot_write(drill):
    with drill.denied("ProcessRole", "s3:PutObject"):
        drill.post(4)
        drill.begin()
        drill.sees("queue")
        drill.alarms("BatchesFailedAlarm")
        dead_letters(drill.stack, "ProcessDeadLetterQueueUrl", 4)
        assert drill.status()["dead_letters"] == 4
    drill.row.steps.append("give the right back")
    shown = drill.follows(
        "DeadLettersAlarm",
        "bird-webhooks redrive --stack-name stack --dry-run",
        "bird-webhooks redrive --stack-name stack",
    )
    assert shown == "4 dead letters moved back to their queue\n"
    drill.recovers()
    drill.closes()


def test_postgresql_is_away(drill, postgres):
    postgres.stop()
    try:
        drill.post(4)
        drill.begin()
        status = drill.sees("PostgreSQL")
        assert status["PostgreSQL"]["waiting"] >= 1
        drill.row.alarm, drill.row.minutes = "PostgresFilesWaitingAlarm", 7.5  # tests/unit/test_dashboard.py
    finally:
        postgres.start()
    drill.row.steps.append("start PostgreSQL")
    drill.recovers()
    drill.closes()
    with postgres.connect() as connection:
        ids = [batch.batch_id for batch in drill.posted]
        [(rows,)] = connection.execute("SELECT count(*) FROM bird.events WHERE batch_id = ANY(%s)", [ids])
    assert rows == 4 * EVENTS


def test_the_bus_refuses(drill):
    with drill.denied("PublishEventsRole", "events:PutEvents"):
        drill.post(4)
        drill.begin()
        drill.sees("event bus")
        drill.alarms("EventsFailedAlarm")
        assert poll(lambda: waiting(drill.stack, "PublishEventsDeadLetterQueueUrl"), lambda count: count > 0, 120)
    drill.row.steps.append("give the right back")
    drill.follows(
        "EventsNotPublishedAlarm",
        "bird-webhooks redrive --stack-name stack --queue events --dry-run",
        "bird-webhooks redrive --stack-name stack --queue events",
    )
    drill.recovers()
    drill.closes()


def test_batches_are_no_events(drill):
    drill.begin()
    assert drill.attempt(b"this is no JSON", f"garbage-{time.time_ns()}") == 200
    status = drill.sees("quarantined")
    assert status["quarantined"]["today"] >= 1
    drill.alarms("EventsQuarantinedAlarm")
    printed = drill.follows("EventsQuarantinedAlarm", "bird-webhooks quarantine --stack-name stack")
    assert "1 quarantined" in printed
    drill.post(4)
    drill.closes()
