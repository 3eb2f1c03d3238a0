"""`verify`: what it says, what it asks, and the settings it looks at, against an account that a test makes up."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
import sqlglot
from botocore.exceptions import ClientError

from bird_webhooks.operate import verify, verify_event, verify_settings, verify_sql
from bird_webhooks.operate.findings import Advice, Finding, Outcome, scrubbed
from bird_webhooks.operate.front_door import Answer, FrontDoor, Network
from bird_webhooks.operate.verify_advice import ADVICE, advice_for
from bird_webhooks.simulator import bird_api
from bird_webhooks.stack import Stack
from process import metrics

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 25)
PREFIX, SUFFIX = "/* Presto View: ", " */"


class Account:
    """Clients whose operations are given: an answer, an error, or a function of the request."""

    meta = SimpleNamespace(region_name="eu-west-1")

    def __init__(self, operations: dict[str, Any]) -> None:
        self.operations = operations

    def client(self, service: str, region: str | None = None) -> "Account":
        return self

    def get_paginator(self, name: str) -> "Account":
        return Account({"paginate": lambda **request: [self.operations[name]]})

    def __getattr__(self, name: str):
        def call(**request: Any) -> Any:
            answer = self.operations[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(**request) if callable(answer) else answer

        return call


OUTPUTS = {
    "WebhookUrl": "https://webhooks.example.com/bird",
    "LoadBalancerDnsName": "the-balancer.example.com",
    "RawBucketName": "the-raw-bucket",
    "LakeBucketName": "the-lake-bucket",
    "ProcessQueueUrl": "https://sqs.example.com/1/process",
    "RowsTopicArn": "arn:topic",
    "GlueDatabaseName": "bird_1",
    "AthenaWorkGroupName": "bird-webhooks",
    "WebhookSecretArn": "webhook",
    "IngestFunctionArn": "ingest",
}
PARAMETERS = {
    "FrontDoor": "ALB",
    "WebhookAuth": "BASIC",
    "WebhookHeader": "x-webhook-token",
    "RawPrefix": "B Event Data",
    "SenderCidrs": "0.0.0.0/0",
    "SenderHostName": "",
    "BirdApiKeySecretArn": "",
    "PostgresSecretArn": "",
}


def target(operations: dict[str, Any] | None = None, outputs: dict[str, str] | None = None, **parameters: str) -> Stack:
    def listed(values: dict[str, str], name: str, value: str) -> list[dict[str, str]]:
        return [{name: one, value: other} for one, other in values.items()]

    stack = {
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": listed({**OUTPUTS, **(outputs or {})}, "OutputKey", "OutputValue"),
        "Parameters": listed({**PARAMETERS, **parameters}, "ParameterKey", "ParameterValue"),
    }
    resources = {
        "ProcessQueue": ("AWS::SQS::Queue", "https://sqs.example.com/1/process"),
        "AlarmTopic": ("AWS::SNS::Topic", "arn:alarms"),
        "IngestTargetGroup": ("AWS::ElasticLoadBalancingV2::TargetGroup", "the-target-group"),
        "IngestErrorsAlarm": ("AWS::CloudWatch::Alarm", "an-alarm"),
        "RawBatchCreated": ("AWS::Lambda::EventSourceMapping", "a-mapping"),
    }
    summaries = [
        {"LogicalResourceId": name, "ResourceType": kind, "PhysicalResourceId": physical}
        for name, (kind, physical) in resources.items()
    ]
    account = Account(
        {
            "describe_stacks": {"Stacks": [stack]},
            "list_stack_resources": {"StackResourceSummaries": summaries},
            "get_queue_attributes": {"Attributes": {"QueueArn": "arn:process"}},
            **(operations or {}),
        }
    )
    return Stack("bird-webhooks", account.client, 0)


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "AnOperation")


# --- What is said ---


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections() -> set[str]:
    """All that the code names, those of single cases too."""
    code = "".join(path.read_text() for path in (ROOT / "bird_webhooks/operate").glob("verify*.py"))
    named = set(re.findall(r"docs/[a-z]+\.md(?:#[a-z-]+)?", code))
    named |= {f"docs/runbook.md{anchor}" for anchor in re.findall(r"\{RUNBOOK\}(#[a-z-]+)", code)}
    return named | {advice.section for advice in ADVICE.values()}


def test_every_section_that_is_named_exists():
    named = sections()
    assert len(named) > 15
    for section in named:
        path, _, anchor = section.partition("#")
        assert not anchor or anchor in anchors(ROOT / path), section


@pytest.mark.parametrize("name", ["view list_export", "query delivered", "queue Postgres", "dead letters Other"])
def test_a_check_of_many_has_its_advice(name):
    assert advice_for(name).do


def test_every_setting_has_its_advice_and_its_line_in_the_document():
    text = (ROOT / "docs/operating.md").read_text()
    names = [name for name, _ in verify_settings.checks(target())]
    assert names == list(verify_settings.ADVICE)
    assert [name for name in names if f"\n| {name.removeprefix('setting ')} | " not in text] == []


def test_a_failure_says_what_it_means_and_what_to_do():
    outcome = Outcome("queue Process", "failed", 1.25, "3 wait", Advice("it is stuck", "look at it", "docs/x.md#y"))
    assert outcome.lines == (
        f"failed    {'queue Process':<40}   1.2 s  3 wait\n"
        "          Means: it is stuck.\n          Do: look at it.\n          More: docs/x.md#y"
    )


def test_what_is_shown_to_strangers_has_no_secrets_addresses_or_accounts():
    said = (
        "s3cret to person@example.com from 192.0.2.7 at webhooks.example.com: "
        "arn:aws:sqs:eu-west-1:123456789012:q, 2001:db8::1"
    )
    names = {"webhooks.example.com": "host", "2001:db8::1": "ip"}
    assert scrubbed(said, names, ["s3cret", ""]) == (
        "<secret> to <address> from <ip> at <host>: arn:aws:sqs:eu-west-1:<account>:q, <ip>"
    )


# --- The test event ---


def test_the_event_is_none_of_birds_and_nobody_counts_it():
    assert (verify_event.EVENT_CLASS, verify_event.EVENT_TYPE) not in metrics.NAMES
    kinds = {kind for of_class in bird_api.event_types().values() for kind in of_class}
    assert verify_event.EVENT_TYPE not in kinds
    texts = [path.read_text() for path in (ROOT / "sql").rglob("*.sql")] + [(ROOT / "template.yaml").read_text()]
    assert not any(verify_event.EVENT_TYPE in text for text in texts)


@pytest.mark.parametrize("path", sorted((ROOT / "sql/queries").glob("*.sql")), ids=lambda path: path.stem)
def test_every_saved_query_chooses_its_types(path):
    """A query that took all types would count the test event while it is there. These two views choose their types."""
    chosen = r"\btype (?:IN|=) |\bFROM (?:suppression_candidates|recipient_engagement)\b"
    assert re.search(chosen, path.read_text())


def test_the_event_has_an_id_that_says_when_it_was_made_and_fields_with_columns_only():
    event = verify_event.new(datetime(2026, 11, 25, 22, 4, 5, tzinfo=UTC))
    assert re.fullmatch(r"bird-webhooks-verify-20261125T220405-[0-9a-f]{8}", event.id)
    assert event.made_at == datetime(2026, 11, 25, 22, 4, 5, tzinfo=UTC)
    assert json.loads(event.body) == [
        {"msys": {"verify_event": {"type": "bird_webhooks_verify", "event_id": event.id, "timestamp": "1795644245"}}}
    ]


# --- The statements ---


def test_a_view_that_knows_days_is_asked_for_one():
    assert verify_sql.of_view("events_deduplicated", ["type", "event_date"], DAY) == (
        "SELECT count(*) AS events FROM events_deduplicated WHERE event_date = DATE '2026-11-25'"
    )
    assert verify_sql.of_view("list_export", ["email"], DAY) == "SELECT count(*) AS events FROM list_export"


@pytest.mark.parametrize(
    "sql",
    [
        verify_sql.rows_of_batch(DAY, "bird-webhooks-verify-1"),
        verify_sql.of_view("message_timeline", ["event_date"], DAY),
        *verify_sql.saved_queries().values(),
    ],
)
def test_statements_are_ones_that_trino_reads(sql):
    assert sqlglot.parse_one(sql, dialect="trino", error_level=sqlglot.ErrorLevel.RAISE)


# --- Settings ---


def finding(check, of: Stack) -> tuple[str, str]:
    try:
        return "ok", check(of)
    except Finding as found:
        return found.status, found.said


def notified(prefix: str, rows: str = "events/", *, event: str = "s3:ObjectCreated:Put") -> Stack:
    def rule(name: str, arn: str, value: str) -> dict[str, Any]:
        rules = [{"Name": "Prefix", "Value": value}]
        return {name: arn, "Events": [event], "Filter": {"Key": {"FilterRules": rules}}}

    by_bucket = {
        "the-raw-bucket": {"QueueConfigurations": [rule("QueueArn", "arn:process", prefix)]},
        "the-lake-bucket": {"TopicConfigurations": [rule("TopicArn", "arn:topic", rows)]},
    }
    table = {"StorageDescriptor": {"Location": "s3://the-lake-bucket/events/"}}
    return target(
        {
            "get_bucket_notification_configuration": lambda Bucket: by_bucket[Bucket],  # noqa: N803
            "get_table": {"Table": table},
        }
    )


@pytest.mark.parametrize(
    ("account", "status", "said"),
    [
        pytest.param(notified("B+Event+Data/"), "ok", "both buckets announce", id="as S3 wants it"),
        pytest.param(notified("B Event Data/"), "failed", "they begin with 'B+Event+Data/'", id="space"),
        pytest.param(notified("elsewhere/"), "failed", "'elsewhere/'", id="another folder"),
        pytest.param(notified("B+Event+Data/", "events-csv/"), "failed", "'events-csv/'; they", id="another format"),
        pytest.param(notified("B+Event+Data/", event="s3:ObjectCreated:Copy"), "failed", "no new object", id="copies"),
    ],
)
def test_notifications(account, status, said):
    found = finding(verify_settings.notifications, account)
    assert found[0] == status
    assert said in found[1]


def view(**changes: Any) -> dict[str, Any]:
    definition = {"originalSql": "SELECT 1", "catalog": "awsdatacatalog", "schema": "bird_1", "columns": []}
    definition |= changes.pop("definition", {})
    encoded = base64.b64encode(json.dumps(definition).encode()).decode()
    whole = {
        "Name": "a_view",
        "TableType": "VIRTUAL_VIEW",
        "PartitionKeys": [],
        "StorageDescriptor": {"SerdeInfo": {"SerializationLibrary": "a.Serde"}},
        "ViewOriginalText": f"{PREFIX}{encoded}{SUFFIX}",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        pytest.param(view(), "2 tables and views are as Athena takes them", id="whole"),
        pytest.param(view(PartitionKeys=None), "view a_view has no PartitionKeys", id="no keys"),
        pytest.param(view(StorageDescriptor={}), "view a_view has no SerdeInfo", id="no serde"),
        pytest.param(
            view(ViewOriginalText="SELECT 1"), "view a_view has a definition that is not Athena's", id="plain"
        ),
        pytest.param(view(definition={"schema": "Bird_1"}), "view a_view names another database", id="capitals"),
    ],
)
def test_catalogue(made, said):
    account = target({"get_tables": {"TableList": [{"Name": "events", "TableType": "EXTERNAL_TABLE"}, made]}})
    assert finding(verify_settings.catalogue, account)[1] == said


def test_a_database_with_capitals_is_named():
    assert finding(verify_settings.catalogue, target(outputs={"GlueDatabaseName": "bird_My"}))[0] == "failed"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"State": "ENABLED", "Configuration": {"BytesScannedCutoffPerQuery": 10_000_000}}, "ok"),
        ({"State": "DISABLED"}, "failed"),
        ({"Configuration": {"BytesScannedCutoffPerQuery": 9_999_999}}, "failed"),
        ({"Configuration": {"EngineVersion": {"EffectiveEngineVersion": "Athena engine version 2"}}}, "failed"),
    ],
)
def test_workgroup(found, status):
    assert finding(verify_settings.workgroup, target({"get_work_group": {"WorkGroup": found}}))[0] == status


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({}, ("ok", "time zone and thresholds can be used")),
        ({"ReportTimezone": "America/Argentina/Ushuaia", "DeliverabilityThresholds": "blocked=2/10"}, ("ok", ANY)),
        ({"ReportTimezone": "Europe/Foo"}, ("failed", "ReportTimezone: there is no time zone Europe/Foo")),
        (
            {"DeliverabilityThresholds": "least_volume=5, blocked=20/10"},
            (
                "failed",
                "DeliverabilityThresholds: blocked=20/10: two percentages, the first not above the second, are needed",
            ),
        ),
        ({"DeliverabilityThresholds": "hard=0/1"}, ("failed", ANY)),
    ],
)
def test_report(parameters, found):
    assert finding(verify_settings.report, target(**parameters))[:2] == found


@pytest.mark.parametrize(
    ("database", "table", "status"),
    [
        ({"CreateTableDefaultPermissions": [{"Permissions": ["ALL"]}]}, {"IsRegisteredWithLakeFormation": False}, "ok"),
        ({}, {}, "ok"),
        ({"CreateTableDefaultPermissions": []}, {}, "warning"),
        ({}, {"IsRegisteredWithLakeFormation": True}, "warning"),
    ],
)
def test_lake_formation(database, table, status):
    account = target({"get_database": {"Database": database}, "get_table": {"Table": table}})
    assert finding(verify_settings.lake_formation, account)[0] == status


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refused("ObjectLockConfigurationNotFoundError"), "ok"),
        ({"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}, "warning"),
        ({"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {}}}}, "failed"),
    ],
)
def test_object_lock(answer, status):
    account = target({"get_object_lock_configuration": answer})
    assert finding(verify_settings.object_lock, account)[0] == status


def encrypted(
    bucket: dict[str, str] | None = None,
    topic: str = "",
    queue: str = "",
    secret: str = "",
    state: str = "Enabled",
    **parameters: str,
) -> Stack:
    rules = [{"ApplyServerSideEncryptionByDefault": bucket or {"SSEAlgorithm": "AES256"}}]
    return target(
        {
            "get_bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": rules}},
            "get_topic_attributes": {"Attributes": {"KmsMasterKeyId": topic} if topic else {}},
            "get_queue_attributes": {"Attributes": {"KmsMasterKeyId": queue}} if queue else {},
            "describe_secret": {"KmsKeyId": secret} if secret else {},
            "describe_key": {"KeyMetadata": {"KeyState": state}},
        },
        BirdApiKeySecretArn="a-secret",
        **parameters,
    )


KEY, EARLIER = (f"arn:aws:kms:eu-west-1:111122223333:key/{n}a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f" for n in (0, 1))
UNDER_KEY = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}


@pytest.mark.parametrize(
    ("account", "found"),
    [
        pytest.param(encrypted(), ("ok", "AWS's own keys"), id="as deployed"),
        pytest.param(
            encrypted({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:key"}),
            ("warning", "under a key of yours: raw bucket, lake bucket"),
            id="bucket",
        ),
        pytest.param(
            encrypted(topic="alias/aws/sns"),
            ("failed", "a topic is encrypted with alias/aws/sns, under which nothing of AWS may publish"),
            id="topic",
        ),
        pytest.param(
            encrypted(queue="alias/aws/sqs"),
            ("failed", "a queue is encrypted with alias/aws/sqs, under which S3 and SNS may not send"),
            id="queue",
        ),
        pytest.param(
            encrypted(secret="arn:key"),
            ("warning", "under a key of yours: the secret of BirdApiKeySecretArn"),
            id="secret",
        ),
        pytest.param(
            encrypted(UNDER_KEY, secret=EARLIER, KmsKeyArn=KEY, KmsReadKeyArns=EARLIER),
            ("ok", f"buckets and secrets are under {KEY}, which is enabled"),
            id="keys that the functions may use",
        ),
        pytest.param(
            encrypted(UNDER_KEY, KmsReadKeyArns=KEY),
            ("warning", "under a key of yours: raw bucket, lake bucket"),
            id="bucket under a key that they may only read with",
        ),
        pytest.param(
            encrypted(KmsKeyArn=KEY),
            ("warning", "the raw bucket is not encrypted with KmsKeyArn: new objects are under S3's own key"),
            id="bucket put back by hand",
        ),
        pytest.param(
            encrypted(UNDER_KEY, state="PendingDeletion", KmsKeyArn=KEY),
            ("failed", f"the key {KEY} is PendingDeletion: nothing under it can be read"),
            id="key that is to be deleted",
        ),
    ],
)
def test_encryption(account, found):
    assert finding(verify_settings.encryption, account) == found


def test_a_queue_that_lambda_does_not_read_is_named():
    mapping = {"State": "Disabled", "EventSourceArn": "arn:aws:sqs:eu-west-1:1:process"}
    assert finding(verify_settings.event_sources, target({"get_event_source_mapping": mapping})) == (
        "failed",
        "the queue ProcessQueue is not read: Disabled",
    )
    assert finding(verify_settings.event_sources, target({"get_event_source_mapping": {"State": "Enabled"}}))[0] == "ok"


@pytest.mark.parametrize(("count", "status"), [(10, "warning"), (1000, "ok")])
def test_concurrency(count, status):
    account = target({"get_account_settings": {"AccountLimit": {"ConcurrentExecutions": count}}})
    assert finding(verify_settings.concurrency, account)[0] == status


# --- The way in ---


def run(
    of: Stack, resolve: dict[str, list[str]] | None = None, error: Exception | None = None, token: str | None = None
) -> verify.Verification:
    def connect(address: tuple[str, int], timeout: float) -> Any:
        raise error or TimeoutError("timed out")

    names = {"webhooks.example.com": ["192.0.2.1"]} if resolve is None else resolve
    return verify.Verification(of, token, Network(lambda host: names.get(host, []), connect))


def outcomes(of: verify.Verification, *names: str) -> list[tuple[str, str]]:
    found = [of.outcome(name, getattr(of, name.replace(" ", "_"))) for name in names]
    return [(one.status, one.said) for one in found]


def test_a_name_that_does_not_resolve_leaves_the_front_door_untried():
    found = outcomes(run(target(), {}), "name", "certificate", "probe", "stranger", "other path")
    assert found == [
        ("failed", "webhooks.example.com does not resolve"),
        *[("not tried", "the name does not resolve")] * 4,
    ]


def test_a_name_that_leads_to_other_addresses_than_the_stacks_is_a_warning():
    names = {"webhooks.example.com": ["203.0.113.1"], "the-balancer.example.com": ["192.0.2.1"]}
    assert outcomes(run(target(), names), "name") == [
        ("warning", "webhooks.example.com is 203.0.113.1, and the stack's front door is 192.0.2.1")
    ]


def test_the_local_stack_is_tried_where_this_machine_reaches_it(monkeypatch):
    paths = []
    monkeypatch.setattr(
        FrontDoor, "send", lambda *request, path=None, **more: paths.append(path) or Answer(404, "", b"")
    )
    verification = run(replace(target(), reached_at="http://localhost:4566/_alb/bird/bird"))
    assert outcomes(verification, "name", "certificate", "other path") == [
        ("not tried", "the local AWS has no names"),
        ("not tried", "the local AWS has no certificates"),
        ("ok", "404"),
    ]
    assert paths == [f"/_alb/bird/{verification.event.id}"]


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({}, "failed"),
        ({"FrontDoor": "HTTP_API", "SenderCidrs": "192.0.2.0/24"}, "failed"),
        ({"SenderCidrs": "192.0.2.0/24"}, "not tried"),
        ({"SenderHostName": "wh.egress.sparkpost.com"}, "not tried"),
        ({"SenderPrefixListId": "pl-12345678"}, "not tried"),
    ],
)
def test_a_port_that_does_not_answer_is_no_failure_where_senders_are_restricted(parameters, status):
    assert outcomes(run(target(**parameters)), "name", "certificate")[1][0] == status


def test_what_may_not_be_asked_is_not_tried():
    account = target({"describe_alarms": refused("AccessDenied")})
    assert outcomes(run(account), "no alarm fires") == [("not tried", "not allowed: AnOperation")]


def invoked(answers: dict[str, Any], **parameters: str) -> tuple[verify.Verification, list[dict[str, Any]]]:
    """A run that invokes ingest, and what ingest was invoked with."""
    requests: list[dict[str, Any]] = []

    class Payload:
        def __init__(self, body: bytes) -> None:
            self.body = body

        def read(self) -> bytes:
            return self.body

    def invoke(FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        requests.append(json.loads(Payload))
        return answers

    answers = {**answers, "Payload": Payload(json.dumps(answers["Payload"]).encode())}
    secret = {"SecretString": json.dumps({"username": "jo", "password": "s3cret"})}
    account = target({"invoke": invoke, "get_secret_value": secret, "get_object": refused("NoSuchKey")}, **parameters)
    return run(account, {}), requests


STORED = {"statusCode": 200, "body": '{"status":"stored"}'}


@pytest.mark.parametrize(
    ("parameters", "headers"),
    [
        ({}, {"authorization": ["Basic am86czNjcmV0"]}),
        ({"WebhookAuth": "HEADER"}, {"x-webhook-token": ["s3cret"]}),
        ({"WebhookAuth": "OAUTH2"}, {"authorization": ["Bearer verify"]}),
        ({"WebhookAuth": "NONE"}, {}),
    ],
)
def test_without_a_front_door_ingest_is_invoked_as_the_load_balancer_would(parameters, headers):
    verification, requests = invoked({"Payload": STORED}, **parameters)
    [(status, said)] = outcomes(verification, "batch stored")
    assert (status, said) == (
        "failed",
        "by lambda:Invoke of ingest: answered 200, and is not in this stack's raw bucket",
    )
    [request] = requests
    own = {"content-type": ["application/json"], "x-messagesystems-batch-id": [verification.event.id]}
    assert request["multiValueHeaders"] == {**own, **headers}
    assert request["requestContext"] == {"elb": {"targetGroupArn": "the-target-group"}}
    assert request["body"] == verification.event.body.decode()


def test_an_http_api_invokes_by_its_own_envelope():
    verification, requests = invoked({"Payload": STORED}, FrontDoor="HTTP_API")
    outcomes(verification, "batch stored")
    assert requests[0]["requestContext"]["http"] == {"method": "POST", "path": "/bird"}


def test_an_ingest_that_fails_is_named_with_its_error():
    failure = {"FunctionError": "Unhandled", "Payload": {"errorType": "Runtime.ImportModuleError"}}
    verification, _ = invoked(failure)
    assert outcomes(verification, "batch stored") == [("failed", "ingest failed: Runtime.ImportModuleError")]


def test_without_a_stored_batch_no_row_is_waited_for():
    assert outcomes(run(target()), "row in events")[0][0] == "not tried"


@pytest.mark.parametrize(
    ("parameters", "token", "answer", "found"),
    [
        ({}, None, Answer(200, "", b'{"status":"ping"}'), ("ok", "200 ping")),
        ({}, None, Answer(200, "", b"<html>"), ("failed", "answered 200 instead of 200 ping")),
        ({}, None, Answer(403, "", b""), ("failed", "answered 403 instead of 200 ping")),
        ({"WebhookAuth": "OAUTH2"}, None, Answer(401, "", b""), ("not tried", "OAUTH2 wants a token: give --token")),
        ({"WebhookAuth": "OAUTH2"}, "t", Answer(200, "", b'{"status":"ping"}'), ("ok", "200 ping")),
    ],
)
def test_probe(monkeypatch, parameters, token, answer, found):
    monkeypatch.setattr(FrontDoor, "send", lambda *request, **more: answer)
    verification = run(target(**parameters), token=token)
    assert outcomes(verification, "name", "probe")[1] == found


@pytest.mark.parametrize(
    ("auth", "answer", "status"),
    [
        ("BASIC", Answer(401, "", b""), "ok"),
        ("BASIC", Answer(200, "", b'{"status":"stored"}'), "failed"),
        ("OAUTH2", Answer(401, "", b""), "ok"),
        ("NONE", Answer(200, "", b""), "warning"),
    ],
)
def test_stranger(monkeypatch, auth, answer, status):
    monkeypatch.setattr(FrontDoor, "send", lambda *request, **more: answer)
    verification = run(target(WebhookAuth=auth))
    assert outcomes(verification, "name", "stranger")[1][0] == status


# --- Alarms, queues ---


@pytest.mark.parametrize(
    ("subscriptions", "found"),
    [
        ([], ("failed", "the topic has no subscription: AlarmEmail is empty")),
        (["PendingConfirmation"], ("failed", "1 subscriptions to the alarms, none of them confirmed")),
        (["PendingConfirmation", "arn:aws:sns:x"], ("ok", "1 of 2 subscriptions are confirmed")),
    ],
)
def test_subscriptions(subscriptions, found):
    listed = {"Subscriptions": [{"SubscriptionArn": arn} for arn in subscriptions]}
    account = target({"list_subscriptions_by_topic": listed})
    assert outcomes(run(account), "alarms are heard") == [found]


@pytest.mark.parametrize(
    ("alarms", "found"),
    [
        ([{"StateValue": "OK"}], ("ok", "none of 1")),
        ([{"StateValue": "INSUFFICIENT_DATA"}], ("ok", "none of 1")),
        ([{"StateValue": "ALARM"}], ("failed", "IngestErrorsAlarm of 1")),
        ([{"StateValue": "OK", "ActionsEnabled": False}], ("failed", "without actions: IngestErrorsAlarm")),
        ([], ("failed", "gone: IngestErrorsAlarm")),
    ],
)
def test_alarms(alarms, found):
    answer = {"MetricAlarms": [{"AlarmName": "an-alarm", **alarm} for alarm in alarms]}
    assert outcomes(run(target({"describe_alarms": answer})), "no alarm fires") == [found]


def test_the_silence_of_a_new_stack_is_no_failure():
    firing = target({"describe_alarms": {"MetricAlarms": [{"AlarmName": "silence", "StateValue": "ALARM"}]}})
    vars(firing)["resources"] = {"NoBatchesAlarm": ("AWS::CloudWatch::Alarm", "silence")}
    [(status, said)] = outcomes(run(firing), "no alarm fires")
    assert (status, "a new stack has had no batch yet" in said) == ("warning", True)


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([(0, 0), (0, 0)], ("ok", "empty")),
        ([(5, 2), (5, 2), (4, 2)], ("ok", "draining: 4 wait, 2 are being worked on")),
        ([(5, 2)] * 3, ("failed", "5 wait, 2 are being worked on, and got no fewer in 0 s")),
    ],
)
def test_queues_drain(monkeypatch, looks, found):
    monkeypatch.setattr(verify, "DRAIN_SECONDS", 0 if found[0] == "failed" else 60)
    left = iter(looks)
    monkeypatch.setattr(verify.Verification, "messages", lambda self, url: next(left))
    verification = run(target())
    outcome = verification.outcome("queue Process", lambda: verification.drains("https://sqs.example.com/1/process"))
    assert (outcome.status, outcome.said) == found
