"""What the functions ship is what the developers test, and no file names a package registry."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", path.read_text(), re.MULTILINE))


def test_every_dependency_group_is_pinned_with_hashes():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for group, wanted in groups.items():
        text = (ROOT / f"requirements-{group}.txt").read_text()
        names = {re.match(r"[A-Za-z0-9.-]+", one)[0].lower() for one in wanted}
        assert names - pins(ROOT / f"requirements-{group}.txt").keys() == set()
        assert text.count("==") == len(re.findall(r"==[^\n]+\\\n    --hash=sha256:", text))
    assert sorted(ROOT.glob("requirements-*")) == sorted(ROOT / f"requirements-{group}.txt" for group in groups)


def test_the_program_asks_for_what_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = pins(ROOT / "requirements-dev.txt")
    for dependency in map(Requirement, project["dependencies"]):
        assert tested[dependency.name] in dependency.specifier
    oldest = re.search(r"^OLDEST_PYTHON := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert project["requires-python"] == f">={oldest}"


@pytest.mark.parametrize("package", ["ingest", "process", "load_postgres", "publish_events", "reconcile", "report"])
def test_shipped_versions_are_the_tested_ones(package):
    tested = pins(ROOT / "requirements-dev.txt")
    shipped = pins(ROOT / f"functions/{package}/requirements.txt")
    assert shipped
    assert shipped == {name: tested[name] for name in shipped}


def test_no_file_names_a_registry():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = ["pypi." + "org", "pythonhosted" + ".org", "registry.npmjs" + ".org"]
    assert [file for file in files if any(name in (ROOT / file).read_text(errors="replace") for name in names)] == []


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / ".github/workflows").iterdir()))
def test_the_public_workflow_runs_no_code_but_by_its_hash_and_leaves_no_token(name):
    """A tag of an action can be moved; a fork's pull request runs its own code after the checkout."""
    text = (ROOT / ".github/workflows" / name).read_text()
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name)] == []
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]
    assert workflow["permissions"] == {"contents": "read"}
    assert [job for job in workflow["jobs"].values() if "permissions" in job] == []
    assert "pull_request_target" not in text


def test_uv_is_installed_by_its_hash():
    makefile = (ROOT / "Makefile").read_text()
    [install] = re.findall(r"pip install.*?\|\|", makefile, re.DOTALL)
    assert "--require-hashes" in install
    assert "-r requirements-uv.txt" in install
    assert pins(ROOT / "requirements-uv.txt").keys() == {"uv"}


@pytest.mark.parametrize(
    "document", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
)
def test_no_document_puts_a_secret_on_a_command_line(document):
    """Every user of the machine can read it there while the command runs."""
    lines = (ROOT / document).read_text().splitlines()
    odd = r"-hmac |--secret-string \"?\$|-u \w+:|openssl .*-k |postgres(ql)?://\w+:[^@\s]+@"
    assert [line for line in lines if re.search(odd, line)] == []
