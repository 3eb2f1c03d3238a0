"""Whose webhook at Bird it is, and what taking it over would change. Pure.

A stack marks the webhook that it creates with a custom header. Bird shows custom headers (source: Webhooks API, "List
all Webhooks") and sends them along; ingest ignores this one. The mark names account, region and stack name, which only
one stack has at a time: so a marked webhook is this stack's, or that of a deleted stack whose place this one takes.
"""

import hashlib
from typing import Any

from register_webhook.webhook import Webhook, updated_fields

MARK_HEADER = "x-bird-webhooks-stack"
ADOPTED = " adopted"  # ends the mark of a webhook that the stack did not create
# Bird refuses more. Source: support-docs, "Posting Custom Headers with Webhooks Delivery".
MAX_HEADERS = 5
MAX_HEADER_BYTES = 3000
NAMED_TYPES = 5  # of those that come or go


class NotOursError(Exception):
    """Bird has a webhook for the target that is not this stack's; the text says which, and what would change."""


def mark_of(stack_id: str) -> str:
    """The account goes into a digest, because Bird need not know it."""
    arn = stack_id.rpartition("/")[0]
    region, name = arn.split(":")[3], arn.rpartition("/")[2]
    return f"{name}/{region}/{hashlib.sha256(arn.encode()).hexdigest()[:16]}"


def mark_on(webhook: Webhook) -> str:
    """'' if no stack has marked the webhook."""
    headers = webhook.get("custom_headers") or {}
    return next((str(value) for name, value in headers.items() if name.lower() == MARK_HEADER), "")


def made_by(mark: str, webhook: Webhook) -> bool:
    return mark_on(webhook) == mark


def belongs_to(mark: str, webhook: Webhook) -> bool:
    return mark_on(webhook) in (mark, mark + ADOPTED)


def is_of_another(mark: str, webhook: Webhook) -> bool:
    return bool(mark_on(webhook)) and not belongs_to(mark, webhook)


def owner(webhook: Webhook) -> str:
    """The marking stack in words."""
    name, _, rest = mark_on(webhook).partition("/")
    return f"stack {name} in {rest.partition('/')[0]}"


def marked(fields: Webhook, mark: str) -> Webhook:
    """The fields for a webhook that is to be created."""
    return {**fields, "custom_headers": {**fields.get("custom_headers", {}), MARK_HEADER: mark}}


def adopted_fields(current: Webhook, fields: Webhook, mark: str) -> Webhook:
    """The fields that make a webhook this stack's. It is marked only where its headers are shown and leave room."""
    result = {**updated_fields(current, fields), "active": True}
    if "custom_headers" in result:
        headers = {name: value for name, value in result["custom_headers"].items() if name.lower() != MARK_HEADER}
        with_mark = {**headers, MARK_HEADER: mark + ADOPTED}
        fits = len(with_mark) <= MAX_HEADERS and _bytes(with_mark) < MAX_HEADER_BYTES
        result["custom_headers"] = with_mark if fits else headers
    return result


def _bytes(headers: dict[str, Any]) -> int:
    return sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def changes(current: Webhook, fields: Webhook) -> list[str]:
    """What the fields would change of what Bird shows, each in words without a secret."""
    found = []
    if current.get("name") != fields["name"]:
        found.append(f'name "{current.get("name")}" to "{fields["name"]}"')
    before, after = set(current.get("events") or []), set(fields["events"])
    if before != after:
        moves = [_types("+", after - before), _types("-", before - after)]
        found.append(f"events {len(before)} types to {len(after)} ({', '.join(filter(None, moves))})")
    auth_before = current.get("auth_type") or "none"
    if auth_before != fields["auth_type"]:
        found.append(f"auth_type {auth_before} to {fields['auth_type']}")
    login = current.get("auth_credentials") or {}
    if any(login.get(name) != value for name, value in fields.get("auth_credentials", {}).items()):
        found.append("auth_credentials to those of this stack's secret")
    shown = {name.lower(): value for name, value in (current.get("custom_headers") or {}).items()}
    if mark_on(current) and mark_on(current) != mark_on(fields):
        found.append(f"the mark of {owner(current)}")
    for name, value in fields.get("custom_headers", {}).items():
        if name.lower() != MARK_HEADER and shown.get(name.lower()) != value:
            found.append(f"custom header {name} {'replaced' if name.lower() in shown else 'added'}")
    if not current.get("active", True):
        found.append("active false to true")
    return found


def _types(sign: str, types: set[str]) -> str:
    named = sorted(types)[:NAMED_TYPES]
    more = f" and {len(types) - NAMED_TYPES} more" if len(types) > NAMED_TYPES else ""
    return f"{sign}{' '.join(named)}{more}" if types else ""


def refusal_text(webhook: Webhook, target: str, changed: list[str]) -> str:
    """Names headers and never shows a value: they may be secrets. `target` is ours: theirs may hold a password."""
    made = f", created by {owner(webhook)}" if mark_on(webhook) else ""
    others = sorted(name for name in webhook.get("custom_headers") or {} if name.lower() != MARK_HEADER)
    stays = [f"custom headers {', '.join(others)}"] if others else []
    stays += [f"{name} {webhook[name]}" for name in ("subaccount_id", "exception_subaccounts") if webhook.get(name)]
    stays += ["auth_token"] if webhook.get("auth_token") else []
    return (
        f"Nothing was changed: Bird has a webhook for {target} already, "
        f'"{webhook.get("name")}" (id {webhook.get("id")}){made}, and this stack did not create it. '
        f"To take it over would change: {'; '.join(changed)}. "
        f"{f'It would keep: {"; ".join(stays)}. ' if stays else ''}"
        "Whatever receives its batches until now must accept that. If you mean it, set AdoptBirdWebhook to true. "
        "Otherwise delete that webhook at Bird, or give this stack another DomainName or WebhookPath."
    )
