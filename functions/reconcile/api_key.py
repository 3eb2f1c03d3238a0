"""The API key in a secret's text, as register_webhook reads it. Pure."""

import json
import re


class UnusableSettingError(Exception):
    """A setting that does not work; the text says which."""


def api_key(secret: str) -> str:
    """The key in a secret's text: plain, or in a JSON object as `api_key` or as its only member."""
    try:
        members = json.loads(secret)
    except ValueError:
        members = secret
    if isinstance(members, dict):
        members = members.get("api_key") or (next(iter(members.values())) if len(members) == 1 else None)
    key = members.strip() if isinstance(members, str) else secret.strip()
    # The key goes into a header, and Python prints a value that cannot be a header. Braces are a sign of broken JSON.
    if not re.fullmatch(r"[!-z|~]+", key):
        raise UnusableSettingError(
            "The secret of BirdApiKeySecretArn holds no API key: it must be the key itself, or a JSON object "
            "with the member api_key, or with one member"
        )
    return key
