"""`erase` on what `import` has brought in: rows, raw batches, quarantine, the ledger; and nobody comes back."""

import json
import os
from pathlib import Path

import pytest

from bird_webhooks import __main__ as operate
from maintain.generate.events import sqs
from process import app
from tests.integration.test_erase import (  # noqa: F401  # fixtures
    LAKE,
    OTHER,
    PERSON,
    RAW,
    aws,
    event,
    holders,
    mode,
    rows,
)
from tests.integration.test_erase import run as erase  # noqa: F401

WRITTEN = 1461000000


class Queue:
    """The import queue: `messages` are its bodies."""

    def __init__(self, real) -> None:
        self.real, self.messages = real, []

    def __getattr__(self, operation):
        return getattr(self.real, operation)

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803
        assert QueueUrl.endswith("/import-queue")
        self.messages.append(MessageBody)

    def process(self) -> None:
        for body in self.messages:
            assert app.lambda_handler(sqs(json.loads(body)), None) == {"batchItemFailures": []}
        self.messages.clear()


@pytest.fixture
def queue(aws):  # noqa: F811
    real = aws.real("sqs")
    for output, name in (("ImportQueueUrl", "import-queue"), ("ImportDeadLetterQueueUrl", "import-dead-letters")):
        aws.outputs[output] = real.create_queue(QueueName=name)["QueueUrl"]
        real.purge_queue(QueueUrl=aws.outputs[output])
    aws.wrapped["sqs"] = Queue(real)
    return aws.wrapped["sqs"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    odd = {"msys": {"message_event": {"type": ["bounce"], "rcpt_to": PERSON, "event_id": "4"}}}
    for name, elements in {
        "a.json": [event("1"), event("2", OTHER)],
        "b.jsonl": [event("3", OTHER, rcpt_meta={"also": PERSON}), odd],
    }.items():
        (tmp_path / name).write_text(json.dumps(elements))
        os.utime(tmp_path / name, (WRITTEN, WRITTEN))
    return tmp_path


def imports(source: Path, capsys) -> str:
    assert operate.main(["import", str(source), "--no-wait"]) == 0
    return capsys.readouterr().out


def test_an_erased_person_does_not_come_back_by_a_second_import(s3, erase, queue, source, capsys):  # noqa: F811
    imports(source, capsys)
    queue.process()
    assert holders()
    assert erase("--yes")[0] == 0
    assert [row["event_id"] for row in rows()] == ["2"]
    assert holders() == []
    raw = sorted(item["Key"] for item in s3.list_objects_v2(Bucket=RAW)["Contents"])
    assert "0 imported, 2 here already" in imports(source, capsys)
    # The same without a ledger, and from a file of another form, as another system would have it.
    for item in s3.list_objects_v2(Bucket=LAKE, Prefix="maintenance/imported/")["Contents"]:
        s3.delete_object(Bucket=LAKE, Key=item["Key"])
    flat = event("1") | event("2", OTHER)
    (source / "c.jsonl").write_text("\n".join(json.dumps(one) for one in (flat, event("1"))))
    said = imports(source, capsys)
    assert "of erased persons left out" in said
    queue.process()
    assert {row["event_id"] for row in rows()} == {"2"}
    assert (holders(), raw[0] in str(s3.list_objects_v2(Bucket=RAW)["Contents"])) == ([], True)


def test_a_person_is_erased_from_an_import_that_was_cut(s3, erase, queue, source, capsys):  # noqa: F811
    imports(source, capsys)
    queue.messages.clear()  # as if the command had been cut before it handed anything over
    for item in s3.list_objects_v2(Bucket=LAKE, Prefix="maintenance/imported/")["Contents"]:
        s3.delete_object(Bucket=LAKE, Key=item["Key"])
    assert erase("--yes")[0] == 0
    assert holders() == []
    imports(source, capsys)
    queue.process()
    assert [row["event_id"] for row in rows()] == ["2"]
    assert holders() == []


def test_imported_batches_that_are_dead_letters_are_opened_too(erase, queue, aws):  # noqa: F811
    queue.real.send_message(QueueUrl=aws.outputs["ImportDeadLetterQueueUrl"], MessageBody="{}")
    said = erase("--dry-run")[2]
    assert "looking through every object" in said
