"""`make demo`: recorded Bird batches go through the deployed load balancer and come out as an Athena result.

Starts a local AWS on a free port (or on LOCAL_AWS_PORT), builds and deploys the real template, sends the batches of
events/, waits for their rows, compares them with what was sent, and leaves nothing running. FRONT_DOOR=HTTP_API deploys
the packaged template for the Serverless Application Repository instead, with its defaults. DOWNSTREAM=1 also shows what
the rows are for, and RECONCILE=1 how batches that were lost are found and fetched.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import FrameType

from bird_webhooks.terminal import step
from demo import completeness as demo_completeness
from demo import downstream as demo_downstream
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.__main__ import port_from_environment
from local_aws.deploy import Deployed
from local_aws.emulator import Emulator, LocalAwsError
from local_aws.query import Row, poll, query, table
from local_aws.webhook import EVENTS, basic, events_in, recorded_request, send
from maintain.sar.package import package_locally

ROWS_TIMEOUT_SECONDS = 60
COUNTS = """
    SELECT event_class, type, count(DISTINCT event_key) AS events
    FROM events GROUP BY event_class, type ORDER BY event_class, type
"""

Counts = Counter[tuple[str, str]]


def main() -> int:
    local_emulator.forget_real_aws()
    signal.signal(signal.SIGTERM, interrupted)
    began = time.monotonic()
    try:
        agrees = demonstrate()
    except LocalAwsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted, nothing is left running", file=sys.stderr)
        return 130
    step(f"cleaned up; {time.monotonic() - began:.0f} s in total")
    return 0 if agrees else 1


def interrupted(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def demonstrate() -> bool:
    port = port_from_environment() or local_emulator.free_port()
    step(f"starting a local AWS (MiniStack) on port {port}")
    with ExitStack() as stay:
        emulator = stay.enter_context(local_emulator.running(port))
        downstream = stay.enter_context(demo_downstream.running(emulator)) if wants("DOWNSTREAM") else None
        account = stay.enter_context(demo_completeness.running(emulator)) if wants("RECONCILE") else None
        step("building the functions (sam build)")
        local_stack.build()
        parameters = {**(downstream.parameters if downstream else {}), **(account.parameters if account else {})}
        stack = deploy(emulator, os.environ.get("FRONT_DOOR", "ALB"), parameters)
        step(f"sending the recorded batches to {stack.outputs['WebhookUrl']}")
        sent = send_batches(stack, recorded_batches())
        step("waiting for the rows (S3, queue, process, Athena)")
        rows = poll(lambda: query(stack, COUNTS), lambda found: counts(found) == sent, ROWS_TIMEOUT_SECONDS)
        print(f"\n{table(rows)}\n", flush=True)
        agrees = report(sent, counts(rows))
        if downstream:
            agrees = demo_downstream.show(downstream, stack, recorded=sent.total()) and agrees
        if account:
            agrees = demo_completeness.show(account, stack) and agrees
        return agrees


def wants(part: str) -> bool:
    match os.environ.get(part, ""):
        case "1":
            return True
        case "" | "0":
            return False
        case other:
            raise LocalAwsError(f"{part} is 1 or nothing, not {other}")


def deploy(emulator: Emulator, front_door: str, parameters: Mapping[str, str]) -> Deployed:
    match front_door:
        case "ALB":
            step("deploying template.yaml (sam deploy)")
            return local_stack.deploy(emulator, parameters=parameters)
        case "HTTP_API":
            step("packaging the template for the Serverless Application Repository (sam package)")
            packaged = package_locally(emulator)
            step("deploying it with its defaults (sam deploy)")
            return local_stack.deploy(emulator, parameters=parameters, template=packaged.path)
    raise LocalAwsError(f"FRONT_DOOR is ALB or HTTP_API, not {front_door}")


def recorded_batches() -> list[Path]:
    """The load balancer events in events/ that are deliveries from Bird with valid credentials."""
    return [path for path in sorted(EVENTS.glob("alb*.json")) if is_delivery(path)]


def is_delivery(path: Path) -> bool:
    request = recorded_request(path)
    return (
        request.method == "POST"
        and "authorization" in request.headers
        and "wrong" not in path.stem
        and any(element["msys"] for element in events_in(request))
    )


def send_batches(stack: Deployed, paths: list[Path]) -> Counts:
    """Send each batch with the stack's own credentials; count the distinct events that were stored."""
    login = basic(stack.credentials())
    identities: set[tuple[str, str, str]] = set()
    for path in paths:
        request = recorded_request(path)
        answer = send(stack, replace(request, headers={**request.headers, **login}))
        said = answer.body.decode(errors="replace")
        step(f"  {path.name}: {len(events_in(request))} events, answer {answer.status} {said}")
        if answer.status != HTTPStatus.OK:
            raise LocalAwsError(f"{path.name} was not accepted: {answer.status} {said}")
        if json.loads(said)["status"] == "stored":
            identities |= {identity(element) for element in events_in(request)}
    return Counter((event_class, event_type) for event_class, event_type, _ in identities)


def identity(element: dict[str, dict[str, dict[str, object]]]) -> tuple[str, str, str]:
    """Class, type, and the event's id, or its content if it has no id."""
    [(event_class, event)] = element["msys"].items()
    return event_class, str(event["type"]), str(event.get("event_id") or json.dumps(event))


def counts(rows: list[Row]) -> Counts:
    return Counter({(str(row["event_class"]), str(row["type"])): int(row["events"] or 0) for row in rows})


def report(sent: Counts, found: Counts) -> bool:
    if sent == found:
        step(f"{sent.total()} events of {len(sent)} types sent, and the same found")
        return True
    step(f"NOT the same: sent and not found {dict(sent - found)}, found and not sent {dict(found - sent)}")
    return False


if __name__ == "__main__":
    sys.exit(main())
