"""A rule: a function with a name, a docstring that says what AWS does, and the page that says so."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """`apply` is the decorated function; its docstring says what AWS does."""

    name: str
    source: str
    apply: Callable[..., Any]


def rule(source: str, into: list[Rule]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a rule. `source` is the AWS page, or the issue, that shows the behaviour."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        into.append(Rule(function.__name__, source, function))
        return function

    return register


def seconds(name: str, default: float) -> float:
    """How long an imitated delay lasts. STRICT_AWS_<name> changes it; 0 switches it off."""
    return float(os.environ.get(f"STRICT_AWS_{name}", default))
