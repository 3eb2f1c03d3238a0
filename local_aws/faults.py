"""An HTTP proxy on loopback that injects faults: delays, errors, lost requests and lost answers."""

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

UPSTREAM_TIMEOUT_SECONDS = 60
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Fault(NamedTuple):
    """What happens to one request."""

    delay_seconds: float = 0  # before anything else
    status: int | None = None  # the proxy answers with it and does not pass the request on
    passed_on: bool = True
    answered: bool = True  # False: the connection is closed without an answer


REFUSED = Fault(status=503)
NEVER_ARRIVED = Fault(passed_on=False, answered=False)
ANSWER_LOST = Fault(answered=False)
S3_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultProxy:
    """Passes requests on to `upstream`, with the fault that `fault` returns for (method, path, number of the request).

    `served` is called after upstream has answered and before the caller gets the answer.
    """

    def __init__(self, upstream: str) -> None:
        self.fault: Callable[[str, str, int], Fault | None] = lambda method, path, number: None
        self.served: Callable[[str, str, int], None] = lambda method, path, number: None
        self.requests = 0
        self.faults = 0
        self._lock = threading.Lock()
        self._target = urlsplit(upstream)
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The upstream's URL through this proxy."""
        return f"http://127.0.0.1:{self._server.server_port}{self._target.path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, method: str, path: str) -> tuple[int, Fault]:
        with self._lock:
            self.requests += 1
            number = self.requests
        fault = self.fault(method, path, number)
        if fault is not None:
            with self._lock:
                self.faults += 1
        return number, fault or Fault()

    def _forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._target.netloc, timeout=UPSTREAM_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                number, fault = proxy._fault(self.command, self.path)
                time.sleep(fault.delay_seconds)
                status, headers, content = fault.status or 502, [("Content-Type", "application/xml")], S3_SLOW_DOWN
                if fault.passed_on and fault.status is None:
                    with suppress(OSError, http.client.HTTPException):
                        status, headers, content = proxy._forward(self.command, self.path, body, dict(self.headers))
                        proxy.served(self.command, self.path, number)
                if not fault.answered:
                    self.close_connection = True
                    return
                self._answer(status, headers, content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in HOP_HEADERS:
                        self.send_header(name, value)
                length = next((value for name, value in headers if name.lower() == "content-length"), None)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: callers that close the connection are expected here."""
