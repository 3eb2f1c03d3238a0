"""What the functions ship is what the developers test, and no file names a package registry."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("package", ["ingest", "process", "load_postgres", "publish_events", "report"])
def test_shipped_versions_are_the_tested_ones(package):
    tested = pins(ROOT / "requirements-dev.txt")
    shipped = pins(ROOT / f"functions/{package}/requirements.txt")
    assert shipped
    assert shipped == {name: tested[name] for name in shipped}


def test_no_file_names_a_registry():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = ["pypi." + "org", "pythonhosted" + ".org", "registry.npmjs" + ".org"]
    assert [file for file in files if any(name in (ROOT / file).read_text(errors="replace") for name in names)] == []
