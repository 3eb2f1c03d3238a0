"""A year of a small sender, live and brought in afterwards; a child of benchmarks/moving.py, or by itself:

    python -m benchmarks.moving_year <<< '{"batches": 2000}'

2,000 batches of 100 events over 365 days. `import` runs as it is, against a bucket in memory that answers each request
after a time like S3's; process's and closing's own code makes the rows, called directly.
Requests are counted, and times list prices (prices.json). Nothing of it ran on AWS.
"""

import hashlib
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from benchmarks import costs
from benchmarks.events import batches_at
from benchmarks.ours import files
from bird_webhooks.moving import names
from bird_webhooks.moving.importing import Choice, Import
from bird_webhooks.moving.ledger import Ledger
from bird_webhooks.moving.sources import Entry, Opened
from process import closing
from process.tombstones import Tombstones

EVENTS, DAYS = 100, 365
FIRST_SECOND = int(datetime(2025, 11, 1, tzinfo=UTC).timestamp())
# From a machine in the bucket's region; S3's own figure for small objects is 100 to 200 ms at first byte at most.
REQUEST_SECONDS = 0.04
# The year itself is read without waiting. A million objects of a year are 2,740 a day: so dense is the sample for them.
SAMPLE_OBJECTS = 400
MILLION = 1_000_000

type Batch = tuple[str, int, bytes]  # name, arrival in Unix milliseconds, body


def main() -> None:
    print(json.dumps(figures(json.load(sys.stdin)["batches"])))


def figures(count: int) -> dict[str, Any]:
    batches = made(count)
    live = lake([batch] for batch in batches)
    shuffled = random.Random(1).sample(batches, count)  # noqa: S311  # as random ids are listed
    every_hundred = range(0, count, 100)
    by_key, by_time = (
        lake((some[at : at + 100] for at in every_hundred), close=False)
        for some in (shuffled, sorted(batches, key=lambda b: b[1]))
    )
    command = run_import(batches)
    groups = [[command.raw[name] for name in message] for message in command.messages]
    imported = lake(groups)
    sample = run_import(made(SAMPLE_OBJECTS, SAMPLE_OBJECTS / MILLION), REQUEST_SECONDS)
    sample_days = lake(([sample.raw[name] for name in message] for message in sample.messages), close=False)
    rate = SAMPLE_OBJECTS / sample.seconds
    return {
        "objects": count,
        "events": count * EVENTS,
        "megabytes": sum(len(body) for *_, body in batches) / 1e6,
        "live": live.figures(),
        "copied in the order of keys": by_key.figures(),
        "copied by time": by_time.figures(),
        "imported": {
            **imported.figures(),
            "seconds": command.seconds,
            "command_cpu": command.cpu,
            "messages": len(command.messages),
            "requests": sum(command.requests.values()),
            "dollars": command.dollars(imported),
            "equal": imported.digest == live.digest,
        },
        "sample": SAMPLE_OBJECTS,
        "request_ms": int(REQUEST_SECONDS * 1000),
        "objects_per_second": rate,
        "million_hours": MILLION / rate / 3600,
        "million_dollars": sample.dollars(sample_days) / SAMPLE_OBJECTS * MILLION,
        "million_process_cpu_hours": sample_days.cpu / SAMPLE_OBJECTS * MILLION / 3600,
    }


def made(count: int, of_year: float = 1.0) -> list[Batch]:
    step = DAYS * 86_400 * of_year / count
    arrivals = [int(FIRST_SECOND + number * step + 60) for number in range(count)]
    bodies = batches_at(((arrival, EVENTS) for arrival in arrivals), 1)
    ids = (hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(count))
    return [(name, 1000 * at, body) for name, at, body in zip(ids, arrivals, bodies, strict=True)]


# --- Rows -------------------------------------------------------------------------------------------------------------


@dataclass
class Days:
    """What process and closing made. `digest` is of all rows, without where they came from."""

    files: int = 0
    cpu: float = 0.0
    size: int = 0
    closed: int = 0
    digest: str = ""

    def figures(self) -> dict[str, Any]:
        return {"files": self.files, "closed": self.closed, "megabytes": self.size / 1e6, "cpu": self.cpu}


def lake(invocations: Iterable[Sequence[Batch]], *, close: bool = True) -> Days:
    """Each invocation of process writes a file for each day that it has rows of; then each day is closed."""
    days, small = Days(), defaultdict(list)
    for some in invocations:
        began = time.process_time()
        written = list(files(some, "parquet"))
        days.cpu += time.process_time() - began
        for day, body in written:
            small[day].append(body)
            days.files += 1
            days.size += len(body)
    if not close:
        return days
    digest = hashlib.sha256()
    for day in sorted(small):
        [rows] = closing.combined([batch for body in small[day] for batch in closing.rows_of(body)])
        columns = [
            rows.column(name).to_pylist() for name in rows.schema.names if name not in ("batch_id", "received_at")
        ]
        for row in sorted({repr(values) for values in zip(*columns, strict=True)}):
            digest.update(row.encode())
        closing.to_file(rows)
        days.closed += -(-rows.num_rows // closing.ROWS_PER_FILE)
    days.digest = digest.hexdigest()
    return days


# --- The command ------------------------------------------------------------------------------------------------------


@dataclass
class Command:
    """A stack, its buckets and its queue in memory, and the old bucket; `requests` are what S3 and SQS were asked."""

    old: dict[str, Batch]
    wait: float
    raw: dict[str, Batch] = field(default_factory=dict)  # by batch id
    messages: list[list[str]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0
    uploads: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)
    raw_prefix = "raw"
    poll_seconds = 0.0

    @property
    def s3(self) -> "Command":
        return self

    sqs = s3

    @property
    def outputs(self) -> dict[str, str]:
        return {"RawBucketName": "raw", "LakeBucketName": "lake", "ImportQueueUrl": "import", "ProcessQueueUrl": "live"}

    def output(self, name: str) -> str:
        return self.outputs[name]

    def parameters(self) -> dict[str, str]:
        return {"RawRetentionDays": "0"}

    def asked(self, kind: str) -> None:
        self.requests[kind] += 1
        time.sleep(self.wait)

    # The old bucket

    def entries(self) -> Iterator[Entry]:
        self.requests["list"] += -(-len(self.old) // 1000)
        for name, (_, arrival, body) in sorted(self.old.items()):
            yield Entry(name, len(body), datetime.fromtimestamp(arrival / 1000, UTC), name)

    def open(self, entry: Entry) -> Opened:
        self.asked("get")
        return Opened(iter([self.old[entry.name][2]]), {})

    # The stack's buckets and queues

    def create_multipart_upload(self, Key: str, Metadata: dict[str, str], **_: Any) -> dict[str, str]:  # noqa: N803
        self.asked("put")
        self.uploads[Key] = (Metadata, b"")
        return {"UploadId": Key}

    def upload_part(self, Key: str, Body: bytes, **_: Any) -> dict[str, str]:  # noqa: N803
        self.asked("put")
        self.uploads[Key] = (self.uploads[Key][0], Body)
        return {"ETag": "1"}

    def complete_multipart_upload(self, Key: str, **_: Any) -> None:  # noqa: N803
        self.asked("put")
        metadata, uploaded = self.uploads.pop(Key)
        batch_id = Key.removeprefix("raw/").removesuffix(".json")
        moment = names.received_at(batch_id) or datetime.fromisoformat(metadata["received-at"])
        self.raw[batch_id] = (batch_id, int(moment.timestamp() * 1000), uploaded)

    def put_object(self, **_: Any) -> None:
        self.asked("put")

    def get_paginator(self, _: str) -> "Command":
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{}]

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": BytesIO()}

    def send_message(self, MessageBody: str, **_: Any) -> None:  # noqa: N803
        self.asked("sqs")
        keys = [one["s3"]["object"]["key"] for one in json.loads(MessageBody)["Records"]]
        self.messages.append([key.removeprefix("raw/").removesuffix(".json") for key in keys])

    def get_queue_attributes(self, AttributeNames: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.asked("sqs")
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}

    def dollars(self, imported: Days) -> float:
        """With what process asks for: each message received and deleted, each batch read, each file written."""
        price = {name: one["price"] for name, one in json.loads(costs.PRICES.read_text())["prices"].items()}
        puts, gets = self.requests["put"] + imported.files, self.requests["get"] + len(self.raw)
        messages = self.requests["sqs"] + 2 * len(self.messages)
        return float(
            puts * price["s3_put"]
            + gets * price["s3_get"]
            + self.requests["list"] * price["s3_list"]
            + messages * price["sqs_request"]
            + len(self.messages) * price["lambda_request"]
            + imported.cpu * price["lambda_gb_second_x86_64"]
        )


def run_import(batches: Sequence[Batch], wait: float = 0.0) -> Command:
    command = Command({f"old/{name}": (name, arrival, body) for name, arrival, body in batches}, wait)
    stack: Any = command
    began, cpu = time.perf_counter(), time.process_time()
    run = Import(
        stack, command, Choice(wait=False), Ledger(stack), Tombstones(b"", {}), datetime.now(UTC) + timedelta(days=1)
    )
    run.run()
    command.seconds, command.cpu = time.perf_counter() - began, time.process_time() - cpu
    if run.books.events["imported"] != len(batches) * EVENTS or run.books.refused:
        raise RuntimeError(f"not all was imported: {run.books}")
    return command


if __name__ == "__main__":
    main()
