"""From a POST at the load balancer to a row in Athena, through the deployed template."""

import io
import json
import time
import uuid
from contextlib import redirect_stderr
from urllib.parse import unquote

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.stack import Target
from local_aws import deploy as local_stack
from local_aws.deploy import Stack
from local_aws.query import poll, query
from local_aws.webhook import EVENTS, Request, basic, recorded_request, send
from maintain.check_template import ALB_TEMPLATE
from tests.e2e.webhook import STACKS_OWN, batch, post

ROWS_TIMEOUT_SECONDS = 60
IDLE_SECONDS = 3  # after which the local S3 resets a connection


def raw_keys(stack) -> list[str]:
    s3 = stack.emulator.client("s3")
    return [item["Key"] for item in s3.list_objects_v2(Bucket=stack.outputs["RawBucketName"]).get("Contents", [])]


def rows_of(stack, batch_id: str, columns: str, count: int) -> list[dict]:
    sql = f"SELECT {columns} FROM events WHERE batch_id = '{batch_id}' ORDER BY type, event_key"  # noqa: S608
    return poll(lambda: query(stack, sql), lambda rows: len(rows) >= count, ROWS_TIMEOUT_SECONDS)


def test_batch_is_stored_and_its_repetition_a_duplicate(each_stack):
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": f"{batch_id}-1"})
    assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert raw_keys(each_stack).count(f"raw/{batch_id}.json") == 1
    assert rows_of(each_stack, batch_id, "type, event_class", 1) == [{"type": "bounce", "event_class": "message_event"}]


@pytest.mark.parametrize("credentials", [None, STACKS_OWN, ("bird", "wrong")], ids=["none", "good", "wrong"])
def test_probe_is_answered_whatever_the_credentials(each_stack, credentials):
    assert post(each_stack, '[{"msys":{}}]', credentials=credentials)[:2] == (200, "ping")


@pytest.mark.parametrize("credentials", [None, ("bird", "wrong"), ("bird", "")], ids=["none", "wrong", "empty"])
def test_strangers_are_refused(each_stack, credentials):
    batch_id = str(uuid.uuid4())
    status, said, headers = post(each_stack, batch({"type": "open"}), batch_id=batch_id, credentials=credentials)
    assert (status, said) == (401, "rejected")
    assert headers["www-authenticate"].startswith("Basic realm=")
    assert f"raw/{batch_id}.json" not in raw_keys(each_stack)


def test_health_check_is_answered(each_stack):
    assert post(each_stack, "", method="GET", credentials=None)[:2] == (200, "ok")


def test_other_method_is_refused(each_stack):
    status, said, headers = post(each_stack, "", method="PUT")
    assert (status, said, headers["allow"]) == (405, "rejected", "GET, HEAD, POST")


def test_other_path_is_not_found(stack):
    path = stack.outputs["WebhookUrl"].partition("localhost")[2].partition("/")[2].rpartition("/")[0]
    assert post(stack, "[1]", path=f"/{path}/elsewhere")[:2] == (404, "not found")


def test_27_types_in_27_typed_rows_out(each_stack):
    request = recorded_request(EVENTS / "alb_all_types.json")
    batch_id = str(uuid.uuid4())
    assert post(each_stack, request.body, batch_id=batch_id)[:2] == (200, "stored")
    columns = (
        "event_class, type, typeof(timestamp) AS time_type, msg_size + 1 AS size, open_tracking, geo_ip_latitude, extra"
    )
    rows = rows_of(each_stack, batch_id, columns, 27)
    assert len(rows) == len({row["type"] for row in rows}) == 27
    [opened] = [row for row in rows if row["type"] == "open"]
    assert opened["event_class"] == "track_event"
    assert opened["time_type"].lower().startswith("timestamp")
    assert (opened["size"], opened["open_tracking"].lower(), opened["geo_ip_latitude"]) == ("1338", "true", "39.1749")
    assert not any(row["extra"] for row in rows)


def test_event_of_two_batches_is_once_in_the_view(stack):
    first, second = (str(uuid.uuid4()) for _ in range(2))
    body = batch({"type": "delivery", "event_id": first}, {"type": "bounce", "event_id": first})
    post(stack, body, batch_id=first)
    assert len(rows_of(stack, first, "type", 2)) == 2
    post(stack, body, batch_id=second)
    assert len(rows_of(stack, second, "type", 2)) == 2
    seen = f"SELECT type, batch_id FROM events_deduplicated WHERE event_key = '{first}' ORDER BY type"  # noqa: S608
    assert query(stack, seen) == [{"type": kind, "batch_id": first} for kind in ("bounce", "delivery")]


def test_compressed_batch_becomes_rows(stack):
    """By the load balancer: the local HTTP API takes JSON for text, whatever its encoding; AWS's may do so too."""
    request = recorded_request(EVENTS / "alb_batch_gzip.json")
    batch_id = str(uuid.uuid4())
    assert post(stack, request.body, batch_id=batch_id, headers={"content-encoding": "gzip"})[:2] == (200, "stored")
    assert len(rows_of(stack, batch_id, "type", 27)) == 27


def test_broken_batch_is_quarantined_beside_a_good_one(stack):
    bad, good = str(uuid.uuid4()), str(uuid.uuid4())
    assert post(stack, "this is no JSON", batch_id=bad)[:2] == (200, "stored")
    assert post(stack, batch({"type": "click", "event_id": good}), batch_id=good)[:2] == (200, "stored")
    assert rows_of(stack, good, "event_id", 1) == [{"event_id": good}]
    s3 = stack.emulator.client("s3")
    bucket = stack.outputs["LakeBucketName"]

    def quarantined() -> list[dict]:
        found = s3.list_objects_v2(Bucket=bucket, Prefix="quarantine/").get("Contents", [])
        keys = [item["Key"] for item in found if item["Key"].endswith(".ndjson")]  # and none that a test put there
        bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
        return [
            record for lines in bodies for record in map(json.loads, lines.splitlines()) if record["batch_id"] == bad
        ]

    [record] = poll(quarantined, bool, ROWS_TIMEOUT_SECONDS)
    assert (record["reason"], record["original"]) == ("not JSON", "this is no JSON")


@pytest.mark.parametrize("megabytes", [2, 5])
def test_one_click_stack_takes_batches_that_a_load_balancer_does_not(sar_stack, megabytes):
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": batch_id, "raw_reason": "x" * (megabytes * 1_000_000)})
    assert post(sar_stack, body, batch_id=batch_id)[:2] == (200, "stored")
    found = f"SELECT length(raw_reason) AS size FROM events WHERE batch_id = '{batch_id}'"  # noqa: S608
    rows = poll(lambda: query(sar_stack, found), bool, ROWS_TIMEOUT_SECONDS)
    assert rows == [{"size": str(megabytes * 1_000_000)}]


def test_first_batch_after_a_pause_is_stored(each_stack):
    """S3 has closed the connections that ingest kept, and ingest was frozen meanwhile."""
    for pause_seconds in (0, IDLE_SECONDS + 0.5):
        time.sleep(pause_seconds)
        batch_id = str(uuid.uuid4())
        body = batch({"type": "bounce", "event_id": batch_id})
        assert post(each_stack, body, batch_id=batch_id)[:2] == (200, "stored")


def test_load_balancer_refuses_more_than_a_megabyte(stack):
    headers = {"content-type": "application/json", **basic(stack.credentials())}
    assert send(stack, Request("POST", headers, b" " * 1024 * 1024)).status != 413
    assert send(stack, Request("POST", headers, b" " * (1024 * 1024 + 1))).status == 413


def test_http_api_refuses_more_than_lambda_takes(sar_stack):
    headers = {"content-type": "application/json", **basic(sar_stack.credentials())}
    assert send(sar_stack, Request("POST", headers, b"x" * 6 * 1024 * 1024)).status == 413
    binary = {**headers, "content-type": "application/octet-stream"}  # passed on in base64
    assert send(sar_stack, Request("POST", binary, b"x" * 5 * 1024 * 1024)).status == 413


def test_one_click_stack_has_neither_load_balancer_nor_network(sar_stack):
    types = {
        resource["ResourceType"] for resource in local_stack.described(sar_stack.emulator, sar_stack.name).values()
    }
    assert [kind for kind in types if kind.startswith(("AWS::ElasticLoadBalancingV2", "AWS::EC2"))] == []


def test_stack_without_an_api_key_says_what_to_type_into_birds_form(sar_stack):
    target = sar_stack.outputs["PublicWebhookUrl"]
    assert sar_stack.outputs["BirdForm"] == (
        f"Webhook name: bird (at most 24 characters) | Target: {target} | "
        "Events: all of them | Authentication: Basic | "
        f"Username and password: `username` and `password` in secret {sar_stack.outputs['WebhookSecretArn']}"
    )


def test_two_stacks_in_one_account_keep_to_themselves(stack, sar_stack):
    ids = {name: str(uuid.uuid4()) for name in ("first", "second")}
    for each, batch_id in zip((stack, sar_stack), ids.values(), strict=True):
        assert post(each, batch({"type": "delay", "event_id": batch_id}), batch_id=batch_id)[:2] == (200, "stored")
    both = f"SELECT batch_id FROM events WHERE batch_id IN ('{ids['first']}', '{ids['second']}')"  # noqa: S608
    for each, batch_id in zip((stack, sar_stack), ids.values(), strict=True):
        assert len(rows_of(each, batch_id, "type", 1)) == 1
        assert query(each, both) == [{"batch_id": batch_id}]
    assert post(sar_stack, batch({"type": "open"}), credentials=stack.credentials())[:2] == (401, "rejected")


def test_load_balancer_added_to_the_one_click_stack(sar_stack):
    """alb.yaml, as docs/publishing.md has it: another way to the same function."""
    emulator, name = sar_stack.emulator, "bird-alb"
    ec2 = emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/24")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for cidr, zone in (("10.0.0.0/25", "eu-west-1a"), ("10.0.0.128/25", "eu-west-1b"))
    ]
    values = {
        "IngestFunctionArn": sar_stack.outputs["IngestFunctionArn"],
        "DomainName": "alb.example.com",
        "CertificateArn": local_stack.certificate_arn(emulator),
        "WebhookPath": sar_stack.outputs["WebhookPath"],
        "VpcId": vpc,
        "SubnetIds": ",".join(subnets),
    }
    cloudformation = emulator.client("cloudformation")
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
    cloudformation.create_stack(StackName=name, TemplateBody=ALB_TEMPLATE.read_text(), Parameters=parameters)
    done = poll(
        lambda: local_stack.stack_status(emulator, name), lambda s: "IN_PROGRESS" not in s, ROWS_TIMEOUT_SECONDS
    )
    assert done == "CREATE_COMPLETE", local_stack.failure_reason(emulator, name)
    local_stack.register_targets(emulator, name, local_stack.read_template(ALB_TEMPLATE))
    door = local_stack.local_front_door(emulator, name)
    beside = Stack(
        emulator, sar_stack.name, {**sar_stack.outputs, "WebhookUrl": door + sar_stack.outputs["WebhookPath"]}
    )
    batch_id = str(uuid.uuid4())
    body = batch({"type": "injection", "event_id": batch_id})
    assert post(beside, body, batch_id=batch_id, credentials=None)[:2] == (401, "rejected")
    assert post(beside, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(sar_stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert rows_of(sar_stack, batch_id, "type", 1) == [{"type": "injection"}]


def test_http_api_under_a_name_of_ones_own_then_deleted_but_for_the_data(emulator):
    zone = emulator.client("route53").create_hosted_zone(Name="example.com", CallerReference="a-test")["HostedZone"]
    zone_id = zone["Id"].rpartition("/")[2]
    before = inventory(emulator)
    given = {"FrontDoor": "HTTP_API", "CertificateArn": "", "DomainName": "hooks.example.com", "HostedZoneId": zone_id}
    stack = local_stack.create_or_update(emulator, "bird-named", given)
    assert stack.outputs["PublicWebhookUrl"] == f"https://hooks.example.com{stack.outputs['WebhookPath']}"
    records = emulator.client("route53").list_resource_record_sets(HostedZoneId=zone_id)["ResourceRecordSets"]
    [address] = [record for record in records if record["Type"] == "A"]
    assert address["AliasTarget"]["DNSName"].rstrip(".") == stack.outputs["HttpApiDnsName"]
    api = emulator.client("apigatewayv2")
    [mapping] = api.get_api_mappings(DomainName="hooks.example.com")["Items"]
    assert (mapping["ApiId"], mapping["Stage"]) == (stack.resources()["HttpApi"], "$default")
    [door] = api.get_domain_name(DomainName="hooks.example.com")["DomainNameConfigurations"]
    assert (door["SecurityPolicy"], door["EndpointType"]) == ("TLS_1_2", "REGIONAL")
    assert post(stack, '[{"msys":{}}]', credentials=None)[:2] == (200, "ping")

    local_stack.delete(stack)
    left = inventory(emulator) - before
    assert left == {("bucket", stack.outputs["RawBucketName"]), ("bucket", stack.outputs["LakeBucketName"])}


def inventory(emulator) -> set[tuple[str, str]]:
    """Whatever the account has, of the kinds that a stack makes."""
    c = emulator.client
    logs, apis = c("logs").describe_log_groups(), c("apigatewayv2")
    found = {
        "bucket": [each["Name"] for each in c("s3").list_buckets()["Buckets"]],
        "function": [each["FunctionName"] for each in c("lambda").list_functions()["Functions"]],
        "event source": [each["UUID"] for each in c("lambda").list_event_source_mappings()["EventSourceMappings"]],
        "queue": c("sqs").list_queues().get("QueueUrls", []),
        "topic": [each["TopicArn"] for each in c("sns").list_topics()["Topics"]],
        "secret": [each["Name"] for each in c("secretsmanager").list_secrets()["SecretList"]],
        "role": [each["RoleName"] for each in c("iam").list_roles()["Roles"]],
        "log group": [each["logGroupName"] for each in logs["logGroups"]],
        "database": [each["Name"] for each in c("glue").get_databases()["DatabaseList"]],
        "workgroup": [each["Name"] for each in c("athena").list_work_groups()["WorkGroups"]],
        "alarm": [each["AlarmName"] for each in c("cloudwatch").describe_alarms()["MetricAlarms"]],
        "dashboard": [each["DashboardName"] for each in c("cloudwatch").list_dashboards()["DashboardEntries"]],
        "api": [each["ApiId"] for each in apis.get_apis()["Items"]],
        "domain": [each["DomainName"] for each in apis.get_domain_names()["Items"]],
        "certificate": [each["CertificateArn"] for each in c("acm").list_certificates()["CertificateSummaryList"]],
    }
    return {(kind, name) for kind, names in found.items() for name in names}


def test_update_to_csv_and_the_guides_prefix_then_delete(emulator, monkeypatch, capsys):
    """One stack through its life: a prefix with a space, CSV by update, gone by delete, its data still there.

    Its name has capital letters, which Glue does not keep.
    """
    batch_id = str(uuid.uuid4())
    bounce = {"type": "bounce", "rcpt_to": "nobody@example.com", "bounce_class": "10"}
    body = batch({**bounce, "event_id": "1", "reason": 'quoted "text", here', "msg_size": "12"})
    with redirect_stderr(io.StringIO()):
        stack = local_stack.create_or_update(emulator, "Bird-Life", {"RawPrefix": "B Event Data"})
        assert post(stack, body, batch_id=batch_id)[:2] == (200, "stored")
        assert rows_of(stack, batch_id, "msg_size", 1) == [{"msg_size": "12"}]
        stack = local_stack.create_or_update(emulator, "Bird-Life", {"OutputFormat": "CSV"})
    assert raw_keys(stack) == [f"B Event Data/{batch_id}.json"]
    assert query(stack, "SELECT count(*) AS rows FROM events_deduplicated") == [{"rows": "0"}]
    monkeypatch.setattr(operate, "deployed", lambda *names: Target(stack.name, emulator.client, 0.3))
    assert operate.main(["status"]) == 0
    assert "\nrows          0 days in CSV; 1 in PARQUET, 1 of them only there: " in capsys.readouterr().out
    assert operate.main(["replay", "--since", "2014-01-01"]) == 0
    rows = rows_of(stack, batch_id, "type, reason, msg_size", 1)
    assert rows == [{"type": "bounce", "reason": 'quoted "text", here', "msg_size": "12"}]
    view = "SELECT msg_size + 1 AS size, year(timestamp) AS year, event_date FROM events_deduplicated"
    assert query(stack, view) == [{"size": "13", "year": "2016", "event_date": "2016-04-18"}]  # text no longer
    suppressed = "SELECT rcpt_to, subaccount_id, bounce_class, campaign_id FROM suppression_candidates"
    assert [list(row.values()) for row in query(stack, suppressed)] == [["nobody@example.com", "0", "10", None]]
    local_stack.delete(stack)
    s3 = emulator.client("s3")
    kept = s3.list_objects_v2(Bucket=stack.outputs["RawBucketName"])["Contents"]
    assert [item["Key"] for item in kept] == [f"B Event Data/{batch_id}.json"]
    assert s3.list_objects_v2(Bucket=stack.outputs["LakeBucketName"], Prefix="events-csv/")["KeyCount"] == 1


def test_file_of_rows_is_announced_to_whoever_subscribes(stack):
    sns, sqs = stack.emulator.client("sns"), stack.emulator.client("sqs")
    queue = sqs.create_queue(QueueName="listens-for-rows")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = stack.outputs["RowsTopicArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": [allow]})})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    batch_id = str(uuid.uuid4())
    post(stack, batch({"type": "delay", "event_id": batch_id, "timestamp": "1462104000"}), batch_id=batch_id)

    def announced() -> list[str]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        records = [record for message in messages for record in json.loads(message["Body"]).get("Records", [])]
        return [record["s3"]["object"]["key"] for record in records if "2016-05-01" in record["s3"]["object"]["key"]]

    [key] = poll(announced, bool, ROWS_TIMEOUT_SECONDS)
    assert unquote(key).startswith("events/event_date=2016-05-01/")
