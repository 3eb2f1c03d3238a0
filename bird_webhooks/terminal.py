"""What the program shows beside its answer, on the standard error: steps, progress, and questions."""

import json
import sys
import time
from typing import Any

from bird_webhooks.errors import OperateError


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def step(text: str) -> None:
    """One step of something that takes a while."""
    say(f"==> {text}")


def print_json(document: Any) -> None:
    """The answer of a command with --json. Times are ISO 8601; ASCII alone, which can say nothing to the terminal."""
    print(json.dumps(document, indent=2, default=lambda value: value.isoformat()))


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`. Errors: OperateError if the answer is no, or if no terminal can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperateError(f"{question} Give --yes where no terminal can answer")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OperateError("nothing was done")


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.every_seconds = 0.2 if self.on_terminal else 10
        self.last = time.monotonic()

    def show(self, text: str) -> None:
        if time.monotonic() - self.last >= self.every_seconds:
            self.last = time.monotonic()
            start, end = ("\r\x1b[K", "") if self.on_terminal else ("", "\n")
            print(f"{start}{text}", end=end, file=sys.stderr, flush=True)

    def done(self) -> None:
        if self.on_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
