"""Athena's API, answered by Trino: for the code that asks Athena, which runs as it is."""

import csv
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from typing import Any

from local_aws.deploy import Deployed
from local_aws.trino import Trino

RESULTS = "athena-results"

Answer = tuple[list[tuple[str, str]], list[list[object]]]


class TrinoAthena:
    """A client as boto3 makes one, of what this project calls of it. `asked` are the statements that came in."""

    def __init__(self, engine: Trino, stack: Deployed) -> None:
        self.engine, self.stack = engine, stack
        self.known: dict[str, Answer] = {}  # by statement: nothing changes while the tests ask
        self.asked: list[str] = []
        self.answers: list[list[list[str | None]]] = []

    def answer(self, sql: str) -> Answer:
        """(name, type) of each column, and the rows."""
        if sql not in self.known:
            self.known[sql] = self.engine.query(sql, self.stack.outputs["GlueDatabaseName"])
        return self.known[sql]

    def start_query_execution(self, **given: Any) -> dict[str, Any]:
        assert given["WorkGroup"] == self.stack.outputs["AthenaWorkGroupName"]
        self.asked.append(given["QueryString"])
        assert given["QueryExecutionContext"]["Database"] == self.stack.outputs["GlueDatabaseName"]
        columns, rows = self.answer(given["QueryString"])
        lines = [[name for name, _ in columns], *([text(value) for value in row] for row in rows)]
        self.answers.append(lines)
        number = str(len(self.answers) - 1)
        file = StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(lines)
        bucket = self.stack.outputs["LakeBucketName"]
        s3 = self.stack.emulator.client("s3")
        s3.put_object(Bucket=bucket, Key=f"{RESULTS}/{number}.csv", Body=file.getvalue().encode())
        return {"QueryExecutionId": number}

    def get_query_execution(self, QueryExecutionId: str) -> dict[str, Any]:  # noqa: N803
        place = f"s3://{self.stack.outputs['LakeBucketName']}/{RESULTS}/{QueryExecutionId}.csv"
        return {
            "QueryExecution": {
                "Status": {"State": "SUCCEEDED"},
                "ResultConfiguration": {"OutputLocation": place},
            }
        }

    def get_paginator(self, operation: str) -> "TrinoAthena":
        assert operation == "get_query_results"
        return self

    def paginate(self, QueryExecutionId: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        lines = self.answers[int(QueryExecutionId)]
        yield {"ResultSet": {"Rows": [{"Data": [cell(value) for value in line]} for line in lines]}}

    def get_table_metadata(self, **given: str) -> Any:
        return self.stack.emulator.client("athena").get_table_metadata(**given)


def cell(value: str | None) -> dict[str, str]:
    return {} if value is None else {"VarCharValue": value}


def text(value: object) -> str | None:
    """As Athena writes a value."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03}"
    return str(value)
