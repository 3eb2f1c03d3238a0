"""Runs statements in the stack's Athena workgroup, all at once, and returns their rows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient

Row = dict[str, str | None]
RUNNING = ("QUEUED", "RUNNING")


class QueryFailedError(Exception):
    """Athena did not answer a statement; the text is Athena's reason."""


@dataclass(frozen=True)
class Athena:
    client: "AthenaClient"
    workgroup: str
    database: str
    timeout_seconds: float = 240
    poll_seconds: float = 0.5

    def rows(
        self, statements: Mapping[str, str], done: Callable[[str], None] = lambda name: None
    ) -> dict[str, list[Row]]:
        """The rows of each statement, by the statement's name. Errors: QueryFailedError."""
        deadline = time.monotonic() + self.timeout_seconds
        started = {name: self._start(sql) for name, sql in statements.items()}
        answers = {}
        for name, query_id in started.items():
            self._wait(name, query_id, deadline)
            answers[name] = self._read(query_id)
            done(name)
        return answers

    def _start(self, sql: str) -> str:
        started = self.client.start_query_execution(
            QueryString=sql, QueryExecutionContext={"Database": self.database}, WorkGroup=self.workgroup
        )
        return started["QueryExecutionId"]

    def _wait(self, name: str, query_id: str, deadline: float) -> None:
        while (status := self.client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"])[
            "State"
        ] in RUNNING:
            if time.monotonic() > deadline:
                raise QueryFailedError(f"{name}: no answer within {self.timeout_seconds:g} s")
            time.sleep(self.poll_seconds)
        if status["State"] != "SUCCEEDED":
            raise QueryFailedError(f"{name}: {status.get('StateChangeReason', status['State'])}")

    def _read(self, query_id: str) -> list[Row]:
        """The first line of a SELECT's result holds the column names."""
        pages = self.client.get_paginator("get_query_results").paginate(QueryExecutionId=query_id)
        lines = [
            [cell.get("VarCharValue") for cell in line["Data"]] for page in pages for line in page["ResultSet"]["Rows"]
        ]
        header, *rows = lines
        return [dict(zip(map(str, header), row, strict=True)) for row in rows]
