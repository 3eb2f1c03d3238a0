"""The deployed views are those that tests/integration/test_sql.py asks in its own engines; list-export asks them."""

import base64
import json
import uuid
from string import Template

import pytest

from bird_webhooks import __main__ as operate
from local_aws.query import poll, query
from maintain.generate import sql
from maintain.generate.columns import one_line, view_sql
from tests.e2e.webhook import post
from tests.known_events import ago, known_events

ROWS_TIMEOUT_SECONDS = 60
RULE = {"SoftBounceLimit": "5", "SoftBounceDays": "30"}


def original_sql(view_original_text: str) -> str:
    """The SQL inside the definition of an Athena view."""
    encoded = view_original_text.removeprefix("/* Presto View: ").removesuffix(" */")
    return json.loads(base64.b64decode(encoded, validate=True))["originalSql"]


def test_deployed_views_have_the_text_of_the_files(stack):
    glue, database = stack.emulator.client("glue"), stack.outputs["GlueDatabaseName"]
    found = {
        table["Name"]: original_sql(table["ViewOriginalText"])
        for table in glue.get_tables(DatabaseName=database)["TableList"]
        if table["TableType"] == "VIRTUAL_VIEW"
    }
    expected = {view.name: Template(sql.statement(view)).substitute(RULE) for view in sql.views()}
    assert found == {"events_deduplicated": one_line(view_sql(csv=False)), **expected}


@pytest.fixture(scope="module")
def filled(stack):
    """The known events as Athena has them, sent as two batches of the same events."""
    events = known_events()
    for _ in range(2):
        assert post(stack, json.dumps(events), batch_id=str(uuid.uuid4())).status == 200
    count = "SELECT count(*) AS copies, count(DISTINCT event_key) AS events FROM events WHERE event_id LIKE 'known-%'"
    copies = {"copies": str(2 * len(events)), "events": str(len(events))}
    assert poll(lambda: query(stack, count), lambda found: found == [copies], ROWS_TIMEOUT_SECONDS) == [copies]
    once = "SELECT count(*) AS events FROM events_deduplicated WHERE event_id LIKE 'known-%'"
    assert query(stack, once) == [{"events": str(len(events))}]
    return stack


@pytest.fixture
def export(filled, monkeypatch, tmp_path):
    """`export("--bird")` as from the command line: the lines of the file."""

    def command(*options: str) -> list[str]:
        monkeypatch.setattr(operate, "deployed", lambda *names: filled.stack)
        file = tmp_path / "suppression.csv"
        assert operate.main(["list-export", "--output", str(file), *options]) == 0
        assert file.stat().st_mode & 0o777 == 0o600
        return file.read_bytes().decode().split("\r\n")

    return command


def test_list_export_writes_the_file_that_postgresql_gives_too(export):
    """The same lines are asked of PostgreSQL in tests/integration/test_sql.py."""
    lines = export("--subaccount", "4711")
    assert lines[0] == "email,subaccount_id,reason,description,scope,added_at,customer_id,list_id"
    soft = f'five-soft@known-a.example.com,4711,soft_bounces,"Repeated bounces, the last one: 24 Timeout",all,{ago(7)}'
    assert f"{soft}T11:00:00Z,," in lines


def test_list_export_in_the_form_of_birds_upload_names_both_kinds_of_mail(export):
    assert export("--subaccount", "4711", "--bird", "--since", ago(4)) == [
        "recipient,type,description",
        "angry@known-b.example.com,non_transactional,Marked as spam",
        "link-then-spam@known-a.example.com,non_transactional,Marked as spam",
        "",
    ]
    lines = export("--subaccount", "4711", "--bird", "--since", ago(6))
    assert "receipts@known-a.example.com,transactional,Unsubscribed by the button of the mail client" in lines
    assert "receipts@known-a.example.com,non_transactional,Unsubscribed by the button of the mail client" in lines
