"""The README names what the template has, and every sample event is used by a test."""

import re
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]


def test_every_parameter_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    parameters = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    assert [name for name in parameters if f"`{name}`" not in readme] == []


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in [ROOT / "README.md", ROOT / "events/README.md"]]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}
    assert named <= targets


def test_every_sample_event_is_played():
    """By name in a test, or as one of the events of a single type, which the demo sends."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = [path.stem for path in (ROOT / "events").glob("*.json") if "_event." not in path.stem]
    assert [name for name in names if f'"{name}' not in tests] == []
