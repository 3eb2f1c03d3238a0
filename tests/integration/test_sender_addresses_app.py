"""The sender's name -> rules of a security group (moto's EC2), and that the sender is never locked out."""

import json
import logging
import socket
from datetime import UTC, date, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

import sender_addresses.app as app
import sender_addresses.cloudformation as waiting
from tests.integration.moto_server import client

NAME = "egress.example.com"
TODAY = date(2026, 11, 24)


class Clock(datetime):
    today_is = TODAY

    @classmethod
    def now(cls, tz=None):
        return datetime.combine(cls.today_is, datetime.min.time(), UTC)


@pytest.fixture
def group(monkeypatch):
    """The id of an empty security group; the function is set up to fill it."""
    with mock_aws():
        ec2 = client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/24")["Vpc"]["VpcId"]
        made = ec2.create_security_group(GroupName="senders", Description="senders", VpcId=vpc)["GroupId"]
        monkeypatch.setenv("SECURITY_GROUP_ID", made)
        monkeypatch.setenv("SENDER_HOST_NAME", NAME)
        monkeypatch.setattr(app, "datetime", Clock)
        monkeypatch.setattr(Clock, "today_is", TODAY)
        yield made


@pytest.fixture
def dns(monkeypatch):
    """`dns([...], [...])`: what each lookup answers in turn; an exception is raised instead."""

    def answer(*answers) -> None:
        waiting = list(answers)
        ask = socket.getaddrinfo

        def getaddrinfo(name, port, family=0, kind=0, *others):
            if name != NAME:  # CloudFormation's address
                return ask(name, port, family, kind, *others)
            assert family == socket.AF_INET
            now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(now, Exception):
                raise now
            return [(family, kind, 6, "", (address, port)) for address in now]

        monkeypatch.setattr(app.socket, "getaddrinfo", getaddrinfo)

    return answer


def rules(group: str) -> dict[str, str]:
    found = client("ec2").describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
    return {
        rule["CidrIpv4"]: rule.get("Description", "") for rule in found["SecurityGroupRules"] if not rule["IsEgress"]
    }


def test_addresses_of_all_lookups_are_let_in_to_https_alone(group, dns):
    dns(["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.3"], ["192.0.2.1"])
    app.lambda_handler({}, None)
    assert rules(group) == dict.fromkeys(["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"], "Sender, seen 2026-11-24")
    [permission] = client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    assert (permission["IpProtocol"], permission["FromPort"], permission["ToPort"]) == ("tcp", 443, 443)


def test_an_address_not_seen_stays_for_a_week_and_then_goes(group, dns, monkeypatch):
    dns(["192.0.2.1"])
    app.lambda_handler({}, None)
    dns(["192.0.2.2"])
    monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=7))
    app.lambda_handler({}, None)
    assert set(rules(group)) == {"192.0.2.1/32", "192.0.2.2/32"}
    monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=8))
    app.lambda_handler({}, None)
    assert rules(group) == {"192.0.2.2/32": "Sender, seen 2026-12-02"}


def test_an_address_seen_again_counts_its_week_anew(group, dns, monkeypatch):
    for day, addresses in [(0, ["192.0.2.1"]), (6, ["192.0.2.1"]), (12, ["192.0.2.2"])]:
        dns(addresses)
        monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=day))
        app.lambda_handler({}, None)
    assert set(rules(group)) == {"192.0.2.1/32", "192.0.2.2/32"}


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([[]], id="empty"),
        pytest.param([socket.gaierror(-2, "Name or service not known")], id="unknown"),
        pytest.param([["192.0.2.9"], socket.gaierror(-3, "Temporary failure")], id="fails half-way"),
        pytest.param([TimeoutError()], id="times out"),
    ],
)
def test_a_name_that_does_not_resolve_changes_nothing_and_fails(group, dns, monkeypatch, answers):
    dns(["192.0.2.1"])
    app.lambda_handler({}, None)
    before = rules(group)
    dns(*answers)
    monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=100))
    with pytest.raises(app.NoAddressError):
        app.lambda_handler({}, None)
    assert rules(group) == before


def test_nothing_is_dropped_when_the_new_ones_cannot_be_let_in(group, dns, monkeypatch):
    dns(["192.0.2.1"])
    app.lambda_handler({}, None)
    dns([f"198.51.100.{number}" for number in range(1, 100)])  # more than a group takes
    monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=100))
    with pytest.raises(ClientError, match="RulesPerSecurityGroupLimitExceeded"):
        app.lambda_handler({}, None)
    assert set(rules(group)) == {"192.0.2.1/32"}


def test_rules_of_others_are_left_alone(group, dns, monkeypatch):
    theirs = [
        {"CidrIp": "203.0.113.5/32", "Description": "Our office"},
        {"CidrIp": "203.0.113.6/32", "Description": "Sender, seen in the corridor"},
        {"CidrIp": "192.0.2.1/32"},
    ]
    client("ec2").authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": theirs}]
    )
    before = rules(group)
    dns(["192.0.2.1", "192.0.2.2"])
    app.lambda_handler({}, None)
    dns(["192.0.2.3"])
    monkeypatch.setattr(Clock, "today_is", TODAY + timedelta(days=30))
    app.lambda_handler({}, None)
    assert rules(group) == before | {"192.0.2.3/32": "Sender, seen 2026-12-24"}


def test_the_log_names_no_address(group, dns, caplog):
    caplog.set_level(logging.INFO)
    dns(["192.0.2.1"])
    app.lambda_handler({}, None)
    [record] = [record for record in caplog.records if record.name == app.__name__]
    assert (record.msg, record.resolved, record.added) == ("sender addresses updated", 1, 1)
    assert "192.0.2.1" not in str(vars(record))


@pytest.mark.parametrize(
    ("request_type", "answer", "status", "allowed_ranges"),
    [
        pytest.param("Create", ["192.0.2.1"], "SUCCESS", {"192.0.2.1/32"}, id="create"),
        pytest.param("Update", ["192.0.2.1"], "SUCCESS", {"192.0.2.1/32"}, id="update"),
        pytest.param("Create", [], "FAILED", set(), id="no address"),
        pytest.param("Delete", [], "SUCCESS", set(), id="delete"),
    ],
)
def test_a_deployment_waits_for_the_addresses(
    group, dns, cloudformation, lambda_context, request_type, answer, status, allowed_ranges
):
    url, answers = cloudformation
    dns(answer)
    event = {"RequestType": request_type, "ResponseURL": url, "StackId": "s", "RequestId": "r"}
    app.lambda_handler({**event, "LogicalResourceId": "l"}, lambda_context)
    [sent] = answers
    assert (sent["Status"], sent["Data"]["SecurityGroupId"]) == (status, group)
    assert set(rules(group)) == allowed_ranges
    if status == "FAILED":
        assert sent["Reason"].endswith(f"{NAME} has no address")


class Denied:
    """EC2 that does not know the role's rights yet, so many times; then moto's."""

    def __init__(self, times: int, code: str, text: str = "") -> None:
        self.times, self.answer = times, {"Error": {"Code": code, "Message": text}}
        self.real = client("ec2")

    def authorize_security_group_ingress(self, **request):
        if self.times:
            self.times -= 1
            raise ClientError(self.answer, "AuthorizeSecurityGroupIngress")
        return self.real.authorize_security_group_ingress(**request)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


@pytest.fixture
def deploy(group, dns, cloudformation, lambda_context, monkeypatch):
    """`deploy(denied)`: the answer to a Create, and the pauses."""

    def create(denied: Denied):
        slept: list[float] = []
        monkeypatch.setattr(waiting.time, "sleep", slept.append)
        monkeypatch.setattr(waiting.time, "monotonic", lambda: float(sum(slept)))
        monkeypatch.setattr(app.boto3, "client", lambda service, **_: denied)
        dns(["192.0.2.1"])
        url, answers = cloudformation
        event = {"RequestType": "Create", "ResponseURL": url, "StackId": "s", "RequestId": "r"}
        app.lambda_handler({**event, "LogicalResourceId": "l"}, lambda_context)
        return answers.pop(), slept

    return create


def test_a_role_that_may_let_senders_in_since_seconds_is_waited_for(deploy):
    answer, slept = deploy(Denied(3, "UnauthorizedOperation"))
    assert (answer["Status"], slept) == ("SUCCESS", [2, 4, 8])


def test_a_role_that_may_not_is_said_in_an_answer_that_cloudformation_takes(deploy):
    """EC2 adds an encoded message of some 5 kB."""
    answer, slept = deploy(Denied(100, "UnauthorizedOperation", "Encoded authorization failure message: " + "x" * 5000))
    assert answer["Status"] == "FAILED"
    assert "UnauthorizedOperation" in answer["Reason"]
    assert len(json.dumps(answer)) <= 4096
    assert sum(slept) <= 60


def test_addresses_that_the_schedule_let_in_at_the_same_moment_are_no_error(deploy):
    assert deploy(Denied(1, "InvalidPermission.Duplicate"))[0]["Status"] == "SUCCESS"
