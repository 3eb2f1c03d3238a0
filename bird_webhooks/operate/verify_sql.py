"""The statements of `verify`, in one place, so that the tests with a real Trino ask them too. Pure.

They only count: their results lie in the lake bucket for a week, and Athena keeps their text for 45 days.
"""

# ruff: noqa: S608  (what is written into the statements is made here or comes from the catalogue)
from collections.abc import Collection
from datetime import date
from typing import LiteralString

from bird_webhooks.data import folder

QUERIES = folder("sql/queries")


def rows_of_batch(day: date, batch_id: str) -> str:
    """How many rows of the table the batch has become."""
    return f"SELECT count(*) AS events FROM events WHERE event_date = DATE '{day}' AND batch_id = '{batch_id}'"


def of_view(name: str, columns: Collection[str], day: date) -> str:
    """How many rows the view has: of one day if it knows days, or it would read all of them."""
    where = f" WHERE event_date = DATE '{day}'" if "event_date" in columns else ""
    return f"SELECT count(*) AS events FROM {name}{where}"


# With the schema filled in by psycopg, and the event's class, type and key.
REMOVE_FROM_POSTGRES: LiteralString = "DELETE FROM {}.events WHERE event_class = %s AND type = %s AND event_key = %s"
# For a person to run who reaches the database.
REMOVE_ALL_FROM_POSTGRES = "DELETE FROM {}.events WHERE type = 'bird_webhooks_verify'"


def saved_queries() -> dict[str, str]:
    """Those of this version by name, for a stack that has none."""
    return {path.stem: path.read_text() for path in sorted(QUERIES.glob("*.sql"))}
