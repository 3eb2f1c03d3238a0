"""What makes two rows the same event, and whether the table has the unique index for it yet.

Since 0.3 the account is part of the identity. An older table has an index without the account, which rejects a second
account's event with the same id. Until upkeep.py has replaced it, it decides which rows exist already (it is stricter,
so nothing is inserted twice), and a file with an event that it rejects waits for the new one.
"""

from datetime import date
from typing import NamedTuple

from psycopg.sql import SQL, Identifier, Literal

from load_postgres.schema import Connection, quoted

OLD_INDEX = "events_identity"
COLUMNS = SQL("event_key, type, event_class, customer_id, event_date")
OLD_COLUMNS = SQL("event_key, type, event_class, event_date")
# One file has one event_date, and process sorts by type and time, so nearly all rows are in this order already.
# The order does not depend on the file, so two loaders with events in common can wait but never deadlock.
ORDER = SQL("type, timestamp, event_class, event_key, customer_id")


class Identity(NamedTuple):
    """`target` of ON CONFLICT, `order` of the insertion; `old`: the index does not distinguish accounts yet."""

    target: SQL
    order: SQL
    old: bool

    def hidden(self, connection: Connection, schema: str, source: Identifier, event_date: date) -> int:
        """How many rows of `source` are missing in the table after the insertion, rejected by the old index."""
        if not self.old:
            return 0
        sql = SQL(
            "SELECT count(*) FROM {} s WHERE s.event_key IS NOT NULL AND NOT EXISTS (SELECT FROM {} e WHERE "
            "e.event_date = {} AND e.event_key = s.event_key AND e.type IS NOT DISTINCT FROM s.type AND "
            "e.event_class IS NOT DISTINCT FROM s.event_class AND e.customer_id IS NOT DISTINCT FROM s.customer_id)"
        )
        [[count]] = connection.execute(sql.format(source, Identifier(schema, "events"), Literal(event_date))).fetchall()
        return int(count)


def identity_of(connection: Connection, schema: str) -> Identity:
    old = has_index(connection, schema, OLD_INDEX)
    return Identity(OLD_COLUMNS if old else COLUMNS, ORDER, old)


def has_index(connection: Connection, schema: str, name: str) -> bool:
    """Whether the table, not a month of it, has an index of that name."""
    sql = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(%s) AND indrelid = to_regclass(%s)"
    names = [quoted(connection, schema, name), quoted(connection, schema, "events")]
    return bool(connection.execute(sql, names).fetchall()[0][0])
