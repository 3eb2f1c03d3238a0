"""A bounce that Bird posts arrives at the target of a rule on the stack's bus."""

import json
import uuid
from collections.abc import Iterator

import pytest

from demo.downstream import listen
from local_aws.query import poll, query
from local_aws.webhook import EVENTS, recorded_request
from tests.e2e.webhook import post

EVENT_TIMEOUT_SECONDS = 60


@pytest.fixture
def target(stack) -> Iterator[tuple[str, str]]:
    """A batch's id, and the queue that a rule hands the events of that batch to."""
    batch_id = str(uuid.uuid4())
    queue = listen(stack, batch_id, {"batch_id": [batch_id]})
    events, sqs, bus = stack.emulator.client("events"), stack.emulator.client("sqs"), stack.outputs["EventBusName"]
    yield batch_id, queue
    events.remove_targets(Rule=batch_id, EventBusName=bus, Ids=["queue"])
    events.delete_rule(Name=batch_id, EventBusName=bus)
    sqs.delete_queue(QueueUrl=queue)


def test_bounce_of_a_recorded_batch_arrives_at_the_target_of_a_rule(stack, target):
    batch_id, queue = target
    bounce = recorded_request(EVENTS / "alb_message_event.bounce.json")
    delivery = recorded_request(EVENTS / "alb_message_event.delivery.json")
    body = json.dumps([*json.loads(bounce.body), *json.loads(delivery.body)]).encode()
    assert post(stack, body, batch_id=batch_id).status == 200
    sqs = stack.emulator.client("sqs")
    messages = poll(
        lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []),
        bool,
        EVENT_TIMEOUT_SECONDS,
    )
    [event] = [json.loads(message["Body"]) for message in messages]
    assert (event["source"], event["detail-type"]) == ("bird-webhooks", "Bird Email Event")
    [resource] = event["resources"]
    assert resource.startswith(f"arn:aws:s3:::{stack.outputs['LakeBucketName']}/events/event_date=2016-04-18/")
    detail = event["detail"]
    received_at = detail.pop("received_at")
    sent = json.loads(bounce.body)[0]["msys"]["message_event"]
    assert detail == {
        **sent,
        "id": "1/message_event/bounce/92356927693813856",
        "event_class": "message_event",
        "event_key": "92356927693813856",
        "batch_id": batch_id,
        "bounce_class": 1,
        "msg_size": 1337,
        "num_retries": 2,
        "template_version": 1,
        "timestamp": "2016-04-18T14:25:07.000Z",
        "scheduled_time": "2020-05-01T16:00:00.000Z",
        "transactional": True,
    }
    columns = "bounce_class, rcpt_to, rcpt_meta, received_at"
    [row] = query(stack, f"SELECT {columns} FROM events WHERE batch_id = '{batch_id}' AND type = 'bounce'")  # noqa: S608
    assert (row["bounce_class"], row["rcpt_to"]) == (str(detail["bounce_class"]), detail["rcpt_to"])
    assert json.loads(row["rcpt_meta"] or "") == detail["rcpt_meta"]
    assert received_at[:19] == (row["received_at"] or "").replace(" ", "T")[:19]
