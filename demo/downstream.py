"""The demo's second part (DOWNSTREAM=1), what the rows are for: PostgreSQL, automation, suppression list, report."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bird_webhooks.report_page import AthenaEngine, last_days, write
from bird_webhooks.simulator import sender_mix
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.terminal import step
from local_aws import postgres as local_postgres
from local_aws.deploy import Deployed
from local_aws.emulator import LOCAL, Emulator, LocalAwsError
from local_aws.postgres import Postgres
from local_aws.query import poll, query, table

BATCHES, EVENTS_A_BATCH = 120, 150
FORTNIGHT = timedelta(days=14)
PLANTED = {sender_mix.DOMAIN_THAT_RETURNS, sender_mix.BLOCKING_PROVIDER, sender_mix.CAMPAIGN_WITH_COMPLAINTS}
TIMEOUT_SECONDS = 120
COUNTS = "SELECT event_class, type, count(*) AS events FROM {} GROUP BY event_class, type ORDER BY event_class, type"
CANDIDATES = "rcpt_to, subaccount_id, reason, bounce_class, campaign_id, events, scope"
LIST = f"SELECT {CANDIDATES} FROM suppression_candidates ORDER BY last_seen DESC, rcpt_to, subaccount_id"  # noqa: S608


@dataclass(frozen=True)
class Downstream:
    postgres: Postgres
    parameters: Mapping[str, str]


@contextmanager
def running(emulator: Emulator) -> Iterator[Downstream]:
    """A PostgreSQL server, and the parameters of a stack that loads it and publishes events."""
    step("starting a PostgreSQL, and a secret with its address and login")
    with local_postgres.running() as server:
        text = json.dumps(server.secret())
        secret = emulator.client("secretsmanager").create_secret(Name="demo-postgres", SecretString=text)
        yield Downstream(
            server, {"PostgresSecretArn": secret["ARN"], "PublishEvents": "true", "PublishedMaximumAgeDays": "0"}
        )


def show(downstream: Downstream, stack: Deployed, recorded: int) -> bool:
    """Send two weeks of a sender's events, and show each part. `recorded`: events that are rows already.

    Returns whether PostgreSQL and Athena agree on the counts of all events and on the suppression list, and the report
    names the three planted troubles and nothing else.
    """
    queue = listen(stack, "demo-automation", {})
    sent = recorded + send_a_fortnight(stack)
    step("waiting for their rows, and for PostgreSQL")
    athena = poll(lambda: figures(query(stack, COUNTS.format("events_deduplicated"))), full(sent), TIMEOUT_SECONDS)
    with closing(downstream.postgres.connect()) as database:
        database.execute("SET search_path TO bird; SET TIME ZONE UTC")
        loaded = poll(lambda: figures_of(database, COUNTS.format("events")), full(sent), TIMEOUT_SECONDS)
        listed = [[text(value) for value in row] for row in database.execute(LIST.encode()).fetchall()]
    agree = athena == loaded and total(loaded) == sent
    step(
        f"{sent:,} events sent; Athena has {total(athena):,}, PostgreSQL {total(loaded):,}, "
        f"type by type {'the same' if agree else 'NOT the same'}"
    )
    step(f"one of the events that a rule on the bus {stack.outputs['EventBusName']} sent to a queue:")
    print(f"\n{json.dumps(received(stack, queue), indent=2)}\n", flush=True)
    candidates = query(stack, LIST)
    same = [list(candidate.values()) for candidate in candidates] == listed
    step(
        f"{len(candidates):,} addresses not to be mailed any more, in PostgreSQL {'too' if same else 'NOT so'}; "
        "the latest (suppression_candidates):"
    )
    print(f"\n{table(candidates[:12])}\n", flush=True)
    path = LOCAL / "report.html"
    found = write(AthenaEngine(stack.stack), last_days(7), stack.stack, path).findings
    step(f"the report of the last seven days: {path}; what needs attention on it:")
    for one in found:
        step(f"  {one.verdict}: {one.dimension} {one.name}, {one.rate.part:,} of {one.rate.whole:,} {one.rule.what}")
    return agree and same and {one.name for one in found} == PLANTED


def listen(stack: Deployed, name: str, detail: Mapping[str, Any]) -> str:
    """Create a queue, and a rule that sends it the bus's events that match `detail` ({}: all). Returns its URL."""
    events, sqs = stack.emulator.client("events"), stack.emulator.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus = stack.outputs["EventBusName"]
    pattern = {"source": ["bird-webhooks"], "detail-type": ["Bird Email Event"]} | (
        {"detail": detail} if detail else {}
    )
    rule = events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))["RuleArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return str(queue)


def received(stack: Deployed, queue: str) -> dict[str, Any]:
    sqs = stack.emulator.client("sqs")
    messages = poll(lambda: sqs.receive_message(QueueUrl=queue).get("Messages", []), bool, TIMEOUT_SECONDS)
    if not messages:
        raise LocalAwsError(f"no event arrived through the bus {stack.outputs['EventBusName']}")
    event: dict[str, Any] = json.loads(messages[0]["Body"])
    shown = ("id", "event_class", "type", "timestamp", "rcpt_to", "campaign_id", "bounce_class", "reason", "batch_id")
    detail = {name: event["detail"][name] for name in shown if name in event["detail"]}
    return {
        "source": event["source"],
        "detail-type": event["detail-type"],
        "detail": detail | {"and": f"{len(event['detail']) - len(detail)} fields more"},
    }


def send_a_fortnight(stack: Deployed) -> int:
    """Send batches like Bird's for one sender's mail. Returns the number of events."""
    maker = BatchMaker(
        1, datetime.now(UTC), line_breaks=False, spread_seconds=int(FORTNIGHT.total_seconds()), like_a_sender=True
    )
    batches = [*(maker.batch(number, events=EVENTS_A_BATCH) for number in range(BATCHES)), *maker.troubles()]
    events = sum(batch.events for batch in batches)
    step(f"sending {len(batches)} more batches: {events:,} events, like a sender's last two weeks, with three troubles")
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(Ledger(Path(directory) / "ledger.ndjson")) as ledger,
    ):
        login = Basic(*stack.credentials())
        report = Sender(stack.outputs["WebhookUrl"], login, ledger, connections=4, time_scale=100).run(batches)
    if report.given_up:
        raise LocalAwsError(f"{report.given_up} batches were not accepted: {dict(report.refused_attempts)}")
    return events


def figures(rows: list[dict[str, str | None]]) -> dict[tuple[str, str], int]:
    return {(str(row["event_class"]), str(row["type"])): int(row["events"] or 0) for row in rows}


def figures_of(database: Any, sql: str) -> dict[tuple[str, str], int]:
    """PostgreSQL's figures; none until the first file is loaded, because that creates the table."""
    if database.execute("SELECT to_regclass('events') IS NULL").fetchone()[0]:
        return {}
    return {(event_class, kind): events for event_class, kind, events in database.execute(sql)}


def total(found: Mapping[tuple[str, str], int]) -> int:
    return sum(found.values())


def full(events: int) -> Any:
    return lambda found: total(found) == events


def text(value: object) -> str | None:
    return None if value is None else str(value)
