"""A stand-in for S3 on loopback, as fast as this machine allows, so that S3's own time does not count.

It also answers SQS's deletions of messages.

python -m benchmarks.s3     prints its port; stops when its standard input is closed

Of an object in the bucket `sink` only the name is kept; objects in other buckets are kept in memory.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from urllib.parse import unquote

from benchmarks.events import ROOT
from benchmarks.measure import environment

DISCARDING = "/sink/"
MODIFIED = formatdate(0, usegmt=True)
ANSWERS = {200: b"200 OK", 404: b"404 Not Found", 412: b"412 Precondition Failed"}
_objects: dict[str, tuple[bytes, list[bytes]]] = {}


@contextmanager
def running() -> Iterator[str]:
    """Yields the URL of one that runs in its own process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.s3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    try:
        assert process.stdout  # noqa: S101  (asked for above)
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(server.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=[server], daemon=True).start()
    sys.stdin.read()


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=[connection], daemon=True).start()


def _serve(connection: socket.socket) -> None:
    received = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            request, *lines = head.split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in map(_lower_name, lines))
            if headers.get(b"expect") == b"100-continue":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = int(headers.get(b"content-length", b"0"))
            body = bytearray(length)
            early = min(length, len(received))
            body[:early], received = received[:early], received[early:]
            if early < length:
                connection.recv_into(memoryview(body)[early:], length - early, socket.MSG_WAITALL)
            connection.sendall(_answer(request, headers, body))


def _lower_name(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    return name.lower() + b": " + value.strip()


def _answer(request: bytes, headers: dict[bytes, bytes], body: bytearray) -> bytes:
    method, target, _ = request.split(b" ")
    path = unquote(target.decode().partition("?")[0])
    content, extra = b"", []
    if method == b"POST":
        return _response(200, [b"Content-Type: application/x-amz-json-1.0"], b'{"Successful": [], "Failed": []}')
    if method == b"PUT":
        if headers.get(b"if-none-match") == b"*" and path in _objects:
            return _response(412, [], b"")
        names = (b"content-type", b"content-encoding")
        kept = [name + b": " + value for name, value in headers.items() if name in names or name.startswith(b"x-amz-m")]
        _objects[path] = (b"" if path.startswith(DISCARDING) else bytes(body), kept)
    elif path in _objects:
        content, extra = _objects[path]
    else:
        return _response(404, [], b"")
    return _response(200, [b'ETag: "0"', b"Last-Modified: " + MODIFIED.encode(), *extra], content)


def _response(status: int, headers: list[bytes], content: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + ANSWERS[status], b"Content-Length: %d" % len(content), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


if __name__ == "__main__":
    main()
