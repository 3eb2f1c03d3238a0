"""Generate all copies of functions/process/columns.py, the list of columns.

They are the Glue table and view in template.yaml, the fields that its parameters accept, and PostgreSQL's columns in
functions/load_postgres/columns.json.

python -m maintain.generate.columns            write both
python -m maintain.generate.columns --check    only say whether they agree
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, Column, ColumnType
from process.protection import IDENTITY_FIELDS, WITHOUT_COLUMN, droppable, hashable
from process.table import ENCODED

DEDUPLICATED = """\
SELECT {columns}, event_date FROM (SELECT *, row_number() OVER (
 PARTITION BY event_date, customer_id, event_class, type, event_key ORDER BY received_at, batch_id, extra NULLS FIRST
) AS copy_number FROM events) WHERE copy_number = 1"""

VIEW_COMMENT = "Each event once. Name event_date in the query, and Athena reads only those days"
DAY = ("event_date", "date")

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
# Functions do not import each other, so load_postgres has a copy.
POSTGRES_COLUMNS = ROOT / "functions/load_postgres/columns.json"
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if they differ")
    check = parser.parse_args().check
    for path, wanted in {TEMPLATE: synced(TEMPLATE.read_text()), POSTGRES_COLUMNS: postgres_columns()}.items():
        if not check:
            path.write_text(wanted)
        elif not path.exists() or path.read_text() != wanted:
            name = path.relative_to(ROOT)
            print(f"{name}: its columns differ from functions/process/columns.py: run `make columns`", file=sys.stderr)
            return 1
    return 0


def postgres_columns() -> str:
    lines = [json.dumps([column.name, POSTGRES_TYPES[column.type], column.description]) for column in COLUMNS]
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"


def synced(text: str) -> str:
    """The template with its column lists and its view regenerated."""
    csv = [(column.name, "string", column.description) for column in COLUMNS]
    typed = [(column.name, GLUE_TYPES[column.type], column.description) for column in COLUMNS]
    text = replaced(text, "csv columns", column_lines(csv))
    text = replaced(text, "columns", column_lines(typed))
    identity = rf"(?!(?:{'|'.join(IDENTITY_FIELDS)})(?:,|$))"
    unknown = re.escape(WITHOUT_COLUMN) + identity + r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64})*"
    text = replaced(text, "droppable fields", pattern_lines([*droppable(), unknown]))
    text = replaced(text, "hashable fields", pattern_lines(hashable()))
    return replaced(text, "view", view_lines())


def pattern_lines(names: Sequence[str]) -> list[str]:
    """A pattern for a comma-separated list of these names, or nothing; as a YAML string of several lines."""
    pattern = f"^$|^(?:(?:{'|'.join(names)})(?:, ?(?!$)|$))+$".replace("\\", "\\\\")
    lines = re.findall(r".{1,100}(?:\||$)", pattern)
    return ['AllowedPattern: "\\', *(f"  {line}\\" for line in lines[:-1]), f'  {lines[-1]}"']


def column_lines(columns: list[tuple[str, str, str]]) -> list[str]:
    return [
        f"{'- ' if index == 0 else '  '}- {{Name: {name}, Type: {kind}, Comment: {json.dumps(comment)}}}"
        for index, (name, kind, comment) in enumerate(columns)
    ]


def view_lines() -> list[str]:
    """The view's columns, and its definition as Athena stores it."""
    glue = [(column.name, GLUE_TYPES[column.type]) for column in COLUMNS]
    trino = [(column.name, TRINO_TYPES[column.type]) for column in COLUMNS]
    sql = [
        "Sql: !If",
        "  - UseCsv",
        f"  - {json.dumps(one_line(view_sql(csv=True)))}",
        f"  - {json.dumps(one_line(view_sql(csv=False)))}",
    ]
    return view_table("events_deduplicated", VIEW_COMMENT, [*glue, DAY], [*trino, DAY], sql)


def view_table(
    name: str, comment: str, glue: Sequence[tuple[str, str]], trino: Sequence[tuple[str, str]], sql: Sequence[str]
) -> list[str]:
    """The TableInput of a view as Athena itself creates one; `sql` sets the variable Sql.

    Athena's guide ("Work with views") requires PartitionKeys. Its engine refuses a table without a serde, and treats
    one as a view only if the comment is `Presto View`. It reads a Glue description instead of that comment, so there
    is none: the definition's `comment` says what the view shows. A view that does not run as its invoker needs an
    owner: Athena writes the account's number.
    """
    definition = '{"originalSql": "${Sql}", "catalog": "awsdatacatalog", "schema": "${GlueDatabase}"'
    definition += f', "columns": ${{Columns}}, "comment": {json.dumps(comment)}, "owner": "${{AWS::AccountId}}"'
    definition += ', "runAsInvoker": false, "path": []}'
    columns = json.dumps([{"name": column, "type": kind} for column, kind in trino])
    return [
        f"Name: {name}",
        "TableType: VIRTUAL_VIEW",
        'Parameters: {presto_view: "true", comment: Presto View}',
        "PartitionKeys: []",
        "StorageDescriptor:",
        "  SerdeInfo: {SerializationLibrary: org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe}",
        "  Columns:",
        *(f"    - {{Name: {column}, Type: {kind}}}" for column, kind in glue),
        "ViewExpandedText: /* Presto View */",
        "ViewOriginalText: !Sub",
        '  - "/* Presto View: ${View} */"',
        "  - View:",
        "      Fn::Base64: !Sub",
        "        - '{}'".format(definition.replace("'", "''")),
        *(f"        {'  ' if number else '- '}{line}" for number, line in enumerate(sql)),
        f"          Columns: '{columns}'",
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


def replaced(text: str, block: str, lines: list[str]) -> str:
    """The text with the lines between the block's marks replaced, indented like the marks."""
    begin = re.search(rf"^( *)# {block}: begin\n", text, re.MULTILINE)
    end = re.search(rf"^ *# {block}: end\n", text, re.MULTILINE)
    if not begin or not end:
        raise SystemExit(f"template.yaml: the marks of the block `{block}` are missing")
    return text[: begin.end()] + "".join(f"{begin[1]}{line}".rstrip() + "\n" for line in lines) + text[end.start() :]


if __name__ == "__main__":
    sys.exit(main())
