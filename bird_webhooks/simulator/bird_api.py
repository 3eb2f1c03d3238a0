"""A stand-in for Bird's API: webhooks, events and metrics, written from https://docs.bird.com/api/email-api/webhooks.

It checks the API key and its grants, keeps webhooks, calls the target when a webhook is created or its target changes,
sends batches with the webhook's credentials, and answers for what `recording` has. `reach` is its DNS: where it finds a
target. It can be made to fail, and to misbehave (bird_events.Misbehaviour).
"""

import base64
import json
import ssl
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bird_webhooks.data import folder
from bird_webhooks.simulator.bird_events import Recording, WrongParameterError

SAMPLES = folder("events/samples")
PREFIX = "/api/v1"
PROBE = b'[{"msys":{}}]'
TEST_BATCH_ID = "77c2b630-d712-11e4-9642-efc2723b99c1"
NAME_CHARACTERS = 24
TARGET_TIMEOUT_SECONDS = 10
NOBODY = 503  # stands for a target that does not exist
GRANTS = {
    "webhooks": "Webhooks: Read-only",
    "events": "Events Search: Read-only",
    "metrics": "Metrics: Read-only",
}

Json = dict[str, Any]


class Answer(Exception):  # noqa: N818
    """A refusal, in Bird's shape."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        self.status, self.error = status, {"message": message, **more}
        self.text: str | None = None  # in place of JSON
        self.headers: dict[str, str] = {}


def event_types() -> dict[str, list[str]]:
    """The types that Bird documents, by class."""
    found: dict[str, list[str]] = {}
    for element in json.loads((SAMPLES / "all-27-events-distinct-ids.json").read_text()):
        for event_class, event in element["msys"].items():
            found.setdefault(event_class, []).append(event["type"])
    return found


class Bird:
    """The account: its webhooks by id, and what was asked of it."""

    def __init__(self, key: str, reach: Callable[[str], str | None], trust: ssl.SSLContext | None = None) -> None:
        self.key, self.reach, self.trust = key, reach, trust
        self.url = ""
        self.webhooks: dict[str, Json] = {}
        self.batch_statuses: list[Json] = []  # of every webhook
        self.requests: list[str] = []  # "POST /webhooks" and so on
        self.headers: list[dict[str, str]] = []
        self.probes: list[str] = []  # targets
        self.failures: list[Answer] = []
        self.recording = Recording()
        self.grants = set(GRANTS.values())
        self.down: set[str] = set()  # of GRANTS: these answer 503
        self.under_way = self.most_at_once = 0  # requests

    def fail(self, times: int, status: int, message: str, **more: Any) -> None:
        """The next requests are answered like that, whatever they ask."""
        self.failures += [Answer(status, message, **more)] * times

    def overload(self, times: int, status: int = 502, *, retry_after: str | None = None) -> None:
        """The next requests are answered as under load: 429 without a code, or a text that is not JSON."""
        answer = Answer(status, "Too many requests")
        if status != 429:
            answer.text = f"Could not proceed ({status} error)"
        if retry_after is not None:
            answer.headers["retry-after"] = retry_after
        self.failures += [answer] * times

    def send(self, webhook_id: str, body: bytes, batch_id: str | None = None) -> int:
        """A batch to the webhook's target, with its credentials."""
        return self.post(self.webhooks[webhook_id], body, batch_id)

    def post(self, webhook: Json, body: bytes, batch_id: str | None = None) -> int:
        address = self.reach(webhook["target"])
        if address is None:
            return NOBODY
        headers = {"Content-Type": "application/json", **webhook.get("custom_headers", {})}
        if batch_id:
            headers["X-MessageSystems-Batch-ID"] = batch_id
        if webhook.get("auth_type") == "basic":
            login = webhook["auth_credentials"]
            pair = f"{login['username']}:{login.get('password', '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        request = urllib.request.Request(address, body, headers, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TARGET_TIMEOUT_SECONDS, context=self.trust) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return NOBODY

    def answer(self, method: str, path: str, key: str | None, content: Json | None) -> tuple[int, Json | None]:
        if self.failures:
            raise self.failures.pop(0)
        asked = urlsplit(path)
        parts = asked.path.removeprefix(PREFIX).strip("/").split("/")
        query = dict(parse_qsl(asked.query.replace("+", "%2B")))
        if parts == ["webhooks", "events", "documentation"] and method == "GET":  # public
            described: Json = {name: {"events": {kind: {} for kind in kinds}} for name, kinds in event_types().items()}
            return 200, {"results": described}
        if key != self.key:
            raise Answer(401, "Unauthorized.")
        if parts[0] in self.down:
            raise Answer(503, "Service Unavailable")
        if GRANTS.get(parts[0]) not in self.grants | {None}:
            words = "You do not have permission to access this resource"
            raise Answer(403, "permission denied", description=words, code="1100")
        try:
            match method, parts:
                case "GET", ["events", "message" | "ingest" as kind]:
                    return 200, self.recording.search(kind, query, asked.path)
                case "GET", ["metrics", "deliverability", "time-series"]:
                    return 200, self.recording.time_series(query)
        except WrongParameterError as error:
            raise Answer(400, "invalid params", description=str(error), code="1200") from None
        return self.webhook_answer(method, parts, content or {})

    def webhook_answer(self, method: str, parts: list[str], content: Json) -> tuple[int, Json | None]:
        match method, parts:
            case "GET", ["webhooks"]:
                return 200, {"results": [{"id": known, **webhook} for known, webhook in self.webhooks.items()]}
            case "POST", ["webhooks"]:
                known = self.create(content)
                return 200, {"results": {"id": known, "links": []}}
            case "GET", ["webhooks", known] if known in self.webhooks:
                return 200, {"results": self.webhooks[known]}
            case "GET", ["webhooks", known, "batch-status"] if known in self.webhooks:
                return 200, {"results": self.batch_statuses + self.recording.batch_statuses()}
            case "PUT", ["webhooks", known] if known in self.webhooks:
                self.update(known, content)
                return 200, {"results": {"id": known, "links": []}}
            case "DELETE", ["webhooks", known] if known in self.webhooks:
                del self.webhooks[known]
                return 204, None
            case "POST", ["webhooks", known, "validate"] if known in self.webhooks:
                body = json.dumps(content["message"]).encode() if "message" in content else PROBE
                status = self.send(known, body, TEST_BATCH_ID)
                return 200, {"results": {"msg": "Test POST to endpoint succeeded", "response": {"status": status}}}
        raise Answer(404, "Resource could not be found")

    def create(self, content: Json) -> str:
        for name in ("name", "target", "events"):
            if not content.get(name):
                raise Answer(422, "required field is missing", description=f"{name} is required")
        webhook = {"active": True, "auth_type": "none", "auth_token": "", **content}
        self.check(webhook)
        self.probe(webhook)
        known = str(uuid.uuid4())
        self.webhooks[known] = webhook
        return known

    def update(self, known: str, content: Json) -> None:
        webhook = {**self.webhooks[known], **content}
        self.check(webhook)
        if webhook["target"] != self.webhooks[known]["target"]:
            self.probe(webhook)
        self.webhooks[known] = webhook

    def check(self, webhook: Json) -> None:
        unknown = set(webhook["events"]) - {kind for kinds in event_types().values() for kind in kinds}
        if unknown:
            raise Answer(400, "Invalid event type", description=", ".join(sorted(unknown)))
        if len(webhook["name"]) > NAME_CHARACTERS:
            raise Answer(400, "name is too long")
        if urlsplit(webhook["target"]).port not in (None, 80, 443):
            raise Answer(400, "target must use port 80 or 443")
        if webhook["auth_type"] == "basic" and not webhook.get("auth_credentials", {}).get("username"):
            raise Answer(400, "auth_credentials are required")

    def probe(self, webhook: Json) -> None:
        self.probes.append(webhook["target"])
        status = self.post(webhook, PROBE)
        if status != 200:
            raise Answer(400, "POST to webhook target URL failed", response={"status": status})


@contextmanager
def running(key: str, reach: Callable[[str], str | None], trust: ssl.SSLContext | None = None) -> Iterator[Bird]:
    """The stand-in at its own address, `url`, for a `with` block."""
    bird = Bird(key, reach, trust)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def handle_request(self) -> None:
            with lock:
                bird.under_way += 1
                bird.most_at_once = max(bird.most_at_once, bird.under_way)
            try:
                status, headers, body = self.answer()
            finally:
                with lock:  # before a client can have it, which may then ask the next
                    bird.under_way -= 1
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: bird.recording.misbehaviour.cut_after_bytes])

        def answer(self) -> tuple[int, dict[str, str], bytes]:
            bird.requests.append(f"{self.command} {self.path.removeprefix(PREFIX)}")
            bird.headers.append({name.lower(): value for name, value in self.headers.items()})
            length = int(self.headers.get("content-length", 0))
            content = json.loads(self.rfile.read(length)) if length else None
            answer: Json | None
            text, headers = None, {"content-type": "application/json"}
            try:
                status, answer = bird.answer(self.command, self.path, self.headers.get("authorization"), content)
            except Answer as refused:
                status, answer, text = refused.status, {"errors": [refused.error]}, refused.text
                headers |= refused.headers
            if text is None:  # as the simulator writes its batches, so that the bytes of metadata are the same
                text = "" if answer is None else json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
            body = text.encode()
            return status, {**headers, "content-length": str(len(body))}, body

        do_GET = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    bird.url = f"http://127.0.0.1:{server.server_port}{PREFIX}"
    try:
        yield bird
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
