"""SQL through the stack's Athena workgroup, as a user would run it."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from functools import cache

from local_aws.deploy import Stack
from local_aws.emulator import Emulator, LocalAwsError

QUERY_TIMEOUT_SECONDS = 60

Row = dict[str, str | None]
client = cache(Emulator.client)  # half a second of processor time each


def query(stack: Stack, sql: str) -> list[Row]:
    """The rows of one statement, every value as the text that Athena returns.

    On AWS a date more than a month away, as the recorded samples have, is seen within the hour: here, at once.
    """
    maintain(stack, {"register": True})
    athena = client(stack.emulator, "athena")
    started = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": stack.outputs["GlueDatabaseName"]},
        WorkGroup=stack.outputs["AthenaWorkGroupName"],
    )
    query_id = started["QueryExecutionId"]
    deadline = time.monotonic() + QUERY_TIMEOUT_SECONDS
    while (status := athena.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"])[
        "State"
    ] != "SUCCEEDED":
        if status["State"] in ("FAILED", "CANCELLED") or time.monotonic() > deadline:
            raise LocalAwsError(f"Athena query {status['State']}: {status.get('StateChangeReason', sql)}")
        time.sleep(0.1)
    header, *lines = [
        [column.get("VarCharValue") for column in line["Data"]]
        for page in athena.get_paginator("get_query_results").paginate(QueryExecutionId=query_id)
        for line in page["ResultSet"]["Rows"]
    ]
    return [dict(zip([name or "" for name in header], line, strict=True)) for line in lines]


def maintain(stack: Stack, event: dict[str, object] | None = None) -> dict[str, object]:
    """Run the table's maintenance as its schedule does, or with an event of the operator's; what it answers."""
    function = stack.outputs.get("TableMaintenanceFunctionArn")
    if function is None:  # a release before it had one
        return {}
    answer = client(stack.emulator, "lambda").invoke(FunctionName=function, Payload=json.dumps(event or {}).encode())
    body = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise LocalAwsError(f"the table's maintenance failed: {body}")
    return dict(body)


def original_sql(view_original_text: str) -> str:
    """The SQL inside the definition of an Athena view."""
    encoded = view_original_text.removeprefix("/* Presto View: ").removesuffix(" */")
    return str(json.loads(base64.b64decode(encoded, validate=True))["originalSql"])


def poll[T](attempt: Callable[[], T], until: Callable[[T], bool], timeout_seconds: float) -> T:
    """Repeat `attempt` until its value pleases or the time is over; the last value either way."""
    deadline = time.monotonic() + timeout_seconds
    while not until(value := attempt()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return value


def table(rows: Sequence[Row]) -> str:
    """The rows as text in columns."""
    if not rows:
        return "(no rows)"
    lines = [list(rows[0]), *([value or "" for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
