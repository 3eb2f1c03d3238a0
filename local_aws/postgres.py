"""A PostgreSQL server with TLS in a temporary folder, which is removed when the server stops.

python -m local_aws.postgres  says in one line what is missing for it, if anything is
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from local_aws.emulator import LocalAwsError, free_port

OLDEST = 15
DEBIAN = Path("/usr/lib/postgresql")  # where Debian and Ubuntu put each version, and not on PATH
ACCOUNT = "postgres"  # the server refuses to run as root, so root starts it with Debian's account for it


@dataclass(frozen=True)
class Postgres:
    """A running server. `username` owns the database and is not a superuser, as on RDS."""

    directory: Path
    port: int
    data: Path
    host: str = "127.0.0.1"
    dbname: str = "marketing"
    username: str = "bird"
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def ca_certificate(self) -> Path:
        """The server's self-signed certificate, for localhost and 127.0.0.1."""
        return self.directory / "server.crt"

    def secret(self) -> dict[str, Any]:
        """The content of a Secrets Manager secret for this database, with the authority for VERIFY_FULL."""
        return {
            "engine": "postgres",
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "username": self.username,
            "password": self.password,
            "sslrootcert": self.ca_certificate.read_text(),
        }

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection as `username`, over TLS; autocommit unless `options` say otherwise."""
        connection: psycopg.Connection[Any] = psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=self.dbname,
            user=self.username,
            password=self.password,
            sslmode="verify-full",
            sslrootcert=str(self.ca_certificate),
            **{"autocommit": True, **options},
        )
        return connection

    def start(self) -> None:
        """Start or restart it, and return once it answers."""
        options = (
            f"-p {self.port} -k {self.sockets} -c unix_socket_permissions=0700 -c listen_addresses={self.host} "
            "-c fsync=off -c log_min_messages=log "
            f"-c ssl_cert_file={self.directory}/server.crt -c ssl_key_file={self.directory}/server.key"
        )
        log = self.directory / "postgres.log"
        run("pg_ctl", "start", "-w", "-D", self.data, "-l", str(log), "-o", options)

    def stop(self) -> None:
        """Stop it as an outage would: open connections break, committed data stays."""
        run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self.data)

    @property
    def sockets(self) -> Path:
        return self.directory / "socket"


@contextmanager
def running(port: int | None = None, *, keep: Path | None = None, settings: Iterable[str] = ()) -> Iterator[Postgres]:
    """A new, empty server. `keep`: a folder for its data, which stays, and which the next call goes on with."""
    directory = Path(tempfile.mkdtemp(prefix="bird-postgres-"))
    server = Postgres(directory, port or free_port(), keep or directory / "data")
    try:
        make_certificate(directory)
        server.sockets.mkdir(mode=0o700)  # the socket gives superuser access without a password
        if os.geteuid() == 0:
            for path in (directory, *directory.iterdir()):
                shutil.chown(path, ACCOUNT)
        if not server.data.exists():
            make_data(server, settings)
        server.start()
        try:
            make_database(server)
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_data(server: Postgres, settings: Iterable[str]) -> None:
    if os.geteuid() == 0:
        server.data.mkdir()
        shutil.chown(server.data, ACCOUNT)
    run("initdb", "-D", server.data, "--auth=scram-sha-256", "--auth-local=trust", "--username=postgres")
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("\n".join(["ssl = on", *settings]) + "\n")


def make_certificate(directory: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]  # one of RSA takes half a second
    command += ["-addext", names, "-keyout", "server.key", "-out", "server.crt"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    (directory / "server.key").chmod(0o600)
    (directory / "server.crt").chmod(0o644)
    directory.chmod(0o755)


def make_database(server: Postgres) -> None:
    administrator = f"host={server.sockets} port={server.port} user=postgres dbname=postgres"
    with psycopg.connect(administrator, autocommit=True) as connection:
        there = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [server.username]).fetchall()
        role = "ALTER ROLE" if there else "CREATE ROLE"
        connection.execute(f"{role} {server.username} LOGIN PASSWORD '{server.password}'")
        if not there:
            connection.execute(f"CREATE DATABASE {server.dbname} OWNER {server.username}")


def programs() -> Path:
    """The folder with initdb and pg_ctl: POSTGRES_PROGRAMS, or that of the newest version that is installed.

    Errors: LocalAwsError.
    """
    if chosen := os.environ.get("POSTGRES_PROGRAMS"):
        return Path(chosen)
    by_version = {int(path.parts[-2]): path for path in DEBIAN.glob("*/bin") if path.parts[-2].isdigit()}
    if by_version and max(by_version) >= OLDEST:
        return by_version[max(by_version)]
    missing = (
        f"needs PostgreSQL {OLDEST} or newer, its server's programs too (Debian, Ubuntu: apt-get install postgresql)"
    )
    found = shutil.which("initdb")
    if found is None:
        raise LocalAwsError(missing)
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"(\d+)", said)
    if not version or int(version[1]) < OLDEST:
        raise LocalAwsError(f"{missing}; {found} is {said.strip() or 'of no version'}")
    return Path(found).resolve().parent


def main() -> int:
    try:
        programs()
        if shutil.which("openssl") is None:
            raise LocalAwsError("needs openssl, for the server's certificate (Debian, Ubuntu: apt-get install openssl)")
    except LocalAwsError as error:
        print(f"local PostgreSQL: {error}", file=sys.stderr)
        return 1
    return 0


def run(program: str, *arguments: str | Path) -> None:
    path = programs() / program
    account = ACCOUNT if os.geteuid() == 0 else None
    # To a file, not a pipe: the server inherits it, and a pipe would be read until the server ends.
    with tempfile.TemporaryFile() as said:
        command: list[str | Path] = [path, *arguments]
        result = subprocess.run(
            command, user=account, group=account, cwd="/", stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        if result.returncode:
            said.seek(0)
            raise LocalAwsError(f"{program} failed: {said.read().decode(errors='replace').strip()}")


if __name__ == "__main__":
    sys.exit(main())
