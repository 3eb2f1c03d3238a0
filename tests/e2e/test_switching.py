"""docs/switching.md, each way with a stand-in for Bird that posts throughout: nothing is lost, nothing there twice."""

import json
import random
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bird_webhooks.simulator import bird_api
from local_aws import deploy as local_stack
from local_aws.query import poll, query
from tests.e2e.test_bird import update
from tests.e2e.webhook import post

KEY = "89abcdef0123456789abcdef0123456789abcdef"
HOST = "moved.example.com"
TARGET = f"https://{HOST}/"
FOLDER = "B Event Data"
OLD_LOGIN = {"username": "old", "password": "example-password-of-the-old"}
EVENTS_A_STEP = 5
TIMEOUT_SECONDS = 90


class Consumer:
    """What a sender has until now, as Bird's guide makes it: each body is an object of its bucket, by batch id."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self.bucket, self.s3 = bucket, s3
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                name = self.headers["x-messagesystems-batch-id"]
                s3.put_object(Bucket=bucket, Key=f"{FOLDER}/{name}", Body=body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def events(self) -> Counter[str]:
        """How often each event is in the folder, by id."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{FOLDER}/").get("Contents", [])
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read() for item in listed]
        elements = [element for body in bodies for element in json.loads(body)]
        return Counter(event["event_id"] for element in elements for event in element["msys"].values())


@pytest.fixture
def consumer(emulator) -> Iterator[Consumer]:
    made = Consumer(emulator.client("s3"), f"old-{uuid.uuid4().hex}")
    yield made
    made.server.shutdown()
    made.server.server_close()


class Traffic:
    """Bird: one event after another, to each of its webhooks in a batch of its own, until that is answered 200."""

    def __init__(self, bird: bird_api.Bird, account: str) -> None:
        self.bird, self.account = bird, account
        self.ledger: list[str] = []  # event ids
        self.refused: Counter[int] = Counter()
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def work(self) -> None:
        waiting: list[tuple[str, dict, bytes, str]] = []
        try:
            while not self.stopping.is_set() or waiting:
                if not self.stopping.is_set():
                    waiting += self.batches()
                waiting = [batch for batch in waiting if not self.sent(*batch)]
                time.sleep(0.02)
        except BaseException as error:
            self.failure = error
            raise

    def batches(self) -> list[tuple[str, dict, bytes, str]]:
        event_id = f"{self.account}-{len(self.ledger)}"
        moment = str(int(time.time()))
        event = {"type": "bounce", "customer_id": self.account, "event_id": event_id, "timestamp": moment}
        body = json.dumps([{"msys": {"message_event": event}}]).encode()
        active = {known: webhook for known, webhook in self.bird.webhooks.items() if webhook.get("active", True)}
        found = [(known, webhook, body, f"{self.account}-{uuid.uuid4()}") for known, webhook in active.items()]
        if found:
            self.ledger.append(event_id)
        return found

    def sent(self, known: str, queued_for: dict, body: bytes, batch_id: str) -> bool:
        """What is queued goes to the target of its time, with the credentials of now."""
        now = self.bird.webhooks.get(known, queued_for)
        status = self.bird.post({**now, "target": queued_for["target"]}, body, batch_id)
        if status != 200:
            self.refused[status] += 1
        return status == 200

    def goes_on(self) -> None:
        """Wait for more events."""
        wanted = len(self.ledger) + EVENTS_A_STEP
        count = poll(lambda: wanted if self.failure else len(self.ledger), lambda n: n >= wanted, TIMEOUT_SECONDS)
        assert (count >= wanted, self.failure) == (True, None)


@contextmanager
def posting(bird: bird_api.Bird) -> Iterator[Traffic]:
    """Ends when everything was answered 200."""
    traffic = Traffic(bird, f"s{uuid.uuid4().hex[:8]}")
    thread = threading.Thread(target=traffic.work, daemon=True)
    thread.start()
    try:
        yield traffic
    finally:
        traffic.stopping.set()
        thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive(), traffic.refused
    assert traffic.refused.keys() <= {502, 503}, traffic.refused  # the emulator's, while it updates a function


@pytest.fixture
def dns() -> dict[str, Callable[[], str]]:
    """Where a target's host leads now."""
    return {}


@pytest.fixture
def account(emulator, dns) -> Iterator[bird_api.Bird]:
    """An account at Bird of this test's own."""

    def reach(target: str) -> str:
        return dns[target]()

    with bird_api.running(KEY, reach, ssl.create_default_context(cafile=emulator.certificate)) as started:
        yield started


@pytest.fixture(scope="module")
def moved(emulator) -> local_stack.Deployed:
    """A stack that takes over the host name and the path of the guide's webhook."""
    return local_stack.create_or_update(
        emulator, "bird-moved", {"FrontDoor": "HTTP_API", "DomainName": HOST, "WebhookPath": "/"}
    )


def own(stack: local_stack.Deployed) -> dict[str, str]:
    username, password = stack.credentials()
    return {"username": username, "password": password}


def webhook(target: str, login: dict[str, str] | None = None) -> dict[str, Any]:
    made = {"name": "by hand", "target": target, "events": ["bounce"], "active": True, "auth_type": "none"}
    return made | ({"auth_type": "basic", "auth_credentials": login} if login else {})


def assert_each_event_once(stack: local_stack.Deployed, traffic: Traffic) -> None:
    sql = (
        "SELECT event_id, count(*) AS found FROM events_deduplicated "  # noqa: S608
        f"WHERE customer_id = '{traffic.account}' GROUP BY event_id"
    )
    rows = poll(lambda: query(stack, sql), lambda found: len(found) >= len(traffic.ledger), TIMEOUT_SECONDS)
    assert {row["event_id"]: int(row["found"] or 0) for row in rows} == dict.fromkeys(traffic.ledger, 1)


def done(outcome: tuple[int, str, str]) -> str:
    status, printed, said = outcome
    assert status == 0, said
    return printed + said


def test_two_webhooks_side_by_side(stack, account, dns, consumer, run):
    old, new = "https://old.example.com/", "https://new.example.com/bird"
    dns |= {old: lambda: consumer.url, new: lambda: stack.outputs["WebhookUrl"]}
    account.webhooks["old"] = webhook(old)
    with posting(account) as traffic:
        traffic.goes_on()
        account.webhooks["new"] = webhook(new, own(stack))
        traffic.goes_on()
        said = done(run(stack, "import", f"s3://{consumer.bucket}/{FOLDER}/"))
        assert ", 0 refused" in said
        del account.webhooks["old"]
        traffic.goes_on()
    done(run(stack, "import", f"s3://{consumer.bucket}/{FOLDER}/"))
    assert_each_event_once(stack, traffic)
    assert set(consumer.events()) < set(traffic.ledger)
    assert (
        "only in the old source:"
        not in run(stack, "compare", "--since", "2h", "--with", f"s3://{consumer.bucket}/{FOLDER}/")[1]
    )


def test_the_guides_webhook_moves_by_dns(moved, account, dns, consumer, run, monkeypatch):
    here = moved.outputs["WebhookUrl"]
    dns[TARGET] = lambda: consumer.url
    account.webhooks["guide"] = webhook(TARGET, OLD_LOGIN)
    with posting(account) as traffic:
        traffic.goes_on()
        monkeypatch.setenv("BIRD_SECRET", OLD_LOGIN["password"])
        assert OLD_LOGIN["password"] not in done(run(moved, "accept", "start", "--username", OLD_LOGIN["username"]))
        assert "; also accepted: the credentials of another webhook" in run(moved, "status")[1]
        dns[TARGET] = lambda: random.choice([consumer.url, here])  # noqa: S311
        traffic.goes_on()  # as long as resolvers keep the old address
        dns[TARGET] = lambda: here
        traffic.goes_on()
        status, _, said = run(moved, "accept", "end")
        assert (status, "so Bird still sends them" in said) == (1, True)
        account.webhooks["guide"] = webhook(TARGET, own(moved))
        traffic.goes_on()
        done(run(moved, "accept", "end", "--force", "--yes"))
        traffic.goes_on()
    assert account.post(webhook(TARGET, OLD_LOGIN), b"[1]", "late") == 401
    assert post(moved, b"[1]", batch_id="stranger", credentials=None)[:2] == (401, "rejected")
    assert post(moved, b"[1]", batch_id="elsewhere", path=f"{path_of(here)}bird").status == 404
    done(run(moved, "import", f"s3://{consumer.bucket}/{FOLDER}/"))
    assert_each_event_once(moved, traffic)


def path_of(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


@pytest.mark.nightly  # what is refused and taken over: tests/integration/test_register_webhook_app.py
def test_another_stack_takes_over_the_webhook_of_the_first_when_told_to(stack, moved, account, dns, run):
    emulator = moved.emulator
    dns[TARGET] = lambda: stack.outputs["WebhookUrl"]
    marked = {"x-bird-webhooks-stack": "bird-e2e/eu-central-1/0123456789abcdef"}
    account.webhooks["first"] = {**webhook(TARGET, own(stack)), "custom_headers": marked}
    secret = emulator.client("secretsmanager").create_secret(Name="another-bird-api-key", SecretString=KEY)
    registration = {"BirdApiKeySecretArn": secret["ARN"], "BirdApiUrl": account.url, "Reconcile": "false"}
    with posting(account) as traffic:
        traffic.goes_on()
        done(run(moved, "accept", "start", "--secret", stack.outputs["WebhookSecretArn"]))
        before = dict(account.webhooks["first"])
        assert update(moved, **registration) == "UPDATE_ROLLBACK_COMPLETE"
        assert "BirdWebhook (" in (refusal := failures(moved))
        assert '"by hand" (id first), created by stack bird-e2e in eu-central-1, and this stack did not' in refusal
        assert (account.webhooks["first"], own(stack)["password"] in refusal) == (before, False)
        traffic.goes_on()
        dns[TARGET] = lambda: moved.outputs["WebhookUrl"]
        traffic.goes_on()
        assert update(moved, **registration, AdoptBirdWebhook="true") == "UPDATE_COMPLETE"
        assert account.webhooks["first"]["auth_credentials"] == own(moved)
        traffic.goes_on()
        done(run(moved, "accept", "end", "--force", "--yes"))
        traffic.goes_on()
    assert list(account.webhooks) == ["first"]
    done(run(moved, "import", f"s3://{stack.outputs['RawBucketName']}/raw/{traffic.account}"))
    assert_each_event_once(moved, traffic)


def failures(stack: local_stack.Deployed) -> str:
    events = stack.emulator.client("cloudformation").describe_stack_events(StackName=stack.name)["StackEvents"]
    return "; ".join(
        f"{event['LogicalResourceId']} ({event['ResourceStatusReason']})"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason")
    )


def test_going_back(stack, account, dns, consumer):
    old, new = "https://old.example.com/", "https://new.example.com/bird"
    dns |= {old: lambda: consumer.url, new: lambda: stack.outputs["WebhookUrl"]}
    account.webhooks["only"] = webhook(new, own(stack))
    with posting(account) as traffic:
        traffic.goes_on()
        account.webhooks["only"] = webhook(old)
        traffic.goes_on()
    assert set(consumer.events()) < set(traffic.ledger)
    s3, raw = stack.emulator.client("s3"), stack.outputs["RawBucketName"]
    for item in s3.list_objects_v2(Bucket=raw, Prefix=f"raw/{traffic.account}")["Contents"]:
        name = item["Key"].removeprefix("raw/").removesuffix(".json")
        s3.copy_object(Bucket=consumer.bucket, Key=f"{FOLDER}/{name}", CopySource={"Bucket": raw, "Key": item["Key"]})
    assert consumer.events() == Counter(traffic.ledger)
