"""The simulator towards a webhook of a few lines: it retries, repeats and authenticates as Bird does."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import ACCEPTED, GIVEN_UP, Ledger
from bird_webhooks.simulator.sender import Basic, Header, NoCredentials, OAuth2, ProbeRefusedError, Sender


class Webhook:
    """Answers as `answer(request)` says, 200 by default; remembers the requests as (path, headers, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = lambda path, headers: 200
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                webhook.requests.append((self.path, headers, body))
                status = webhook.answer(self.path, headers)
                if status is None:
                    return  # the connection ends without an answer
                self.send_response_only(status)
                self.end_headers()
                tokens = sum(path == "/token" for path, *_ in webhook.requests)
                self.wfile.write(json.dumps({"access_token": f"token-{tokens}"}).encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def sender(webhook, tmp_path) -> Iterator[Sender]:
    ledger = Ledger(tmp_path / "ledger")
    yield Sender(webhook.url, NoCredentials(), ledger, connections=4, time_scale=1_000_000, sent_twice_share=0)
    ledger.close()


BATCHES = list(BatchMaker(1, datetime(2026, 11, 24, tzinfo=UTC)).batches(6))


def sent(webhook) -> list[tuple[str, bytes]]:
    return [(headers["x-messagesystems-batch-id"], body) for _, headers, body in webhook.requests]


def test_every_batch_is_sent_once_when_all_is_well(webhook, sender):
    report = sender.run(BATCHES)
    assert sorted(sent(webhook)) == sorted((batch.batch_id, batch.body) for batch in BATCHES)
    assert (report.batches, report.accepted, report.retried, report.given_up) == (6, 6, 0, 0)
    assert len(report.acknowledgements) == 6


@pytest.mark.parametrize("status", [201, 204, 302, 400, 413, 500, 503, None])
def test_anything_but_200_is_sent_again_the_same(webhook, sender, status):
    webhook.answer = lambda path, headers: status if len(webhook.requests) < 3 else 200
    report = sender.run(BATCHES[:1])
    assert sent(webhook) == [(BATCHES[0].batch_id, BATCHES[0].body)] * 3
    assert (report.accepted, report.retried, report.refused_attempts.total()) == (1, 1, 2)


def test_a_batch_is_given_up_after_twelve_attempts(webhook, sender):
    webhook.answer = lambda path, headers: 503
    report = sender.run(BATCHES[:1])
    assert len(webhook.requests) == 12
    assert (report.accepted, report.given_up, report.refused_attempts) == (0, 1, {"503": 12})
    assert sender.ledger.outcomes == {BATCHES[0].batch_id: GIVEN_UP}


def test_an_accepted_batch_may_come_again(webhook, sender):
    sender.sent_twice_share = 1
    report = sender.run(BATCHES)
    assert len(webhook.requests) == 12
    assert (report.accepted, report.sent_twice, report.retried) == (6, 6, 0)
    assert set(sender.ledger.outcomes.values()) == {ACCEPTED}


def test_the_probe_comes_first_and_must_be_answered(webhook, sender):
    sender.probe()
    assert [body for *_, body in webhook.requests] == [b'[{"msys":{}}]']
    assert "x-messagesystems-batch-id" not in webhook.requests[0][1]
    webhook.answer = lambda path, headers: 404
    with pytest.raises(ProbeRefusedError, match="404"):
        sender.probe()


def test_basic_and_header_credentials_go_with_each_request(webhook, sender):
    sender.credentials = Basic("bird", "a:b")
    sender.run(BATCHES[:1])
    sender.credentials = Header("x-api-key", "secret")
    sender.run(BATCHES[1:2])
    assert base64.b64decode(webhook.requests[0][1]["authorization"].removeprefix("Basic ")) == b"bird:a:b"
    assert webhook.requests[1][1]["x-api-key"] == "secret"


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_token_is_fetched_anew(webhook, sender, status):
    def answer(path: str, headers: dict[str, str]) -> int:
        return 200 if path == "/token" or headers["authorization"] == "Bearer token-2" else status

    webhook.answer = answer
    sender.url += "/bird"
    sender.credentials = OAuth2(f"{webhook.url}/token", "client", "secret")
    report = sender.run(BATCHES[:2])
    tokens = [body for path, _, body in webhook.requests if path == "/token"]
    assert tokens == [b"grant_type=client_credentials&client_id=client&client_secret=secret"] * 2
    assert report.accepted == 2


def test_a_failure_of_the_simulator_itself_is_not_swallowed(sender):
    def broken():
        yield BATCHES[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sender.run(broken())
