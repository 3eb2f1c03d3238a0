"""The log line of an invocation that CloudWatch reads as metrics too (embedded metric format). Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NAMESPACE = "BirdWebhooks"
# `waiting_seconds` is the age of the oldest message that went back to the queue. SQS's own metric for that leaves a
# message out after three receptions.
COUNTED = {
    "waiting_seconds": "Seconds",
    "files_waiting": "Count",
    "rows_rejected": "Count",
    "names_refused": "Count",
    "months_left": "Count",
}


def counted(facts: Mapping[str, Any], function_name: str, now: datetime) -> dict[str, Any]:
    """The fields of a log line; those in COUNTED become metrics too."""
    metrics = [{"Name": name, "Unit": unit} for name, unit in COUNTED.items() if name in facts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}
    envelope = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return {**facts, "FunctionName": function_name, "_aws": envelope}
