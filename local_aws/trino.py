"""Trino on the local AWS's Glue and S3. Athena is built on Trino, so it refuses what Athena refuses.

    python -m local_aws.trino    fetch it into ~/.cache/bird-webhooks, unless it is there

Needs Java 24 or newer, and Maven, which fetches Trino's server and its Hive connector by their coordinates. Their
SHA-256 sums are in local_aws/trino.sha256. The server listens on 127.0.0.1 only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from zipfile import ZipFile

import trino

from bird_webhooks.terminal import step
from local_aws.emulator import LOCAL, REGION, ROOT, SECRET_KEY, Emulator, LocalAwsError, free_port

VERSION = "476"  # docs/decisions.md says how it relates to Athena's version
ARTEFACTS = {"trino-server-core": "tar.gz", "trino-hive": "zip"}
SUMS = ROOT / "local_aws/trino.sha256"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bird-webhooks"
HOME = CACHE / f"trino-{VERSION}"
JAVAS = Path("/usr/lib/jvm")  # where Debian puts them
MIN_JAVA = 24  # https://trino.io/docs/476/installation/deployment.html
CATALOG = "awsdatacatalog"  # the catalog in the views' JSON
START_TIMEOUT_SECONDS = 300
STOP_TIMEOUT_SECONDS = 20

# Trino requires the last three options. Only the fast compiler and one thread that collects garbage, because on two
# cores the optimizing compiler and G1 cost more than they gain within minutes.
JVM = """-Xmx2G -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError
-Duser.timezone=UTC -Dfile.encoding=UTF-8 --add-modules=jdk.incubator.vector
--sun-misc-unsafe-memory-access=allow -Djdk.attach.allowAttachSelf=true"""
SERVER = """\
coordinator=true
node-scheduler.include-coordinator=true
node.internal-address=127.0.0.1
node.bind-ip=127.0.0.1
http-server.http.port={port}
discovery.uri=http://127.0.0.1:{port}
query.max-memory=1GB
query.max-memory-per-node=1GB
memory.heap-headroom-per-node=400MB
"""
HIVE = """\
connector.name=hive
hive.metastore=glue
hive.metastore.glue.region={region}
hive.metastore.glue.endpoint-url={endpoint}
hive.metastore.glue.aws-access-key={access_key}
hive.metastore.glue.aws-secret-key={secret_key}
hive.partition-projection-enabled=false
fs.native-s3.enabled=true
s3.endpoint={endpoint}
s3.region={region}
s3.path-style-access=true
s3.aws-access-key={access_key}
s3.aws-secret-key={secret_key}
"""
# For a lake in which nothing changes: partitions, listings and files are asked of the local AWS once.
CACHES = """\
hive.metastore-cache-ttl=1h
hive.file-status-cache-tables=*
hive.file-status-cache-expire-time=1h
fs.cache.enabled=true
fs.cache.directories={directory}
fs.cache.max-sizes=1GB
"""


@dataclass(frozen=True)
class Trino:
    """A running server."""

    port: int
    pid: int
    log: Path

    def query(self, sql: str, database: str) -> tuple[list[tuple[str, str]], list[list[object]]]:
        """(name, type) of each column, and the rows. Errors: trino.exceptions.TrinoQueryError, with Trino's text."""
        with trino.dbapi.connect(  # type: ignore[no-untyped-call]
            host="127.0.0.1", port=self.port, user="test", catalog=CATALOG, schema=database, timezone="UTC"
        ) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            rows = cursor.fetchall()
            return [(column.name, column.type_code) for column in cursor.description], rows


def main() -> int:
    try:
        java()
        fetch()
    except LocalAwsError as error:
        print(f"local Trino: {error}", file=sys.stderr)
        return 1
    return 0


def java() -> str:
    """The path of a Java that is new enough. Errors: LocalAwsError."""
    homes = [os.environ.get("JAVA_HOME"), *map(str, sorted(JAVAS.glob("*"), reverse=True))]
    programs = [f"{home}/bin/java" for home in homes if home] + [which("java") or ""]
    for program in programs:
        if program and Path(program).exists():
            said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            version = re.match(r"\S+ (\d+)", said)
            if version and int(version[1]) >= MIN_JAVA:
                return program
    raise LocalAwsError(f"Trino {VERSION} needs Java {MIN_JAVA} or newer: install one, or set JAVA_HOME to it")


def fetch() -> None:
    """Put the server into HOME, unless it is there with the right sums. Errors: LocalAwsError."""
    stamp = HOME / "sums"
    if stamp.exists() and stamp.read_text() == SUMS.read_text():
        return
    maven = which("mvn")
    if maven is None:
        raise LocalAwsError(f"Maven fetches Trino {VERSION}: install Maven (Debian: apt-get install maven)")
    CACHE.mkdir(parents=True, exist_ok=True)
    sums = {name: digest for digest, name in map(str.split, SUMS.read_text().splitlines())}
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        directory = Path(made)
        for name, kind in ARTEFACTS.items():
            file = directory / f"{name}-{VERSION}.{kind}"
            step(f"fetching {file.name} (Maven)")
            download(maven, f"io.trino:{name}:{VERSION}:{kind}", directory)
            if sha256(file) != sums[file.name]:
                raise LocalAwsError(f"{file.name} does not have the SHA-256 sum in {SUMS.name}: it was not kept")
            unpack(file, directory)
        server = directory / f"trino-server-core-{VERSION}"
        shutil.rmtree(server / "plugin")  # queries need none of these
        (server / "plugin").mkdir()
        (directory / f"trino-hive-{VERSION}").rename(server / "plugin/hive")
        (server / "sums").write_text(SUMS.read_text())
        shutil.rmtree(HOME, ignore_errors=True)
        server.rename(HOME)


def unpack(file: Path, directory: Path) -> None:
    """Without shutil.unpack_archive, which skips files with two dots in their names."""
    if file.suffix == ".zip":
        with ZipFile(file) as zipped:
            zipped.extractall(directory)  # noqa: S202  (ruff takes it for a tar; its sum guarantees its content)
    else:
        with tarfile.open(file) as tarred:
            tarred.extractall(directory, filter="data")


def download(maven: str, coordinates: str, directory: Path) -> None:
    command = [maven, "--batch-mode", "--no-transfer-progress", "dependency:copy"]
    command += [f"-Dartifact={coordinates}", f"-DoutputDirectory={directory}"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        said = next((line for line in result.stdout.splitlines() if line.startswith("[ERROR]")), "no output")
        raise LocalAwsError(f"Maven could not fetch {coordinates}: {said}")


def sha256(file: Path) -> str:
    if not file.exists():
        raise LocalAwsError(f"Maven did not copy {file.name}")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def running(emulator: Emulator, *, unchanging: bool = False) -> Iterator[Trino]:
    """A server on that local AWS, which must answer plain HTTP; it leaves nothing behind after the block.

    `unchanging`: tables, views, partitions and files stay what they are at the first query, so it asks for each once.
    """
    program, port = java(), free_port()
    LOCAL.mkdir(exist_ok=True)
    log = LOCAL / f"trino-{port}.log"
    with tempfile.TemporaryDirectory(prefix="bird-trino-") as made, log.open("wb") as output:
        directory = Path(made)
        configure(directory, port, emulator, unchanging=unchanging)
        process = subprocess.Popen(
            [program, *JVM.split(), *properties(directory), "-cp", f"{HOME}/lib/*", "io.trino.server.TrinoServer"],
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": made},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_started(process, log)
            yield Trino(port, process.pid, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def configure(directory: Path, port: int, emulator: Emulator, *, unchanging: bool) -> None:
    (directory / "config.properties").write_text(SERVER.format(port=port))
    (directory / "catalog").mkdir()
    hive = HIVE.format(
        region=REGION, endpoint=emulator.endpoint_url, access_key=emulator.access_key, secret_key=SECRET_KEY
    )
    if unchanging:
        files = directory / "files"
        files.mkdir()
        hive += CACHES.format(directory=files)
    (directory / f"catalog/{CATALOG}.properties").write_text(hive)


def properties(directory: Path) -> list[str]:
    given = {
        "config": directory / "config.properties",
        "catalog.config-dir": directory / "catalog",
        "plugin.dir": HOME / "plugin",
        "node.environment": "test",
        "node.id": "one",
        "node.data-dir": directory,
        "java.io.tmpdir": directory,
    }
    return [f"-D{name}={value}" for name, value in given.items()]


def wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while b"SERVER STARTED" not in log.read_bytes():
        if process.poll() is not None:
            raise LocalAwsError(f"Trino stopped at once, exit status {process.returncode}: see {log}")
        if time.monotonic() > deadline:
            raise LocalAwsError(f"Trino did not start within {START_TIMEOUT_SECONDS} s: see {log}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
