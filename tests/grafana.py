"""The statements of dashboards/grafana, as Grafana sends them."""

import json
from collections.abc import Iterator
from typing import Any

from maintain.check_template import ROOT


def panels(name: str) -> Iterator[dict[str, Any]]:
    """Those with a query, also in folded rows."""
    for panel in json.loads((ROOT / f"dashboards/grafana/{name}.json").read_text())["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def statement(panel: dict[str, Any], days: int = 30, **chosen: str) -> str:
    """With these choices; what is not chosen is empty."""
    [target] = panel["targets"]
    text: str = target["rawSQL" if "rawSQL" in target else "rawSql"]
    for name in ("subaccount", "provider", "domain"):
        value = chosen.get(name, "").replace("'", "''")
        text = text.replace(f"${{{name}:sqlstring}}", f"'{value}'")
    text = text.replace("${days}", str(days))
    assert "$" not in text
    return text


def query(panel: dict[str, Any]) -> str:
    """The name of its saved query."""
    return statement(panel).partition("\n")[0].removeprefix("-- ")
