"""Dashboard, alarms and runbook agree with each other, and with what is emitted."""

import json
import re
from pathlib import Path

import pytest

import ingest.metrics
import load_postgres.app
import load_postgres.metrics
import process.maintenance
import process.metrics
import publish_events.metrics
import reconcile.metrics
from local_aws.yaml_text import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
ALARMS = {name: r["Properties"] for name, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"}
CONDITIONS = {name: r.get("Condition") for name, r in RESOURCES.items() if r["Type"] == "AWS::CloudWatch::Alarm"}

OF_INGEST = {metric["Name"] for [directive] in ingest.metrics.DIRECTIVES.values() for metric in directive["Metrics"]}
OF_PROCESS = {
    *process.metrics.NAMES.values(),
    process.metrics.OTHER,
    *process.metrics.COUNTED,
    process.metrics.LAG,
}
OF_MAINTENANCE = {*process.maintenance.COUNTED}
# What AWS documents for these namespaces, as far as it is used here: (name, dimensions).
OF_AWS = {
    "AWS/Lambda": ({"Duration", "Errors", "Invocations", "Throttles"}, {"FunctionName"}),
    "AWS/SQS": ({"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible"}, {"QueueName"}),
    "AWS/ApplicationELB": (
        {"LambdaUserError", "HTTPCode_ELB_4XX_Count", "HTTPCode_ELB_5XX_Count"},
        {"LoadBalancer", "TargetGroup"},
    ),
    "AWS/ApiGateway": ({"4xx", "5xx"}, {"ApiId"}),
}
[OF_THE_API] = RESOURCES["HttpApiRefusals"]["Properties"]["MetricTransformations"]
STACKS = {
    "ALB": {"UseAlb"},
    "ALB with OAuth2, silence watched": {"UseAlb", "UseJwt", "UseAlbJwt", "WatchSilence"},
    "ALB with senders by name": {"UseAlb", "LookUpSenders"},
    "HTTP API": {"UseHttpApi"},
    "ALB with events on a bus": {"UseAlb", "UsePublishEvents"},
    "ALB with PostgreSQL": {"UseAlb", "LoadPostgres"},
    "ALB with a daily report": {"UseAlb", "MakeDailyReport"},
    "ALB that compares with Bird": {"UseAlb", "UseReconcile"},
}


def resolved(value, conditions: set[str]):
    """A value of the template as CloudFormation would make it; `${X}` stays."""
    match value:
        case {"Fn::If": [condition, yes, no]}:
            return resolved(yes if condition in conditions else no, conditions)
        case {"Fn::Join": [separator, parts]}:
            return separator.join(resolved(part, conditions) for part in parts)
        case {"Fn::Sub": [text, variables]}:
            for name, variable in variables.items():
                text = text.replace(f"${{{name}}}", resolved(variable, conditions))
            return text
        case {"Fn::Sub": text}:
            return text
        case {"Ref": str(name)}:
            return name
    return value


def widgets(conditions: set[str]) -> list[dict]:
    return json.loads(resolved(RESOURCES["Dashboard"]["Properties"]["DashboardBody"], conditions))["widgets"]


def metrics_shown(conditions: set[str]) -> list[tuple[str, str, dict[str, str]]]:
    """(namespace, name, dimensions) of each line in the dashboard."""
    shown = []
    for widget in widgets(conditions):
        for metric in widget["properties"].get("metrics", []):
            namespace, name, *dimensions = [part for part in metric if not isinstance(part, dict)]
            shown.append((namespace, name, dict(zip(dimensions[::2], dimensions[1::2], strict=True))))
    return shown


def metrics_alarmed() -> list[tuple[str, str, dict]]:
    return [
        (alarm["Namespace"], alarm["MetricName"], {d["Name"]: d["Value"] for d in alarm["Dimensions"]})
        for alarm in ALARMS.values()
    ]


def is_emitted(namespace: str, name: str, dimensions: dict) -> bool:
    if name == OF_THE_API["MetricName"]:
        return namespace == OF_THE_API["MetricNamespace"] and dimensions.keys() == {"ApiId"}
    if namespace == ingest.metrics.NAMESPACE == process.metrics.NAMESPACE:
        function = dimensions["FunctionName"]
        if function in ("${IngestFunction}", {"Ref": "IngestFunction"}):
            reasons = {*ingest.metrics.REASONS, "other"}
            by_reason = name == "requests_rejected" and dimensions.get("Reason") in reasons and len(dimensions) == 2
            return name in OF_INGEST and (by_reason or len(dimensions) == 1)
        if function in ("${PublishEventsFunction}", {"Ref": "PublishEventsFunction"}):
            return name in publish_events.metrics.COUNTED and len(dimensions) == 1
        if function in ("${ReconcileFunction}", {"Ref": "ReconcileFunction"}):
            return name in reconcile.metrics.COUNTED and len(dimensions) == 1
        if function in ("${LoadPostgresFunction}", {"Ref": "LoadPostgresFunction"}):
            return name in load_postgres.metrics.COUNTED and len(dimensions) == 1
        if function in ("${TableMaintenanceFunction}", {"Ref": "TableMaintenanceFunction"}):
            return name in OF_MAINTENANCE and len(dimensions) == 1
        is_process = function in ("${ProcessFunction}", {"Ref": "ProcessFunction"})
        return is_process and name in OF_PROCESS and len(dimensions) == 1
    names, known = OF_AWS[namespace]
    return name in names and len(dimensions) == 1 and dimensions.keys() <= known


@pytest.mark.parametrize("conditions", STACKS.values(), ids=STACKS)
def test_every_metric_of_the_dashboard_is_emitted(conditions):
    shown = metrics_shown(conditions)
    assert len(shown) > 50
    assert [metric for metric in shown if not is_emitted(*metric)] == []


def test_every_metric_of_an_alarm_is_emitted():
    assert [metric for metric in metrics_alarmed() if not is_emitted(*metric)] == []


def test_every_metric_that_costs_money_is_shown():
    shown = {name for namespace, name, _ in metrics_shown(STACKS["ALB"]) if namespace == "BirdWebhooks"}
    assert shown == OF_INGEST | OF_PROCESS | OF_MAINTENANCE
    with_bus = {name for _, name, _ in metrics_shown(STACKS["ALB with events on a bus"])}
    assert with_bus > {*publish_events.metrics.COUNTED}
    with_postgres = {name for _, name, _ in metrics_shown({*STACKS["ALB"], "LoadPostgres"})}
    assert with_postgres > {*load_postgres.metrics.COUNTED}
    compared = {name for _, name, _ in metrics_shown(STACKS["ALB that compares with Bird"])}
    assert compared > {*reconcile.metrics.COUNTED}
    reasons = {dimensions["Reason"] for _, _, dimensions in metrics_shown(STACKS["ALB"]) if "Reason" in dimensions}
    assert reasons == {*ingest.metrics.REASONS, "other"}


@pytest.mark.parametrize("conditions", STACKS.values(), ids=STACKS)
def test_dashboard_shows_the_state_of_exactly_the_alarms_that_are_there(conditions):
    [alarms] = [widget["properties"]["alarms"] for widget in widgets(conditions) if widget["type"] == "alarm"]
    there = {name for name, condition in CONDITIONS.items() if condition is None or condition in conditions}
    assert {alarm.removeprefix("${").removesuffix(".Arn}") for alarm in alarms} == there


def test_no_widget_lies_upon_another():
    taken = set()
    for widget in widgets(set().union(*STACKS.values())):
        area = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not area & taken
        assert widget["x"] + widget["width"] <= 24
        taken |= area


def test_dashboard_leads_to_the_runbook():
    texts = [w["properties"]["markdown"] for w in widgets(STACKS["ALB"]) if w["type"] == "text"]
    home = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]["HomePageUrl"]
    assert any(f"]({home}/blob/main/docs/runbook.md)" in text for text in texts)


def sections() -> dict[str, str]:
    text = (ROOT / "docs/runbook.md").read_text()
    return dict(re.findall(r"^## (\w+Alarm)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def test_every_alarm_has_its_section_and_every_section_its_alarm():
    assert list(sections()) == list(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_says_what_to_do_and_where_more_is(name):
    description = ALARMS[name]["AlarmDescription"]
    assert description.endswith(f"Runbook: docs/runbook.md#{name.lower()}")
    assert len(description) <= 1024
    assert ALARMS[name]["AlarmActions"] == [{"Ref": "AlarmTopic"}]


@pytest.mark.parametrize("name", ALARMS)
def test_section_says_it_all_in_the_same_order(name):
    parts = ["Means", "Meanwhile", "Look at", "Do", "Clears"]
    assert re.findall(r"^\*\*([A-Z][a-z ]+):\*\* ", sections()[name], re.MULTILINE) == parts


def test_links_of_the_runbook_lead_somewhere():
    text = (ROOT / "docs/runbook.md").read_text()
    headings = re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_alarms_keep_to_what_cloudwatch_can_look_back_on():
    hours = TEMPLATE["Parameters"]["SilenceHours"]["MaxValue"]
    for alarm in ALARMS.values():
        periods = hours if alarm["EvaluationPeriods"] == {"Ref": "SilenceHours"} else alarm["EvaluationPeriods"]
        assert alarm["Period"] * periods <= 86_400


def test_only_what_must_never_stand_still_fires_without_data():
    assert [name for name, alarm in ALARMS.items() if alarm["TreatMissingData"] == "breaching"] == [
        "NoBatchesAlarm",
        "TableMaintenanceAlarm",
    ]
    assert CONDITIONS["NoBatchesAlarm"] == "WatchSilence"
    assert TEMPLATE["Parameters"]["SilenceHours"]["Default"] == 24  # a day without mail is rare enough for an alarm


def test_dead_letters_alarm_stays_though_their_queue_reports_nothing_more():
    """SQS stops reporting a queue that is idle for six hours, even if it has messages."""
    of_dead_letters = {
        name: alarm["TreatMissingData"]
        for name, alarm in ALARMS.items()
        if "DeadLetterQueue" in str(alarm["Dimensions"])
    }
    assert of_dead_letters == {
        "DeadLettersAlarm": "ignore",
        "EventsNotPublishedAlarm": "ignore",
        "ImportFailedAlarm": "ignore",
        "PostgresDeadLettersAlarm": "ignore",
    }


def test_alarms_of_load_postgres_can_be_reached():
    """What waits is tried, and reported, at least once in each period; what fails comes again within one."""
    queue = RESOURCES["PostgresQueue"]["Properties"]
    waiting, errors = ALARMS["PostgresFilesWaitingAlarm"], ALARMS["LoadPostgresErrorsAlarm"]
    assert waiting["Period"] > load_postgres.app.LONGEST_WAIT_SECONDS
    assert errors["Period"] * errors["EvaluationPeriods"] > queue["VisibilityTimeout"]
    assert waiting["EvaluationPeriods"] == errors["Threshold"] == 1


@pytest.mark.parametrize(
    ("alarm", "queue"), [("QueueAgeAlarm", "ProcessQueue"), ("EventsLateAlarm", "PublishEventsQueue")]
)
def test_alarms_of_a_queues_age_can_be_reached(alarm, queue):
    """SQS leaves a message out of the metric after three receptions: it is two visibility timeouts old by then."""
    assert ALARMS[alarm]["MetricName"] == "ApproximateAgeOfOldestMessage"
    oldest_that_is_seen = 2 * RESOURCES[queue]["Properties"]["VisibilityTimeout"]
    assert ALARMS[alarm]["Threshold"] + ALARMS[alarm]["Period"] < oldest_that_is_seen


def test_failed_work_fires_within_ten_minutes():
    """Each by a count of the function's own, for Lambda counts no error when a part of the messages fails."""
    seconds = {
        name: alarm["Period"] * alarm["EvaluationPeriods"]
        for name, alarm in ALARMS.items()
        if alarm["MetricName"] in ("messages_failed", "files_failed")
    }
    assert seconds == {"BatchesFailedAlarm": 300, "EventsFailedAlarm": 300}
    assert ALARMS["BatchesNotStoredAlarm"]["Period"] * ALARMS["BatchesNotStoredAlarm"]["EvaluationPeriods"] <= 600
    # load_postgres waits twice as long after each try: the fifth comes at 7.5 minutes, and reports that age.
    tries = [load_postgres.app.FIRST_WAIT_SECONDS * (2**number - 1) for number in range(6)]
    assert min(age for age in tries if age >= ALARMS["PostgresFilesWaitingAlarm"]["Threshold"]) == 450
