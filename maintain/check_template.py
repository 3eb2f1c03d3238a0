"""Checks of template.yaml that `sam validate --lint` does not make; prints one line for each finding.

- cfn-lint after the SAM transform, because only there it sees circular dependencies and what the transform makes; as
  they are written both templates are read by maintain/review_template.py
- cfn-lint on the rules that docs/downstream/automation.md has for pasting
- every parameter has a description, bounds and a default
- SAR accepts every type of resource that its template has
- the rules of AWS in local_aws/strict
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

from local_aws.strict import template as strict_aws
from local_aws.yaml_text import yaml_parse

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
ALB_TEMPLATE = ROOT / "alb.yaml"
AUTOMATION = ROOT / "docs/downstream/automation.md"
SAR_TYPES = ROOT / "maintain/data/sar-supported-resources.txt"
REGION = "eu-west-1"
# What bounds a parameter of each type.
BOUNDS = ("AllowedPattern", "AllowedValues", "MaxLength", "MaxValue")

Template = dict[str, Any]


def main() -> int:
    written = yaml_parse(TEMPLATE.read_text())
    transformed = transformed_template()
    findings = [
        *parameter_findings(written),
        *cycles(transformed),
        *sar_findings(transformed),
        *strict_aws.findings(transformed),
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "transformed.json"
        path.write_text(json.dumps(transformed, indent=1))
        for heading, text in automation_rules().items():
            Path(directory, f"{heading}.yaml").write_text(text)
        findings += lint(*Path(directory).iterdir())
    for finding in findings:
        print(finding)
    print(f"{len(strict_aws.RULES)} rules of AWS applied to the transformed template, {len(findings)} findings")
    return 1 if findings else 0


def automation_rules() -> dict[str, str]:
    """The templates of rules that users paste, by heading."""
    text = AUTOMATION.read_text()
    return dict(re.findall(r"^### (To an? .*?)\n.*?^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def transformed_template(path: Path = TEMPLATE) -> Template:
    """The template after the SAM transform, with local code paths replaced, as in a deployment."""
    template = yaml_parse(path.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in template["Parameters"].items()}
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)  # the transform needs one
    result: Template = transform(template, defaults, NoManagedPolicies())
    return result


class NoManagedPolicies:
    """The template names no managed policy, so there is nothing to load."""

    def load(self) -> dict[str, str]:
        return {}


def lint(*paths: Path) -> list[str]:
    command: list[str | Path] = [
        Path(sys.executable).parent / "cfn-lint",
        "--format",
        "parseable",
        "--regions",
        REGION,
        "--",
        *paths,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]


def parameter_findings(template: Template) -> Iterator[str]:
    grouped = [
        name
        for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    for name, parameter in template["Parameters"].items():
        if not parameter.get("Description"):
            yield f"parameter {name} has no description"
        if parameter["Type"] != "CommaDelimitedList" and not any(bound in parameter for bound in BOUNDS):
            yield f"parameter {name} has no bounds"
        if "Default" not in parameter:
            yield f"parameter {name} has no default"
        if grouped.count(name) != 1:
            yield f"parameter {name} is in {grouped.count(name)} groups"


def sar_findings(template: Template) -> Iterator[str]:
    """Except for ELBv2, which SAR's template leaves out."""
    allowed = set(SAR_TYPES.read_text().split())
    for name, resource in template["Resources"].items():
        kind = resource["Type"]
        if kind not in allowed and not kind.startswith("AWS::ElasticLoadBalancingV2::"):
            yield f"resource {name}: SAR does not accept {kind}"


def cycles(template: Template) -> Iterator[str]:
    """Each circular dependency once, as a path of logical ids."""
    resources = template["Resources"]
    edges = {name: sorted(references(resource) & resources.keys()) for name, resource in resources.items()}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            yield "circular dependency: " + " -> ".join([*path[path.index(name) :], name])
        elif name not in done:
            for other in edges[name]:
                yield from visit(other, [*path, name])
            done.add(name)

    for name in resources:
        yield from visit(name, [])


def references(value: Any) -> set[str]:
    """The logical ids that a part of a template depends on."""
    if isinstance(value, list):
        return set().union(*map(references, value))
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, content in value.items():
        if key == "Ref":
            found.add(content)
        elif key == "Fn::GetAtt":
            found.add(content[0] if isinstance(content, list) else content.partition(".")[0])
        elif key == "Fn::Sub":
            text = content[0] if isinstance(content, list) else content
            found |= {part.partition("}")[0].partition(".")[0] for part in text.split("${")[1:]}
            found |= references(content[1]) if isinstance(content, list) else set()
        elif key == "DependsOn":
            found |= {content} if isinstance(content, str) else set(content)
        else:
            found |= references(content)
    return found


if __name__ == "__main__":
    sys.exit(main())
