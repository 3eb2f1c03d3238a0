"""Log lines that CloudWatch reads as metrics too (embedded metric format), without a library. Pure.

It works because Lambda's JSON formatter puts each item of `extra` at the root of the line, where CloudWatch looks for
`_aws`; the facts of the line are the metrics, under the same names.
Sources: awslambdaric/lambda_runtime_log_utils.py of https://github.com/aws/aws-lambda-python-runtime-interface-client,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping
from typing import Any

NAMESPACE = "BirdWebhooks"
# Each value of a dimension is a metric that costs money, so reasons not listed here are counted as "other".
REASONS = frozenset(
    {
        "authentication is not configured",
        "method not allowed",
        "no credentials are configured",
        "no readable credentials",
        "no token",
        "not by the load balancer",
        "unreadable request",
        "wrong credentials",
    }
)
_OF_A_BATCH = [{"Name": "body_bytes", "Unit": "Bytes"}, {"Name": "store_milliseconds", "Unit": "Milliseconds"}]


def _directive(name: str, *others: dict[str, str], dimensions: list[list[str]]) -> list[dict[str, Any]]:
    return [
        {"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": [{"Name": name, "Unit": "Count"}, *others]},
    ]


# By the metric that counts the outcome; built once, since every request needs one.
DIRECTIVES = {
    "batches_stored": _directive("batches_stored", *_OF_A_BATCH, dimensions=[["FunctionName"]]),
    "batches_duplicate": _directive("batches_duplicate", *_OF_A_BATCH, dimensions=[["FunctionName"]]),
    "batch_ids_reused": _directive("batch_ids_reused", dimensions=[["FunctionName"]]),
    "batches_not_stored": _directive("batches_not_stored", *_OF_A_BATCH, dimensions=[["FunctionName"]]),
    "health_checks": _directive("health_checks", dimensions=[["FunctionName"]]),
    "pings": _directive("pings", dimensions=[["FunctionName"]]),
    "requests_rejected": _directive("requests_rejected", dimensions=[["FunctionName"], ["FunctionName", "Reason"]]),
}


def counted(outcome: str, facts: Mapping[str, Any], function_name: str, now: float) -> dict[str, Any]:
    """The facts of a log line, with one more of `outcome`. `now` is Unix seconds."""
    line = {**facts, outcome: 1, "FunctionName": function_name}
    if outcome == "requests_rejected":
        line["Reason"] = facts["reason"] if facts["reason"] in REASONS else "other"
    line["_aws"] = {"Timestamp": int(now * 1000), "CloudWatchMetrics": DIRECTIVES[outcome]}
    return line
