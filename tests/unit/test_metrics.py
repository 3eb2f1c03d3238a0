"""Log lines that are metrics: as CloudWatch wants them, and bounded whatever anybody sends."""

import ast
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from awslambdaric.lambda_runtime_log_utils import JsonFormatter

import ingest.metrics
import process.metrics
from process.metrics import Written, thinned

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
SAMPLES = Path(__file__).resolve().parents[2] / "events/samples"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Moment:
    """A value of a column."""

    def __init__(self, moment: datetime | None) -> None:
        self.moment = moment

    def as_py(self) -> datetime | None:
        return self.moment


def logged(facts: dict) -> dict:
    """The line that Lambda's own formatter makes of a record."""
    record = logging.getLogger("test").makeRecord("test", logging.INFO, "", 0, "said", (), None, extra=facts)
    return json.loads(JsonFormatter().format(record))


def metrics(line: dict) -> dict[str, tuple]:
    """What CloudWatch takes out of a line: name -> (value, unit), by its specification of the format."""
    assert isinstance(line["_aws"]["Timestamp"], int)
    found = {}
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert directive["Namespace"] == "BirdWebhooks"
        for names in directive["Dimensions"]:
            assert len(names) <= 30
            assert all(isinstance(line[name], str) and line[name] for name in names)
        assert len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            value = line[metric["Name"]]
            assert len(value if isinstance(value, list) else [value]) <= 100
            found[metric["Name"]] = (value, metric["Unit"])
    return found


def test_stored_batch_is_counted_with_its_size_and_time():
    facts = {"batch_id": "one", "body_bytes": 12, "store_milliseconds": 3.5}
    line = logged(ingest.metrics.counted("batches_stored", facts, "ingest-function", 1764000000.5))
    assert metrics(line) == {
        "batches_stored": (1, "Count"),
        "body_bytes": (12, "Bytes"),
        "store_milliseconds": (3.5, "Milliseconds"),
    }
    assert (line["FunctionName"], line["batch_id"], line["message"]) == ("ingest-function", "one", "said")
    assert line["_aws"]["Timestamp"] == 1764000000500
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["FunctionName"]]


@pytest.mark.parametrize(("reason", "counted_as"), [("wrong credentials", "wrong credentials"), ("odd", "other")])
def test_refusal_is_counted_by_one_of_few_reasons(reason, counted_as):
    facts = {"status": 401, "reason": reason}
    line = logged(ingest.metrics.counted("requests_rejected", facts, "ingest-function", 0))
    assert metrics(line) == {"requests_rejected": (1, "Count")}
    assert (line["Reason"], line["reason"]) == (counted_as, reason)
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["FunctionName"], ["FunctionName", "Reason"]]


def test_every_reason_that_ingest_gives_has_its_metric():
    tree = ast.parse((FUNCTIONS / "ingest/credentials.py").read_text())
    refusal = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "refusal")
    returned = [node.value for node in ast.walk(refusal) if isinstance(node, ast.Return)]
    given = {
        part.value
        for value in returned
        for part in ([value.body, value.orelse] if isinstance(value, ast.IfExp) else [value])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    assert "wrong credentials" in given
    assert given | {"method not allowed", "unreadable request"} == ingest.metrics.REASONS


def test_types_are_those_that_bird_documents():
    documented = {tuple(path.stem.split(".")) for path in SAMPLES.glob("*_event.*.json")}
    assert len(documented) == 27
    assert process.metrics.NAMES.keys() == documented


def test_events_are_counted_by_class_and_type():
    written = Written()
    written.add([("message_event", "bounce", 2), ("track_event", "open", 3)], [], NOW)
    written.add([("message_event", "bounce", 5)], [], NOW)
    facts = {"rows": 10, "duplicates": 1, "quarantined": 0, "unknown_fields": 4}
    line = logged(process.metrics.counted(facts, written, "process-function", NOW))
    assert metrics(line) == {
        "message_event_bounce": (7, "Count"),
        "track_event_open": (3, "Count"),
        "duplicates": (1, "Count"),
        "quarantined": (0, "Count"),
        "unknown_fields": (4, "Count"),
    }
    assert (line["FunctionName"], line["rows"]) == ("process-function", 10)


def test_invented_types_make_one_metric_together():
    written = Written()
    invented = [("x_event", f"type-{number}", 1) for number in range(1000)]
    written.add([*invented, ("message_event", None, 1), ("message_event", "open", 1)], [], NOW)
    assert written.events == {"other_event": 1002}


def test_lag_is_that_of_some_rows_and_never_negative():
    times = [NOW - timedelta(seconds=9)] + [NOW] * 99 + [NOW - timedelta(seconds=3)] + [NOW] * 99
    written = Written()
    written.add([], [Moment(time) for time in times], NOW)
    written.add([], [Moment(NOW + timedelta(hours=1)), Moment(None)], NOW)
    written.add([], [Moment(None)], NOW)
    assert written.lags == [9000, 3000, 0]
    facts = {"duplicates": 0, "quarantined": 0, "unknown_fields": 0}
    line = logged(process.metrics.counted(facts, written, "process-function", NOW))
    assert metrics(line)["lag_milliseconds"] == ([0, 3000, 9000], "Milliseconds")


def test_many_lags_are_thinned_to_what_one_line_may_have():
    values = thinned(list(range(10_000, 0, -1)))
    assert len(values) == 100
    assert (values[0], values[49], values[-1]) == (100, 5000, 10_000)
