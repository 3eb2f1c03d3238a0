"""The table `events` of a lake in moto's S3, as Glue and Athena give it: SQL by DuckDB, rows where partitions say."""

import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from process.columns import COLUMNS
from process.lake_files import LakeFiles
from tests.integration.stored import stored_objects

DUCKDB = duckdb.connect()  # one for all queries: to begin one takes longer than to ask
DESCRIPTOR: dict[str, Any] = {"Columns": [], "SerdeInfo": {}}


@dataclass
class LakeTable:
    """A client of Glue, and what `Stack.athena` returns. `asked`: the statements. `unregistered`: dates."""

    s3: Any
    bucket: str
    csv: bool = False
    asked: list[str] = field(default_factory=list)
    unregistered: set[str] = field(default_factory=set)

    def get_table(self, **_: Any) -> dict[str, Any]:
        return {"Table": {"StorageDescriptor": DESCRIPTOR}}

    def get_paginator(self, _: str) -> "LakeTable":
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        found = [
            {"Values": [day], "StorageDescriptor": {"Location": place}, "Parameters": {}}
            for day, place in self.partitions().items()
        ]
        return [{"Partitions": found}]

    def batch_update_partition(self, **_: Any) -> dict[str, Any]:
        return {}  # they follow the states

    def partitions(self) -> dict[str, str]:
        """As the table's maintenance points them."""
        files = LakeFiles(self.bucket, True)
        prefix = "events-csv/" if self.csv else "events/"
        found = {}
        for day in files.dates(prefix) | set(files.states()):
            if str(day) in self.unregistered:
                continue
            place = files.state(day).value.location or f"{prefix}event_date={day}/"
            found[str(day)] = f"s3://{self.bucket}/{place}"
        return found

    def result_file(self, sql: str) -> str:
        self.asked.append(sql)
        with tempfile.TemporaryDirectory() as folder, DUCKDB.cursor() as connection:
            connection.execute("CREATE TEMP MACRO regexp_like(text, pattern) AS regexp_matches(text, pattern)")
            connection.execute(f"CREATE TEMP VIEW events AS {self._rows(Path(folder))}")
            result = Path(folder, "result.csv")
            connection.execute(f"COPY ({sql}) TO '{result}' (HEADER, FORCE_QUOTE *)")
            key = f"athena-results/{uuid.uuid4()}.csv"
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=result.read_bytes())
            self.s3.put_object(Bucket=self.bucket, Key=f"{key}.metadata", Body=b"")
        return f"s3://{self.bucket}/{key}"

    def _rows(self, folder: Path) -> str:
        read = "read_csv([{}], all_varchar = true, quote = '\"', escape = '\"'" if self.csv else "read_parquet([{}]"
        tables = []
        for day, place in self.partitions().items():
            prefix = place.removeprefix(f"s3://{self.bucket}/")
            for key, body in stored_objects(self.bucket, prefix).items():
                path = folder / uuid.uuid4().hex
                path.write_bytes(body)
                url = f"s3://{self.bucket}/{key}"
                source = read.format(f"'{path}'")
                tables.append(f"SELECT *, DATE '{day}' AS event_date, '{url}' AS \"$path\" FROM {source})")  # noqa: S608
        if not tables:
            columns = ", ".join(f"NULL::text AS {column.name}" for column in COLUMNS)
            return f"SELECT {columns}, NULL::date AS event_date, '' AS \"$path\" WHERE false"
        return " UNION ALL BY NAME ".join(tables)
