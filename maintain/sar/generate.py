"""template.yaml -> the template for SAR. Some parameters get fixed values, and everything else follows from that.

Whatever a fixed value decides is evaluated (conditions, Fn::If, rules). What then has a false condition is removed, and
so is each parameter, condition and group that nothing refers to any more. No resource is named here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from maintain.check_template import Template, references

FIXED = {"FrontDoor": "HTTP_API"}  # SAR does not accept a load balancer
NO_VALUE = {"Ref": "AWS::NoValue"}


class GenerateError(Exception):
    """No template for SAR can be made from this one."""


@dataclass
class Known:
    """What is known: values of parameters, and conditions that are true, false, or equal to another one."""

    parameters: Mapping[str, str]
    choices: Mapping[str, list[str]]
    conditions: dict[str, bool | str] = field(default_factory=dict)

    def condition(self, name: str) -> bool | str:
        """True, False, or the name of the condition that it is equal to."""
        known = self.conditions.get(name, name)
        return known if isinstance(known, bool) or known == name else self.condition(known)


def generate(template: Template, fixed: Mapping[str, str] = FIXED) -> Template:
    names = {*template["Resources"], *template["Parameters"]}
    parameters: Mapping[str, str] = fixed
    while parameters:
        template = with_values(template, parameters)
        unused = template["Parameters"].keys() - used_names(template)
        # An unused parameter counts as fixed, so a condition or rule that names it is decided too.
        parameters = {name: str(template["Parameters"][name].get("Default", "")) for name in unused}
    template = plain_event_sources(template)
    template.pop("Rules", None)  # SAM's own schema has no such section, and SAR probably checks against it
    if lost := (references(template["Resources"]) | references(template["Outputs"])) & names - {
        *template["Resources"],
        *template["Parameters"],
    }:
        raise GenerateError(f"still referred to, but gone: {', '.join(sorted(lost))}")
    return template


def with_values(template: Template, parameters: Mapping[str, str]) -> Template:
    """The template with these parameters replaced by their values."""
    template = withdraw_refused_choices(template, parameters)
    known = Known(parameters, choices(template))
    conditions = decided_conditions(template.get("Conditions", {}), known)
    rules = fold(template.get("Rules", {}), known)
    resources = dict(present(template["Resources"], known))
    for resource in resources.values():
        if "DependsOn" in resource:
            named = [resource["DependsOn"]] if isinstance(resource["DependsOn"], str) else resource["DependsOn"]
            if not (left := [name for name in named if name in resources]):
                del resource["DependsOn"]
            elif left != named:
                resource["DependsOn"] = left
    outputs = dict(present(template.get("Outputs", {}), known))
    used = used_conditions([*resources.values(), *outputs.values()], conditions)
    result = {
        **template,
        "Metadata": without_parameters(template["Metadata"], parameters),
        "Parameters": {name: value for name, value in template["Parameters"].items() if name not in parameters},
        "Rules": rules,
        "Conditions": {name: value for name, value in conditions.items() if name in used},
        "Resources": resources,
        "Outputs": outputs,
    }
    if "Globals" in template:
        result["Globals"] = fold(template["Globals"], known)
    return result


def fold(value: Any, known: Known) -> Any:
    """The value with everything known evaluated; a condition function may become True or False."""
    match value:
        case {"Ref": str(name)} if name in known.parameters:
            return known.parameters[name]
        case {"Fn::Sub": content}:
            return {"Fn::Sub": fold_sub(content, known)}
        case {"Fn::If": [str(name), then, otherwise]}:
            condition = known.condition(name)
            if isinstance(condition, bool):
                return fold(then if condition else otherwise, known)
            return {"Fn::If": [condition, fold(then, known), fold(otherwise, known)]}
        case {"Condition": str(name)} if len(value) == 1:
            condition = known.condition(name)
            return condition if isinstance(condition, bool) else {"Condition": condition}
        case {"Fn::Not": [part]}:
            folded = fold(part, known)
            return not folded if isinstance(folded, bool) else {"Fn::Not": [folded]}
        case {"Fn::Equals": [left, right]}:
            return fold_equals(fold(left, known), fold(right, known), known)
        case {"Fn::And": parts}:
            return fold_all("Fn::And", parts, known, decides=False)
        case {"Fn::Or": parts}:
            return fold_all("Fn::Or", parts, known, decides=True)
        case dict():
            folded_items = {key: fold(content, known) for key, content in value.items()}
            return {key: content for key, content in folded_items.items() if content != NO_VALUE}
        case list():
            return [item for item in (fold(item, known) for item in value) if item != NO_VALUE]
    return value


def fold_sub(content: Any, known: Known) -> Any:
    text, *variables = content if isinstance(content, list) else [content]
    for name, fixed in known.parameters.items():
        text = text.replace(f"${{{name}}}", fixed)
    return [text, *(fold(part, known) for part in variables)] if variables else text


def fold_equals(left: Any, right: Any, known: Known) -> Any:
    if not isinstance(left, dict) and not isinstance(right, dict):
        return str(left) == str(right)
    for one, other in ((left, right), (right, left)):
        match one:
            case {"Ref": str(name)} if name in known.choices and not isinstance(other, dict):
                if str(other) not in known.choices[name]:
                    return False
    return {"Fn::Equals": [left, right]}


def fold_all(function: str, parts: list[Any], known: Known, *, decides: bool) -> Any:
    """Fn::And, which one false part decides; Fn::Or, which one true part decides."""
    folded = [fold(part, known) for part in parts]
    if decides in folded:
        return decides
    open_parts = [part for part in folded if not isinstance(part, bool)]
    if not open_parts:
        return not decides
    return {function: open_parts} if len(open_parts) > 1 else open_parts[0]


def decided_conditions(conditions: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """The undecided conditions; the others are added to `known`."""
    while True:
        folded = {name: fold(value, known) for name, value in conditions.items()}
        conditions = {}
        for name, value in folded.items():
            match value:
                case bool():
                    known.conditions[name] = value
                case {"Condition": str(other)}:
                    known.conditions[name] = other
                case _:
                    conditions[name] = value
        if len(conditions) == len(folded):
            return dict(conditions)


def present(parts: Mapping[str, Any], known: Known) -> Iterator[tuple[str, Any]]:
    """Resources or outputs whose condition is not false, each evaluated."""
    for name, part in parts.items():
        condition = known.condition(part["Condition"]) if "Condition" in part else True
        if condition is False:
            continue
        rest = {key: value for key, value in part.items() if key != "Condition"}
        folded = {key: fold(value, known) for key, value in rest.items()}
        if condition is not True:  # after the type, where readers expect it
            folded = {"Type": folded.pop("Type"), "Condition": condition, **folded} if "Type" in folded else folded
            folded.setdefault("Condition", condition)
        yield name, folded


def choices(template: Template) -> dict[str, list[str]]:
    found = {name: parameter.get("AllowedValues") for name, parameter in template["Parameters"].items()}
    return {name: [str(value) for value in values] for name, values in found.items() if values}


def withdraw_refused_choices(template: Template, parameters: Mapping[str, str]) -> Template:
    """Remove each value, and its description, with which a rule would refuse every deployment."""
    known = Known(parameters, choices(template))
    offered = {name: dict(parameter) for name, parameter in template["Parameters"].items()}
    for rule in template.get("Rules", {}).values():
        asserted = [fold(assertion["Assert"], known) for assertion in rule["Assertions"]]
        match fold(rule.get("RuleCondition", True), known):
            case {"Fn::Equals": [{"Ref": str(name)}, value]} if False in asserted and name in known.choices:
                parameter = offered[name]
                if str(value) == str(parameter.get("Default")):
                    raise GenerateError(f"{value} is the default of {name}, and a rule refuses it")
                parameter["AllowedValues"] = [each for each in parameter["AllowedValues"] if str(each) != str(value)]
                about = re.escape(str(value))
                parameter["Description"] = re.sub(rf"{about} - [^.]*\. ?", "", parameter["Description"]).strip()
    return {**template, "Parameters": offered}


def used_names(template: Template) -> set[str]:
    """The names that something other than a rule refers to."""
    parts = ("Globals", "Conditions", "Resources", "Outputs")
    return set().union(*(references(template.get(part, {})) for part in parts))


def used_conditions(parts: list[Any], conditions: Mapping[str, Any]) -> set[str]:
    used: set[str] = set()
    waiting = set().union(*map(named_conditions, parts))
    while waiting:
        used |= waiting
        waiting = set().union(*(named_conditions(conditions[name]) for name in waiting & conditions.keys())) - used
    return used


def named_conditions(value: Any) -> set[str]:
    match value:
        case list():
            return set().union(*map(named_conditions, value))
        case dict():
            found = set().union(*map(named_conditions, value.values()))
            match value:
                case {"Condition": str(name)}:
                    found.add(name)
                case {"Fn::If": [str(name), *_]}:
                    found.add(name)
            return found
    return set()


def without_parameters(metadata: Any, parameters: Mapping[str, str]) -> Any:
    interface = "AWS::CloudFormation::Interface"
    if interface not in metadata:
        return metadata
    groups = [
        {**group, "Parameters": [name for name in group["Parameters"] if name not in parameters]}
        for group in metadata[interface]["ParameterGroups"]
    ]
    kept = [group for group in groups if group["Parameters"]]
    return {**metadata, interface: {**metadata[interface], "ParameterGroups": kept}}


def plain_event_sources(template: Template) -> Template:
    """SQS events as the SAM transform writes them, because their properties may be too new for SAR's version of SAM."""
    resources: dict[str, Any] = {}
    for name, resource in template["Resources"].items():
        resources[name] = resource
        if resource["Type"] != "AWS::Serverless::Function" or "Events" not in resource["Properties"]:
            continue
        events = resource["Properties"]["Events"]
        queues = {event: content for event, content in events.items() if content["Type"] == "SQS"}
        rest = {event: content for event, content in events.items() if event not in queues}
        properties = {key: value for key, value in resource["Properties"].items() if key != "Events"}
        resources[name] = {**resource, "Properties": {**properties, **({"Events": rest} if rest else {})}}
        for event, content in queues.items():
            source = {key: value for key, value in content["Properties"].items() if key != "Queue"}
            source = {"FunctionName": {"Ref": name}, "EventSourceArn": content["Properties"]["Queue"], **source}
            condition = {"Condition": resource["Condition"]} if "Condition" in resource else {}
            resources[name + event] = {"Type": "AWS::Lambda::EventSourceMapping", **condition, "Properties": source}
    return {**template, "Resources": resources}


class Dumper(yaml.SafeDumper):
    """Readable YAML: text of several lines as a block, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)


def written(template: Template) -> str:
    return yaml.dump(template, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
