"""The answer to CloudFormation, of each function that is a custom resource: tried until taken, and never too long."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import process.cloudformation
import register_webhook.cloudformation
import sender_addresses.cloudformation
import storage.cloudformation
import webhook_credentials.cloudformation

MODULES = [
    webhook_credentials.cloudformation,
    sender_addresses.cloudformation,
    storage.cloudformation,
    register_webhook.cloudformation,
    process.cloudformation,
]
EVENT = {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}


@pytest.fixture
def address():
    """`address(503, 503, 200)`: an URL that answers so in turn, and the bodies that came."""
    servers = []

    def listen(*statuses: int):
        waiting, bodies = list(statuses), []

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                status = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                if status == 0:  # hangs up
                    self.connection.close()
                    return
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/", bodies

    yield listen
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__.partition(".")[0])
def module(request, monkeypatch, lambda_context):
    """One copy; its pauses use up the function's time."""
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        lambda_context.seconds -= seconds

    monkeypatch.setattr(request.param.time, "sleep", sleep)
    request.param.slept = slept
    return request.param


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        pytest.param([200], [], id="at once"),
        pytest.param([503, 200], [1], id="503 once"),
        pytest.param([0, 500, 403, 0, 200], [1, 2, 4, 8], id="the fifth time"),
    ],
)
def test_the_answer_is_given_until_it_is_taken(module, address, lambda_context, answers, pauses):
    url, bodies = address(*answers)
    module.send(url, {**EVENT, "Status": "SUCCESS"}, lambda_context)
    assert module.slept == pauses
    assert [json.loads(body)["Status"] for body in bodies] == ["SUCCESS"] * len(answers)


def test_an_address_that_never_takes_it_is_an_error_so_that_lambda_tries_again(module, address, lambda_context):
    url, bodies = address(503)
    with pytest.raises(OSError, match="503"):
        module.send(url, EVENT, lambda_context)
    assert len(bodies) == 5


def test_the_tries_end_with_the_functions_time(module, address, lambda_context):
    url, bodies = address(503)
    lambda_context.seconds = 6
    with pytest.raises(OSError, match="503"):
        module.send(url, EVENT, lambda_context)
    assert module.slept == [1, 2]
    assert len(bodies) == 3


@pytest.mark.parametrize("text", ["x" * 10_000, "é" * 5_000, "\n" * 5_000, "\U0001f426" * 3_000, "short"])
def test_the_answer_fits_what_cloudformation_takes_and_cuts_the_reason_alone(module, text):
    answer = {**EVENT, "Status": "FAILED", "Reason": text}
    body = module.encoded(answer)
    sent = json.loads(body)
    assert len(body) <= 4096
    assert len(body) > 4000 or sent["Reason"] == text
    assert text.startswith(sent["Reason"])
    assert sent | {"Reason": text} == answer
