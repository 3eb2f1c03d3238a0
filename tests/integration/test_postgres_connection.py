"""Credentials go only to a server that proves to be the database: the operator's program against a false one."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

import load_postgres.app
from bird_webhooks import __main__ as operate
from bird_webhooks import report_page as report
from bird_webhooks.errors import OperateError
from bird_webhooks.operate import erase, lists
from bird_webhooks.stack import Stack
from load_postgres.connection import guarded, parameters, region_of
from load_postgres.errors import UnavailableError
from local_aws import postgres as local_postgres

PASSWORD = "top-secret-password"
AUTHENTICATION_CLEARTEXT_PASSWORD = b"R\x00\x00\x00\x08\x00\x00\x00\x03"
SSL_REQUEST_BYTES = 8


class Impostor:
    """A TLS server with a certificate of its own making, which asks each client for its password in clear."""

    def __init__(self, directory: Path) -> None:
        local_postgres.make_certificate(directory)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(directory / "server.crt", directory / "server.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.asked = 0
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.settimeout(10)
            try:
                client.recv(SSL_REQUEST_BYTES)
                client.sendall(b"S")
                with self.tls.wrap_socket(client, server_side=True) as encrypted:
                    self.heard += encrypted.recv(1024)  # who wants in, to which database
                    self.asked += 1
                    encrypted.sendall(AUTHENTICATION_CLEARTEXT_PASSWORD)
                    self.heard += encrypted.recv(1024)
            except OSError:
                client.close()

    def secret(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": "marketing",
            "username": "bird",
            "password": PASSWORD,
        }


class CloudFormation:
    def __init__(self, tls: str) -> None:
        self.tls = tls

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
        return {"Stacks": [{"Parameters": [{"ParameterKey": "PostgresTls", "ParameterValue": self.tls}]}]}


@pytest.fixture
def impostor(tmp_path) -> Iterator[Impostor]:
    server = Impostor(tmp_path)
    yield server
    server.listener.close()


@pytest.fixture
def secrets(s3, moto_endpoint) -> Iterator[Any]:
    client = boto3.client("secretsmanager", endpoint_url=moto_endpoint)
    yield client
    client.delete_secret(SecretId="database", ForceDeleteWithoutRecovery=True)
    client.close()


def stack_of(secrets: Any, tls: str) -> Stack:
    return Stack("stack", {"secretsmanager": secrets, "cloudformation": CloudFormation(tls)}.__getitem__)


@pytest.mark.parametrize("tls", ["VERIFY_FULL", "REQUIRE"])
def test_no_tool_sends_the_password_to_a_server_that_only_claims_to_be_the_database(impostor, secrets, tls):
    arn = secrets.create_secret(Name="database", SecretString=json.dumps(impostor.secret()))["ARN"]
    target = stack_of(secrets, tls)
    with pytest.raises(OperateError):
        list(lists.from_postgres(target, arn, "bird", "SELECT 1"))
    with pytest.raises(OperateError):
        erase.Table(target, "database", "bird")
    with pytest.raises(OperateError):
        report.PostgresEngine(target, arn, "bird").rows({"one": "SELECT 1"})
    # REQUIRE encrypts but trusts any server; a password in clear text is still not sent.
    assert impostor.asked == (0 if tls == "VERIFY_FULL" else 3)
    assert PASSWORD.encode() not in impostor.heard


def test_report_without_a_stack_verifies_the_server(impostor, secrets, monkeypatch, tmp_path, capsys):
    arn = secrets.create_secret(Name="database", SecretString=json.dumps(impostor.secret()))["ARN"]
    monkeypatch.setattr(operate, "deployed", lambda *_: Stack("", {"secretsmanager": secrets}.__getitem__))
    assert operate.main(["report", "--postgres", arn, "--output", str(tmp_path / "page.html")]) == 1
    assert "certificate verify failed" in capsys.readouterr().err
    assert PASSWORD.encode() not in impostor.heard


def test_connection_string_sends_no_password_in_clear_unless_it_says_so(impostor):
    given = f"host=127.0.0.1 port={impostor.port} dbname=x user=bird password={PASSWORD} sslmode=require"
    with pytest.raises(psycopg.OperationalError, match="authentication method requirement"):
        psycopg.connect(guarded(given))
    assert impostor.asked == 1
    assert PASSWORD.encode() not in impostor.heard
    assert guarded("require_auth=password host=x") == "require_auth=password host=x"
    assert guarded("sslmode=verify-full host=x") == "sslmode=verify-full host=x"


REGIONS = [
    pytest.param("arn:aws:secretsmanager:eu-west-3:123456789012:secret:marketing-AbCdEf", "eu-west-3", id="ARN"),
    pytest.param("marketing-db", None, id="name"),
    pytest.param("a:b", None, id="not an ARN"),
]


@pytest.mark.parametrize(("secret", "region"), REGIONS)
def test_region_is_the_one_that_the_arn_names(secret, region):
    assert region_of(secret) == region


def test_function_and_tools_read_a_secret_of_another_region(s3, moto_endpoint, monkeypatch):
    def client(service: str, region: str = "eu-west-1") -> Any:
        return boto3.client(service, region_name=region, endpoint_url=moto_endpoint)

    there = client("secretsmanager", "eu-central-1")
    arn = there.create_secret(Name="far", SecretString='{"host": "db.example.com"}')["ARN"]
    try:
        monkeypatch.setenv("POSTGRES_SECRET_ARN", arn)
        assert load_postgres.app.secret() == {"host": "db.example.com"}
        assert Stack("stack", client).secret_text(arn) == '{"host": "db.example.com"}'
    finally:
        there.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def test_secret_that_lacks_something_is_named_and_not_printed():
    with pytest.raises(UnavailableError, match="the secret lacks host, username"):
        parameters({"dbname": "x", "password": PASSWORD}, verify=True)
