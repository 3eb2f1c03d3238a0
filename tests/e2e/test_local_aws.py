"""What the local AWS refuses as AWS does: a test for each rule of local_aws/strict/emulated (docs/local-aws.md).

Those of the load balancer and the HTTP API are in test_stack.py, where both are.
"""

import base64
import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import suppress

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from local_aws import emulator as local_emulator
from local_aws.emulator import REGION, SECRET_KEY, Emulator
from local_aws.query import poll

BUCKET = "a-bucket"
SERDE = {"SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"}
IDLE_SECONDS = 1
ROLE_SECONDS = 5  # time for a slow machine to ask before
LAMBDA_MAY_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ANYBODY_MAY_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRICT_AWS_IDLE", str(IDLE_SECONDS))
        patch.setenv("STRICT_AWS_ROLE", str(ROLE_SECONDS))
        with local_emulator.running(auth=True) as started:
            s3 = started.client("s3")
            s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
            started.client("glue").create_database(DatabaseInput={"Name": "bird"})
            yield started


def unique(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:8]}"


# --- Glue and Athena -------------------------------------------------------------------------------------------------


def view(name: str, **changes) -> dict:
    """A TableInput as Athena itself makes one for `SELECT 1 AS one`, with these changes; None takes a member away."""
    definition = {
        "originalSql": "SELECT 1 AS one",
        "catalog": "awsdatacatalog",
        "schema": "bird",
        "columns": [{"name": "one", "type": "integer"}],
        "runAsInvoker": False,
        **changes.pop("json", {}),
    }
    definition = {key: value for key, value in definition.items() if value is not None}
    made = {
        "Name": name,
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true", "comment": "Presto View"},
        "PartitionKeys": [],
        "StorageDescriptor": {"Columns": [{"Name": "one", "Type": "int"}], "SerdeInfo": SERDE},
        "ViewOriginalText": f"/* Presto View: {base64.b64encode(json.dumps(definition).encode()).decode()} */",
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def ask(aws: Emulator, sql: str) -> str:
    """The one value of the answer, or why there is none."""
    athena = aws.client("athena")
    started = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": "bird"},
        ResultConfiguration={"OutputLocation": f"s3://{BUCKET}/results/"},
    )
    query = started["QueryExecutionId"]

    def status() -> dict:
        return athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]

    ended = poll(status, lambda now: now["State"] in ("SUCCEEDED", "FAILED"), 30)
    if ended["State"] == "FAILED":
        return ended["StateChangeReason"]
    rows = athena.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"]
    return rows[1]["Data"][0]["VarCharValue"]


def test_glue_folds_names_to_lower_case(aws):
    glue = aws.client("glue")
    glue.create_database(DatabaseInput={"Name": "Bird_My_Stack"})
    glue.create_table(DatabaseName="Bird_My_Stack", TableInput={"Name": "Events"})
    assert glue.get_database(Name="BIRD_MY_STACK")["Database"]["Name"] == "bird_my_stack"
    assert [table["Name"] for table in glue.get_tables(DatabaseName="Bird_my_stack")["TableList"]] == ["events"]
    with pytest.raises(ClientError, match="AlreadyExistsException"):
        glue.create_database(DatabaseInput={"Name": "bird_my_stack"})


def test_glue_answers_nothing_that_was_not_given(aws):
    glue = aws.client("glue")
    optional = {"Description", "Owner", "PartitionKeys", "Parameters", "ViewOriginalText"}
    glue.create_table(DatabaseName="bird", TableInput={"Name": "bare"})
    assert optional & glue.get_table(DatabaseName="bird", Name="bare")["Table"].keys() == set()
    glue.update_table(DatabaseName="bird", TableInput={"Name": "bare", "Description": "Words", "PartitionKeys": []})
    assert glue.get_table(DatabaseName="bird", Name="bare")["Table"]["PartitionKeys"] == []
    glue.update_table(DatabaseName="bird", TableInput={"Name": "bare"})
    assert optional & glue.get_table(DatabaseName="bird", Name="bare")["Table"].keys() == set()
    glue.create_database(DatabaseInput={"Name": "bare"})
    assert "Description" not in glue.get_database(Name="bare")["Database"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, "1", id="as Athena makes it"),
        pytest.param(
            {"StorageDescriptor": {"Columns": [{"Name": "one", "Type": "int"}]}},
            "HIVE_METASTORE_ERROR: Table storage descriptor is missing SerDe info: {name}",
            id="no serde",
        ),
        pytest.param(
            {"StorageDescriptor": {"Columns": [{"Name": "one", "Type": "int"}], "SerdeInfo": {}}},
            "HIVE_METASTORE_ERROR: Table storage descriptor is missing SerDe info: {name}",
            id="empty serde",
        ),
        pytest.param(
            {"PartitionKeys": None},
            "GENERIC_INTERNAL_ERROR: null (the view {name} has no PartitionKeys)",
            id="no partition keys",
        ),
        pytest.param(
            {"Description": "What it shows"},
            "TABLE_NOT_FOUND: Table 'awsdatacatalog.bird.{name}' does not exist",
            id="described",
        ),
        pytest.param(
            {"Parameters": {"presto_view": "true"}},
            "TABLE_NOT_FOUND: Table 'awsdatacatalog.bird.{name}' does not exist",
            id="no comment",
        ),
        pytest.param(
            {"json": {"runAsInvoker": None}},
            "GENERIC_INTERNAL_ERROR: Invalid JSON bytes for ConnectorViewDefinition: runAsInvoker",
            id="no runAsInvoker",
        ),
        pytest.param(
            {"json": {"schema": "bird_My_Stack"}},
            "GENERIC_INTERNAL_ERROR: schemaName is not lowercase: bird_My_Stack",
            id="schema in capitals",
        ),
    ],
)
def test_athena_reads_a_view_only_if_it_is_as_athena_makes_it(aws, changes, said):
    glue = aws.client("glue")
    name = unique("v").replace("-", "_")
    glue.create_table(DatabaseName="bird", TableInput=view(name, **changes))
    assert ask(aws, f"SELECT one FROM {name}") == said.format(name=name)  # noqa: S608
    # and so does a view that stands on it
    above = f"above_{name}"
    glue.create_table(DatabaseName="bird", TableInput=view(above, json={"originalSql": f"SELECT one FROM {name}"}))  # noqa: S608
    assert ask(aws, f"SELECT one FROM {above}") == said.format(name=name)  # noqa: S608


def test_athena_does_not_read_a_table_without_a_serde(aws):
    location = {"Location": f"s3://{BUCKET}/nothing/", "Columns": [{"Name": "one", "Type": "int"}]}
    aws.client("glue").create_table(
        DatabaseName="bird", TableInput={"Name": "no_serde", "PartitionKeys": [], "StorageDescriptor": location}
    )
    said = "HIVE_METASTORE_ERROR: Table storage descriptor is missing SerDe info: no_serde"
    assert ask(aws, "SELECT count(*) FROM no_serde") == said


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "announced"), [("B Event Data/", []), ("B+Event+Data/", ["B+Event+Data/a%26b.json"])]
)
def test_notification_filters_are_in_s3s_encoding(aws, prefix, announced):
    s3, sqs = aws.client("s3"), aws.client("sqs")
    bucket = unique("notifies")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    everything = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    url = sqs.create_queue(QueueName=bucket, Attributes={"Policy": policy})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def rule(name: str, prefix: str) -> dict:
        filters = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
        return {"Id": name, "QueueArn": arn, "Events": ["s3:ObjectCreated:Put"], "Filter": filters}

    notify = {"QueueConfigurations": [rule("tried", prefix), rule("last", "last/")]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notify)
    s3.put_object(Bucket=bucket, Key="B Event Data/a&b.json", Body=b"[]")
    keys: list[str] = []

    def heard() -> list[str]:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            keys.extend(record["s3"]["object"]["key"] for record in json.loads(message["Body"]).get("Records", []))
        return keys

    poll(heard, bool, 1)
    s3.put_object(Bucket=bucket, Key="last/one", Body=b"[]")
    assert sorted(poll(heard, lambda found: "last/one" in found, 10)) == [*announced, "last/one"]


@pytest.mark.parametrize(
    ("events", "prefix", "code"),
    [
        pytest.param("s3:ObjectCreated:*", "raw/import/", "InvalidArgument", id="within"),
        pytest.param("s3:ObjectCreated:Put", "", "InvalidArgument", id="around"),
        pytest.param("s3:ObjectCreated:Copy", "raw/", None, id="another event"),
        pytest.param("s3:ObjectCreated:*", "invoices/", None, id="beside"),
    ],
)
def test_notifications_that_overlap_are_refused(aws, events, prefix, code):
    s3, bucket = aws.client("s3"), unique("overlaps")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def rule(name: str, events: str, prefix: str) -> dict:
        filters = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
        return {"Id": name, "QueueArn": f"arn:aws:sqs:{REGION}:000000000000:q", "Events": [events], "Filter": filters}

    notify = {"QueueConfigurations": [rule("one", "s3:ObjectCreated:Put", "raw/"), rule("other", events, prefix)]}
    said = None
    try:
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=notify, SkipDestinationValidation=True
        )
    except ClientError as error:
        said = error.response["Error"]["Code"]
    assert said == code


@pytest.mark.parametrize(
    ("version", "status", "said"), [("s3", 400, b"Please use AWS4-HMAC-SHA256"), ("s3v4", 200, b"a page")]
)
def test_link_with_an_old_signature_is_refused(aws, version, status, said):
    config = Config(signature_version=version)
    login = {"aws_access_key_id": aws.access_key, "aws_secret_access_key": SECRET_KEY}
    s3 = boto3.client("s3", REGION, endpoint_url=aws.endpoint_url, config=config, verify=False, **login)
    aws.client("s3").put_object(Bucket=BUCKET, Key="linked", Body=b"a page")
    link = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "linked"})
    with urllib3.PoolManager(ca_certs=str(aws.certificate)) as pool:
        answer = pool.request("GET", link)
    assert (answer.status, said in answer.data) == (status, True)


def test_idle_connection_to_s3_is_reset_when_it_is_used_again(aws):
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=1)
    login = {"aws_access_key_id": aws.access_key, "aws_secret_access_key": SECRET_KEY}
    trust = {"endpoint_url": aws.endpoint_url, "verify": str(aws.certificate)}
    s3 = boto3.client("s3", REGION, config=config, **trust, **login)
    s3.list_buckets()
    s3.list_buckets()
    time.sleep(IDLE_SECONDS + 0.3)
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        s3.list_buckets()
    s3.list_buckets()
    # of other services no such thing is known to us
    sqs = boto3.client("sqs", REGION, config=config, **trust, **login)
    sqs.list_queues()
    time.sleep(IDLE_SECONDS + 0.3)
    sqs.list_queues()


# --- CloudFormation --------------------------------------------------------------------------------------------------


def topic(words: str) -> str:
    resources = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": words}}}
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})


def status(client, name: str) -> str:
    return client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]


def test_stack_cleans_up_after_an_update_and_takes_no_other_meanwhile(aws):
    client = aws.client("cloudformation")
    client.create_stack(StackName="cleaned", TemplateBody=topic("one"))
    assert poll(lambda: status(client, "cleaned"), "CREATE_COMPLETE".__eq__, 10) == "CREATE_COMPLETE"
    client.update_stack(StackName="cleaned", TemplateBody=topic("two"))
    cleaning = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    assert poll(lambda: status(client, "cleaned"), cleaning.__eq__, 10) == cleaning
    with pytest.raises(ClientError, match=f"is in {cleaning} state"):
        client.update_stack(StackName="cleaned", TemplateBody=topic("three"))
    with pytest.raises(ClientError, match=f"is in {cleaning} state"):
        client.create_change_set(StackName="cleaned", ChangeSetName="three", TemplateBody=topic("three"))
    assert poll(lambda: status(client, "cleaned"), "UPDATE_COMPLETE".__eq__, 10) == "UPDATE_COMPLETE"
    events = client.describe_stack_events(StackName="cleaned")["StackEvents"]
    seen = [event["ResourceStatus"] for event in reversed(events) if event["LogicalResourceId"] == "cleaned"]
    assert seen[-3:] == ["UPDATE_IN_PROGRESS", cleaning, "UPDATE_COMPLETE"]
    client.update_stack(StackName="cleaned", TemplateBody=topic("three"))


LONG_ANSWER = """
import json, os, urllib.request
def handler(event, context):
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"PhysicalResourceId": "it", "Status": "SUCCESS", "Data": {"Long": "x" * 5000}}
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
    urllib.request.urlopen(request)
"""


def test_long_answer_fails_and_the_roll_back_keeps_what_is_retained_but_for_the_creation(aws):
    kept, removed = unique("kept"), unique("removed")

    def bucket(name: str, policy: str) -> dict:
        return {"Type": "AWS::S3::Bucket", "DeletionPolicy": policy, "Properties": {"BucketName": name}}

    resources = {
        "Kept": bucket(kept, "Retain"),
        "Removed": bucket(removed, "RetainExceptOnCreate"),
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": LAMBDA_MAY_ASSUME}},
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": "python3.13",
                "Handler": "index.handler",
                "Timeout": 30,
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Code": {"ZipFile": LONG_ANSWER},
            },
        },
        "Custom": {
            "Type": "AWS::CloudFormation::CustomResource",
            "DependsOn": ["Kept", "Removed"],
            "Properties": {"ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]}, "ServiceTimeout": 30},
        },
    }
    client = aws.client("cloudformation")
    template = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})
    client.create_stack(StackName="too-long", TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    assert poll(lambda: status(client, "too-long"), "ROLLBACK_COMPLETE".__eq__, 60) == "ROLLBACK_COMPLETE"
    events = client.describe_stack_events(StackName="too-long")["StackEvents"]
    failed = [event["ResourceStatusReason"] for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert any("Response object is too long." in reason for reason in failed)
    names = [found["Name"] for found in aws.client("s3").list_buckets()["Buckets"]]
    assert (kept in names, removed in names) == (True, False)


def test_retain_except_on_create_keeps_what_a_later_deletion_finds(aws):
    name = unique("kept")
    bucket = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "RetainExceptOnCreate", "Properties": {"BucketName": name}}
    client = aws.client("cloudformation")
    template = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Bucket": bucket}})
    stack = client.create_stack(StackName="deleted", TemplateBody=template)["StackId"]
    poll(lambda: status(client, stack), "CREATE_COMPLETE".__eq__, 10)
    client.delete_stack(StackName="deleted")
    assert poll(lambda: status(client, stack), "DELETE_COMPLETE".__eq__, 10) == "DELETE_COMPLETE"
    assert name in [found["Name"] for found in aws.client("s3").list_buckets()["Buckets"]]


# --- IAM -------------------------------------------------------------------------------------------------------------


def test_permissions_of_a_new_role_and_a_changed_policy_take_seconds(aws):
    iam, name = aws.client("iam"), unique("role")

    def allow(action: str) -> None:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=document)

    def refused(call) -> str | None:
        try:
            call()
        except ClientError as error:
            return error.response["Error"]["Code"]
        return None

    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(ANYBODY_MAY_ASSUME))["Role"]["Arn"]
    allow("sqs:ListQueues")
    got = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    login = {
        "aws_access_key_id": got["AccessKeyId"],
        "aws_secret_access_key": got["SecretAccessKey"],
        "aws_session_token": got["SessionToken"],
    }
    sqs, sns = aws.client("sqs", **login), aws.client("sns", **login)
    assert "AccessDenied" in str(refused(sqs.list_queues))
    assert poll(lambda: refused(sqs.list_queues), lambda code: code is None, 20) is None

    allow("sns:ListTopics")
    assert (refused(sqs.list_queues), refused(sns.list_topics)) == (None, "AuthorizationError")
    assert poll(lambda: refused(sns.list_topics), lambda code: code is None, 20) is None
    assert "AccessDenied" in str(refused(sqs.list_queues))


def test_what_a_customers_key_encrypts_needs_the_callers_right_to_the_key(aws):
    iam, name, bucket = aws.client("iam"), unique("role"), unique("bucket")
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    by_default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [by_default]})
    s3.put_object(Bucket=bucket, Key="by-root", Body=b"")
    secret = aws.client("secretsmanager").create_secret(Name=name, SecretString="text", KmsKeyId=key)["ARN"]
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(ANYBODY_MAY_ASSUME))["Role"]["Arn"]
    all_of_them = {"s3:PutObject", "s3:GetObject", "secretsmanager:GetSecretValue"}
    statements = [
        {"Effect": "Allow", "Action": sorted(all_of_them), "Resource": "*"},
        # Not to decrypt what S3 has.
        {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": key} | via("s3"),
        {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key} | via("secretsmanager"),
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=document)
    got = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    login = {"aws_access_key_id": got["AccessKeyId"], "aws_secret_access_key": got["SecretAccessKey"]}
    login["aws_session_token"] = got["SessionToken"]
    as_role = aws.client("s3", **login)
    calls = {
        "s3:PutObject": lambda: as_role.put_object(Bucket=bucket, Key="by-role", Body=b""),
        "s3:GetObject": lambda: as_role.get_object(Bucket=bucket, Key="by-root"),
        "secretsmanager:GetSecretValue": lambda: aws.client("secretsmanager", **login).get_secret_value(
            SecretId=secret
        ),
    }

    def allowed() -> set[str]:
        done = set()
        for call, ask in calls.items():
            with suppress(ClientError):
                ask()
                done.add(call)
        return done

    # A new role's rights work one after the other, within seconds.
    but_reading = all_of_them - {"s3:GetObject"}
    assert poll(allowed, but_reading.__eq__, 20) == but_reading


def via(service: str) -> dict:
    return {"Condition": {"StringLike": {"kms:ViaService": f"{service}.*"}}}


ASKS_ONCE = """
import json, urllib.request
import boto3
def handler(event, context):
    try:
        boto3.client("sqs").list_queues()
        said = "allowed"
    except Exception as error:
        said = error.response["Error"]["Code"]
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"PhysicalResourceId": "it", "Status": "SUCCESS", "Data": {"Said": said}}
    request = urllib.request.Request(event["ResponseURL"], json.dumps(answer).encode(), method="PUT")
    urllib.request.urlopen(request)
"""


def test_custom_resource_meets_a_new_role_too_early_however_slow_the_machine(aws):
    iam, name = aws.client("iam"), unique("custom")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(LAMBDA_MAY_ASSUME))["Role"]["Arn"]
    statement = {"Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=document)
    time.sleep(ROLE_SECONDS)
    function = {"Runtime": "python3.13", "Handler": "index.handler", "Timeout": 30, "Role": arn}
    asked = {"ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]}, "ServiceTimeout": 60}
    resources = {
        "Function": {"Type": "AWS::Lambda::Function", "Properties": {**function, "Code": {"ZipFile": ASKS_ONCE}}},
        "Custom": {"Type": "AWS::CloudFormation::CustomResource", "Properties": asked},
    }
    outputs = {"Said": {"Value": {"Fn::GetAtt": ["Custom", "Said"]}}}
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources, "Outputs": outputs}
    client = aws.client("cloudformation")
    client.create_stack(StackName=name, TemplateBody=json.dumps(template))
    assert poll(lambda: status(client, name), "CREATE_COMPLETE".__eq__, 60) == "CREATE_COMPLETE"
    [said] = client.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
    assert "AccessDenied" in said["OutputValue"]


# --- Sizes -----------------------------------------------------------------------------------------------------------


def zipped(source: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.py", source)
    return file.getvalue()


def test_lambda_takes_four_kilobytes_of_environment_and_six_megabytes_of_event(aws):
    role = aws.client("iam").create_role(RoleName="sizes", AssumeRolePolicyDocument=json.dumps(LAMBDA_MAY_ASSUME))
    client = aws.client("lambda")
    given = {
        "FunctionName": "sizes",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": role["Role"]["Arn"],
        "Code": {"ZipFile": zipped("def handler(event, context):\n    return len(event['text'])\n")},
    }
    with pytest.raises(ClientError, match="exceeded the 4KB limit"):
        client.create_function(**given, Environment={"Variables": {"LONG": "x" * 4093}})
    client.create_function(**given, Environment={"Variables": {"LONG": "x" * 4092}})
    with pytest.raises(ClientError, match="exceeded the 4KB limit"):
        client.update_function_configuration(FunctionName="sizes", Environment={"Variables": {"LONG": "ä" * 2047}})
    with pytest.raises(ClientError, match="RequestTooLargeException"):
        client.invoke(FunctionName="sizes", Payload=json.dumps({"text": "x" * 6 * 1024 * 1024}).encode())


# --- SQS -------------------------------------------------------------------------------------------------------------


def test_dead_letters_are_moved_by_a_task_as_by_sqs(aws):
    sqs = aws.client("sqs")

    def queue(name: str, **attributes: str) -> tuple[str, str]:
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    letters, letters_arn = queue("letters")
    redrive = json.dumps({"deadLetterTargetArn": letters_arn, "maxReceiveCount": 1})
    work, work_arn = queue("work", RedrivePolicy=redrive, VisibilityTimeout="0")
    with pytest.raises(ClientError, match="must be configured as a Dead Letter Queue"):
        sqs.start_message_move_task(SourceArn=work_arn)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        sqs.start_message_move_task(SourceArn=f"{letters_arn}-not-there")

    # one letter that came there by itself, and one that was sent by hand
    sqs.send_message(QueueUrl=work, MessageBody="came by itself")
    for _ in range(2):
        sqs.receive_message(QueueUrl=work)
    started = sqs.start_message_move_task(SourceArn=letters_arn)
    with pytest.raises(ClientError, match="Only one active task is allowed"):
        sqs.start_message_move_task(SourceArn=letters_arn)
    # the list is behind
    assert sqs.list_message_move_tasks(SourceArn=letters_arn).get("Results", []) == []
    [running] = poll(lambda: sqs.list_message_move_tasks(SourceArn=letters_arn).get("Results", []), bool, 10)
    assert (running["Status"], running["TaskHandle"]) == ("RUNNING", started["TaskHandle"])

    def newest() -> dict:
        return sqs.list_message_move_tasks(SourceArn=letters_arn)["Results"][0]

    done = poll(newest, lambda task: task["Status"] != "RUNNING", 10)
    assert (done["Status"], done["ApproximateNumberOfMessagesMoved"], "TaskHandle" in done) == ("COMPLETED", 1, False)
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=work)["Messages"]] == ["came by itself"]

    sqs.send_message(QueueUrl=letters, MessageBody="by hand")
    sqs.start_message_move_task(SourceArn=letters_arn)
    failed = poll(newest, lambda task: task["Status"] == "FAILED", 10)
    assert failed["FailureReason"] == "CouldNotDetermineMessageSource"
    sqs.start_message_move_task(SourceArn=letters_arn, DestinationArn=work_arn)
    assert poll(newest, lambda task: task["Status"] == "COMPLETED", 10)["DestinationArn"] == work_arn
