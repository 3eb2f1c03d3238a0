"""Calls a handler in a loop or behind a socket, in its own process.

python -m benchmarks.handlers '{"do": "ingest", …}'     the same batch again and again, always with a new id
python -m benchmarks.handlers '{"do": "process", …}'    one invocation with a queue's event
python -m benchmarks.handlers '{"do": "serve", …}'      prints ports; the caller kills it at the end
"""

import importlib
import json
import logging
import os
import resource
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.measure import peak_memory_bytes

CREDENTIALS = "Basic YmlyZDpleGFtcGxlLXBhc3N3b3Jk"  # bird:example-password


def main() -> None:
    # Log lines are formatted as in Lambda and thrown away.
    logging.basicConfig(stream=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    wanted = json.load(sys.stdin)
    {"ingest": ingest, "process": process, "serve": serve}[wanted["do"]](wanted)


def alb_event(body: str, batch_id: str) -> dict[str, Any]:
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/t/1"}},
        "httpMethod": "POST",
        "path": "/bird",
        "queryStringParameters": {},
        "headers": {
            "accept": "application/json",
            "authorization": CREDENTIALS,
            "content-type": "application/json",
            "host": "webhooks.example.com",
            "x-forwarded-for": "192.0.2.10",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-messagesystems-batch-id": batch_id,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def call(handler: Any, body: str) -> None:
    answer = handler(alb_event(body, uuid.uuid4().hex), None)
    if answer["statusCode"] != 200:
        raise RuntimeError(f"answered {answer}")


def ingest(wanted: dict[str, Any]) -> None:
    handler = importlib.import_module(wanted["handler"]).lambda_handler
    body = Path(wanted["batch"]).read_text()
    for _ in range(5):
        call(handler, body)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(wanted["count"]):
        call(handler, body)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu, "wall": wall, "peak_memory": peak_memory_bytes()}))


def process(wanted: dict[str, Any]) -> None:
    handler = importlib.import_module(wanted["handler"]).lambda_handler

    def invoke(keys: list[str]) -> None:
        notifications = [
            {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "raw"}, "object": {"key": key}}}]}
            for key in keys
        ]
        records = [
            {
                "messageId": key,
                "receiptHandle": key,
                "body": json.dumps(one),
                "attributes": {"ApproximateReceiveCount": str(wanted["receive_count"])},
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:process",
            }
            for key, one in zip(keys, notifications, strict=True)
        ]
        if handler({"Records": records}, None) != {"batchItemFailures": []}:
            raise RuntimeError("batches failed")

    if wanted["warm"]:
        invoke(wanted["keys"][:2])
    cpu, wall = _cpu_seconds(), time.perf_counter()
    invoke(wanted["keys"])
    cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu, "wall": wall, "peak_memory": peak_memory_bytes()}))


def _cpu_seconds() -> float:
    """Of this process and of its child processes that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def serve(wanted: dict[str, Any]) -> None:
    """One process for each connection, because in Lambda an execution environment gets one request at a time."""
    handler = importlib.import_module(wanted["handler"]).lambda_handler
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(wanted["workers"])]
    workers = []
    for server in servers:
        # Before the handler's first call: no client has opened a connection or started a thread yet.
        worker = os.fork()
        if not worker:
            try:
                _answer_all(server, handler)
            finally:
                os._exit(0)
        workers.append(worker)
    print(json.dumps([server.getsockname()[1] for server in servers]), flush=True)
    for server in servers:
        server.close()
    for worker in workers:
        os.waitpid(worker, 0)


def _answer_all(server: socket.socket, handler: Any) -> None:
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", buffering=65536) as requests:
        while requests.readline():
            length = 0
            while line := requests.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            call(handler, requests.read(length).decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


if __name__ == "__main__":
    main()
