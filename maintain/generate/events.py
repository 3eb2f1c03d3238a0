"""Write the invocation events of events/ from Bird's samples in events/samples/. The output is always the same.

python -m maintain.generate.events
"""

import base64
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).resolve().parents[2] / "events"
SAMPLES = EVENTS / "samples"
USERNAME, PASSWORD = "bird", "example-password"
UI_TEST_BATCH_ID = "77c2b630-d712-11e4-9642-efc2723b99c1"  # Bird uses this id for every test of every customer
TARGET_GROUP = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/ingest-0a1b2c3d/0123456789abcdef"
RAW_BUCKET = "raw-bucket"

Json = dict[str, Any]


def rendered(event: Json) -> str:
    return json.dumps(event, indent=2, ensure_ascii=False) + "\n"


def invocation_events() -> dict[str, Json]:
    """File name -> the event that Lambda passes to the function."""
    events: dict[str, Json] = {}
    for path in sorted(SAMPLES.glob("*_event.*.json")):
        body = compact(json.loads(path.read_text()))
        events[f"alb_{path.stem}.json"] = alb(body, batch_id=batch_id(body))
    all_types = compact(json.loads((SAMPLES / "all-27-events-distinct-ids.json").read_text()))
    delivery = compact(json.loads((SAMPLES / "message_event.delivery.json").read_text()))
    events |= {
        "alb_all_types.json": alb(all_types, batch_id="00000000-0000-4000-8000-000000000027"),
        "alb_batch_of_350.json": alb(compact(batch_of_350()), batch_id="00000000-0000-4000-8000-000000000350"),
        "alb_probe.json": alb('[{"msys":{}}]', batch_id=None, authorization=None),
        "alb_ui_test_batch.json": alb(delivery, batch_id=UI_TEST_BATCH_ID),
        "alb_batch_base64.json": encoded(alb(all_types, batch_id="base64-batch"), all_types.encode()),
        "alb_batch_gzip.json": encoded(
            alb(all_types, batch_id="gzip-batch", headers={"content-encoding": "gzip"}),
            gzip.compress(all_types.encode(), mtime=0),
        ),
        "alb_multi_value_headers.json": multi_value(alb(delivery, batch_id="multi-value-batch")),
        "alb_health_check.json": health_check(),
        "alb_wrong_credentials.json": alb(delivery, batch_id="refused-batch", authorization=basic("bird", "wrong")),
        "alb_no_batch_id.json": alb(delivery, batch_id=None),
        "http_api_batch.json": http_api(delivery, batch_id="http-api-batch"),
        "s3_raw_batch_created.json": {"Records": [created("raw/batch-1.json")]},
        "s3_key_with_spaces.json": {"Records": [created("B+Event+Data/batch-1.json")]},
        "sqs_raw_batches_created.json": sqs(
            {"Records": [created("raw/batch-1.json")]}, {"Records": [created("raw/batch-2.json")]}
        ),
        "sqs_test_event.json": sqs({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": RAW_BUCKET}),
    }
    return events


def compact(batch: Any) -> str:
    return json.dumps(batch, separators=(",", ":"), ensure_ascii=False)


def batch_id(body: str) -> str:
    """32 hex digits, like Bird's."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def batch_of_350() -> list[Json]:
    """The 27 types again and again, mixed as Bird mixes them, each event with its own id and second."""
    samples = json.loads((SAMPLES / "all-27-events.json").read_text())
    batch = []
    for number in range(350):
        [(event_class, sample)] = samples[number * 11 % len(samples)]["msys"].items()
        event = {**sample, "timestamp": str(1_460_989_507 + number)}
        if "event_id" in event:
            event["event_id"] = str(92_356_927_693_900_000 + number)
        batch.append({"msys": {event_class: event}})
    return batch


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def alb(
    body: str,
    *,
    batch_id: str | None,
    authorization: str | None = basic(USERNAME, PASSWORD),
    headers: dict[str, str] | None = None,
) -> Json:
    """A POST as a load balancer passes it on, with header names in lower case."""
    given = {
        "accept": "application/json",
        "content-type": "application/json",
        "host": "webhooks.example.com",
        "x-amzn-trace-id": "Root=1-00000000-000000000000000000000000",
        "x-forwarded-for": "192.0.2.10",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
        **({"authorization": authorization} if authorization else {}),
        **({"x-messagesystems-batch-id": batch_id} if batch_id else {}),
        **(headers or {}),
    }
    return {
        "requestContext": {"elb": {"targetGroupArn": TARGET_GROUP}},
        "httpMethod": "POST",
        "path": "/bird",
        "queryStringParameters": {},
        "headers": given,
        "body": body,
        "isBase64Encoded": False,
    }


def encoded(event: Json, body: bytes) -> Json:
    return {**event, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def multi_value(event: Json) -> Json:
    """With the target group's attribute lambda.multi_value_headers.enabled, as the template sets it."""
    headers = {name: [value] for name, value in event["headers"].items()}
    rest = {name: value for name, value in event.items() if name not in ("headers", "queryStringParameters")}
    return {**rest, "multiValueHeaders": headers, "multiValueQueryStringParameters": {}}


def health_check() -> Json:
    return {
        "requestContext": {"elb": {"targetGroupArn": TARGET_GROUP}},
        "httpMethod": "GET",
        "path": "/",
        "queryStringParameters": {},
        "headers": {"user-agent": "ELB-HealthChecker/2.0"},
        "body": "",
        "isBase64Encoded": False,
    }


def http_api(body: str, *, batch_id: str) -> Json:
    """Payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "ANY /bird",
        "rawPath": "/bird",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "authorization": basic(USERNAME, PASSWORD),
            "x-messagesystems-batch-id": batch_id,
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "http": {"method": "POST", "path": "/bird", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.10"},
            "requestId": "request-1",
            "stage": "$default",
        },
        "body": body,
        "isBase64Encoded": False,
    }


def created(key: str, bucket: str = RAW_BUCKET) -> Json:
    """One record of S3's notification; `key` as S3 writes it, a space as +."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-11-24T12:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0A"},
        },
    }


def sqs(*notifications: Json) -> Json:
    return {
        "Records": [
            {
                "messageId": f"00000000-0000-4000-8000-{number:012d}",
                "receiptHandle": f"handle-{number}",
                "body": json.dumps(notification),
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:process-queue",
                "awsRegion": "eu-west-1",
            }
            for number, notification in enumerate(notifications, 1)
        ]
    }
