"""Which settings an update would reset to their defaults. Pure.

When the Serverless Application Repository updates a stack, it resets each setting that is not typed in again (its API
has no "use previous value"). For most that is harmless. For those in SettingsGuard of template.yaml it would show
personal data, move data to another place, or leave Bird with an address where nothing answers.
"""

from collections.abc import Mapping
from typing import Any


class SettingsLostError(Exception):
    """The update would reset settings that SettingsToReset does not name, or take away a key that objects need."""


def lost_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ from their defaults in `old` but not in `new`, and must not be reset.

    Both are properties of the custom resource: `Settings` by name, each with `Value` and `Default`, and
    `SettingsToReset`, a comma-separated list of names. In older versions the resource has no `Settings`.
    """
    allowed = may_be_reset(new)
    before = old.get("Settings", {})
    return [
        name
        for name, setting in new["Settings"].items()
        if setting["Value"] == setting["Default"]
        and before.get(name, setting)["Value"] != setting["Default"]
        and name not in allowed
    ]


def lost_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """ARNs of KMS keys that the functions could use before the update and could not after it.

    Objects and secrets stay encrypted under the key that they were stored with, so that they could not be read.
    """
    if "KmsReadKeyArns" in may_be_reset(new):
        return []
    return sorted(keys(old) - keys(new))


def keys(properties: Mapping[str, Any]) -> set[str]:
    settings = properties.get("Settings", {})
    given = [settings.get(name, {}).get("Value", "") for name in ("KmsKeyArn", "KmsReadKeyArns")]
    return {arn for listed in given for arn in listed.split(",") if arn}


def may_be_reset(properties: Mapping[str, Any]) -> set[str]:
    return {name.strip() for name in properties.get("SettingsToReset", "").split(",")}


def refusal_of_keys(arns: list[str]) -> str:
    return (
        f"Refused, because what is encrypted under {', '.join(arns)} could not be read any more. Name the key in "
        "KmsReadKeyArns, with commas between several. If nothing is encrypted under it, name KmsReadKeyArns in "
        "SettingsToReset."
    )


def refusal_text(names: list[str]) -> str:
    return (
        f"Refused, because these settings would go back to their defaults: {', '.join(names)}. The Serverless "
        "Application Repository does so with each setting that is not typed in again. Update by CloudFormation's "
        "'Replace existing template', which keeps all values, or type them in again. If you mean it, name them in "
        "SettingsToReset, with commas between them."
    )
