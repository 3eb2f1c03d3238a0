"""The rows of a person in PostgreSQL: PostgreSQL passes over most rows, and Python decides on the others."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composable, Identifier

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import spellings
from bird_webhooks.operate.mentions import Person
from bird_webhooks.postgres import connected
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import say
from load_postgres.retention import KEPT, months
from load_postgres.schema import CLOSED_FILES, LOADED_FILES

# Only texts can name an address. Of jsonb that is its texts and names: as a text, its numbers may be longer than
# PostgreSQL can hold (1e131071 is stored in some bytes and written with 131,072 digits).
COLUMNS = """
SELECT attname, atttypid = 'jsonb'::regtype FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
  AND atttypid IN ('text'::regtype, 'jsonb'::regtype)
ORDER BY attnum"""
JSON_TEXTS = """jsonb_path_query_array({0}, '$.** ? (@.type() == "string")')::text"""
JSON_NAMES = """jsonb_path_query_array({0}, '$.** ? (@.type() == "object").keyvalue().key')::text"""
ROWS = """
SELECT e.tableoid, e.ctid::text, e.timestamp, known.it, texts.them
FROM {events} AS e
CROSS JOIN LATERAL (SELECT array_remove(ARRAY[{texts}]::text[], NULL) AS them) AS texts
CROSS JOIN LATERAL (SELECT array_to_string(texts.them, ' ') AS them) AS joined
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT FROM unnest(%(hashes)s::text[]) AS hash WHERE position(hash IN joined.them) > 0)
    OR (coalesce(customer_id, ''), event_class, coalesce(type, ''), event_key) IN (
      SELECT * FROM unnest(%(accounts)s::text[], %(classes)s::text[], %(types)s::text[], %(keys)s::text[])
    ) AS it
) AS known
WHERE known.it OR lower(joined.them) LIKE ANY (%(certain)s) OR joined.them ~ %(encoded)s"""
# What mentions.hidden finds for any person, and more: PostgreSQL needs a hundredth of the time for it.
ENCODED = r"\\|%[0-9A-Fa-f]{2}|=(?:[0-9A-Fa-f]{2}|\?)|&(?:#|[A-Za-z]+;)|[^\x01-\x7f]"
# What may be an address: a part of a text around an @, or a short text as a whole, which may have quotes or blanks.
ADDRESSES = """
SELECT candidate.it, CASE WHEN bool_and(e.timestamp IS NOT NULL) THEN min(e.timestamp) END
FROM {events} AS e
CROSS JOIN LATERAL (SELECT array_remove(ARRAY[{texts}]::text[], NULL) AS them) AS texts
CROSS JOIN LATERAL (
  SELECT lower(part[1]) FROM regexp_matches(array_to_string(texts.them, ' '), %(address)s, 'g') AS part
  UNION SELECT lower(one) FROM unnest(texts.them) AS one WHERE one ~ '[@\uff20]' AND length(one) <= 400
) AS candidate(it)
GROUP BY candidate.it"""
ADDRESS = r"""([^[:space:]<>()\[\]{}"',;:=\\]+@[^[:space:]<>()\[\]{}"',;:=\\@]+)"""
DELETE = """
DELETE FROM {events} AS e USING unnest(%(partitions)s::oid[], %(places)s::tid[]) AS gone(partition, place)
WHERE e.tableoid = gone.partition AND e.ctid = gone.place
RETURNING e.event_date"""
FORGET = "DELETE FROM {marks} WHERE event_date = ANY(%s)"
# PostgreSQL refuses DELETE in these: a publication sends their deletes, and nothing says by what.
UNDELETABLE = """
SELECT format('%%s.%%I', c.relnamespace::regnamespace, c.relname) FROM pg_class c
WHERE c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(events)s)) WHERE isleaf)
  AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
    SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary))
  AND EXISTS (
    SELECT FROM pg_publication p CROSS JOIN pg_get_publication_tables(p.pubname) AS t
    WHERE p.pubdelete AND t.relid IN (c.oid, to_regclass(%(events)s)))
ORDER BY 1"""
# Copies of the rows: materialised views of our tables, of views, or of one another, each after what it is made from.
COPIES = """
WITH RECURSIVE users(oid, depth) AS (
  SELECT to_regclass(one)::oid, 0 FROM unnest(%(tables)s::text[]) AS one
  UNION
  SELECT r.ev_class, u.depth + 1
  FROM users u
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> u.oid
)
SELECT n.nspname, c.relname
FROM users u JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated GROUP BY n.nspname, c.relname ORDER BY max(u.depth)"""
AT_ONCE = 1000


class Erased(NamedTuple):
    """A person whose rows are to go; with `until` those of events that happened by then, or have no time."""

    person: Person
    until: datetime | None = None

    def has_row(self, at: datetime | None, texts: Sequence[str], *, known: bool) -> bool:
        """`known`: PostgreSQL found one of the hashes or of the events of a person."""
        if self.until and at and at > self.until:
            return False
        return (known and bool(self.person.events)) or any(map(self.person.in_text, texts))


class Table:
    """`where`: a connection string, or the name of a secret with host, port, dbname, username and password.

    Errors: OperateError if it is not there, or if PostgreSQL would refuse to delete from it: before anything is erased
    elsewhere.
    """

    def __init__(self, stack: Stack, where: str, schema: str) -> None:
        self.events = Identifier(schema, "events")
        self.stack, self.where, self.schema = stack, where, schema
        with connected(stack, where) as connection:  # before hours go into looking elsewhere
            try:
                connection.execute(SQL("SELECT FROM {} LIMIT 1").format(self.events))
            except psycopg.errors.UndefinedTable as error:
                raise OperateError(
                    f"nothing was erased: the database {connection.info.dbname} has no table {schema}.events. If the "
                    "stack loads another database or schema, name it by --postgres and --schema; if it loads none, "
                    "leave out --postgres"
                ) from error
            found = connection.execute(UNDELETABLE, {"events": self.events.as_string(connection)}).fetchall()
            if found:
                changes = "; ".join(f"ALTER TABLE {name} REPLICA IDENTITY FULL" for (name,) in found)
                raise OperateError(
                    "nothing was erased: a publication sends the table's deletes, and PostgreSQL refuses those without "
                    f"a replica identity. As the table's owner run: {changes}"
                )

    def count(self, *people: Erased) -> int:
        with connected(self.stack, self.where) as connection:
            return sum(1 for table in self._tables(connection) for _ in self._of(connection, table, people))

    def addresses(self) -> Iterator[tuple[str, datetime | None]]:
        """What may be an address in a row, and the time of its earliest event; None if one has no time.

        An address may come once from each table.
        """
        with connected(self.stack, self.where) as connection:
            for table in self._tables(connection):
                statement = SQL(ADDRESSES).format(events=table, texts=self._texts(connection, table))
                with connection.cursor("addresses") as cursor:
                    cursor.itersize = AT_ONCE
                    yield from cursor.execute(statement, {"address": ADDRESS})

    def delete(self, *people: Erased) -> None:
        """In one transaction: what was found is what goes, and that files of its days were loaded."""
        with connected(self.stack, self.where) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            days: set[date] = set()
            for table in self._tables(connection):
                found = list(self._of(connection, table, people))
                places = {"partitions": [partition for partition, _ in found], "places": [place for _, place in found]}
                days |= {day for (day,) in connection.execute(SQL(DELETE).format(events=table), places)}
            for marks in self._there(connection, CLOSED_FILES, LOADED_FILES):
                connection.execute(SQL(FORGET).format(marks=marks), [sorted(days)])

    def refresh_copies(self) -> None:
        """Make the copies of the rows in materialised views again.

        Errors: PostgresError, OperateError (a copy is another role's).
        """
        with connected(self.stack, self.where, autocommit=True) as connection:
            tables = [table.as_string(connection) for table in self._tables(connection)]
            for schema, name in connection.execute(COPIES, {"tables": tables}).fetchall():
                say(f"refreshing the materialised view {schema}.{name}")
                try:
                    connection.execute(SQL("REFRESH MATERIALIZED VIEW {}").format(Identifier(schema, name)))
                except psycopg.errors.InsufficientPrivilege as error:
                    raise OperateError(
                        f"{schema}.{name} is a copy of the rows of before. As its owner run: REFRESH MATERIALIZED VIEW "
                        f"{schema}.{name}; then give the command again"
                    ) from error

    def _tables(self, connection: psycopg.Connection[Any]) -> list[Identifier]:
        """With the months that the retention has detached and not dropped yet: the table has them no more."""
        going = [one for one in months(connection, self.schema, date.max) if one.state != "attached"]
        return [self.events, *self._there(connection, KEPT), *(Identifier(self.schema, one.name) for one in going)]

    def _there(self, connection: psycopg.Connection[Any], *names: str) -> list[Identifier]:
        """Those that exist: an older release had none of them."""
        tables = [Identifier(self.schema, name) for name in names]
        exists = "SELECT to_regclass(%s) IS NOT NULL"
        return [one for one in tables if connection.execute(exists, [one.as_string(connection)]).fetchone() == (True,)]

    def _of(
        self, connection: psycopg.Connection[Any], table: Identifier, people: Sequence[Erased]
    ) -> Iterator[tuple[int, str]]:
        """Partition and place of each row of one of them, by one look at the table."""
        statement = SQL(ROWS).format(events=table, texts=self._texts(connection, table))
        with connection.cursor("rows_of_a_person") as cursor:
            cursor.itersize = AT_ONCE
            for partition, place, at, known, texts in cursor.execute(statement, values([one.person for one in people])):
                some = people if known or len(people) == 1 else mentioned(people, texts)
                if any(one.has_row(at, texts, known=known) for one in some):
                    yield partition, place

    def _texts(self, connection: psycopg.Connection[Any], table: Identifier) -> Composable:
        found: list[Composable] = []
        for name, is_json in connection.execute(COLUMNS, [table.as_string(connection)]):
            column = Identifier("e", name)
            found += (SQL(JSON_TEXTS).format(column), SQL(JSON_NAMES).format(column)) if is_json else [column]
        return SQL(", ").join(found)


def values(people: Sequence[Person]) -> dict[str, Any]:
    identities = {event for person in people for event in person.events}
    # As the loader writes it, because PostgreSQL's text has no NUL.
    events = [[part.replace("\0", "\\u0000") for part in event] for event in sorted(identities)]
    names = ("accounts", "classes", "types", "keys")
    columns = {name: [event[place] for event in events] for place, name in enumerate(names)}
    certain = [f"%{person.certain}%" for person in people]  # letters and digits
    hashes = sorted({hashed for person in people for hashed in person.hashes})
    return {"certain": certain, "encoded": ENCODED, "hashes": hashes, **columns}


def mentioned(people: Sequence[Erased], texts: Sequence[str]) -> list[Erased]:
    """Those whose longest run of letters and digits is in a reading of a text. No other can be named in it."""
    decoded = [reading for text in texts for value in spellings.values(text) for reading in spellings.readings(value)]
    # In a quoted local part, a backslash may stand before any character.
    there = "\n".join([*decoded, *(one.replace("\\", "") for one in decoded if "\\" in one)]).lower()
    return [one for one in people if one.person.certain in there]
