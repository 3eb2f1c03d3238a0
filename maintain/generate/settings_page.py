"""docs/settings.md: every parameter as the template describes it, and what follows from its use. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from local_aws.yaml_text import yaml_parse
from maintain.check_template import Template
from maintain.sar.generate import generate

HEAD = """\
# Settings

Written by `make generate` from the parameters of [`template.yaml`](../template.yaml): change them there. The groups are
those of the CloudFormation console. "The published application" is the one of the Serverless Application Repository,
which has the HTTP API as its front door ([`publishing.md`](publishing.md)).
"""


def page(text: str) -> str:
    """The page; `text` is the template."""
    template: Template = yaml_parse(text)
    published = generate(template)["Parameters"]
    guarded = template["Resources"]["SettingsGuard"]["Properties"]["Settings"]
    needed = needs(template)
    parts = [HEAD]
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        parts.append(f"## {group['Label']['default']}\n")
        for name in group["Parameters"]:
            parameter = template["Parameters"][name]
            lines = [
                f"- Default: {value(parameter['Default'])}. Allowed: {'; '.join(allowed(parameter))}.",
                *([f"- Has an effect only {', and '.join(needed[name])}."] if name in needed else []),
                *remarks(name, parameter, published, guarded),
            ]
            parts.append(f"### {name}\n\n{parameter['Description']}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def value(given: Any) -> str:
    return f"`{given}`" if given != "" else "empty"


def allowed(parameter: Mapping[str, Any]) -> Iterator[str]:
    if parameter["Type"] == "CommaDelimitedList":
        yield "a list with commas between its items"
    if "AllowedValues" in parameter:
        yield ", ".join(value(each) for each in parameter["AllowedValues"])
    if "MinValue" in parameter:
        yield f"{parameter['MinValue']} to {parameter['MaxValue']}"
    if "ConstraintDescription" in parameter:
        yield parameter["ConstraintDescription"]
    elif "AllowedPattern" in parameter:
        yield f"what matches `{parameter['AllowedPattern']}`"
    elif "MaxLength" in parameter:
        yield f"up to {parameter['MaxLength']} characters"


def remarks(name: str, parameter: Mapping[str, Any], published: Template, guarded: Mapping[str, Any]) -> Iterator[str]:
    if name not in published:
        yield "- Not in the published application."
    elif published[name].get("AllowedValues") != parameter.get("AllowedValues"):
        yield f"- In the published application: {', '.join(map(value, published[name]['AllowedValues']))}."
    if name in guarded:
        yield "- An update that would set it back to its default is refused, unless `SettingsToReset` names it."


def needs(template: Template) -> Mapping[str, list[str]]:
    """Parameter -> what another one must be, or it is not used: worked out as for the published application.

    A parameter that is used in several ways has no entry, though one of them may depend on another parameter.
    """
    resources = {name: resource for name, resource in template["Resources"].items() if name != "SettingsGuard"}
    template = {**template, "Resources": resources}  # the guard reads what it guards, used or not
    found: dict[str, list[str]] = defaultdict(list)
    for name, parameter in template["Parameters"].items():
        default = str(parameter["Default"])
        values = [str(each) for each in parameter.get("AllowedValues", [default])]
        if len(values) > 4 or (len(values) == 1 and default not in ("", "0")):
            continue  # not a switch
        unused = {each: unused_with(template, {name: each}) - {name, "SettingsToReset"} for each in values}
        for other in sorted(set().union(*unused.values())):
            if len(values) == 1:
                found[other].append(f"with a `{name}`")
            else:
                left = [f"`{each}`" for each in values if other not in unused[each]]
                found[other].append(f"with `{name}` {' or '.join(left)}")
    return found


def unused_with(template: Template, fixed: Mapping[str, str]) -> set[str]:
    """The parameters that nothing uses when these have those values."""
    without_rules = {**template, "Rules": {}}
    return set(template["Parameters"].keys() - generate(without_rules, fixed)["Parameters"].keys())
