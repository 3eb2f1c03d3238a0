"""The deployed template on the local AWS: sends batches through the load balancer until their rows exist.

    python -m benchmarks.end_to_end      in .venv, which has the local AWS's tools

reads {"batches": 40, "singles": [[0, 5], [1, 3]]} from its standard input: so many batches of each size, and so many
single batches under a window of so many seconds.

Counts what AWS would bill, for batches of 350, 100 and 20 events.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.events import ROOT, Input, prepare
from benchmarks.measure import Measures, Run, child, environment

CONNECTIONS = 4
ROWS_SECONDS = 120
# Bird sends a batch again that was answered with 503, as ingest does if a busy machine's S3 does not answer in time.
ATTEMPTS = 5
SIZES = [350, 20]
COUNTED_SIZES = [350, 100, 20]
OURS = "ours"
# MiniStack has no batching window, so the queue is read only when that many seconds have passed. How many batches each.
# A row comes as long after a longer window as after these, so 20 s, as deployed, are not waited for.
SINGLES, QUICK_SINGLES = ((0, 5), (1, 3), (5, 2)), ((0, 1), (1, 1))


def measure(run: Run) -> tuple[list[Measures], dict[str, Any]]:
    run.progress("end to end: deploying to the local AWS")
    counts = {"batches": 4, "singles": QUICK_SINGLES} if run.quick else {"batches": 40, "singles": SINGLES}
    python = str(ROOT / ".venv/bin/python")
    got = child("end_to_end", counts, environment(extra={"SAM_CLI_TELEMETRY": "0"}), python)
    measures = Measures("end to end")
    note = f"MiniStack: load balancer, functions, S3 and queue on this machine's cores; {CONNECTIONS} connections"
    for size, one in got["loads"].items():
        for what in ("taken", "to rows"):
            name = f"batches of {size} events {what}"
            measures.add(name, "batches a second", OURS, one[what], higher_is_better=True, note=note)
    for window, seconds in got["single"]:
        measures.add(
            f"from POST to row, one batch of {SIZES[0]}, a window of {window} s", "s", OURS, seconds, note=note
        )
    return [measures], got


def main() -> None:
    # Only here: what runs the other parts has no local AWS.
    from local_aws import deploy as local_stack
    from local_aws import emulator as local_emulator

    wanted = json.load(sys.stdin)
    local_emulator.forget_real_aws()
    with local_emulator.running() as emulator:
        local_stack.build()
        stack = local_stack.deploy(emulator, "bird-bench")
        warm_up = prepare(Input(batches=2, events=5, seed=9))
        load(stack, warm_up, 2 * 5)
        answer: dict[str, Any] = {"loads": {}, "gathered": {}, "single": []}
        windows = [window for window, count in wanted["singles"] for _ in range(count)]
        for number, window in enumerate(windows):
            batch = prepare(Input(batches=1, events=SIZES[0], seed=100 + number))
            answer["single"].append((window, load(stack, batch, SIZES[0], window=window)["seconds"]))
        for size in COUNTED_SIZES:
            batches = prepare(Input(batches=wanted["batches"], events=size, seed=50 + size))
            some = batches[: max(1, len(batches) // 2)]
            if size in SIZES:
                answer["loads"][str(size)] = load(stack, some, size * len(some))
            answer["gathered"][str(size)] = load(stack, batches, size * len(batches), gather=True)
    print(json.dumps(answer))


def load(
    stack: Any, batches: Sequence[Path], events: int, *, gather: bool = False, window: float = 0
) -> dict[str, Any]:
    """Send the batches, wait for their rows, and count what was asked of each service.

    With `gather` the queue is read only when all are in it, as the window of 20 s does in AWS under such a load; with
    `window` only so many seconds after they are.
    """
    before, logged = keys(stack), invocations(stack)
    rows = Rows(stack)
    expected = rows.count() + events
    ids = [f"{time.monotonic_ns()}-{path.stem}" for path in batches]
    hold = gather or window > 0
    if hold:
        read_queue(stack, enabled=False)
    started = time.perf_counter()
    send_all(stack, batches, ids)
    taken = time.perf_counter() - started
    if hold:
        wait_until(lambda: waiting(stack) >= len(batches), "messages")
        time.sleep(window)
        read_queue(stack, enabled=True)
    wait_until(lambda: rows.count() >= expected, "rows")
    seconds = time.perf_counter() - started
    after, now = keys(stack), invocations(stack)
    counted = {name: after[name] - before[name] for name in after}
    calls = {
        name: now[name] | {key: now[name][key] - logged[name][key] for key in ("count", "milliseconds")}
        for name in ("Ingest", "Process")
    }
    return {
        "batches": len(batches),
        "events": events,
        "bytes": sum(path.stat().st_size for path in batches),
        "taken": len(batches) / taken,
        "to rows": len(batches) / seconds,
        "seconds": seconds,
        "puts": counted,
        "calls": calls,
    }


def send_all(stack: Any, batches: Sequence[Path], ids: Sequence[str]) -> None:
    from local_aws.webhook import Request, basic, send

    login = basic(stack.credentials())
    waiting = [(path, batch_id, 1) for path, batch_id in zip(batches, ids, strict=True)]
    failures: list[str] = []

    def work() -> None:
        while waiting:
            try:
                path, batch_id, attempt = waiting.pop()
            except IndexError:
                return
            headers = {"content-type": "application/json", "x-messagesystems-batch-id": batch_id, **login}
            answer = send(stack, Request("POST", headers, path.read_bytes()))
            if answer.status == 503 and attempt < ATTEMPTS:
                waiting.append((path, batch_id, attempt + 1))
            elif answer.status != 200:
                failures.append(f"{answer.status} {answer.body!r}")

    senders = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if failures:
        raise RuntimeError(f"not taken: {failures[:3]}")


def wait_until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ROWS_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} within {ROWS_SECONDS} s")
        time.sleep(0.05)


def read_queue(stack: Any, *, enabled: bool) -> None:
    client = stack.emulator.client("lambda")
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=enabled)


def waiting(stack: Any) -> int:
    name = "ApproximateNumberOfMessages"
    client = stack.emulator.client("sqs")
    url = stack.outputs["ProcessQueueUrl"]
    return int(client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def keys(stack: Any) -> dict[str, int]:
    """How many objects each bucket holds."""
    client = stack.emulator.client("s3")
    buckets = {"raw": stack.outputs["RawBucketName"], "lake": stack.outputs["LakeBucketName"]}
    return {
        name: sum(page.get("KeyCount", 0) for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket))
        for name, bucket in buckets.items()
    }


def log_lines(stack: Any, function: str) -> list[str]:
    client = stack.emulator.client("logs")
    resources = stack.resources()
    group = resources.get(f"{function}LogGroup") or f"/aws/lambda/{resources[f'{function}Function']}"
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


class Rows:
    """Counts the rows in the lake; each file is read once."""

    def __init__(self, stack: Any) -> None:
        self._client = stack.emulator.client("s3")
        self._bucket = stack.outputs["LakeBucketName"]
        self._rows: dict[str, int] = {}

    def count(self) -> int:
        from arro3.io import read_parquet

        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix="events/"):
            for item in page.get("Contents", []):
                if item["Key"] not in self._rows:
                    body = self._client.get_object(Bucket=self._bucket, Key=item["Key"])["Body"].read()
                    self._rows[item["Key"]] = read_parquet(BytesIO(body)).read_all().num_rows
        return sum(self._rows.values())


def invocations(stack: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for function in ("Ingest", "Process"):
        found = [
            re.search(r"\tDuration: ([0-9.]+) ms.*Memory Size: (\d+) MB", line) for line in log_lines(stack, function)
        ]
        reports = [match for match in found if match]
        answer[function] = {
            "count": len(reports),
            "milliseconds": sum(float(report[1]) for report in reports),
            "memory_megabytes": max((int(report[2]) for report in reports), default=0),
        }
    return answer


if __name__ == "__main__":
    main()
