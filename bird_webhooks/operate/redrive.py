"""The dead-letter queue back to the process queue, by SQS itself where it can."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate.quarantine import clean
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say

ASK_ABOVE = 100
PEEK_SECONDS = 30
LISTED_WITHIN_SECONDS = 60
# What a queue says that does not know how to move its messages, such as an emulator's.
UNKNOWN_OPERATION = {"InvalidAction", "UnknownOperation", "UnknownOperationException", "UnsupportedOperation"}
UNKNOWN_OPERATION |= {"AWS.SimpleQueueService.UnsupportedOperation", "NotImplemented", "501"}
TEN: dict[str, Any] = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}


def redrive(stack: Stack, *, dry_run: bool, yes: bool, as_json: bool = False) -> None:
    count = waiting(stack)
    if dry_run:
        shown = peek(stack)
        if as_json:
            print_json({"dead_letters": count, "raw_batches": shown})
            return
        for key in shown:
            print(key)
        print(f"about {count:,} dead letters; {len(shown):,} raw batches shown, nothing moved")
        return
    if count == 0:
        print_json({"moved": 0}) if as_json else print("no dead letters")
        return
    if count > ASK_ABOVE:
        confirm(f"Move about {count:,} dead letters of stack {stack.name} back?", yes=yes)
    try:
        moved = move_by_sqs(stack)
    except ClientError as error:
        if error.response["Error"]["Code"] not in UNKNOWN_OPERATION:
            raise
        say("SQS does not move messages here: moving them one by one")
        moved = move_by_hand(stack)
    print_json({"moved": moved}) if as_json else print(f"{moved:,} dead letters moved back to the process queue")


def waiting(stack: Stack) -> int:
    answer = stack.sqs.get_queue_attributes(
        QueueUrl=stack.output("ProcessDeadLetterQueueUrl"), AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def arn(stack: Stack, output: str) -> str:
    answer = stack.sqs.get_queue_attributes(QueueUrl=stack.output(output), AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def peek(stack: Stack) -> list[str]:
    """The raw keys that the dead letters name. Each is hidden for a moment, then given back."""
    queue = stack.output("ProcessDeadLetterQueueUrl")
    keys: list[str] = []
    taken: list[str] = []
    try:
        for messages in received(stack, queue, PEEK_SECONDS):
            taken += [message["ReceiptHandle"] for message in messages]
            keys += [key for message in messages for key in raw_keys(message["Body"])]
    finally:
        for handle in taken:
            stack.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
    return keys


def received(stack: Stack, queue: str, hidden_seconds: int) -> Iterator[list[dict[str, Any]]]:
    """Ten at a time until none come, or some come a second time."""
    seen: set[str] = set()
    while True:
        answer = stack.sqs.receive_message(QueueUrl=queue, VisibilityTimeout=hidden_seconds, **TEN)
        messages = answer.get("Messages", [])
        if not messages or seen & {message["MessageId"] for message in messages}:
            return
        seen |= {message["MessageId"] for message in messages}
        yield messages


def raw_keys(body: str) -> list[str]:
    try:
        return [clean(unquote_plus(record["s3"]["object"]["key"])) for record in json.loads(body)["Records"]]
    except (ValueError, KeyError, TypeError):
        return ["(a message that is no notification of S3's)"]


def move_by_sqs(stack: Stack) -> int:
    source, destination = arn(stack, "ProcessDeadLetterQueueUrl"), arn(stack, "ProcessQueueUrl")
    before = {task["StartedTimestamp"] for task in moves(stack, source)}
    handle = stack.sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)["TaskHandle"]
    progress, deadline = Progress(), time.monotonic() + LISTED_WITHIN_SECONDS
    while True:
        task = next((one for one in moves(stack, source) if is_ours(one, handle, before)), None)
        if task is None:
            if time.monotonic() > deadline:
                raise OperateError("SQS does not list the move that it has started: `status` shows what is left")
            time.sleep(stack.poll_seconds)
            continue
        moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
        progress.show(f"moving: {moved:,} of about {task.get('ApproximateNumberOfMessagesToMove', 0):,}")
        if task["Status"] == "COMPLETED":
            progress.done()
            return moved
        if task["Status"] not in ("RUNNING", "CANCELLING"):
            raise OperateError(f"SQS ended the move: {task['Status']} {task.get('FailureReason', '')}; {moved:,} moved")
        time.sleep(stack.poll_seconds)


def moves(stack: Stack, source: str) -> list[dict[str, Any]]:
    """The newest ones; none for a moment after one was started."""
    answer: list[dict[str, Any]] = stack.sqs.list_message_move_tasks(SourceArn=source, MaxResults=10).get("Results", [])
    return answer


def is_ours(task: dict[str, Any], handle: str, before: set[int]) -> bool:
    """SQS names the handle of a running move alone; one that has ended is ours if it was not there before.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListMessageMoveTasksResultEntry.html
    """
    if "TaskHandle" in task:
        return bool(task["TaskHandle"] == handle)
    return task["StartedTimestamp"] not in before


def move_by_hand(stack: Stack) -> int:
    """Sent first, deleted after: what is interrupted comes twice and is never lost."""
    source, destination = stack.output("ProcessDeadLetterQueueUrl"), stack.output("ProcessQueueUrl")
    progress, moved = Progress(), 0
    for messages in received(stack, source, 300):
        by_id = {str(number): message for number, message in enumerate(messages)}
        answer = stack.sqs.send_message_batch(
            QueueUrl=destination,
            Entries=[{"Id": number, "MessageBody": message["Body"]} for number, message in by_id.items()],
        )
        if sent := [entry["Id"] for entry in answer.get("Successful", [])]:
            handles = [{"Id": number, "ReceiptHandle": by_id[number]["ReceiptHandle"]} for number in sent]
            stack.sqs.delete_message_batch(QueueUrl=source, Entries=handles)
        moved += len(sent)
        progress.show(f"moving: {moved:,}")
        if answer.get("Failed"):
            raise OperateError(f"the process queue refused some; {moved:,} moved: run redrive again")
    progress.done()
    return moved
