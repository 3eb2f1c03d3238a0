"""moto's AWS at one address: within this process for boto3, and over HTTP for what speaks it itself.

moto's own server closes each connection, starts a thread for each request, and waits up to 10 ms for what might
follow: more than half of the processor time of a request.
"""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.handlers import BUILTIN_HANDLERS
from moto.core.botocore_stubber import MockRawResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

APPLICATION = DomainDispatcherApplication(create_backend_app)
APPLICATION.get_backend_for_host = cache(APPLICATION.get_backend_for_host)  # it lists moto's folders each time
addresses: set[str] = set()


def answer(method: str, url: str, headers: Iterable[tuple[str, Any]], body: bytes) -> tuple[int, Headers, bytes]:
    parts = urlsplit(url)
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(parts.path).decode("latin-1"),
        "QUERY_STRING": parts.query,
        "RAW_URI": url,
        "SERVER_NAME": parts.hostname,
        "SERVER_PORT": str(parts.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": parts.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
    }
    for name, value in headers:
        text = value.decode() if isinstance(value, bytes) else str(value)
        environ["HTTP_" + name.upper().replace("-", "_")] = text
    environ |= {"CONTENT_TYPE": environ.get("HTTP_CONTENT_TYPE", ""), "CONTENT_LENGTH": str(len(body))}
    content, status, got = run_wsgi_app(APPLICATION, environ, buffered=True)
    return int(status.split()[0]), got, b"".join(content)


def in_process(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
    if not request.url.startswith(tuple(addresses)):
        return None
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    body = body.encode() if isinstance(body, str) else bytes(body)
    status, headers, content = answer(request.method, request.url, request.headers.items(), body)
    return AWSResponse(request.url, status, headers, MockRawResponse(content))


BUILTIN_HANDLERS.append(("before-send", in_process))  # of every client that is made from here on
# One reader of the services' descriptions, for moto takes boto3's session away with each of its mocks.
botocore.session.create_loader = cache(botocore.session.create_loader)
SESSION = boto3.session.Session("test", "test", region_name="eu-west-1")


@cache
def client(service: str, endpoint_url: str | None = None) -> Any:
    """One for all tests of a process: to make one takes longer than most of what they ask."""
    return SESSION.client(service, endpoint_url=endpoint_url)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        assert "transfer-encoding" not in self.headers, "a body in chunks is not read here"
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = f"http://{self.headers['host']}{self.path}"
        status, headers, content = answer(self.command, url, self.headers.items(), body)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in headers:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815


@contextmanager
def running() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        addresses.add(address)
        yield address
        addresses.remove(address)
        server.shutdown()
