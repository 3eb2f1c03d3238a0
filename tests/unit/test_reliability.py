"""docs/reliability.md and docs/security.md name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("document", "at_least"), [("reliability", 17), ("security", 40)])
def test_every_named_test_exists(document, at_least):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / f"docs/{document}.md").read_text()))
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    written = {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert len(named) >= at_least
    assert named <= written


def test_every_fault_test_is_in_the_table():
    document = (ROOT / "docs/reliability.md").read_text()
    texts = [path.read_text() for path in (ROOT / "tests/faults").glob("test_*.py")]
    written = [name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)]
    assert [name for name in written if f"`{name}`" not in document] == []
