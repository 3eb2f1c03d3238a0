"""What every test stands on: a clean environment, fresh functions, the sample events."""

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

import ingest.app
import process.app
import process.lake_files
import process.maintenance
import process.queue
import publish_events.app

# The same few inputs each time, or for the night (--hypothesis-profile nightly) many that nobody has seen yet.
settings.register_profile(
    "quick", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", settings.get_profile("quick"), max_examples=3000, derandomize=False)
settings.load_profile("quick")

# moto makes some 650 machine images for every test that it mocks AWS in: half a second.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

EVENTS = Path(__file__).resolve().parent.parent / "events"
# Files of tests/e2e that do not need the one stack with everything in it.
ALONE = (
    "test_deployments",
    "test_kept_buckets",
    "test_local_aws",
    "test_local_services",
    "test_one_click",
    "test_upgrade",
)


class BySharing(LoadScopeScheduling):
    """What shares a deployed stack goes to one worker, all else by file: a stack takes longer than most tests."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if "e2e" not in Path(path).parts or Path(path).stem in ALONE:
            return path
        return path.replace(Path(path).stem, "test_one_click") if "[sar_stack" in nodeid else "stack"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `nightly` is left to `make test-nightly`."""
    if os.environ.get("NIGHTLY"):
        return
    late = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if item not in late]
    if late:
        config.hook.pytest_deselected(items=late)


def pytest_collection_finish() -> None:
    """Python's collector need not look at all tests and libraries again and again: a tenth of the processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why a test was repeated (`.ci/run` repeats what fails, once) is shown though it passed then."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed, repeated: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySharing:
    return BySharing(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the developer's reaches a test, and no setting of a test the next one."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    cached = [ingest.app.settings, ingest.app.raw_batches, process.app.lake]
    cached += [process.app._output_format, process.app._allow_http, process.app.protection]
    cached += [process.app._raw_places, process.app._raw_retention_days, process.queue.sqs]
    cached += [process.maintenance.lake_files, process.maintenance.settings, process.maintenance.glue]
    cached += [process.maintenance.sns, process.lake_files._s3, process.lake_files._store]
    cached += [publish_events.app.bus, publish_events.app.event_types, publish_events.app._maximum_age_days]
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def load_event() -> Callable[[str], Any]:
    """An invocation event of events/, by name without .json."""

    def load(name: str) -> Any:
        return json.loads((EVENTS / f"{name}.json").read_text())

    return load
