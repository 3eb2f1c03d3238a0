"""The rows of one file -> the table, in one transaction: all or none. Rows that exist already are left unchanged.

A file is copied straight into the table. If one of its rows is there already, or is not what the table takes as it is,
the file is copied into a staging table and inserted from there with one statement. If PostgreSQL refuses that, the rows
are inserted one by one, in one transaction too, and those that PostgreSQL refuses are quarantined before the others are
committed.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from functools import lru_cache
from typing import NamedTuple

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from load_postgres import retention
from load_postgres.errors import NotNowError, PoisonError
from load_postgres.identity import Identity, identity_of
from load_postgres.retention import Place, Retention
from load_postgres.rows import EVENT_DATE_COLUMN, NotPlainError, ParquetRows, Rejected, Rows, records_of
from load_postgres.schema import (
    CLOSED_FILES,
    LOADED_FILES,
    STAGING,
    Connection,
    columns,
    make_closed_files,
    make_partition,
)

TEXTS = Identifier("bird_texts")
# A number whose exponent has three digits or more. jsonb writes all its digits out: nine kB of `1e131071` become a text
# of more than 1 GB, which PostgreSQL cannot hold, and each query over the whole table would fail at that row.
BIG_EXPONENT = r"[eE][+-]?0*[1-9][0-9]{2}"
# For JSON that jsonb does not accept: a NUL becomes six characters, as in text columns; a number with a big exponent
# becomes a JSON string; anything else (half a surrogate pair, a number of a million digits) becomes one JSON string
# with the original text. The text is split into strings and what is between them.
AS_JSONB = rf"""
CREATE OR REPLACE FUNCTION pg_temp.bird_as_jsonb(value text) RETURNS jsonb LANGUAGE plpgsql STRICT AS $$
DECLARE safe text := value;
BEGIN
  IF value ~ '[0-9]{BIG_EXPONENT}' THEN
    SELECT string_agg(
      CASE WHEN part[1] LIKE '"%' THEN part[1]
      ELSE regexp_replace(part[1], '-?[0-9]+([.][0-9]+)?{BIG_EXPONENT}[0-9]*', '"\&"', 'g') END, '' ORDER BY place
    ) INTO safe
    FROM regexp_matches(value, '"(?:[^"\\]|\\.)*"|[^"]+|"', 'g') WITH ORDINALITY AS parts (part, place);
  END IF;
  RETURN regexp_replace(safe, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\\\u0000', 'g')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
  RETURN to_jsonb(value);
END $$"""  # noqa: S608
QUICK_JSONB = SQL("{0}::jsonb")
CAREFUL_JSONB = SQL("CASE WHEN {0} ~ {1} THEN pg_temp.bird_as_jsonb({0}) ELSE {0}::jsonb END")
SAFE_JSONB = SQL("pg_temp.bird_as_jsonb({0})")
# Caused by the rows. Class 22 data exception, 23 integrity constraint violation, 54 program limit exceeded; P0001 is
# raised by a user's trigger. https://www.postgresql.org/docs/15/errcodes-appendix.html
PERMANENT_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.RaiseException,
)
# Class 23 without a constraint's name means only that the month's partition is missing: the next try creates it.
INSERT_ROW_BY_ROW = """
DECLARE one record;
BEGIN
  new := 0;
  FOR one IN SELECT ctid AS tid, bird_index FROM {texts} LOOP
    BEGIN
      {insert};
      IF FOUND THEN new := new + 1; END IF;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS place = CONSTRAINT_NAME, state = RETURNED_SQLSTATE;
      IF NOT (left(state, 2) IN ('22', '23', '54') OR state = 'P0001') OR state = '23514' AND place = '' THEN
        RAISE;
      END IF;
      index := one.bird_index;
      RETURN NEXT;
    END;
  END LOOP;
  index := NULL;
  RETURN NEXT;
END"""

EVERYTHING = Retention()

type Quarantine = Callable[[Sequence[Rejected]], None]


class Mark(NamedTuple):
    """What a file that was loaded is known by."""

    file: str
    etag: str


class Loaded(NamedTuple):
    """How many rows a file had, how many of them were new, and how many PostgreSQL refused.

    `hidden`: rows whose id another account has too, while the table's index does not distinguish accounts yet.
    `too_old`: rows of a month that the retention dropped; only what the suppression list needs of them is kept.
    """

    rows: int
    new: int
    rejected: int = 0
    hidden: int = 0
    too_old: int = 0


def fail_on_rejected(rejected: Sequence[Rejected]) -> None:
    raise PoisonError(f"PostgreSQL refused {len(rejected)} rows: {rejected[0].reason}")


def load(
    connection: Connection,
    schema: str,
    event_date: date,
    rows: Rows | ParquetRows,
    quarantine: Quarantine = fail_on_rejected,
    kept: Retention = EVERYTHING,
    mark: Mark | None = None,
) -> Loaded:
    """`quarantine` gets the rows that PostgreSQL refuses, before the others are committed; its errors pass.

    With a `mark`, a file of which all rows are in the table afterwards is known by is_loaded.
    Errors: NotNowError, PoisonError, psycopg.Error.
    """
    known = {EVENT_DATE_COLUMN, *(column.name for column in columns())}
    if unknown := [name for name in rows.columns if name not in known]:
        # During an update, process may know columns that this function does not know yet.
        raise NotNowError(f"a newer version wrote the file: {len(unknown)} columns are not known here")
    place = make_place(connection, schema, event_date, kept)
    insertion = Insertion(connection, schema, event_date, rows, identity_of(connection, schema), place, kept, mark)
    try:
        return insertion.whole_file()
    except PERMANENT_ERRORS as error:
        if is_missing_partition(error):
            raise
        return insertion.row_by_row(quarantine)


def make_place(connection: Connection, schema: str, event_date: date, kept: Retention) -> Place:
    """Where the day's events go; its month is there afterwards."""
    place = retention.place(connection, schema, event_date, kept)
    if place.in_table:
        make_partition(connection, schema, event_date)
    return place


def is_loaded(connection: Connection, schema: str, event_date: date, mark: Mark, kept: Retention = EVERYTHING) -> bool:
    """Whether all rows of the file with this content are in the table, as far as we know."""
    make_place(connection, schema, event_date, kept)  # a month that was dropped is made here, and its marks go
    sql = SQL("SELECT count(*) FROM {} WHERE file = %s AND etag = %s").format(Identifier(schema, LOADED_FILES))
    return bool(connection.execute(sql, mark).fetchall()[0][0])


class Part(NamedTuple):
    """Rows `begin` to `end` of a closed file."""

    file: str
    event_date: date
    begin: int
    end: int


def position(
    connection: Connection, schema: str, event_date: date, file: str, kept: Retention = EVERYTHING, *, again: int = 0
) -> int:
    """How many rows of a closed file are loaded; a file that has `again` of them is begun again."""
    make_place(connection, schema, event_date, kept)
    make_closed_files(connection, schema)
    closed_files = Identifier(schema, CLOSED_FILES)
    new = (
        "INSERT INTO {} AS known (file, event_date, rows) VALUES (%s, %s, 0) ON CONFLICT (file) DO UPDATE SET rows = 0"
    )
    connection.execute(SQL(new + " WHERE known.rows = %s").format(closed_files), [file, event_date, again])
    return _rows_loaded(connection, schema, file)


def load_part(
    connection: Connection,
    schema: str,
    part: Part,
    rows: Rows | ParquetRows,
    quarantine: Quarantine = fail_on_rejected,
    kept: Retention = EVERYTHING,
) -> tuple[int, Loaded]:
    """The file's position afterwards; in the caller's transaction.

    If another execution has loaded the part meanwhile, nothing is done. Errors: as of load.
    """
    found = _rows_loaded(connection, schema, part.file, for_update=True)
    if not part.begin <= found < part.end:
        return found, Loaded(0, 0)
    loaded = load(connection, schema, part.event_date, rows, quarantine, kept)
    connection.execute(
        SQL("UPDATE {} SET rows = %s WHERE file = %s").format(Identifier(schema, CLOSED_FILES)), [part.end, part.file]
    )
    return part.end, loaded


def _rows_loaded(connection: Connection, schema: str, file: str, *, for_update: bool = False) -> int:
    sql = SQL("SELECT rows FROM {} WHERE file = %s {}").format(
        Identifier(schema, CLOSED_FILES), SQL("FOR UPDATE" if for_update else "")
    )
    found = connection.execute(sql, [file]).fetchall()
    return int(found[0][0]) if found else 0


def is_missing_partition(error: psycopg.Error) -> bool:
    """Whether the month's partition was dropped meanwhile: "no partition of relation found for row"."""
    return isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name


class Insertion(NamedTuple):
    """Inserts one file."""

    connection: Connection
    schema: str
    event_date: date
    rows: Rows | ParquetRows
    identity: Identity
    place: Place
    kept: Retention
    mark: Mark | None

    def whole_file(self) -> Loaded:
        """Most files have only rows that are new, and nothing that jsonb refuses: these need no staging."""
        if self.place == Place() and not self.identity.old and self.rows.columns[-1] == EVENT_DATE_COLUMN:
            # A transaction of its own: a savepoint in the other one would cost each file two round trips more.
            with suppress(NotPlainError, *PERMANENT_ERRORS):
                return self._marked(self._directly)
        return self._marked(self._through_staging)

    def _marked(self, insert: Callable[[], Loaded]) -> Loaded:
        with self.connection.transaction():
            self._hold()
            loaded = insert()
            if self.mark and self.place.in_table and not loaded.hidden:
                self._set(self.mark)
            return loaded

    def _directly(self) -> Loaded:
        count = self._copy(Identifier(self.schema, "events"), self.rows.null, self.rows.parts())
        return Loaded(count, count)

    def _through_staging(self) -> Loaded:
        rows = self.rows.whole()
        count = self._copy(STAGING, rows.null, [rows.copy_data])
        try:
            with self.connection.transaction():
                new = self._insert(CAREFUL_JSONB if rows.big_exponents else QUICK_JSONB)
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex):
            new = self._insert(SAFE_JSONB)
        return self._loaded(STAGING, count, new)

    def _set(self, mark: Mark) -> None:
        sql = SQL(
            "INSERT INTO {} (file, etag, event_date) VALUES (%s, %s, %s) "
            "ON CONFLICT (file) DO UPDATE SET etag = EXCLUDED.etag, loaded_at = now()"
        )
        self.connection.execute(sql.format(Identifier(self.schema, LOADED_FILES)), [*mark, self.event_date])

    def row_by_row(self, quarantine: Quarantine) -> Loaded:
        """Insert each row in its own subtransaction, on the server."""
        records, rejected = records_of(self.rows.whole())
        values_at = dict(records)
        with self.connection.transaction():
            self._hold()
            self._copy_texts(records)
            function = SQL(
                "CREATE OR REPLACE FUNCTION pg_temp.bird_insert_rows(OUT index int, OUT state text, OUT place text, "
                "OUT new int) RETURNS SETOF record LANGUAGE plpgsql AS {}"
            )
            insert = SQL("; ").join(self._statements(TEXTS, SAFE_JSONB, one=True))
            body = SQL(INSERT_ROW_BY_ROW).format(texts=TEXTS, insert=insert)
            self.connection.execute(function.format(Literal(body.as_string(self.connection))))
            *refused, (_, _, _, new) = self.connection.execute("SELECT * FROM pg_temp.bird_insert_rows()").fetchall()
            for index, state, place, _ in refused:
                values = zip(self.rows.columns, values_at[index], strict=True)
                given = {name: value for name, value in values if value and name != EVENT_DATE_COLUMN}
                rejected.append(Rejected(index, given, rejection_reason(state, place)))
            loaded = self._loaded(TEXTS, len(records) - len(refused), new)
            if rejected:
                quarantine(sorted(rejected))
        return loaded._replace(rows=loaded.rows + len(rejected), rejected=len(rejected))

    def _hold(self) -> None:
        """Errors: NotNowError, if the month has begun to go since its place was found."""
        if self.event_date < self.kept.today - retention.NEVER_GOING:
            retention.hold(self.connection)
            if retention.place(self.connection, self.schema, self.event_date, self.kept) != self.place:
                raise NotNowError("its month has just begun to be dropped")

    def _insert(self, as_jsonb: SQL) -> int:
        new = 0
        for statement in self._statements(STAGING, as_jsonb):
            new = self.connection.execute(statement).rowcount
        return new

    def _loaded(self, source: Identifier, count: int, new: int) -> Loaded:
        if not self.place.in_table:
            return Loaded(count, 0, too_old=count)
        return Loaded(count, new, hidden=self.identity.hidden(self.connection, self.schema, source, self.event_date))

    def _copy(self, table: Identifier, null: str, parts: Iterable[bytes]) -> int:
        cursor = self.connection.cursor()
        with cursor.copy(copy_statement(table.as_string(), self.rows.columns, null)) as to_server:
            for part in parts:
                to_server.write(part)
        return cursor.rowcount

    def _copy_texts(self, records: Sequence[tuple[int, list[str | None]]]) -> None:
        """All values as text, so that a value that is not a number or a time rejects its own row only."""
        names = [*(column.name for column in columns()), EVENT_DATE_COLUMN]
        texts = [SQL("{} text").format(Identifier(name)) for name in names]
        self.connection.execute(
            SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} (bird_index int, {}) ON COMMIT DELETE ROWS").format(
                TEXTS, SQL(", ").join(texts)
            )
        )
        given = SQL(", ").join(map(Identifier, self.rows.columns))
        with self.connection.cursor().copy(
            SQL("COPY {} (bird_index, {}) FROM STDIN").format(TEXTS, given)
        ) as to_server:
            for index, values in records:
                to_server.write_row((index, *values))

    def _statements(self, source: Identifier, as_jsonb: SQL, *, one: bool = False) -> list[Composed]:
        """From the staging table, where all columns but JSON have their types; or `one` row of the table of texts.

        The last one tells how many rows are new.
        """
        which = SQL("ctid = one.tid") if one else SQL("true")
        kept = retention.keep(self.schema, source, which, SQL("{}::date").format(Literal(self.event_date)), cast=one)
        statements = [kept] if self.place.kept else []
        return [*statements, self._statement(source, as_jsonb, one=one)] if self.place.in_table else statements

    def _statement(self, source: Identifier, as_jsonb: SQL, *, one: bool) -> Composed:
        types = {column.name: column.type for column in columns()}
        values: list[Composed | Identifier] = []
        given = [name for name in self.rows.columns if name != EVENT_DATE_COLUMN]
        for name in given:
            column = Identifier(name)
            if types[name] == "jsonb":
                values.append(as_jsonb.format(column, Literal(f"[0-9]{BIG_EXPONENT}")))
            else:
                values.append(SQL("{}::{}").format(column, SQL(types[name])) if one else column)
        return SQL("INSERT INTO {} ({}, event_date) SELECT {}, {}::date FROM {} {} ON CONFLICT ({}) DO NOTHING").format(
            Identifier(self.schema, "events"),
            SQL(", ").join(map(Identifier, given)),
            SQL(", ").join(values),
            Literal(self.event_date),
            source,
            SQL("WHERE ctid = one.tid") if one else SQL("ORDER BY {}").format(self.identity.order),
            self.identity.target,
        )


@lru_cache(8)
def copy_statement(table: str, columns: tuple[str, ...], null: str) -> bytes:
    """Kept, because quoting a hundred names takes 0.6 ms: for a file of 350 rows a twentieth of all."""
    names = SQL(", ").join(map(Identifier, columns)).as_string()
    return f"COPY {table} ({names}) FROM STDIN (FORMAT csv, NULL {Literal(null).as_string()})".encode()


def rejection_reason(state: str, place: str) -> str:
    """Such as `InvalidTextRepresentation (22P02)`, without PostgreSQL's text, which may hold a value."""
    try:
        name = f"{psycopg.errors.lookup(state).__name__} ({state})"
    except KeyError:
        name = state
    return f"PostgreSQL refused the row: {name}" + (f", {place}" if place else "")
