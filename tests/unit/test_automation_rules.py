"""The rules of docs/downstream/automation.md can be pasted, and match what is published."""

import json
import re

import pytest

from local_aws.yaml_text import yaml_parse
from maintain.check_template import ROOT, TEMPLATE, lint
from publish_events.entries import DETAIL_TYPE, SOURCE

DOCUMENT = (ROOT / "docs/downstream/automation.md").read_text()
SNIPPETS = dict(re.findall(r"^### (To an? .*?)\n.*?^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))


def test_there_are_the_three_rules():
    assert list(SNIPPETS) == ["To a Lambda function", "To an SQS queue", "To a Step Functions journey"]


def test_rules_pass_cfn_lint(tmp_path):
    for number, text in enumerate(SNIPPETS.values()):
        (tmp_path / f"rule-{number}.yaml").write_text(text)
    assert lint(*tmp_path.iterdir()) == []


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
    [sample] = re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    event = json.loads(sample)
    detail = event["detail"]
    assert (event["source"], event["detail-type"]) == (SOURCE, DETAIL_TYPE)
    assert detail["id"] == f"{detail['customer_id']}/{detail['event_class']}/{detail['type']}/{detail['event_key']}"
