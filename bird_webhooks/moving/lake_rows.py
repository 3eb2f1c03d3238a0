"""Rows as values by column: of a date of the lake, and of elements that process would make them of."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from bird_webhooks.moving.byte_stream import byte_stream
from bird_webhooks.moving.parquet_rows import parquet_rows
from bird_webhooks.operate import files
from bird_webhooks.stack import Stack
from process.columns import BIGINT, BOOLEAN, COLUMNS, DOUBLE, JSON, TIMESTAMP, ColumnType
from process.layouts import Layouts
from process.normalise import StoredBatch
from process.protection import Protection, names
from process.rows import Rows
from process.table import ENCODED

PIECE_BYTES = 1024 * 1024
# Where a row came from is not what it says.
ORIGIN = ("batch_id", "received_at")
_JSON_COLUMNS = {column.name for column in COLUMNS if column.type is JSON}
_CONVERTERS: dict[ColumnType, Callable[[str], Any]] = {
    BIGINT: int,
    DOUBLE: float,
    BOOLEAN: "true".__eq__,
    TIMESTAMP: datetime.fromisoformat,
}
_FROM_TEXT = {column.name: _CONVERTERS[column.type] for column in COLUMNS if column.type in _CONVERTERS}

type Row = dict[str, Any]


@dataclass(frozen=True)
class LakeRows:
    stack: Stack

    @cached_property
    def _layouts(self) -> Layouts:
        """One decoder for all calls: making one takes longer than reading an event."""
        return Layouts()

    def of_date(self, day: date) -> Iterator[Row]:
        """Each event at least once. Errors: UnreadableError, for a damaged file."""
        kind = self.stack.parameters["OutputFormat"]
        found = files.of_date(self.stack, day, kind)
        for address in [*found.files, *found.late]:
            bucket, _, key = address.removeprefix("s3://").partition("/")
            chunks = self.stack.s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(PIECE_BYTES)
            yield from parquet_rows(chunks) if kind == "PARQUET" else _csv_rows(chunks)

    def of_elements(self, elements: Sequence[bytes], received_at: datetime) -> Iterator[Row]:
        """As process would write them, with what the stack drops and hashes; of an element twice, one row.

        By one thread at a time.
        """
        rows = Rows(layouts=self._layouts, protection=self._protection)
        rows.add(StoredBatch("", "", int(received_at.timestamp() * 1000), b"[%b]" % b",".join(elements)))
        for day in rows.take_days():
            columns = [day.rows[name].to_pylist() for name in day.rows.schema.names]
            for values in zip(*columns, strict=True):
                yield dict(zip(day.rows.schema.names, values, strict=True))

    @cached_property
    def _protection(self) -> Protection | None:
        parameters = self.stack.parameters
        drop, hashed = names(parameters.get("DropFields", "")), names(parameters.get("HashFields", ""))
        if not drop and not hashed:
            return None
        key = self.stack.secret_text(self.stack.output("HashKeyArn")).encode() if hashed else b""
        return Protection(drop, hashed, key)


def canonical(row: Row, without: Sequence[str] = ORIGIN) -> dict[str, Any]:
    """What it says, whatever the order and the blanks in its JSON; values that are missing are left out."""
    return {
        name: _plain(value) if name in _JSON_COLUMNS else value
        for name, value in row.items()
        if value is not None and name not in without
    }


def _plain(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def _csv_rows(chunks: Iterator[bytes]) -> Iterator[Row]:
    lines = (line.decode() for line in byte_stream(chunks))
    for row in csv.DictReader(lines):
        texts = {
            name: unquote(text.removeprefix(ENCODED)) if text.startswith(ENCODED) else text
            for name, text in row.items()
            if text
        }
        yield {name: _FROM_TEXT.get(name, str)(text) for name, text in texts.items()}
