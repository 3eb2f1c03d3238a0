"""`verify` takes its test event out and leaves all else; what it says of certificates and of the webhook at Bird."""

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from types import SimpleNamespace

import pytest
from arro3.io import read_parquet

from bird_webhooks.operate import verify, verify_event
from bird_webhooks.operate.front_door import Network
from bird_webhooks.simulator import bird_api
from bird_webhooks.stack import Stack
from maintain.generate.events import created, sqs
from process.app import lambda_handler
from tests import tls_door
from tests.integration.moto_server import client

RAW, LAKE = "raw-bucket", "lake-bucket"
KEY = "0123456789abcdef0123456789abcdef01234567"


# --- The test event ---


@pytest.fixture
def target(s3, moto_endpoint, monkeypatch) -> Stack:
    s3.put_bucket_versioning(Bucket=RAW, VersioningConfiguration={"Status": "Enabled"})
    outputs = {"RawBucketName": RAW, "LakeBucketName": LAKE, "GlueDatabaseName": "bird"}
    monkeypatch.setattr(Stack, "outputs", outputs)
    monkeypatch.setattr(Stack, "raw_prefix", "raw")
    yield Stack("bird-webhooks", partial(client, endpoint_url=moto_endpoint), 0)
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=RAW):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=RAW, Key=item["Key"], VersionId=item["VersionId"])


def store(s3, name: str, body: bytes) -> str:
    key = f"raw/{name}.json"
    s3.put_object(Bucket=RAW, Key=key, Body=body, Metadata={"batch-id": name})
    return key


def others(now: datetime) -> bytes:
    event = {"type": "bounce", "event_id": "1", "timestamp": str(int(now.timestamp())), "rcpt_to": "jo@example.com"}
    return json.dumps([{"msys": {"message_event": event}}]).encode()


def rows(s3, prefix: str = "events") -> list[str]:
    """The batches of the rows in the lake."""
    found = []
    for item in s3.list_objects_v2(Bucket=LAKE, Prefix=prefix).get("Contents", []):
        body = s3.get_object(Bucket=LAKE, Key=item["Key"])["Body"].read()
        if item["Key"].endswith(".csv"):
            header, *lines = body.decode().splitlines()
            found += [line.split(",")[header.split(",").index("batch_id")] for line in lines]
        else:
            found += read_parquet(BytesIO(body)).read_all()["batch_id"].to_pylist()
    return found


def raw_batches(s3) -> dict[str, list[bytes]]:
    """The bodies of all versions, by the batch's name."""
    found: dict[str, list[bytes]] = {}
    for item in s3.list_object_versions(Bucket=RAW).get("Versions", []):
        body = s3.get_object(Bucket=RAW, Key=item["Key"], VersionId=item["VersionId"])["Body"].read()
        found.setdefault(item["Key"].removeprefix("raw/").removesuffix(".json"), []).append(body)
    return found


@pytest.mark.parametrize("output_format", ["PARQUET", "CSV"])
def test_the_row_goes_from_a_file_that_keeps_the_rows_of_others(s3, target, monkeypatch, output_format):
    monkeypatch.setenv("OUTPUT_FORMAT", output_format)
    now = datetime.now(UTC)
    event = verify_event.new(now)
    keys = [store(s3, event.id, event.body), store(s3, "others", others(now))]
    lambda_handler(sqs({"Records": [created(key) for key in keys]}), None)
    assert sorted(rows(s3)) == [event.id, "others"]
    assert verify_event.remove(target, [event], now) == (1, 1)
    assert rows(s3) == ["others"]
    assert raw_batches(s3) == {event.id: [b"[]"], "others": [others(now)]}
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="maintenance/put-back/").get("Contents", []) == []
    # ... and what is left makes no row, should it be processed late
    lambda_handler(sqs({"Records": [created(keys[0])]}), None)
    assert rows(s3) == ["others"]
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="quarantine/").get("Contents", []) == []


def test_a_run_that_was_cut_short_is_cleaned_up_by_the_next_one_a_quarter_of_an_hour_later(s3, target):
    now = datetime.now(UTC)
    event, own = verify_event.new(now), verify_event.new(now)
    lambda_handler(sqs({"Records": [created(store(s3, event.id, event.body))]}), None)
    assert verify_event.remove(target, [own], now) == (0, 0)  # it may still be under way
    assert rows(s3) == [event.id]
    assert verify_event.remove(target, [own], now + timedelta(minutes=16)) == (1, 1)
    assert rows(s3) == []
    assert raw_batches(s3) == {event.id: [b"[]"]}


def test_what_a_run_left_behind_is_removed_from_a_closed_date_too(s3, target):
    now = datetime.now(UTC)
    event = verify_event.new(now)
    keys = [store(s3, event.id, event.body), store(s3, "others", others(now))]
    lambda_handler(sqs({"Records": [created(key) for key in keys]}), None)
    [small] = s3.list_objects_v2(Bucket=LAKE, Prefix="events/")["Contents"]
    closed = small["Key"].replace("events/", "closed/").replace("/part", "/0001-abc/part")
    s3.copy_object(Bucket=LAKE, Key=closed, CopySource={"Bucket": LAKE, "Key": small["Key"]})
    s3.delete_object(Bucket=LAKE, Key=small["Key"])
    assert sorted(rows(s3, "closed/")) == [event.id, "others"]
    assert verify_event.remove(target, [], now + timedelta(days=2)) == (1, 1)
    assert rows(s3, "closed/") == ["others"]


def test_an_empty_batch_goes_when_no_message_can_name_it_any_more(s3, target):
    now = datetime.now(UTC)
    event = verify_event.new(now)
    store(s3, event.id, b"[]")
    store(s3, "others", b"[]")
    assert verify_event.remove(target, [], now + timedelta(days=14)) == (0, 0)
    assert raw_batches(s3) == {event.id: [b"[]"], "others": [b"[]"]}
    assert verify_event.remove(target, [], now + timedelta(days=16)) == (0, 0)
    assert raw_batches(s3) == {"others": [b"[]"]}


# --- Certificates ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> tls_door.Authority:
    return tls_door.Authority(tmp_path_factory.mktemp("authority"))


def certificate(monkeypatch, authority, server: ssl.SSLContext, *, trusted: bool = True) -> tuple[str, str]:
    """The finding on the certificate that a server shows for webhooks.example.com."""
    monkeypatch.setattr(Stack, "outputs", {"WebhookUrl": "https://webhooks.example.com/bird"})
    monkeypatch.setattr(Stack, "parameters", {"FrontDoor": "ALB"})
    door = tls_door.Door(server, "", ssl.create_default_context())

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        assert address == ("192.0.2.1", 443)
        return socket.create_connection(("127.0.0.1", door.port), timeout)

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=authority.file if trusted else None)

    with tls_door.running(door):
        run = verify.Verification(Stack("x", dict), None, Network(lambda host: ["192.0.2.1"], connect, trust))
        run.outcome("name", run.name)
        outcome = run.outcome("certificate", run.certificate)
    assert (run.door is None) == (outcome.status == "failed")
    return outcome.status, outcome.said


def test_a_certificate_says_until_when_it_is_valid(monkeypatch, authority):
    ends = datetime.now(UTC) + timedelta(days=90)
    server = authority.server("webhooks.example.com", ends)
    found = certificate(monkeypatch, authority, server)
    assert found == ("ok", f"valid for webhooks.example.com until {ends:%Y-%m-%d}")


def test_a_certificate_that_is_not_renewed_in_time_is_a_warning(monkeypatch, authority):
    server = authority.server("webhooks.example.com", datetime.now(UTC) + timedelta(days=13))
    status, said = certificate(monkeypatch, authority, server)
    assert status == "warning"
    assert said.endswith(", and not renewed yet")


@pytest.mark.parametrize(
    ("name", "days", "trusted", "said"),
    [
        ("webhooks.example.com", -1, True, "not valid: certificate has expired"),
        ("elsewhere.example.com", 90, True, "not valid: Hostname mismatch, certificate is not valid for "),
        ("webhooks.example.com", 90, False, "not valid: unable to get local issuer certificate"),
    ],
    ids=["expired", "of another name", "of a stranger"],
)
def test_a_certificate_that_bird_would_not_trust_is_a_failure(monkeypatch, authority, name, days, trusted, said):
    server = authority.server(name, datetime.now(UTC) + timedelta(days=days))
    found = certificate(monkeypatch, authority, server, trusted=trusted)
    assert found[0] == "failed"
    assert found[1].startswith(said)


# --- Bird ---

WEBHOOK = {"name": "w", "target": "https://webhooks.example.com/bird", "events": ["bounce"], "active": True}
GOOD = {"batch_id": "1", "ts": "2026-11-25T10:00:00.000Z", "attempts": 1, "response_code": "200"}
BAD = {"batch_id": "2", "ts": "2026-11-25T11:00:00.000Z", "attempts": 2, "response_code": 401, "failure_code": "401"}


class Secrets:
    meta = SimpleNamespace(region_name="eu-west-1")

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803
        return {"SecretString": self.secret}


@pytest.mark.parametrize(
    ("webhook", "batches", "status", "said"),
    [
        (WEBHOOK, [], "ok", "points here; 0 batches"),
        (WEBHOOK, [BAD, {**GOOD, "ts": "2026-11-25T12:00:00.000Z"}], "ok", "points here; 2 batches"),
        (WEBHOOK, [BAD, GOOD], "failed", "the last of 2 batches that were delayed failed: it heard 401"),
        (
            {**WEBHOOK, "target": "https://other.example.com/bird"},
            [],
            "failed",
            "it sends to https://other.example.com",
        ),
        ({**WEBHOOK, "active": False}, [], "failed", "it is paused at Bird"),
        (
            {**WEBHOOK, "last_successful": "2026-11-25 10:00:00", "last_failure": "2026-11-25 11:00:00"},
            [],
            "failed",
            "the last delivery failed, at 2026-11-25 11:00:00 UTC",
        ),
        (None, [], "failed", "Bird has no such webhook any more"),
    ],
)
def test_the_webhook_at_bird(monkeypatch, webhook, batches, status, said):
    with bird_api.running(KEY, lambda target: None) as bird:
        bird.webhooks = {"ours": webhook} if webhook else {}
        bird.batch_statuses = batches
        found = at_bird(monkeypatch, bird.url, KEY)
    assert found.status == status
    assert found.said.startswith(said)
    assert {request.partition(" ")[0] for request in bird.requests} == {"GET"}  # asks, and changes nothing


def at_bird(monkeypatch, url: str, key: str):
    outputs = {"WebhookUrl": "https://webhooks.example.com/bird", "BirdWebhookId": "ours"}
    monkeypatch.setattr(Stack, "outputs", outputs)
    parameters = {"BirdApiKeySecretArn": "arn", "BirdApiUrl": url}
    monkeypatch.setattr(Stack, "parameters", parameters)
    run = verify.Verification(Stack("x", lambda service: Secrets(key)), None, Network())
    outcome = run.outcome("webhook at Bird", run.webhook_at_bird)
    assert key not in outcome.lines
    return outcome


def test_a_key_that_bird_does_not_take_is_a_failure(monkeypatch):
    with bird_api.running(KEY, lambda target: None) as bird:
        assert at_bird(monkeypatch, bird.url, "another").said == "Bird refuses the API key: Unauthorized. (HTTP 401)"


def test_a_bird_that_is_not_reached_is_not_tried(monkeypatch):
    with bird_api.running(KEY, lambda target: None) as bird:
        url = bird.url
    assert at_bird(monkeypatch, url, KEY).status == "not tried"
