"""The rules of docs/downstream/automation.md match what is published. That cfn-lint takes them, `make check` says."""

import json
import re

import pytest

from local_aws.yaml_text import yaml_parse
from maintain.check_template import AUTOMATION, TEMPLATE, automation_rules
from publish_events.entries import DETAIL_TYPE, SOURCE

SNIPPETS = automation_rules()


def test_there_are_the_three_rules():
    assert list(SNIPPETS) == ["To a Lambda function", "To an SQS queue", "To a Step Functions journey"]


@pytest.mark.parametrize("name", SNIPPETS)
def test_rule_asks_for_what_is_published(name):
    resources = yaml_parse(SNIPPETS[name])["Resources"]
    [rule] = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::Events::Rule"]
    assert (rule["EventPattern"]["source"], rule["EventPattern"]["detail-type"]) == ([SOURCE], [DETAIL_TYPE])
    detail = rule["EventPattern"]["detail"]
    wanted = {kind for part in detail.get("$or", [detail]) for kind in part["type"]}
    assert wanted
    parameters = yaml_parse(TEMPLATE.read_text())["Parameters"]
    assert wanted <= set(parameters["PublishedEventTypes"]["Default"].split(","))


def test_sample_event_is_json_with_the_id_of_its_event():
    [sample] = re.findall(r"^```json\n(.*?)^```", AUTOMATION.read_text(), re.MULTILINE | re.DOTALL)
    event = json.loads(sample)
    detail = event["detail"]
    assert (event["source"], event["detail-type"]) == (SOURCE, DETAIL_TYPE)
    assert detail["id"] == f"{detail['customer_id']}/{detail['event_class']}/{detail['type']}/{detail['event_key']}"
