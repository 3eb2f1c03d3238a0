"""One local AWS with enforced IAM policies for the whole suite, the real template deployed to it by `sam deploy`."""

import json
from collections.abc import Iterator

import pytest

from tools import local_emulator, local_postgres, local_stack
from tools.local_emulator import Emulator
from tools.local_postgres import Postgres
from tools.local_stack import Stack


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with local_emulator.running(auth=True) as started:
        local_stack.build()
        yield started


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with local_postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_secret(emulator: Emulator, postgres: Postgres) -> str:
    """The ARN of the secret with the connection, as the user of PostgresSecretArn makes it."""
    text = json.dumps({**postgres.secret(), "sslrootcert": postgres.ca_certificate.read_text()})
    made = emulator.client("secretsmanager").create_secret(Name="bird-postgres", SecretString=text)
    return str(made["ARN"])


@pytest.fixture(scope="session")
def stack(emulator: Emulator, postgres_secret: str) -> Stack:
    """With every part that is optional, so that every role is there; `localhost` stands for Bird's sending name."""
    return local_stack.deploy(
        emulator, "bird-e2e", {"SenderHostName": "localhost", "PostgresSecretArn": postgres_secret}
    )
