"""`make invoke-ingest` and `make invoke-process`: run one function in a container, with a local S3.

    python -m local_aws.invoke ingest events/<load balancer event>.json
    python -m local_aws.invoke process events/<S3 or queue event>.json

`sam local invoke` passes on only the variables that a template declares, so this uses a copy of the built template in
.local/ that names the local S3. Needs a container engine: Docker, or Podman through DOCKER_HOST.
"""

import argparse
import copy
import hashlib
import json
import logging
import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import boto3
import docker  # type: ignore[import-untyped]
import yaml
from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3 import utils
from werkzeug.serving import BaseWSGIServer, make_server

from bird_webhooks.terminal import step
from local_aws import deploy as local_stack
from local_aws.deploy import BUILT_TEMPLATE
from local_aws.emulator import LOCAL, REGION, ROOT, LocalAwsError, forget_real_aws
from local_aws.webhook import EVENTS, recorded_request

FUNCTIONS = {"ingest": "IngestFunction", "process": "ProcessFunction"}
RAW_BUCKET = "local-raw"
LAKE_BUCKET = "local-lake"
RAW_PREFIX = "raw"
CREDENTIALS = "bird:example-password"  # in the sample events of events/
ACCESS_KEY = SECRET_KEY = "test"  # noqa: S105  (of moto's S3)
SAMPLE_BATCH = EVENTS / "alb_all_types.json"
TIMEOUT_SECONDS = 120
IP_FREEBIND = 15  # from linux/in.h; Python's socket module does not define it


@dataclass(frozen=True)
class Result:
    """The function's answer and log, and the objects that it stored in the local S3, as s3:// addresses."""

    answer: Any
    log: str
    objects: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description="Invoke one function in a container.")
    parser.add_argument("function", choices=list(FUNCTIONS))
    parser.add_argument("event", nargs="?", help="an invocation event of events/")
    arguments = parser.parse_args()
    forget_real_aws()
    try:
        if arguments.event is None:
            raise LocalAwsError(f"no event given: make invoke-{arguments.function} EVENT=events/...")
        event = Path(arguments.event)
        if not event.is_file():
            raise LocalAwsError(f"there is no event {event}")
        require_engine()
        step("building (sam build)")
        local_stack.build()
        step(f"invoking {arguments.function} with {event} in a container")
        result = invoke(arguments.function, event)
    except LocalAwsError as error:
        print(f"invoke: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(result.log, file=sys.stderr)
    print(json.dumps(result.answer, indent=2))
    for address in result.objects:
        step(f"stored {address}")
    return 0


def require_engine() -> None:
    """One clear error line if there is no engine, instead of SAM's."""
    try:
        engine().ping()
    except docker.errors.DockerException as error:
        raise LocalAwsError(
            "no container engine answers: start Docker, or set DOCKER_HOST to Podman's socket"
        ) from error


def engine() -> Any:
    return docker.from_env(timeout=10)


def invoke(function: str, event: Path) -> Result:
    """One `sam local invoke` of the built function, with an S3 that exists for this call only."""
    with local_s3() as port:
        s3 = s3_client(f"http://127.0.0.1:{port}")
        for bucket in (RAW_BUCKET, LAKE_BUCKET):
            make_bucket(s3, bucket)
        raw = {"RAW_BUCKET": RAW_BUCKET, "RAW_PREFIX": RAW_PREFIX}
        if function == "process":
            raw |= put_raw_objects(s3, json.loads(event.read_text()))
        before = set(addresses(s3))
        template = local_template(f"http://{engine_bridge() or 'host.docker.internal'}:{port}", raw)
        answer, log = sam_local_invoke(FUNCTIONS[function], event, template, port)
        return Result(answer, log, [address for address in addresses(s3) if address not in before])


@contextmanager
def local_s3() -> Iterator[int]:
    """moto's S3 for this call, on loopback and on the engine's bridge, which no other machine can reach."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    with ExitStack() as stay:
        for module in (settings, utils):  # host.docker.internal is not a bucket called "host"
            stay.callback(setattr, module, "S3_IGNORE_SUBDOMAIN_BUCKETNAME", module.S3_IGNORE_SUBDOMAIN_BUCKETNAME)
            setattr(module, "S3_IGNORE_SUBDOMAIN_BUCKETNAME", True)  # noqa: B010  (mypy knows no type of it)
        first = stay.enter_context(listening("127.0.0.1", 0))
        port: int = first.getsockname()[1]
        sockets = [first]
        if bridge := engine_bridge():
            sockets.append(stay.enter_context(listening(bridge, port)))
        for each in sockets:
            server = make_server(each.getsockname()[0], port, application, threaded=True, fd=each.fileno())
            stay.enter_context(serving(server))
        yield port


def listening(address: str, port: int) -> socket.socket:
    """On Linux also on an address that does not exist yet: Podman creates its bridge with the first container."""
    listener = socket.socket()
    if address != "127.0.0.1":
        listener.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
    listener.bind((address, port))
    listener.listen()
    return listener


@contextmanager
def serving(server: BaseWSGIServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def s3_client(endpoint_url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def make_bucket(s3: Any, name: str) -> None:
    if name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


def put_raw_objects(s3: Any, event: dict[str, Any]) -> dict[str, str]:
    """Store a recorded batch at each place that the event announces. Returns the place as settings of process, because
    process reads only its own raw bucket and prefix."""
    body = recorded_request(SAMPLE_BATCH).body
    place: dict[str, str] = {}
    for record in event.get("Records", []):
        notifications = json.loads(record["body"]).get("Records", []) if "body" in record else [record]
        for notification in notifications:
            bucket, key = notification["s3"]["bucket"]["name"], unquote_plus(notification["s3"]["object"]["key"])
            make_bucket(s3, bucket)
            s3.put_object(Bucket=bucket, Key=key, Body=body)
            place = {"RAW_BUCKET": bucket, "RAW_PREFIX": key.rpartition("/")[0]}
    return place


def addresses(s3: Any) -> list[str]:
    return [
        f"s3://{bucket['Name']}/{item['Key']}"
        for bucket in s3.list_buckets()["Buckets"]
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
    ]


def engine_bridge() -> str | None:
    """This machine's address on the engine's default network; None if the engine runs in a virtual machine (Docker
    Desktop), whose host.docker.internal leads to loopback here."""
    if not sys.platform.startswith("linux") or "Docker Desktop" in str(engine().info().get("OperatingSystem")):
        return None
    [network] = [network for network in engine().networks.list() if network.name in ("bridge", "podman")]
    gateway: str = network.attrs["IPAM"]["Config"][0]["Gateway"]
    return gateway


def local_template(endpoint_url: str, raw: dict[str, str]) -> Path:
    """A copy of the built template whose functions use the local S3; template.yaml does not mention it."""
    built: dict[str, Any] = yaml.safe_load(BUILT_TEMPLATE.read_text())
    template = copy.deepcopy(built)
    for logical_id in FUNCTIONS.values():
        properties = template["Resources"][logical_id]["Properties"]
        properties["CodeUri"] = str((BUILT_TEMPLATE.parent / properties["CodeUri"]).resolve())
        variables = properties.setdefault("Environment", {}).setdefault("Variables", {})
        variables |= {name: value for name, value in {**local_settings(), **raw}.items() if name in variables}
        variables |= {"AWS_ENDPOINT_URL": endpoint_url, "AWS_ALLOW_HTTP": "true"}
    path = LOCAL / "invoke-template.yaml"
    path.write_text(yaml.safe_dump(template, sort_keys=False))
    return path


def local_settings() -> dict[str, str]:
    """The environment variables that a deployed stack would set."""
    return {
        "LAKE_BUCKET": LAKE_BUCKET,
        "WEBHOOK_AUTH": "BASIC",
        "CREDENTIAL_DIGESTS": hashlib.sha256(CREDENTIALS.encode()).hexdigest(),
    }


def sam_local_invoke(logical_id: str, event: Path, template: Path, port: int) -> tuple[Any, str]:
    options = ["--event", str(event.resolve()), "--template-file", str(template), "--region", REGION]
    if has_base_image():
        options.append("--skip-pull-image")  # so that it works offline
    result = subprocess.run(
        [Path(sys.executable).parent / "sam", "local", "invoke", logical_id, *options],
        cwd=ROOT,
        env={
            **os.environ,
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{port}",  # SAM calls GetCallerIdentity
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    log = result.stderr.strip()
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        said = log.splitlines()[-1] if log else "no answer"
        raise LocalAwsError(f"sam local invoke failed: {said}\n{log}")
    return json.loads(lines[-1]), log


def has_base_image() -> bool:
    """Whether the function's base image is on this machine, so that SAM need not pull it."""
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    try:
        engine().images.get(f"public.ecr.aws/lambda/python:3.13-{architecture}")
    except docker.errors.ImageNotFound:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
