"""What holds of template.yaml beyond what cfn-lint looks at."""

import pytest
from samtranslator.yaml_helper import yaml_parse

from tools import check_template
from tools.sync_columns import synced


@pytest.fixture(scope="module")
def template():
    return yaml_parse(check_template.TEMPLATE.read_text())


def test_glue_columns_are_the_columns_of_process():
    text = check_template.TEMPLATE.read_text()
    assert synced(text) == text


def test_no_circular_dependency_after_the_sam_transform():
    assert list(check_template.cycles(check_template.transformed_template())) == []


def test_a_circular_dependency_is_found():
    looped = {"Resources": {"A": {"X": {"Ref": "B"}}, "B": {"X": {"Fn::Sub": "${A.Arn}"}}}}
    assert list(check_template.cycles(looped)) == ["circular dependency: A -> B -> A"]


def test_every_parameter_is_described_bounded_and_has_a_default(template):
    assert list(check_template.parameter_findings(template)) == []


def test_sar_takes_all_but_the_load_balancer(template):
    assert list(check_template.sar_findings(template)) == []


def test_every_function_has_its_log_group_and_role(template):
    functions = [r for r in template["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    assert len(functions) == 3
    for function in functions:
        assert function["Properties"]["LoggingConfig"]["LogFormat"] == "JSON"
        assert "Ref" in function["Properties"]["LoggingConfig"]["LogGroup"]
        assert "Role" in function["Properties"]


def test_every_statement_has_a_sid_and_no_star_resource(template):
    for name, resource in template["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        for policy in resource["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Sid"], name
                assert statement["Resource"] != "*", name


def test_buckets_outlive_the_stack(template):
    buckets = [r for r in template["Resources"].values() if r["Type"] == "AWS::S3::Bucket"]
    assert [(b["DeletionPolicy"], b["UpdateReplacePolicy"]) for b in buckets] == [("Retain", "Retain")] * 2


def test_alarms_say_what_to_do_and_tell_somebody(template):
    alarms = [r["Properties"] for r in template["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 12
    for alarm in alarms:
        assert len(alarm["AlarmDescription"]) > 60
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]


def test_queue_waits_longer_than_six_times_the_function(template):
    resources = template["Resources"]
    assert resources["ProcessQueue"]["Properties"]["VisibilityTimeout"] >= 6 * 120 + 20
    assert resources["ProcessFunction"]["Properties"]["Timeout"] == 120


def test_outputs_of_the_contract(template):
    assert {
        "WebhookUrl",
        "RawBucketName",
        "LakeBucketName",
        "WebhookSecretArn",
        "GlueDatabaseName",
        "AthenaWorkGroupName",
        "ProcessQueueUrl",
        "ProcessDeadLetterQueueUrl",
        "DashboardUrl",
    } <= template["Outputs"].keys()
