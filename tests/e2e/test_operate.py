"""The operator's tool against a deployed stack, and the ways in that only a deployment shows."""

import json
import threading
import uuid
from urllib.parse import quote_plus

import pytest

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import rotation
from bird_webhooks.stack import Target
from local_aws import deploy as local_stack
from local_aws.query import poll, query
from local_aws.webhook import EVENTS, basic
from tests.e2e import webhook
from tests.e2e.webhook import batch

TIMEOUT_SECONDS = 60
BIRDS_ATTEMPTS = 12


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(stack, "status")` as from the command line: exit status, what was printed, what was said beside it."""

    def command(stack, *arguments: str) -> tuple[int, str, str]:
        target = Target(stack.name, stack.emulator.client, poll_seconds=0.3)
        monkeypatch.setattr(operate, "deployed", lambda *names: target)
        status = operate.main([*arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def post(stack, login: dict, *, batch_id: str) -> int:
    body = batch({"type": "bounce", "event_id": batch_id})
    return webhook.post(stack, body, batch_id=batch_id, credentials=None, headers=login).status


def rows(stack, batch_id: str) -> int:
    sql = f"SELECT count(DISTINCT event_key) AS events FROM events WHERE batch_id = '{batch_id}'"  # noqa: S608
    return int(query(stack, sql)[0]["events"] or 0)


def let_in(emulator, group: str) -> list[str]:
    """The ranges that reach port 443 by a security group."""
    found = emulator.client("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    rules = [rule for rule in found["SecurityGroupRules"] if not rule["IsEgress"]]
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in rules} == {("tcp", 443, 443)}
    return sorted(rule["CidrIpv4"] for rule in rules)


def purge_rows(stack) -> None:
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    for item in s3.list_objects_v2(Bucket=bucket, Prefix="events/").get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=item["Key"])


def test_replay_repairs_the_rows_that_are_missing_and_adds_none(stack, run):
    batch_id = str(uuid.uuid4())
    assert post(stack, basic(stack.credentials()), batch_id=batch_id) == 200
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    purge_rows(stack)
    assert rows(stack, batch_id) == 0
    assert run(stack, "replay", "--batch", batch_id)[:2] == (0, "1 batches replayed\n")
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    assert run(stack, "replay", "--since", "1h", "--yes")[0] == 0
    assert rows(stack, batch_id) == 1


def test_dead_letters_go_back_and_become_rows(stack, run):
    batch_id = str(uuid.uuid4())
    sqs = stack.emulator.client("sqs")
    assert post(stack, basic(stack.credentials()), batch_id=batch_id) == 200
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    purge_rows(stack)
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": stack.outputs["RawBucketName"]}}}
    record["s3"]["object"] = {"key": quote_plus(f"raw/{batch_id}.json")}
    dead = stack.outputs["ProcessDeadLetterQueueUrl"]
    sqs.send_message(QueueUrl=dead, MessageBody=json.dumps({"Records": [record]}))
    status, printed, _ = run(stack, "redrive", "--dry-run")
    assert (status, printed.splitlines()[0]) == (0, f"raw/{batch_id}.json")
    assert rows(stack, batch_id) == 0
    assert run(stack, "redrive")[:2] == (0, "1 dead letters moved back to the process queue\n")
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    assert run(stack, "redrive")[:2] == (0, "no dead letters\n")


def test_status_is_one_screen(stack, run):
    post(stack, basic(stack.credentials()), batch_id=str(uuid.uuid4()))
    status, printed, said = run(stack, "status")
    assert (status, said) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines() if not line.startswith(" "))
    assert lines["stack"].startswith(f"{stack.name} ")
    assert lines["credentials"] == "BASIC; rotation: none is open"
    assert lines["last"].startswith("batch    stored 20")
    assert "not known" not in printed


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
                status = post(stack, login, batch_id=batch_id)
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
            "operate: a rotation is open: `rotate finish` or `rotate abort` first\n"
        )
        assert post(stack, basic(old), batch_id=str(uuid.uuid4())) == 200
        assert post(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
        bird["login"] = basic(new)
        # WHEN somebody deploys meanwhile, with a parameter that a file has kept, THEN both are accepted as before
        local_stack.create_or_update(emulator, stack.name, {"CredentialsVersion": "1"})
        assert post(stack, basic(old), batch_id=str(uuid.uuid4())) == 200
        assert post(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
        status, _, said = run(stack, "rotate", "finish", "--force")
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
    assert post(stack, basic(old), batch_id=str(uuid.uuid4())) == 401
    assert run(stack, "rotate", "show")[1] == f"username: {new[0]}\npassword: {new[1]}\n"
    # WHEN another one is begun and thought better of
    assert run(stack, "rotate", "start")[0] == 0
    dropped = stack.credentials()
    assert run(stack, "rotate", "abort", "--yes")[0] == 0
    assert stack.credentials() == new
    assert post(stack, basic(new), batch_id=str(uuid.uuid4())) == 200
    assert post(stack, basic(dropped), batch_id=str(uuid.uuid4())) == 401
    # THEN all else is as it was deployed
    given = ["192.0.2.0/24", "198.51.100.7/32"]
    assert let_in(emulator, stack.resources()["LoadBalancerSecurityGroup"])[-2:] == given
    versions = rotation.state(Target(stack.name, emulator.client)).versions
    assert set(versions) == {"AWSCURRENT"}


def test_header_of_bird_lets_in_and_looked_up_senders_reach_the_load_balancer(emulator):
    """`localhost` stands for the name of Bird's; the emulator has no packets to refuse."""
    name = "X-MessageSystems-Webhook-Token"
    stack = local_stack.create_or_update(
        emulator, "bird-header", {"WebhookAuth": "HEADER", "WebhookHeader": name, "SenderHostName": "localhost"}
    )
    _, secret = stack.credentials()
    assert post(stack, {name: secret}, batch_id=str(uuid.uuid4())) == 200
    assert post(stack, {name: secret[::-1]}, batch_id=str(uuid.uuid4())) == 401
    assert post(stack, {}, batch_id=str(uuid.uuid4())) == 401
    assert post(stack, basic(stack.credentials()), batch_id=str(uuid.uuid4())) == 401
    resources = stack.resources()
    balancers = emulator.client("elbv2").describe_load_balancers(LoadBalancerArns=[resources["LoadBalancer"]])
    [group] = balancers["LoadBalancers"][0]["SecurityGroups"]
    assert let_in(emulator, group) == ["127.0.0.1/32"]


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
