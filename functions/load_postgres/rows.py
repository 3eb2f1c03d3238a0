"""The bytes of a lake file -> what PostgreSQL's COPY reads as CSV. Pure.

arro3's Rust code turns Parquet into CSV, in a tenth of the time that rows of Python values would take.
"""

import csv
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from io import BytesIO, StringIO
from typing import NamedTuple
from urllib.parse import unquote

from arro3.core import Array, DataType, Table
from arro3.io import read_parquet, write_csv

from load_postgres.errors import PoisonError
from load_postgres.schema import json_columns

MAGIC = b"PAR1"
# Of a closed file: a few MB of memory, and seconds of PostgreSQL's time.
ROWS_AT_ONCE = 10_000
# Of a file of Parquet: few, so that PostgreSQL soon has rows to insert; each part costs 1 to 2 ms beside its rows.
ROWS_IN_PART = 2_000
EVENT_DATE_COLUMN = "event_date"  # which files do not have: it is in the name of their folder
EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")
# What stands for null. The writer quotes neither these nor an empty text, so it must be something that no value
# contains: mostly the first, because mail does not contain it.
NULL_MARKS = ("\x01", "\x02", "\x7f")
ENCODED = "%:"

# jsonb accepts no exponent of more than six digits. Two expressions, because each then begins with a letter, which
# Python's `re` finds quickly.
BIG_EXPONENTS = tuple(re.compile(letter + rb"[+-]?0*[1-9][0-9]{2,5}(?![^],}\s\"])") for letter in (b"e", b"E"))
# Between the characters that JSON has around numbers. Hexadecimal ids look like numbers, but are in quotes.
END_OF_NUMBER = re.compile(rb"(?:^|[,:[\s])-?[0-9]+(?:\.[0-9]+)?\Z")
LONGEST_MANTISSA = 40  # in a longer one, this many characters before the exponent must be digits
LONGEST_FIELD = 2**30  # what PostgreSQL's text can hold; the default limit of Python's csv is 128 kB


class NotPlainError(Exception):
    """A value that looks like the null mark, or that jsonb may refuse: such rows go through the staging table."""


class Rows(NamedTuple):
    """`copy_data` has no header; an unquoted field that equals `null` is null.

    The last column may be `event_date`, the same for all rows. `big_exponents`: it may contain a number whose exponent
    has three digits or more.
    """

    columns: tuple[str, ...]
    copy_data: bytes
    null: str
    big_exponents: bool = True

    def parts(self) -> Iterator[bytes]:
        """What COPY takes straight into the table. Errors: NotPlainError."""
        if self.big_exponents:
            raise NotPlainError
        yield self.copy_data

    def whole(self) -> "Rows":
        return self


class ParquetRows(NamedTuple):
    """Rows that become CSV in parts: while PostgreSQL inserts one, the next is made."""

    table: Table
    event_date: date
    null: str = NULL_MARKS[0]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.table.column_names, EVENT_DATE_COLUMN)

    def parts(self) -> Iterator[bytes]:
        """What COPY takes straight into the table. Errors: NotPlainError, also after some parts."""
        for begin in range(0, self.table.num_rows, ROWS_IN_PART):
            count = min(ROWS_IN_PART, self.table.num_rows - begin)  # arro3 refuses a slice that ends behind the table
            part = from_table(self.table.slice(begin, count), self.event_date)
            if part.null != self.null or part.big_exponents:
                raise NotPlainError
            yield part.copy_data

    def whole(self) -> Rows:
        return from_table(self.table, self.event_date)


class Rejected(NamedTuple):
    """A row that the table cannot take: its position in the file from 0, its columns as text, and the reason."""

    position: int
    values: dict[str, str]
    reason: str


def event_date_of(key: str) -> date:
    """The day that the file's folder names. Errors: PoisonError."""
    found = EVENT_DATE.search(key)
    if not found:
        raise PoisonError("the file's key has no event_date")
    try:
        return date.fromisoformat(found[1])
    except ValueError:
        raise PoisonError("the file's key has an event_date that is not a date") from None


def rows_of(key: str, body: bytes) -> Rows | ParquetRows:
    """Errors: PoisonError."""
    if key.endswith(".csv"):
        return from_csv(body)
    if key.endswith(".parquet"):
        return ParquetRows(read_table(body), event_date_of(key))
    raise PoisonError("the file is neither Parquet nor CSV")


def from_csv(body: bytes) -> Rows:
    """CSV as process writes it: with a header, and an empty field for null."""
    header, _, rest = body.partition(b"\n")
    try:
        [columns] = csv.reader([header.decode()])
    except (ValueError, csv.Error):
        raise PoisonError("the CSV has no header") from None
    rest = decoded(rest)
    return Rows(tuple(columns), without_nul(rest), "", has_big_exponent(rest))


def decoded(rest: bytes) -> bytes:
    """Without the percent-encoding that process uses for empty texts and line ends. Errors: PoisonError."""
    if ENCODED.encode() not in rest:
        return rest
    csv.field_size_limit(sys.maxsize)
    text = StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_NOTNULL, lineterminator="\n")  # a quoted empty text is not null
    try:
        for record in csv.reader(StringIO(rest.decode(), newline="")):
            writer.writerow([unquote(f.removeprefix(ENCODED)) if f.startswith(ENCODED) else f or None for f in record])
    except (ValueError, csv.Error):
        raise PoisonError("the CSV cannot be read") from None
    return text.getvalue().encode()


def from_table(table: Table, event_date: date) -> Rows:
    days = Array([str(event_date)] * table.num_rows, DataType.utf8())
    table = table.append_column(EVENT_DATE_COLUMN, days)
    nulls = sum(column.null_count for column in table.columns)
    marks = iter(NULL_MARKS)
    while True:
        mark = next(marks, "") or secrets.token_hex(8)
        data = to_csv(table, mark)
        if data.count(mark.encode()) == nulls:  # so no value holds it
            return Rows(tuple(table.column_names), without_nul(data), mark, has_big_exponent(json_of(table)))


def json_of(table: Table) -> bytes:
    """Only its JSON columns: an eighth of its CSV."""
    return to_csv(table.select([name for name in json_columns() if name in table.column_names]), "")


def read_table(body: bytes) -> Table:
    check_magic(body)
    with arrow_panics_are_poison():
        return read_parquet(BytesIO(body), batch_size=ROWS_AT_ONCE).read_all()


def parts_of(body: bytes) -> Iterator[Table]:
    """A Parquet file in parts of up to ROWS_AT_ONCE rows, in its order. Errors: PoisonError."""
    check_magic(body)
    with arrow_panics_are_poison():
        for batch in read_parquet(BytesIO(body), batch_size=ROWS_AT_ONCE):
            yield Table.from_batches([batch])


def check_magic(body: bytes) -> None:
    if len(body) < 12 or body[:4] != MAGIC or body[-4:] != MAGIC:
        raise PoisonError("the file is not Parquet")


def to_csv(table: Table, null: str) -> bytes:
    file = BytesIO()
    with arrow_panics_are_poison():
        write_csv(table, file, header=False, null=null)
    return file.getvalue()


@contextmanager
def arrow_panics_are_poison() -> Iterator[None]:
    """arro3 panics on a broken file, and a panic is not an Exception. Errors: PoisonError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise PoisonError("the Parquet cannot be read") from error
        raise


type Record = list[str | None]


def records_of(rows: Rows) -> tuple[list[tuple[int, Record]], list[Rejected]]:
    """Each row's position and values, for a file that PostgreSQL refused as a whole; and rows that no table takes.

    Errors: PoisonError (quotes that do not close).
    """
    csv.field_size_limit(LONGEST_FIELD)
    text = StringIO(rows.copy_data.decode(errors="surrogateescape"), newline="")
    good: list[tuple[int, Record]] = []
    rejected: list[Rejected] = []
    try:
        for index, fields in enumerate(fields for fields in csv.reader(text, strict=True) if fields):
            if reason := _damage(fields, len(rows.columns)):
                rejected.append(Rejected(index, _readable(zip(rows.columns, fields, strict=False)), reason))
            else:
                good.append((index, [None if field == rows.null else field for field in fields]))
    except csv.Error:
        raise PoisonError("the CSV is damaged: its quotes do not close") from None
    return good, rejected


def _damage(fields: list[str], columns: int) -> str:
    if len(fields) != columns:
        return f"{len(fields)} fields, not {columns}"
    # Bytes that are not UTF-8 were read as surrogates.
    return "" if all(field.isascii() or _is_text(field) for field in fields) else "not UTF-8"


def _is_text(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    r"""With bytes that are not UTF-8 written as `\xff`."""
    bytes_of = {name: field.encode(errors="surrogateescape") for name, field in named if field}
    return {name: field.decode(errors="backslashreplace") for name, field in bytes_of.items()}


def has_big_exponent(data: bytes) -> bool:
    """Fast, because it reads the JSON of every file, and all of a file of CSV."""
    for exponent in BIG_EXPONENTS:
        for found in exponent.finditer(data):
            before = data[max(0, found.start() - LONGEST_MANTISSA) : found.start()]
            if END_OF_NUMBER.search(before) or (len(before) == LONGEST_MANTISSA and not before.strip(b"0123456789.-")):
                return True
    return False


def without_nul(data: bytes) -> bytes:
    """PostgreSQL's text cannot hold a NUL, so it becomes the six characters that JSON writes for it."""
    return data.replace(b"\0", b"\\u0000") if b"\0" in data else data
