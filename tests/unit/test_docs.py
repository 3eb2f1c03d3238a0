"""The README names what the template has, and every sample event is used by a test."""

import re
import shlex
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

from bird_webhooks.__main__ import parsed, parser

ROOT = Path(__file__).resolve().parents[2]


def test_every_parameter_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    parameters = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    assert [name for name in parameters if f"`{name}`" not in readme] == []


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    documents = [ROOT / "README.md", ROOT / "events/README.md", *(ROOT / "docs").glob("*.md")]
    texts = [path.read_text() for path in documents]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}
    assert named <= targets


def test_every_command_of_the_operators_tool_is_in_its_document():
    text = (ROOT / "docs/operating.md").read_text()
    [commands] = [action for action in parser()._actions if action.dest == "command"]
    assert [name for name in commands.choices if f"\n## {name}\n" not in text] == []


def test_every_example_of_the_operators_tool_is_legal():
    text = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    given = re.findall(r"^(?:[a-z./]*python -m bird_webhooks|bird-webhooks) (.*?)(?:  |$)", text, re.MULTILINE)
    assert len(given) > 25
    for line in given:
        if "--help" not in line:
            parsed(shlex.split(line, comments=True))


def test_every_sample_event_is_played():
    """By name in a test, or as one of the events of a single type, which the demo sends."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = [path.stem for path in (ROOT / "events").glob("*.json") if "_event." not in path.stem]
    assert [name for name in names if f'"{name}' not in tests] == []
