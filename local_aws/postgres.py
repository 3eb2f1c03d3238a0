"""A PostgreSQL server with TLS in a temporary folder, which is removed when the server stops."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from local_aws.emulator import LocalAwsError, free_port

DEBIAN = Path("/usr/lib/postgresql/15/bin")
ACCOUNT = "postgres"  # the server refuses to run as root, so root starts it with Debian's account for it


@dataclass(frozen=True)
class Postgres:
    """A running server. `username` owns the database and is not a superuser, as on RDS."""

    directory: Path
    port: int
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
            "-c fsync=off -c log_min_messages=log"
        )
        log = self.directory / "postgres.log"
        run("pg_ctl", "start", "-w", "-D", self.data, "-l", str(log), "-o", options)

    def stop(self) -> None:
        """Stop it as an outage would: open connections break, committed data stays."""
        run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self.data)

    @property
    def sockets(self) -> Path:
        return self.directory / "socket"

    @property
    def data(self) -> str:
        return str(self.directory / "data")


@contextmanager
def running(port: int | None = None) -> Iterator[Postgres]:
    """A new, empty server."""
    directory = Path(tempfile.mkdtemp(prefix="bird-postgres-"))
    server = Postgres(directory, port or free_port())
    try:
        make_certificate(directory)
        server.sockets.mkdir(mode=0o700)  # the socket gives superuser access without a password
        if os.geteuid() == 0:
            for path in (directory, *directory.iterdir()):
                shutil.chown(path, ACCOUNT)
        run("initdb", "-D", server.data, "--auth=scram-sha-256", "--auth-local=trust", "--username=postgres")
        with (directory / "data/postgresql.conf").open("a") as settings:
            settings.write(
                f"ssl = on\nssl_cert_file = '{directory}/server.crt'\nssl_key_file = '{directory}/server.key'\n"
            )
        server.start()
        try:
            make_database(server)
            yield server
        finally:
            if (directory / "data/postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_certificate(directory: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", names, "-keyout", "server.key", "-out", "server.crt"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    (directory / "server.key").chmod(0o600)
    (directory / "server.crt").chmod(0o644)
    directory.chmod(0o755)


def make_database(server: Postgres) -> None:
    administrator = f"host={server.sockets} port={server.port} user=postgres dbname=postgres"
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {server.username} LOGIN PASSWORD '{server.password}'")
        connection.execute(f"CREATE DATABASE {server.dbname} OWNER {server.username}")


def run(program: str, *arguments: str) -> None:
    path = DEBIAN / program if (DEBIAN / program).exists() else shutil.which(program)
    if path is None:
        raise LocalAwsError(f"{program} was not found: install PostgreSQL 15 (Debian: apt-get install postgresql)")
    account = ACCOUNT if os.geteuid() == 0 else None
    # To a file, not a pipe: the server inherits it, and a pipe would be read until the server ends.
    with tempfile.TemporaryFile() as said:
        command = [path, *arguments]
        result = subprocess.run(
            command, user=account, group=account, cwd="/", stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        if result.returncode:
            said.seek(0)
            raise LocalAwsError(f"{program} failed: {said.read().decode(errors='replace').strip()}")
