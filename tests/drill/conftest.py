"""One stack with all that can fail, its policies enforced, and a table of what was seen of each fault."""

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import Lake, Verification, verify
from local_aws import deploy as local_stack
from local_aws.deploy import BUILT_TEMPLATE, Deployed, read_template
from local_aws.emulator import Emulator
from local_aws.query import poll
from local_aws.webhook import Request, basic, send
from tests import deployed

ROOT = Path(__file__).resolve().parents[2]
STACK = "bird-drill"
# As on AWS 900 s, so that the drill does not wait a quarter of an hour for each try.
HIDDEN_SECONDS = 3
# From the denial of a right until it works, and until the first sign of it, on a busy machine.
SIGN_SECONDS = 120
HEALTHY_SECONDS = 180
ROWS_SECONDS = 120
LOST_SECONDS = 5  # for rows that cannot come; all others are there by then
EVENTS = 60  # in a batch, so that some of each are of a type that is published

emulator, run = deployed.emulator, deployed.run
postgres, postgres_secret = deployed.postgres, deployed.postgres_secret


@pytest.fixture(scope="session")
def stack(emulator: Emulator, postgres_secret: str) -> Deployed:
    parameters = {"PublishEvents": "true", "PublishedMaximumAgeDays": "0", "PostgresSecretArn": postgres_secret}
    made = local_stack.create_or_update(emulator, STACK, parameters)
    hurry(made)
    return made


def hurry(stack: Deployed) -> None:
    """After each deployment, which sets these again."""
    local_stack.fix_event_sources(stack.emulator, stack.name)
    for output in ("ProcessQueueUrl", "PublishEventsQueueUrl"):
        hide(stack, output, HIDDEN_SECONDS)


def hide(stack: Deployed, output: str, seconds: int) -> None:
    """So long a message that failed waits for its next try."""
    attributes = {"VisibilityTimeout": str(seconds)}
    stack.stack.sqs.set_queue_attributes(QueueUrl=stack.outputs[output], Attributes=attributes)


@dataclass
class Row:
    """One line of the table. `within`: minutes, at most, until AWS would tell."""

    fault: str
    sign: str = "never"
    seconds: float = 0
    alarm: str = "never"
    within: str = ""
    steps: list[str] = field(default_factory=list)
    ledger: str = "ledger open"


table: list[Row] = []


def pytest_terminal_summary(terminalreporter) -> None:
    form = "{:<46} {:<22} {:>5}  {:<25}  {:>6}  {}"
    terminalreporter.write_line(form.format("fault", "first sign", "after", "alarm", "within", "steps to health"))
    for row in table:
        steps = f"{'; '.join(row.steps) or 'none'}  [{row.ledger}]"
        terminalreporter.write_line(
            form.format(row.fault, row.sign, f"{row.seconds:.0f} s", row.alarm, row.within, steps)
        )


seeds = count(1)


class Yes(io.StringIO):
    """A terminal at which a person answers each question with yes."""

    def isatty(self) -> bool:
        return True

    def readline(self, *size: int) -> str:
        return "y\n"


@dataclass
class Drill:
    """What a test does to the stack, sees of it, and does about it."""

    stack: Deployed
    row: Row
    ledger: Ledger
    maker: BatchMaker
    run: Callable[..., tuple[int, str, str]]
    before: dict = field(default_factory=dict)
    began: float = 0
    posted: list[Batch] = field(default_factory=list)

    # --- What Bird does, and what goes wrong ---

    def post(self, number: int, login: tuple[str, str] | None = None) -> list[Batch]:
        """So many batches of Bird's, which are all accepted."""
        batches = [self.maker.batch(len(self.posted) + one, events=EVENTS) for one in range(number)]
        self.posted += batches
        sender = Sender(
            self.stack.outputs["WebhookUrl"],
            Basic(*(login or self.stack.credentials())),
            self.ledger,
            connections=4,
            time_scale=1000,
            trust=self.stack.stack.trust,
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

    @contextmanager
    def hidden(self, output: str, seconds: int) -> Iterator[None]:
        hide(self.stack, output, seconds)
        try:
            yield
        finally:
            hide(self.stack, output, HIDDEN_SECONDS)

    @contextmanager
    def unannounced(self) -> Iterator[None]:
        """Somebody has changed which keys the raw bucket announces."""
        s3, bucket = self.stack.stack.s3, self.stack.outputs["RawBucketName"]
        was = s3.get_bucket_notification_configuration(Bucket=bucket)
        was.pop("ResponseMetadata")
        changed = json.loads(json.dumps(was).replace("raw/", "elsewhere/"))
        assert changed != was
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=changed)
        try:
            yield
        finally:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=was)

    # --- What the person on call sees ---

    def status(self) -> dict:
        return json.loads(self.run(self.stack, "status", "--json")[1])

    def begin(self) -> None:
        self.before = self.status()
        self.began = time.monotonic()

    def signs(self, sign: str) -> None:
        self.row.sign, self.row.seconds = sign, time.monotonic() - self.began

    def sees(self, line: str, figure: Callable[[dict], int]) -> dict:
        """Wait until `status` gives this line as a cause of its health, and a figure of it is higher than it was.

        Returns what it says then.
        """
        deadline = time.monotonic() + SIGN_SECONDS
        while line not in (status := self.status())["because_of"] or figure(status) <= figure(self.before):
            assert time.monotonic() < deadline, status
        self.signs(f"status: {line}")
        return status

    def alarms(self, name: str) -> None:
        """The alarm fires, and does so in minutes: the local CloudWatch judges it by the function's own metrics."""
        alarm = read_template(BUILT_TEMPLATE)["Resources"][name]["Properties"]
        periods = int(alarm.get("EvaluationPeriods", 1))
        # CloudWatch judges a sum or a maximum each minute, also of a period that has not ended.
        self.row.alarm, self.row.within = name, f"{periods * int(alarm['Period']) // 60 if periods > 1 else 5} min"
        if periods > 1:  # its first period is seen here, and the others would be like it
            return
        deadline = time.monotonic() + SIGN_SECONDS
        while not any(f"-{name}-" in one for one in self.status()["alarms"]["firing"]):
            assert time.monotonic() < deadline, self.status()["alarms"]

    def no_alarm(self, why: str) -> None:
        self.row.alarm, self.row.within = why, "-"

    # --- What that person does ---

    def follows(
        self, section: str, *commands: str, page: str = "runbook", also: Sequence[str] = (), exits: int = 0
    ) -> str:
        """Run commands as the section of the page prints them, `also` with what it says to add to them.

        Returns what the last one printed.
        """
        text = (ROOT / f"docs/{page}.md").read_text()
        found = re.search(rf"^(#+) {re.escape(section)}\n(.*?)(?=^#{{1,3}} |\Z)", text, re.MULTILINE | re.DOTALL)
        assert found, f"docs/{page}.md has no section {section}"
        printed = ""
        for command in commands:
            assert command in found[2], f"{section} does not print: {command}"
            status, printed, said = self.run(self.stack, *command.split()[1:], *also)
            assert status == exits, said
            self.did(" ".join([command, *also]).replace("bird-webhooks ", "").replace(" --stack-name stack", ""))
        return printed

    def did(self, step: str) -> None:
        self.row.steps.append(step)

    def recovers(self) -> None:
        """Wait until nothing waits and nothing is a dead letter: what failed has become rows."""
        status = poll(self.status, is_idle, HEALTHY_SECONDS)
        assert is_idle(status), status

    def deletes_dead_letters(self, *outputs: str) -> None:
        """By hand, when nothing is tried any more."""
        poll(self.status, nothing_waits, HEALTHY_SECONDS)
        for output in outputs:
            self.stack.stack.sqs.purge_queue(QueueUrl=self.stack.outputs[output])
        self.did("delete the messages that name it")

    def rows(self, where: str) -> int:
        sql = f"SELECT count(*) AS n FROM events_deduplicated WHERE {where}"  # noqa: S608
        [row] = self.stack.stack.athena(60).stream(sql)
        return int(row["n"])

    def judged(self, wait_seconds: float) -> Verification:
        lake = Lake.of(self.stack.stack)
        return verify(self.ledger, lake, wait_seconds=wait_seconds, progress=lambda text: None)

    def closes(self) -> None:
        """Everything that was accepted is there, once."""
        found = self.judged(ROWS_SECONDS)
        assert found.closes, str(found)
        assert found.accepted == found.found == EVENTS * len(self.posted)
        self.row.ledger = f"{len(self.posted)} batches, closed"

    def closes_without(self, batch_id: str) -> None:
        """Everything but the events of one batch."""
        assert self.rows(f"batch_id = '{batch_id}'") == 0
        found = self.judged(LOST_SECONDS)
        assert (found.lost, found.duplicated, found.invented, found.different) == (EVENTS, 0, 0, 0), str(found)
        assert found.found == EVENTS * (len(self.posted) - 1)
        self.row.ledger = f"{len(self.posted)} batches, closed but for one that is named"


def is_idle(status: dict) -> bool:
    left = [status["dead_letters"], *(status[name]["dead_letters"] for name in ("PostgreSQL", "event_bus"))]
    return not any(left) and nothing_waits(status)


def nothing_waits(status: dict) -> bool:
    queues = [status[name] for name in ("queue", "PostgreSQL", "event_bus")]
    return not any(queue["waiting"] or queue.get("taken") for queue in queues)


@pytest.fixture
def drill(stack, run, request, tmp_path, monkeypatch) -> Iterator[Drill]:
    monkeypatch.setattr(sys, "stdin", Yes())
    row = Row(request.node.name.removeprefix("test_").replace("_", " "))
    table.append(row)
    ledger = Ledger(tmp_path / "ledger.ndjson")
    yield Drill(stack, row, ledger, BatchMaker(next(seeds), datetime.now(UTC), spread_seconds=1), run)
    ledger.close()
