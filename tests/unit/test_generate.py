"""What `make generate` writes: every copy is up to date, and each kind of addition reaches all of its copies."""

import json
import re
import subprocess
import sys

import pytest

import process.columns
import process.metrics
from local_aws.yaml_text import yaml_parse
from maintain.check_template import ROOT, TEMPLATE
from maintain.generate import columns, columns_page, dashboard, settings_page, sql, template
from process.columns import COLUMNS, Column, ColumnType


@pytest.fixture(scope="module")
def parsed():
    return yaml_parse(TEMPLATE.read_text())


def test_check_names_the_copy_that_differs(tmp_path, monkeypatch, capsys):
    from maintain.generate import __main__ as program

    stale, fresh = tmp_path / "stale.md", tmp_path / "fresh.md"
    stale.write_text("before\n")
    fresh.write_text("after\n")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "generated", lambda: {stale: "after\n", fresh: "after\n"})
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert program.main() == 1
    assert capsys.readouterr().err == "stale.md differs from its source: run `make generate`\n"
    assert stale.read_text() == "before\n"
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert program.main() == 0
    assert stale.read_text() == "after\n"


def test_a_new_column_reaches_every_copy(monkeypatch):
    added = Column("shoe_size", ColumnType.BIGINT, "Size of the recipient's shoes", "shoe_size")
    for module in (columns, columns_page, sql):
        monkeypatch.setattr(module, "COLUMNS", (*COLUMNS, added))
    line = '- {Name: shoe_size, Type: bigint, Comment: "Size of the recipient\'s shoes"}'
    text = template.template(TEMPLATE.read_text())
    assert text.count(line) == 2  # the table in Parquet, and the view
    assert text.count(line.replace("bigint", "string")) == 1  # the table in CSV
    assert '{"name": "shoe_size", "type": "bigint"}' in text
    assert "try_cast(shoe_size AS bigint) AS shoe_size" in text
    assert '["shoe_size", "bigint", "Size of the recipient\'s shoes"]' in columns.postgres_columns()
    assert '"shoe_size": Kind.BIGINT' in columns.publish_events_columns()
    comment = "COMMENT ON COLUMN events_deduplicated.shoe_size IS 'Size of the recipient''s shoes';"
    assert comment in sql.postgres_sql()
    row = "| `shoe_size` | bigint | bigint | `shoe_size` | Size of the recipient's shoes | none of the samples |"
    assert row in columns_page.page()


def test_a_new_alarm_is_shown_when_it_is_there():
    text = TEMPLATE.read_text()
    shown = '!If [UseCsv, !Sub \', "${NewAlarm.Arn}"\', ""]'
    added = "  NewAlarm:\n    Type: AWS::CloudWatch::Alarm\n    Condition: UseCsv\n\n"
    assert shown in template.template(text.replace("  # --- Generated:", f"{added}  # --- Generated:"))
    assert shown not in text


def test_a_new_type_of_events_is_shown_and_published(monkeypatch):
    monkeypatch.setitem(process.metrics.TYPES, "track_event", "open wink")
    assert '        "wink",\n' in columns.publish_events_columns()
    program = """if True:
        import process.metrics
        process.metrics.NAMES["track_event", "wink"] = "track_event_wink"
        process.metrics.NAMES["message_event", "nod"] = "message_event_nod"
        from maintain.generate import dashboard
        print([[line[1] for line in lines][-1] for lines in (dashboard.ENGAGED, dashboard.HAPPENED)])
    """
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "['track_event_wink', 'message_event_nod']\n"


def test_hand_written_part_comes_first_and_in_one_piece():
    head, _, tail = TEMPLATE.read_text().partition("  # --- Generated:")
    assert re.findall(r"^(\w+):", tail, re.MULTILINE) == []  # nothing but resources
    kinds = re.findall(r"^    Type: (\S+)$", head, re.MULTILINE)
    assert {"AWS::Glue::Table", "AWS::Athena::NamedQuery", "AWS::CloudWatch::Dashboard"} & set(kinds) == set()
    assert set(re.findall(r"^    Type: (\S+)$", tail, re.MULTILINE)) == {
        "AWS::Glue::Table",
        "AWS::Athena::NamedQuery",
        "AWS::CloudWatch::Dashboard",
    }


@pytest.mark.parametrize("lost", ["  # --- Generated:", "AllowedPattern: "])
def test_a_template_without_its_places_is_refused(lost):
    with pytest.raises(SystemExit, match=r"template\.yaml: the (banner|parameter)"):
        template.template(TEMPLATE.read_text().replace(lost, "  # gone "))


def test_no_widget_lacks_its_region():
    assert '"region": "${AWS::Region}"' in dashboard.widget("metric", 0, 0, title="Any", metrics=[])
    assert json.loads(dashboard.widget("text", 0, 0, markdown="Any"))["properties"] == {"markdown": "Any"}


NEEDED = [
    ("JwtIssuer", ["with `FrontDoor` `ALB`", "with `WebhookAuth` `OAUTH2`"]),
    ("PublishedEventTypes", ["with `PublishEvents` `true`"]),
    ("PostgresSchema", ["with a `PostgresSecretArn`"]),
    ("DomainName", []),
]


@pytest.fixture(scope="module")
def needs(parsed):
    return settings_page.needs(parsed)


@pytest.mark.parametrize(("name", "needed"), NEEDED)
def test_settings_page_says_what_a_parameter_depends_on(needs, name, needed):
    assert needs.get(name, []) == needed


def test_settings_page_has_every_parameter_and_says_where_the_published_application_differs(parsed):
    page = (ROOT / "docs/settings.md").read_text()
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == [
        name
        for group in parsed["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert "- Not in the published application." in sections["SenderCidrs"]
    assert "- In the published application: `BASIC`, `HEADER`, `NONE`." in sections["WebhookAuth"]
    assert "An update that would set it back" in sections["HashFields"]
    assert "Allowed: 1 to 365." in sections["SoftBounceDays"]


TYPES_OF = [
    ("customer_id", "all"),
    ("event_id", "all but sms_status"),
    ("list_id", "none of the samples"),
    ("fbtype", "spam_complaint"),
    ("retryable", "error"),
    ("target_link_url", "amp_click, click, link_unsubscribe"),
]


@pytest.mark.parametrize(("name", "types"), TYPES_OF)
def test_columns_page_says_which_types_have_a_column(name, types):
    [column] = [column for column in COLUMNS if column.name == name]
    assert columns_page.types_of(column) == types
