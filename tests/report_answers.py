"""Answers to the report's queries as Athena gives them, all text. In the file, counts that are 0 are left out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from report.queries import MEASURES, TROUBLES, WATCHED, Period

WEEK = Period(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 11, tzinfo=UTC))
ZEROS = {f"{name}{suffix}": "0" for name in MEASURES for suffix in ("", "_before")}
ANSWERS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).resolve().parent / "data/report_answers.json").read_text()
)
ANSWERS["groups"] = [ZEROS | row for row in ANSWERS["groups"]]
NOTHING = {
    **{name: [] for name in ANSWERS},
    "totals": [dict.fromkeys(ANSWERS["totals"][0], "0")],
    "groups": [ZEROS | {"dimension": "all", "name": "", "account": "", "place": "1", "all_groups": "1"}],
}


def answers(everything: dict[str, int] | None = None, **others: Any) -> dict[str, list[dict[str, Any]]]:
    """ANSWERS, with other counts of all mail, or other rows of a query."""
    [first, *rest] = ANSWERS["groups"]
    changed = {name: str(value) for name, value in (everything or {}).items()}
    return {**ANSWERS, "groups": [first | changed, *rest], **others}


def group(dimension: str, name: str, account: str = "", **counts: int) -> dict[str, Any]:
    """A row of the query `groups`."""
    row = {"dimension": dimension, "name": name, "account": account, "place": "1", "all_groups": "1"}
    return ZEROS | row | {measure: str(value) for measure, value in counts.items()}


def overlap(troubles: dict[str, int], **values: str) -> dict[str, Any]:
    """A row of the query `overlaps`."""
    return (
        {"account": "", **dict.fromkeys(WATCHED, "(unknown)"), **dict.fromkeys(TROUBLES, "0")}
        | values
        | {name: str(value) for name, value in troubles.items()}
    )
