"""Which settings an update would reset to their defaults. Pure.

When the Serverless Application Repository updates a stack, it resets each setting that is not typed in again (its API
has no "use previous value"). For most that is harmless. For those in SettingsGuard of template.yaml it would show
personal data, move data to another place, or leave Bird with an address where nothing answers.
"""

from collections.abc import Mapping
from typing import Any


class SettingsLostError(Exception):
    """The update would reset settings that SettingsToReset does not name, or leave behind a key or a place in use."""


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


def left_place(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The place of raw batches that the update leaves without naming it in FormerRawPlaces, as bucket/prefix, or ''.

    The resource Storage refuses it too, and knows more, but after the raw bucket's announcements have moved.
    """
    if "Settings" not in old or "FormerRawPlaces" in may_be_reset(new):
        return ""
    bucket, prefix = raw_place(old)
    if (bucket, prefix) == raw_place(new):
        return ""
    for place in value(new, "FormerRawPlaces").split(","):
        named_bucket, _, named_prefix = place.strip(" /").partition("/")
        if named_prefix == prefix and bucket in ("", named_bucket):
            return ""
    return f"{bucket or '(the output RawBucketName)'}/{prefix}"


def raw_place(properties: Mapping[str, Any]) -> tuple[str, str]:
    """Bucket and prefix; the bucket is '' where CloudFormation chooses its name."""
    bucket = value(properties, "ExistingRawBucket") or value(properties, "RawBucketName")
    return bucket, value(properties, "RawPrefix").strip("/")


def value(properties: Mapping[str, Any], name: str) -> str:
    """'' if the version of the properties has no such setting."""
    return str(properties["Settings"].get(name, {}).get("Value", ""))


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


def refusal_of_place(place: str) -> str:
    return (
        f"Refused, because raw batches lie in {place}, where this stack would not look: no replay, no erasure, and "
        "batches that wait would fail. Add the place to FormerRawPlaces, with commas between several, and after the "
        "update run bird-webhooks replay --since 1h, for what was stored there meanwhile. To forget the place, name "
        "FormerRawPlaces in SettingsToReset."
    )


def refusal_text(names: list[str]) -> str:
    return (
        f"Refused, because these settings would go back to their defaults: {', '.join(names)}. The Serverless "
        "Application Repository does so with each setting that is not typed in again. Update by CloudFormation's "
        "'Replace existing template', which keeps all values, or type them in again. If you mean it, name them in "
        "SettingsToReset, with commas between them."
    )
