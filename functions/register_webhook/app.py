"""Custom resource: the stack's webhook at Bird, made, changed and deleted with the stack. Its physical id is Bird's.

Bird is given the current credentials of the webhook's secret, always: ingest accepts those before, during and after a
rotation. What is there already is adopted (same target), what was deleted at Bird is made anew. Bird tries the target
before it takes a webhook, and a name or certificate that is minutes old may not answer yet: hence the patience.

Addresses, ARNs and all other facts of the stack come from the environment, which only a deployment can change: whoever
may invoke this function must not choose where a key goes. Of the event it uses what CloudFormation asks for, and the
name of the header that an update replaces.
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
from register_webhook.cloudformation import answer_to, seconds_left, send, stack_status, when_allowed
from register_webhook.webhook import (
    UnusableSettingError,
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

NOT_REGISTERED = "not-registered"  # the physical id of what Bird never took: to delete it is to do nothing
PAUSES_SECONDS = (2, 5, 10, 20)  # and 30 from then on
LAST_PAUSE_SECONDS = 30
ACCESS_SECONDS = 60  # how long IAM may take to know who may read a secret
# The last attempt may begin this long before the function's own end, with its few requests and CloudFormation's answer.
RESERVE_SECONDS = 100
DELETE_SECONDS = 60


class Outcome(NamedTuple):
    webhook_id: str
    words: str


class UnreadableSecretError(Exception):
    """Secrets Manager did not give a secret; says which, and why."""


class ForeignStackError(Exception):
    """The event names another stack than the function's own."""


class StackBeingDeletedError(Exception):
    """The stack is deleted or rolled back, so a webhook must not be made any more."""


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
    except Exception as error:  # whatever it is, the stack's event must say it
        answer |= {"Status": "FAILED", "Reason": redacted(reason(error), secrets)}
        logger.error("webhook not registered", extra={"reason": answer["Reason"]})
    send(event["ResponseURL"], answer, context)


def reason(error: Exception) -> str:
    match error:
        case NotNowError():
            return f"Bird did not do so, however often it was asked: {error}"
        case BirdError():
            return f"Bird refused: {error}"
        case UnusableSettingError() | UnreadableSecretError():
            return str(error)
        case ForeignStackError():
            return "The webhook was left alone: this function serves another stack"
        case StackBeingDeletedError():
            return "The webhook was not made: the stack is being deleted or rolled back"
    return f"The webhook was not registered: {type(error).__name__}"  # its text may hold anything


def register(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> Outcome:
    """Puts what must not be printed into `secrets` as soon as it is known."""
    settings = os.environ
    api = open_api(secrets)
    credentials = own_credentials(secrets)
    old = event.get("OldResourceProperties", {}).get("Settings", {})
    old_header = old.get("WEBHOOK_HEADER") if old.get("WEBHOOK_AUTH") == "HEADER" else None
    known = event.get("PhysicalResourceId", NOT_REGISTERED)

    # Each attempt looks anew: the webhook of one whose answer was lost is found by the next, and none is made twice.
    def attempt() -> Outcome:
        event_types = event_types_in(settings["EVENT_TYPES"]) or api.event_types()
        fields = desired_fields(settings, credentials, event_types)
        if known != NOT_REGISTERED and (current := api.read(known)) is not None:
            api.update(known, updated_fields(current, fields, old_header))
            return Outcome(known, "updated")
        found = [webhook for webhook in api.webhooks() if same_target(webhook.get("target"), fields["target"])]
        if found:
            adopted = found[0]
            api.update(adopted["id"], {**updated_fields(adopted, fields), "active": True})
            more = f", the first of {len(found)} with this target" if len(found) > 1 else ""
            return Outcome(adopted["id"], f"adopted, it was there{more}")
        require_stack_is_kept(event)
        return Outcome(api.create(fields), "created" if known == NOT_REGISTERED else "created anew, it was gone")

    done = retry_until_deadline(attempt, deadline)
    logger.info("webhook registered", extra={"outcome": done.words, "webhook_id": done.webhook_id})
    return done


def require_stack_is_kept(event: Mapping[str, Any]) -> None:
    """Errors: StackBeingDeletedError, where this request waited so long that its Delete comes, or came, before it.

    An Update may be part of a rollback, which restores the webhook; what a rollback does with a Create is to delete it.
    """
    status = stack_status(event["StackId"])
    if status.startswith("DELETE_") or (event["RequestType"] == "Create" and "ROLLBACK" in status):
        raise StackBeingDeletedError


def delete(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> None:
    """A webhook that Bird does not delete is left behind and said in the log: nobody shall be stuck with a stack."""
    known = event["PhysicalResourceId"]
    if known == NOT_REGISTERED or os.environ["DELETE_WITH_STACK"] != "true":
        logger.info("webhook left at Bird", extra={"webhook_id": known})
        return
    # An update deletes this resource when BirdApiKeySecretArn becomes empty, and nobody may have meant that: an update
    # from the Serverless Application Repository empties what is not typed in again. Only the end of the stack counts,
    # or that of a Create without an answer, which nobody relies on.
    answered = not is_generated_id(known, event["LogicalResourceId"])
    status = stack_status(event["StackId"])
    if answered and status not in ("DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"):
        logger.warning("webhook left at Bird", extra={"webhook_id": known, "stack_status": status})
        return
    try:
        api = open_api(secrets)
        if answered:
            retry_until_deadline(lambda: api.delete(known), deadline)
            logger.info("webhook deleted", extra={"webhook_id": known})
        else:
            credentials = own_credentials(secrets)
            retry_until_deadline(lambda: delete_own_webhooks(api, credentials), deadline)
    except Exception as error:
        text = redacted(reason(error), secrets)
        logger.error("webhook not deleted", extra={"reason": text, "webhook_id": known})


def is_generated_id(physical_id: str, logical_id: str) -> bool:
    """Whether CloudFormation made the id up, as it does for a Create that it got no answer to: stack_resource_ABC."""
    return re.search(rf"[-_]{re.escape(logical_id)}[-_]", physical_id) is not None


def delete_own_webhooks(api: BirdApi, credentials: Mapping[str, str]) -> None:
    """Webhooks with our target that carry our credentials, as one has that a Create made whose answer was lost."""
    target = os.environ["WEBHOOK_URL"]
    for webhook in [each for each in api.webhooks() if same_target(each.get("target"), target)]:
        if has_credentials(webhook, os.environ, credentials):
            api.delete(webhook["id"])
            logger.info("webhook deleted", extra={"webhook_id": webhook["id"]})
        else:
            logger.warning("webhook left at Bird, its credentials are not ours", extra={"webhook_id": webhook["id"]})


def retry_until_deadline[T](attempt: Callable[[], T], deadline: float) -> T:
    """The attempt's result, as soon as Bird can be reached and can reach us. Errors: BirdError."""
    for pause in chain(PAUSES_SECONDS, repeat(LAST_PAUSE_SECONDS)):
        try:
            return attempt()
        except NotNowError:
            if time.monotonic() + pause > deadline:
                raise
            logger.info("webhook not taken yet", extra={"pause_seconds": pause})
            time.sleep(pause)
    raise AssertionError  # the pauses have no end


def open_api(secrets: list[str]) -> BirdApi:
    text = read_secret(os.environ["BIRD_API_KEY_SECRET_ARN"], "BirdApiKeySecretArn")
    secrets.append(text)
    key = api_key(text)
    secrets.append(key)
    return BirdApi(os.environ["BIRD_API_URL"].rstrip("/"), key, os.environ["BIRD_SUBACCOUNT"])


def own_credentials(secrets: list[str]) -> dict[str, str]:
    """User name and password that Bird is given; none where it sends none of ours."""
    if os.environ["WEBHOOK_AUTH"] not in ("BASIC", "HEADER"):
        return {}
    credentials: dict[str, str] = json.loads(read_secret(os.environ["WEBHOOK_SECRET_ARN"], "WebhookSecretArn"))
    secrets += [credentials["password"], f"{credentials['username']}:{credentials['password']}"]
    return credentials


def read_secret(arn: str, name: str) -> str:
    """The current version's text, from the region that the ARN names. Errors: UnreadableSecretError."""
    client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
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
