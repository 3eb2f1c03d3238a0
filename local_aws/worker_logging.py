"""In a worker of the local Lambda, before the function's own code: log lines as Lambda's JSON format has them.

local_aws/watching.py puts this file into the program of MiniStack's Python workers, so it stands alone. Lambda's own
formatter is in awslambdaric/lambda_runtime_log_utils.py of aws-lambda-python-runtime-interface-client: each item of
`extra` is at the root of the line.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

OWN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class JsonLines(logging.Formatter):
    request_id = ""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "timestamp": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": self.request_id,
        }
        if record.exc_info and record.exc_info[1]:
            line |= error_fields(record.exc_info[1])
        line |= {name: value for name, value in vars(record).items() if name not in OWN}
        return json.dumps(line, default=str)


def error_fields(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return {
        "errorType": type(error).__name__,
        "errorMessage": str(error),
        "stackTrace": traceback.format_list(frames),
        "location": place,
    }


def install_json_lines() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)


def log_failure(error: BaseException) -> None:
    """As Lambda's runtime logs what a handler raised."""
    logging.getLogger().error("%s", error, extra=error_fields(error))
