"""Whether process has work of which rows may be missing: then nothing is judged.

Rows that are missing while their raw batch is here are a case for `replay`, and not for Bird.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# A batch that came so lately cannot have events of a cell that is judged: the first count is 80 minutes after the hour.
YOUNG_SECONDS = 900
LOOK_BACK = timedelta(minutes=20)  # process tries a failed batch again after 15 minutes
PERIOD_SECONDS = 300


@dataclass(frozen=True)
class Work:
    """`oldest_seconds`: None where CloudWatch has no figure."""

    waiting: int
    dead: int
    failures: int
    oldest_seconds: float | None


def held_by(work: Work) -> str | None:
    """Why nothing may be judged; None if it may."""
    if work.dead:
        return f"{work.dead} batches are in the dead-letter queue"
    if not work.waiting:
        return None
    if work.failures:
        return f"{work.waiting} batches wait, and process has failed {work.failures} times"
    if work.oldest_seconds is None:
        return f"{work.waiting} batches wait, and how long is not known"
    if work.oldest_seconds > YOUNG_SECONDS:
        return f"the oldest of {work.waiting} batches has waited {work.oldest_seconds:.0f} s"
    return None


def work(sqs: "SQSClient", cloudwatch: Any, queue: str, dead_letter_queue: str, function: str, now: datetime) -> Work:
    def messages(url: str) -> int:
        found = sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        )["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    def points(namespace: str, name: str, dimension: str, value: str, statistic: str) -> list[float]:
        answer = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": dimension, "Value": value}],
            StartTime=now - LOOK_BACK,
            EndTime=now,
            Period=PERIOD_SECONDS,
            Statistics=[statistic],
        )
        return [float(point[statistic]) for point in answer.get("Datapoints", [])]

    waiting, dead = messages(queue), messages(dead_letter_queue)
    if dead or not waiting:
        return Work(waiting, dead, 0, None)
    oldest = points("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.rpartition("/")[2], "Maximum")
    failures = points("BirdWebhooks", "messages_failed", "FunctionName", function, "Sum")
    return Work(waiting, dead, round(sum(failures)), max(oldest, default=None))
