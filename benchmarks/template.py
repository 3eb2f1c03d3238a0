"""What the template sets, for the models of the benchmark: sizes, windows, alarms and the SQL of the views.

python -m benchmarks.template     in .venv, whose packages read a template; prints JSON
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from benchmarks.events import ROOT
from benchmarks.measure import child, environment

TEMPLATE = ROOT / "template.yaml"
# Lambda: a queue with a maximum concurrency is read by five pollers, however little comes; without one, by as few as
# two (Lambda guide, "Configuring scaling behavior for SQS event source mappings").
POLLERS, FEWEST_POLLERS = 5, 2


def read() -> dict[str, Any]:
    return child("template", {}, environment(), str(ROOT / ".venv/bin/python"))


def main() -> None:
    from local_aws.yaml_text import yaml_parse

    print(json.dumps(settings(yaml_parse(TEMPLATE.read_text()))))


def settings(template: Mapping[str, Any]) -> dict[str, Any]:
    """With every parameter at its default."""
    defaults = {name: one.get("Default") for name, one in template["Parameters"].items()}
    resources = template["Resources"]

    def value(given: Any) -> Any:
        return defaults[given["Ref"]] if isinstance(given, dict) and "Ref" in given else given

    def holds(condition: Any) -> bool:
        if isinstance(condition, str):
            return holds(template["Conditions"][condition])
        [(operator, operands)] = condition.items()
        match operator:
            case "Condition":
                return holds(operands)
            case "Fn::Not":
                return not holds(operands[0])
            case "Fn::And":
                return all(map(holds, operands))
            case "Fn::Or":
                return any(map(holds, operands))
            case "Fn::Equals":
                first, second = map(value, operands)
                return str(first) == str(second)
        raise ValueError(f"not a condition: {operator}")

    def made(kind: str) -> list[Mapping[str, Any]]:
        found = [one for one in resources.values() if one["Type"] == kind]
        return [one for one in found if "Condition" not in one or holds(one["Condition"])]

    def sql(given: Any) -> str:
        if isinstance(given, dict) and "Fn::If" in given:
            condition, yes, no = given["Fn::If"]
            return sql(yes if holds(condition) else no)
        text = given["Fn::Sub"] if isinstance(given, dict) else given
        return re.sub(r"\$\{(\w+)\}", lambda found: str(defaults[found[1]]), text)

    process = resources["ProcessFunction"]["Properties"]
    [source] = [one["Properties"] for one in process["Events"].values() if one["Type"] == "SQS"]
    concurrency = value(source.get("ScalingConfig", {}).get("MaximumConcurrency"))
    views = [one["Properties"]["TableInput"] for one in made("AWS::Glue::Table")]
    functions = {"ingest": "IngestFunction", "process": "ProcessFunction", "maintenance": "TableMaintenanceFunction"}
    return {
        "batch_size": source["BatchSize"],
        "window_seconds": source["MaximumBatchingWindowInSeconds"],
        "pollers": min(concurrency, POLLERS) if concurrency else FEWEST_POLLERS,
        "close_after_hours": defaults["CloseAfterHours"],
        "memory_megabytes": {
            name: value(resources[function]["Properties"]["MemorySize"]) for name, function in functions.items()
        },
        "alarms": len(made("AWS::CloudWatch::Alarm")),
        "secrets": len(made("AWS::SecretsManager::Secret")),
        "views": {
            view["Name"]: sql(view["ViewOriginalText"]["Fn::Sub"][1]["View"]["Fn::Base64"]["Fn::Sub"][1]["Sql"])
            for view in views
            # completeness reads a table of its own, which the benchmark does not make.
            if view.get("TableType") == "VIRTUAL_VIEW" and view["Name"] != "completeness"
        },
    }


if __name__ == "__main__":
    main()
