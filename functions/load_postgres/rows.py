"""The bytes of a lake file -> what PostgreSQL's COPY reads as CSV. Pure.

Parquet becomes CSV in arro3's Rust code, which takes a tenth of the time that rows of Python values would take.
"""

import csv
import secrets
import sys
from io import BytesIO, StringIO
from typing import NamedTuple
from urllib.parse import unquote

from arro3.core import Table
from arro3.io import read_parquet, write_csv

from load_postgres.errors import PoisonError

MAGIC = b"PAR1"
# What stands for null. The writer quotes neither these nor an empty text, so null has to be something that no value
# is: mostly the first, for no mail has it.
NULL_MARKS = ("\x01", "\x02", "\x7f")
ENCODED = "%:"


class Rows(NamedTuple):
    """`copy_data` has no header; a field that is `null` and not quoted is null."""

    columns: tuple[str, ...]
    copy_data: bytes
    null: str


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
    return Rows(tuple(columns), without_nul(decoded(rest)), "")


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
            return Rows(tuple(table.column_names), without_nul(data), mark)


def read_table(body: bytes) -> Table:
    if len(body) < 12 or body[:4] != MAGIC or body[-4:] != MAGIC:
        raise PoisonError("the file is no Parquet")
    try:
        return read_parquet(BytesIO(body)).read_all()
    except BaseException as error:
        # arro3 panics on a broken file, which is no Exception.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise PoisonError("the Parquet cannot be read") from error
        raise


def to_csv(table: Table, null: str) -> bytes:
    file = BytesIO()
    write_csv(table, file, header=False, null=null)
    return file.getvalue()


def without_nul(data: bytes) -> bytes:
    """PostgreSQL's text cannot hold a NUL: it becomes the six characters that JSON writes for it."""
    return data.replace(b"\0", b"\\u0000") if b"\0" in data else data
