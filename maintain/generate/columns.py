"""The copies of functions/process/columns.py, the list of columns: one text for each place that has one. Pure."""

import json
import re
from collections.abc import Sequence

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.metrics import TYPES
from process.protection import IDENTITY_FIELDS, WITHOUT_COLUMN, droppable, hashable
from process.table import ENCODED

GLUE_TYPES: dict[ColumnType, str] = {
    TEXT: "string",
    JSON: "string",
    BIGINT: "bigint",
    DOUBLE: "double",
    BOOLEAN: "boolean",
    TIMESTAMP: "timestamp",
}
# The names of the same types in Athena's views.
TRINO_TYPES: dict[ColumnType, str] = {
    TEXT: "varchar",
    JSON: "varchar",
    BIGINT: "bigint",
    DOUBLE: "double",
    BOOLEAN: "boolean",
    TIMESTAMP: "timestamp(3)",
}
POSTGRES_TYPES: dict[ColumnType, str] = {
    TEXT: "text",
    JSON: "jsonb",
    BIGINT: "bigint",
    DOUBLE: "double precision",
    BOOLEAN: "boolean",
    TIMESTAMP: "timestamptz",
}

EVENT_DATE = "UTC date of the event"
# The resource `EventsTable`, but for its columns.
EVENTS_TABLE = """\
EventsTable:
  Type: AWS::Glue::Table
  DependsOn: [SettingsGuard, DatesRegisteredBefore]
  Properties:
    CatalogId: !Ref AWS::AccountId
    DatabaseName: !Ref GlueDatabase
    TableInput:
      Name: events
      Description: One row per event, at least once; identity is (customer_id, event_class, type, event_key)
      TableType: EXTERNAL_TABLE
      Parameters:
        EXTERNAL: "TRUE"
        classification: !If [UseCsv, csv, parquet]
        skip.header.line.count: !If [UseCsv, "1", !Ref AWS::NoValue]
      PartitionKeys:
        - {Name: event_date, Type: date, Comment: EVENT_DATE}
      StorageDescriptor:
        Location: !Sub ["s3://${Lake}/${Folder}/", {Lake: *lake_bucket, Folder: !If [UseCsv, events-csv, events]}]
        InputFormat: !If
          - UseCsv
          - org.apache.hadoop.mapred.TextInputFormat
          - org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat
        OutputFormat: !If
          - UseCsv
          - org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat
          - org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat
        SerdeInfo: !If
          - UseCsv
          # The serde that reads quoted fields gives every column as text.
          - SerializationLibrary: org.apache.hadoop.hive.serde2.OpenCSVSerde
            Parameters: {separatorChar: ",", quoteChar: '"', escapeChar: "\\uE000"}
          - SerializationLibrary: org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe
        Columns: !If
          - UseCsv
""".replace("EVENT_DATE", EVENT_DATE)

DEDUPLICATED = """\
SELECT {columns}, event_date FROM (SELECT *, row_number() OVER (
 PARTITION BY event_date, customer_id, event_class, type, event_key ORDER BY received_at, batch_id, extra NULLS FIRST
) AS copy_number FROM events) WHERE copy_number = 1"""
DEDUPLICATED_VIEW = """\
# What `CREATE VIEW` in Athena would make. Its columns have types in CSV too, where the table's are text.
EventsDeduplicatedView:
  Type: AWS::Glue::Table
  DependsOn: EventsTable
  Properties:
    CatalogId: !Ref AWS::AccountId
    DatabaseName: !Ref GlueDatabase
    TableInput:
"""
VIEW_COMMENT = "Each event once. Name event_date in the query, and Athena reads only those days"

# name, Glue's type, Trino's type, comment
ViewColumn = tuple[str, str, str, str]


def events_table() -> list[str]:
    """The Glue table; its columns are all text where the files are CSV."""
    csv = [(column.name, "string", column.description) for column in COLUMNS]
    typed = [(column.name, GLUE_TYPES[column.type], column.description) for column in COLUMNS]
    indent = " " * 10
    listed = [f"{indent}{line}" for columns in (csv, typed) for line in column_lines(columns)]
    return [*EVENTS_TABLE.splitlines(), *listed]


def column_lines(columns: Sequence[tuple[str, str, str]]) -> list[str]:
    return [
        f"{'- ' if index == 0 else '  '}- {{Name: {name}, Type: {kind}, Comment: {json.dumps(comment)}}}"
        for index, (name, kind, comment) in enumerate(columns)
    ]


def deduplicated_view() -> list[str]:
    """The view that gives each event once, and the definition that Athena keeps in it."""
    columns = [(c.name, GLUE_TYPES[c.type], TRINO_TYPES[c.type], c.description) for c in COLUMNS]
    columns.append(("event_date", "date", "date", EVENT_DATE))
    sql = [
        "Sql: !If",
        "  - UseCsv",
        f"  - {json.dumps(one_line(view_sql(csv=True)))}",
        f"  - {json.dumps(one_line(view_sql(csv=False)))}",
    ]
    table = view_table("events_deduplicated", VIEW_COMMENT, columns, sql)
    return [*DEDUPLICATED_VIEW.splitlines(), *(f"      {line}" for line in table)]


def view_table(name: str, comment: str, columns: Sequence[ViewColumn], sql: Sequence[str]) -> list[str]:
    """The TableInput of a view as Athena itself makes one; `sql` gives the variable Sql.

    Athena's guide ("Work with views") requires PartitionKeys. Its engine refuses a table without a serde, and treats
    one as a view only if the comment is `Presto View`. It reads a Glue description instead of that comment, so there
    is none: the definition's `comment` says what the view shows. A view that does not run as its invoker needs an
    owner: Athena writes the account's number. Athena writes no comments of columns into the definition, so only Glue's
    columns have them.
    """
    definition = '{"originalSql": "${Sql}", "catalog": "awsdatacatalog", "schema": "${GlueDatabase}"'
    definition += f', "columns": ${{Columns}}, "comment": {json.dumps(comment)}, "owner": "${{AWS::AccountId}}"'
    definition += ', "runAsInvoker": false, "path": []}'
    trino = json.dumps([{"name": column, "type": kind} for column, _, kind, _ in columns])
    return [
        f"Name: {name}",
        "TableType: VIRTUAL_VIEW",
        'Parameters: {presto_view: "true", comment: Presto View}',
        "PartitionKeys: []",
        "StorageDescriptor:",
        "  SerdeInfo: {SerializationLibrary: org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe}",
        "  Columns:",
        *(
            f"    - {{Name: {column}, Type: {kind}, Comment: {json.dumps(meaning)}}}"
            for column, kind, _, meaning in columns
        ),
        "ViewExpandedText: /* Presto View */",
        "ViewOriginalText: !Sub",
        '  - "/* Presto View: ${View} */"',
        "  - View:",
        "      Fn::Base64: !Sub",
        "        - '{}'".format(definition.replace("'", "''")),
        *(f"        {'  ' if number else '- '}{line}" for number, line in enumerate(sql)),
        f"          Columns: '{trino}'",
    ]


def one_line(sql: str) -> str:
    return " ".join(sql.split())


def view_sql(*, csv: bool) -> str:
    """Each event once: the copy that came first. No quotation marks, because it goes into a JSON string as it is."""
    return DEDUPLICATED.format(columns=", ".join(typed_from_text(column) if csv else column.name for column in COLUMNS))


def typed_from_text(column: Column) -> str:
    """CSV's columns are text in Athena, so the view gives them the types that they have in Parquet."""
    match column.type:
        case "TEXT" | "JSON":  # the serde reads a missing value as empty text
            text = f"nullif({column.name}, '')"
            decoded = f"url_decode(substr({column.name}, {len(ENCODED) + 1}))"
            return f"CASE WHEN starts_with({column.name}, '{ENCODED}') THEN {decoded} ELSE {text} END AS {column.name}"
        case "TIMESTAMP":
            text = f"replace(replace({column.name}, 'T', ' '), 'Z', '')"
            return f"try_cast({text} AS timestamp) AS {column.name}"
        case _:
            return f"try_cast({column.name} AS {TRINO_TYPES[column.type]}) AS {column.name}"


def droppable_pattern() -> str:
    """What the parameter DropFields may be."""
    identity = rf"(?!(?:{'|'.join(IDENTITY_FIELDS)})(?:,|$))"
    unknown = re.escape(WITHOUT_COLUMN) + identity + r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64})*"
    return pattern([*droppable(), unknown])


def hashable_pattern() -> str:
    """What the parameter HashFields may be."""
    return pattern(hashable())


def pattern(names: Sequence[str]) -> str:
    """A list of such names, with commas between them, or nothing."""
    return f"^$|^(?:(?:{'|'.join(names)})(?:, ?(?!$)|$))+$"


def postgres_columns() -> str:
    """functions/load_postgres/columns.json."""
    lines = [json.dumps([column.name, POSTGRES_TYPES[column.type], column.description]) for column in COLUMNS]
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"


PUBLISH_EVENTS = '''\
"""The types of the columns in a file of rows that are not plain text; and the types of events.

A Parquet file says which columns are numbers, flags and times, but not which text is JSON; a CSV file says nothing.
Written by `make generate` from functions/process, because no function imports another.
"""

from enum import StrEnum


class Kind(StrEnum):
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"
    JSON = "JSON"


KINDS = {
KINDS_LISTED
}

# Types of events that Bird documents.
BIRD_TYPES = frozenset(
    {
TYPES_LISTED
    }
)
'''


def publish_events_columns() -> str:
    """functions/publish_events/columns.py."""
    kinds = [f'    "{column.name}": Kind.{column.type},' for column in COLUMNS if column.type is not TEXT]
    types = [f'        "{name}",' for name in sorted(name for names in TYPES.values() for name in names.split())]
    return PUBLISH_EVENTS.replace("KINDS_LISTED", "\n".join(kinds)).replace("TYPES_LISTED", "\n".join(types))
