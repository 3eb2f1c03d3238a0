"""What each custom resource needs: to answer CloudFormation, to read its stack's state, and to wait out IAM's delay.

Each custom resource's function has this same file, because functions share no code; a test compares them.
"""

import http.client
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)

# CloudFormation refuses a longer answer ("Response object is too long"). Source: CloudFormation user guide, custom
# resource response objects.
MAX_ANSWER_BYTES = 4096
ANSWER_TIMEOUT_SECONDS = 10
ANSWER_PAUSES_SECONDS = (1, 2, 4, 8)  # between five tries
# In a VPC without a route to AWS a request gets no answer, and botocore would try for five minutes: longer than the
# functions may take, so that CloudFormation would hear nothing.
AWS_LIMITS = Config(connect_timeout=5, retries={"total_max_attempts": 3})
# IAM may deny a role that this deployment created or changed for some seconds, until the change has spread.
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
DENIED_PAUSES_SECONDS = (2, 4, 8, 16, 16, 16)


def answer_to(event: Mapping[str, Any], physical_id: str) -> dict[str, Any]:
    """The answer without its status; `physical_id` is for a resource that has none yet."""
    return {
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "PhysicalResourceId": event.get("PhysicalResourceId", physical_id),
    }


def seconds_left(context: Any) -> float:
    """Seconds until Lambda ends the function."""
    return float(context.get_remaining_time_in_millis()) / 1000


def send(url: str, answer: Mapping[str, Any], context: Any) -> None:
    """Send the answer, with retries. Errors: the last try's, if none succeeded in time."""
    request = urllib.request.Request(url, encoded(answer), {"Content-Type": ""}, method="PUT")  # noqa: S310
    for pause in (*ANSWER_PAUSES_SECONDS, None):
        timeout = max(1.0, min(ANSWER_TIMEOUT_SECONDS, seconds_left(context) - 1))
        try:
            with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
                return
        except (OSError, http.client.HTTPException) as error:
            logger.warning("answer not taken", extra={"error": type(error).__name__})
            if pause is None or pause + 1 > seconds_left(context):
                raise
        time.sleep(pause)


def encoded(answer: Mapping[str, Any]) -> bytes:
    """The answer as JSON that CloudFormation accepts: a long reason is cut."""
    body = json.dumps(answer).encode()
    while len(body) > MAX_ANSWER_BYTES and answer.get("Reason"):
        excess = len(body) - MAX_ANSWER_BYTES
        # A character takes up to 12 bytes of JSON (two escapes), so this cuts little more than it must.
        answer = {**answer, "Reason": answer["Reason"][: -(excess // 12 + 1)]}
        body = json.dumps(answer).encode()
    return body


def when_allowed[T](attempt: Callable[[], T], seconds: float) -> T:
    """The attempt's result; retried for up to `seconds` while IAM denies it. Errors: the attempt's."""
    deadline = time.monotonic() + seconds
    for pause in DENIED_PAUSES_SECONDS:
        try:
            return attempt()
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED or time.monotonic() + pause > deadline:
                raise
        logger.info("access denied, waiting for IAM", extra={"pause_seconds": pause})
        time.sleep(pause)
    return attempt()


def stack_status(stack_id: str) -> str:
    """The stack's state, such as UPDATE_IN_PROGRESS; '' if CloudFormation does not answer."""
    try:
        [stack] = boto3.client("cloudformation", config=AWS_LIMITS).describe_stacks(StackName=stack_id)["Stacks"]
    except (ClientError, BotoCoreError) as error:
        logger.warning("stack's state not known", extra={"error": type(error).__name__})
        return ""
    return str(stack["StackStatus"])
