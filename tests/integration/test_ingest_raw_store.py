"""ingest against an S3 that behaves as S3 does where moto does not: idle connections, lost answers, Object Lock."""

import hashlib
import json
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest.app import lambda_handler
from maintain.generate.events import alb

INPUTS = Path(__file__).resolve().parents[1] / "data"
FIRST, SECOND = ((INPUTS / f"inputs/14-same-id-body-{number}.json").read_text() for number in (1, 2))


@dataclass
class StrictS3:
    """`reset_idle`: a connection is reset when a second request comes over it. `lost_answers`: so many puts are stored
    and their connections reset. `refuse`: status codes for the next requests, by method. `hangs`: seconds, for the next
    puts."""

    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    reset_idle: bool = False
    object_lock: bool = False
    lost_answers: int = 0
    refuse: dict[str, list[int]] = field(default_factory=dict)
    hangs: list[float] = field(default_factory=list)

    def keys(self) -> list[str]:
        return sorted(self.objects)


@pytest.fixture
def strict_s3(s3, monkeypatch):
    world = StrictS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        served = 0

        def handle_one_request(self) -> None:
            if world.reset_idle and self.served:
                self.rfile.read(1)
                self.reset()
                return
            super().handle_one_request()

        def reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # a shutdown first would end the connection in good order
            self.close_connection = True

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.served += 1
            self.send_response(status)
            length = (headers or {}).pop("Content-Length", str(len(body)))
            for name, value in {"Content-Length": length, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            world.seen.append("PUT")
            if world.hangs:
                time.sleep(world.hangs.pop())
            if codes := world.refuse.get("PUT"):
                self.answer(codes.pop(0))
                return
            if world.object_lock and not any(name.lower().startswith("x-amz-checksum-") for name in self.headers):
                text = (INPUTS / "inputs2/13-object-lock-answer.txt").read_text().splitlines()[1]
                self.answer(400, text.encode())
                return
            key = self.path.partition("/raw-bucket/")[2]
            if key in world.objects and self.headers["if-none-match"] == "*":
                self.answer(412)
                return
            kept = {
                name.lower(): value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")
            }
            world.objects[key] = (body, kept)
            if world.lost_answers:
                world.lost_answers -= 1
                self.reset()
                return
            self.answer(200, headers={"ETag": '"an-opaque-tag"'})

        def do_GET(self) -> None:
            world.seen.append(self.command)
            if codes := world.refuse.get(self.command):
                self.answer(codes.pop(0))
                return
            body, kept = world.objects[self.path.partition("/raw-bucket/")[2]]
            headers = {
                "ETag": '"an-opaque-tag"',
                "Last-Modified": "Wed, 25 Nov 2026 12:00:00 GMT",
                "Content-Length": str(len(body)),
                "x-amz-server-side-encryption": "aws:kms",
            }
            self.answer(200, body, {**headers, **kept})

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    monkeypatch.setattr(server, "handle_error", lambda *_: None)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield world
    server.shutdown()
    server.server_close()


def sent(batch_id: str | None, body: str = "[1]") -> tuple[int, str]:
    answer = lambda_handler(alb(body, batch_id=batch_id), None)
    return answer["statusCode"], json.loads(answer["body"])["status"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def counts(caplog) -> dict[str, int]:
    lines = [vars(record) for record in caplog.records if hasattr(record, "_aws")]
    names = [directive["Metrics"][0]["Name"] for line in lines for directive in line["_aws"]["CloudWatchMetrics"]]
    return {name: names.count(name) for name in names}


def test_batches_after_a_pause_are_stored_though_s3_has_closed_the_connection(strict_s3):
    strict_s3.reset_idle = True
    assert [sent(f"batch-{number}") for number in range(20)] == [(200, "stored")] * 20
    assert len(strict_s3.objects) == 20


def test_a_connection_that_was_idle_for_longer_than_s3_keeps_it_is_not_used(strict_s3):
    strict_s3.reset_idle = True
    assert sent("one") == (200, "stored")
    time.sleep(4.2)
    assert sent("two") == (200, "stored")
    assert strict_s3.seen == ["PUT", "PUT"]


def test_a_batch_whose_answer_was_lost_is_stored_once_and_is_no_duplicate(strict_s3, caplog):
    caplog.set_level("INFO")
    strict_s3.lost_answers = 1
    assert sent("one") == (200, "stored")
    assert strict_s3.keys() == ["raw/one.json"]
    assert counts(caplog) == {"batches_stored": 1}
    assert sent("one") == (200, "duplicate")


@pytest.mark.parametrize("code", [409, 500, 503])
def test_trouble_that_passes_is_waited_out(strict_s3, code):
    strict_s3.refuse = {"PUT": [code, code]}
    assert sent("one") == (200, "stored")


def test_a_put_that_hangs_once_is_repeated_in_time(strict_s3):
    strict_s3.hangs = [3.4]
    started = time.monotonic()
    assert sent("one") == (200, "stored")
    assert time.monotonic() - started < 8


def test_a_bucket_under_object_lock_takes_batches(strict_s3):
    strict_s3.object_lock = True
    assert sent("one") == (200, "stored")


def test_another_body_under_the_same_id_is_kept_beside_the_first(strict_s3, caplog):
    caplog.set_level("INFO")
    beside = f"raw/one.{sha256(SECOND)[:16]}.json"
    assert sent("one", FIRST) == (200, "stored")
    assert sent("one", SECOND) == (200, "stored")
    assert sent("one", FIRST) == (200, "duplicate")
    assert sent("one", SECOND) == (200, "duplicate")
    assert strict_s3.keys() == sorted(["raw/one.json", beside])
    assert strict_s3.objects["raw/one.json"][0].decode() == FIRST
    assert strict_s3.objects[beside][0].decode() == SECOND
    assert strict_s3.objects[beside][1]["x-amz-meta-batch-id"] == "one"
    assert strict_s3.objects[beside][1]["x-amz-meta-body-sha256"] == sha256(SECOND)
    assert counts(caplog) == {"batches_stored": 2, "batch_ids_reused": 1, "batches_duplicate": 2}
    assert "batch id came again with another body" in caplog.messages


def test_an_id_that_takes_the_name_of_a_batch_without_id_takes_nothing_from_it(strict_s3):
    generated = f"sha256-{sha256(SECOND)}"
    assert sent(generated, FIRST) == (200, "stored")
    assert sent(None, SECOND) == (200, "stored")
    assert sent(None, SECOND) == (200, "duplicate")
    assert sorted(body.decode() for body, _ in strict_s3.objects.values()) == sorted([FIRST, SECOND])


def test_an_id_that_takes_the_second_name_takes_nothing_from_the_batch(strict_s3):
    assert sent("one", FIRST) == (200, "stored")
    assert sent(f"one.{sha256(SECOND)[:16]}", "[3]") == (200, "stored")
    assert sent("one", SECOND) == (200, "stored")
    assert sent("one", SECOND) == (200, "duplicate")
    assert strict_s3.objects[f"raw/one.{sha256(SECOND)}.json"][0].decode() == SECOND


@pytest.mark.parametrize(
    ("there", "expected", "objects"),
    [(b"[1]", "duplicate", 1), (b"[2]", "stored", 2), (b"[1, 2]", "stored", 2)],
    ids=["same", "same size", "another size"],
)
def test_an_object_without_digest_is_compared_itself_since_under_kms_its_etag_says_nothing(
    strict_s3, there, expected, objects
):
    strict_s3.objects["raw/one.json"] = (there, {})
    assert sent("one", "[1]") == (200, expected)
    assert len(strict_s3.objects) == objects


def test_an_object_that_ingest_may_not_read_costs_no_batch(strict_s3):
    strict_s3.objects["raw/one.json"] = (b"[1]", {})
    strict_s3.refuse = {"HEAD": [403]}
    assert sent("one", "[2]") == (200, "stored")
    assert len(strict_s3.objects) == 2


def test_no_duplicate_is_said_while_s3_cannot_tell(strict_s3):
    assert sent("one") == (200, "stored")
    strict_s3.refuse = {"HEAD": [503] * 4}
    assert sent("one") == (503, "unavailable")
    assert sent("one") == (200, "duplicate")
