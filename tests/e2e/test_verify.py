"""`verify` on the deployed stack: once as it should be, then with each thing that can be broken.

A resolver and a TLS server of the test stand for DNS and certificates; alarm states are set.
"""

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import verify, verify_event, verify_sql
from bird_webhooks.operate.front_door import Network
from bird_webhooks.stack import Stack
from local_aws.deploy import local_front_door
from local_aws.query import poll, query
from tests import tls_door
from tests.e2e.conftest import BIRD_API_KEY, DOMAIN_NAME

LEFT = f"SELECT count(*) AS events FROM events WHERE type = '{verify_event.EVENT_TYPE}'"  # noqa: S608


class Internet:
    """Names to addresses; all of them lead to the door, but for those that lead nowhere."""

    NOWHERE = "203.0.113.9"

    def __init__(self, door: tls_door.Door, names: dict[str, list[str]], trust: list) -> None:
        self.door, self.trust = door, trust
        self.names = {"127.0.0.1": ["127.0.0.1"], **names}

    @property
    def network(self) -> Network:
        def connect(address: tuple[str, int], timeout: float) -> socket.socket:
            host, port = address
            if host == self.NOWHERE:
                raise TimeoutError("timed out")
            return socket.create_connection(("127.0.0.1", self.door.port if port == 443 else port), timeout)

        def trusted() -> ssl.SSLContext:
            context = ssl.create_default_context()
            for file in self.trust:
                context.load_verify_locations(file)
            return context

        return Network(lambda host: self.names.get(host, []), connect, trusted)


class Subscriptions:
    """SNS, where a subscription that is not confirmed has no ARN yet: the local AWS lists it with one.

    https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html
    """

    def __init__(self, sns) -> None:
        self.sns = sns

    def __getattr__(self, name: str):
        return getattr(self.sns, name)

    def get_paginator(self, operation: str) -> "Subscriptions":
        assert operation == "list_subscriptions_by_topic"
        return self

    def paginate(self, **request: str) -> list[dict]:
        found = self.sns.list_subscriptions_by_topic(**request)["Subscriptions"]
        for one in found:
            about = self.sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])["Attributes"]
            if about["PendingConfirmation"] == "true":
                one["SubscriptionArn"] = "PendingConfirmation"
        return [{"Subscriptions": found}]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return tls_door.Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def reached(stack, authority, names: dict[str, list[str]]) -> Iterator[Internet]:
    """The stack's front door behind a certificate for the first of the names."""
    emulator = stack.emulator
    trust = ssl.create_default_context(cafile=emulator.certificate)
    door = tls_door.Door(authority.server(next(iter(names))), local_front_door(emulator, stack.name), trust)
    with tls_door.running(door):
        yield Internet(door, names, [authority.file, emulator.certificate])


@pytest.fixture(scope="module")
def internet(stack, authority) -> Iterator[Internet]:
    balancer = stack.outputs["LoadBalancerDnsName"]
    with reached(stack, authority, {DOMAIN_NAME: ["192.0.2.1"], balancer: ["192.0.2.1", "192.0.2.2"]}) as there:
        yield there


@pytest.fixture(scope="module")
def told(stack) -> Iterator[str]:
    """A subscription to the alarms, a report, and no messages of other tests: the ARN of the topic."""
    for name in [name for name in stack.outputs if name.endswith("QueueUrl")]:
        stack.emulator.client("sqs").purge_queue(QueueUrl=stack.outputs[name])
    sns, topic = stack.emulator.client("sns"), stack.resources()["AlarmTopic"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:eu-west-1:000000000000:on-call")
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    s3.put_object(Bucket=bucket, Key="reports/latest.html", Body=b"<html>", ContentType="text/html; charset=utf-8")
    yield topic
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    s3.delete_object(Bucket=bucket, Key="reports/latest.html")


@pytest.fixture
def run_on(monkeypatch, capsys):
    """`run_on(stack, internet)` as from the command line: exit status, the lines by their name, the JSON document."""
    monkeypatch.setattr(verify, "DRAIN_SECONDS", 5)

    def command(
        stack, internet: Internet, *, questions: bool = True, firing: str = ""
    ) -> tuple[int, dict[str, str], dict]:
        set_alarms(stack, firing)

        def client(service: str):
            made = stack.emulator.client(service)
            return Subscriptions(made) if service == "sns" else made

        target = Stack(stack.name, client, poll_seconds=0.3)
        monkeypatch.setattr(operate, "deployed", lambda *names: target)
        monkeypatch.setattr(verify, "Network", lambda: internet.network)
        if not questions:
            monkeypatch.setattr(verify.Verification, "statements", lambda self: {})
        status = operate.main(["verify", "--json"])
        said = capsys.readouterr()
        document = json.loads(said.out)
        print(said.err)  # noqa: T201  (what a failure shows)
        assert [check["name"] for check in document["checks"] if f"{check['status']:<10}" not in said.err] == []
        return status, {check["name"]: check["status"] for check in document["checks"]}, document

    return command


@pytest.fixture
def run(run_on, stack, internet, told):
    return partial(run_on, stack, internet)


def set_alarms(stack, firing: str) -> None:
    """Only this alarm fires, whatever other tests have done to the stack: a state that is set stays for a minute."""
    cloudwatch = stack.emulator.client("cloudwatch")
    for alarm in stack.stack.physical_ids("AWS::CloudWatch::Alarm"):
        state = "ALARM" if alarm == firing else "OK"
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue=state, StateReason="test")


def failed(lines: dict[str, str]) -> set[str]:
    return {name for name, status in lines.items() if status == "failed"}


def said(document: dict, name: str) -> str:
    [check] = [check for check in document["checks"] if check["name"] == name]
    return check["said"]


def left_over(stack) -> int:
    return int(query(stack, LEFT)[0]["events"] or 0)


def test_a_healthy_stack_is_proved_and_nothing_stays(stack, run, internet, postgres):
    status, lines, document = run()
    assert (status, failed(lines)) == (0, set()), document
    assert {name for name, found in lines.items() if found != "ok"} <= {
        "setting concurrency",
        "setting Lake Formation",
    }
    assert [name for name in lines if name.startswith("view ")] == [
        "view bounce_classes",
        "view complaint_reporters",
        "view completeness",
        "view events_deduplicated",
        "view list_export",
        "view mail_events",
        "view message_timeline",
        "view recipient_engagement",
        "view suppression_candidates",
    ]
    saved = [f"query {name}" for name in sorted(verify_sql.saved_queries())]
    assert [name for name in lines if name.startswith("query ")] == saved
    # The one row of the day, while it was there.
    assert said(document, "batch stored") == "through the front door"
    assert said(document, "test data removed") == "1 rows, 1 batches"
    assert [one for one in internet.door.requests if one.startswith("POST")] == ["POST /bird"] * 3
    # THEN nothing of it is left, and nobody was told of it
    assert left_over(stack) == 0
    with closing(postgres.connect()) as connection:
        [[rows]] = connection.execute(
            "SELECT count(*) FROM bird.events WHERE type = %s", [verify_event.EVENT_TYPE]
        ).fetchall()
    assert rows == 0
    s3, bucket = stack.emulator.client("s3"), stack.outputs["RawBucketName"]
    versions = s3.list_object_versions(Bucket=bucket, Prefix=f"raw/{verify_event.MARK}")["Versions"]
    assert [(version["Size"], version["IsLatest"]) for version in versions] == [(len(b"[]"), True)]
    # ... and the document can be shown to anybody
    text = json.dumps(document)
    username, password = stack.credentials()
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    secret = [password, pair, BIRD_API_KEY, DOMAIN_NAME, "000000000000", "192.0.2.1", stack.outputs["RawBucketName"]]
    assert [one for one in secret if one in text] == []


@contextmanager
def notifications_of(stack, prefix: str) -> Iterator[None]:
    """The raw bucket announces keys with that prefix only."""
    s3, bucket = stack.emulator.client("s3"), stack.outputs["RawBucketName"]
    was = s3.get_bucket_notification_configuration(Bucket=bucket)
    was.pop("ResponseMetadata")
    changed = json.loads(json.dumps(was))
    for rule in changed["QueueConfigurations"]:
        rule["Filter"]["Key"]["FilterRules"] = [{"Name": "prefix", "Value": prefix}]
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=changed)
    try:
        yield
    finally:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=was)


@contextmanager
def view_of(stack, name: str, sql: str) -> Iterator[None]:
    glue, database = stack.emulator.client("glue"), stack.outputs["GlueDatabaseName"]
    table = glue.get_table(DatabaseName=database, Name=name)["Table"]
    known = glue.meta.service_model.shape_for("TableInput").members
    was = {member: value for member, value in table.items() if member in known and value != ""}
    text = was["ViewOriginalText"].removeprefix("/* Presto View: ").removesuffix(" */")
    definition = {**json.loads(base64.b64decode(text)), "originalSql": sql}
    encoded = base64.b64encode(json.dumps(definition).encode()).decode()
    broken = {**was, "ViewOriginalText": f"/* Presto View: {encoded} */"}
    glue.update_table(DatabaseName=database, TableInput=broken)
    try:
        yield
    finally:
        glue.update_table(DatabaseName=database, TableInput=was)


@contextmanager
def reader_disabled(stack) -> Iterator[None]:
    """Lambda does not read the queue of process."""
    client = stack.emulator.client("lambda")
    function = stack.resources()["ProcessFunction"]
    [mapping] = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


@contextmanager
def everybody_let_in(stack) -> Iterator[None]:
    client, function = stack.emulator.client("lambda"), stack.resources()["IngestFunction"]
    was = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    changed = {"Variables": {**was, "WEBHOOK_AUTH": "NONE"}}
    client.update_function_configuration(FunctionName=function, Environment=changed)
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=function, Environment={"Variables": was})


def test_a_name_that_does_not_resolve_is_named_and_the_rest_is_tried_without_it(run, internet, monkeypatch):
    monkeypatch.setitem(internet.names, DOMAIN_NAME, [])
    status, lines, document = run(questions=False)
    assert (status, failed(lines)) == (1, {"name"})
    assert {lines[name] for name in ("certificate", "probe", "stranger", "other path")} == {"not tried"}
    assert said(document, "batch stored") == "by lambda:Invoke of ingest"
    assert lines["row in events"] == "ok"


def test_a_name_that_leads_elsewhere_is_named(run, internet, monkeypatch):
    """Where only some senders are let in, that nothing answers is no failure."""
    monkeypatch.setitem(internet.names, DOMAIN_NAME, [internet.NOWHERE])
    status, lines, document = run(questions=False)
    assert (lines["name"], lines["certificate"], lines["row in events"]) == ("warning", "not tried", "ok")
    [check] = [check for check in document["checks"] if check["name"] == "name"]
    assert check["means"].startswith("The name leads elsewhere")
    assert (status, failed(lines)) == (0, set())


@pytest.mark.nightly
def test_certificate_alarms_subscription_view_and_bird_are_each_named(
    stack, run, internet, authority, told, bird, monkeypatch
):
    monkeypatch.setattr(internet.door, "context", authority.server(DOMAIN_NAME, datetime.now(UTC) - timedelta(days=1)))
    sns = stack.emulator.client("sns")
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=told)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    sns.subscribe(TopicArn=told, Protocol="https", Endpoint="https://127.0.0.1:9/")
    webhook = bird.webhooks[stack.outputs["BirdWebhookId"]]
    monkeypatch.setitem(webhook, "target", "https://elsewhere.example.com/bird")
    try:
        with view_of(stack, "list_export", "SELECT email FROM gone"):
            status, lines, document = run(firing=stack.resources()["IngestErrorsAlarm"])
    finally:
        sns.subscribe(TopicArn=told, Protocol="sqs", Endpoint=subscription["Endpoint"])
    assert (status, failed(lines)) == (
        1,
        {"certificate", "alarms are heard", "no alarm fires", "view list_export", "webhook at Bird"},
    )
    assert said(document, "certificate") == "not valid: certificate has expired"
    assert said(document, "alarms are heard") == "1 subscriptions to the alarms, none of them confirmed"
    assert said(document, "no alarm fires").startswith("IngestErrorsAlarm of ")
    [firing] = [check for check in document["checks"] if check["name"] == "no alarm fires"]
    assert firing["section"] == "docs/runbook.md#ingesterrorsalarm"


def test_batches_that_s3_does_not_announce_are_named(stack, run, monkeypatch):
    monkeypatch.setattr(verify, "ROW_SECONDS", 5)
    with notifications_of(stack, "elsewhere/"):
        status, lines, document = run(questions=False)
    assert (status, failed(lines)) == (1, {"setting notifications", "row in events"})
    assert said(document, "setting notifications") == (
        "the raw bucket announces keys that begin with 'elsewhere/'; they begin with 'raw/'"
    )
    assert left_over(stack) == 0


@pytest.mark.nightly
def test_a_queue_that_is_not_read_and_deliveries_that_fail_are_named(stack, run, bird, monkeypatch):
    monkeypatch.setattr(verify, "ROW_SECONDS", 5)
    bird.batch_statuses = [
        {
            "batch_id": "2",
            "ts": "2026-11-25T10:00:00.000Z",
            "attempts": 3,
            "response_code": "401",
            "failure_code": "401",
        },
        {"batch_id": "1", "ts": "2026-11-25T09:00:00.000Z", "attempts": 1, "response_code": 200},
    ]
    try:
        with reader_disabled(stack):
            status, lines, document = run(questions=False)
    finally:
        bird.batch_statuses = []
    assert (status, failed(lines)) == (
        1,
        {"setting event sources", "row in events", "queue Process", "webhook at Bird"},
    )
    assert said(document, "webhook at Bird") == "the last of 2 batches that were delayed failed: it heard 401"
    assert said(document, "setting event sources").startswith("the queue ProcessQueue is not read")
    # WHEN the queue is read again, the batch has become an empty one
    queue = stack.outputs["ProcessQueueUrl"]
    target = stack.stack
    run_of = verify.Verification(target, None, Network())
    assert poll(lambda: sum(run_of.messages(queue)), lambda count: count == 0, 30) == 0
    assert left_over(stack) == 0


def test_a_stranger_who_is_let_in_is_named_and_leaves_nothing(stack, run):
    with everybody_let_in(stack):
        status, lines, document = run(questions=False)
    assert (status, failed(lines)) == (1, {"stranger"})
    assert said(document, "stranger") == "answered 200 stored instead of 401"
    assert said(document, "test data removed").endswith(" 2 batches")
    assert left_over(stack) == 0


def test_the_one_click_stack_is_proved_by_its_own_name(sar_stack, authority, run_on):
    """Only what an account of its own has to add is missing: an address for the alarms."""
    host = str(urlsplit(sar_stack.outputs["PublicWebhookUrl"]).hostname)
    with reached(sar_stack, authority, {host: ["192.0.2.1"]}) as there:
        status, lines, document = run_on(sar_stack, there, questions=False)
    assert (status, failed(lines)) == (1, {"alarms are heard"}), said(document, "no alarm fires")
    assert said(document, "batch stored") == "through the front door"
    assert {name for name, found in lines.items() if found == "not tried"} == {
        "completeness",
        "row in PostgreSQL",
        "report",
        "webhook at Bird",
    }
    assert left_over(sar_stack) == 0
