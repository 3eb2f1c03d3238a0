"""The deployed dashboard names what the deployed stack has."""

import json


def test_dashboard_shows_the_alarms_and_functions_of_the_stack(stack):
    cloudwatch = stack.emulator.client("cloudwatch")
    body = cloudwatch.get_dashboard(DashboardName=stack.resources()["Dashboard"])["DashboardBody"]
    assert "${" not in body
    widgets = json.loads(body)["widgets"]
    [shown] = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    alarms = {alarm["AlarmArn"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    ours = {arn for arn, alarm in alarms.items() if alarm["AlarmActions"] == [stack.resources()["AlarmTopic"]]}
    assert len(ours) == 38
    assert set(shown) == ours
    named = {metric[3] for widget in widgets for metric in widget["properties"].get("metrics", []) if len(metric) > 3}
    assert {stack.resources()["IngestFunction"], stack.resources()["ProcessFunction"]} <= named
