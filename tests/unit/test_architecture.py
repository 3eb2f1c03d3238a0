"""Functions stand alone, do nothing at import, and their pure modules do no I/O."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
PACKAGES = sorted(path.name for path in FUNCTIONS.iterdir() if (path / "app.py").exists())
PURE = [
    "ingest/webhook.py",
    "ingest/credentials.py",
    "ingest/metrics.py",
    "load_postgres/errors.py",
    "load_postgres/metrics.py",
    "load_postgres/notification.py",
    "load_postgres/quarantine.py",
    "load_postgres/rows.py",
    "process/bounds.py",
    "process/closing.py",
    "process/columns.py",
    "process/day_state.py",
    "process/elements.py",
    "process/gzip_body.py",
    "process/metrics.py",
    "process/normalise.py",
    "process/notification.py",
    "process/protection.py",
    "process/quarantine.py",
    "process/rows.py",
    "process/table.py",
    "publish_events/columns.py",
    "publish_events/delivery.py",
    "publish_events/entries.py",
    "publish_events/metrics.py",
    "publish_events/notification.py",
    "publish_events/quarantine.py",
    "publish_events/rows.py",
    "report/figures.py",
    "report/queries.py",
]
IO_MODULES = {"boto3", "obstore", "os", "socket", "urllib.request", "pathlib", "time", "logging"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_imports_another(package):
    others = set(PACKAGES) - {package}
    for path in (FUNCTIONS / package).glob("*.py"):
        assert not {name.partition(".")[0] for name in imported(path)} & others


@pytest.mark.parametrize("module", PURE)
def test_pure_module_does_no_io(module):
    assert not imported(FUNCTIONS / module) & IO_MODULES


@pytest.mark.parametrize("package", PACKAGES)
def test_handler_imports_with_an_empty_environment(package):
    code = f"import {package}.app"
    subprocess.run([sys.executable, "-c", code], cwd=FUNCTIONS, env={}, check=True)


def test_maintenance_imports_with_an_empty_environment():
    code = "import process.maintenance"
    subprocess.run([sys.executable, "-c", code], cwd=FUNCTIONS, env={}, check=True)


def test_process_does_not_pay_for_what_maintenance_imports():
    code = "import sys, process.app; assert not {'boto3', 'process.closing'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=FUNCTIONS, env={}, check=True)
