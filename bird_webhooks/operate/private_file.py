"""Files with personal data: readable by their owner alone, and there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bird_webhooks.errors import OperateError


@contextmanager
def private_file(path: Path) -> Iterator[IO[str]]:
    """A text file with mode 600 that takes the place of `path` when all is written.

    After an error the former file is still there: an empty list would be imported as "nobody is suppressed". A symbolic
    link is replaced, not followed.
    """
    if path.exists() and not path.is_file():
        raise OperateError(f"{path} is not a file")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 600
    except OSError as error:
        raise OperateError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            yield file
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink()
        raise
