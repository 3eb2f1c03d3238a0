"""A local S3 (moto's server), since obstore speaks HTTP itself and does not see moto's mocks."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.s3.models import s3_backends

from tests.integration import moto_server

RAW_BUCKET = "raw-bucket"
LAKE_BUCKET = "lake-bucket"


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with moto_server.running() as address:
        yield address


@pytest.fixture(scope="session")
def s3_client(moto_endpoint: str) -> Any:
    return moto_server.client("s3", moto_endpoint)


@pytest.fixture
def s3(moto_endpoint: str, s3_client: Any, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client with both buckets made, and nothing else; both functions are set up to use them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("RAW_BUCKET", RAW_BUCKET)
    monkeypatch.setenv("RAW_PREFIX", "raw")
    monkeypatch.setenv("LAKE_BUCKET", LAKE_BUCKET)
    monkeypatch.setenv("OUTPUT_FORMAT", "PARQUET")
    monkeypatch.setenv("WEBHOOK_AUTH", "BASIC")
    monkeypatch.setenv("CREDENTIAL_DIGESTS", hashlib.sha256(b"bird:example-password").hexdigest())
    for bucket in (RAW_BUCKET, LAKE_BUCKET):
        s3_client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield s3_client
    s3_backends.reset()  # of this process, in which the server is a thread: quicker than to ask it


@pytest.fixture
def cloudformation() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes the answer, and the answers it took."""
    answers: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    server.server_close()


class LambdaContext:
    """Lambda's context, with seconds left; only the function's `time.sleep` lets them pass."""

    def __init__(self, seconds: float = 90) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def lambda_context() -> LambdaContext:
    return LambdaContext()


class StackState:
    """CloudFormation's word on the stack's state; `denied` as a role without the right to ask hears."""

    status = "CREATE_IN_PROGRESS"
    denied = False

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        if self.denied:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeStacks")
        return {"Stacks": [{"StackName": StackName, "StackStatus": self.status}]}


@pytest.fixture
def stack_state() -> StackState:
    return StackState()
