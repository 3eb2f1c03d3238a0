"""What only a deployment of its own shows: other parameters, updates, rotations, deletions."""

import io
import json
import threading
import uuid
from contextlib import redirect_stderr
from urllib.parse import urlsplit

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import rotation
from local_aws import deploy as local_stack
from local_aws.query import poll, query
from local_aws.webhook import EVENTS, basic
from tests.e2e.webhook import batch, post, post_one, raw_keys, rows_of

TIMEOUT_SECONDS = 60
BIRDS_ATTEMPTS = 12


@pytest.mark.nightly  # an HTTP API is deployed by test_bird.py and test_switching.py, a deletion is below
def test_http_api_under_a_name_of_ones_own_then_deleted_but_for_the_data(emulator):
    zone = emulator.client("route53").create_hosted_zone(Name="example.com", CallerReference="a-test")["HostedZone"]
    zone_id = zone["Id"].rpartition("/")[2]
    local_stack.make_artefact_bucket(emulator)
    local_stack.certificate_arn(emulator)
    before = inventory(emulator)  # with what the account supplies
    given = {"FrontDoor": "HTTP_API", "CertificateArn": "", "DomainName": "hooks.example.com", "HostedZoneId": zone_id}
    given["PermissionsBoundaryArn"] = "arn:aws:iam::000000000000:policy/company"
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
    key_of_tombstones = stack.outputs["TombstoneKeyArn"].rpartition(":")[2].rpartition("-")[0]
    assert left == {
        ("bucket", stack.outputs["RawBucketName"]),
        ("bucket", stack.outputs["LakeBucketName"]),
        ("secret", key_of_tombstones),  # without it nobody can tell whom the tombstones in the lake bucket name
    }


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
    monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
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


def allowed_ranges(emulator, group: str) -> list[str]:
    """The ranges that reach port 443 by a security group."""
    found = emulator.client("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    rules = [rule for rule in found["SecurityGroupRules"] if not rule["IsEgress"]]
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in rules} == {("tcp", 443, 443)}
    return sorted(rule["CidrIpv4"] for rule in rules)


@pytest.mark.nightly  # also in tests/faults, which ask what became of every batch
def test_credentials_rotate_under_load_without_one_refused_batch(emulator, run):
    stack = local_stack.create_or_update(emulator, "bird-rotating", {"SenderCidrs": "192.0.2.0/24,198.51.100.7/32"})
    old = stack.credentials()
    bird = {"login": basic(old)}  # what Bird's form holds
    answers: list[int] = []
    given_up: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            batch_id, login = str(uuid.uuid4()), bird["login"]
            # A 5xx is the emulator's: it ends the process of a function that it updates, and is slow on a busy machine.
            for _ in range(BIRDS_ATTEMPTS):
                status = post_one(stack, login, batch_id=batch_id)
                answers.append(status)
                if status < 500:
                    break
            else:
                given_up.append(batch_id)

    senders = [threading.Thread(target=load) for _ in range(2)]
    for sender in senders:
        sender.start()
    try:
        status, printed, said = run(stack, "rotate", "start")
        assert status == 0, said
        new = stack.credentials()
        assert new[0] == old[0]
        assert new[1] != old[1]
        assert new[1] not in printed + said
        assert old[1] not in printed + said
        assert "WebhookCredentials: UPDATE_COMPLETE" in said
        assert run(stack, "rotate", "start")[2] == (
            "bird-webhooks: a rotation is open: `rotate finish` or `rotate abort` first\n"
        )
        assert post_one(stack, basic(old), batch_id=str(uuid.uuid4())) == 200
        assert post_one(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
        bird["login"] = basic(new)
        # WHEN somebody deploys meanwhile, with a parameter that a file has kept, THEN both are accepted as before
        local_stack.create_or_update(emulator, stack.name, {"CredentialsVersion": "1"})
        assert post_one(stack, basic(old), batch_id=str(uuid.uuid4())) == 200
        assert post_one(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
        status, _, said = run(stack, "rotate", "finish", "--force", "--yes")
        assert status == 0, said
        seen = len(answers)
        poll(lambda: len(answers), lambda count: count > seen + 5, TIMEOUT_SECONDS)
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    assert set(answers) <= {200, 502, 503}  # not one was refused
    assert given_up == []
    assert answers.count(200) > 20
    assert post_one(stack, basic(old), batch_id=str(uuid.uuid4())) == 401
    assert run(stack, "rotate", "show")[1] == f"username: {new[0]}\npassword: {new[1]}\n"
    # WHEN another one is begun and thought better of
    assert run(stack, "rotate", "start")[0] == 0
    dropped = stack.credentials()
    assert run(stack, "rotate", "abort", "--yes")[0] == 0
    assert stack.credentials() == new
    assert post_one(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
    assert post_one(stack, basic(dropped), batch_id=str(uuid.uuid4())) == 401
    # THEN all else is as it was deployed
    given = ["192.0.2.0/24", "198.51.100.7/32"]
    assert allowed_ranges(emulator, stack.resources()["LoadBalancerSecurityGroup"])[-2:] == given
    versions = rotation.state(stack.stack).versions
    assert set(versions) == {"AWSCURRENT"}


@pytest.mark.nightly  # each by its function: tests/integration/test_ingest_app.py, test_sender_addresses_app.py
def test_header_of_bird_lets_in_and_looked_up_senders_reach_the_load_balancer(emulator):
    """`localhost` stands for the name of Bird's; the emulator has no packets to refuse."""
    name = "X-MessageSystems-Webhook-Token"
    stack = local_stack.create_or_update(
        emulator,
        "bird-header",
        {"WebhookAuth": "HEADER", "WebhookHeader": name, "SenderHostName": "localhost", "WebhookPath": "/"},
    )
    _, secret = stack.credentials()
    assert post_one(stack, {name: secret}, batch_id=str(uuid.uuid4())) == 200
    door = urlsplit(stack.outputs["WebhookUrl"]).path
    assert post(stack, batch({"type": "open"}), path=f"{door}bird").status == 404
    assert post_one(stack, {name: secret[::-1]}, batch_id=str(uuid.uuid4())) == 401
    assert post_one(stack, {}, batch_id=str(uuid.uuid4())) == 401
    assert post_one(stack, basic(stack.credentials()), batch_id=str(uuid.uuid4())) == 401
    resources = stack.resources()
    balancers = emulator.client("elbv2").describe_load_balancers(LoadBalancerArns=[resources["LoadBalancer"]])
    [group] = balancers["LoadBalancers"][0]["SecurityGroups"]
    assert allowed_ranges(emulator, group) == ["127.0.0.1/32"]


@pytest.mark.nightly  # its rule in the template: tests/unit/test_template.py
def test_oauth2_deploys_behind_the_load_balancer(emulator):
    issuer = {
        "WebhookAuth": "OAUTH2",
        "JwtIssuer": "https://issuer.example.com/",
        "JwksEndpoint": "https://issuer.example.com/jwks.json",
        "JwtClaimName": "client_id",
        "JwtClaimValue": "bird",
    }
    stack = local_stack.create_or_update(emulator, "bird-oauth2", issuer)
    rules = emulator.client("elbv2").describe_rules(ListenerArn=stack.resources()["Listener"])["Rules"]
    [actions] = [rule["Actions"] for rule in rules if rule["Priority"] == "1"]
    assert [action["Type"] for action in sorted(actions, key=lambda action: action["Order"])] == [
        "jwt-validation",
        "forward",
    ]
    # The emulator verifies no tokens. Whoever reaches the function otherwise is refused by the function.
    event = json.loads((EVENTS / "http_api_batch.json").read_text())
    event["headers"]["authorization"] = "Bearer forged"
    assert invoked(stack, event) == 401
    # Another load balancer before the same function verified nothing; the stack's own did.
    event = json.loads((EVENTS / "alb_all_types.json").read_text())
    event["headers"]["authorization"] = "Bearer token"
    assert invoked(stack, event) == 401
    event["requestContext"]["elb"]["targetGroupArn"] = stack.resources()["IngestTargetGroup"]
    assert invoked(stack, event) == 200


def invoked(stack, event) -> int:
    """The status that ingest answers to an event of a load balancer or an HTTP API."""
    answer = stack.emulator.client("lambda").invoke(
        FunctionName=stack.resources()["IngestFunction"], Payload=json.dumps(event).encode()
    )
    return json.loads(answer["Payload"].read())["statusCode"]
