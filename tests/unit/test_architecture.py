"""Functions stand alone, do nothing at import, their pure modules do no I/O, and imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ROOT / "functions"
PACKAGES = sorted(path.name for path in FUNCTIONS.iterdir() if (path / "app.py").exists())
PURE = [
    "ingest/webhook.py",
    "ingest/credentials.py",
    "ingest/metrics.py",
    "load_postgres/errors.py",
    "load_postgres/messages.py",
    "load_postgres/metrics.py",
    "load_postgres/notification.py",
    "load_postgres/quarantine.py",
    "load_postgres/rows.py",
    "process/addresses.py",
    "process/bounds.py",
    "process/closing.py",
    "process/columns.py",
    "process/day_state.py",
    "process/elements.py",
    "process/gzip_body.py",
    "process/lease.py",
    "process/metrics.py",
    "process/normalise.py",
    "process/notification.py",
    "process/protection.py",
    "process/quarantine.py",
    "process/rows.py",
    "process/table.py",
    "process/tombstones.py",
    "process/unshown.py",
    "publish_events/columns.py",
    "publish_events/delivery.py",
    "publish_events/entries.py",
    "publish_events/holding_back.py",
    "publish_events/metrics.py",
    "publish_events/notification.py",
    "publish_events/quarantine.py",
    "publish_events/rows.py",
    "reconcile/addresses.py",
    "reconcile/api_key.py",
    "reconcile/as_webhook.py",
    "reconcile/calibration.py",
    "reconcile/cells.py",
    "reconcile/early_warning.py",
    "reconcile/metrics.py",
    "reconcile/proved.py",
    "register_webhook/ownership.py",
    "report/charts.py",
    "report/completeness.py",
    "report/counts.py",
    "report/figures.py",
    "report/proved.py",
    "report/queries.py",
    "report/rules.py",
    "storage/announcements.py",
    "storage/places.py",
]
# Functions share no code. What several need is copied, and each copy is the same to the letter, so that a fix in one
# that is missing in the others fails here. A file, or one function or class of a file.
COPIES = [
    (
        "process/cloudformation.py",
        "register_webhook/cloudformation.py",
        "sender_addresses/cloudformation.py",
        "storage/cloudformation.py",
        "webhook_credentials/cloudformation.py",
    ),
    ("load_postgres/notification.py", "publish_events/notification.py"),
    ("report/athena.py", "reconcile/athena.py"),
    ("reconcile/proved.py", "report/proved.py"),
    ("register_webhook/webhook.py:api_key", "reconcile/api_key.py:api_key"),
    ("load_postgres/lake.py:_store", "process/lake.py:_store", "publish_events/lake.py:_store"),
    ("process/addresses.py", "reconcile/addresses.py"),
    *(
        (f"process/tombstones.py:{name}", f"reconcile/tombstones.py:{name}")
        for name in ("Tombstone", "Tombstones", "name", "key_id", "decode", "read")
    ),
    ("load_postgres/metrics.py:counted", "publish_events/metrics.py:counted", "reconcile/metrics.py:counted"),
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


def text_of(place: str) -> str:
    """Of a file, or of the function or class named after a colon, with its decorators."""
    path, _, name = place.partition(":")
    text = (FUNCTIONS / path).read_text()
    if not name:
        return text
    named = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    [found] = [node for node in named if node.name == name]
    first = min(node.lineno for node in [found, *found.decorator_list])
    return "\n".join(text.splitlines()[first - 1 : found.end_lineno])


@pytest.mark.parametrize("copies", COPIES, ids=lambda copies: copies[0].rpartition("/")[2])
def test_copies_are_equal_to_the_letter(copies):
    first, *others = map(text_of, copies)
    for place, text in zip(copies[1:], others, strict=True):
        assert text == first, f"{place} differs from {copies[0]}"


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


def test_a_cold_start_of_ingest_imports_little():
    code = "import sys, ingest.app; assert not {'boto3', 'dataclasses', 'urllib.parse'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=FUNCTIONS, env={}, check=True)


def test_process_is_ready_for_its_first_batch_when_it_is_imported():
    code = "import process.app; assert process.app.layouts.cache_info().currsize == 1"
    subprocess.run([sys.executable, "-c", code], cwd=FUNCTIONS, env={}, check=True)


# Who may import whom; the functions themselves import none of these.
ARROWS = {
    "bird_webhooks": set(),
    "local_aws": {"bird_webhooks"},
    "maintain": {"local_aws", "bird_webhooks"},
    "benchmarks": {"local_aws", "bird_webhooks"},
    "demo": {"maintain", "local_aws", "bird_webhooks"},
}


@pytest.mark.parametrize("package", ARROWS)
def test_imports_point_one_way(package):
    others = ARROWS.keys() - ARROWS[package] - {package} | {"tests"}
    for path in (ROOT / package).rglob("*.py"):
        assert {name for name in imported(path) if name.partition(".")[0] in others} == set(), path


def test_no_function_imports_what_is_not_deployed():
    for path in FUNCTIONS.rglob("*.py"):
        assert {name.partition(".")[0] for name in imported(path)} & (ARROWS.keys() | {"tests"}) == set(), path


def test_no_module_edits_the_path_of_imports():
    for package in (*ARROWS, "functions", "tests"):
        edits = [path for path in (ROOT / package).rglob("*.py") if edits_path(path.read_text())]
        assert edits == []


def edits_path(text: str) -> bool:
    if "sys.path" not in text:
        return False
    nodes = ast.walk(ast.parse(text))
    return any(isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path" for node in nodes)


def test_athena_is_polled_in_one_place():  # and in its copy (COPIES)
    folders = ("functions", *ARROWS)
    polling = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.parts[-2] != "emulated" and "start_query_execution" in path.read_text()
    ]
    assert sorted(polling) == ["functions/reconcile/athena.py", "functions/report/athena.py"]
