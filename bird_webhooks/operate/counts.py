"""What the functions counted in the last day, from CloudWatch, by one request."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bird_webhooks.stack import Stack

BACK = timedelta(days=1)
PERIOD = timedelta(minutes=5)


class Metric(NamedTuple):
    """One of a function's own: its logical id, the metric's name, and the reason where it is counted by reason."""

    function: str
    name: str
    reason: str = ""


class Count(NamedTuple):
    """In the last day; `last` is the beginning of the five minutes of the newest one."""

    number: int
    last: datetime | None


NONE = Count(0, None)


def counts(stack: Stack, metrics: Sequence[Metric]) -> dict[Metric, Count]:
    """Those of functions that the stack has."""
    there = [metric for metric in metrics if metric.function in stack.resources]
    if not there:
        return {}
    now = datetime.now(UTC)
    answer = stack.client("cloudwatch").get_metric_data(
        MetricDataQueries=[query(f"m{number}", metric, stack) for number, metric in enumerate(there)],
        StartTime=now - BACK,
        EndTime=now,
    )
    found = {result["Id"]: result for result in answer["MetricDataResults"]}
    return {metric: count(found.get(f"m{number}", {})) for number, metric in enumerate(there)}


def count_of(stack: Stack, metric: Metric) -> Count:
    return counts(stack, [metric]).get(metric, NONE)


def query(name: str, metric: Metric, stack: Stack) -> dict[str, object]:
    dimensions = [{"Name": "FunctionName", "Value": stack.resources[metric.function][1]}]
    if metric.reason:
        dimensions.append({"Name": "Reason", "Value": metric.reason})
    measured = {"Namespace": "BirdWebhooks", "MetricName": metric.name, "Dimensions": dimensions}
    stat = {"Metric": measured, "Period": int(PERIOD.total_seconds()), "Stat": "Sum"}
    return {"Id": name, "MetricStat": stat, "ReturnData": True}


def count(result: dict[str, Any]) -> Count:
    points = [
        (moment, value)
        for moment, value in zip(result.get("Timestamps", []), result.get("Values", []), strict=True)
        if value
    ]
    return Count(round(sum(value for _, value in points)), max((moment for moment, _ in points), default=None))
