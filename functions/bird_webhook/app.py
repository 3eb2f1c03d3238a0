"""Custom resource: the stack's webhook at Bird, made, changed and deleted with the stack. Its physical id is Bird's.

Bird is given the current credentials of the webhook's secret, always: ingest accepts those before, during and after a
rotation. What is there already is adopted (same target), what was deleted at Bird is made anew. Bird tries the target
before it takes a webhook, and a name or certificate that is minutes old may not answer yet: hence the patience.
"""

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from itertools import chain, repeat
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from bird_webhook.bird_api import BirdApi, BirdError, NotNowError
from bird_webhook.webhook import UnusableSettingError, api_key, changed, chosen, same_target, wanted, without

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

NOT_REGISTERED = "not-registered"  # the physical id of what Bird never took: to delete it is to do nothing
PAUSES_SECONDS = (2, 5, 10, 20)  # and 30 from then on
LAST_PAUSE_SECONDS = 30
# What IAM was told in this very deployment, who may read the secret, takes it some seconds to know everywhere.
ACCESS_PAUSES_SECONDS = (2, 4, 8, 16)
# The last attempt may begin this long before the function's own end, with its few requests and CloudFormation's answer.
RESERVE_SECONDS = 100
DELETE_SECONDS = 60
ANSWER_TIMEOUT_SECONDS = 10


class Outcome(NamedTuple):
    webhook_id: str
    words: str


class UnreadableSecretError(Exception):
    """Secrets Manager did not give a secret; says which, and why."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait until the resource's ServiceTimeout."""
    answer = {
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "PhysicalResourceId": event.get("PhysicalResourceId", NOT_REGISTERED),
    }
    secrets: list[str] = []
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    now = time.monotonic()
    try:
        if event["RequestType"] == "Delete":
            delete(event, secrets, deadline=now + min(seconds, DELETE_SECONDS))
            answer |= {"Status": "SUCCESS"}
        else:
            done = register(event, secrets, deadline=now + seconds)
            data = {"Outcome": done.words}
            answer |= {"Status": "SUCCESS", "PhysicalResourceId": done.webhook_id, "Data": data}
    except Exception as error:  # whatever it is, the stack's event shall say it
        answer |= {"Status": "FAILED", "Reason": without(reason(error), secrets)}
        logger.error("webhook not registered", extra={"reason": answer["Reason"]})
    send(event["ResponseURL"], answer)


def reason(error: Exception) -> str:
    match error:
        case NotNowError():
            return f"Bird did not do so, however often it was asked: {error}"
        case BirdError():
            return f"Bird refused: {error}"
        case UnusableSettingError() | UnreadableSecretError():
            return str(error)
    return f"The webhook was not registered: {type(error).__name__}"  # its text may hold anything


def register(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> Outcome:
    """Puts what must not be printed into `secrets` as soon as it is known."""
    properties = event["ResourceProperties"]
    api = open_api(properties, secrets)
    credentials: dict[str, str] = {}
    if properties["WebhookAuth"] in ("BASIC", "HEADER"):
        credentials = json.loads(read_secret(properties["WebhookSecretArn"], "WebhookSecretArn"))
        secrets.append(credentials["password"])
    old = event.get("OldResourceProperties", {})
    old_header = old.get("WebhookHeader") if old.get("WebhookAuth") == "HEADER" else None
    known = event.get("PhysicalResourceId", NOT_REGISTERED)

    # Each attempt looks anew: the webhook of one whose answer was lost is found by the next, and none is made twice.
    def attempt() -> Outcome:
        event_types = chosen(properties["EventTypes"]) or api.event_types()
        fields = wanted(properties, credentials, event_types)
        if known != NOT_REGISTERED and (current := api.read(known)) is not None:
            api.update(known, changed(current, fields, old_header))
            return Outcome(known, "updated")
        found = [webhook for webhook in api.webhooks() if same_target(webhook.get("target"), fields["target"])]
        if found:
            adopted = found[0]
            api.update(adopted["id"], {**changed(adopted, fields), "active": True})
            more = f", the first of {len(found)} with this target" if len(found) > 1 else ""
            return Outcome(adopted["id"], f"adopted, it was there{more}")
        return Outcome(api.create(fields), "created" if known == NOT_REGISTERED else "created anew, it was gone")

    done = persist(attempt, deadline)
    logger.info("webhook registered", extra={"outcome": done.words, "webhook_id": done.webhook_id})
    return done


def delete(event: Mapping[str, Any], secrets: list[str], *, deadline: float) -> None:
    """A webhook that Bird does not delete is left behind and said in the log: nobody shall be stuck with a stack."""
    properties, known = event["ResourceProperties"], event["PhysicalResourceId"]
    if known == NOT_REGISTERED or properties["DeleteWithStack"] != "true":
        logger.info("webhook left at Bird", extra={"webhook_id": known})
        return
    try:
        api = open_api(properties, secrets)
        persist(lambda: api.delete(known), deadline)
    except Exception as error:
        text = without(reason(error), secrets)
        logger.error("webhook not deleted", extra={"reason": text, "webhook_id": known})
    else:
        logger.info("webhook deleted", extra={"webhook_id": known})


def persist[T](attempt: Callable[[], T], deadline: float) -> T:
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


def open_api(properties: Mapping[str, Any], secrets: list[str]) -> BirdApi:
    text = read_secret(properties["ApiKeySecretArn"], "BirdApiKeySecretArn")
    secrets.append(text)
    key = api_key(text)
    secrets.append(key)
    return BirdApi(properties["ApiUrl"].rstrip("/"), key, properties["Subaccount"])


def read_secret(arn: str, name: str) -> str:
    """The current version's text, from the region that the ARN names. Errors: UnreadableSecretError."""
    client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
    for pause in (*ACCESS_PAUSES_SECONDS, None):
        try:
            text: str = client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")["SecretString"]
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code != "AccessDeniedException" or pause is None:
                raise UnreadableSecretError(f"The secret of {name} was not readable: {code}") from None
            time.sleep(pause)
        except (BotoCoreError, KeyError) as error:
            raise UnreadableSecretError(f"The secret of {name} was not readable: {type(error).__name__}") from None
        else:
            return text
    raise AssertionError  # the last one raises


def send(url: str, answer: Mapping[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT")  # noqa: S310
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_SECONDS):  # noqa: S310
        pass
