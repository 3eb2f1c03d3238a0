"""Fixtures of e2e and drill: a local AWS with enforced IAM policies, a PostgreSQL, and the operator's program."""

import json
from collections.abc import Iterator

import pytest

from bird_webhooks import __main__ as operate
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws import postgres as local_postgres
from local_aws.emulator import Emulator
from local_aws.postgres import Postgres


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Its clean-ups after updates are short; tests/e2e/test_local_aws.py tries what is refused meanwhile.

    Only the shared stack's new roles work late: every other stack would wait 2 s for each of its functions too.
    """
    local_emulator.forget_real_aws()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRICT_AWS_CLEANUP", "0.5")
        patch.setenv("STRICT_AWS_ROLE_OF", "bird-e2e,bird-drill")
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
    text = json.dumps(postgres.secret())
    made = emulator.client("secretsmanager").create_secret(Name="marketing-database", SecretString=text)
    return str(made["ARN"])


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(stack, "status")` as from the command line: exit status, what was printed, what was said beside it."""

    def command(stack, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
        status = operate.main([*arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command
