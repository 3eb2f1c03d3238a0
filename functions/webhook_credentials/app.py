"""Custom resources: digests of the credentials that ingest accepts, and a guard against lost settings.

WebhookCredentials: the webhook's secret -> SHA-256 digests, which go into ingest's environment, so that ingest never
reads a secret. The password has 256 random bits, so its digest reveals nothing. CloudFormation calls it again whenever
a property changes, mostly CredentialsVersion; the answer depends only on the labels of the secret's versions.

SettingsGuard: the first step of each update, which fails it if a setting would go back to its default by accident, or
if a key or a place that is in use would be left behind.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from webhook_credentials.cloudformation import (
    AWS_LIMITS,
    DENIED,
    answer_to,
    seconds_left,
    send,
    stack_status,
    when_allowed,
)
from webhook_credentials.settings import (
    SettingsLostError,
    left_place,
    lost_keys,
    lost_settings,
    refusal_of_keys,
    refusal_of_place,
    refusal_text,
)

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

ANSWER_RESERVE_SECONDS = 30
# The labels of the accepted versions. A rotation moves to the first; ingest counts the others as previous ones.
# ALSO_ACCEPTED is our own label: AWSPREVIOUS stays on a version for ever, so it would accept a dropped password again.
ACCEPTED_LABELS = ("AWSPENDING", "AWSCURRENT", "ALSO_ACCEPTED")
# What another webhook sends that moves here by DNS, until `bird-webhooks accept end`.
OTHER_LABEL = "OTHER_WEBHOOK"


class EmptyPasswordError(Exception):
    """An empty header value would let any request in."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait until the resource's ServiceTimeout."""
    properties = event["ResourceProperties"]
    guards = "Settings" in properties
    answer = answer_to(event, "settings-guard" if guards else "webhook-credentials")
    try:
        if event["RequestType"] == "Delete":
            data = {}
        elif guards:
            data = require_no_setting_lost(event)
        else:
            data = {"Digests": digests(properties, seconds_left(context) - ANSWER_RESERVE_SECONDS)}
        answer |= {"Status": "SUCCESS", "Data": data}
    except SettingsLostError as error:
        answer |= {"Status": "FAILED", "Reason": str(error)}
    except Exception as error:  # the stack's events must show any error
        logger.exception("digests not computed")
        answer |= {"Status": "FAILED", "Reason": refusal(error, properties)}
    send(event["ResponseURL"], answer, context)
    logger.info("custom resource answered", extra={"status": answer["Status"], "guards": guards})


def require_no_setting_lost(event: Mapping[str, Any]) -> dict[str, str]:
    """Errors: SettingsLostError. A rollback is never stopped: it restores earlier settings, which may be defaults."""
    old, new = event.get("OldResourceProperties", {}), event["ResourceProperties"]
    refused = ""
    if names := lost_settings(old, new):
        refused = refusal_text(names)
    elif arns := lost_keys(old, new):
        refused = refusal_of_keys(arns)
    elif place := left_place(old, new):
        refused = refusal_of_place(place)
    if refused and stack_status(event["StackId"]) == "UPDATE_IN_PROGRESS":
        raise SettingsLostError(refused)
    return {}


def digests(properties: Mapping[str, Any], seconds: float) -> str:
    """Comma-separated lower-case hex digests of the accepted versions; waits up to `seconds` for IAM.

    Another webhook's is the last, after the name of its header: `authorization=<digest>` for Basic authentication.

    The answer is the same at any time between two steps of a rotation, so a deployment in between does not end one.
    """
    client = boto3.client("secretsmanager", config=AWS_LIMITS)
    arn = properties["SecretArn"]
    # A version with AWSCURRENT always exists, so this call shows when IAM allows the role.
    current = when_allowed(lambda: read_secret(client, arn, "AWSCURRENT"), seconds)
    versions = [current if label == "AWSCURRENT" else read_secret(client, arn, label) for label in ACCEPTED_LABELS]
    found = [digest(secret, properties["WebhookAuth"]) for secret in versions if secret is not None]
    other = read_secret(client, arn, OTHER_LABEL)
    if other is not None:
        found.append(other_digest(other))
    return ",".join(dict.fromkeys(found))


def read_secret(client: "SecretsManagerClient", arn: str, label: str) -> dict[str, str] | None:
    """The secret's members; None if no version has that label."""
    try:
        secret: dict[str, str] = json.loads(client.get_secret_value(SecretId=arn, VersionStage=label)["SecretString"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException" or label == "AWSCURRENT":
            raise
        return None
    return secret


def digest(secret: Mapping[str, str], webhook_auth: str) -> str:
    """The digest of `username:password` for Basic authentication, or of the password alone for a header."""
    if webhook_auth == "HEADER":
        credential = secret["password"].strip(" \t")
        if not credential:
            raise EmptyPasswordError
    else:
        credential = f"{secret['username']}:{secret['password']}"
    return hashlib.sha256(credential.encode()).hexdigest()


def other_digest(secret: Mapping[str, str]) -> str:
    if "header" in secret:
        value = secret["value"].strip(" \t")
        if not value:
            raise EmptyPasswordError
        return f"{secret['header'].lower()}={hashlib.sha256(value.encode()).hexdigest()}"
    return f"authorization={digest(secret, 'BASIC')}"


def refusal(error: Exception, properties: Mapping[str, Any]) -> str:
    """What the stack's events show, and what to do where that can be told."""
    code = error_code(error)
    advice = ""
    if code in DENIED and properties.get("KmsKeyArn"):
        advice = ". The policy of the key in KmsKeyArn must let IAM policies of this account allow its use"
    elif isinstance(error, (ConnectTimeoutError, EndpointConnectionError)):
        advice = ". FunctionSubnetIds needs a route or an endpoint to Secrets Manager"
    return f"The webhook's secret could not be read: {code}{advice}"


def error_code(error: Exception) -> str:
    """AWS's error code, or the error's type. Not its text, which may contain anything."""
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
