"""Dashboards of the saved queries: for Grafana, made by Grafana's own foundation SDK, and for Metabase. Pure."""

import json
import re
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

from grafana_foundation_sdk.builders import athena as athena_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import athena
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    VariableOption,
)

from maintain.check_template import ROOT
from maintain.generate import sql
from maintain.generate.sql import Text

FOLDER = ROOT / "dashboards"
POSTGRESQL, ATHENA = "grafana-postgresql-datasource", "grafana-athena-datasource"
# What a person chooses above the panels. sqlstring makes a quoted SQL text of a value.
FILTERS = {"subaccount": "subaccount_id", "provider": "mailbox_provider", "domain": "sending_domain"}
DAYS = ("7", "30", "90")
WIDTH = 24
PERCENTS = r"/(_rate|_share|^share|^(opened|clicked|unsubscribed)_(24h|72h|7d))$/"
COLOURS = {"act": "red", "watch": "orange", "fine": "green", "few": "text", "not reported": "text"}


class Panel(NamedTuple):
    """`columns`: of a chart over days; none for a table."""

    query: str
    columns: tuple[str, ...] = ()
    width: int = WIDTH
    title: str = ""


# Title of the row, whether it is folded, and its panels. What is folded asks nothing until it is opened.
ROWS: list[tuple[str, bool, list[Panel]]] = [
    (
        "Delivery",
        False,
        [
            Panel("delivered", ("accepted", "bounced", "delayed", "admin_bounced", "rejected"), 12, "Messages by day"),
            Panel("delivered", ("accepted_rate", "bounce_rate", "delayed_rate", "stopped_rate"), 12, "Rates by day"),
            Panel("provider_day"),
            Panel("new_reasons"),
            Panel("bounces_by_class_and_provider", width=12),
            Panel("worst_domains", width=12),
            Panel("delays_and_waiting", width=12),
            Panel("time_to_delivery", width=12),
            Panel("stopped_by_bird"),
        ],
    ),
    (
        "Complaints",
        False,
        [Panel("complaints_by_delivery_day", width=12), Panel("complaint_rate_by_campaign", width=12)],
    ),
    ("Campaigns and readers", False, [Panel("by_campaign"), Panel("campaign_cohorts"), Panel("by_provider")]),
    (
        "By domain, pool, address, subaccount, template, test",
        True,
        [
            *(
                Panel(f"by_{name}")
                for name in ("sending_domain", "ip_pool", "sending_ip", "subaccount", "template", "ab_version")
            ),
            Panel("likely_scanners"),
        ],
    ),
    (
        "What reads all days",
        True,
        [Panel("engagement_segments", width=12), Panel("suppression_growth", width=12)],
    ),
]


class Query(Builder[Dataquery]):
    """A query whose data source the SDK does not know: PostgreSQL's, as Grafana's editor writes it."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def build(self) -> Dataquery:
        return UnknownDataquery(self.data)


class AthenaQuery(athena_builders.Dataquery):
    """Its answer is used for an hour again, because Athena charges each time."""

    @classmethod
    def of(cls, text: str, source: DataSourceRef) -> Self:
        reused = athena_builders.ConnectionArgs().result_reuse_enabled(True).result_reuse_max_age_in_minutes(60)
        made = cls().raw_sql(text).format(athena.FormatOptions.TABLE).connection_args(reused)
        return made.ref_id("A").datasource(source)


def files() -> dict[Path, str]:
    """The text of each generated file."""
    return {
        FOLDER / "grafana/postgresql.json": grafana(POSTGRESQL, "PostgreSQL"),
        FOLDER / "grafana/athena.json": grafana(ATHENA, "Athena"),
        FOLDER / "metabase/questions.json": json.dumps(questions(), indent=1) + "\n",
    }


def grafana(kind: str, name: str) -> str:
    source = DataSourceRef(kind, "${datasource}")
    texts = {text.name: text for text in sql.queries()}
    made = (
        builders.Dashboard(f"Deliverability ({name})")
        .uid(f"bird-webhooks-{name.lower()}")
        .tags(["bird-webhooks"])
        .description(
            "Written by make generate from sql/queries of bird-webhooks. docs/metrics.md says what each figure is"
        )
        .time("now-30d", "now")
        .timezone("utc")
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type(kind))
        .with_variable(
            builders.CustomVariable("days")
            .label("Days")
            .values(",".join(DAYS))
            .allow_custom_value(allow_custom_value=False)
            .current(VariableOption(selected=True, text="30", value="30"))
        )
    )
    for variable, column in FILTERS.items():
        made.with_variable(
            builders.TextBoxVariable(variable)
            .label(column)
            .description("Empty: all")
            .default_value("")
            .current(VariableOption(selected=True, text="", value=""))
        )
    numbers = count(1)
    for title, folded, panels in ROWS:
        row = builders.Row(title).id(next(numbers))
        shown = [panel_of(panel, texts[panel.query], source).id(next(numbers)) for panel in panels]
        if folded:
            for panel in shown:
                row.with_panel(panel)
            made.with_row(row.collapsed(True))
        else:
            made.with_row(row)
            for panel in shown:
                made.with_panel(panel)
    return json.dumps(made.build(), cls=JSONEncoder, indent=1) + "\n"


def panel_of(panel: Panel, text: Text, source: DataSourceRef) -> table.Panel | timeseries.Panel:
    made = timeseries.Panel().fill_opacity(10) if panel.columns else table.Panel().filterable(filterable=True)
    made.title(panel.title or title(text)).description(description(text)).datasource(source)
    made.span(panel.width).height(9).with_target(target(text, source))
    made.override_by_regexp(PERCENTS, [DynamicConfigValue("unit", "percent")])
    if panel.columns:
        shown = {"names": ["day", *panel.columns]}
        made.with_transformation(DataTransformerConfig("filterFieldsByName", options={"include": shown}))
        to_time = {"conversions": [{"targetField": "day", "destinationType": "time"}]}
        made.with_transformation(DataTransformerConfig("convertFieldType", options=to_time))
        made.with_transformation(DataTransformerConfig("sortBy", options={"sort": [{"field": "day"}]}))
    if any(name == "verdict" for name, _, _ in text.columns):
        colours = {"type": "value", "options": {word: {"color": colour} for word, colour in COLOURS.items()}}
        cells = DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
        made.override_by_name("verdict", [DynamicConfigValue("mappings", [colours]), cells])
    return made


def target(text: Text, source: DataSourceRef) -> Builder[Any]:
    if source.type_val == ATHENA:
        return AthenaQuery.of(statement(text), source)
    return Query(
        {
            "refId": "A",
            "datasource": {"type": source.type_val, "uid": source.uid},
            "format": "table",
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": statement(text),
        }
    )


def statement(text: Text) -> str:
    """The saved query with the choices of the dashboard in it."""
    wanted = "\n      AND ".join(f"${{{name}:sqlstring}} IN ('', {column})" for name, column in FILTERS.items())
    # What is written into it are names of this module.
    chosen = f"FROM (\n    SELECT * FROM mail_events\n    WHERE {wanted}\n  ) \\1"  # noqa: S608
    filtered = re.sub(r"FROM mail_events (e)$", chosen, text.sql, flags=re.MULTILINE)
    filtered = re.sub(r"FROM (mail_events)$", chosen, filtered, flags=re.MULTILINE)
    return f"-- {text.name}\n{filtered.replace("interval '30' day", "interval '${days}' day")}"


def questions() -> list[dict[str, object]]:
    """For dashboards/metabase/create.py: in the order of Grafana's panels, each query once."""
    texts = {text.name: text for text in sql.queries()}
    names = dict.fromkeys(panel.query for _, _, panels in ROWS for panel in panels)
    return [
        {
            "name": title(texts[name]),
            "description": description(texts[name]),
            "display": "line" if name == "delivered" else "table",
            "sql": f"-- {name}\n{texts[name].sql}",
        }
        for name in names
    ]


def title(text: Text) -> str:
    return text.answers[0].upper() + text.answers[1:]


def description(text: Text) -> str:
    """What the head of the query says before its columns, and where the columns are explained."""
    lines = [line.removeprefix("--").strip() for line in text.head.partition("-- Columns:")[0].splitlines()[1:]]
    said = " ".join(line for line in lines if line and not line.startswith("Written by"))
    return f"{said} Columns: docs/downstream/queries.md, {text.name}".strip()
