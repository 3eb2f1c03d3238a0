"""The dashboard: the state of every alarm of the template, and every metric that the functions count. Pure.

A metric of ours costs money whether it is shown or not, so all are shown: the types of events and the reasons of
refusals are listed where they are counted, and come from there.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import ingest.metrics
import process.metrics

RUNBOOK = "https://github.com/bird-webhooks/bird-webhooks/blob/main/docs/runbook.md"
INTRODUCTION = (
    "**${AWS::StackName}**: Bird posts batches, ingest stores them in `${Raw}`, process makes rows of them in "
    f"`${{Lake}}`. An alarm fires? [Runbook]({RUNBOOK}). Nothing is lost while Bird tries again (8 hours) or a "
    "batch is in the raw bucket."
)
FIELDS_WITHOUT_A_COLUMN = (
    "SOURCE '${ProcessLogGroup}' | fields @timestamp, extra_field_names | filter unknown_fields > 0"
    " | sort @timestamp desc | limit 20"
)
# Types of message_event that go with failures and complaints, as all of gen_event and unsubscribe_event do.
FAILURES = {"bounce", "out_of_band", "policy_rejection", "spam_complaint"}
FUNCTION = "FunctionName"
QUEUE = "QueueName"
INGEST, PROCESS = "${IngestFunction}", "${ProcessFunction}"
MAINTENANCE = "${TableMaintenanceFunction}"
RECONCILE = "${ReconcileFunction}"
PUBLISH_EVENTS, LOAD_POSTGRES = "${PublishEventsFunction}", "${LoadPostgresFunction}"
OURS, LAMBDA, SQS = "BirdWebhooks", "AWS/Lambda", "AWS/SQS"
DEAD_LETTERS = "ApproximateNumberOfMessagesVisible"

Metric = list[Any]


def dashboard(resources: Mapping[str, Any]) -> list[str]:
    """The resource; `resources` are those of the template, of which the alarms are shown."""
    conditions = {
        name: resource.get("Condition")
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    always = ", ".join(f'"${{{name}.Arn}}"' for name, condition in conditions.items() if condition is None)
    at_times = [
        f'- !If [{condition}, !Sub \', "${{{name}.Arn}}"\', ""]'
        for name, condition in conditions.items()
        if condition is not None
    ]
    body = ",\n".join(
        [
            widget("text", 0, 0, 24, 2, markdown=INTRODUCTION),
            f'{placed("alarm", 0, 2, 24, 3)}{{"title": "Alarms", "alarms": [{always}${{OptionalAlarms}}]}}}}',
            *(widget("metric", *place, **properties) for place, properties in METRICS),
            widget("log", 16, 23, title="Fields without a column", view="table", query=FIELDS_WITHOUT_A_COLUMN),
        ]
    )
    start, end = (
        '{"start": "-P1D", "widgets": [',
        "${PublishedWidget}${PostgresWidget}${ComparedWidget}${ProofWidget}]}",
    )
    return [
        "Dashboard:",
        "  Type: AWS::CloudWatch::Dashboard",
        "  Properties:",
        "    # Dashboards are of all regions, and SAR gives a stack the same name in each.",
        '    DashboardName: !Sub "${AWS::StackName}-${AWS::Region}"',
        "    DashboardBody: !Sub",
        "      - |",
        *(f"        {line}" for line in f"{start}\n{body}{end}".splitlines()),
        "      - FrontDoorMetric: !If",
        "          - UseAlb",
        f"          - {further(ALB)}",
        "          - !If",
        "            - UseHttpApi",
        f"            - {further(HTTP_API)}",
        '            - ""',
        "        Raw: *raw_bucket",
        "        Lake: *lake_bucket",
        *optional_widget("PublishedWidget", "UsePublishEvents", widget("metric", 0, 29, **PUBLISHED)),
        *optional_widget("PostgresWidget", "LoadPostgres", widget("metric", 8, 29, **POSTGRES)),
        *optional_widget("ComparedWidget", "UseReconcile", widget("metric", 0, 35, **COMPARED)),
        *optional_widget("ProofWidget", "UseReconcile", widget("metric", 8, 35, **PROOF)),
        "        OptionalAlarms: !Join",
        '          - ""',
        *(f"          {'  ' if number else '- '}{line}" for number, line in enumerate(at_times)),
    ]


def further(metrics: list[Any]) -> str:
    """Metrics after those that are always there."""
    return f"!Sub '{''.join(f', {json.dumps(metric)}' for metric in metrics)}'"


def optional_widget(variable: str, condition: str, text: str) -> list[str]:
    return [
        f"        {variable}: !If",
        f"          - {condition}",
        "          - !Sub |-",
        *(f"            {line}" for line in f",\n{text}".splitlines()),
        '          - ""',
    ]


def placed(kind: str, x: int, y: int, width: int = 8, height: int = 6) -> str:
    """The beginning of a widget, up to its properties."""
    return f'{{"type": "{kind}", "x": {x}, "y": {y}, "width": {width}, "height": {height}, "properties": '


def widget(
    kind: str, *place: int, metrics: Iterable[Metric] | None = None, more_metrics: str = "", **properties: Any
) -> str:
    """One widget, with a line for each metric; `more_metrics` names a variable with further ones."""
    if kind != "text":
        properties["region"] = "${AWS::Region}"
    text = json.dumps(properties)
    if metrics is not None:
        lines = ",\n".join(f"  {json.dumps(metric)}" for metric in metrics)
        text = f'{text[:-1]}, "metrics": [\n{lines}{more_metrics}]}}'
    return f"{placed(kind, *place)}{text}}}"


def metric(namespace: str, name: str, dimension: str, value: str, label: str = "", **options: str) -> Metric:
    options = {"label": label, **options} if label else options
    return [namespace, name, dimension, value, *([options] if options else [])]


def of_ingest(name: str, label: str, **options: str) -> Metric:
    return metric(OURS, name, FUNCTION, INGEST, label, **options)


def of_process(name: str, label: str = "", **options: str) -> Metric:
    return metric(OURS, name, FUNCTION, PROCESS, label, **options)


def refused(reason: str) -> Metric:
    return [OURS, "requests_rejected", FUNCTION, INGEST, "Reason", reason, {"label": reason}]


def is_failure(event_class: str, kind: str) -> bool:
    return event_class in ("gen_event", "unsubscribe_event") or kind in FAILURES


NAMES = process.metrics.NAMES
FAILED = [of_process(name, kind) for (group, kind), name in NAMES.items() if is_failure(group, kind)]
ENGAGED = [of_process(name, kind) for (group, kind), name in NAMES.items() if group == "track_event"]
HAPPENED = [
    of_process(name, kind)
    for (group, kind), name in NAMES.items()
    if group != "track_event" and not is_failure(group, kind)
]
COUNTS: dict[str, Any] = {"stat": "Sum", "period": 300}
TIMES: dict[str, Any] = {"period": 300}


def line(label: str, value: int) -> dict[str, Any]:
    return {"label": label, "value": value}


METRICS: list[tuple[tuple[int, int], dict[str, Any]]] = [
    (
        (0, 5),
        {
            "title": "Batches",
            **COUNTS,
            "stacked": True,
            "metrics": [
                of_ingest("batches_stored", "stored"),
                of_ingest("batches_duplicate", "sent again"),
                of_ingest("batches_not_stored", "not stored (503)"),
                of_ingest("batch_ids_reused", "stored with a different body under a used id"),
                of_ingest("pings", "probes"),
                of_ingest("health_checks", "GET and HEAD"),
            ],
            "more_metrics": "${FrontDoorMetric}",
        },
    ),
    (
        (8, 5),
        {
            "title": "Requests refused, by reason",
            **COUNTS,
            "stacked": True,
            "metrics": [refused(reason) for reason in [*sorted(ingest.metrics.REASONS), "other"]],
        },
    ),
    (
        (16, 5),
        {
            "title": "Time to answer Bird, in milliseconds",
            **TIMES,
            "annotations": {"horizontal": [line("Bird gives up", 10_000), line("alarm", 5000)]},
            "metrics": [
                metric(LAMBDA, "Duration", FUNCTION, INGEST, "answer p50", stat="p50"),
                metric(LAMBDA, "Duration", FUNCTION, INGEST, "answer p99", stat="p99"),
                of_ingest("store_milliseconds", "S3 p50", stat="p50"),
                of_ingest("store_milliseconds", "S3 p99", stat="p99"),
            ],
        },
    ),
    (
        (0, 11),
        {
            "title": "Events: messages",
            **COUNTS,
            "metrics": [*HAPPENED, of_process(process.metrics.OTHER, "of a type that is not known here")],
        },
    ),
    ((8, 11), {"title": "Events: bounces, complaints, failures", **COUNTS, "metrics": FAILED}),
    ((16, 11), {"title": "Events: engagement", **COUNTS, "metrics": ENGAGED}),
    (
        (0, 17),
        {
            "title": "Waiting for rows",
            "stat": "Maximum",
            "period": 300,
            "metrics": [
                metric(
                    SQS, "ApproximateAgeOfOldestMessage", QUEUE, "${ProcessQueue.QueueName}", "oldest batch, seconds"
                ),
                of_process("messages_failed", "failed, to be retried", stat="Sum", yAxis="right"),
                metric(SQS, DEAD_LETTERS, QUEUE, "${ProcessDeadLetterQueue.QueueName}", "dead letters", yAxis="right"),
            ],
        },
    ),
    (
        (8, 17),
        {
            "title": "From Bird's timestamp to the row, in milliseconds",
            **TIMES,
            "metrics": [of_process(process.metrics.LAG, stat, stat=stat) for stat in ("p50", "p95")],
        },
    ),
    (
        (16, 17),
        {
            "title": "Not as expected",
            **COUNTS,
            "metrics": [
                of_process("quarantined"),
                of_process("repaired", "text repaired"),
                of_process("objects_elsewhere", "objects of other buckets or prefixes"),
                of_process("unknown_fields", "fields without a column"),
                of_process("duplicates", "events seen twice at once"),
            ],
        },
    ),
    (
        (0, 23),
        {
            "title": "Functions",
            **COUNTS,
            "metrics": [
                metric(LAMBDA, name, FUNCTION, function, f"{label}{what}")
                for label, function in (("ingest", INGEST), ("process", PROCESS))
                for name, what in (("Invocations", ""), ("Errors", " errors"), ("Throttles", " throttled"))
            ],
        },
    ),
    (
        (8, 23),
        {
            "title": "Size of a batch, in bytes",
            **TIMES,
            "annotations": {"horizontal": [line("most that the load balancer takes", 1_000_000)]},
            "metrics": [
                of_ingest("body_bytes", "p50", stat="p50"),
                of_ingest("body_bytes", "largest", stat="Maximum"),
            ],
        },
    ),
    (
        (16, 29),
        {
            "title": "Dates of the table",
            "stat": "Maximum",
            "period": 3600,
            "annotations": {"horizontal": [line("alarm", 20)]},
            "metrics": [
                metric(
                    OURS, "registered_ahead_days", FUNCTION, MAINTENANCE, "days ahead with a partition", stat="Minimum"
                ),
                metric(OURS, "without_partition", FUNCTION, MAINTENANCE, "dates found without one"),
                metric(OURS, "overdue", FUNCTION, MAINTENANCE, "to be closed, and a day late"),
                metric(OURS, "files_gone", FUNCTION, MAINTENANCE, "files gone before they were read", stat="Sum"),
            ],
        },
    ),
]
ALB = [
    metric(
        "AWS/ApplicationELB",
        "LambdaUserError",
        "TargetGroup",
        "${IngestTargetGroup.TargetGroupFullName}",
        "refused by the load balancer",
    )
]
HTTP_API = [
    metric("AWS/ApiGateway", "4xx", "ApiId", "${HttpApi}", "refused, by ingest or before it"),
    metric(OURS, "http_api_refusals", "ApiId", "${HttpApi}", "403, 413, 429 before ingest"),
]
NAMES_REFUSED = "messages about other buckets or prefixes"
PUBLISHED: dict[str, Any] = {
    "title": "Events on the bus",
    **COUNTS,
    "metrics": [
        metric(OURS, "published", FUNCTION, PUBLISH_EVENTS),
        metric(OURS, "shortened", FUNCTION, PUBLISH_EVENTS, "published with fields left out"),
        metric(OURS, "files_failed", FUNCTION, PUBLISH_EVENTS, "files to be retried"),
        metric(OURS, "not_published", FUNCTION, PUBLISH_EVENTS, "refused, to be retried"),
        metric(OURS, "refused", FUNCTION, PUBLISH_EVENTS, "refused for good"),
        metric(OURS, "held_back", FUNCTION, PUBLISH_EVENTS, "held back: too old, or imported"),
        metric(OURS, "names_refused", FUNCTION, PUBLISH_EVENTS, NAMES_REFUSED),
        metric(
            SQS,
            DEAD_LETTERS,
            QUEUE,
            "${PublishEventsDeadLetterQueue.QueueName}",
            "dead letters",
            stat="Maximum",
            yAxis="right",
        ),
    ],
}
POSTGRES: dict[str, Any] = {
    "title": "Rows in PostgreSQL",
    **COUNTS,
    "metrics": [
        metric(OURS, "files_waiting", FUNCTION, LOAD_POSTGRES, "files waiting for a retry", stat="Maximum"),
        metric(
            OURS,
            "waiting_seconds",
            FUNCTION,
            LOAD_POSTGRES,
            "oldest of them, seconds",
            stat="Maximum",
            yAxis="right",
        ),
        metric(OURS, "rows_rejected", FUNCTION, LOAD_POSTGRES, "rows refused"),
        metric(OURS, "names_refused", FUNCTION, LOAD_POSTGRES, NAMES_REFUSED),
        metric(OURS, "months_left", FUNCTION, LOAD_POSTGRES, "months to drop", stat="Maximum"),
        metric(SQS, DEAD_LETTERS, QUEUE, "${PostgresDeadLetterQueue.QueueName}", "dead letters", stat="Maximum"),
    ],
}
COMPARED: dict[str, Any] = {
    "title": "Compared with Bird",
    "stat": "Maximum",
    "period": 900,
    "metrics": [
        metric(OURS, "missing_events", FUNCTION, RECONCILE, "events that only Bird has"),
        metric(OURS, "surplus_events", FUNCTION, RECONCILE, "events that only we have"),
        metric(OURS, "filled_events", FUNCTION, RECONCILE, "events fetched", stat="Sum"),
        metric(OURS, "filling_failed", FUNCTION, RECONCILE, "not filled in as it should be"),
        metric(OURS, "batches_failing", FUNCTION, RECONCILE, "batches that Bird fails to deliver", yAxis="right"),
        metric(OURS, "batches_lost", FUNCTION, RECONCILE, "batches delivered and not here", yAxis="right"),
    ],
}
PROOF: dict[str, Any] = {
    "title": "Age of the proof of completeness, in seconds",
    "stat": "Maximum",
    "period": 900,
    "annotations": {"horizontal": [line("alarm", 129_600)]},
    "metrics": [
        metric(OURS, "proof_age_seconds", FUNCTION, RECONCILE, "since what is proved complete"),
        metric(OURS, "unproved_old_hours", FUNCTION, RECONCILE, "hours over eight days old, not proved", yAxis="right"),
        metric(OURS, "bounds_reached", FUNCTION, RECONCILE, "runs that reached a bound", stat="Sum", yAxis="right"),
        metric(OURS, "access_failures", FUNCTION, RECONCILE, "answers that cannot be used", stat="Sum", yAxis="right"),
    ],
}
