"""Evaluates CloudFormation's intrinsic functions, as far as possible without a deployment."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()
GUID = "0a1b2c3d-4e5f-11f0-8abc-0123456789ab"


@dataclass(frozen=True)
class Evaluation:
    """Parameters have their defaults, or the values in `given`; each Fn::If takes `branch`, 1 or 2."""

    template: Mapping[str, Any]
    given: Mapping[str, str] = field(default_factory=dict)
    branch: int = 1
    stack_name: str = "My-Stack"  # a stack's name may have capitals

    @classmethod
    def both(cls, template: Mapping[str, Any]) -> Iterator["Evaluation"]:
        """Every Fn::If taken one way, then the other."""
        yield cls(template, branch=1)
        yield cls(template, branch=2)

    def plain(self, value: Any) -> Any:
        """The value without intrinsic functions. Values that only a deployment knows become the logical id."""
        if isinstance(value, list):
            return [plain for part in value if (plain := self.plain(part)) is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Ref": str(name)}:
                return self.ref(name)
            case {"Fn::GetAtt": [str(name), *attribute]}:
                return f"{name}.{'.'.join(attribute)}".lower()
            case {"Fn::Sub": [str(text), dict(variables)]}:
                return self.substituted(text, variables)
            case {"Fn::Sub": str(text)}:
                return self.substituted(text, {})
            case {"Fn::Join": [str(delimiter), parts]}:
                return delimiter.join(map(str, self.plain(parts)))
            case {"Fn::Split": [str(delimiter), text]}:
                return str(self.plain(text)).split(delimiter)
            case {"Fn::Select": [index, parts]}:
                chosen = self.plain(parts)
                return chosen[int(index)] if isinstance(chosen, list) and int(index) < len(chosen) else ""
            case {"Fn::Base64": text}:
                return base64.b64encode(str(self.plain(text)).encode()).decode()
            case {"Fn::If": list(branches)}:
                return self.plain(branches[self.branch])
        return {key: plain for key, part in value.items() if (plain := self.plain(part)) is not NO_VALUE}

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name == "AWS::StackName":
            return self.stack_name
        if name == "AWS::StackId":
            return f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{self.stack_name}/{GUID}"
        if name in PSEUDO or name in self.given:
            return PSEUDO.get(name) or self.given[name]
        if name in self.template.get("Parameters", {}):
            return str(self.template["Parameters"][name].get("Default", ""))
        resource = self.template["Resources"].get(name, {})
        if resource.get("Type") == "AWS::Glue::Database":
            properties = resource["Properties"]
            return self.plain(properties.get("DatabaseName") or properties["DatabaseInput"].get("Name") or name.lower())
        return name.lower()

    def substituted(self, text: str, variables: Mapping[str, Any]) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in variables:
                return str(self.plain(variables[name]))
            resource, _, attribute = name.partition(".")
            return str(self.plain({"Fn::GetAtt": [resource, attribute]}) if attribute else self.ref(name))

        return re.sub(r"\$\{([^}]+)\}", value, text)
