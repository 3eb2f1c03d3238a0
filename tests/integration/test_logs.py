"""Logs never carry bodies, credentials or addresses: everything that both functions log, searched.

Through Lambda's own JSON formatter, ours at DEBUG. What leaves a handler as an exception counts too: Lambda logs it.
"""

import base64
import io
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from awslambdaric.lambda_runtime_log_utils import JsonFormatter

import ingest.app
import process.app
import webhook_credentials.app
from ingest.raw_store import StorageUnavailableError
from maintain.generate.events import PASSWORD, alb, basic, compact, created, encoded, sqs

EVENTS = Path(__file__).resolve().parents[2] / "events"
APPS = [ingest.app, process.app, webhook_credentials.app]
RAW_BUCKET = "raw-bucket"
ADDRESS = "jane.doe@example.com"
# No log line may contain one of these. `msys` only as in a body, because reasons of the quarantine name it too.
BODY_MARKS = ['"msys"', "'msys'", '"msys\\"']
MARKS = [*BODY_MARKS, "example.com", "jane", "Jane", "%40", "+44123456789", "hunter2", PASSWORD, "Bearer ", "Basic "]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged, as it would stand in CloudWatch Logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.terminator = ""  # the formatter ends lines itself
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *(app.__name__ for app in APPS))}
    root.setLevel(logging.INFO)  # as Lambda has it
    for app in APPS:
        app.logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    # The tests' own S3 and the client that fills it talk about what they do; neither is there in Lambda.
    silent = [logging.getLogger(name) for name in ("werkzeug", "boto3", "botocore", "urllib3", "moto", "asyncio")]
    for logger in silent:
        logger.propagate = False
    yield stream
    for logger in silent:
        logger.propagate = True
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def run(handler: Any, event: Any, logged: io.StringIO) -> None:
    try:
        handler(event, None)
    except Exception as error:
        # What Lambda logs of it: type, message and places, without the lines of the source.
        frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        logged.write(
            json.dumps({"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": frames}) + "\n"
        )


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name != "type":  # which the counts are named by
                yield from leaves(member)
    elif isinstance(value, list):
        for member in value:
            yield from leaves(member)
    elif isinstance(value, str):
        yield value


def private(request: dict[str, Any]) -> set[str]:
    """The parts of a request that must not be logged: credentials, and pieces of its body too long for chance."""
    headers = dict(request.get("headers") or {})
    headers |= {name: values[0] for name, values in (request.get("multiValueHeaders") or {}).items()}
    found = {str(value) for name, value in headers.items() if name in ("authorization", "x-webhook-token")}
    found |= {value.partition(" ")[2] for value in found}
    body = str(request.get("body") or "")
    found |= {body[start : start + 24] for start in range(0, len(body) - 24, 512)}
    if not request.get("isBase64Encoded"):
        with suppress(ValueError, TypeError):
            found |= {leaf for leaf in leaves(json.loads(body)) if len(leaf) >= 10}
    return {text for text in found if len(text) >= 8}


def assert_clean(text: str, *more: str) -> None:
    assert text, "nothing was logged at all"
    assert [mark for mark in (*MARKS, *more) if mark in text] == []


def requests() -> dict[str, dict[str, Any]]:
    """Everything that may come in at the front door."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json"))}
    found = {name: event for name, event in found.items() if name.startswith(("alb_", "http_api"))}
    body = compact([{"msys": {"message_event": {"type": "bounce", "rcpt_to": ADDRESS, "subject": "Dear Jane, hello"}}}])
    unreadable = base64.b64encode(b"\xff\xfejane:hunter2").decode()
    odd_credentials = {
        "none": None,
        "no colon": "Basic " + base64.b64encode(b"hunter2hunter2").decode(),
        "not UTF-8": f"Basic {unreadable}",
        "not base64": "Basic jane:hunter2!!",
        "bearer": "Bearer jane.hunter2.signature",
        "other scheme": "Digest username=jane, response=hunter2",
        "wrong": basic("jane", "hunter2"),
        "address": basic(ADDRESS, "hunter2"),
    }
    for name, authorization in odd_credentials.items():
        found[f"credentials {name}"] = alb(body, batch_id="odd-credentials", authorization=authorization)
    for number, odd in enumerate([ADDRESS, "../" + ADDRESS, "jane doe", "x" * 4096 + ADDRESS, "jane\n{}", "jané"]):
        found[f"id {number}"] = alb(body, batch_id=odd)
    found["two ids"] = alb(body, batch_id=None) | {"multiValueHeaders": {"x-messagesystems-batch-id": ["jane", "doe"]}}
    found["id beside credentials"] = alb(body, batch_id="one", headers={"x-webhook-token": "hunter2hunter2"})
    found["method"] = alb(body, batch_id="one") | {"httpMethod": ADDRESS}
    found["path"] = alb(body, batch_id="one") | {"path": f"/bird/{ADDRESS}", "queryStringParameters": {"to": ADDRESS}}
    found["broken base64"] = alb("", batch_id="one") | {"body": f"%{ADDRESS}", "isBase64Encoded": True}
    found["not text"] = alb("", batch_id="one") | {"body": {"rcpt_to": ADDRESS}}
    found["odd headers"] = alb(body, batch_id="one") | {"headers": {"authorization": [ADDRESS]}}
    found["no envelope"] = {"rcpt_to": ADDRESS}
    found["binary"] = encoded(alb("", batch_id="binary"), b"\x00\xff" + body.encode())
    return found


@pytest.mark.parametrize("auth", ["BASIC", "HEADER", "OAUTH2", "NONE", ""])
def test_ingest_logs_nothing_private(s3, logged, monkeypatch, auth):
    monkeypatch.setenv("WEBHOOK_AUTH", auth)
    monkeypatch.setenv("WEBHOOK_HEADER", "x-webhook-token")
    everything = requests()
    for event in everything.values():
        run(ingest.app.lambda_handler, event, logged)
        run(ingest.app.lambda_handler, event, logged)
    text = logged.getvalue()
    said = {json.loads(line).get("message") for line in text.splitlines()}
    assert "request rejected" in said
    assert said >= ({"batch stored", "batch was a duplicate"} if auth in ("BASIC", "NONE") else {"ping answered"})
    assert_clean(text, *set().union(*(private(event) for event in everything.values())))


@pytest.mark.parametrize(
    "failure", [StorageUnavailableError("GenericError"), RuntimeError("unforeseen")], ids=["known", "unforeseen"]
)
def test_ingest_that_fails_logs_nothing_private(s3, logged, monkeypatch, failure):
    class Broken:
        def put(self, *arguments: object, **options: object) -> bool:
            raise failure

    monkeypatch.setattr(ingest.app, "raw_batches", Broken)
    everything = requests()
    for event in everything.values():
        run(ingest.app.lambda_handler, event, logged)
    assert str(failure) in logged.getvalue()
    assert_clean(logged.getvalue(), *set().union(*(private(event) for event in everything.values())))


def odd_batches() -> dict[str, bytes]:
    """Batches of which much is quarantined, unknown, or named to look like something private."""
    event = {"type": "bounce", "event_id": "1", "timestamp": "1460989507", "rcpt_to": ADDRESS}
    names = [ADDRESS, "jane.doe", "jane doe", "+44123456789", "jane" * 40, "jane\u0000doe", 'jane"doe', "\ud83d jane"]
    elements: list[Any] = [
        *[{"msys": {"message_event": {**event, "event_id": f"n{n}", name: ADDRESS}}} for n, name in enumerate(names)],
        *[{"msys": {name: {**event, "event_id": f"c{n}"}}} for n, name in enumerate(names)],
        *[{"msys": {"message_event": {**event, "type": name, "event_id": f"t{n}"}}} for n, name in enumerate(names)],
        *[{"msys": {"message_event": event}, name: ADDRESS} for name in names],
        *[{name: ADDRESS} for name in names],
        {"msys": {"message_event": {**event, "event_id": {"id": ADDRESS}, "timestamp": ADDRESS, "msg_size": ADDRESS}}},
        {"msys": {ADDRESS: event, "jane": event}},
        {"msys": {"message_event": ADDRESS}},
        {"msys": ADDRESS},
        ADDRESS,
        None,
        7,
    ]
    return {
        "raw/odd.json": json.dumps(elements).encode(),
        "raw/text.json": f"to {ADDRESS}, password hunter2".encode(),
        "raw/cut.json": json.dumps(elements).encode()[:-20],
        "raw/latin.json": f'[{{"msys":{{"message_event":{{"rcpt_to":"{ADDRESS}\xe9"}}}}}}]'.encode("latin-1"),
        "raw/deep.json": b"[" * 100_000,
        "raw/nothing.json": b"",
        **{f"raw/{path.stem}.json": path.read_bytes() for path in sorted((EVENTS / "samples").glob("*.json"))},
    }


def test_process_logs_nothing_private(s3, logged):
    batches = odd_batches()
    for key, body in batches.items():
        s3.put_object(Bucket=RAW_BUCKET, Key=key, Body=body)
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/no-gzip.json", Body=ADDRESS.encode(), ContentEncoding="gzip")
    event = sqs(*({"Records": [created(key)]} for key in [*batches, "raw/no-gzip.json", "raw/gone.json"]))
    for number, odd in enumerate([ADDRESS, f'{{"Records": "{ADDRESS}"}}', f'["{ADDRESS}"]', "{"]):
        event["Records"].append({**event["Records"][0], "messageId": f"odd-{number}", "body": odd})
    run(process.app.lambda_handler, event, logged)
    text = logged.getvalue()
    [processed] = [
        line for line in map(json.loads, text.splitlines()) if line.get("message") == "raw batches processed"
    ]
    assert processed["quarantined"] >= 20
    assert processed["unknown_fields"] == 12  # in rows, not in copies of them
    assert processed["other_event"] >= 8
    assert '"message not understood"' in text
    assert '"events quarantined"' in text
    values = {leaf for key, body in batches.items() if "_event." in key for leaf in leaves(json.loads(body))}
    assert_clean(text, *(value for value in values if len(value) >= 10))


@pytest.mark.parametrize("failure", ["no bucket", "unforeseen"])
def test_process_that_fails_logs_nothing_private(s3, logged, monkeypatch, failure):
    batches = odd_batches()
    for key, body in batches.items():
        s3.put_object(Bucket=RAW_BUCKET, Key=key, Body=body)
    if failure == "no bucket":
        monkeypatch.setenv("LAKE_BUCKET", "no-such-bucket")
    else:
        monkeypatch.setattr(process.app, "_files", lambda *arguments: {}["jane.doe@example.com"])
    run(process.app.lambda_handler, sqs(*({"Records": [created(key)]} for key in batches)), logged)
    assert ("rows not written" if failure == "no bucket" else "raw batch ended its process") in logged.getvalue()
    assert_clean(logged.getvalue())


@pytest.mark.parametrize("secret", ["hunter2, jane", '{"password": 7, "username": "jane"}', '"hunter2"', "[]"])
def test_credentials_resource_logs_nothing_private(logged, monkeypatch, lambda_context, secret):
    class Secrets:
        def get_secret_value(self, **_: str) -> dict[str, str]:
            return {"SecretString": secret}

    monkeypatch.setattr(webhook_credentials.app.boto3, "client", lambda service, **_: Secrets())
    monkeypatch.setattr(webhook_credentials.app, "send", lambda url, answer, context: None)
    properties = {"SecretArn": "arn", "WebhookAuth": "BASIC"}
    event = {"RequestType": "Create", "StackId": "s", "RequestId": "r", "LogicalResourceId": "l", "ResponseURL": "u"}
    handler = webhook_credentials.app.lambda_handler
    run(lambda event, _: handler(event, lambda_context), {**event, "ResourceProperties": properties}, logged)
    assert_clean(logged.getvalue())
