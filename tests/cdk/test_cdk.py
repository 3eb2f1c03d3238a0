"""The CDK snippets of docs/terraform-and-cdk.md, synthesised as a user would. Needs node, which CDK runs on."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local_aws.yaml_text import yaml_parse
from maintain.sar.generate import generate

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs/terraform-and-cdk.md").read_text(), re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def template():
    return yaml_parse((ROOT / "template.yaml").read_text())


@pytest.fixture
def synthesised(tmp_path):
    assert shutil.which("node"), "CDK runs on node: install Node.js 22 or newer"

    def run(snippet: str) -> dict:
        (tmp_path / "app.py").write_text(snippet)
        # jsii warns of an old node on standard error; the template is the same.
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CDK_OUTDIR": str(tmp_path / "out")}
        subprocess.run(
            [ROOT / ".venv-cdk/bin/python", "app.py"], cwd=tmp_path, env=environment, check=True, timeout=300
        )
        return json.loads((tmp_path / "out/Marketing.template.json").read_text())

    return run


def test_the_published_application_is_one_resource(synthesised, template):
    made = synthesised(SNIPPETS[0])
    assert made["Transform"] == "AWS::Serverless-2016-10-31"
    [resource] = made["Resources"].values()
    assert resource["Type"] == "AWS::Serverless::Application"
    assert resource["Properties"]["Parameters"].keys() <= generate(template)["Parameters"].keys()
    assert made["Outputs"]["WebhookUrl"]["Value"] == {"Fn::GetAtt": ["BirdWebhooks", "Outputs.WebhookUrl"]}


def test_the_packaged_template_is_one_resource(synthesised, template):
    made = synthesised(SNIPPETS[1])
    [resource] = made["Resources"].values()
    assert resource["Type"] == "AWS::CloudFormation::Stack"
    assert resource["Properties"]["Parameters"].keys() <= template["Parameters"].keys()
    assert made["Outputs"]["WebhookUrl"]["Value"] == {"Fn::GetAtt": ["BirdWebhooks", "Outputs.WebhookUrl"]}
