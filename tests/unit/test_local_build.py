"""Built functions carry bytecode, which Lambda's read-only /var/task cannot get."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws import deploy as local_stack
from local_aws.emulator import LocalAwsError

CHECKED_HASH = b"\x03\x00\x00\x00"  # PEP 552: by the source's hash, checked when it is imported


def built(folder: Path, source: str, function: str = "SomeFunction") -> Path:
    module = folder / function / "some/app.py"
    module.parent.mkdir(parents=True)
    module.write_text(source)
    return module


def test_each_module_has_its_bytecode_wherever_this_machine_keeps_others(tmp_path, monkeypatch):
    modules = [built(tmp_path / "clone", "ANSWER = 200\n", function) for function in ("SomeFunction", "Another")]
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    local_stack.compile_modules(tmp_path / "clone")
    tag = sys.implementation.cache_tag
    one, other = [(module.parent / f"__pycache__/app.{tag}.pyc").read_bytes() for module in modules]
    assert one == other
    assert one[:8] == importlib.util.MAGIC_NUMBER + CHECKED_HASH
    assert not (tmp_path / "cache").exists()


def test_an_edited_source_is_what_runs(tmp_path):
    module = built(tmp_path, "print(200)\n")
    local_stack.compile_modules(tmp_path)
    before = module.stat()
    module.write_text("print(503)\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))  # as sam package gives all files one time
    run = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = [{str(module.parent)!r}]; import app"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "503\n"


def test_what_does_not_compile_is_said(tmp_path):
    built(tmp_path, "def broken(:\n")
    with pytest.raises(LocalAwsError, match=r"the built functions do not compile: .*SomeFunction/some/app\.py"):
        local_stack.compile_modules(tmp_path)
