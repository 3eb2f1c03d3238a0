"""What CloudWatch does with a function's log, in MiniStack: JSON lines, metrics from them, and alarms by these.

MiniStack's workers print a record's message alone, its metrics know nothing of the embedded metric format, and its
alarms look at all stacks' metrics of a name, but only when somebody puts one. With this, `status --local`, the
filters of the runbook and the conditions of the alarms can be tried on this machine.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import cloudwatch, lambda_svc, sqs

WORKER = Path(__file__).with_name("worker_logging.py")
emit_lambda_logs = lambda_svc._emit_lambda_logs
emit_lambda_metrics = lambda_svc._emit_lambda_metrics
describe_alarms = cloudwatch._describe_alarms
set_state = cloudwatch._set_alarm_state
# A state that was set by hand stays until CloudWatch judges the alarm the next time.
JUDGED_EVERY_SECONDS = 60
set_at: dict[str, float] = {}  # by the alarm's name
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}

type Dimensions = Mapping[str, str]


def apply() -> None:
    lambda_runtime._PYTHON_WORKER_SCRIPT = worker_script(lambda_runtime._PYTHON_WORKER_SCRIPT)
    lambda_svc._emit_lambda_logs = emit_logs_and_metrics
    lambda_svc._emit_lambda_metrics = emit_throttles
    cloudwatch._evaluate_all_alarms = lambda: None  # each time they are looked at, as below
    cloudwatch._describe_alarms = describe_judged_alarms
    cloudwatch._set_alarm_state = set_alarm_state


def worker_script(script: str) -> str:
    """MiniStack's program of a worker, which reads requests line by line, with ours around the handler."""
    for before, ours in (
        ("        mod = importlib.import_module(module_name)\n", "        install_json_lines()\n"),
        (
            "            result = handler_fn(event, context)\n",
            "            JsonLines.request_id = context.aws_request_id\n",
        ),
        (
            '            _real_stdout.write(json.dumps({"status": "error", "error": str(e), "trace"',
            "            log_failure(e)\n",
        ),
    ):
        if script.count(before) != 1:
            raise RuntimeError(f"MiniStack's worker is not as it was: {before.strip()}")
        script = script.replace(before, ours + before)
    return f"{WORKER.read_text()}\n{script}"


def emit_throttles(function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
    """MiniStack counts what was invoked by the API alone; what ran is counted below."""
    if throttle:
        emit_lambda_metrics(function_name, duration_ms, error, throttle)


def emit_logs_and_metrics(
    func: dict[str, Any],
    request_id: str,
    log_text: str,
    error: bool,
    duration_ms: int,
    **named: Any,
) -> None:
    emit_lambda_logs(func, request_id, log_text, error, duration_ms, **named)
    name = (func.get("config") or func).get("FunctionName", "unknown")
    emit_lambda_metrics(name, duration_ms, error, throttle=False)
    for line in (log_text or "").splitlines():
        if '"_aws"' in line:
            with suppress(ValueError, KeyError, TypeError):  # as CloudWatch, which ignores what it cannot read
                store(json.loads(line))


def store(line: Mapping[str, Any]) -> None:
    """The metrics of one line of a log.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    moment = line["_aws"]["Timestamp"] / 1000
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = {name: str(line[name]) for name in names}
            for metric in directive["Metrics"]:
                values = line[metric["Name"]]
                values = values if isinstance(values, list) else [values]
                cloudwatch._store_datum(
                    directive["Namespace"],
                    metric["Name"],
                    dimensions,
                    moment,
                    metric.get("Unit", "None"),
                    None,
                    values,
                    None,
                    None,
                )


# --- Alarms -----------------------------------------------------------------------------------------------------------


def set_alarm_state(parameters: Any, data: Mapping[str, Any], *form: Any) -> Any:
    name = data.get("AlarmName") or cloudwatch._p(parameters, "AlarmName")
    if name in cloudwatch._alarms:
        set_at[name] = time.time()
    return set_state(parameters, data, *form)


def describe_judged_alarms(*arguments: Any) -> Any:
    now = time.time()
    for name, alarm in cloudwatch._alarms.items():
        if now - set_at.get(name, 0) > JUDGED_EVERY_SECONDS:
            alarm["StateValue"] = state(alarm, now)
    return describe_alarms(*arguments)


def state(alarm: Mapping[str, Any], now: float) -> str:
    """OK, ALARM or INSUFFICIENT_DATA: every one of the last periods breaches, or is missing and counts as breaching."""
    period, periods = int(alarm["Period"]), int(alarm["EvaluationPeriods"])
    dimensions = {one["Name"]: one["Value"] for one in alarm.get("Dimensions", [])}
    by_period: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for point in points(alarm["Namespace"], alarm["MetricName"], dimensions, now):
        by_period[int((now - point["Timestamp"]) // period)].append(point)
    breaches = COMPARISONS[alarm["ComparisonOperator"]]
    missing = {"breaching": True, "notBreaching": False}.get(alarm.get("TreatMissingData", "missing"))
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic", "Average")
    verdicts: list[bool | None] = []
    for back in range(periods):
        if found := by_period.get(back):
            value = cloudwatch._stat_value(cloudwatch._calc_stats(found), statistic, found)
            verdicts.append(breaches(value, float(alarm["Threshold"])))
        else:
            verdicts.append(missing)
    if all(verdict is None for verdict in verdicts):
        keeps = alarm.get("TreatMissingData") == "ignore"
        return str(alarm["StateValue"]) if keeps else "INSUFFICIENT_DATA"
    return "ALARM" if all(verdict in (True, None) for verdict in verdicts) else "OK"


def points(namespace: str, name: str, dimensions: Dimensions, now: float) -> Iterator[dict[str, Any]]:
    if namespace == "AWS/SQS":
        value = of_queue(name, dimensions.get("QueueName", ""), now)
        if value is not None:
            yield {"Timestamp": now, "Value": value, "Unit": "None", "Dimensions": dict(dimensions)}
        return
    yield from cloudwatch._metrics.get((namespace, name, cloudwatch._dims_key(dimensions)), [])


def of_queue(name: str, queue_name: str, now: float) -> float | None:
    """What SQS would report of the queue at this moment; its age leaves out what was received three times."""
    messages = next((q["messages"] for url, q in sqs._queues.items() if url.rpartition("/")[2] == queue_name), None)
    if messages is None:
        return None
    if name == "ApproximateNumberOfMessagesVisible":
        return float(sum(message["visible_at"] <= now for message in messages))
    if name == "ApproximateAgeOfOldestMessage":
        ages = [now - message["sent_at"] for message in messages if message["receive_count"] < 3]
        return max(ages, default=0.0)
    return None
