"""SQL through the stack's Athena workgroup, as a user would run it."""

import time
from collections.abc import Callable, Sequence

from local_aws.deploy import Deployed
from local_aws.emulator import LocalAwsError
from report.athena import QueryFailedError

QUERY_TIMEOUT_SECONDS = 60

Row = dict[str, str | None]


def query(stack: Deployed, sql: str) -> list[Row]:
    """The rows of one statement, every value as the text that Athena returns. Errors: LocalAwsError."""
    try:
        return list(stack.stack.athena(QUERY_TIMEOUT_SECONDS).stream(sql))
    except QueryFailedError as error:
        raise LocalAwsError(str(error)) from error


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
