"""A dead-letter queue back to the queue that its messages came from, by SQS itself where it can."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
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


# By the name that --queue takes: the outputs with the dead letters and with their queue, and what a message names.
QUEUES = {
    "process": ("ProcessDeadLetterQueueUrl", "ProcessQueueUrl", "raw batches"),
    "import": ("ImportDeadLetterQueueUrl", "ImportQueueUrl", "raw batches"),
    "postgres": ("PostgresDeadLetterQueueUrl", "PostgresQueueUrl", "files of rows"),
    "events": ("PublishEventsDeadLetterQueueUrl", "PublishEventsQueueUrl", "files of rows"),
}


class Letter(NamedTuple):
    """What a dead letter names, and why it is one, as far as that is known."""

    key: str
    reason: str


class Queues(NamedTuple):
    dead_letters: str
    source: str


def redrive(stack: Stack, name: str, *, dry_run: bool, yes: bool, as_json: bool = False) -> None:
    """`name` is one of QUEUES."""
    dead_letters, source, what = QUEUES[name]
    if dead_letters not in stack.outputs:
        raise OperateError(f"stack {stack.name} has no such queue: {name}")
    queues = Queues(stack.output(dead_letters), stack.output(source))
    count = waiting(stack, queues)
    if dry_run:
        shown = peek(stack, queues)
        if as_json:
            print_json({"dead_letters": count, what.replace(" ", "_"): [letter._asdict() for letter in shown]})
            return
        for letter in shown:
            print(f"{letter.key}{f'  {letter.reason}' if letter.reason else ''}")
        print(f"about {count:,} dead letters; {len(shown):,} {what} shown, nothing moved")
        return
    if count == 0:
        print_json({"moved": 0}) if as_json else print("no dead letters")
        return
    if count > ASK_ABOVE:
        confirm(f"Move about {count:,} dead letters of stack {stack.name} back?", yes=yes)
    try:
        moved = move_by_sqs(stack, queues)
    except ClientError as error:
        if error.response["Error"]["Code"] not in UNKNOWN_OPERATION:
            raise
        say("SQS does not move messages here: moving them one by one")
        moved = move_by_hand(stack, queues)
    print_json({"moved": moved}) if as_json else print(f"{moved:,} dead letters moved back to their queue")


def waiting(stack: Stack, queues: Queues) -> int:
    answer = stack.sqs.get_queue_attributes(
        QueueUrl=queues.dead_letters, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def arn(stack: Stack, url: str) -> str:
    answer = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def peek(stack: Stack, queues: Queues) -> list[Letter]:
    """What the dead letters name. Each is hidden for a moment, then given back."""
    letters: list[Letter] = []
    taken: list[str] = []
    try:
        for messages in received(stack, queues.dead_letters, PEEK_SECONDS):
            taken += [message["ReceiptHandle"] for message in messages]
            letters += [Letter(key, reason(message)) for message in messages for key in keys_named_by(message["Body"])]
    finally:
        for handle in taken:
            stack.sqs.change_message_visibility(QueueUrl=queues.dead_letters, ReceiptHandle=handle, VisibilityTimeout=0)
    return letters


def reason(message: dict[str, Any]) -> str:
    """As load_postgres has written it beside the message."""
    return clean(message.get("MessageAttributes", {}).get("Reason", {}).get("StringValue", ""))


def received(stack: Stack, queue: str, hidden_seconds: int) -> Iterator[list[dict[str, Any]]]:
    """Ten at a time until none come, or some come a second time."""
    seen: set[str] = set()
    while True:
        answer = stack.sqs.receive_message(
            QueueUrl=queue, VisibilityTimeout=hidden_seconds, MessageAttributeNames=["All"], **TEN
        )
        messages = answer.get("Messages", [])
        if not messages or seen & {message["MessageId"] for message in messages}:
            return
        seen |= {message["MessageId"] for message in messages}
        yield messages


def keys_named_by(body: str) -> list[str]:
    try:
        return [clean(unquote_plus(record["s3"]["object"]["key"])) for record in json.loads(body)["Records"]]
    except (ValueError, KeyError, TypeError):
        return ["(a message that is no notification of S3's)"]


def move_by_sqs(stack: Stack, queues: Queues) -> int:
    source, destination = arn(stack, queues.dead_letters), arn(stack, queues.source)
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


def move_by_hand(stack: Stack, queues: Queues) -> int:
    """Sent first, deleted after: what is interrupted comes twice and is never lost."""
    source, destination = queues.dead_letters, queues.source
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
            raise OperateError(f"the queue refused some; {moved:,} moved: run redrive again")
    progress.done()
    return moved
