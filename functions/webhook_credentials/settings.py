"""Which settings an update would set back to their defaults. Pure.

The Serverless Application Repository sets every setting that is not typed in again back to its default when it updates
a stack (its API has no "use previous value"). For most that is harmless; those in SettingsGuard of template.yaml would
show personal data, move data to another place, or leave Bird at an address where nothing answers.
"""

from collections.abc import Mapping
from typing import Any


class SettingsLostError(Exception):
    """The update would set settings back that nobody asked to set back."""


def lost_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ from their defaults in `old` and not in `new`, and are not allowed to.

    Both are properties of the custom resource: `Settings` by name, each with `Value` and `Default`, and
    `SettingsToReset`, names with commas between them. A custom resource of older versions has no `Settings`.
    """
    allowed = {name.strip() for name in new.get("SettingsToReset", "").split(",")}
    before = old.get("Settings", {})
    return [
        name
        for name, setting in new["Settings"].items()
        if setting["Value"] == setting["Default"]
        and before.get(name, setting)["Value"] != setting["Default"]
        and name not in allowed
    ]


def refusal_text(names: list[str]) -> str:
    return (
        f"Refused, because these settings would go back to their defaults: {', '.join(names)}. The Serverless "
        "Application Repository does so with each setting that is not typed in again. Update by CloudFormation's "
        "'Replace existing template', which keeps all values, or type them in again. If you mean it, name them in "
        "SettingsToReset, with commas between them."
    )
