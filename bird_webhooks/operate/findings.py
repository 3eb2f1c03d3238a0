"""What a check of `verify` found, and what is to be said of it. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OK, WARNING, FAILED, NOT_TRIED = "ok", "warning", "failed", "not tried"


@dataclass(frozen=True)
class Advice:
    """What a failed check means, what to do, and the section that says more."""

    means: str
    do: str
    section: str


class Finding(Exception):  # noqa: N818
    """A check that did not simply pass. `advice` is for this case, where the check's own does not fit."""

    def __init__(self, status: str, said: str, advice: Advice | None = None) -> None:
        super().__init__(said)
        self.status, self.said, self.advice = status, said, advice


def failed(said: str, advice: Advice | None = None) -> Finding:
    return Finding(FAILED, said, advice)


def warning(said: str, advice: Advice | None = None) -> Finding:
    return Finding(WARNING, said, advice)


def not_tried(said: str) -> Finding:
    return Finding(NOT_TRIED, said)


@dataclass(frozen=True)
class Outcome:
    """One line."""

    name: str
    status: str
    seconds: float
    said: str
    advice: Advice | None = None

    @property
    def lines(self) -> str:
        text = f"{self.status:<10}{self.name:<40}{self.seconds:>6.1f} s  {self.said}"
        if self.advice:
            said = [f"Means: {self.advice.means}.", f"Do: {self.advice.do}.", f"More: {self.advice.section}"]
            text += "".join(f"\n{'':<10}{line}" for line in said)
        return text


def scrubbed(text: str, names: Mapping[str, str], secrets: Iterable[str]) -> str:
    """Without secrets, addresses and numbers of an account, for strangers to read. `names`: what stands for what."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "<secret>")
    for value, name in sorted(names.items(), key=lambda item: len(item[0]), reverse=True):
        text = text.replace(value, f"<{name}>")
    text = re.sub(r"[^\s@<>'\"]+@[^\s@<>'\"]+", "<address>", text)
    text = re.sub(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<ip>", text)
    return re.sub(r"\b\d{12}\b", "<account>", text)
