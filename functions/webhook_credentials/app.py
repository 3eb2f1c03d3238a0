"""Custom resource: the webhook's secret -> SHA-256 digests of the credentials that ingest accepts.

The digests go into ingest's environment, so that ingest never reads a secret. The password has 256 random bits: its
digest tells nothing. CloudFormation asks again whenever a property changes, CredentialsVersion above all.
"""

import hashlib
import json
import logging
import time
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

ANSWER_TIMEOUT_SECONDS = 10
# IAM takes seconds to know a new role: this function runs moments after its own was made.
ACCESS_PAUSES_SECONDS = (2, 4, 8)


class EmptyPasswordError(Exception):
    """A header without a value would let anybody in."""


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    """Always answers CloudFormation, which would otherwise wait for an hour."""
    answer = {
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "PhysicalResourceId": event.get("PhysicalResourceId", "webhook-credentials"),
    }
    try:
        data = {} if event["RequestType"] == "Delete" else {"Digests": digests(event["ResourceProperties"])}
        answer |= {"Status": "SUCCESS", "Data": data}
    except Exception as error:  # whatever it is, the stack's event shall name it
        logger.exception("digests not computed")
        answer |= {"Status": "FAILED", "Reason": f"The webhook's secret could not be read: {type(error).__name__}"}
    send(event["ResponseURL"], answer)
    logger.info("digests sent", extra={"status": answer["Status"]})


def digests(properties: Mapping[str, Any]) -> str:
    """Comma-separated lower-case hex digests: of the current version, then of the others that a rotation wants.

    A rotation first brings its new version in as AWSPENDING and makes it the current one afterwards, so that an update
    that CloudFormation rolls back finds the credentials that Bird has, whenever that may be.
    """
    client = boto3.client("secretsmanager")
    stages = ["AWSCURRENT"]
    if properties.get("AcceptPreviousCredentials") == "true":
        stages += ["AWSPENDING", "AWSPREVIOUS"]
    secrets = [read_secret(client, properties["SecretArn"], stage) for stage in stages]
    found = [digest(secret, properties["WebhookAuth"]) for secret in secrets if secret is not None]
    return ",".join(dict.fromkeys(found))


def read_secret(client: "SecretsManagerClient", arn: str, stage: str) -> dict[str, str] | None:
    """The secret's members; None where there is no version of that stage."""
    try:
        secret: dict[str, str] = json.loads(get_secret(client, arn, stage))
    except client.exceptions.ResourceNotFoundException:
        if stage == "AWSCURRENT":
            raise
        return None
    return secret


def get_secret(client: "SecretsManagerClient", arn: str, stage: str) -> str:
    for pause in ACCESS_PAUSES_SECONDS:
        try:
            return client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDeniedException":
                raise
        time.sleep(pause)
    return client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"]


def digest(secret: Mapping[str, str], webhook_auth: str) -> str:
    """Of `username:password` for Basic authentication, of the password alone where a header carries it."""
    if webhook_auth == "HEADER":
        credential = secret["password"].strip(" \t")
        if not credential:
            raise EmptyPasswordError
    else:
        credential = f"{secret['username']}:{secret['password']}"
    return hashlib.sha256(credential.encode()).hexdigest()


def send(url: str, answer: Mapping[str, Any]) -> None:
    body = json.dumps(answer).encode()
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})  # noqa: S310
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_SECONDS):  # noqa: S310
        pass
