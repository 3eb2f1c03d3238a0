"""docs/columns.md: every column, with its types, Bird's field and the types of events that have it; and the views'."""

import json
from collections.abc import Iterable, Sequence, Set
from functools import cache

from maintain.generate import sql
from maintain.generate.columns import EVENT_DATE, GLUE_TYPES, POSTGRES_TYPES
from maintain.generate.events import SAMPLES
from process.columns import COLUMNS, Column
from process.metrics import NAMES, TYPES

HEAD = """\
# Columns

Written by `make generate` from [`functions/process/columns.py`](../functions/process/columns.py), Bird's samples in
[`events/samples`](../events/samples) and [`sql/views`](../sql/views): change them there.

## events and events_deduplicated

The table `events` in Athena has a row for each event, at least once. The view `events_deduplicated` has the same
columns and each event once. In PostgreSQL the table `events` holds each event once, and the view `events_deduplicated`
is the same. With `OutputFormat=CSV` all columns of Athena's table `events` are text; those of the view have the types
below.

Times are in UTC, with milliseconds, from 1900 to 2199. Any other time is NULL, and its text is in `extra`, because some
readers refuse a whole file for one time that they cannot hold: Spark before 1900, pandas in nanoseconds after 2262. If
the event's own time is NULL, `event_date` is the date on which its batch arrived.

"Event types" are the types whose sample at Bird has the field; the name of a class, such as `relay_event`, stands for
all of its types. The samples show every documented field at once. A real event carries fewer, and may carry others.
"""
MOST = 14  # of the 27 types: from here on the page names the types that lack the field


def page() -> str:
    rows = [
        [
            f"`{column.name}`",
            GLUE_TYPES[column.type],
            POSTGRES_TYPES[column.type],
            f"`{column.field}`" if column.field else "",
            column.description,
            types_of(column),
        ]
        for column in COLUMNS
    ]
    rows.append(["`event_date`", "date", "date", "", EVENT_DATE, "all"])
    parts = [HEAD, table(["Column", "Athena", "PostgreSQL", "Bird's field", "Meaning", "Event types"], rows)]
    for view in sql.views():
        columns = [[f"`{name}`", kind, meaning] for name, kind, meaning in view.columns]
        parts += [f"## {view.name}\n\n{view.answers[0].upper()}{view.answers[1:]}.\n"]
        parts.append(table(["Column", "Type", "Meaning"], columns))
    return "\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '\\|') for cell in line)} |\n" for line in lines)


def types_of(column: Column) -> str:
    """The types of events that have the column's field, as Bird's samples have it."""
    if column.field is None:
        return "all"
    having = {kind for kind in NAMES if has(sample(*kind), column.field)}
    if having == NAMES.keys():
        return "all"
    if len(having) >= MOST:
        return f"all but {named(NAMES.keys() - having)}"
    return named(having) or "none of the samples"


def named(kinds: Set[tuple[str, str]]) -> str:
    """Those types, whole classes by their name."""
    parts = []
    for event_class, names in TYPES.items():
        of_class = [name for name in names.split() if (event_class, name) in kinds]
        parts += [event_class] if of_class == names.split() else of_class
    return ", ".join(parts)


@cache
def sample(event_class: str, kind: str) -> dict[str, object]:
    [item] = json.loads((SAMPLES / f"{event_class}.{kind}.json").read_text())
    event: dict[str, object] = item["msys"][event_class]
    return event


def has(event: dict[str, object], field: str) -> bool:
    name, _, member = field.partition(".")
    value = event.get(name)
    return name in event and (not member or (isinstance(value, dict) and member in value))
