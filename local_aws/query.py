"""SQL through the stack's Athena workgroup, as a user would run it."""

import json
import time
from collections.abc import Callable, Sequence

from local_aws.deploy import Deployed
from local_aws.emulator import LocalAwsError
from report.athena import QueryFailedError

QUERY_TIMEOUT_SECONDS = 60

Row = dict[str, str | None]


def query(stack: Deployed, sql: str) -> list[Row]:
    """The rows of one statement, every value as the text that Athena returns. Errors: LocalAwsError.

    On AWS a date more than a month away, as those of the recorded samples, is seen within the hour: here, at once.
    """
    maintain(stack, {"register": True})
    try:
        return list(stack.stack.athena(QUERY_TIMEOUT_SECONDS).stream(sql))
    except QueryFailedError as error:
        raise LocalAwsError(str(error)) from error


def maintain(stack: Deployed, event: dict[str, object] | None = None) -> dict[str, object]:
    """Run the table's maintenance as its schedule does, or with an event of the operator's. Returns what it answers."""
    function = stack.outputs.get("TableMaintenanceFunctionArn")
    if function is None:  # a release before it had one
        return {}
    client = stack.stack.client("lambda")
    answer = client.invoke(FunctionName=function, Payload=json.dumps(event or {}).encode())
    body = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise LocalAwsError(f"the table's maintenance failed: {body}")
    return dict(body)


def poll[T](attempt: Callable[[], T], until: Callable[[T], bool], timeout_seconds: float) -> T:
    """Repeat `attempt` until `until` accepts its value or the time is up. Returns the last value."""
    deadline = time.monotonic() + timeout_seconds
    while not until(value := attempt()) and time.monotonic() < deadline:
        time.sleep(0.2)
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
