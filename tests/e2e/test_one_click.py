"""The template without a load balancer, as SAR publishes it and as one click deploys it."""

import json
import uuid
from typing import Any

import pytest

from local_aws import deploy as local_stack
from local_aws.deploy import Deployed
from local_aws.query import poll, query
from local_aws.webhook import Request, basic, send
from maintain.check_template import ALB_TEMPLATE
from tests.e2e.webhook import ROWS_TIMEOUT_SECONDS, batch, post, rows_of


@pytest.mark.parametrize("megabytes", [2, 5])
def test_one_click_stack_takes_batches_that_a_load_balancer_does_not(sar_stack, megabytes):
    batch_id = str(uuid.uuid4())
    body = batch({"type": "bounce", "event_id": batch_id, "raw_reason": "x" * (megabytes * 1_000_000)})
    assert post(sar_stack, body, batch_id=batch_id)[:2] == (200, "stored")
    found = f"SELECT length(raw_reason) AS size FROM events WHERE batch_id = '{batch_id}'"  # noqa: S608
    rows = poll(lambda: query(sar_stack, found), bool, ROWS_TIMEOUT_SECONDS)
    assert rows == [{"size": str(megabytes * 1_000_000)}]


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
    beside = Deployed(
        emulator, sar_stack.name, {**sar_stack.outputs, "WebhookUrl": door + sar_stack.outputs["WebhookPath"]}
    )
    batch_id = str(uuid.uuid4())
    body = batch({"type": "injection", "event_id": batch_id})
    assert post(beside, body, batch_id=batch_id, credentials=None)[:2] == (401, "rejected")
    assert post(beside, body, batch_id=batch_id)[:2] == (200, "stored")
    assert post(sar_stack, body, batch_id=batch_id)[:2] == (200, "duplicate")
    assert rows_of(sar_stack, batch_id, "type", 1) == [{"type": "injection"}]


ANOTHER_ACCOUNT = "arn:aws:iam::111122223333:root"


def test_an_update_that_resets_the_subscribers_keeps_their_subscriptions(emulator, sar_stack):
    """As an update from the Serverless Application Repository does that does not type them in again."""
    sns, sqs = emulator.client("sns"), emulator.client("sqs")
    topics = [sar_stack.outputs[name] for name in ("RowsTopicArn", "ClosedDaysTopicArn")]
    queue = sqs.create_queue(QueueName="loader-of-another-account")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def update(subscribers: str) -> None:
        template = local_stack.BUILT_TEMPLATE.with_name("sar-e2e.yaml")
        local_stack.create_or_update(emulator, sar_stack.name, {"RowsTopicSubscribers": subscribers}, template)

    def allowed() -> list[dict[str, Any]]:
        policies = [json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]) for topic in topics]
        return [one for policy in policies for one in policy["Statement"] if one["Action"] == "sns:Subscribe"]

    before = sar_stack.resources()
    assert allowed() == []
    update(ANOTHER_ACCOUNT)
    assert [one["Resource"] for one in allowed()] == topics
    assert {json.dumps(one["Principal"]) for one in allowed()} == {json.dumps({"AWS": [ANOTHER_ACCOUNT]})}
    for topic in topics:
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    update("")
    assert allowed() == []
    assert sar_stack.resources() == before
    kept = [
        one["SubscriptionArn"]
        for topic in topics
        for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        if one["Endpoint"] == arn
    ]
    assert len(kept) == 2
    for subscription in kept:
        sns.unsubscribe(SubscriptionArn=subscription)
