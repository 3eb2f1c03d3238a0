"""Each role of the template may do what it must, and nothing else: tried with its own credentials, policies enforced.

Logs are not tried: the local AWS asks for log groups by another ARN than AWS does (without `:*`) and refuses them all.
tests/unit/test_template.py reads those statements instead.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from local_aws.emulator import ROOT
from local_aws.yaml_text import yaml_parse

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
ROLES = sorted(name for name, resource in TEMPLATE["Resources"].items() if resource["Type"] == "AWS::IAM::Role")


class Call(NamedTuple):
    """One request to AWS; `{Name}` in an argument stands for that resource of the stack."""

    service: str
    operation: str
    arguments: dict[str, Any]
    # An error that shows the request was let in, where the thing it is about cannot be there.
    may_answer: str = ""

    def __str__(self) -> str:
        about = next((str(v) for v in reversed(self.arguments.values()) if "{" in str(v) or "/" in str(v)), "")
        return f"{self.service} {self.operation} {about}".strip()


def put(bucket: str, key: str) -> Call:
    return Call("s3", "put_object", {"Bucket": bucket, "Key": key, "Body": b"[]"})


def get(bucket: str, key: str) -> Call:
    return Call("s3", "get_object", {"Bucket": bucket, "Key": key})


def delete(bucket: str, key: str) -> Call:
    return Call("s3", "delete_object", {"Bucket": bucket, "Key": key})


def read_secret(name: str = "{WebhookSecret}", stage: str = "AWSCURRENT") -> Call:
    arguments = {"SecretId": name, "VersionStage": stage}
    return Call("secretsmanager", "get_secret_value", arguments)


def on_queue(operation: str, queue: str = "{ProcessQueue}", may_answer: str = "", **arguments: Any) -> Call:
    return Call("sqs", operation, {"QueueUrl": queue, **arguments}, may_answer)


READ_HASH_KEY = Call("secretsmanager", "get_secret_value", {"SecretId": "{HashKey}"})
READ_RAW = get("{RawBucket}", "raw/by-a-test.json")
WRITE_RAW = put("{RawBucket}", "raw/by-a-test.json")
READ_IMPORTED = get("{RawBucket}", "raw/import/by-a-test.json")
LIST_RAW = Call("s3", "list_objects_v2", {"Bucket": "{RawBucket}"})
WRITE_ROWS = put("{LakeBucket}", "events/by-a-test")
WRITE_CSV_ROWS = put("{LakeBucket}", "events-csv/by-a-test")
READ_ROWS = get("{LakeBucket}", "events/by-a-test")
READ_CSV_ROWS = get("{LakeBucket}", "events-csv/by-a-test")
LIST_LAKE = Call("s3", "list_objects_v2", {"Bucket": "{LakeBucket}"})
WRITE_QUARANTINE = put("{LakeBucket}", "quarantine/by-a-test")
WRITE_UNSHOWN = put("{LakeBucket}", "maintenance/unshown/by-a-test")
READ_TOMBSTONE_KEY = Call("secretsmanager", "get_secret_value", {"SecretId": "{TombstoneKey}"})
KEEP_ROWS_ASIDE = put("{LakeBucket}", "quarantine/postgres/by-a-test")
KEEP_EVENTS_ASIDE = put("{LakeBucket}", "quarantine/bus/by-a-test")
AN_EVENT = {"Source": "by-a-test", "DetailType": "by a test", "Detail": "{}"}
PUBLISH = Call("events", "put_events", {"Entries": [{**AN_EVENT, "EventBusName": "{EventBus}"}]})
RECEIVE = on_queue("receive_message", MaxNumberOfMessages=1, VisibilityTimeout=0)
WRITE_RESULTS = put("{LakeBucket}", "athena-results/by-a-test")
ASK_ATHENA = Call("athena", "start_query_execution", {"QueryString": "SELECT 1", "WorkGroup": "{AthenaWorkGroup}"})
READ_TABLE = Call("glue", "get_table", {"DatabaseName": "{GlueDatabase}", "Name": "events"})
A_TABLE = {"DatabaseName": "{GlueDatabase}", "TableName": "events"}
MOVE_DATES = Call(
    "glue",
    "batch_update_partition",
    {**A_TABLE, "Entries": [{"PartitionValueList": ["1999-01-01"], "PartitionInput": {}}]},
)
READ_CLOSED = get("{LakeBucket}", "closed/by-a-test")
READ_STATE = get("{LakeBucket}", "maintenance/days/by-a-test")
WRITE_CLOSED = put("{LakeBucket}", "closed/by-a-test")
ONE_ADDRESS = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "203.0.113.9/32"}
NO_HANDLE = "ReceiptHandleIsInvalid"
# Of a destination that is none, so that the right is asked for, and the buckets announce as before.
NOWHERE = {"QueueConfigurations": [{"QueueArn": "nowhere", "Events": ["s3:ObjectCreated:Put"]}]}
ANNOUNCEMENTS = [
    call
    for bucket in ("{RawBucket}", "{LakeBucket}")
    for call in (
        Call("s3", "get_bucket_notification_configuration", {"Bucket": bucket}),
        Call(
            "s3",
            "put_bucket_notification_configuration",
            {"Bucket": bucket, "NotificationConfiguration": NOWHERE},
            "InvalidArgument",
        ),
    )
]
SEE_STACK = Call("cloudformation", "describe_stacks", {"StackName": "{StackId}"})

MUST: dict[str, list[Call]] = {
    "BirdWebhookRole": [read_secret("{BirdApiKeySecret}"), read_secret(), SEE_STACK],
    "ImportRole": [
        READ_IMPORTED,
        LIST_RAW,
        WRITE_ROWS,
        WRITE_CSV_ROWS,
        WRITE_QUARANTINE,
        WRITE_UNSHOWN,
        READ_HASH_KEY,
        on_queue("receive_message", "{ImportQueue}", MaxNumberOfMessages=1, VisibilityTimeout=0),
        on_queue("get_queue_attributes", "{ImportQueue}", AttributeNames=["QueueArn"]),
        on_queue("delete_message", "{ImportQueue}", ReceiptHandle="none", may_answer=NO_HANDLE),
        on_queue(
            "change_message_visibility",
            "{ImportQueue}",
            ReceiptHandle="none",
            VisibilityTimeout=0,
            may_answer=NO_HANDLE,
        ),
    ],
    "IngestRole": [WRITE_RAW, READ_RAW],
    "LoadPostgresRole": [
        READ_ROWS,
        READ_CSV_ROWS,
        LIST_LAKE,
        read_secret("{PostgresSecret}"),
        on_queue("receive_message", "{PostgresQueue}", MaxNumberOfMessages=1, VisibilityTimeout=0),
        on_queue("get_queue_attributes", "{PostgresQueue}", AttributeNames=["QueueArn"]),
        on_queue("delete_message", "{PostgresQueue}", ReceiptHandle="none", may_answer=NO_HANDLE),
        on_queue(
            "change_message_visibility",
            "{PostgresQueue}",
            ReceiptHandle="none",
            VisibilityTimeout=0,
            may_answer=NO_HANDLE,
        ),
        on_queue("send_message", "{PostgresDeadLetterQueue}", MessageBody="by a test"),
        KEEP_ROWS_ASIDE,
        READ_CLOSED,
        READ_STATE,
    ],
    "ProcessRole": [
        READ_RAW,
        LIST_RAW,
        WRITE_ROWS,
        WRITE_CSV_ROWS,
        WRITE_QUARANTINE,
        WRITE_UNSHOWN,
        READ_HASH_KEY,
        RECEIVE,
        on_queue("get_queue_attributes", AttributeNames=["QueueArn"]),
        on_queue("delete_message", ReceiptHandle="none", may_answer=NO_HANDLE),
        on_queue("change_message_visibility", ReceiptHandle="none", VisibilityTimeout=0, may_answer=NO_HANDLE),
    ],
    "PublishEventsRole": [
        READ_ROWS,
        READ_CSV_ROWS,
        LIST_LAKE,
        KEEP_EVENTS_ASIDE,
        PUBLISH,
        on_queue("receive_message", "{PublishEventsQueue}", MaxNumberOfMessages=1, VisibilityTimeout=0),
        on_queue("get_queue_attributes", "{PublishEventsQueue}", AttributeNames=["QueueArn"]),
        on_queue("delete_message", "{PublishEventsQueue}", ReceiptHandle="none", may_answer=NO_HANDLE),
        on_queue(
            "change_message_visibility",
            "{PublishEventsQueue}",
            ReceiptHandle="none",
            VisibilityTimeout=0,
            may_answer=NO_HANDLE,
        ),
    ],
    "DeliverabilityAlertsRole": [
        ASK_ATHENA,
        READ_TABLE,
        Call("glue", "get_table", {"DatabaseName": "{GlueDatabase}", "Name": "mail_events"}),
        READ_ROWS,
        READ_CSV_ROWS,
        READ_CLOSED,
        Call("glue", "get_partitions", A_TABLE),
        LIST_LAKE,
        WRITE_RESULTS,
        get("{LakeBucket}", "athena-results/by-a-test"),
        get("{LakeBucket}", "alerts/by-a-test"),
        put("{LakeBucket}", "alerts/by-a-test"),
        Call("sns", "publish", {"TopicArn": "{AlarmTopic}", "Message": "by a test"}),
        PUBLISH,
    ],
    "ReconcileRole": [
        read_secret("{BirdApiKeySecret}"),
        READ_TOMBSTONE_KEY,
        ASK_ATHENA,
        READ_TABLE,
        Call("glue", "get_partitions", A_TABLE),
        READ_ROWS,
        READ_CSV_ROWS,
        READ_CLOSED,
        LIST_LAKE,
        LIST_RAW,
        WRITE_RESULTS,
        get("{LakeBucket}", "athena-results/by-a-test"),
        put("{LakeBucket}", "completeness/by-a-test"),
        get("{LakeBucket}", "completeness/by-a-test"),
        READ_RAW,
        put("{RawBucket}", "raw/backfill-by-a-test.json"),
        on_queue("get_queue_attributes", AttributeNames=["QueueArn"]),
        on_queue("get_queue_attributes", "{ProcessDeadLetterQueue}", AttributeNames=["QueueArn"]),
        Call("lambda", "invoke", {"FunctionName": "{LoadPostgresFunction}", "Payload": b'{"verdicts": []}'}),
    ],
    "ReportRole": [
        ASK_ATHENA,
        READ_TABLE,
        Call("glue", "get_table", {"DatabaseName": "{GlueDatabase}", "Name": "events_deduplicated"}),
        READ_ROWS,
        READ_CSV_ROWS,
        READ_CLOSED,
        Call("glue", "get_partitions", A_TABLE),
        LIST_LAKE,
        WRITE_RESULTS,
        get("{LakeBucket}", "athena-results/by-a-test"),
        get("{LakeBucket}", "quarantine/by-a-test"),
        put("{LakeBucket}", "reports/by-a-test"),
    ],
    "SenderAddressesRole": [
        Call("ec2", "describe_security_group_rules", {}),
        Call("ec2", "authorize_security_group_ingress", {"GroupId": "{LookedUpSendersSecurityGroup}", **ONE_ADDRESS}),
        Call("ec2", "revoke_security_group_ingress", {"GroupId": "{LookedUpSendersSecurityGroup}", **ONE_ADDRESS}),
    ],
    "StorageRole": [
        *ANNOUNCEMENTS,
        LIST_RAW,
        LIST_LAKE,
        put("{LakeBucket}", "maintenance/storage.json"),
        get("{LakeBucket}", "maintenance/storage.json"),
        delete("{LakeBucket}", "maintenance/storage.json"),
        SEE_STACK,
    ],
    "TableMaintenanceRole": [
        put("{LakeBucket}", "maintenance/days/by-a-test"),  # and its lease, which other tests need as it is
        put("{LakeBucket}", "maintenance/work/by-a-test"),
        get("{LakeBucket}", "maintenance/work/by-a-test"),
        WRITE_UNSHOWN,
        READ_ROWS,
        LIST_LAKE,
        delete("{LakeBucket}", "events/by-a-test"),
        WRITE_CLOSED,
        READ_CLOSED,
        delete("{LakeBucket}", "closed/by-no-test"),
        READ_STATE,
        READ_TABLE,
        Call("glue", "get_partitions", A_TABLE),
        Call("glue", "batch_create_partition", {**A_TABLE, "PartitionInputList": []}),
        MOVE_DATES,
        SEE_STACK,
        Call("sns", "publish", {"TopicArn": "{ClosedDaysTopic}", "Message": "by a test"}),
    ],
    "WebhookCredentialsRole": [read_secret(), SEE_STACK],
}

# What no role may do, unless its row above says that it must.
MAY_NOT: list[Call] = [
    READ_RAW,
    WRITE_RAW,
    LIST_RAW,
    WRITE_ROWS,
    WRITE_CSV_ROWS,
    WRITE_QUARANTINE,
    put("{LakeBucket}", "maintenance/by-a-test"),
    put("{LakeBucket}", "erased/by-a-test"),
    delete("{LakeBucket}", "erased/by-a-test"),
    RECEIVE,
    read_secret(),
    READ_HASH_KEY,
    READ_TOMBSTONE_KEY,
    read_secret("{BirdApiKeySecret}"),
    read_secret("{PostgresSecret}"),
    put("{RawBucket}", "elsewhere/by-a-test.json"),
    READ_ROWS,
    READ_CSV_ROWS,
    READ_CLOSED,
    READ_STATE,
    get("{LakeBucket}", "maintenance/by-a-test"),
    WRITE_CLOSED,
    MOVE_DATES,
    get("{LakeBucket}", "quarantine/by-a-test"),
    get("{LakeBucket}", "athena-results/by-a-test"),
    delete("{RawBucket}", "raw/by-a-test.json"),
    delete("{LakeBucket}", "events/by-a-test"),
    LIST_LAKE,
    PUBLISH,
    Call("events", "put_events", {"Entries": [{**AN_EVENT, "EventBusName": "default"}]}),
    on_queue("receive_message", "{PublishEventsQueue}", MaxNumberOfMessages=1, VisibilityTimeout=0),
    on_queue("receive_message", "{PublishEventsDeadLetterQueue}"),
    WRITE_RESULTS,
    put("{LakeBucket}", "reports/by-a-test"),
    *ANNOUNCEMENTS,
    put("{LakeBucket}", "maintenance/storage.json"),
    Call("s3", "list_buckets", {}),
    Call("s3", "delete_bucket", {"Bucket": "{RawBucket}"}),
    Call("s3", "put_bucket_policy", {"Bucket": "{RawBucket}", "Policy": "{}"}),
    Call("s3", "put_bucket_versioning", {"Bucket": "{RawBucket}", "VersioningConfiguration": {"Status": "Suspended"}}),
    Call("secretsmanager", "put_secret_value", {"SecretId": "{WebhookSecret}", "SecretString": "{}"}),
    Call("secretsmanager", "delete_secret", {"SecretId": "{WebhookSecret}"}),
    Call("secretsmanager", "list_secrets", {}),
    on_queue("send_message", MessageBody="by a test"),
    on_queue("purge_queue"),
    on_queue("delete_queue"),
    on_queue("receive_message", "{ProcessDeadLetterQueue}"),
    on_queue("send_message", "{ImportQueue}", MessageBody="by a test"),
    on_queue("receive_message", "{ImportDeadLetterQueue}"),
    on_queue("send_message", "{ProcessDeadLetterQueue}", MessageBody="by a test"),
    on_queue("receive_message", "{PostgresQueue}", MaxNumberOfMessages=1, VisibilityTimeout=0),
    on_queue("send_message", "{PostgresQueue}", MessageBody="by a test"),
    on_queue("receive_message", "{PostgresDeadLetterQueue}"),
    on_queue("send_message", "{PostgresDeadLetterQueue}", MessageBody="by a test"),
    Call("iam", "list_users", {}),
    Call("iam", "create_user", {"UserName": "by-a-test"}),
    Call("iam", "get_role", {"RoleName": "{Role}"}),
    Call("iam", "put_role_policy", {"RoleName": "{Role}", "PolicyName": "more", "PolicyDocument": "{}"}),
    Call("lambda", "list_functions", {}),
    Call("lambda", "invoke", {"FunctionName": "{IngestFunction}", "Payload": b"{}"}),
    Call("lambda", "invoke", {"FunctionName": "{ProcessFunction}", "Payload": b"{}"}),
    Call("lambda", "invoke", {"FunctionName": "{LoadPostgresFunction}", "Payload": b"{}"}),
    Call("lambda", "get_function", {"FunctionName": "{IngestFunction}"}),
    Call("lambda", "update_function_configuration", {"FunctionName": "{IngestFunction}", "Description": "by a test"}),
    ASK_ATHENA,
    READ_TABLE,
    Call("glue", "delete_table", {"DatabaseName": "{GlueDatabase}", "Name": "events"}),
    Call("sns", "publish", {"TopicArn": "{AlarmTopic}", "Message": "by a test"}),
    SEE_STACK,
    Call("cloudformation", "delete_stack", {"StackName": "{Stack}"}),
    # The key works only through S3, Athena and Secrets Manager, for what a role may read and write there.
    Call("kms", "generate_data_key", {"KeyId": "{KmsKey}", "KeySpec": "AES_256"}),
    Call("kms", "encrypt", {"KeyId": "{KmsKey}", "Plaintext": b"by a test"}),
    Call("kms", "describe_key", {"KeyId": "{KmsKey}"}),
    Call("ec2", "describe_vpcs", {}),
    Call("ec2", "authorize_security_group_ingress", {"GroupId": "sg-0123456789abcdef0", **ONE_ADDRESS}),
]


def same(one: Call, other: Call) -> bool:
    """Whether both ask for the same thing, whatever they bring along."""

    def about(call: Call) -> list[Any]:
        names = ("Bucket", "Key", "QueueUrl", "SecretId", "GroupId", "Entries", "WorkGroup", "Name", "FunctionName")
        return [call.service, call.operation, *(call.arguments.get(name) for name in names)]

    return about(one) == about(other)


def forbidden(role: str) -> list[Call]:
    return [call for call in MAY_NOT if not any(same(call, must) for must in MUST.get(role, []))]


def test_every_role_of_the_template_has_its_row():
    assert sorted(MUST) == ROLES


@pytest.fixture(scope="module")
def resources(stack, registration, postgres_secret, company) -> Iterator[dict[str, str]]:
    """Physical ids by logical id, and of the secrets that are not the stack's own.

    An object to read is there, and what was allowed to be written is removed.
    """
    s3 = stack.emulator.client("s3")
    found = stack.resources()
    for key in ("raw/by-a-test.json", "raw/import/by-a-test.json"):
        s3.put_object(Bucket=found["RawBucket"], Key=key, Body=b"[]")
    for key in (
        "events/by-a-test",
        "events-csv/by-a-test",
        "closed/by-a-test",
        "maintenance/days/by-a-test",
        "alerts/by-a-test",
    ):
        s3.put_object(Bucket=found["LakeBucket"], Key=key, Body=b"[]")
    [described] = stack.emulator.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"]
    secrets = {"BirdApiKeySecret": registration["BirdApiKeySecretArn"], "PostgresSecret": postgres_secret}
    record = {"Bucket": found["LakeBucket"], "Key": "maintenance/storage.json"}  # other tests need it as it was
    was = s3.get_object(**record)["Body"].read()
    yield {**found, **secrets, "StackId": described["StackId"], "KmsKey": company["KmsKeyArn"]}
    for bucket, key in [
        ("RawBucket", "raw/by-a-test.json"),
        ("RawBucket", "raw/import/by-a-test.json"),
        ("RawBucket", "raw/backfill-by-a-test.json"),
        ("LakeBucket", "events/by-a-test"),
        ("LakeBucket", "events-csv/by-a-test"),
        ("LakeBucket", "quarantine/by-a-test"),
        ("LakeBucket", "athena-results/by-a-test"),
        ("LakeBucket", "reports/by-a-test"),
        ("LakeBucket", "closed/by-a-test"),
        ("LakeBucket", "maintenance/days/by-a-test"),
        ("LakeBucket", "maintenance/work/by-a-test"),
        ("LakeBucket", "alerts/by-a-test"),
        ("LakeBucket", "completeness/by-a-test"),
    ]:
        s3.delete_object(Bucket=found[bucket], Key=key)
    s3.put_object(**record, Body=was)


@pytest.fixture(scope="module")
def as_role(stack) -> Callable[[str, str], Any]:
    """A client with the credentials that the function of a role has."""

    @cache
    def session(role: str) -> dict[str, str]:
        arn = stack.emulator.client("iam").get_role(RoleName=stack.resources()[role])["Role"]["Arn"]
        got = stack.emulator.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {
            "aws_access_key_id": got["AccessKeyId"],
            "aws_secret_access_key": got["SecretAccessKey"],
            "aws_session_token": got["SessionToken"],
        }

    @cache
    def client(role: str, service: str) -> Any:
        return stack.emulator.client(service, **session(role))

    return client


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    if isinstance(value, dict):
        return {name: filled(item, names) for name, item in value.items()}
    if not isinstance(value, str):
        return value
    for name, physical in names.items():
        value = value.replace(f"{{{name}}}", physical)
    return value


def answered(client: Any, call: Call, names: dict[str, str]) -> str | None:
    """The code of AWS's error, or none."""
    try:
        getattr(client, call.operation)(**{name: filled(value, names) for name, value in call.arguments.items()})
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_what_it_must(resources, as_role, role):
    found = [(call, answered(as_role(role, call.service), call, resources)) for call in MUST.get(role, [])]
    assert [(str(call), code) for call, code in found if code and code != call.may_answer] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_nothing_else(stack, resources, as_role, role):
    names = {**resources, "Role": resources[role], "Stack": stack.name}
    found = [(call, answered(as_role(role, call.service), call, names)) for call in forbidden(role)]
    assert len(found) > 40
    assert [(str(call), code) for call, code in found if code not in DENIED] == []


def test_nobody_may_speak_plain_http_to_what_holds_data():
    policies = [
        resource["Properties"]
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy")
    ]
    assert len(policies) == 6
    for policy in policies:
        refusals = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert json.dumps([s["Condition"] for s in refusals]) == '[{"Bool": {"aws:SecureTransport": false}}]'
