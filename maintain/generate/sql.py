"""Generate what comes from sql/: the views and saved queries in template.yaml, and PostgreSQL's views.

Each file in sql/ is for Athena (Trino), PostgreSQL and DuckDB alike. Its head says what it answers and its columns.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from string import Template

import sqlglot

from load_postgres.retention import KEPT, KEPT_COLUMNS, RETENTION
from load_postgres.schema import OUR_VIEW
from maintain.check_template import ROOT
from maintain.generate.columns import EVENT_DATE, one_line, view_table
from process.columns import COLUMNS

BOUNCE_CLASSES = ROOT / "sql/bounce_classes.csv"
BOUNCE_CLASSES_VIEW = ROOT / "sql/views/bounce_classes.sql"
POSTGRES_VIEWS = ROOT / "functions/load_postgres/views.sql"
# A column's type in Glue and in Athena's definition of the view, by its type in the head.
VIEW_TYPES = {
    "varchar": ("string", "varchar"),
    "bigint": ("bigint", "bigint"),
    "boolean": ("boolean", "boolean"),
    "date": ("date", "date"),
    "timestamp": ("timestamp", "timestamp(3)"),
}
# The local AWS runs DuckDB.
DIALECTS = ("athena", "trino", "postgres", "duckdb")
PARAMETERS = {"SoftBounceLimit": "5", "SoftBounceDays": "30"}  # any values, for parsing

BY_MESSAGE = ROOT / "sql/by_message.sql"
# NULL for a message that was neither delivered nor refused within the days: it is not counted.
OF_SENT = "max(CASE WHEN delivered OR refused THEN {column} END)"
# The queries made of it: name -> what it answers, column, meaning of the column
BY = {
    "by_campaign": (
        "what became of each campaign's mail",
        "campaign_id",
        "its name; (none) if it has none",
    ),
    "by_provider": (
        "what each mailbox provider and its readers did with the mail",
        "mailbox_provider",
        "provider of the recipient; (unknown) where Bird names none",
    ),
    "by_sending_domain": (
        "what became of each sending domain's mail",
        "sending_domain",
        "domain of the visible From; (unknown) where Bird names none",
    ),
    "by_ip_pool": ("what became of each IP pool's mail", "ip_pool", "sending IP pool; (none) where Bird names none"),
    "by_sending_ip": (
        "what became of the mail of each IP address",
        "sending_ip",
        "address that the message left from; (unknown) where Bird names none",
    ),
    "by_subaccount": ("what became of each subaccount's mail", "subaccount_id", "0 for the primary account"),
    "by_template": (
        "what became of each template's mail",
        "template_id",
        "its name; (none) if it has none",
    ),
    "by_ab_version": (
        "what became of the mail of each version of each A/B test",
        "ab_version",
        "A/B test and its version; mail without a test is left out",
    ),
}
# Bounces do not name their A/B test, but the injection of the message does.
AB_TEST = ("ab_test_id", "ab_test_version")
AB_VERSION = (
    "CASE WHEN bool_or(delivered OR refused) THEN "
    "max(ab_test_id || ' version ' || COALESCE(CAST(ab_test_version AS varchar), '(unknown)')) END"
)

BOUNCE_CLASSES_HEAD = """\
-- bounce_classes: Bird's bounce classes, and what each means for the recipient
--
-- Written by `make generate` from sql/bounce_classes.csv.
--
-- Columns:
--   bounce_class bigint: Bird's code
--   name varchar: what Bird calls it
--   bounce_group varchar: Bird's category: Hard, Soft, Block, Admin, Undetermined
--   meaning varchar: what happened
--   action varchar: suppress - at once; count - after repetition; none - the class says nothing about the recipient
--   because varchar: the reason for the action
--   counted_as varchar: bounce; admin - Bird did not send it; reply - if out of band, an answer to mail that arrived
"""
POSTGRES_HEAD = """\
-- Written by `make generate` from sql/views. CREATE OR REPLACE keeps the grants on a view, and the views that others
-- made of it. It takes new columns at the end only: a version that takes one away has to drop the view first.
-- load_postgres runs each part between blank lines as one transaction, and knows its views by their comments' end.

"""
# What functions/reconcile writes, of which the view completeness is made; in Athena it is a table over its files.
VERDICT_COLUMNS = (
    ("hour", "timestamp"),
    ("type", "text"),
    ("state", "text"),
    ("ours", "bigint"),
    ("theirs", "bigint"),
    ("stage", "text"),
    ("counted_at", "timestamp"),
    ("missing", "bigint"),
    ("strange", "bigint"),
    ("proof", "text"),
    ("filled", "bigint"),
    ("erased", "bigint"),
    ("filled_at", "timestamp"),
    ("note", "text"),
)
VERDICTS = "CREATE TABLE verdicts (\n      {},\n      PRIMARY KEY (hour, type)\n    );\n".format(
    ",\n      ".join(f"{name} {kind}" for name, kind in VERDICT_COLUMNS)
)
# With the comment by which load_postgres knows what is its own.
MAKE_VERDICTS = f"""\
DO 'BEGIN
  IF to_regclass(''verdicts'') IS NULL THEN
    {VERDICTS}    COMMENT ON TABLE verdicts IS ''What completeness is made of (bird-webhooks)'';
  END IF;
END';
"""
# The table holds each event once.
POSTGRES_EVENTS = "CREATE OR REPLACE VIEW events_deduplicated AS SELECT * FROM events;\n"
# Of months that the retention dropped, their events that the suppression list needs are in a table of their own.
KEPT_NAMES = ", ".join([*KEPT_COLUMNS, "event_date"])
POSTGRES_SIGNALS = f"""\
CREATE OR REPLACE VIEW suppression_events AS
SELECT {KEPT_NAMES}
FROM events
WHERE event_date >= (SELECT COALESCE(max(kept_before), '-infinity') FROM {RETENTION})
UNION ALL
SELECT {KEPT_NAMES}
FROM {KEPT};
"""  # noqa: S608
FROM_VIEW = "FROM events_deduplicated e"
OF_ALL_TIME = "-- Of all time.\n  FROM events_deduplicated e\n"


@dataclass(frozen=True)
class Text:
    """One file of sql/: `head` is its comment, `sql` the statement, `columns` their names, types and meanings."""

    name: str
    head: str
    sql: str
    columns: tuple[tuple[str, str, str], ...]

    @property
    def answers(self) -> str:
        """The first line of the head, without the name."""
        return self.head.splitlines()[0].partition(": ")[2]

    @property
    def logical_id(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))


def problems() -> list[str]:
    """What one of the engines cannot read, or a head that does not name the columns of its statement."""
    return [finding for text in (*views(), *queries()) for finding in unreadable(text)]


def read(path: Path) -> Text:
    """As it should be, which a generated file may not be yet."""
    if path == BOUNCE_CLASSES_VIEW:
        return parsed(path.stem, bounce_classes_sql())
    return parsed(path.stem, with_classes(by_message_queries().get(path) or path.read_text()))


def parsed(name: str, text: str) -> Text:
    lines = text.splitlines(keepends=True)
    body = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    head = "".join(lines[:body])
    columns = re.findall(r"^--   (\w+) (\w+(?:\(\d+,\d+\))?): (.*)$", head, re.MULTILINE)
    return Text(name, head, "".join(lines[body:]), tuple(columns))


def queries() -> list[Text]:
    return [read(path) for path in sorted({*(ROOT / "sql/queries").glob("*.sql"), *by_message_queries()})]


def views() -> list[Text]:
    """Each view after those that it uses."""
    found = {path.stem: read(path) for path in sorted((ROOT / "sql/views").glob("*.sql"))}
    needs = {
        name: {other for other in found if other != name and names(text.sql, other)} for name, text in found.items()
    }
    return [found[name] for name in TopologicalSorter(needs).static_order()]


def names(sql: str, view: str) -> bool:
    return re.search(rf"\b{view}\b", sql) is not None


def unreadable(text: Text) -> Iterator[str]:
    sql = text.sql
    for name, value in PARAMETERS.items():
        sql = sql.replace(f"${{{name}}}", value)
    for dialect in DIALECTS:
        try:
            statement = sqlglot.parse_one(sql, dialect=dialect, error_level=sqlglot.ErrorLevel.RAISE)
        except sqlglot.errors.ParseError as error:
            yield f"sql: {text.name} is not {dialect}: {error}"
        else:
            if not isinstance(statement, sqlglot.exp.Query) or statement.named_selects != [
                name for name, _, _ in text.columns
            ]:
                yield f"sql: {text.name}: the columns of its head are not those it selects"


def bounce_classes() -> list[dict[str, str]]:
    with BOUNCE_CLASSES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if any(None in row for row in rows):
        raise SystemExit(f"{BOUNCE_CLASSES}: a value with a comma needs quotation marks")
    return rows


def with_classes(text: str) -> str:
    """`${SuppressClasses}` and `${NoneClasses}` are the classes with that action."""
    for action in ("suppress", "none"):
        classes = ", ".join(row["bounce_class"] for row in bounce_classes() if row["action"] == action)
        text = text.replace(f"${{{action.capitalize()}Classes}}", classes)
    return text


def bounce_classes_sql() -> str:
    rows = bounce_classes()
    first, *others = list(rows[0])
    values = [
        ", ".join([f"CAST({row[first]} AS bigint)", *(f"CAST({literal(row[name])} AS varchar)" for name in others)])
        for row in rows
    ]
    listed = ",\n  ".join(f"({line})" for line in values)
    columns = ", ".join(rows[0])
    return f"{BOUNCE_CLASSES_HEAD}SELECT {columns}\nFROM (VALUES\n  {listed}\n) AS classes ({columns})\n"


def by_message_queries() -> dict[Path, str]:
    """The text of each query that is made of sql/by_message.sql."""
    text = Template(BY_MESSAGE.read_text())
    made = {}
    for name, (answers, column, meaning) in BY.items():
        ab_test = name == "by_ab_version"
        made[ROOT / f"sql/queries/{name}.sql"] = text.substitute(
            name=name,
            answers=answers,
            column=column,
            meaning=meaning,
            columns=", ".join(dict.fromkeys([*(AB_TEST if ab_test else [column]), "mailbox_provider"])),
            of_message=AB_VERSION if ab_test else OF_SENT.format(column=column),
            types="'injection', " if ab_test else "",
        )
    return made


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def verdicts_resource() -> list[str]:
    """The table over the small files of JSON of functions/reconcile: one for each date, written as a whole."""
    glue = {"text": "string"}
    return [
        "VerdictsTable:",
        "  Type: AWS::Glue::Table",
        "  DependsOn: SettingsGuard",
        "  Properties:",
        "    CatalogId: !Ref AWS::AccountId",
        "    DatabaseName: !Ref GlueDatabase",
        "    TableInput:",
        "      Name: verdicts",
        "      Description: What was found of each hour and event type; ask the view completeness",
        "      TableType: EXTERNAL_TABLE",
        '      Parameters: {EXTERNAL: "TRUE", classification: json}',
        "      PartitionKeys: []",
        "      StorageDescriptor:",
        '        Location: !Sub ["s3://${Lake}/completeness/cells/", *lake_name]',
        "        InputFormat: org.apache.hadoop.mapred.TextInputFormat",
        "        OutputFormat: org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        "        SerdeInfo: {SerializationLibrary: org.openx.data.jsonserde.JsonSerDe}",
        "        Columns:",
        *(f"          - {{Name: {name}, Type: {glue.get(kind, kind)}}}" for name, kind in VERDICT_COLUMNS),
    ]


def view_resource(view: Text) -> list[str]:
    sql = statement(view)
    if '"' in sql or "\\" in sql:
        raise SystemExit(f"sql: {view.name} becomes a JSON string as it is: no quotation marks, no backslashes")
    columns = [(name, *VIEW_TYPES[kind], meaning) for name, kind, meaning in view.columns]
    given = [f"Sql: {'!Sub ' if '${' in sql else ''}{json.dumps(sql)}"]
    return [
        f"{view.logical_id}View:",
        "  Type: AWS::Glue::Table",
        "  DependsOn: EventsDeduplicatedView",
        "  Properties:",
        "    CatalogId: !Ref AWS::AccountId",
        "    DatabaseName: !Ref GlueDatabase",
        "    TableInput:",
        *(f"      {line}" for line in view_table(view.name, view.answers, columns, given)),
    ]


def query_resource(query: Text) -> list[str]:
    return [
        f"{query.logical_id}Query:",
        "  Type: AWS::Athena::NamedQuery",
        "  Properties:",
        "    Database: !Ref GlueDatabase",
        "    WorkGroup: !Ref AthenaWorkGroup",
        f"    Name: {query.name}",
        f"    Description: {json.dumps(query.answers)}",
        "    QueryString: |",
        *(f"      {line}".rstrip() for line in (query.head + query.sql).splitlines()),
    ]


def statement(text: Text) -> str:
    """The SQL on one line, without comments."""
    return one_line(re.sub(r"^ *--.*$", "", text.sql, flags=re.MULTILINE))


def postgres_sql() -> str:
    """Views on the table `events`; load_postgres runs them with the schema as search path and both parameters set."""
    events = [(column.name, column.description) for column in COLUMNS]
    signals = [*((name, meaning) for name, meaning in events if name in KEPT_COLUMNS), ("event_date", EVENT_DATE)]
    made = [POSTGRES_EVENTS + comments("events_deduplicated", "Each event once", [*events, ("event_date", EVENT_DATE)])]
    made += [POSTGRES_SIGNALS + comments("suppression_events", "What suppression_candidates is made from", signals)]
    made += [
        f"CREATE OR REPLACE VIEW {view.name} AS\n{postgres_text(view)};\n"
        + comments(view.name, view.answers, [(name, meaning) for name, _, meaning in view.columns])
        for view in views()
    ]
    return POSTGRES_HEAD + "\n".join([MAKE_VERDICTS, *made])


def postgres_text(view: Text) -> str:
    """From the table, not the view of it: planning a view within a view, with all its columns, takes time."""
    return view.sql.rstrip().replace(OF_ALL_TIME, "FROM suppression_events e\n").replace(FROM_VIEW, "FROM events e")


def comments(view: str, answers: str, columns: Sequence[tuple[str, str]]) -> str:
    of_columns = (f"COMMENT ON COLUMN {view}.{name} IS {literal(meaning)};\n" for name, meaning in columns)
    return f"COMMENT ON VIEW {view} IS {literal(f'{answers} {OUR_VIEW}')};\n" + "".join(of_columns)
