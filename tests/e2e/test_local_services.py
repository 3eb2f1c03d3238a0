"""The local AWS, PostgreSQL and S3 are open to neither browsers, nor other machines, nor other accounts of this one.

It sends what a web page could send: the local AWS runs functions as the developer.
"""

import json
import socket
import subprocess
from collections.abc import Iterator

import pytest
import urllib3

from local_aws import emulator as local_emulator
from local_aws import invoke
from local_aws import postgres as local_postgres
from local_aws.emulator import Emulator

FUNCTIONS = "/2015-03-31/functions"
SIGNED = "AWS4-HMAC-SHA256 Credential={key}/20261125/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=00"


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with local_emulator.running() as started:
        yield started


def ask(aws: Emulator, method: str, path: str, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = urllib3.request(method, aws.endpoint_url + path, headers=named, retries=False, timeout=60)
    return answer.status, answer.data.decode()


def signed(key: str) -> str:
    return SIGNED.format(key=key)


WEB_PAGES = [
    pytest.param({"Origin": "https://evil.example"}, "answers no browser", id="a page's script"),
    pytest.param({"Origin": "http://localhost:3000"}, "answers no browser", id="a page of another local service"),
    pytest.param({"Sec_Fetch_Site": "cross-site"}, "answers no browser", id="a page's image or form"),
    pytest.param({"Host": "rebound.evil.example"}, "answers to its own address only", id="DNS rebinding"),
    pytest.param({"Host": "127.0.0.1.evil.example"}, "answers to its own address only", id="a name that looks local"),
]


@pytest.mark.parametrize("path", [FUNCTIONS, "/", "/_ministack/health", "/_alb/any/bird"])
@pytest.mark.parametrize(("headers", "reason"), WEB_PAGES)
def test_what_a_web_page_could_send_is_refused(aws, path, headers, reason):
    status, said = ask(aws, "POST", path, Authorization=signed(aws.access_key), Content_Type="text/plain", **headers)
    assert (status, reason in said) == (403, True)


@pytest.mark.parametrize("key", ["test", "000000000000", "AKIAIOSFODNN7EXAMPLE", ""])
@pytest.mark.parametrize("path", [FUNCTIONS, "/a-bucket/key", "/_ministack/reset"])
def test_who_does_not_know_the_key_is_refused(aws, path, key):
    headers = {"Authorization": signed(key)} if key else {}
    status, said = ask(aws, "GET", path, **headers)
    assert (status, "does not know this access key" in said) == (403, True)


def test_who_knows_the_key_is_answered(aws):
    assert ask(aws, "GET", FUNCTIONS, Authorization=signed(aws.access_key))[0] == 200
    aws.client("s3").create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    link = aws.client("s3").generate_presigned_url("list_objects_v2", {"Bucket": "mine"})
    assert urllib3.request("GET", link, timeout=60).status == 200


def test_the_webhook_needs_no_key_of_aws(aws):
    assert ask(aws, "POST", "/_alb/none/bird")[0] != 403
    assert json.loads(ask(aws, "GET", "/_ministack/health")[1])


def listens(port: int) -> set[str]:
    said = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return {line.split()[3].rpartition(":")[0] for line in said.splitlines()}


def test_the_local_aws_listens_on_loopback_only(aws):
    assert listens(aws.port) == {"127.0.0.1"}


def test_the_s3_of_sam_local_invoke_listens_on_loopback_and_the_bridge_of_the_engine(monkeypatch):
    monkeypatch.setattr(invoke, "engine_bridge", lambda: "127.0.0.9")
    with invoke.local_s3() as port:
        assert listens(port) == {"127.0.0.1", "127.0.0.9"}
        assert urllib3.request("GET", f"http://127.0.0.9:{port}/", timeout=60).status == 200
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_local_postgresql_is_its_owner_s(aws):
    with local_postgres.running() as server:
        assert listens(server.port) == {"127.0.0.1"}
        [path] = server.sockets.glob(".s.PGSQL.*[0-9]")
        assert server.sockets.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o700
