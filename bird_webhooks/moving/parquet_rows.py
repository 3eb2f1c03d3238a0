"""A Parquet file of any size -> its rows, some thousand at a time. It is read from its end, so from a file on disk."""

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from arro3.io import read_parquet

from bird_webhooks.moving.documents import UnreadableError

ROWS_AT_ONCE = 4096


def parquet_rows(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Errors: UnreadableError."""
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        try:
            for batch in read_parquet(file, batch_size=ROWS_AT_ONCE):
                columns = [batch.column(name).to_pylist() for name in batch.schema.names]
                for values in zip(*columns, strict=True):
                    yield dict(zip(batch.schema.names, values, strict=True))
        except (KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit):
            raise
        except BaseException as error:  # arro3 panics on a corrupt file, and a panic is not an Exception
            raise UnreadableError("not Parquet that can be read") from error
