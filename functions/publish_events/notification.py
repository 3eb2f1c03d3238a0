"""A message of the queue -> the files of rows that it announces. Pure."""

from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec


class UnreadableMessageError(Exception):
    """A message that is no notification of S3's."""


class LakeFile(NamedTuple):
    bucket: str
    key: str


def lake_files(body: str) -> list[LakeFile]:
    """The files of rows in S3's notification, keys decoded; none for s3:TestEvent, and other objects are left out.

    Errors: UnreadableMessageError.
    """
    try:
        notification: Any = msgspec.json.decode(body)
        if notification.get("Event") == "s3:TestEvent":
            return []
        found = [
            LakeFile(record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"], errors="strict"))
            for record in notification["Records"]
            if record["eventName"].startswith(("ObjectCreated:", "s3:ObjectCreated:"))
        ]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableMessageError(type(error).__name__) from error
    return [file for file in found if file.key.endswith((".parquet", ".csv"))]
