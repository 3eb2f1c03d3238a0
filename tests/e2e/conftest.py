"""One local AWS with enforced IAM policies for the whole suite, the real template deployed to it by `sam deploy`.

Stacks beside that one are made by CloudFormation's API, which takes a tenth of the time.
"""

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from bird_webhooks.simulator import bird_api
from local_aws import deploy as local_stack
from local_aws.deploy import Deployed
from local_aws.emulator import Emulator
from maintain.sar.generate import generate, written
from tests import deployed

BIRD_API_KEY = "0123456789abcdef0123456789abcdef01234567"
DOMAIN_NAME = "webhooks.example.com"

emulator, run = deployed.emulator, deployed.run
postgres, postgres_secret = deployed.postgres, deployed.postgres_secret


@pytest.fixture(scope="session")
def bird(emulator: Emulator) -> Iterator[bird_api.Bird]:
    """An account at Bird, whose DNS leads to the local AWS. One webhook is there already, made by hand."""

    def reach(target: str) -> str:
        parts = urlsplit(target)
        if parts.hostname == DOMAIN_NAME:  # the load balancer's targets are registered after the deployment only
            return f"{emulator.endpoint_url}/_ministack/health"
        api = str(parts.hostname).partition(".")[0]
        return f"{emulator.endpoint_url}/_aws/execute-api/{api}/$default{parts.path}"

    with bird_api.running(BIRD_API_KEY, reach, ssl.create_default_context(cafile=emulator.certificate)) as started:
        by_hand = {"name": "by hand", "target": f"https://{DOMAIN_NAME}/bird", "events": ["bounce"], "active": True}
        started.webhooks["made-by-hand"] = by_hand
        yield started


@pytest.fixture(scope="session")
def registration(emulator: Emulator, bird: bird_api.Bird) -> dict[str, str]:
    """The parameters with which a stack registers its webhook at that account."""
    secret = emulator.client("secretsmanager").create_secret(Name="bird-api-key", SecretString=BIRD_API_KEY)
    return {"BirdApiKeySecretArn": secret["ARN"], "BirdApiUrl": bird.url}


@pytest.fixture(scope="session")
def company(emulator: Emulator) -> dict[str, str]:
    """The parameters with which a company's rules are kept: its key, and its network."""
    ec2, kms = emulator.client("ec2"), emulator.client("kms")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/25")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="functions", Description="of all functions", VpcId=vpc)["GroupId"]
    keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    return {
        "KmsKeyArn": keys[0],
        "KmsReadKeyArns": keys[1],
        "FunctionSubnetIds": subnet,
        "FunctionSecurityGroupIds": group,
    }


@pytest.fixture(scope="session")
def stack(emulator: Emulator, registration: dict[str, str], postgres_secret: str, company: dict[str, str]) -> Deployed:
    """With every part that is optional, so that every role is there; `localhost` stands for Bird's sending name."""
    optional = {
        "SenderHostName": "localhost",
        "DomainName": DOMAIN_NAME,
        "WebhookPath": "/bird",
        "DropFields": "sms_text",
        "HashFields": "remote_addr",
        "PublishEvents": "true",
        "PublishedMaximumAgeDays": "0",  # Bird's samples are of 2016
        "DailyReport": "true",
        "DeliverabilityAlerts": "HOURLY",
        "PostgresSecretArn": postgres_secret,
        "AdoptBirdWebhook": "true",  # `made-by-hand`
        **registration,
        **company,
    }
    return local_stack.deploy(emulator, "bird-e2e", optional)


@pytest.fixture(scope="session")
def sar_stack(emulator: Emulator) -> Deployed:
    """SAR's template, with nothing but its defaults. `make sar` packages it as it is published."""
    template = local_stack.BUILT_TEMPLATE.with_name("sar-e2e.yaml")
    template.write_text(written(generate(local_stack.read_template(local_stack.BUILT_TEMPLATE))))
    return local_stack.create_or_update(emulator, "serverlessrepo-bird", template=template)


@pytest.fixture(params=["stack", "sar_stack"])
def each_stack(request: pytest.FixtureRequest) -> Deployed:
    """Both ways in: the contract is one."""
    stack: Deployed = request.getfixturevalue(request.param)
    return stack
