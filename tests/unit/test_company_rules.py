"""A company's key and network: which role gets which right, and that the document's endpoints are those of the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from local_aws.yaml_text import yaml_parse
from maintain import check_template
from maintain.check_template import ROOT
from maintain.sar.generate import generate

NO_VALUE = {"Ref": "AWS::NoValue"}
# The name of an endpoint where it is not boto3's name of the service.
ENDPOINTS = {"cloudwatch": "monitoring"}


@pytest.fixture(scope="module")
def template():
    return yaml_parse(check_template.TEMPLATE.read_text())


def roles(template) -> dict[str, dict]:
    return {name: one for name, one in template["Resources"].items() if one["Type"] == "AWS::IAM::Role"}


def actions(template, role: str) -> set[str]:
    """What a role may do without conditions of the template, by its own policies and those that name it."""
    own = [policy for policy in template["Resources"][role]["Properties"]["Policies"] if "Fn::If" not in policy]
    apart = [
        one["Properties"]
        for one in template["Resources"].values()
        if one["Type"] == "AWS::IAM::Policy" and {"Ref": role} in one["Properties"]["Roles"]
    ]
    found: set[str] = set()
    for policy in (*own, *apart):
        for statement in policy["PolicyDocument"]["Statement"]:
            found |= set(statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])
    return found


def by_condition(template, role: str) -> dict[str, str]:
    """Name of each policy that is there by a condition, and the condition."""
    policies = template["Resources"][role]["Properties"]["Policies"]
    return {one["Fn::If"][1]["PolicyName"]: one["Fn::If"][0] for one in policies if "Fn::If" in one}


def test_a_role_may_use_the_key_for_what_it_may_read_and_write_and_for_nothing_else(template):
    for role in roles(template):
        may, given = actions(template, role), by_condition(template, role)
        assert (given.get("decrypt-objects") == "HasSomeKmsKey") is ("s3:GetObject" in may), role
        assert (given.get("encrypt-objects") == "HasKmsKey") is ("s3:PutObject" in may), role
        assert (given.get("decrypt-secrets") == "HasSomeKmsKey") is ("secretsmanager:GetSecretValue" in may), role


def test_the_key_is_used_only_through_the_services_that_hold_the_data(template):
    statements = {
        policy["Fn::If"][1]["PolicyName"]: policy["Fn::If"][1]["PolicyDocument"]["Statement"]
        for policy in template["Resources"]["ProcessRole"]["Properties"]["Policies"]
        if "Fn::If" in policy
    }
    via_s3 = {
        "StringLike": {"kms:ViaService": [{"Fn::Sub": "s3.${AWS::Region}.*"}, {"Fn::Sub": "athena.${AWS::Region}.*"}]}
    }
    [secrets], [reads], [writes] = (
        statements[f"{name}"] for name in ("decrypt-secrets", "decrypt-objects", "encrypt-objects")
    )
    assert (secrets["Action"], secrets["Condition"]) == (
        "kms:Decrypt",
        {"StringLike": {"kms:ViaService": "secretsmanager.*"}},
    )
    assert (reads["Action"], reads["Condition"]) == ("kms:Decrypt", via_s3)
    assert (writes["Action"], writes["Condition"], writes["Resource"]) == (
        "kms:GenerateDataKey",
        via_s3,
        {"Ref": "KmsKeyArn"},
    )


def test_without_a_key_and_a_network_the_template_is_as_it_was(template):
    without = generate(
        template, {"KmsKeyArn": "", "KmsReadKeyArns": "", "FunctionSubnetIds": "", "PostgresSubnetIds": ""}
    )
    text = str(without["Resources"]) + str(without["Globals"])
    assert "kms:" not in text.replace("SSE_KMS", "")
    assert "ec2:CreateNetworkInterface" not in text
    assert "SubnetIds" not in str(without["Globals"])
    for bucket in ("RawBucket", "LakeBucket"):
        [rule] = without["Resources"][bucket]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


def test_the_buckets_wait_until_a_function_has_used_the_key(template):
    """WebhookCredentials reads a secret under the key. Otherwise ingest would be the first to learn that it cannot."""
    resources = template["Resources"]
    assert resources["WebhookSecret"]["Properties"]["KmsKeyId"]["Fn::If"] == [
        "HasKmsKey",
        {"Ref": "KmsKeyArn"},
        NO_VALUE,
    ]
    assert resources["WebhookCredentials"]["Properties"]["KmsKeyArn"] == {"Ref": "KmsKeyArn"}
    for bucket in ("RawBucket", "LakeBucket"):
        assert {"SettingsGuard", "WebhookCredentials"} <= set(resources[bucket]["DependsOn"])


def test_what_announces_is_not_under_the_key(template):
    """S3 drops an announcement without a word if it cannot use the queue's key; CloudWatch an alarm."""
    for resource in template["Resources"].values():
        if resource["Type"] in ("AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::Logs::LogGroup"):
            assert "Kms" not in str(resource["Properties"])


KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"


@pytest.mark.parametrize(
    ("name", "given", "legal"),
    [
        ("KmsKeyArn", "", True),
        ("KmsKeyArn", KEY, True),
        ("KmsKeyArn", "arn:aws:kms:eu-west-1:111122223333:key/mrk-0a1b2c3d0a1b2c3d4e5f0a1b2c3d4e5f", True),
        ("KmsKeyArn", "arn:aws:kms:eu-west-1:111122223333:alias/ours", False),
        ("KmsKeyArn", "alias/aws/s3", False),
        ("KmsKeyArn", f"{KEY},{KEY}", False),
        ("KmsReadKeyArns", f"{KEY},{KEY}", True),
        ("KmsReadKeyArns", f"{KEY}, {KEY}", False),
        ("FunctionSubnetIds", "subnet-0a1b2c3d,subnet-0a1b2c3d4e5f6a7b8", True),
        ("FunctionSecurityGroupIds", "subnet-0a1b2c3d", False),
    ],
)
def test_what_cannot_be_a_key_or_a_network_is_refused_at_once(template, name, given, legal):
    assert bool(re.search(template["Parameters"][name]["AllowedPattern"], given)) is legal


def test_every_function_goes_into_the_network(template):
    functions = {
        name: function["Properties"]
        for name, function in check_template.transformed_template()["Resources"].items()
        if function["Type"] == "AWS::Lambda::Function"
    }
    ids = {name: {"Fn::Split": [",", {"Ref": f"Function{name}"}]} for name in ("SubnetIds", "SecurityGroupIds")}
    network = {"Fn::If": ["FunctionsInVpc", ids, NO_VALUE]}
    of_postgres = functions.pop("LoadPostgresFunction")["VpcConfig"]["Fn::If"]
    assert (of_postgres[0], of_postgres[2]) == ("PostgresInVpc", network)
    assert {name: function["VpcConfig"] for name, function in functions.items()} == dict.fromkeys(functions, network)
    for name, function in functions.items():
        assert by_condition(template, function["Role"]["Fn::GetAtt"][0])["join-the-network"] == "FunctionsInVpc", name
    assert by_condition(template, "LoadPostgresRole")["join-the-network"] == "LoadPostgresInVpc"


# --- docs/company-rules.md -------------------------------------------------------------------------------------------


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(handler: str) -> set[Path]:
    """The modules of a package that a handler's module imports, directly or not; itself among them."""
    found: set[Path] = set()
    waiting = {ROOT / "functions" / Path(*handler.split(".")[:-1]).with_suffix(".py")}
    while waiting:
        path = waiting.pop()
        found.add(path)
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = ROOT / "functions" / Path(*node.module.split("."))
                named = [inside.with_suffix(".py"), *(inside / f"{alias.name}.py" for alias in node.names)]
                waiting |= {one for one in named if one.exists()} - found
    return found


def services(handler: str) -> set[str]:
    """Endpoints of the clients that the code of a handler makes. S3 has a route of its own."""
    paths = modules(handler)
    imported = {
        alias.name
        for path in paths
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found: set[str] = set()
    for path in paths:
        if path.name == "cloudformation.py" and "stack_status" not in imported:
            continue  # the same file in four packages, not all of which ask for the stack's state
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client":
                assert isinstance(node.args[0], ast.Constant), path
                found.add(ENDPOINTS.get(str(node.args[0].value), str(node.args[0].value)))
    return found - {"s3"}


def test_the_documents_endpoints_are_those_of_the_clients_that_functions_make(template):
    rows = re.findall(
        r"^\| (\w+Function) \|[^|]*\|([^|]*)\|([^|]*)\|$", (ROOT / "docs/company-rules.md").read_text(), re.MULTILINE
    )
    said = {name: set(re.findall(r"`([a-z0-9]+)`", endpoints)) for name, endpoints, _ in rows}
    handlers = {
        name: resource["Properties"]["Handler"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert said == {name: services(handler) for name, handler in handlers.items()}
    to_bird = {name for name, _, internet in rows if internet.strip()}
    variables = {
        name: str(template["Resources"][name]["Properties"].get("Environment", {}).get("Variables"))
        for name in handlers
    }
    assert to_bird == {name for name, text in variables.items() if "BIRD_API_URL" in text}


def test_custom_resources_hear_of_a_missing_route_in_time(template):
    """Each client of a custom resource's function gives up while there is time to answer."""
    for handler in ("webhook_credentials.app", "register_webhook.app", "sender_addresses.app", "process.maintenance"):
        for path in modules(f"{handler}.lambda_handler"):
            for node in ast.walk(parsed(path)):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "boto3.client"
                    and node.args[0].value != "s3"
                ):
                    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert given.get("config") == "AWS_LIMITS", ast.unparse(node)
