"""Replaces the parts of AWS where tests inject faults: a front door and a queue's poller, with processes to kill.

Both use the deployed stack's buckets and queue, so its own process function, Athena and the ledger decide the result.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from local_aws.emulator import SECRET_KEY

ROOT = Path(__file__).resolve().parents[2]
ALB_BODY_BYTES = (
    1024 * 1024
)  # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
WAIT_SECONDS = 60
LOGICAL_IDS = {
    "ingest": "IngestFunction",
    "process": "ProcessFunction",
    "maintenance": "TableMaintenanceFunction",
}


class FunctionProcess:
    """ingest, process or the table's maintenance, with the deployed function's settings, and S3 by way of `s3_url`."""

    def __init__(self, stack, function: str, s3_url: str) -> None:
        logical_id = LOGICAL_IDS[function]
        configuration = stack.emulator.client("lambda").get_function_configuration(
            FunctionName=stack.resources()[logical_id]
        )
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **configuration["Environment"]["Variables"],
            "PYTHONPATH": str(ROOT / "functions"),
            "AWS_ENDPOINT_URL": s3_url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": stack.emulator.access_key,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        self._command = [sys.executable, Path(__file__).with_name("function_process.py"), function]
        self._environment = environment
        self._process: subprocess.Popen | None = None
        self.slowest_seconds = 0.0

    def invoke(self, event: dict) -> dict | None:
        """The answer; None if the process died over it. The next call has a new one."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        began = time.monotonic()
        try:
            self._process.stdin.write(json.dumps(event) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        except BrokenPipeError:
            return None
        return json.loads(line) if line else None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            with suppress(BrokenPipeError):  # what it had not read yet
                self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


class Front:
    """A load balancer with a Lambda target, and its limits: 502 if the function dies, 413 for a body over 1 MB."""

    def __init__(self, stack, s3_url: str, *, processes: int = 8, http_api: bool = False) -> None:
        self._idle: queue.Queue = queue.Queue()
        self._all = [FunctionProcess(stack, "ingest", s3_url) for _ in range(processes)]
        for process in self._all:
            self._idle.put(process)
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) > ALB_BODY_BYTES and not http_api:
                    answer = {"statusCode": 413, "body": ""}
                else:
                    answer = front._invoke(http_api_event(self, body) if http_api else alb_event(self, body))
                self.send_response_only(answer["statusCode"])
                self.end_headers()
                self.wfile.write(answer["body"].encode())

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            block_on_close = False
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A sender that did not wait."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/bird"

    @property
    def slowest_seconds(self) -> float:
        return max(process.slowest_seconds for process in self._all)

    def kill_all(self) -> None:
        """As if their machines were gone."""
        for process in self._all:
            process.kill()

    def _invoke(self, event: dict) -> dict:
        process = self._idle.get()
        try:
            return process.invoke(event) or {"statusCode": 502, "body": ""}
        finally:
            self._idle.put(process)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for process in self._all:
            process.end()


def alb_event(request: BaseHTTPRequestHandler, body: bytes) -> dict:
    headers = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:0:targetgroup/t/0"}},
        "httpMethod": request.command,
        "path": request.path,
        "multiValueHeaders": headers,
        "multiValueQueryStringParameters": {},
        "body": body.decode(),
        "isBase64Encoded": False,
    }


def http_api_event(request: BaseHTTPRequestHandler, body: bytes) -> dict:
    return {
        "version": "2.0",
        "rawPath": request.path,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "requestContext": {"http": {"method": request.command, "path": request.path}},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


class Poller:
    """Takes messages off the stack's queue, in the place of Lambda's own poller, which rests meanwhile."""

    def __init__(self, stack) -> None:
        self._lambda = stack.emulator.client("lambda")
        self._sqs = stack.emulator.client("sqs")
        self._queue = stack.outputs["ProcessQueueUrl"]
        self._mapping = stack.resources()["ProcessFunctionRawBatchCreated"]

    def __enter__(self):
        self._lambda.update_event_source_mapping(UUID=self._mapping, Enabled=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._lambda.update_event_source_mapping(UUID=self._mapping, Enabled=True)

    def take(self, wanted: int, *, hidden_seconds: int) -> list[dict]:
        """That many messages, not deleted: they come again after `hidden_seconds`."""
        found: dict[str, dict] = {}
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found) < wanted and time.monotonic() < deadline:
            got = self._sqs.receive_message(
                QueueUrl=self._queue, MaxNumberOfMessages=10, VisibilityTimeout=hidden_seconds, WaitTimeSeconds=1
            )
            found |= {message["MessageId"]: message for message in got.get("Messages", [])}
        assert len(found) >= wanted, f"{len(found)} of {wanted} messages came"
        return list(found.values())

    def acknowledge(self, messages: list[dict]) -> None:
        for message in messages:
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])


def invocation(messages: list[dict]) -> dict:
    """What Lambda's poller hands to the function."""
    return {
        "Records": [
            {"messageId": message["MessageId"], "body": message["Body"], "eventSource": "aws:sqs"}
            for message in messages
        ]
    }
