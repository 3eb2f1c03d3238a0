"""The daily function and the program, on a deployed stack that events were posted to."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import urllib3

from bird_webhooks import __main__ as operate
from local_aws.emulator import ROOT
from local_aws.query import poll, query
from report.athena import Athena, QueryFailedError
from tests.e2e.webhook import post

EVENTS = ROOT / "tests/data/report_events.json"
TIMEOUT_SECONDS = 60
COUNT = """
    SELECT count(DISTINCT event_key) AS events FROM events
    WHERE event_date >= DATE '2024-02-26' AND event_date <= DATE '2024-03-11'
"""
# What the page says of the recorded events, whichever way it came about.
SHOWN = [
    "4 – 10 Mar 2024",  # noqa: RUF001
    "18 events, 4 in the 7 days before.",
    "4 of 6 sent",
    "2 of 6 sent",
    "by any provider of this mail within 90 days",
    "2 of 4 accepted",
    "1 of 4 accepted",
    "Fewer than 100 messages were sent",
    "550 5.1.1 &lt;&lt;address&gt;&gt;: no such user",
    "<code>geo_ip.continent</code>",
    "&lt;/script&gt;&lt;img src=x",
]


@pytest.fixture(scope="module")
def filled(stack):
    """The recorded events, sent twice under two ids: each counts once."""
    body = EVENTS.read_bytes()
    for _ in range(2):
        assert post(stack, body, batch_id=str(uuid.uuid4())).status == 200
    assert poll(lambda: query(stack, COUNT)[0]["events"], lambda found: found == "23", TIMEOUT_SECONDS) == "23"
    return stack


@pytest.fixture
def run(monkeypatch, capsys):
    def command(stack, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
        status = operate.main(["report", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def missing(page: str) -> list[str]:
    return [text for text in SHOWN if text not in page]


def invoke(stack, event: dict) -> dict:
    answer = stack.emulator.client("lambda").invoke(
        FunctionName=stack.resources()["ReportFunction"], Payload=json.dumps(event).encode()
    )
    said = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def test_function_writes_the_page_of_the_days_asked_for(filled):
    assert invoke(filled, {"until": "2024-03-11"}) == {"key": "reports/2024-03-10.html"}
    s3, bucket = filled.emulator.client("s3"), filled.outputs["LakeBucketName"]
    written = s3.get_object(Bucket=bucket, Key="reports/2024-03-10.html")
    assert written["ContentType"] == "text/html; charset=utf-8"
    page = written["Body"].read().decode()
    assert missing(page) == []
    assert "jane.doe" not in page
    assert page.count('class="chart"') == 3


def test_alerts_are_looked_for_with_the_role_of_their_function(filled):
    """The recorded events are too few to need attention."""
    answer = filled.emulator.client("lambda").invoke(
        FunctionName=filled.resources()["DeliverabilityAlertsFunction"],
        Payload=json.dumps({"hours": 168, "until": "2024-03-11T00:00"}).encode(),
    )
    assert json.loads(answer["Payload"].read()) == {"found": 0, "told": 0}
    state = filled.emulator.client("s3").get_object(Bucket=filled.outputs["LakeBucketName"], Key="alerts/state.json")
    assert json.loads(state["Body"].read()) == {}


def test_daily_page_is_linked_to_by_the_tool(filled, run):
    s3, bucket = filled.emulator.client("s3"), filled.outputs["LakeBucketName"]
    s3.delete_object(Bucket=bucket, Key="reports/latest.html")
    assert run(filled, "link")[::2] == (
        1,
        "bird-webhooks: there is no report: is DailyReport true, and has it run (at 06:00 UTC)?\n",
    )
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert invoke(filled, {"days": 1}) == {"key": f"reports/{yesterday}.html"}
    status, link, said = run(filled, "link", "--expires", "1")
    assert status == 0
    assert "for 1 hours at most" in said
    # As a browser does, it asks once more when the connection ends before the answer.
    with urllib3.PoolManager(ca_certs=str(filled.emulator.certificate)) as browser:
        page = browser.request("GET", link.strip()).data.decode()
    assert "No events in this period" in page or "At a glance" in page


def test_tool_writes_the_same_figures(filled, run, tmp_path):
    output = tmp_path / "pages/report.html"
    status, printed, said = run(filled, "--until", "2024-03-11", "--output", str(output))
    assert (status, printed) == (0, f"{output}\n"), said
    assert missing(output.read_text()) == []
    assert "==> 18 events" in said


def test_failed_query_says_which_and_why(stack):
    athena = Athena(
        stack.emulator.client("athena"), stack.outputs["AthenaWorkGroupName"], stack.outputs["GlueDatabaseName"]
    )
    with pytest.raises(QueryFailedError, match=r"^odd: .*nowhere"):
        athena.rows({"odd": "SELECT 1 FROM nowhere"})
