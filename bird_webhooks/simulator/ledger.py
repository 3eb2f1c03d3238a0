"""What was sent, and what became of it: a file of one JSON object a line, written before the batch goes out."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bird_webhooks.simulator.batches import Batch

ACCEPTED, GIVEN_UP = "accepted", "given up"


class Ledger:
    """Safe for many threads. A file that is there already is gone on with: its batches count too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str | None] = {}  # by batch id; None: no answer yet
        if path.exists():
            for line in self._lines():
                if "failed" not in line:
                    self.outcomes[line["batch_id"]] = line.get("outcome")
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def sending(self, batch: Batch) -> None:
        """To be called before the first byte goes out."""
        with self._lock:
            if batch.batch_id not in self.outcomes:
                self.outcomes[batch.batch_id] = None
                body = batch.body.decode(errors="surrogateescape")  # a test may send what is no UTF-8
                self._write({"batch_id": batch.batch_id, "events": batch.events, "body": body, "at": _now()})

    def failed(self, batch: Batch, attempts: int, answer: str) -> None:
        """Whose first `attempts` attempts failed; `answer` is what the sender saw last."""
        with self._lock:
            self._write({"batch_id": batch.batch_id, "failed": attempts, "answer": answer, "at": _now()})

    def done(self, batch: Batch, outcome: str) -> None:
        with self._lock:
            if self.outcomes[batch.batch_id] != ACCEPTED:  # what was accepted once stays so
                self.outcomes[batch.batch_id] = outcome
                self._write({"batch_id": batch.batch_id, "outcome": outcome, "at": _now()})

    def batches(self) -> Iterator[Batch]:
        """All that was sent, read back from the file."""
        for line in self._lines():
            if "body" in line:
                body = line["body"].encode(errors="surrogateescape")
                yield Batch(line["batch_id"], body, line["events"])

    def close(self) -> None:
        self._file.close()

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):  # not the last one of a run that was cut off
                    yield json.loads(line)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat()
