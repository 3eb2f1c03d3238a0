"""The wheel of the operator's program: everything it imports or reads is in it, under its own name."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = {path.name for path in (ROOT / "functions").iterdir() if (path / "app.py").exists()}
OURS = FUNCTIONS | {"local_aws", "maintain", "demo", "benchmarks", "tests"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = directory.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_nothing_else_is_at_top_level(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bird_webhooks"}
    assert len(tops) == 2


def test_no_module_imports_what_only_the_repository_has(wheel):
    for name in wheel.namelist():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(wheel.read(name))):
                imported = [node.module] if isinstance(node, ast.ImportFrom) else []
                imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert [module for module in imported if str(module).partition(".")[0] in OURS] == [], name


def test_what_is_not_imported_is_as_in_the_repository(wheel):
    for name in wheel.namelist():
        folder, _, rest = name.removeprefix("bird_webhooks/").partition("/")
        if name.endswith(".py"):
            original = ROOT / ("functions/" + rest if folder == "_functions" else name)
            assert wheel.read(name).decode().replace("bird_webhooks._functions.", "") == original.read_text()
        elif folder in ("_functions", "_data"):
            assert wheel.read(name) == (ROOT / ("functions" if folder == "_functions" else "") / rest).read_bytes()
    names = wheel.namelist()
    assert sum("/events/samples/" in name for name in names) == len(list((ROOT / "events/samples").iterdir()))
    assert sum("/sql/queries/" in name for name in names) == len(list((ROOT / "sql/queries").iterdir()))
