"""Runs statements in the stack's Athena workgroup, all at once, and returns their rows."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_athena.type_defs import QueryExecutionTypeDef

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
        """The rows of each statement by its name; all run at once. Errors: QueryFailedError."""
        deadline = self._deadline()
        started = {name: self._start(sql) for name, sql in statements.items()}
        answers = {}
        for name, query_id in started.items():
            self._wait(name, query_id, deadline)
            answers[name] = list(self._read(query_id))
            done(name)
        return answers

    def stream(self, sql: str) -> Iterator[Row]:
        """The rows of one statement page by page, however many they are. Errors: QueryFailedError."""
        query_id = self._start(sql)
        self._wait("Athena", query_id, self._deadline())
        yield from self._read(query_id)

    def result_file(self, sql: str) -> str:
        """Where the rows of one statement are, as s3:// address of a CSV file. Errors: QueryFailedError."""
        return self._wait("Athena", self._start(sql), self._deadline())["ResultConfiguration"]["OutputLocation"]

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout_seconds

    def _start(self, sql: str) -> str:
        started = self.client.start_query_execution(
            QueryString=sql, QueryExecutionContext={"Database": self.database}, WorkGroup=self.workgroup
        )
        return started["QueryExecutionId"]

    def _wait(self, name: str, query_id: str, deadline: float) -> "QueryExecutionTypeDef":
        while True:
            execution = self.client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
            status = execution["Status"]
            if status["State"] == "SUCCEEDED":
                return execution
            if status["State"] not in RUNNING:
                raise QueryFailedError(f"{name}: {status.get('StateChangeReason', status['State'])}")
            if time.monotonic() > deadline:
                raise QueryFailedError(f"{name}: no answer within {self.timeout_seconds:g} s")
            time.sleep(self.poll_seconds)

    def _read(self, query_id: str) -> Iterator[Row]:
        """The first line of a SELECT's result has the names of its columns."""
        pages = self.client.get_paginator("get_query_results").paginate(QueryExecutionId=query_id)
        lines = (
            [cell.get("VarCharValue") for cell in line["Data"]] for page in pages for line in page["ResultSet"]["Rows"]
        )
        header = [str(name) for name in next(lines)]
        for line in lines:
            yield dict(zip(header, line, strict=True))
