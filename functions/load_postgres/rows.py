"""The bytes of a lake file -> what PostgreSQL's COPY reads as CSV. Pure.

Parquet becomes CSV in arro3's Rust code, which takes a tenth of the time that rows of Python values would take.
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

from arro3.core import Table
from arro3.io import read_parquet, write_csv

from load_postgres.errors import PoisonError

MAGIC = b"PAR1"
EVENT_DATE = re.compile(r"/event_date=(\d{4}-\d{2}-\d{2})/")
# What stands for null. The writer quotes neither these nor an empty text, so null has to be something that no value
# is: mostly the first, for no mail has it.
NULL_MARKS = ("\x01", "\x02", "\x7f")
ENCODED = "%:"

# Of more than six digits is none that jsonb takes. Two expressions, each of which begins with a letter that Python's
# `re` can look for without trying to match.
BIG_EXPONENTS = tuple(re.compile(letter + rb"[+-]?0*[1-9][0-9]{2,5}(?![^],}\s\"])") for letter in (b"e", b"E"))
# Between the signs that JSON has around numbers. Ids of hexadecimal digits look like numbers, but lie in quotes.
END_OF_NUMBER = re.compile(rb"(?:^|[,:[\s])-?[0-9]+(?:\.[0-9]+)?\Z")
LONGEST_MANTISSA = 40  # of one that is longer, this much has to be digits alone
LONGEST_FIELD = 2**30  # what a text of PostgreSQL can hold; Python's csv has a limit of 128 kB otherwise


class Rows(NamedTuple):
    """`copy_data` has no header; a field that is `null` and not quoted is null.

    `big_exponents`: there may be a number in it with an exponent of three digits or more.
    """

    columns: tuple[str, ...]
    copy_data: bytes
    null: str
    big_exponents: bool = True


class Rejected(NamedTuple):
    """A row that is no row of the table: its place in the file from 0, its columns as text, and why."""

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


def rows_of(key: str, body: bytes) -> Rows:
    """Errors: PoisonError."""
    if key.endswith(".csv"):
        return from_csv(body)
    if key.endswith(".parquet"):
        return from_parquet(body)
    raise PoisonError("the file is neither Parquet nor CSV")


def from_csv(body: bytes) -> Rows:
    """As process writes it: a header, and an empty field for null."""
    header, _, rest = body.partition(b"\n")
    try:
        [columns] = csv.reader([header.decode()])
    except (ValueError, csv.Error):
        raise PoisonError("the CSV has no header") from None
    rest = decoded(rest)
    return Rows(tuple(columns), without_nul(rest), "", has_big_exponent(rest))


def decoded(rest: bytes) -> bytes:
    """Without percent-encoding: process writes so a text that is empty or has a line end in it. Errors: PoisonError."""
    if ENCODED.encode() not in rest:
        return rest
    csv.field_size_limit(sys.maxsize)
    text = StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_NOTNULL, lineterminator="\n")  # quoted, an empty text is no null
    try:
        for record in csv.reader(StringIO(rest.decode(), newline="")):
            writer.writerow([unquote(f.removeprefix(ENCODED)) if f.startswith(ENCODED) else f or None for f in record])
    except (ValueError, csv.Error):
        raise PoisonError("the CSV cannot be read") from None
    return text.getvalue().encode()


def from_parquet(body: bytes) -> Rows:
    table = read_table(body)
    nulls = sum(column.null_count for column in table.columns)
    marks = iter(NULL_MARKS)
    while True:
        mark = next(marks, "") or secrets.token_hex(8)
        data = to_csv(table, mark)
        if data.count(mark.encode()) == nulls:  # so no value holds it
            return Rows(tuple(table.column_names), without_nul(data), mark, has_big_exponent(data))


def read_table(body: bytes) -> Table:
    if len(body) < 12 or body[:4] != MAGIC or body[-4:] != MAGIC:
        raise PoisonError("the file is no Parquet")
    with arrow_panics_are_poison():
        return read_parquet(BytesIO(body)).read_all()


def to_csv(table: Table, null: str) -> bytes:
    file = BytesIO()
    with arrow_panics_are_poison():
        write_csv(table, file, header=False, null=null)
    return file.getvalue()


@contextmanager
def arrow_panics_are_poison() -> Iterator[None]:
    """arro3 panics on a broken file, which is no Exception. Errors: PoisonError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise PoisonError("the Parquet cannot be read") from error
        raise


type Record = list[str | None]


def records_of(rows: Rows) -> tuple[list[tuple[int, Record]], list[Rejected]]:
    """Each row's place and values, for a file that is not taken whole; and the rows that no table could take.

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
    # What is not UTF-8 was read as halves of surrogate pairs.
    return "" if all(field.isascii() or _is_text(field) for field in fields) else "not UTF-8"


def _is_text(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    r"""With bytes that are not UTF-8 as `\xff`."""
    bytes_of = {name: field.encode(errors="surrogateescape") for name, field in named if field}
    return {name: field.decode(errors="backslashreplace") for name, field in bytes_of.items()}


def has_big_exponent(data: bytes) -> bool:
    """Quick, for it reads every file: beside PostgreSQL's work for a row it is next to nothing."""
    for exponent in BIG_EXPONENTS:
        for found in exponent.finditer(data):
            before = data[max(0, found.start() - LONGEST_MANTISSA) : found.start()]
            if END_OF_NUMBER.search(before) or (len(before) == LONGEST_MANTISSA and not before.strip(b"0123456789.-")):
                return True
    return False


def without_nul(data: bytes) -> bytes:
    """PostgreSQL's text cannot hold a NUL: it becomes the six characters that JSON writes for it."""
    return data.replace(b"\0", b"\\u0000") if b"\0" in data else data
