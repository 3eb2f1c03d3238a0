"""From a POST at the load balancer to a row in Athena, through the deployed template."""

import io
import json
import uuid
from contextlib import redirect_stderr
from urllib.parse import unquote

import pytest

from tools import local_stack
from tools.local_query import poll, query
from tools.local_webhook import EVENTS, Request, basic, recorded_request, send

ROWS_TIMEOUT_SECONDS = 60
GOOD = object()


def post(
    stack, body: bytes | str, *, batch_id: str | None = None, credentials=GOOD, method="POST", headers=None, path=None
):
    login = basic(stack.credentials() if credentials is GOOD else credentials) if credentials else {}
    given = {"content-type": "application/json", **login, **(headers or {})}
    if batch_id:
        given["x-messagesystems-batch-id"] = batch_id
    content = body.encode() if isinstance(body, str) else body
    answer = send(stack, Request(method, given, content), path)
    return answer.status, json.loads(answer.body)["status"] if answer.body else None, answer.headers


def raw_keys(stack) -> list[str]:
    s3 = stack.emulator.client("s3")
    return [item["Key"] for item in s3.list_objects_v2(Bucket=stack.outputs["RawBucketName"]).get("Contents", [])]


def batch(*events: dict, event_class: str = "message_event") -> str:
    return json.dumps([{"msys": {event_class: {"timestamp": "1460989507", **event}}} for event in events])


def rows_of(stack, batch_id: str, columns: str, count: int) -> list[dict]:
    sql = f"SELECT {columns} FROM events WHERE batch_id = '{batch_id}' ORDER BY type, event_key"  # noqa: S608
    return poll(lambda: query(stack, sql), lambda rows: len(rows) >= count, ROWS_TIMEOUT_SECONDS)


def test_batch_is_stored_and_its_repetition_a_duplicate(stack):
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": f"{batch_id}-1"})
    assert post(stack, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert raw_keys(stack).count(f"raw/{batch_id}.json") == 1
    assert rows_of(stack, batch_id, "type, event_class", 1) == [{"type": "bounce", "event_class": "message_event"}]


@pytest.mark.parametrize("credentials", [None, GOOD, ("bird", "wrong")], ids=["none", "good", "wrong"])
def test_probe_is_answered_whatever_the_credentials(stack, credentials):
    assert post(stack, '[{"msys":{}}]', credentials=credentials)[:2] == (200, "ping")


@pytest.mark.parametrize("credentials", [None, ("bird", "wrong"), ("bird", "")], ids=["none", "wrong", "empty"])
def test_strangers_are_refused(stack, credentials):
    batch_id = str(uuid.uuid4())
    status, said, headers = post(stack, batch({"type": "open"}), batch_id=batch_id, credentials=credentials)
    assert (status, said) == (401, "rejected")
    assert headers["www-authenticate"].startswith("Basic realm=")
    assert f"raw/{batch_id}.json" not in raw_keys(stack)


def test_health_check_is_answered(stack):
    assert post(stack, "", method="GET", credentials=None)[:2] == (200, "ok")


def test_other_method_is_refused(stack):
    status, said, headers = post(stack, "", method="PUT")
    assert (status, said, headers["allow"]) == (405, "rejected", "GET, HEAD, POST")


def test_other_path_is_not_found(stack):
    path = stack.outputs["WebhookUrl"].partition("localhost")[2].partition("/")[2].rpartition("/")[0]
    assert post(stack, "[1]", path=f"/{path}/elsewhere")[:2] == (404, "not found")


def test_27_types_in_27_typed_rows_out(stack):
    request = recorded_request(EVENTS / "alb_all_types.json")
    batch_id = str(uuid.uuid4())
    assert post(stack, request.body, batch_id=batch_id)[:2] == (200, "stored")
    columns = (
        "event_class, type, typeof(timestamp) AS time_type, msg_size + 1 AS size, open_tracking, geo_ip_latitude, extra"
    )
    rows = rows_of(stack, batch_id, columns, 27)
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
        bodies = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found]
        return [
            record for lines in bodies for record in map(json.loads, lines.splitlines()) if record["batch_id"] == bad
        ]

    [record] = poll(quarantined, bool, ROWS_TIMEOUT_SECONDS)
    assert (record["reason"], record["original"]) == ("not JSON", "this is no JSON")


def test_http_api_is_a_front_door_that_needs_nothing(emulator):
    stack = local_stack.deploy(emulator, "bird-http-api", {"FrontDoor": "HTTP_API", "CertificateArn": ""})
    types = {resource["ResourceType"] for resource in local_stack.described(emulator, stack.name).values()}
    assert not {kind for kind in types if kind.startswith(("AWS::ElasticLoadBalancingV2", "AWS::EC2"))}
    assert stack.outputs["BirdForm"] == (
        f"Webhook name: bird-http-api (at most 24 characters) | Target: {stack.outputs['PublicWebhookUrl']} | "
        "Events: all of them | Authentication: Basic | Username: bird | "
        f"Password: `password` in secret {stack.outputs['WebhookSecretArn']}"
    )
    batch_id = str(uuid.uuid4())
    body = batch({"type": "delay", "event_id": batch_id})
    assert post(stack, '[{"msys":{}}]', credentials=None)[:2] == (200, "ping")
    assert post(stack, body, batch_id=batch_id, credentials=None)[:2] == (401, "rejected")
    assert post(stack, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert post(stack, "", method="GET", credentials=None)[:2] == (200, "ok")
    assert post(stack, "", method="DELETE")[:2] == (405, "rejected")
    assert rows_of(stack, batch_id, "type", 1) == [{"type": "delay"}]


def test_update_to_csv_and_the_guides_prefix_then_delete(emulator):
    """One stack through its life: CSV and a prefix with a space by update, gone by delete, its data still there."""
    with redirect_stderr(io.StringIO()):
        local_stack.deploy(emulator, "bird-life")
        stack = local_stack.deploy(emulator, "bird-life", {"OutputFormat": "CSV", "RawPrefix": "B Event Data"})
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": "1", "reason": 'quoted "text", here', "msg_size": "12"})
    assert post(stack, body, batch_id=batch_id)[:2] == (200, "stored")
    assert raw_keys(stack) == [f"B Event Data/{batch_id}.json"]
    rows = rows_of(stack, batch_id, "type, reason, msg_size", 1)
    assert rows == [{"type": "bounce", "reason": 'quoted "text", here', "msg_size": "12"}]
    view = "SELECT msg_size + 1 AS size, year(timestamp) AS year, event_date FROM events_deduplicated"
    assert query(stack, view) == [{"size": "13", "year": "2016", "event_date": "2016-04-18"}]  # text no longer
    local_stack.delete(stack)
    s3 = emulator.client("s3")
    kept = s3.list_objects_v2(Bucket=stack.outputs["RawBucketName"])["Contents"]
    assert [item["Key"] for item in kept] == [f"B Event Data/{batch_id}.json"]
    assert s3.list_objects_v2(Bucket=stack.outputs["LakeBucketName"], Prefix="events/")["KeyCount"] == 1


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
