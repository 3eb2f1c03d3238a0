"""The webhook as the internet reaches it: its name, its certificate, its answers. Nothing here asks AWS's API."""

import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

TIMEOUT_SECONDS = 10  # as long as Bird waits
MAX_ANSWER_BYTES = 5_000_000


def addresses(host: str) -> list[str]:
    """What the name resolves to on this machine; nothing if it does not."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Network:
    """This machine's ways out; a test has others."""

    resolve: Callable[[str], list[str]] = addresses
    connect: Callable[[tuple[str, int], float], socket.socket] = socket.create_connection
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class FrontDoor:
    """An address, http or https, and how to get there."""

    url: str
    network: Network = field(default_factory=Network)

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        return str(self.parts.hostname)

    def certificate_ends(self) -> datetime:
        """When the certificate expires; it is valid for the name. Errors: ssl.SSLError, OSError."""
        with self._connected() as connection:
            certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
        if not certificate:
            raise ssl.SSLError("no certificate was asked for")
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)

    def send(
        self, method: str, headers: Mapping[str, str] | None = None, body: bytes = b"", path: str | None = None
    ) -> Answer:
        """Redirects are not followed: Bird does not. Errors: ssl.SSLError, OSError, http.client.HTTPException."""
        own = self.parts.path + (f"?{self.parts.query}" if self.parts.query else "")
        connection = http.client.HTTPConnection(self.parts.netloc.rpartition("@")[2], timeout=TIMEOUT_SECONDS)
        connection.sock = self._connected()
        try:
            connection.request(method, path or own or "/", body=body or None, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.getheader("content-type", ""), response.read(MAX_ANSWER_BYTES))
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        """To the first address that takes it."""
        secure = self.parts.scheme == "https"
        found = self.network.resolve(self.host)
        error: OSError = ConnectionError(f"{self.host} does not resolve")
        for address in found:
            try:
                connection = self.network.connect(
                    (address, self.parts.port or (443 if secure else 80)), TIMEOUT_SECONDS
                )
            except OSError as refused:
                error = refused
                continue
            if not secure:
                return connection
            try:
                return self.network.trust().wrap_socket(connection, server_hostname=self.host)
            except BaseException:
                connection.close()
                raise
        raise error
