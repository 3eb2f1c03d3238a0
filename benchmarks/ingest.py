"""ingest: cold start through Lambda's runtime client and emulator, warm batches, requests a second."""

import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path

from benchmarks import s3
from benchmarks.events import ROOT, Input, prepare
from benchmarks.handlers import alb_event
from benchmarks.measure import BUILT, Measures, Run, child, environment, goal, peak_memory_bytes
from benchmarks.ours import HANDLERS
from local_aws.emulator import free_port

OURS, GUIDE, BOTOCORE, EMPTY = "ours", "guide's handler (boto3)", "botocore only", "empty handler (the floor)"
MODULES = {
    OURS: HANDLERS["ingest"],
    GUIDE: "benchmarks.guide_handler",
    BOTOCORE: "benchmarks.botocore_handler",
    EMPTY: "benchmarks.empty_handler",
}
EMULATORS = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
START_SECONDS = 10
START_ATTEMPTS = 3
CONNECTIONS, QUICK_CONNECTIONS = [1, 8], [1, 2]
COLD, WARM = "processor time until the first answer", "processor time a batch"
# Times the processor time of the guide's handler.
COLD_BETTER_BY, WARM_BETTER_BY = 5.0, 4.0


def measure(run: Run) -> list[Measures]:
    [batch, *_] = prepare(Input())
    cold, warm, loaded = Measures("ingest, cold"), Measures("ingest, warm"), Measures("ingest, requests a second")
    with s3.running() as endpoint:
        env = environment("IngestFunction", settings(endpoint))
        run.alternate(5, list(MODULES), partial(cold_start, run, cold, env, batch), "ingest, cold")
        count = 5 if run.quick else 200
        contenders = [OURS, GUIDE, BOTOCORE]
        run.alternate(3, contenders, partial(warm_batches, warm, env, batch, count), "ingest, warm")
        for connections in QUICK_CONNECTIONS if run.quick else CONNECTIONS:
            total = connections if run.quick else max(160, 10 * connections)
            what = f"{connections} connection{'s' if connections > 1 else ''}"
            under_load = partial(requests_per_second, loaded, env, batch, connections, total, what)
            run.alternate(2, contenders, under_load, f"ingest, {what}")
    for what, measure, better_by in (("cold", cold[COLD], COLD_BETTER_BY), ("warm", warm[WARM], WARM_BETTER_BY)):
        ratio = measure.result()["contenders"][GUIDE]["ours_is_better_by"]
        run.goals.append(goal(ratio, better_by, f"ingest, {what}: {measure.name}, beside the {GUIDE}"))
    return [cold, warm, loaded]


def settings(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "RAW_BUCKET": "sink",
        "RAW_PREFIX": "raw",
        "WEBHOOK_AUTH": "BASIC",
        # As in the template; for every contender, although boto3 gains little.
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "67108864",
        "CREDENTIAL_DIGESTS": hashlib.sha256(b"bird:example-password").hexdigest(),
    }


def cold_start(run: Run, measures: Measures, env: dict[str, str], batch: Path, contender: str) -> None:
    """From the invocation that starts the process to the answer; processor time of all threads of that process."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            wall, cpu, peak = start_and_ask(env, batch, contender)
            break
        except OSError as error:  # another program took the port that was just free
            run.progress(f"the emulator did not start, attempt {attempt}: {error}")
            if attempt == START_ATTEMPTS:
                raise
    note = "first request of 350 events through awslambdaric and aws-lambda-rie, a loopback S3"
    measures.add(COLD, "ms", contender, cpu * 1e3, note=note)
    measures.add("wall time until the first answer", "ms", contender, wall * 1e3)
    measures.add("peak memory", "MB", contender, peak / 1e6)


def start_and_ask(env: dict[str, str], batch: Path, contender: str) -> tuple[float, float, int]:
    """Wall and processor seconds, peak memory in bytes. Errors: OSError if no emulator answered."""
    emulator = next(ROOT.glob(f".venv/lib/*/site-packages/samcli/local/rapid/{EMULATORS[platform.machine()]}"))
    front, api = free_port(), free_port()
    payload = json.dumps(alb_event(batch.read_text(), f"cold-{time.monotonic_ns()}")).encode()
    process = subprocess.Popen(
        [
            emulator,
            *("--runtime-interface-emulator-address", f"127.0.0.1:{front}"),
            *("--runtime-api-address", f"127.0.0.1:{api}"),
            *(sys.executable, "-m", "awslambdaric", f"{MODULES[contender]}.lambda_handler"),
        ],
        cwd=BUILT / "IngestFunction",
        env={**env, "LAMBDA_TASK_ROOT": str(BUILT / "IngestFunction"), "AWS_LAMBDA_FUNCTION_TIMEOUT": "30"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(front)
        if children(process.pid):
            raise RuntimeError("the emulator started the function before it was invoked")
        url = f"http://127.0.0.1:{front}/2015-03-31/functions/function/invocations"
        started = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(url, payload), timeout=START_SECONDS) as answer:
            content = json.load(answer)
        wall = time.perf_counter() - started
        if content.get("statusCode") != 200:
            raise RuntimeError(f"{contender} answered {content}")
        [runtime] = children(process.pid)
        return wall, cpu_seconds(runtime), peak_memory_bytes(runtime)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def warm_batches(measures: Measures, env: dict[str, str], batch: Path, count: int, contender: str) -> None:
    got = child("handlers", {"do": "ingest", "handler": MODULES[contender], "batch": str(batch), "count": count}, env)
    note = "handler in a loop, a batch of 350 events each time, a loopback S3 in its own process"
    measures.add(WARM, "ms", contender, got["cpu"] / count * 1e3, note=note)
    measures.add("wall time a batch", "ms", contender, got["wall"] / count * 1e3)
    measures.add("peak memory", "MB", contender, got["peak_memory"] / 1e6)


def requests_per_second(
    measures: Measures, env: dict[str, str], batch: Path, connections: int, total: int, what: str, contender: str
) -> None:
    arguments = {"do": "serve", "handler": MODULES[contender], "workers": connections}
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.handlers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
        start_new_session=True,
    )
    try:
        assert server.stdin  # noqa: S101  (both asked for above)
        assert server.stdout  # noqa: S101
        with server.stdin:
            json.dump(arguments, server.stdin)
        ports = json.loads(server.stdout.readline())
        body = batch.read_bytes()
        request = b"POST /bird HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        ready = threading.Barrier(connections + 1)
        senders = [threading.Thread(target=send, args=[port, request, total // connections, ready]) for port in ports]
        for sender in senders:
            sender.start()
        ready.wait()
        started = time.perf_counter()
        for sender in senders:
            sender.join()
        elapsed = time.perf_counter() - started
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    note = "one process for each connection, as in Lambda; handlers, sender and S3 share this machine's cores"
    rate = total // connections * connections / elapsed
    measures.add(what, "batches a second", contender, rate, higher_is_better=True, note=note)


def send(port: int, request: bytes, count: int, ready: threading.Barrier) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for number in range(count + 1):
            if number == 1:  # the first opens the client's connection to S3
                ready.wait()
            connection.sendall(request)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("no 200")


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def children(pid: int) -> list[int]:
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child_pid) for text in texts for child_pid in text.split()]


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads, precise to nanoseconds; /proc/<pid>/stat has ticks of 10 ms."""
    times = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, times)) / 1e9
