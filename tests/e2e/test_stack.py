"""From a POST at the load balancer to a row in Athena, through the deployed template."""

import json
import time
import uuid
from urllib.parse import unquote

import pytest

from local_aws.query import poll, query
from local_aws.webhook import EVENTS, Request, basic, recorded_request, send
from tests.e2e.webhook import STACKS_OWN, batch, post, raw_keys, rows_of

ROWS_TIMEOUT_SECONDS = 60
IDLE_SECONDS = 3  # after which the local S3 resets a connection


def test_batch_is_stored_and_its_repetition_a_duplicate(each_stack):
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": f"{batch_id}-1"})
    assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert raw_keys(each_stack).count(f"raw/{batch_id}.json") == 1
    assert rows_of(each_stack, batch_id, "type, event_class", 1) == [{"type": "bounce", "event_class": "message_event"}]


@pytest.mark.parametrize("credentials", [None, STACKS_OWN, ("bird", "wrong")], ids=["none", "good", "wrong"])
def test_probe_is_answered_whatever_the_credentials(each_stack, credentials):
    assert post(each_stack, '[{"msys":{}}]', credentials=credentials)[:2] == (200, "ping")


@pytest.mark.parametrize("credentials", [None, ("bird", "wrong"), ("bird", "")], ids=["none", "wrong", "empty"])
def test_strangers_are_refused(each_stack, credentials):
    batch_id = str(uuid.uuid4())
    status, said, headers = post(each_stack, batch({"type": "open"}), batch_id=batch_id, credentials=credentials)
    assert (status, said) == (401, "rejected")
    assert headers["www-authenticate"].startswith("Basic realm=")
    assert f"raw/{batch_id}.json" not in raw_keys(each_stack)


def test_health_check_is_answered(each_stack):
    assert post(each_stack, "", method="GET", credentials=None)[:2] == (200, "ok")


def test_other_method_is_refused(each_stack):
    status, said, headers = post(each_stack, "", method="PUT")
    assert (status, said, headers["allow"]) == (405, "rejected", "GET, HEAD, POST")


def test_other_path_is_not_found(stack):
    path = stack.outputs["WebhookUrl"].partition("localhost")[2].partition("/")[2].rpartition("/")[0]
    assert post(stack, "[1]", path=f"/{path}/elsewhere")[:2] == (404, "not found")


def test_27_types_in_27_typed_rows_out(each_stack):
    request = recorded_request(EVENTS / "alb_all_types.json")
    batch_id = str(uuid.uuid4())
    assert post(each_stack, request.body, batch_id=batch_id)[:2] == (200, "stored")
    columns = (
        "event_class, type, typeof(timestamp) AS time_type, msg_size + 1 AS size, open_tracking, geo_ip_latitude, extra"
    )
    rows = rows_of(each_stack, batch_id, columns, 27)
    assert len(rows) == len({row["type"] for row in rows}) == 27
    [opened] = [row for row in rows if row["type"] == "open"]
    assert opened["event_class"] == "track_event"
    assert opened["time_type"].lower().startswith("timestamp")
    assert (opened["size"], opened["open_tracking"].lower(), opened["geo_ip_latitude"]) == ("1338", "true", "39.1749")
    assert not any(row["extra"] for row in rows)


def test_event_of_two_batches_is_once_in_the_view(stack):
    first, second = (str(uuid.uuid4()) for _ in range(2))
    body = batch({"type": "delivery", "event_id": first}, {"type": "bounce", "event_id": first})
    post(stack, body, batch_id=first)
    assert len(rows_of(stack, first, "type", 2)) == 2
    post(stack, body, batch_id=second)
    assert len(rows_of(stack, second, "type", 2)) == 2
    seen = f"SELECT type, batch_id FROM events_deduplicated WHERE event_key = '{first}' ORDER BY type"  # noqa: S608
    assert query(stack, seen) == [{"type": kind, "batch_id": first} for kind in ("bounce", "delivery")]


def test_compressed_batch_becomes_rows(stack):
    """By the load balancer: the local HTTP API takes JSON for text, whatever its encoding; AWS's may do so too."""
    request = recorded_request(EVENTS / "alb_batch_gzip.json")
    batch_id = str(uuid.uuid4())
    assert post(stack, request.body, batch_id=batch_id, headers={"content-encoding": "gzip"})[:2] == (200, "stored")
    assert len(rows_of(stack, batch_id, "type", 27)) == 27


def test_broken_batch_is_quarantined_beside_a_good_one(stack):
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    assert post(stack, "this is no JSON", batch_id=bad)[:2] == (200, "stored")
    assert post(stack, batch({"type": "click", "event_id": good}), batch_id=good)[:2] == (200, "stored")
    assert rows_of(stack, good, "event_id", 1) == [{"event_id": good}]
    s3 = stack.emulator.client("s3")
    bucket = stack.outputs["LakeBucketName"]

    def quarantined() -> list[dict]:
        found = s3.list_objects_v2(Bucket=bucket, Prefix="quarantine/").get("Contents", [])
        keys = [item["Key"] for item in found if item["Key"].endswith(".ndjson")]  # and none that a test put there
        bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
        return [
            record for lines in bodies for record in map(json.loads, lines.splitlines()) if record["batch_id"] == bad
        ]

    [record] = poll(quarantined, bool, ROWS_TIMEOUT_SECONDS)
    assert (record["reason"], record["original"]) == ("not JSON", "this is no JSON")


def test_first_batch_after_a_pause_is_stored(each_stack):
    """S3 has closed the connections that ingest kept, and ingest was frozen meanwhile."""
    for pause_seconds in (0, IDLE_SECONDS + 0.5):
        time.sleep(pause_seconds)
        batch_id = str(uuid.uuid4())
        body = batch({"type": "bounce", "event_id": batch_id})
        assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "stored")


def test_load_balancer_refuses_more_than_a_megabyte(stack):
    headers = {"content-type": "application/json", **basic(stack.credentials())}
    assert send(stack, Request("POST", headers, b" " * 1024 * 1024)).status != 413
    assert send(stack, Request("POST", headers, b" " * (1024 * 1024 + 1))).status == 413


def test_two_stacks_in_one_account_keep_to_themselves(stack, sar_stack):
    ids = {name: str(uuid.uuid4()) for name in ("first", "second")}
    for each, batch_id in zip((stack, sar_stack), ids.values(), strict=True):
        assert post(each, batch({"type": "delay", "event_id": batch_id}), batch_id=batch_id)[:2] == (200, "stored")
    both = f"SELECT batch_id FROM events WHERE batch_id IN ('{ids['first']}', '{ids['second']}')"  # noqa: S608
    for each, batch_id in zip((stack, sar_stack), ids.values(), strict=True):
        assert len(rows_of(each, batch_id, "type", 1)) == 1
        assert query(each, both) == [{"batch_id": batch_id}]
    assert post(sar_stack, batch({"type": "open"}), credentials=stack.credentials())[:2] == (401, "rejected")


def test_file_of_rows_is_announced_to_whoever_subscribes(stack):
    sns, sqs = stack.emulator.client("sns"), stack.emulator.client("sqs")
    queue = sqs.create_queue(QueueName="listens-for-rows")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = stack.outputs["RowsTopicArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": [allow]})})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    batch_id = str(uuid.uuid4())
    post(stack, batch({"type": "delay", "event_id": batch_id, "timestamp": "1462104000"}), batch_id=batch_id)

    def announced() -> list[str]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        records = [record for message in messages for record in json.loads(message["Body"]).get("Records", [])]
        return [record["s3"]["object"]["key"] for record in records if "2016-05-01" in record["s3"]["object"]["key"]]

    [key] = poll(announced, bool, ROWS_TIMEOUT_SECONDS)
    assert unquote(key).startswith("events/event_date=2016-05-01/")
