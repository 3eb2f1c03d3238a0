"""Each fault of the on-call drill: its first sign, the alarm, the way back by the runbook, and the ledger.

`make drill` prints the table. What takes 15 minutes on AWS takes seconds here: only the queues' visibility timeouts
are shortened, by the tooling. `after` is the time of this machine, `within` that of AWS.
"""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from bird_webhooks.operate import verify as verify_command
from local_aws import deploy as local_stack
from local_aws.emulator import LocalAwsError
from local_aws.query import poll, query
from tests.drill.conftest import EVENTS, STACK, hurry

PERSON = "person@example.com"  # as docs/operating.md prints it


def body_of(*events: dict) -> bytes:
    """Of bounces that happened now."""
    moment = {"type": "bounce", "timestamp": str(int(time.time()))}
    return json.dumps([{"msys": {"message_event": {**moment, **event}}} for event in events]).encode()


ELEMENT = body_of({"event_id": "1"})


def waiting(stack, output: str) -> int:
    attributes = stack.stack.sqs.get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def dead_letters(stack, output: str, number: int) -> None:
    """Five tries have failed."""
    assert poll(lambda: waiting(stack, output), lambda count: count == number, 120) == number


def quarantined(status: dict) -> int:
    return status["quarantined"]["today"]


def test_batches_that_are_not_events(drill):
    """Neither JSON, nor all of it events: what is an event of such a batch becomes a row."""
    drill.begin()
    assert drill.attempt(b"this is not JSON", f"garbage-{time.time_ns()}") == 200
    poison = f"poison-{time.time_ns()}"
    elements = json.loads(body_of({"event_id": f"{poison}-1"}, {"event_id": f"{poison}-2"}))
    assert drill.attempt(json.dumps([elements[0], "not an event", elements[1]]).encode(), poison) == 200
    status = drill.sees("quarantined", quarantined)
    assert poll(drill.status, lambda status: quarantined(status) == quarantined(drill.before) + 2, 60), status
    drill.alarms("EventsQuarantinedAlarm")
    printed = drill.follows("EventsQuarantinedAlarm", "bird-webhooks quarantine --stack-name stack")
    assert "  not JSON  (1 batches" in printed
    assert poll(lambda: drill.rows(f"batch_id = '{poison}'"), lambda rows: rows == 2, 60) == 2
    drill.post(4)
    drill.closes()


def test_process_cannot_write(drill):
    """And the fault is over before the fifth try: nothing is to be done but to end it."""
    with drill.hidden("ProcessQueueUrl", 25), drill.denied("ProcessRole", "s3:PutObject"):
        drill.begin()
        drill.post(4)
        drill.sees("queue", lambda status: status["queue"]["failures_24_h"]["number"])
        drill.alarms("BatchesFailedAlarm")
        assert drill.status()["queue"]["taken"] >= 1
    drill.did("give the right back")
    drill.recovers()
    drill.closes()


def test_a_raw_object_is_deleted_before_it_is_read(drill):
    with drill.denied("ProcessRole", "s3:GetObject"):
        [batch] = drill.post(1)
        bucket, key = drill.stack.outputs["RawBucketName"], f"raw/{batch.batch_id}.json"
        drill.stack.stack.s3.delete_object(Bucket=bucket, Key=key)
        drill.begin()
    drill.sees("quarantined", quarantined)
    drill.alarms("EventsQuarantinedAlarm")
    printed = drill.follows("EventsQuarantinedAlarm", "bird-webhooks quarantine --stack-name stack", also=["--details"])
    assert "the raw object was deleted before it was read" in printed
    assert batch.batch_id in printed
    drill.did("find out who deletes")
    drill.post(4)
    drill.recovers()
    drill.closes_without(batch.batch_id)


def test_messages_fail_five_times(drill):
    with drill.denied("ProcessRole", "s3:GetObject"):
        drill.begin()
        batches = drill.post(4)
        dead_letters(drill.stack, "ProcessDeadLetterQueueUrl", 4)
        drill.sees("dead letters", lambda status: status["dead_letters"])
        drill.alarms("DeadLettersAlarm")
    drill.did("give the right back")
    printed = drill.follows("DeadLettersAlarm", "bird-webhooks redrive --stack-name stack --dry-run")
    assert {f"raw/{batch.batch_id}.json" for batch in batches} < set(printed.splitlines())
    printed = drill.follows("DeadLettersAlarm", "bird-webhooks redrive --stack-name stack")
    assert printed == "4 dead letters moved back to their queue\n"
    drill.recovers()
    drill.closes()


def test_credentials_are_rotated_under_a_sender(drill):
    """No batch is refused, and the old ones are not dropped while Bird still sends them."""
    old = drill.stack.credentials()
    drill.begin()
    drill.follows("rotate", "bird-webhooks rotate start", page="operating")
    hurry(drill.stack)
    drill.post(4, old)
    assert drill.status()["credentials"]["rotation"].startswith("open")
    drill.signs("status: credentials")
    drill.no_alarm("none, nothing fails")
    status, _, said = drill.run(drill.stack, "rotate", "finish")
    assert status == 1
    assert "the old credentials were used within 15 minutes, so Bird's form still has them" in said
    user, password = drill.stack.credentials()
    printed = drill.follows("rotate", "bird-webhooks rotate show", page="operating")
    assert printed == f"username: {user}\npassword: {password}\n"
    drill.did("put them into Bird's form")
    drill.post(4)
    drill.follows("rotate", "bird-webhooks rotate finish", page="operating", also=["--force"])
    hurry(drill.stack)
    drill.post(4)
    assert drill.attempt(ELEMENT, "with-the-old", old[1]) == 401
    drill.closes()


def test_bird_sends_other_credentials(drill):
    def refused(status: dict) -> int:
        return status["refused_24_h"]["refused"].get("wrong credentials", {"number": 0})["number"]

    drill.begin()
    for number in range(12):
        assert drill.attempt(ELEMENT, f"refused-{number}", password="wrong") == 401
    status = drill.sees("refused, 24 h", refused)
    assert refused(status) == refused(drill.before) + 12
    drill.alarms("RequestsRejectedAlarm")
    drill.post(4)  # the right ones, as Bird repeats its batches once its form has them
    drill.did("put the secret's password into Bird's form")
    drill.closes()


def test_s3_refuses_ingest(drill):
    with drill.denied("IngestRole", "s3:PutObject"):
        drill.begin()
        assert drill.attempt(ELEMENT, "not-stored") == 503
        drill.sees("refused, 24 h", lambda status: status["refused_24_h"]["not_stored"]["number"])
        drill.alarms("BatchesNotStoredAlarm")
    drill.did("give the right back; Bird repeats")
    drill.post(4)
    drill.closes()


def test_postgresql_is_away(drill, postgres):
    postgres.stop()
    try:
        drill.begin()
        drill.post(4)
        status = drill.sees("PostgreSQL", lambda status: status["PostgreSQL"]["failures_24_h"]["number"])
        assert status["PostgreSQL"]["waiting"] >= 1
        drill.row.alarm, drill.row.within = "PostgresFilesWaitingAlarm", "8 min"  # tests/unit/test_dashboard.py
    finally:
        postgres.start()
    drill.did("start PostgreSQL")
    drill.recovers()
    drill.closes()
    with postgres.connect() as connection:
        ids = [batch.batch_id for batch in drill.posted]
        [(rows,)] = connection.execute("SELECT count(*) FROM bird.events WHERE batch_id = ANY(%s)", [ids])
    assert rows == 4 * EVENTS


def test_the_bus_refuses(drill):
    with drill.denied("PublishEventsRole", "events:PutEvents"):
        drill.begin()
        drill.post(4)
        drill.sees("event bus", lambda status: status["event_bus"]["failures_24_h"]["number"])
        drill.alarms("EventsFailedAlarm")
        assert poll(lambda: waiting(drill.stack, "PublishEventsDeadLetterQueueUrl"), lambda count: count > 0, 120)
    drill.did("give the right back")
    drill.follows(
        "EventsNotPublishedAlarm",
        "bird-webhooks redrive --stack-name stack --queue events --dry-run",
        "bird-webhooks redrive --stack-name stack --queue events",
    )
    drill.recovers()
    drill.closes()


def test_a_file_of_rows_is_damaged(drill):
    drill.post(4)
    drill.closes()
    drill.recovers()
    s3, bucket = drill.stack.stack.s3, drill.stack.outputs["LakeBucketName"]
    folder = f"events/event_date={time.strftime('%Y-%m-%d', time.gmtime())}/"
    files = s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]
    key = max(files, key=lambda file: file["LastModified"])["Key"]
    drill.begin()
    s3.put_object(Bucket=bucket, Key=key, Body=b"a spreadsheet")
    with pytest.raises(LocalAwsError):
        query(drill.stack, "SELECT count(*) FROM events")
    drill.sees("PostgreSQL", lambda status: status["PostgreSQL"]["dead_letters"])
    drill.alarms("PostgresDeadLettersAlarm")
    section = "A query says HIVE_BAD_DATA or that a file is no Parquet"
    printed = drill.follows(section, "bird-webhooks check-lake --stack-name stack", exits=1)
    assert f"{key}  lacks the magic bytes of Parquet\n" in printed
    drill.follows(section, "bird-webhooks check-lake --stack-name stack --repair")
    printed = drill.follows(section, "bird-webhooks check-lake --stack-name stack")
    assert " 0 damaged" in printed
    drill.deletes_dead_letters("PostgresDeadLetterQueueUrl", "PublishEventsDeadLetterQueueUrl")
    drill.recovers()
    drill.closes()


def test_batches_are_not_announced(drill, monkeypatch):
    monkeypatch.setattr(verify_command, "ROW_SECONDS", 3)
    monkeypatch.setattr(verify_command, "DRAIN_SECONDS", 3)
    with drill.unannounced():
        drill.begin()
        drill.post(4)
        status, printed, _ = drill.run(drill.stack, "verify", "--json")
        found = {check["name"]: check["status"] for check in json.loads(printed)["checks"]}
        assert (status, found["setting notifications"]) == (1, "failed"), printed
        assert found["row in events"] != "ok"
        drill.signs("verify: notifications")
        drill.no_alarm("none, see the runbook")
    drill.did("put the notifications back")
    drill.follows("Batches without rows", "bird-webhooks replay --since", also=["30m"])
    drill.recovers()
    drill.closes()


def test_a_person_is_erased(drill):
    """Nothing else changes, and nothing looks as if it had arrived now."""
    batch_id = str(uuid.uuid4())
    assert drill.attempt(body_of({"event_id": batch_id, "rcpt_to": PERSON}), batch_id) == 200
    assert poll(lambda: drill.rows(f"batch_id = '{batch_id}'"), bool, 60) == 1
    drill.post(4)
    drill.closes()
    drill.recovers()
    drill.begin()
    drill.signs("the person's request")
    drill.no_alarm("none, nothing fails")
    printed = drill.follows("erase", f"bird-webhooks erase --address {PERSON} --dry-run", page="operating")
    assert "1 with the address, 1 events" in printed
    erase = f"bird-webhooks erase --address {PERSON} --postgres marketing-database"
    printed = drill.follows("erase", erase, page="operating", also=["--settle", "0"])
    assert printed.endswith("Nothing is left of the address in what was checked.\n")
    assert drill.rows(f"batch_id = '{batch_id}'") == 0
    assert drill.status()["last_batch"] == drill.before["last_batch"]
    drill.closes()


def test_the_stack_is_updated_in_traffic(drill):
    drill.begin()
    changed = drill.before["stack"]["changed_at"]
    # The local AWS ends the process of a function that it updates: a try that fails so must not be the last of five.
    with drill.hidden("ProcessQueueUrl", 20), ThreadPoolExecutor() as bird:
        posting = bird.submit(drill.post, 12)
        local_stack.create_or_update(drill.stack.emulator, STACK, {"ProcessMemoryMegabytes": "1536"})
        posting.result()
    hurry(drill.stack)
    status = drill.status()
    assert (status["stack"]["status"], status["stack"]["changed_at"] > changed) == ("UPDATE_COMPLETE", True)
    drill.signs("status: stack")
    drill.no_alarm("none, nothing fails")
    drill.did("deploy")
    drill.recovers()
    drill.closes()
