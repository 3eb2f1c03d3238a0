"""One MiniStack process, the local AWS: starts it, waits until it is healthy, and stops it with all its children."""

import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
REGION = "eu-west-1"
SECRET_KEY = "test"  # noqa: S105  (the emulator's fixed secret; the access key is the real secret here)
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 10
GRACE_SECONDS = 3

# What this process started: Python warns if a Popen is garbage-collected while its process is running.
_started: dict[int, subprocess.Popen[bytes]] = {}


class LocalAwsError(Exception):
    """An error that the developer can act on; the text is one line."""


@dataclass(frozen=True)
class Emulator:
    """A running MiniStack. `directory` holds its temporary files and is removed with it.

    `access_key` belongs to its root user and is new at each start. Requests without a known key are refused.
    """

    port: int
    pid: int
    directory: Path
    log: Path
    auth: bool
    access_key: str = field(repr=False)

    @property
    def endpoint_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def scheme(self) -> str:
        """With policies enforced, buckets refuse plain HTTP here too."""
        return "https" if self.auth else "http"

    @property
    def certificate(self) -> Path:
        """The emulator's own certificate, which it creates when it starts with TLS."""
        return self.directory / "ministack-tls/server.crt"

    def environment(self) -> dict[str, str]:
        """The environment for programs that must use this local AWS and no other."""
        trust = {"AWS_CA_BUNDLE": str(self.certificate)} if self.auth else {}
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **trust,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **credentials: str) -> Any:
        """A boto3 client as root, or with the given aws_* credentials; the same one each time."""
        login = credentials or {"aws_access_key_id": self.access_key, "aws_secret_access_key": SECRET_KEY}
        with _one_at_a_time:
            return _client(self, service, tuple(login.items()))


# Making a client costs up to half a second of processor time, most of it for the service's description, which the
# session keeps. A session makes one at a time; clients are for all threads.
_one_at_a_time = threading.Lock()


@cache
def _session() -> boto3.session.Session:
    return boto3.session.Session(region_name=REGION)


@cache
def _client(emulator: Emulator, service: str, login: tuple[tuple[str, str], ...]) -> Any:
    verify = str(emulator.certificate) if emulator.auth else None
    # As many connections as the operator's program uses at once: those beyond are closed by the garbage collector.
    config = Config(max_pool_connections=32)
    if service == "s3":
        config = config.merge(Config(signature_version="s3v4"))
    return _session().client(  # type: ignore[call-overload]
        service, endpoint_url=emulator.endpoint_url, verify=verify, config=config, **dict(login)
    )


def forget_real_aws() -> None:
    """Drop every AWS_* variable of the developer's shell, so that nothing here can reach a real account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def free_port() -> int:
    """One that nothing uses, and that no connection takes meanwhile: Linux and macOS give those higher ones."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start(port: int, *, auth: bool = False, bind: str = "127.0.0.1") -> Emulator:
    """Start MiniStack on `port` and wait until it answers. With `auth`, IAM policies are enforced."""
    program = ROOT / ".venv-ministack/bin/ministack"
    if not program.exists():
        raise LocalAwsError("MiniStack is not installed: run `make install-all` first")
    require_free(port, bind)
    LOCAL.mkdir(exist_ok=True)
    log = LOCAL / f"emulator-{port}.log"
    directory = Path(tempfile.mkdtemp(prefix="bird-webhooks-local-"))
    access_key = f"LOCAL{secrets.token_hex(8).upper()}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program.with_name("python"),
                *("-P", "-m", "local_aws.ministack"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,  # its own process group, so that its function processes stop with it
            env={
                # Functions inherit this environment, so it holds only what Lambda would give them.
                "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "HOME": str(directory),
                "TMPDIR": str(directory),
                "LANG": "C.UTF-8",
                "GATEWAY_PORT": str(port),
                "BIND_HOST": bind,
                "AWS_ACCESS_KEY_ID": access_key,
                "MINISTACK_REGION": REGION,
                "LAMBDA_EXECUTOR": "local",
                "IOT_MTLS_ENABLED": "0",  # it uses fixed ports, which two emulators cannot share
                "SFTP_ENABLED": "0",
                "S3_DATA_DIR": str(directory / "s3"),
                "STATE_DIR": str(directory / "state"),
                "AUTH": "true" if auth else "false",
                "USE_SSL": "1" if auth else "0",
                "AWS_ALLOW_HTTP": "true",
                # The delays that local_aws/strict imitates.
                **{name: value for name, value in os.environ.items() if name.startswith("STRICT_AWS_")},
            },
        )
    _started[process.pid] = process
    emulator = Emulator(port, process.pid, directory, log, auth, access_key)
    try:
        wait_until_healthy(emulator, process)
    except BaseException:
        stop(emulator)
        raise
    return emulator


def require_free(port: int, bind: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise LocalAwsError(
                f"port {port} is already in use: stop what uses it (`make local-down`?) or set LOCAL_AWS_PORT"
            ) from error


def wait_until_healthy(emulator: Emulator, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_healthy(emulator):
        if process.poll() is not None:
            raise LocalAwsError(f"MiniStack stopped at once, exit status {process.returncode}: see {emulator.log}")
        if time.monotonic() > deadline:
            raise LocalAwsError(f"MiniStack did not answer within {START_TIMEOUT_SECONDS} s: see {emulator.log}")
        time.sleep(0.1)


def is_healthy(emulator: Emulator) -> bool:
    url = f"{emulator.endpoint_url}/_ministack/health"
    try:
        trust = ssl.create_default_context(cafile=emulator.certificate) if emulator.auth else None
        with urllib.request.urlopen(url, timeout=5, context=trust) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:  # it, or its certificate, does not exist yet
        return False


def stop(emulator: Emulator) -> None:
    """Kill MiniStack and its function processes, because there is no state to keep; remove its temporary files."""
    with suppress(ProcessLookupError):
        os.killpg(emulator.pid, signal.SIGKILL)
    wait_for_end(emulator.pid)
    if process := _started.pop(emulator.pid, None):
        process.wait(STOP_TIMEOUT_SECONDS)
    rmtree(emulator.directory, ignore_errors=True)


def wait_for_end(group: int) -> None:
    """Until the group has no process left, or the time is up."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)  # if it is our child, it would stay as a zombie otherwise
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


@contextmanager
def running(port: int | None = None, *, auth: bool = False, bind: str = "127.0.0.1") -> Iterator[Emulator]:
    """A MiniStack for a `with` block, on a free port unless one is named."""
    emulator = start(port or free_port(), auth=auth, bind=bind)
    try:
        yield emulator
    finally:
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave it running
        try:
            stop(emulator)
        finally:
            signal.signal(signal.SIGINT, interrupt)


def remember(emulator: Emulator) -> None:
    """Save the state of a MiniStack that outlives this process, for `recall`."""
    state_file().touch(mode=0o600)  # it holds the key
    state_file().write_text(json.dumps(asdict(emulator), default=str, indent=2) + "\n")


def recall() -> Emulator | None:
    """The MiniStack that `remember` saved, if that process is still running."""
    if not state_file().exists():
        return None
    state = json.loads(state_file().read_text())
    paths = {name: Path(state[name]) for name in ("directory", "log")}
    emulator = Emulator(**{**state, **paths})
    command = subprocess.run(["ps", "-o", "command=", "-p", str(emulator.pid)], capture_output=True, text=True)
    if "ministack" not in command.stdout:
        forget()
        return None
    return emulator


def forget() -> None:
    state_file().unlink(missing_ok=True)


def state_file() -> Path:
    return LOCAL / "emulator.json"
