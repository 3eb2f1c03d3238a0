"""The operator's program in an environment of its own, as `uv tool install .` and `pipx install .` make one."""

import csv
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from local_aws.deploy import write_outputs
from local_aws.emulator import ROOT

EVERY_MODULE = """
import importlib, pkgutil, bird_webhooks
for module in pkgutil.walk_packages(bird_webhooks.__path__, "bird_webhooks."):
    importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of the programs in an environment with nothing else, from the index that pip is set up for."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input"]
    ours = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT]
    built = subprocess.run([*pip, *ours], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [wheel] = directory.glob("*.whl")
    # --no-compile: most of what it asks for is not run here.
    pip += ["--python", directory / "bin/python"]
    made = subprocess.run([*pip, "install", "--no-compile", wheel], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return directory / "bin"


@pytest.fixture
def run(installed, stack, tmp_path):
    """`run("status")` in a folder that knows nothing but the stack of `make local`."""
    (tmp_path / ".local").mkdir()
    assert write_outputs(stack, tmp_path / ".local").stat().st_mode & 0o777 == 0o600

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
        return subprocess.run(
            [installed / "bird-webhooks", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return command


def test_status_of_the_local_stack(run, stack):
    answer = run("status", "--local")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"stack         {stack.name} ")
    assert "not known" not in answer.stdout
    answer = run("--local", "status", "--json")
    assert json.loads(answer.stdout)["stack"]["name"] == stack.name


def test_report_finds_the_parts_of_its_page(run, tmp_path):
    answer = run("report", "--local", "--days", "1")
    assert (answer.returncode, answer.stdout) == (0, f"{tmp_path}/report.html\n"), answer.stderr
    assert "chart" in (tmp_path / "report.html").read_text()


def test_only_its_own_package_is_at_top_level_and_all_of_it_can_be_imported(installed):
    [record] = installed.parent.glob("lib/*/site-packages/bird_webhooks-*.dist-info/RECORD")
    tops = {Path(path).parts[0] for path, *_ in csv.reader(record.read_text().splitlines())}
    assert tops == {"..", "bird_webhooks", record.parent.name}  # ..: bin/bird-webhooks
    subprocess.run([installed / "python", "-P", "-c", EVERY_MODULE], env={}, cwd=installed, check=True)
