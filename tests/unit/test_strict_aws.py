"""The rules of AWS over the transformed template, and the table that lists all rules."""

import ast
import base64
import json
import re

import pytest

from local_aws.strict import template as rules
from local_aws.strict.intrinsics import Evaluation
from maintain.check_template import ROOT, transformed_template

EMULATED = ROOT / "local_aws/strict/emulated"
SERDE = {"SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"}
STACK_NAME = {"Ref": "AWS::StackName"}


@pytest.fixture(scope="module")
def transformed():
    return transformed_template()


def test_the_template_keeps_every_rule(transformed):
    assert list(rules.findings(transformed)) == []


def one(kind: str, properties: dict | None = None, **attributes) -> dict:
    """A template of one resource, called It."""
    return {"Resources": {"It": {"Type": kind, "Properties": properties or {}, **attributes}}}


def view(definition: dict | None = None, **changes) -> dict:
    view = {"originalSql": "SELECT 1 AS one", "catalog": "awsdatacatalog", "schema": "bird", "runAsInvoker": False}
    view |= {"columns": [{"name": "one", "type": "integer"}], **(definition or {})}
    encoded = base64.b64encode(json.dumps({k: v for k, v in view.items() if v is not None}).encode()).decode()
    table = {
        "Name": "numbers",
        "TableType": "VIRTUAL_VIEW",
        "Parameters": {"presto_view": "true", "comment": "Presto View"},
        "PartitionKeys": [],
        "StorageDescriptor": {"Columns": [{"Name": "one", "Type": "int"}], "SerdeInfo": SERDE},
        "ViewOriginalText": f"/* Presto View: {encoded} */",
        **changes,
    }
    return one("AWS::Glue::Table", {"TableInput": {k: v for k, v in table.items() if v is not None}})


def bucket(prefix, **parameters) -> dict:
    rule = {"Event": "s3:ObjectCreated:Put", "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": prefix}]}}}
    return {
        "Parameters": {name: {"Type": "String", "Default": "raw", **about} for name, about in parameters.items()},
        **one("AWS::S3::Bucket", {"NotificationConfiguration": {"QueueConfigurations": [rule]}}),
    }


def custom_resource(timeout: int, **properties) -> dict:
    made = one("AWS::CloudFormation::CustomResource", {"ServiceToken": {"Fn::GetAtt": ["Asked", "Arn"]}, **properties})
    made["Resources"]["Asked"] = {"Type": "AWS::Lambda::Function", "Properties": {"Timeout": timeout}}
    return made


def mapping(hidden: int, timeout: int) -> dict:
    source = {"EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]}, "FunctionName": {"Ref": "Asked"}}
    made = one("AWS::Lambda::EventSourceMapping", source)
    made["Resources"]["Queue"] = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": hidden}}
    made["Resources"]["Asked"] = {"Type": "AWS::Lambda::Function", "Properties": {"Timeout": timeout}}
    return made


def role(*statements: dict) -> dict:
    return one("AWS::IAM::Role", {"Policies": [{"PolicyDocument": {"Statement": list(statements)}}]})


def in_a_vpc(*actions: str) -> dict:
    made = role({"Effect": "Allow", "Action": list(actions), "Resource": "*"})
    config = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    properties = {
        "Role": {"Fn::GetAtt": ["It", "Arn"]},
        "VpcConfig": {"Fn::If": ["In", config, {"Ref": "AWS::NoValue"}]},
    }
    made["Resources"]["Function"] = {"Type": "AWS::Lambda::Function", "Properties": properties}
    return made


INTERFACES = ("ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface")
SPACES = {"AllowedPattern": "^[a-z ]+$"}
ENCODED = {"Fn::Join": ["+", {"Fn::Split": [" ", {"Fn::Sub": "${Prefix}/"}]}]}
REFUSED = [
    (
        rules.functions_in_a_vpc_may_make_interfaces,
        in_a_vpc("ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces"),
        "function Function is in a VPC, and its role lacks ec2:DeleteNetworkInterface",
    ),
    (rules.views_have_partition_keys, view(PartitionKeys=None), "view It needs PartitionKeys: []"),
    (
        rules.tables_have_a_serde,
        view(StorageDescriptor={"Columns": []}),
        "table It has no SerdeInfo with a SerializationLibrary",
    ),
    (
        rules.tables_have_a_serde,
        view(StorageDescriptor={"Columns": [], "SerdeInfo": {"Fn::If": ["UseCsv", SERDE, {}]}}),
        "table It has no SerdeInfo with a SerializationLibrary",
    ),
    (
        rules.views_have_their_comment_and_no_description,
        view(Description="What it shows"),
        "view It has a Description: its text belongs in the comment of the view's JSON",
    ),
    (
        rules.views_have_their_comment_and_no_description,
        view(Parameters={"presto_view": "true"}),
        'view It needs the parameters presto_view "true" and comment "Presto View"',
    ),
    (
        rules.views_hold_the_json_that_athena_writes,
        view({"runAsInvoker": None, "schema": None}),
        "view It: its JSON lacks schema, runAsInvoker",
    ),
    (
        rules.views_hold_the_json_that_athena_writes,
        view({"columns": [{"name": "two", "type": "integer"}]}),
        "view It: the columns of its JSON are not those of the table",
    ),
    (
        rules.views_hold_the_json_that_athena_writes,
        view(ViewOriginalText="SELECT 1"),
        "view It: its ViewOriginalText is not /* Presto View: <base64> */",
    ),
    (
        rules.glue_names_are_in_lower_case,
        one("AWS::Glue::Database", {"DatabaseInput": {"Name": {"Fn::Join": ["_", ["bird", STACK_NAME]]}}}),
        "It is called bird_My-Stack in a stack called My-Stack",
    ),
    (
        rules.glue_names_are_in_lower_case,
        role({"Effect": "Allow", "Resource": {"Fn::Sub": "arn:aws:glue:eu-west-1:1:database/${AWS::StackName}"}}),
        "It allows arn:aws:glue:eu-west-1:1:database/My-Stack in a stack called My-Stack",
    ),
    (
        rules.notification_filters_are_encoded,
        bucket("B Event Data/"),
        "bucket It: the filter of a notification is 'B Event Data/'",
    ),
    (
        rules.notification_filters_are_encoded,
        bucket({"Fn::Sub": "${Prefix}/"}, Prefix=SPACES),
        "bucket It: the filter of a notification is 'a b/' if Prefix is 'a b'",
    ),
    (
        rules.notification_filters_are_encoded,
        bucket(ENCODED, Prefix={"AllowedPattern": "^[a-z &]+$"}),
        "bucket It: the filter of a notification is 'a&b/' if Prefix is 'a&b'",
    ),
    (
        rules.sizes_are_within_cloudformations_limits,
        {"Resources": {}, "Parameters": {f"P{number}": {} for number in range(201)}},
        "201 parameters, at most 200 are allowed",
    ),
    (
        rules.sizes_are_within_cloudformations_limits,
        {"Resources": {}, "Parameters": {"Long": {"Description": "x" * 4001}}},
        "the description of Long has 4001 characters, at most 4000 are allowed",
    ),
    (
        rules.text_can_be_xml,
        one("AWS::Glue::Table", {"Parameters": [{"escapeChar": "\0"}]}),
        "template.Resources.It.Properties.Parameters.0.escapeChar holds the character U+0000",
    ),
    (
        rules.failed_creations_leave_nothing,
        one("AWS::S3::Bucket", DeletionPolicy="Retain"),
        "It has DeletionPolicy Retain: RetainExceptOnCreate keeps it as well once it is in use",
    ),
    (
        rules.failed_creations_leave_nothing,
        one("AWS::S3::Bucket", UpdateReplacePolicy="RetainExceptOnCreate"),
        "It has UpdateReplacePolicy RetainExceptOnCreate, which is not one of its values",
    ),
    (
        rules.custom_resources_give_up_after_their_function,
        custom_resource(30),
        "It waits for 3600 s, and its function may take 30 s",
    ),
    (
        rules.custom_resources_give_up_after_their_function,
        custom_resource(60, ServiceTimeout=60),
        "It waits for 60 s, and its function may take 60 s",
    ),
    (
        rules.texts_are_as_long_as_their_service_takes,
        one("AWS::CloudWatch::Alarm", {"AlarmDescription": {"Fn::Sub": "x" * 1025}}),
        "It: AlarmDescription has 1025 characters, at most 1024 are allowed",
    ),
    (
        rules.texts_are_as_long_as_their_service_takes,
        view(StorageDescriptor={"Columns": [{"Name": "one", "Comment": "x" * 256}]}),
        "It: a column has a comment of 256 characters, at most 255 are allowed",
    ),
    (
        rules.environments_hold_four_kilobytes,
        one("AWS::Lambda::Function", {"Environment": {"Variables": {"LONG": "x" * 4093}}}),
        "It: its environment has 4097 bytes",
    ),
    (
        rules.policies_of_a_role_fit,
        role({"Effect": "Allow", "Resource": "x" * 10_240}),
        "It: its policies have 10288 characters",
    ),
    (
        rules.queues_hide_messages_for_six_times_their_function,
        mapping(719, 120),
        "It: the queue hides a message for 719 s, and the function may take 120 s",
    ),
    (
        rules.alarms_on_dead_letters_do_not_recover_by_silence,
        one(
            "AWS::CloudWatch::Alarm",
            {"MetricName": "ApproximateNumberOfMessagesVisible", "TreatMissingData": "notBreaching"},
        ),
        "alarm It needs TreatMissingData: ignore",
    ),
    (
        rules.alarms_look_back_a_day_at_most,
        one("AWS::CloudWatch::Alarm", {"Period": 3600, "EvaluationPeriods": 25}),
        "alarm It looks back 90000 s",
    ),
    (
        rules.listeners_name_a_tls_policy,
        one("AWS::ElasticLoadBalancingV2::Listener", {"Protocol": "HTTPS"}),
        "listener It has SslPolicy None",
    ),
    (
        rules.listeners_name_a_tls_policy,
        one("AWS::ApiGatewayV2::DomainName", {"DomainNameConfigurations": [{"CertificateArn": "arn"}]}),
        "domain It has SecurityPolicy None",
    ),
]
TAKEN = [
    (rules.views_hold_the_json_that_athena_writes, view()),
    (rules.views_have_their_comment_and_no_description, view()),
    (rules.notification_filters_are_encoded, bucket(ENCODED, Prefix=SPACES)),
    (rules.notification_filters_are_encoded, bucket("B+Event%20Data/")),
    (rules.functions_in_a_vpc_may_make_interfaces, in_a_vpc(*INTERFACES)),
    (rules.custom_resources_give_up_after_their_function, custom_resource(30, ServiceTimeout=60)),
    (rules.queues_hide_messages_for_six_times_their_function, mapping(720, 120)),
]


@pytest.mark.parametrize(("check", "template", "finding"), REFUSED, ids=lambda part: getattr(part, "__name__", ""))
def test_each_rule_refuses_what_aws_refuses(check, template, finding):
    assert list(check(template)) == [finding]


@pytest.mark.parametrize(("check", "template"), TAKEN, ids=lambda part: getattr(part, "__name__", ""))
def test_what_aws_takes_is_taken(check, template):
    assert list(check(template)) == []


def test_every_rule_has_its_case():
    assert {check.__name__ for check, *_ in REFUSED} == {each.name for each in rules.RULES}


def test_findings_name_the_rule_and_its_source():
    assert list(rules.findings(one("AWS::S3::Bucket", DeletionPolicy="Retain"))) == [
        "It has DeletionPolicy Retain: RetainExceptOnCreate keeps it as well once it is in use "
        "(failed_creations_leave_nothing: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/"
        "aws-attribute-deletionpolicy.html)"
    ]


def test_intrinsic_functions_are_worked_out():
    template = {"Parameters": {"Days": {"Default": 5}}, "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}}
    value = {
        "ref": {"Ref": "Days"},
        "name": {"Fn::Select": [1, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]},
        "sub": {
            "Fn::Sub": ["${Days} of ${Bucket} at ${Bucket.Arn}, ${!Kept}, ${Own}", {"Own": {"Ref": "AWS::Region"}}]
        },
        "joined": {"Fn::Join": ["-", ["a", {"Ref": "Bucket"}]]},
        "coded": {"Fn::Base64": "text"},
        "listed": ["a", {"Fn::If": ["C", {"Ref": "AWS::NoValue"}, "b"]}],
        "gone": {"Ref": "AWS::NoValue"},
    }
    assert Evaluation(template).plain(value) == {
        "ref": "5",
        "name": "My-Stack",
        "sub": "5 of bucket at bucket.arn, ${Kept}, eu-west-1",
        "joined": "a-bucket",
        "coded": "dGV4dA==",
        "listed": ["a"],
    }
    assert Evaluation(template, branch=2).plain(value["listed"]) == ["a", "b"]


# --- docs/local-aws.md -----------------------------------------------------------------------------------------------


def emulated() -> list[tuple[str, str]]:
    """Name and source of each rule that changes MiniStack, which is not in this environment."""
    found = []
    for path in EMULATED.glob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        for node in tree.body:
            for decorator in getattr(node, "decorator_list", []):
                if isinstance(decorator, ast.Call) and decorator.func.id == "rule":
                    source = eval(compile(ast.Expression(decorator.args[0]), "", "eval"), {}, constants)  # noqa: S307
                    found.append((node.name, source))
    return found


def rows() -> list[list[str]]:
    lines = (ROOT / "docs/local-aws.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_every_rule_is_in_the_document_with_its_source_and_a_test_that_is_there():
    listed = [row for row in rows() if re.fullmatch(r"`\w+`", row[2])]
    there = [*emulated(), *((each.name, each.source) for each in rules.RULES)]
    assert sorted(row[2].strip("`") for row in listed) == sorted(name for name, _ in there)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for _, source, rule, test in listed:
        assert [name for name, page in there if name == rule.strip("`") and f"({page})" in source], rule
        assert f"def {test.strip('`')}(" in tests, rule
