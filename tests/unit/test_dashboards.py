"""dashboards/: Grafana's own SDK reads its JSON as it was written, and each saved query is there."""

import json
import runpy

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from maintain.check_template import ROOT
from maintain.generate import sql
from tests import grafana

SAVED = {text.name for text in sql.queries()}
QUESTIONS = json.loads((ROOT / "dashboards/metabase/questions.json").read_text())


@pytest.fixture(params=["postgresql", "athena"])
def name(request) -> str:
    return request.param


def test_the_sdk_reads_the_dashboard_and_writes_the_same(name):
    register_default_plugins()
    written = json.loads((ROOT / f"dashboards/grafana/{name}.json").read_text())
    assert json.loads(json.dumps(Dashboard.from_json(written), cls=JSONEncoder)) == written


def test_each_saved_query_has_a_panel_and_a_question(name):
    assert {grafana.query(panel) for panel in grafana.panels(name)} == SAVED
    assert {question["sql"].partition("\n")[0].removeprefix("-- ") for question in QUESTIONS} == SAVED


def test_panels_have_numbers_of_their_own_and_do_not_overlap(name):
    dashboard = json.loads((ROOT / f"dashboards/grafana/{name}.json").read_text())
    open_panels, all_panels = dashboard["panels"], [*dashboard["panels"], *grafana.panels(name)]
    numbers = {panel["id"] for panel in all_panels}
    assert numbers == set(range(1, len(numbers) + 1))
    squares = [
        (x, y)
        for place in (panel["gridPos"] for panel in open_panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(squares) == len(set(squares))


def test_choices_are_in_the_statement_as_quoted_text():
    [panel] = [one for one in grafana.panels("postgresql") if one["title"] == "Messages by day"]
    text = grafana.statement(panel, days=7, provider="O'Brien")
    assert "interval '7' day" in text
    assert "WHERE '' IN ('', subaccount_id)\n      AND 'O''Brien' IN ('', mailbox_provider)" in text


def test_metabase_gets_a_collection_cards_and_a_dashboard_of_them():
    sent = []

    def send(method, path, body):
        sent.append((method, path, body))
        return {"id": len(sent)}

    create = runpy.run_path(str(ROOT / "dashboards/metabase/create.py"))["create"]
    assert create(send, 7, QUESTIONS[:2]) == 4
    assert [(method, path) for method, path, _ in sent] == [
        ("POST", "/api/collection"),
        ("POST", "/api/card"),
        ("POST", "/api/card"),
        ("POST", "/api/dashboard"),
        ("PUT", "/api/dashboard/4"),
    ]
    card = sent[1][2]
    assert card["collection_id"] == 1
    assert card["dataset_query"] == {"type": "native", "database": 7, "native": {"query": QUESTIONS[0]["sql"]}}
    assert [(place["card_id"], place["row"]) for place in sent[4][2]["dashcards"]] == [(2, 8), (3, 16)]
