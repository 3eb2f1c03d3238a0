"""The webhook's fields for Bird, from the custom resource's settings; and Bird's answers about it. Pure.

Source: https://docs.bird.com/api/email-api/webhooks
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

MAX_NAME_CHARACTERS = 24  # the limit of Bird's own form
MAX_TEXT_CHARACTERS = 500
SHORTEST_FRAGMENT = 8  # characters of base64; shorter ones would redact ordinary words

Webhook = dict[str, Any]


class UnusableSettingError(Exception):
    """A setting that does not work for a webhook; the text says which."""


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


def desired_fields(settings: Mapping[str, str], credentials: Mapping[str, str], event_types: list[str]) -> Webhook:
    """The webhook's fields as Bird should have them. `settings` is the function's environment."""
    fields: Webhook = {
        "name": settings["WEBHOOK_NAME"][:MAX_NAME_CHARACTERS].strip(),
        "target": settings["WEBHOOK_URL"],
        "events": event_types,
        "active": True,
        "auth_type": "none",
    }
    match settings["WEBHOOK_AUTH"]:
        case "BASIC":
            login = {name: credentials[name] for name in ("username", "password")}
            fields |= {"auth_type": "basic", "auth_credentials": login}
        case "HEADER":
            fields["custom_headers"] = {settings["WEBHOOK_HEADER"]: credentials["password"]}
        case "NONE":
            pass
        case other:
            raise UnusableSettingError(
                f"WebhookAuth {other} is for you to type into Bird's form: see the output BirdForm"
            )
    return fields


def updated_fields(current: Webhook, fields: Webhook, old_header: str | None = None) -> Webhook:
    """The fields for an existing webhook: headers that are not ours stay, and a webhook paused at Bird stays paused."""
    ours = {name.lower() for name in [*fields.get("custom_headers", {}), *([old_header] if old_header else [])]}
    there = current.get("custom_headers") or {}
    others = {name: value for name, value in there.items() if name.lower() not in ours}
    result = {**fields, "active": current.get("active", True)}
    if there or ours:  # otherwise left out: Bird may not show headers, and an empty object would remove them
        result["custom_headers"] = others | fields.get("custom_headers", {})
    return result


def has_credentials(webhook: Webhook, settings: Mapping[str, str], credentials: Mapping[str, str]) -> bool:
    """Whether Bird shows that this webhook sends our credentials; False if it shows none, or if there are none."""
    match settings["WEBHOOK_AUTH"]:
        case "BASIC":
            shown = webhook.get("auth_credentials") or {}
            return all(shown.get(name) == credentials[name] for name in ("username", "password"))
        case "HEADER":
            shown = {name.lower(): value for name, value in (webhook.get("custom_headers") or {}).items()}
            return bool(shown.get(settings["WEBHOOK_HEADER"].lower()) == credentials["password"])
    return False


def event_types_in(event_types: str) -> list[str]:
    """The types in a comma-separated list; none means all."""
    return [kind.strip() for kind in event_types.split(",") if kind.strip()]


def documented(documentation: Mapping[str, Any]) -> list[str]:
    """All types in Bird's documentation of its events, which groups them by class."""
    return sorted({kind for group in documentation.values() for kind in group.get("events", {})})


def same_target(one: object, other: str) -> bool:
    """Whether both are the same address. False for a text that is not an address: an account may have such webhooks."""
    try:
        return isinstance(one, str) and _address(one) == _address(other)
    except ValueError:
        return False


def _address(target: str) -> tuple[str, str | None, int, str, str]:
    parts = urlsplit(target)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return parts.scheme, parts.hostname, port, parts.path or "/", parts.query


def error_text(body: bytes) -> str:
    """Bird's own words in a refusal: each error's message, and what the webhook's target had answered."""
    try:
        errors = json.loads(body)["errors"]
        said = [_words(error) for error in (errors if isinstance(errors, list) else [errors])]
    except (ValueError, TypeError, KeyError):
        said = []
    return "; ".join(filter(None, said)) or "no reason given"


def _words(error: object) -> str:
    if not isinstance(error, dict):
        return str(error or "")
    text = ": ".join(str(error[name]) for name in ("message", "description") if error.get(name))
    response = error.get("response")
    answered = response.get("status") if isinstance(response, dict) else None
    return f"{text} (the target answered {answered})" if answered else text


def redacted(text: str, secrets: Iterable[str], limit: int = MAX_TEXT_CHARACTERS) -> str:
    """The text for stack events and logs: one line of limited length, without the secrets in any usual encoding."""
    known = {spelling for secret in filter(None, secrets) for spelling in spellings(secret)}
    for spelling in sorted(known, key=len, reverse=True):
        text = text.replace(spelling, "[secret]")
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def spellings(secret: str) -> set[str]:
    """The secret as it is, and in JSON, HTML, URLs, hexadecimal and base64, alone or inside a longer text."""
    raw = secret.encode()
    found = {secret, json.dumps(secret)[1:-1], html.escape(secret), quote(secret, safe=""), quote_plus(secret)}
    found |= {raw.hex(), raw.hex().upper()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        found |= {encode(raw).decode(), encode(raw).decode().rstrip("=")}
        for before in range(3):  # bytes before it in a group of three, such as a user name's
            encoded = encode(bytes(before) + raw).decode()
            # Only characters whose six bits all come from the secret.
            inner = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
            if len(inner) >= SHORTEST_FRAGMENT:
                found.add(inner)
    return found
