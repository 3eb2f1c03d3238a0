"""Load tests on a local stack. The simulator's ledger decides whether they pass.

    python -m local_aws.load load     2,000 batches over 16 connections, with faults on
    python -m local_aws.load soak     steady load for fifteen minutes, while it watches the functions' memory

Starts its own local AWS, deploys the real template, and leaves nothing running.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from bird_webhooks.errors import OperateError
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Report, Sender
from bird_webhooks.simulator.verify import Lake, Verification, verify
from bird_webhooks.terminal import Progress, step
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.deploy import Deployed
from local_aws.emulator import Emulator, LocalAwsError
from local_aws.faults import ANSWER_LOST, NEVER_ARRIVED, REFUSED, Fault, FaultProxy
from report.athena import QueryFailedError

FUNCTIONS = ("IngestFunction", "ProcessFunction")
ROWS_TIMEOUT_SECONDS = 300
# The deployed queue delivers a failed message again after 15 minutes, which is too long for a test.
VISIBILITY_SECONDS = 10
OUTAGE_EVERY_SECONDS, OUTAGE_SECONDS = 20, 3
FAULT_EVERY_SECONDS = 2
KILL_EVERY = 5  # faults
SAMPLE_EVERY_SECONDS = 2
# From the second to the last quarter. Allocators vary by less; a leak of 4 kB a batch adds more in fifteen minutes.
GROWTH_ALLOWED_KILOBYTES = 6 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["load", "soak"])
    parser.add_argument("--batches", type=int, default=2000, help="load: how many; default %(default)s")
    parser.add_argument("--connections", type=int, default=16, help="load: at once; default %(default)s")
    parser.add_argument("--minutes", type=float, default=15, help="soak: how long; default %(default)s")
    parser.add_argument("--rate", type=float, default=4, help="soak: batches per second; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the batches and of the faults; default %(default)s")
    options = parser.parse_args()
    local_emulator.forget_real_aws()
    try:
        with local_emulator.running() as emulator:
            step("building and deploying")
            local_stack.build()
            stack = local_stack.deploy(emulator)
            if options.kind == "load":
                good = load(stack, batches=options.batches, connections=options.connections, seed=options.seed)
            else:
                good = soak(stack, minutes=options.minutes, rate=options.rate, seed=options.seed)
            return 0 if good else 1
    except (LocalAwsError, OperateError, QueryFailedError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def load(stack: Deployed, *, batches: int, connections: int, seed: int) -> bool:
    """Send as fast as possible, with faults. Returns whether the ledger closes."""
    shorten_visibility(stack)
    chance = random.Random(seed)  # noqa: S311
    with ExitStack() as stay:
        front = stay.enter_context(FaultProxy(stack.outputs["WebhookUrl"]))
        s3 = stay.enter_context(FaultProxy(stack.emulator.endpoint_url))
        route_s3_through(stack, s3)
        ledger = Ledger(Path(stay.enter_context(tempfile.TemporaryDirectory())) / "ledger.ndjson")
        sender = sender_of(stack, ledger, front.url, connections, seed)
        sender.probe()
        front.fault = lambda method, path, number: front_fault(chance)
        began = time.monotonic()
        s3.fault = lambda method, path, number: s3_fault(chance, time.monotonic() - began)
        with inject_faults(stack, chance) as counts:
            print(sender.run(maker(seed).batches(batches)))
        print(f"faults        {front.faults} of {front.requests} requests at the front door, ", end="")
        print(f"{s3.faults} of {s3.requests} at S3, ", end="")
        print(", ".join(f"{times} {what}" for what, times in sorted(counts.items())))
        front.fault = s3.fault = lambda method, path, number: None
        return ledger_closes(stack, ledger)


def soak(stack: Deployed, *, minutes: float, rate: float, seed: int, alone: bool = True) -> bool:
    """Send steadily. Returns whether the functions' memory stays flat and the ledger closes."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory) / "ledger.ndjson")
        sender = sender_of(stack, ledger, stack.outputs["WebhookUrl"], 16, seed)
        sender.batches_per_second = rate
        sender.probe()
        with memory_watched(stack.emulator) as samples:
            print(sender.run(maker(seed).batches(round(minutes * 60 * rate))))
        flat = report_memory(samples)
        return ledger_closes(stack, ledger, alone=alone) and flat


def maker(seed: int) -> BatchMaker:
    return BatchMaker(seed, datetime.now(UTC))


def sender_of(stack: Deployed, ledger: Ledger, url: str, connections: int, seed: int) -> Sender:
    login, line = Basic(*stack.credentials()), Progress()

    def progress(report: Report) -> None:
        line.show(report.progress)

    return Sender(url, login, ledger, connections=connections, time_scale=100, seed=seed, progress=progress)


def ledger_closes(stack: Deployed, ledger: Ledger, *, alone: bool = True) -> bool:
    """Whether the ledger closes and every batch was accepted. `alone`: the stack had no other sender."""
    lake = Lake.of(stack.stack)
    verification: Verification = verify(ledger, lake, wait_seconds=ROWS_TIMEOUT_SECONDS, alone=alone, progress=step)
    [rows] = lake.query("SELECT count(*) AS stored FROM events")
    print(f"rows          {rows['stored']} in the table events, for {verification.found} in the view")
    print(verification, flush=True)
    given_up = [batch_id for batch_id, outcome in ledger.outcomes.items() if outcome != "accepted"]
    ledger.close()
    return verification.closes and not given_up


# --- Faults -----------------------------------------------------------------------------------------------------------


def front_fault(chance: random.Random) -> Fault | None:
    """Between Bird and the load balancer: lost requests, lost answers, and one timeout in a thousand."""
    drawn = chance.random()
    if drawn < 0.01:
        return NEVER_ARRIVED
    if drawn < 0.02:
        return ANSWER_LOST
    return Fault(delay_seconds=11) if drawn < 0.021 else None


def s3_fault(chance: random.Random, seconds: float) -> Fault | None:
    """Between the functions and S3: regular outages, and always a few refused, lost and slow requests."""
    if seconds % OUTAGE_EVERY_SECONDS > OUTAGE_EVERY_SECONDS - OUTAGE_SECONDS:
        return REFUSED
    drawn = chance.random()
    if drawn < 0.03:
        return REFUSED
    if drawn < 0.04:
        return ANSWER_LOST
    if drawn < 0.05:
        return NEVER_ARRIVED
    return Fault(delay_seconds=5 * chance.random()) if drawn < 0.06 else None


def route_s3_through(stack: Deployed, proxy: FaultProxy) -> None:
    """Let the functions that handle data reach S3 through the proxy."""
    functions = stack.emulator.client("lambda")
    for function in FUNCTIONS:
        name = stack.resources()[function]
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        variables["AWS_ENDPOINT_URL"] = proxy.url
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})


def shorten_visibility(stack: Deployed) -> None:
    stack.emulator.client("sqs").set_queue_attributes(
        QueueUrl=stack.outputs["ProcessQueueUrl"], Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)}
    )


@contextmanager
def inject_faults(stack: Deployed, chance: random.Random) -> Iterator[dict[str, int]]:
    """During the block: kill processes of process at any moment, and announce old objects again, in any order.

    Processes of ingest are not killed, because the emulator then stops all of them, again and again. tests/faults kills
    them without the emulator.
    """
    counts: dict[str, int] = defaultdict(int)
    over = threading.Event()

    def inject() -> None:
        for turn in count(1):
            if over.wait(FAULT_EVERY_SECONDS):
                return
            counts["notifications repeated"] += announce_again(stack, chance, 20)
            running = [pid for name, pid, _ in function_processes(stack.emulator) if name == "ProcessFunction"]
            if running and turn % KILL_EVERY == 0:
                kill(chance.choice(running))
                counts["processes killed"] += 1

    thread = threading.Thread(target=inject, daemon=True)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself meanwhile
        return


def announce_again(stack: Deployed, chance: random.Random, count: int) -> int:
    """Send S3's notifications of some stored batches once more, several in a message, in any order."""
    bucket = stack.outputs["RawBucketName"]
    listed = stack.emulator.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    keys = [item["Key"] for item in chance.sample(listed, min(count, len(listed)))]
    sqs = stack.emulator.client("sqs")
    while keys:
        together = [keys.pop() for _ in range(min(len(keys), chance.randint(1, 5)))]
        sqs.send_message(QueueUrl=stack.outputs["ProcessQueueUrl"], MessageBody=notification(bucket, together))
    return min(count, len(listed))


def notification(bucket: str, keys: list[str]) -> str:
    """S3's notification of objects (for keys without characters that S3 would encode)."""
    objects = [{"bucket": {"name": bucket}, "object": {"key": key}} for key in keys]
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": stored} for stored in objects]})


# --- Memory -----------------------------------------------------------------------------------------------------------


def function_processes(emulator: Emulator) -> Iterator[tuple[str, int, int]]:
    """(function, process id, resident kilobytes) of the emulator's function processes."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,pgid=,rss=,command="], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        pid, group, resident, command = line.split(None, 3)
        for name in FUNCTIONS:
            if int(group) == emulator.pid and f"-{name}-" in command:
                yield name, int(pid), int(resident)


Samples = dict[tuple[str, int], list[int]]


@contextmanager
def memory_watched(emulator: Emulator) -> Iterator[Samples]:
    """Resident kilobytes by (function, process), every few seconds during the block."""
    samples: Samples = defaultdict(list)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_EVERY_SECONDS):
            for name, pid, resident in function_processes(emulator):
                samples[name, pid].append(resident)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def report_memory(samples: Samples) -> bool:
    """Print the memory of each function's oldest process by quarters of its life. Returns whether none has grown."""
    flat = True
    for name in FUNCTIONS:
        resident = max((found for (function, _), found in samples.items() if function == name), key=len, default=[])
        if len(resident) < 8:
            print(f"memory        {name}: too few samples ({len(resident)})")
            flat = False
            continue
        quarter = len(resident) // 4
        quarters = [max(resident[part * quarter : (part + 1) * quarter]) for part in range(4)]
        grown = quarters[3] - quarters[1]
        flat &= grown <= GROWTH_ALLOWED_KILOBYTES
        shown = ", ".join(f"{peak / 1024:.1f}" for peak in quarters)
        print(f"memory        {name}: peaks of {shown} MB by quarters of {len(resident) * SAMPLE_EVERY_SECONDS} s")
    return flat


if __name__ == "__main__":
    sys.exit(main())
