"""Bring the Glue columns of template.yaml up to date with functions/process/columns.py, the one list of columns.

python -m tools.sync_columns            write template.yaml
python -m tools.sync_columns --check    only say whether it agrees
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "functions"))

from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TEXT, TIMESTAMP, ColumnType

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
GLUE_TYPES: dict[ColumnType, str] = {
    TEXT: "string",
    JSON: "string",
    BIGINT: "bigint",
    DOUBLE: "double",
    BOOLEAN: "boolean",
    TIMESTAMP: "timestamp",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if they differ")
    check = parser.parse_args().check
    text = TEMPLATE.read_text()
    wanted = synced(text)
    if check and wanted != text:
        print(
            "template.yaml: its columns differ from functions/process/columns.py: run `make columns`", file=sys.stderr
        )
        return 1
    if not check:
        TEMPLATE.write_text(wanted)
    return 0


def synced(text: str) -> str:
    """The template with both of its column lists written anew."""
    csv = [(column.name, "string", column.description) for column in COLUMNS]
    typed = [(column.name, GLUE_TYPES[column.type], column.description) for column in COLUMNS]
    return replaced(replaced(text, "csv columns", csv), "columns", typed)


def replaced(text: str, block: str, columns: list[tuple[str, str, str]]) -> str:
    indent = " " * 12
    before, begin, rest = text.partition(f"{indent}# {block}: begin\n")
    _, end, after = rest.partition(f"{indent}# {block}: end\n")
    if not begin or not end:
        raise SystemExit(f"template.yaml: the marks of the block `{block}` are gone")
    lines = [
        f"{indent}{'- ' if index == 0 else '  '}- {{Name: {name}, Type: {kind}, Comment: {json.dumps(comment)}}}\n"
        for index, (name, kind, comment) in enumerate(columns)
    ]
    return before + begin + "".join(lines) + end + after


if __name__ == "__main__":
    sys.exit(main())
