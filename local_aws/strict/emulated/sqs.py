"""SQS: moving messages out of a dead-letter queue, which MiniStack does not support."""

import json
import threading
import time
import uuid
from typing import Any

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import sqs

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule, seconds

MAX_TASKS = 10
tasks = AccountRegionScopedDict()  # by the ARN of the source, newest first


@rule("https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html", RULES)
def dead_letters_are_moved_by_a_task() -> None:
    """SQS moves messages only out of a dead-letter queue, one task at a time, some time after it answers. The list of
    tasks lags behind, and a task has a handle only while it runs.
    """
    sqs._HANDLERS |= {"StartMessageMoveTask": start, "ListMessageMoveTasks": listed, "CancelMessageMoveTask": cancel}


def start(data: dict[str, Any], _: str) -> dict[str, Any]:
    source, destination = data.get("SourceArn", ""), data.get("DestinationArn")
    if sqs._queue_by_arn(source) is None:
        raise refusal(
            "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist."
        )
    if not fed_by(source):
        raise refusal("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
    if destination and sqs._queue_by_arn(destination) is None:
        words = "The resource that you specified for the DestinationArn parameter doesn't exist."
        raise refusal("ResourceNotFoundException", words)
    if any(task["Status"] == "RUNNING" for task in tasks.get(source, [])):
        words = (
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time."
        )
        raise refusal("AWS.SimpleQueueService.UnsupportedOperation", words)
    task = {
        "TaskHandle": str(uuid.uuid4()),
        "Status": "RUNNING",
        "SourceArn": source,
        "ApproximateNumberOfMessagesMoved": 0,
        "ApproximateNumberOfMessagesToMove": len(visible(source)),
        "StartedTimestamp": int(time.time() * 1000),
    }
    if destination:
        task["DestinationArn"] = destination
    if limit := data.get("MaxNumberOfMessagesPerSecond"):
        task["MaxNumberOfMessagesPerSecond"] = limit
    tasks[source] = [task, *tasks.get(source, [])][:MAX_TASKS]
    queues = [sqs._queue_by_arn(source), {arn: sqs._queue_by_arn(arn) for arn in (destination, *fed_by(source)) if arn}]
    threading.Thread(target=move, args=(task, *queues), daemon=True).start()
    return {"TaskHandle": task["TaskHandle"]}


def listed(data: dict[str, Any], _: str) -> dict[str, Any]:
    source = data.get("SourceArn", "")
    if sqs._queue_by_arn(source) is None:
        raise refusal(
            "ResourceNotFoundException", "The resource that you specified for the SourceArn parameter doesn't exist."
        )
    now = time.time() * 1000
    # A task that was just started is not in the list yet.
    found = [task for task in tasks.get(source, []) if now - task["StartedTimestamp"] > seconds("MOVE", 0.5) * 1000]
    shown = [{key: value for key, value in task.items() if key != "TaskHandle"} | handle(task) for task in found]
    return {"Results": shown[: int(data.get("MaxResults") or 1)]}


def handle(task: dict[str, Any]) -> dict[str, str]:
    return {"TaskHandle": task["TaskHandle"]} if task["Status"] == "RUNNING" else {}


def cancel(data: dict[str, Any], _: str) -> dict[str, Any]:
    for found in tasks.values():
        for task in found:
            if task["TaskHandle"] == data.get("TaskHandle") and task["Status"] == "RUNNING":
                task["Status"] = "CANCELLED"
                return {"ApproximateNumberOfMessagesMoved": task["ApproximateNumberOfMessagesMoved"]}
    raise refusal("ResourceNotFoundException", "The task does not exist or is not running.")


def move(task: dict[str, Any], source: dict[str, Any], destinations: dict[str, dict[str, Any]]) -> None:
    """Move messages to the destination, or to the queue each came from; one that was sent by hand has no such queue."""
    time.sleep(seconds("MOVE", 0.5) * 2)
    with sqs._queues_lock:
        for message in [message for message in source["messages"] if message["visible_at"] <= time.time()]:
            if task["Status"] != "RUNNING":
                return
            came_from = (message.get("sys") or {}).get("DeadLetterQueueSourceArn")
            target = destinations.get(str(task.get("DestinationArn") or came_from))
            if target is None:
                task |= {"Status": "FAILED", "FailureReason": "CouldNotDetermineMessageSource"}
                return
            source["messages"].remove(message)
            system = {key: value for key, value in message["sys"].items() if key != "DeadLetterQueueSourceArn"}
            fresh = {"receive_count": 0, "first_receive_at": None, "receipt_handle": None, "visible_at": time.time()}
            target["messages"].append({**message, **fresh, "sys": system})
            task["ApproximateNumberOfMessagesMoved"] += 1
    task["Status"] = "COMPLETED"
    sqs.esm_wake.set()


def visible(arn: str) -> list[dict[str, Any]]:
    return [message for message in sqs._queue_by_arn(arn)["messages"] if message["visible_at"] <= time.time()]


def fed_by(arn: str) -> list[str]:
    """The queues that use this one as their dead-letter queue."""
    policies = {
        queue["attributes"]["QueueArn"]: json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
        for queue in sqs._queues.values()
    }
    return [source for source, policy in policies.items() if policy.get("deadLetterTargetArn") == arn]


def refusal(code: str, words: str) -> Exception:
    refused: Exception = sqs._Err(code, words)
    return refused
