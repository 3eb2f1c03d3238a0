"""Findings of checkov and of AWS's serverless rules for cfn-lint in both templates; prints nothing if there are none.

What is suppressed stands with its reason in the template, or in .checkov.yaml and .cfnlintrc for every resource of a
kind. Both tools run at once, offline, in an environment of their own.
"""

import subprocess
import sys

from maintain.check_template import REGION, ROOT

TOOLS = ROOT / ".venv-review/bin"
COMMANDS = [
    [
        "checkov",
        "--framework",
        "cloudformation",
        "--skip-download",
        "--quiet",
        "--compact",
        "--file",
        "template.yaml",
        "alb.yaml",
    ],
    ["cfn-lint", "--append-rules", "cfn_lint_serverless.rules", "--regions", REGION, "--", "template.yaml", "alb.yaml"],
]


def main() -> int:
    if not TOOLS.exists():
        print("checkov and cfn-lint are not installed in .venv-review: run `make install-all` first")
        return 1
    running = [
        subprocess.Popen(
            [TOOLS / program, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for program, *options in COMMANDS
    ]
    said = [process.communicate()[0] for process in running]
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            print(text.strip())
    return 1 if any(process.returncode for process in running) else 0


if __name__ == "__main__":
    sys.exit(main())
