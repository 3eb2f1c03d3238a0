"""Rows that PostgreSQL refused -> NDJSON in quarantine/, which `erase` and `quarantine` read. Pure."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from load_postgres.notification import LakeFile
from load_postgres.rows import Rejected

PREFIX = "quarantine/postgres"


def quarantine_object(
    file: LakeFile, rejected: Sequence[Rejected], json_columns: Collection[str], now: datetime, first_row: int = 0
) -> tuple[str, bytes]:
    """The object's key and body. A file, or the part of a closed file that begins at `first_row`, always gets the same
    key, so a second try overwrites the first.

    The key names the day on which one of the batches arrived, as all keys in quarantine/ do.
    """
    arrivals = [_arrived(one.values.get("received_at", ""), now) for one in rejected]
    lines = [
        _line(file, one._replace(position=first_row + one.position), arrived, json_columns)
        for one, arrived in zip(rejected, arrivals, strict=True)
    ]
    # Under the folder of the date a closed file has a folder of its version, a small one none.
    name = file.key.partition("/event_date=")[2].replace("/", "-") + (f"-{first_row}" if first_row else "")
    return f"{PREFIX}/{arrivals[0]:%Y-%m-%d}/{name}.ndjson", "".join(lines).encode()


def _arrived(received_at: str, now: datetime) -> datetime:
    try:
        arrived = datetime.fromisoformat(received_at)
    except ValueError:
        return now
    return arrived if arrived.tzinfo else arrived.replace(tzinfo=now.tzinfo)


def _line(file: LakeFile, one: Rejected, arrived: datetime, json_columns: Collection[str]) -> str:
    """`index` counts the file's rows from 0; `original` has the columns that are not null, as text and JSON."""
    record = {
        "reason": one.reason,
        "batch_id": one.values.get("batch_id"),
        "lake_key": file.key,
        "received_at": arrived.isoformat(timespec="milliseconds"),
        "index": one.position,
    }
    return f'{json.dumps(record, ensure_ascii=False)[:-1]}, "original": {_original(one.values, json_columns)}}}\n'


def _original(values: Mapping[str, str], json_columns: Collection[str]) -> str:
    """JSON columns stay JSON, so that a search for an address has to decode them only once."""
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    texts |= {name: value for name, value in values.items() if name in json_columns and _is_json_line(value)}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}"


def _is_json_line(value: str) -> bool:
    try:
        json.loads(value, parse_int=str)  # Python refuses to make a number of thousands of digits
    except (ValueError, RecursionError):
        return False
    return not set(value) & {"\n", "\r"}
