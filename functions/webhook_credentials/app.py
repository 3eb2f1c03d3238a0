"""Custom resource: the webhook's secret -> SHA-256 digests of the credentials that ingest accepts.

The digests go into ingest's environment, so that ingest never reads a secret. The password has 256 random bits: its
digest tells nothing. CloudFormation asks again whenever a property changes, CredentialsVersion above all.
"""

import hashlib
import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

ANSWER_TIMEOUT_SECONDS = 10


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
    """Comma-separated lower-case hex digests: of the current version, and of the previous one if that is wanted."""
    client = boto3.client("secretsmanager")
    stages = ["AWSCURRENT"]
    if properties.get("AcceptPreviousCredentials") == "true":
        stages.append("AWSPREVIOUS")
    found = []
    for stage in stages:
        secret = read_secret(client, properties["SecretArn"], stage)
        if secret is not None:
            found.append(digest(secret, properties["WebhookAuth"]))
    return ",".join(found)


def read_secret(client: "SecretsManagerClient", arn: str, stage: str) -> dict[str, str] | None:
    """The secret's members; None where there is no previous version yet."""
    try:
        secret: dict[str, str] = json.loads(client.get_secret_value(SecretId=arn, VersionStage=stage)["SecretString"])
    except client.exceptions.ResourceNotFoundException:
        if stage == "AWSCURRENT":
            raise
        return None
    return secret


def digest(secret: Mapping[str, str], webhook_auth: str) -> str:
    """Of `username:password` for Basic authentication, of the password alone where a header carries it."""
    credential = secret["password"] if webhook_auth == "HEADER" else f"{secret['username']}:{secret['password']}"
    return hashlib.sha256(credential.encode()).hexdigest()


def send(url: str, answer: Mapping[str, Any]) -> None:
    body = json.dumps(answer).encode()
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})  # noqa: S310
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_SECONDS):  # noqa: S310
        pass
