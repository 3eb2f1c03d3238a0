"""The log line of an invocation that CloudWatch reads as metrics too (embedded metric format). Pure.

It works because Lambda's JSON formatter puts each item of `extra` at the root of the line, where CloudWatch looks for
`_aws`. One line for all: each class and type of event is a metric of its own name, since a line has but one value for
a dimension.
Sources: awslambdaric/lambda_runtime_log_utils.py of https://github.com/aws/aws-lambda-python-runtime-interface-client,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

NAMESPACE = "BirdWebhooks"
# What Bird documents. Every name is a metric that costs money, and anybody with credentials may invent types: whatever
# is not listed is counted as OTHER. The rows have the true type.
TYPES = {
    "message_event": "bounce delay delivery injection out_of_band policy_rejection sms_status spam_complaint",
    "track_event": "amp_click amp_initial_open amp_open click initial_open open",
    "unsubscribe_event": "link_unsubscribe list_unsubscribe",
    "gen_event": "generation_failure generation_rejection",
    "relay_event": "relay_delivery relay_injection relay_permfail relay_rejection relay_tempfail",
    "ingest_event": "error success",
    "ab_test_event": "ab_test_cancelled ab_test_completed",
}
NAMES = {(event_class, kind): f"{event_class}_{kind}" for event_class, kinds in TYPES.items() for kind in kinds.split()}
OTHER = "other_event"
# Of the facts of the line, those worth a metric of their own.
COUNTED = ("messages_failed", "duplicates", "quarantined", "unknown_fields", "repaired", "objects_elsewhere")
LAG = "lag_milliseconds"
# A metric may have at most so many values in one line.
MAX_VALUES = 100
# One row of so many tells its lag; more would be work for each event.
LAG_OF_ONE_ROW_IN = 100


@dataclass
class Written:
    """What has become rows of files in an invocation."""

    events: dict[str, int] = field(default_factory=Counter)
    lags: list[int] = field(default_factory=list)

    def add(self, groups: Iterable[tuple[str, str | None, int]], timestamps: Any, now: datetime) -> None:
        """One file: (class, type, number of events) of what is in it, and its column `timestamp`."""
        for event_class, event_type, count in groups:
            self.events[NAMES.get((event_class, event_type or ""), OTHER)] += count
        for index in range(0, len(timestamps), LAG_OF_ONE_ROW_IN):
            moment = timestamps[index].as_py()
            if moment is not None:
                self.lags.append(max(0, int((now - moment).total_seconds() * 1000)))

    def merge(self, other: "Written") -> None:
        for name, count in other.events.items():
            self.events[name] += count
        self.lags += other.lags


def counted(facts: Mapping[str, Any], written: Written, function_name: str, now: datetime) -> dict[str, Any]:
    """The facts of a log line, with what was written, both also as metrics."""
    line = {**facts, **written.events, "FunctionName": function_name}
    units = dict.fromkeys([*(name for name in COUNTED if name in facts), *written.events], "Count")
    if written.lags:
        line[LAG] = thinned(written.lags)
        units[LAG] = "Milliseconds"
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}
    line["_aws"] = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return line


def thinned(values: list[int]) -> list[int]:
    """At most MAX_VALUES that are spread like all of them, the greatest among them."""
    ordered = sorted(values)
    if len(ordered) <= MAX_VALUES:
        return ordered
    return [ordered[(index + 1) * len(ordered) // MAX_VALUES - 1] for index in range(MAX_VALUES)]
