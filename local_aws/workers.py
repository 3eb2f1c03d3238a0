"""A function's code is unpacked once; MiniStack would write its 50 MB twice for each of the function's processes."""

import io
import os
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack.core import lambda_runtime

make_worker = lambda_runtime.Worker.__init__
_unpacked: dict[str, Path] = {}  # by the code's hash


class Linked:
    """In the place of a ZipFile: the file names the folder in which the code lies unpacked."""

    def __init__(self, file: str) -> None:
        self.folder = Path(file).read_text()

    def __enter__(self) -> "Linked":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def extractall(self, path: str) -> None:
        Path(path).rmdir()
        Path(path).symlink_to(self.folder)


def make_with_unpacked_code(worker: Any, name: str, config: dict[str, Any], code: bytes) -> None:
    """MiniStack makes one worker at a time."""
    if config["CodeSha256"] not in _unpacked:
        folder = _unpacked[config["CodeSha256"]] = Path(tempfile.mkdtemp(prefix="code-"))
        with zipfile.ZipFile(io.BytesIO(code)) as zipped:
            zipped.extractall(folder)
    make_worker(worker, name, config, os.fsencode(_unpacked[config["CodeSha256"]]))


def apply() -> None:
    lambda_runtime.Worker.__init__ = make_with_unpacked_code
    lambda_runtime.zipfile = SimpleNamespace(
        ZipFile=Linked, BadZipFile=zipfile.BadZipFile, LargeZipFile=zipfile.LargeZipFile
    )
