"""The log line of a run that CloudWatch reads as metrics too (embedded metric format). Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NAMESPACE = "BirdWebhooks"
COUNTED = {
    "missing_events": "Count",
    "surplus_events": "Count",
    "proof_age_seconds": "Seconds",
    "unproved_old_hours": "Count",
    "batches_failing": "Count",
    "batches_lost": "Count",
    "filled_events": "Count",
    "filling_failed": "Count",
    "bounds_reached": "Count",
    "access_failures": "Count",
}


def counted(facts: Mapping[str, Any], function_name: str, now: datetime) -> dict[str, Any]:
    """The fields of a log line; those in COUNTED become metrics too."""
    metrics = [{"Name": name, "Unit": unit} for name, unit in COUNTED.items() if name in facts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}
    envelope = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return {**facts, "FunctionName": function_name, "_aws": envelope}
