"""Findings of checkov and cfn-lint (AWS's serverless rules too) in both templates; prints nothing if there are none.

What is suppressed stands with its reason in the template, or in .checkov.yaml and .cfnlintrc for every resource of a
kind. Both tools run at once, offline, in an environment of their own.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from local_aws.yaml_text import yaml_parse
from maintain.check_template import REGION, ROOT

TOOLS = ROOT / ".venv-review/bin"
TEMPLATES = ("template.yaml", "alb.yaml")
CHECKOV = ["checkov", "--framework", "cloudformation", "--skip-download", "--quiet", "--compact", "--output", "json"]
CFN_LINT = ["cfn-lint", "--append-rules", "cfn_lint_serverless.rules", "--regions", REGION, "--", *TEMPLATES]


class WrittenOut(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def main() -> int:
    if not TOOLS.exists():
        print("checkov and cfn-lint are not installed in .venv-review: run `make install-all` first")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        checkov = started(*CHECKOV, "--file", *(str(written_out(name, Path(folder))) for name in TEMPLATES))
        cfn_lint = started(*CFN_LINT)
        findings = [*findings_of_checkov(checkov.communicate()[0]), cfn_lint.communicate()[0].strip()]
    for finding in filter(None, findings):
        print(finding)
    return 1 if cfn_lint.returncode or any(findings) else 0


def started(program: str, *options: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([TOOLS / program, *options], cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def written_out(name: str, folder: Path) -> Path:
    """A copy without anchors: checkov does not know YAML's merge keys, and passes over a file that it cannot parse."""
    path = folder / name
    path.write_text(yaml.dump(yaml_parse((ROOT / name).read_text()), Dumper=WrittenOut, sort_keys=False, width=10**6))
    return path


def findings_of_checkov(said: str) -> list[str]:
    try:
        answer = json.loads(said)
        failed, unread = answer["results"]["failed_checks"], answer["summary"]["parsing_errors"]
    except (ValueError, KeyError, TypeError):
        return [said.strip() or "checkov said nothing"]
    found = [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed]
    return found + [f"checkov could not read {unread} of the templates"] * bool(unread)


if __name__ == "__main__":
    sys.exit(main())
