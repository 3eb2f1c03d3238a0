"""Builds the wheel of the operator's program: `bird_webhooks`, with what it needs of functions/, sql/ and events/.

Lambda's handlers are named `process.app` and so on, so these packages are at top level here. In the environment of an
operator they must not be: the wheel has them as `bird_webhooks._functions.process`, and its imports say so.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAM, FUNCTIONS = "bird_webhooks", "bird_webhooks/_functions"
PACKAGES = ("ingest", "load_postgres", "process", "reconcile", "register_webhook", "report")
IMPORT = re.compile(rf"^( *from )({'|'.join(PACKAGES)})((?:\.\w+)?) import (.*)$", re.MULTILINE)
DATA = {
    "functions/report/completeness.html": f"{FUNCTIONS}/report",
    "functions/report/page.css": f"{FUNCTIONS}/report",
    "functions/report/page.html": f"{FUNCTIONS}/report",
    "functions/report/page.js": f"{FUNCTIONS}/report",
    "events/samples/*": f"{PROGRAM}/_data/events/samples",
    "sql/queries/*": f"{PROGRAM}/_data/sql/queries",
}


class WheelHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # finds the packages where they are
            return
        self.copies = Path(tempfile.mkdtemp())
        root = Path(self.root)
        included: dict[str, str] = build_data["force_include"]
        for number, (path, text) in enumerate(modules(root).items()):
            copy = self.copies / f"{number}.py"
            copy.write_text(IMPORT.sub(r"\1bird_webhooks._functions.\2\3 import \4", text))
            included[str(copy)] = path
        for pattern, folder in DATA.items():
            for file in sorted(root.glob(pattern)):
                included[str(file)] = f"{folder}/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self.copies)


def modules(root: Path) -> dict[str, str]:
    """The text of each module by its path in the wheel: those of the program, and what they import of functions/."""
    wanted = {path.relative_to(root).as_posix(): path for path in sorted((root / PROGRAM).rglob("*.py"))}
    found: dict[str, str] = {}
    while wanted:
        name, path = wanted.popitem()
        found[name] = path.read_text()
        for _, package, module, names in IMPORT.findall(found[name]):
            parts = [module[1:]] if module else re.findall(r"(\w+)(?: as \w+)?", names)
            for part in ("__init__", *parts):
                file = f"{package}/{part}.py"
                if f"{FUNCTIONS}/{file}" not in found:
                    wanted[f"{FUNCTIONS}/{file}"] = root / "functions" / file
    return dict(sorted(found.items()))
