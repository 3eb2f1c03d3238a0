"""The benchmark's access to process' code: what `process/app.py` does, without S3. (days.py runs the maintenance.)

Imports work if PYTHONPATH begins with the built artefact, .aws-sam/build/ProcessFunction.
"""

from collections.abc import Iterable, Iterator
from typing import Any

HANDLERS = {"ingest": "ingest.app", "process": "process.app"}


def imported() -> None:
    """Import what the handler does when its process begins."""
    import process.app  # noqa: F401


def files(batches: Iterable[tuple[str, int, bytes]], output: str) -> Iterator[tuple[int, bytes]]:
    """(batch id, arrival in Unix milliseconds, body) -> (day, file), written as often as the handler does."""
    from process.app import FLUSH_BODY_BYTES, layouts
    from process.normalise import StoredBatch
    from process.rows import Rows
    from process.table import to_csv, to_parquet

    write = {"parquet": to_parquet, "csv": to_csv}[output]
    rows = Rows(layouts())
    for batch_id, received_at, body in batches:
        rows.add(StoredBatch(batch_id, f"raw/{batch_id}.json", received_at, body))
        if rows.body_bytes >= FLUSH_BODY_BYTES:
            yield from ((day, write(table)) for day, table, _ in rows.take_days())
        elif rows.many_wait():
            rows.make_columns()
    yield from ((day, write(table)) for day, table, _ in rows.take_days())
    if rows.quarantined:
        raise RuntimeError("generated events went to quarantine")


def parquet_of(arrow_table: Any) -> bytes:
    """A file from our writer with our settings, for rows in another order."""
    from arro3.core import Table

    from process.table import to_parquet

    return to_parquet(Table.from_arrow(arrow_table))
