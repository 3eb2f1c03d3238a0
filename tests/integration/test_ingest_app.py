"""The table of requests in docs/architecture.md ("The webhook"), row by row, against a local S3."""

import base64
import gzip
import hashlib
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.app import lambda_handler, settings
from maintain.generate.events import TARGET_GROUP, alb, basic, compact

RAW_BUCKET = "raw-bucket"
INPUTS = Path(__file__).resolve().parents[1] / "data/inputs"
PROBE_OBJECT = (INPUTS / "15a-probe-object.json").read_text()


def keys(s3) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=RAW_BUCKET).get("Contents", [])]


def said(answer) -> tuple[int, str]:
    return answer["statusCode"], json.loads(answer["body"])["status"]


@pytest.mark.parametrize("name", ["alb_all_types", "alb_multi_value_headers", "http_api_batch", "alb_ui_test_batch"])
def test_batch_is_stored_once_under_its_id(s3, load_event, name):
    event = load_event(name)
    headers = event.get("headers") or {key: values[0] for key, values in event["multiValueHeaders"].items()}
    batch_id = headers["x-messagesystems-batch-id"]
    assert said(lambda_handler(event, None)) == (200, "stored")
    assert said(lambda_handler(event, None)) == (200, "duplicate")
    assert keys(s3) == [f"raw/{batch_id}.json"]
    stored = s3.get_object(Bucket=RAW_BUCKET, Key=f"raw/{batch_id}.json")
    assert stored["Body"].read() == event["body"].encode()
    assert stored["ContentType"] == "application/json"
    assert stored["Metadata"]["batch-id"] == batch_id
    assert stored["Metadata"]["received-at"].endswith("Z")
    assert stored["Metadata"]["body-sha256"] == hashlib.sha256(event["body"].encode()).hexdigest()


def test_the_same_id_with_another_body_is_kept_beside_the_first(s3):
    first, second = alb("[1]", batch_id="one"), alb("[2]", batch_id="one")
    for expected in ("stored", "duplicate"):
        assert said(lambda_handler(first, None)) == (200, expected)
        assert said(lambda_handler(second, None)) == (200, expected)
    # The second name ends with the first 16 hex digits of the SHA-256 of "[2]".
    assert keys(s3) == ["raw/one.038966de9f6b9a90.json", "raw/one.json"]
    assert s3.get_object(Bucket=RAW_BUCKET, Key="raw/one.json")["Body"].read() == b"[1]"
    assert s3.get_object(Bucket=RAW_BUCKET, Key="raw/one.038966de9f6b9a90.json")["Body"].read() == b"[2]"


@pytest.mark.parametrize("authorization", [None, basic("bird", "wrong")], ids=["without", "with wrong credentials"])
@pytest.mark.parametrize("body", [PROBE_OBJECT, '{"msys":{}}', '[{"msys":{}}]', "[]", ""])
def test_probe_is_answered_and_not_stored(s3, body, authorization):
    assert said(lambda_handler(alb(body, batch_id=None, authorization=authorization), None)) == (200, "ping")
    assert keys(s3) == []


def test_wrong_credentials_are_refused(s3, load_event):
    answer = lambda_handler(load_event("alb_wrong_credentials"), None)
    assert said(answer) == (401, "rejected")
    assert answer["headers"]["WWW-Authenticate"].startswith('Basic realm="')
    assert keys(s3) == []


STRANGERS = {
    "no header": {},
    "not UTF-8": {"authorization": ["Basic YmlyZDr/"]},
    "half a surrogate pair": {"authorization": ["\ud800"]},
    "half a surrogate pair, encoded": {"authorization": ["Basic \ud800"]},
    "NUL": {"authorization": ["Basic \x00"]},
    "good and bad": {"authorization": [basic("bird", "example-password"), basic("bird", "wrong")]},
    "bad and good": {"authorization": [basic("bird", "wrong"), basic("bird", "example-password")]},
    "two names": {"Authorization": [basic("bird", "wrong")], "authorization": [basic("bird", "example-password")]},
    "null": {"authorization": None},
    "no list": {"authorization": [None]},
    "64 kB": {"authorization": ["Basic " + "A" * 65536]},
    "line break": {"authorization": ["Basic x\r\n\x1b[31mforged"]},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("auth", ["BASIC", "HEADER", "OAUTH2", "unknown"])
def test_a_stranger_is_refused_cleanly_and_leaves_nothing(s3, monkeypatch, caplog, headers, auth):
    monkeypatch.setenv("WEBHOOK_AUTH", auth)
    monkeypatch.setenv("WEBHOOK_HEADER", "X-MessageSystems-Webhook-Token")
    event = alb("[1]", batch_id=None) | {"multiValueHeaders": {"x-messagesystems-batch-id": ["mine"], **headers}}
    del event["headers"]
    if auth == "OAUTH2":  # without the load balancer's word, whatever the token
        event["requestContext"] = {}
    assert said(lambda_handler(event, None)) in [(401, "rejected"), (400, "rejected")]
    assert keys(s3) == []
    logged = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("ingest"))
    assert "request rejected" in logged
    for trace in ("forged", "mine", "YmlyZ", "Traceback"):
        assert trace not in logged


def test_a_probe_without_credentials_poisons_no_batch_id(s3):
    for body in ['[{"msys":{}}]', "[]", ""]:
        assert said(lambda_handler(alb(body, batch_id="one", authorization=None), None)) == (200, "ping")
    assert said(lambda_handler(alb("[9]", batch_id="one", authorization=None), None)) == (401, "rejected")
    assert said(lambda_handler(alb("[1]", batch_id="one"), None)) == (200, "stored")
    assert s3.get_object(Bucket=RAW_BUCKET, Key="raw/one.json")["Body"].read() == b"[1]"


@pytest.mark.parametrize("name", ["x-api-key", "X-MessageSystems-Webhook-Token"])
def test_header_of_the_users_choice_lets_in(s3, monkeypatch, name):
    monkeypatch.setenv("WEBHOOK_AUTH", "HEADER")
    monkeypatch.setenv("WEBHOOK_HEADER", name)
    monkeypatch.setenv("CREDENTIAL_DIGESTS", hashlib.sha256(b"the-secret").hexdigest())

    def sent(value: str):
        return lambda_handler(alb("[1]", batch_id="one", authorization=None, headers={name: value}), None)

    refused = sent("another")
    assert said(refused) == (401, "rejected")
    assert "WWW-Authenticate" not in refused["headers"]
    assert said(sent("the-secret")) == (200, "stored")


def test_a_function_url_or_http_api_is_no_way_around_the_load_balancers_token_check(s3, load_event, monkeypatch):
    monkeypatch.setenv("WEBHOOK_AUTH", "OAUTH2")
    event = load_event("http_api_batch")
    event["headers"]["authorization"] = "Bearer forged"
    assert said(lambda_handler(event, None)) == (401, "rejected")
    by_alb = alb("[1]", batch_id="one", authorization="Bearer verified")
    assert said(lambda_handler(by_alb, None)) == (401, "rejected")  # until ingest knows which one is its own
    settings.cache_clear()
    monkeypatch.setenv("TARGET_GROUP", TARGET_GROUP.rpartition("/")[0] + "/")
    assert said(lambda_handler(by_alb, None)) == (200, "stored")
    by_alb["requestContext"]["elb"]["targetGroupArn"] = TARGET_GROUP.replace("targetgroup/", "targetgroup/x")
    assert said(lambda_handler(by_alb, None)) == (401, "rejected")


def test_both_credentials_of_a_rotation_get_in_and_the_old_one_is_told_in_the_log(s3, monkeypatch, caplog):
    new, old = (hashlib.sha256(f"bird:{word}".encode()).hexdigest() for word in ("new", "old"))
    monkeypatch.setenv("CREDENTIAL_DIGESTS", f"{new},{old}")
    caplog.set_level(logging.INFO)
    assert said(lambda_handler(alb("[1]", batch_id="one", authorization=basic("bird", "new")), None)) == (200, "stored")
    assert "previous credentials used" not in caplog.messages
    assert said(lambda_handler(alb("[2]", batch_id="two", authorization=basic("bird", "old")), None)) == (200, "stored")
    assert caplog.messages.count("previous credentials used") == 1


def test_another_webhooks_credentials_get_in_and_are_told_in_the_log(s3, monkeypatch, caplog):
    digests = [hashlib.sha256(f"{pair}".encode()).hexdigest() for pair in ("bird:new", "bird:previous", "old:weak")]
    monkeypatch.setenv("CREDENTIAL_DIGESTS", "{},{},authorization={}".format(*digests))
    caplog.set_level(logging.INFO)
    assert said(lambda_handler(alb("[1]", batch_id="one", authorization=basic("old", "weak")), None)) == (200, "stored")
    assert said(lambda_handler(alb("[2]", batch_id="two", authorization=basic("bird", "new")), None)) == (200, "stored")
    assert caplog.messages.count("credentials of another webhook used") == 1
    assert "previous credentials used" not in caplog.messages
    wrong = alb("[3]", batch_id="three", authorization=basic("old", "wrong"))
    assert said(lambda_handler(wrong, None)) == (401, "rejected")


def test_a_compression_that_s3_would_refuse_does_not_lose_the_batch(s3):
    event = alb("[1]", batch_id="one", headers={"content-encoding": "gzip\r\nx-amz-acl: public-read"})
    assert said(lambda_handler(event, None)) == (200, "stored")
    assert "ContentEncoding" not in s3.head_object(Bucket=RAW_BUCKET, Key="raw/one.json")


def test_nobody_gets_in_while_unconfigured(s3, load_event, monkeypatch):
    monkeypatch.delenv("WEBHOOK_AUTH")
    assert said(lambda_handler(load_event("alb_all_types"), None)) == (401, "rejected")


def test_a_probe_beside_an_event_is_stored_with_it(s3):
    body = (INPUTS / "15b-probe-beside-event.json").read_text()
    assert said(lambda_handler(alb(body, batch_id="one", authorization=None), None)) == (401, "rejected")
    assert said(lambda_handler(alb(body, batch_id="one"), None)) == (200, "stored")
    assert s3.get_object(Bucket=RAW_BUCKET, Key="raw/one.json")["Body"].read() == body.encode()


def test_what_strangers_may_ask_for_is_counted(s3, load_event, caplog):
    caplog.set_level(logging.INFO)
    lambda_handler(load_event("alb_health_check"), None)
    lambda_handler(alb("[]", batch_id=None, authorization=None), None)
    lines = [vars(record) for record in caplog.records]
    assert [line.get("health_checks", line.get("pings")) for line in lines] == [1, 1]
    assert caplog.messages == ["health check answered", "ping answered"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_check_is_answered(s3, load_event, method):
    assert said(lambda_handler({**load_event("alb_health_check"), "httpMethod": method}, None)) == (200, "ok")
    assert keys(s3) == []


# Methods are case-sensitive (RFC 9110), also in a load balancer's rules.
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "post", "Post", "get"])
def test_other_method_is_refused(s3, load_event, method):
    answer = lambda_handler({**load_event("alb_all_types"), "httpMethod": method}, None)
    assert said(answer) == (405, "rejected")
    assert answer["headers"]["Allow"] == "GET, HEAD, POST"


def test_unreadable_envelope_is_refused(s3):
    assert said(lambda_handler({"httpMethod": "POST", "headers": {}, "body": "%", "isBase64Encoded": True}, None)) == (
        400,
        "rejected",
    )


def test_compressed_body_keeps_its_encoding(s3, load_event):
    event = load_event("alb_batch_gzip")
    assert said(lambda_handler(event, None)) == (200, "stored")
    stored = s3.get_object(Bucket=RAW_BUCKET, Key="raw/gzip-batch.json")
    assert stored["ContentEncoding"] == "gzip"
    assert gzip.decompress(stored["Body"].read()) == load_event("alb_all_types")["body"].encode()


@pytest.mark.parametrize("megabytes", [1, 5])
def test_large_batch_is_stored(s3, megabytes):
    body = compact([{"msys": {"x_event": {"text": "x" * (megabytes * 1024 * 1024 - 40)}}}])
    assert said(lambda_handler(alb(body, batch_id="large"), None)) == (200, "stored")
    assert s3.head_object(Bucket=RAW_BUCKET, Key="raw/large.json")["ContentLength"] == len(body)


def test_body_that_is_no_json_is_stored_as_it_came(s3):
    body = b"\x00\xffnot json"
    event = alb("", batch_id="odd") | {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    assert said(lambda_handler(event, None)) == (200, "stored")
    assert s3.get_object(Bucket=RAW_BUCKET, Key="raw/odd.json")["Body"].read() == body


def test_batch_without_id_is_stored_once(s3, load_event):
    assert said(lambda_handler(load_event("alb_no_batch_id"), None)) == (200, "stored")
    assert said(lambda_handler(load_event("alb_no_batch_id"), None)) == (200, "duplicate")
    [key] = keys(s3)
    assert key.startswith("raw/sha256-")


@pytest.mark.parametrize("batch_id", ["../../secret", "with space", "x" * 4096, "ünï\u4e2d"])
def test_odd_batch_id_stays_inside_the_prefix(s3, batch_id):
    assert said(lambda_handler(alb("[1]", batch_id=batch_id), None)) == (200, "stored")
    [key] = keys(s3)
    assert key.startswith("raw/sha256-")
    assert s3.head_object(Bucket=RAW_BUCKET, Key=key)["Metadata"]["batch-id-original"]


def test_one_object_when_a_batch_comes_from_many_connections_at_once(s3):
    event = alb("[1]", batch_id="race")
    lambda_handler(alb("[0]", batch_id="warm"), None)
    with ThreadPoolExecutor(16) as pool:
        answers = [said(answer) for answer in pool.map(lambda _: lambda_handler(event, None), range(16))]
    assert sorted(answers) == [(200, "duplicate")] * 15 + [(200, "stored")]


def test_prefix_with_spaces_works(s3, monkeypatch):
    monkeypatch.setenv("RAW_PREFIX", "B Event Data")
    assert said(lambda_handler(alb("[1]", batch_id="one"), None)) == (200, "stored")
    assert keys(s3) == ["B Event Data/one.json"]


@pytest.fixture
def broken_s3(s3, monkeypatch):
    """An S3 that takes connections; `answer` is what it says to each request, nothing at all if None."""
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    connections: list[socket.socket] = []

    def serve(answer: bytes | None) -> None:
        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=run, daemon=True).start()

    yield serve
    listener.close()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", id="slow down"),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", id="forbidden"),
        pytest.param(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", id="conflict"),
        pytest.param(None, id="hangs"),
    ],
)
def test_storage_that_refuses_or_hangs_is_a_503_in_time(broken_s3, answer):
    broken_s3(answer)
    started = time.monotonic()
    said_by_ingest = lambda_handler(alb("[1]", batch_id="one"), None)
    assert said(said_by_ingest) == (503, "unavailable")
    assert said_by_ingest["headers"]["Retry-After"] == "30"
    assert time.monotonic() - started < 8


def test_logs_hold_no_body_credential_or_address(s3, load_event, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("alb_all_types", "alb_wrong_credentials", "alb_probe", "alb_health_check"):
        lambda_handler(load_event(name), None)
    logged = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("ingest"))
    assert "batch stored" in logged
    for secret in ("example.com", "example-password", "Basic ", "msys", "wrong:"):
        assert secret not in logged
