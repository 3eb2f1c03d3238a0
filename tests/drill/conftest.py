"""One stack with all that can fail, its policies enforced, and a table of what was seen of each fault."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import Lake, verify
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws import postgres as local_postgres
from local_aws.deploy import BUILT_TEMPLATE, Deployed, read_template
from local_aws.emulator import Emulator
from local_aws.postgres import Postgres
from local_aws.webhook import Request, basic, send

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
STACK = "bird-drill"
# As on AWS 900 s, so that the drill does not wait a quarter of an hour for each try.
HIDDEN_SECONDS = 3
# From the denial of a right until it works, and until the first sign of it, on a busy machine.
SIGN_SECONDS = 120
HEALTHY_SECONDS = 180
ROWS_SECONDS = 120
EVENTS = 60  # in a batch, so that some of each are of a type that is published


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
def stack(emulator: Emulator, postgres: Postgres) -> Deployed:
    text = json.dumps(postgres.secret())
    secret = emulator.client("secretsmanager").create_secret(Name="drill-postgres", SecretString=text)
    parameters = {"PublishEvents": "true", "PublishedMaximumAgeDays": "0", "PostgresSecretArn": secret["ARN"]}
    made = local_stack.create_or_update(emulator, STACK, parameters)
    for output in ("ProcessQueueUrl", "PublishEventsQueueUrl"):
        made.stack.sqs.set_queue_attributes(
            QueueUrl=made.outputs[output], Attributes={"VisibilityTimeout": str(HIDDEN_SECONDS)}
        )
    return made


@dataclass
class Row:
    """One line of the table."""

    fault: str
    sign: str = "never"
    seconds: float = 0
    alarm: str = ""
    minutes: float = 0
    steps: list[str] = field(default_factory=list)
    ledger: str = ""


table: list[Row] = []


def pytest_terminal_summary(terminalreporter) -> None:
    form = "{:<32} {:<16} {:>6}  {:<26} {:>8}  {}"
    terminalreporter.write_line(form.format("fault", "first sign", "after", "alarm", "within", "steps to health"))
    for row in table:
        seconds, minutes = f"{row.seconds:.0f} s", f"{row.minutes:g} min"
        steps = f"{'; '.join(row.steps) or 'none'}  [{row.ledger or 'ledger open'}]"
        terminalreporter.write_line(form.format(row.fault, row.sign, seconds, row.alarm, minutes, steps))


seeds = count(1)


@dataclass
class Drill:
    """What a test does to the stack, sees of it, and does about it."""

    stack: Deployed
    row: Row
    ledger: Ledger
    maker: BatchMaker
    run: object
    began: float = 0
    sent: int = 0
    posted: list[Batch] = field(default_factory=list)

    def post(self, number: int) -> list[Batch]:
        """So many batches of Bird's, which are all accepted."""
        batches = [self.maker.batch(self.sent + one, events=EVENTS) for one in range(number)]
        self.sent += number
        self.posted += batches
        login, trust = Basic(*self.stack.credentials()), self.stack.stack.trust
        sender = Sender(
            self.stack.outputs["WebhookUrl"], login, self.ledger, connections=4, time_scale=1000, trust=trust
        )
        assert sender.run(batches).accepted == number
        return batches

    def attempt(self, body: bytes, batch_id: str, password: str | None = None) -> int:
        """One request, once. Returns the answer's status."""
        user, right = self.stack.credentials()
        headers = {"x-messagesystems-batch-id": batch_id, **basic((user, password or right))}
        return send(self.stack, Request("POST", {"content-type": "application/json", **headers}, body)).status

    @contextmanager
    def denied(self, role: str, action: str, resource: str = "*") -> Iterator[None]:
        """A policy of somebody's that takes a right away from one of the stack's roles."""
        statement = {"Effect": "Deny", "Action": action, "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam, name = self.stack.emulator.client("iam"), self.stack.resources()[role]
        iam.put_role_policy(RoleName=name, PolicyName="drill", PolicyDocument=policy)
        time.sleep(3)  # the local IAM takes a while, as AWS' does
        try:
            yield
        finally:
            iam.delete_role_policy(RoleName=name, PolicyName="drill")
            time.sleep(3)

    def status(self) -> dict:
        return json.loads(self.run("status", "--json")[1])

    def begin(self) -> None:
        self.began = time.monotonic()

    def sees(self, line: str) -> dict:
        """Wait until `status` gives this line as a cause of its health. Returns what it says then."""
        deadline = time.monotonic() + SIGN_SECONDS
        while line not in (status := self.status())["because_of"]:
            assert time.monotonic() < deadline, status
        self.row.seconds = time.monotonic() - self.began
        self.row.sign = line
        return status

    def alarms(self, name: str) -> None:
        """The alarm fires, and does so in minutes: the local CloudWatch judges it by the function's own metrics."""
        alarm = read_template(BUILT_TEMPLATE)["Resources"][name]["Properties"]
        periods = int(alarm.get("EvaluationPeriods", 1))
        self.row.alarm, self.row.minutes = name, periods * int(alarm["Period"]) / 60
        if periods > 1:  # its first period is seen here, and the others would be like it
            return
        deadline = time.monotonic() + SIGN_SECONDS
        while not any(f"-{name}-" in one for one in self.status()["alarms"]["firing"]):
            assert time.monotonic() < deadline, self.status()["alarms"]

    def follows(self, section: str, *commands: str) -> str:
        """Run commands as the section of the runbook prints them. Returns what the last one printed."""
        text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)[1]
        printed = ""
        for command in commands:
            assert command in text, f"{section} does not print: {command}"
            status, printed, said = self.run(*command.split()[1:])
            assert status == 0, said
            self.row.steps.append(command.replace("bird-webhooks ", "").replace(" --stack-name stack", ""))
        return printed

    def recovers(self) -> None:
        """Wait until nothing waits and nothing is a dead letter: what failed has become rows."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while not self.is_idle(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(1)

    def is_idle(self, status: dict) -> bool:
        queues = [status[name] for name in ("queue", "PostgreSQL", "event_bus")]
        left = [status["dead_letters"], *(queue.get("dead_letters", 0) for queue in queues)]
        return not any(left) and not any(queue["waiting"] or queue.get("taken") for queue in queues)

    def closes(self) -> None:
        """Everything that was accepted is there, once."""
        found = verify(self.ledger, Lake.of(self.stack.stack), wait_seconds=ROWS_SECONDS, progress=lambda text: None)
        assert found.closes, str(found)
        assert found.accepted == found.found == EVENTS * self.sent
        self.row.ledger = f"{self.sent} batches, closed"


@pytest.fixture
def drill(stack, request, tmp_path, monkeypatch, capsys) -> Iterator[Drill]:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
        status = operate.main([*arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    row = Row(request.node.name.removeprefix("test_").replace("_", " "))
    table.append(row)
    ledger = Ledger(tmp_path / "ledger.ndjson")
    yield Drill(stack, row, ledger, BatchMaker(next(seeds), datetime.now(UTC), spread_seconds=1), run)
    ledger.close()
