"""Custom resource: the stack's webhook at Bird, created, updated and deleted with the stack. Its physical id is Bird's.

Bird always gets the current credentials in the webhook's secret, because ingest accepts them before, during and after a
rotation. A webhook that was deleted at Bird is created again. One with the same target that the stack did not create is
taken over only with AdoptBirdWebhook. Bird calls the target before it accepts a webhook, and DNS or a certificate may
not work for some minutes, so it retries.

Addresses, ARNs and all other facts of the stack come from the environment, which only a deployment can change, because
a caller of this function must not choose where an API key goes. From the event it takes only CloudFormation's request,
and the name of the header that an update replaces.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from itertools import chain, repeat
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from register_webhook.bird_api import BirdApi, BirdError, NotNowError
from register_webhook.cloudformation import AWS_LIMITS, answer_to, seconds_left, send, stack_status, when_allowed
from register_webhook.ownership import (
    NotOursError,
    adopted_fields,
    belongs_to,
    changes,
    is_of_another,
    made_by,
    mark_of,
    marked,
    owner,
    refusal_text,
)
from register_webhook.webhook import (
    MAX_TEXT_CHARACTERS,
    UnusableSettingError,
    Webhook,
    api_key,
    desired_fields,
    event_types_in,
    has_credentials,
    redacted,
    same_target,
    updated_fields,
)

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

NOT_REGISTERED = "not-registered"  # the physical id if Bird never accepted a webhook; a deletion then does nothing
PAUSES_SECONDS = (2, 5, 10, 20)  # then 30 each time
LAST_PAUSE_SECONDS = 30
ACCESS_SECONDS = 60  # how long IAM may take until the function may read a secret
# Kept for the last attempt's few requests and for the answer to CloudFormation.
RESERVE_SECONDS = 100
DELETE_SECONDS = 60
MAX_REFUSAL_CHARACTERS = 1500  # of the many words on a webhook that is not taken over


class Outcome(NamedTuple):
    webhook_id: str
    words: str


class UnreadableSecretError(Exception):
    """A secret could not be read; the text says which, and why."""


class ForeignStackError(Exception):
    """The event names a stack that is not the function's own."""


class StackBeingDeletedError(Exception):
    """The stack is being deleted or rolled back, so no webhook must be created."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait until the resource's ServiceTimeout."""
    answer = answer_to(event, NOT_REGISTERED)
    secrets: list[str] = []
    seconds = seconds_left(context) - RESERVE_SECONDS
    now = time.monotonic()
    try:
        if event["StackId"] != os.environ["STACK_ID"]:
            raise ForeignStackError
        if event["RequestType"] == "Delete":
            delete(event, secrets, deadline=now + min(seconds, DELETE_SECONDS))
            answer |= {"Status": "SUCCESS"}
        else:
            done = register(event, secrets, deadline=now + seconds)
            data = {"Outcome": done.words}
            answer |= {"Status": "SUCCESS", "PhysicalResourceId": done.webhook_id, "Data": data}
    except Exception as error:  # the stack's events must show any error
        limit = MAX_REFUSAL_CHARACTERS if isinstance(error, NotOursError) else MAX_TEXT_CHARACTERS
        answer |= {"Status": "FAILED", "Reason": redacted(reason(error), secrets, limit)}
        logger.error("webhook not registered", extra={"reason": answer["Reason"]})
    send(event["ResponseURL"], answer, context)


def reason(error: Exception) -> str:
    match error:
        case NotNowError():
            return f"Bird failed at every attempt: {error}"
        case BirdError():
            return f"Bird refused: {error}"
        case UnusableSettingError() | UnreadableSecretError() | NotOursError():
            return str(error)
        case ForeignStackError():
            return "The webhook was left alone: this function serves another stack"
        case StackBeingDeletedError():
            return "The webhook was not created: the stack is being deleted or rolled back"
    return f"The webhook was not registered: {type(error).__name__}"  # its text may contain anything


def register(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> Outcome:
    """Appends to `secrets` what must not be printed, as soon as it is known."""
    settings = os.environ
    api = open_api(secrets)
    credentials = own_credentials(secrets)
    old = event.get("OldResourceProperties", {}).get("Settings", {})
    old_header = old.get("WEBHOOK_HEADER") if old.get("WEBHOOK_AUTH") == "HEADER" else None
    known = event.get("PhysicalResourceId", NOT_REGISTERED)
    mark, may_adopt = mark_of(settings["STACK_ID"]), settings["ADOPT_EXISTING"] == "true"

    # Each attempt lists the webhooks again. If the answer to a creation was lost, the next attempt finds that webhook.
    def attempt() -> Outcome:
        event_types = event_types_in(settings["EVENT_TYPES"]) or api.event_types()
        fields = desired_fields(settings, credentials, event_types)
        if known != NOT_REGISTERED and (current := api.read(known)) is not None:
            if not is_of_another(mark, current):
                api.update(known, updated_fields(current, fields, old_header))
                return Outcome(known, "updated")
            if not may_adopt:  # not a failure: nothing of this update is wrong, and a rollback must not fail
                return Outcome(known, f"left alone, because {owner(current)} has taken it over")
            api.update(known, adopted_fields(current, fields, mark))
            return Outcome(known, "taken back")
        found = [webhook for webhook in api.webhooks() if same_target(webhook.get("target"), fields["target"])]
        for webhook in found:
            wanted = adopted_fields(webhook, fields, mark)
            if belongs_to(mark, webhook) or not changes(webhook, wanted):
                api.update(webhook["id"], {**updated_fields(webhook, fields), "active": True})
                return Outcome(webhook["id"], "found again, it is the stack's own")
        if found:
            adopted = found[0]
            wanted = adopted_fields(adopted, fields, mark)
            if not may_adopt:
                raise NotOursError(refusal_text(adopted, fields["target"], changes(adopted, wanted)))
            api.update(adopted["id"], wanted)
            more = f", the first of {len(found)} with this target" if len(found) > 1 else ""
            return Outcome(adopted["id"], f"adopted, because it existed{more}")
        require_stack_is_kept(event)
        created = api.create(marked(fields, mark))
        return Outcome(created, "created" if known == NOT_REGISTERED else "recreated, because it was gone")

    done = retry_until_deadline(attempt, deadline)
    logger.info("webhook registered", extra={"outcome": done.words, "webhook_id": done.webhook_id})
    return done


def require_stack_is_kept(event: Mapping[str, Any]) -> None:
    """Errors: StackBeingDeletedError if this request waited so long that CloudFormation has moved on to its Delete.

    An Update may be part of a rollback, which restores the webhook. A rolled back Create is deleted.
    """
    status = stack_status(event["StackId"])
    if status.startswith("DELETE_") or (event["RequestType"] == "Create" and "ROLLBACK" in status):
        raise StackBeingDeletedError


def delete(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> None:
    """A webhook that Bird does not delete is left behind and logged, so that the stack can always be deleted."""
    known = event["PhysicalResourceId"]
    if known == NOT_REGISTERED or os.environ["DELETE_WITH_STACK"] != "true":
        logger.info("webhook left at Bird", extra={"webhook_id": known})
        return
    # An update deletes this resource when BirdApiKeySecretArn becomes empty. That may be a mistake, because an update
    # from the Serverless Application Repository empties parameters that are not typed in again. So the webhook is
    # deleted only with the stack, or after a Create that got no answer, because nothing uses that webhook.
    answered = not is_generated_id(known, event["LogicalResourceId"])
    status = stack_status(event["StackId"])
    if answered and status not in ("DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"):
        logger.warning("webhook left at Bird", extra={"webhook_id": known, "stack_status": status})
        return
    try:
        api = open_api(secrets)
        if answered:
            created_only = status == "ROLLBACK_IN_PROGRESS"
            retry_until_deadline(lambda: delete_known_webhook(api, known, secrets, created_only=created_only), deadline)
        else:
            retry_until_deadline(lambda: delete_own_webhooks(api), deadline)
    except Exception as error:
        text = redacted(reason(error), secrets)
        logger.error("webhook not deleted", extra={"reason": text, "webhook_id": known})


def is_generated_id(physical_id: str, logical_id: str) -> bool:
    """Whether CloudFormation generated the id (stack_resource_ABC), as it does for a Create without an answer."""
    return re.search(rf"[-_]{re.escape(logical_id)}[-_]", physical_id) is not None


def delete_known_webhook(api: BirdApi, known: str, secrets: list[str], *, created_only: bool) -> None:
    """Leaves a webhook that another stack has taken over since. `created_only`: also one that this stack adopted."""
    webhook = api.read(known)
    if webhook is None:
        return
    if made_by(mark_of(os.environ["STACK_ID"]), webhook) or (not created_only and is_still_ours(webhook, secrets)):
        api.delete(known)
        logger.info("webhook deleted", extra={"webhook_id": known})
    else:
        logger.warning("webhook left at Bird, not created by this stack", extra={"webhook_id": known})


def is_still_ours(webhook: Webhook, secrets: list[str]) -> bool:
    """Whether an adopted webhook is marked as ours, or carries no mark but our credentials."""
    mark = mark_of(os.environ["STACK_ID"])
    if belongs_to(mark, webhook) or is_of_another(mark, webhook):
        return belongs_to(mark, webhook)
    return has_credentials(webhook, os.environ, own_credentials(secrets))


def delete_own_webhooks(api: BirdApi) -> None:
    """Delete the webhooks with our target that we created: a Create whose answer was lost made such a one."""
    target, mark = os.environ["WEBHOOK_URL"], mark_of(os.environ["STACK_ID"])
    for webhook in [each for each in api.webhooks() if same_target(each.get("target"), target)]:
        if made_by(mark, webhook):
            api.delete(webhook["id"])
            logger.info("webhook deleted", extra={"webhook_id": webhook["id"]})
        else:
            logger.warning("webhook left at Bird, not created by this stack", extra={"webhook_id": webhook["id"]})


def retry_until_deadline[T](attempt: Callable[[], T], deadline: float) -> T:
    """The attempt's result, retried until Bird answers and can reach the target. Errors: BirdError."""
    for pause in chain(PAUSES_SECONDS, repeat(LAST_PAUSE_SECONDS)):
        try:
            return attempt()
        except NotNowError:
            if time.monotonic() + pause > deadline:
                raise
            logger.info("webhook not taken yet", extra={"pause_seconds": pause})
            time.sleep(pause)
    raise AssertionError  # never reached: the pauses are endless


def open_api(secrets: list[str]) -> BirdApi:
    text = read_secret(os.environ["BIRD_API_KEY_SECRET_ARN"], "BirdApiKeySecretArn")
    secrets.append(text)
    key = api_key(text)
    secrets.append(key)
    return BirdApi(os.environ["BIRD_API_URL"].rstrip("/"), key, os.environ["BIRD_SUBACCOUNT"])


def own_credentials(secrets: list[str]) -> dict[str, str]:
    """The user name and password that Bird gets; none if it sends none of ours."""
    if os.environ["WEBHOOK_AUTH"] not in ("BASIC", "HEADER"):
        return {}
    credentials: dict[str, str] = json.loads(read_secret(os.environ["WEBHOOK_SECRET_ARN"], "WebhookSecretArn"))
    secrets += [credentials["password"], f"{credentials['username']}:{credentials['password']}"]
    return credentials


def read_secret(arn: str, name: str) -> str:
    """The current version's text, read in the ARN's region. Errors: UnreadableSecretError."""
    client = boto3.client("secretsmanager", region_name=arn.split(":")[3], config=AWS_LIMITS)
    try:
        found = when_allowed(
            lambda: client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT"), seconds=ACCESS_SECONDS
        )
        return str(found["SecretString"])
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise UnreadableSecretError(f"The secret of {name} was not readable: {code}") from None
    except (BotoCoreError, KeyError) as error:
        raise UnreadableSecretError(f"The secret of {name} was not readable: {type(error).__name__}") from None
