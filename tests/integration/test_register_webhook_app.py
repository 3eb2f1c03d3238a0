"""The custom resource against a stand-in for Bird's API that really calls the target."""

import base64
import json
import logging
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

import register_webhook.app as app
from bird_webhooks.simulator import bird_api
from register_webhook.webhook import redacted

KEY = "0123456789abcdef0123456789abcdef01234567"
TARGET = "https://webhooks.example.com/bird"
ALL_TYPES = sorted(kind for kinds in bird_api.event_types().values() for kind in kinds)
PASSWORD = "example-password-of-the-stack"
LOGIN = {"username": "bird", "password": PASSWORD}


class Target:
    """What listens behind TARGET: answers `status`, and keeps the credentials that came."""

    def __init__(self) -> None:
        self.status = 200
        self.came: list[dict[str, str]] = []
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                target.came.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(target.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def target():
    listening = Target()
    yield listening
    listening.server.shutdown()
    listening.server.server_close()


@pytest.fixture
def bird(target):
    addresses = {TARGET: f"http://127.0.0.1:{target.server.server_port}/"}
    with bird_api.running(KEY, addresses.get) as started:
        started.dns = addresses
        yield started


@pytest.fixture
def pauses(monkeypatch):
    """Time that passes only while the function pauses; and the pauses."""
    slept: list[float] = []
    monkeypatch.setattr(app.time, "sleep", slept.append)
    monkeypatch.setattr(app.time, "monotonic", lambda: float(sum(slept)))
    return slept


WEBHOOK_SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhook-abcdef"
KEY_SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:key-abcdef"


class Secrets:
    """Secrets Manager, by ARN and stage; each region has its own."""

    def __init__(self) -> None:
        self.versions = {(WEBHOOK_SECRET, "AWSCURRENT"): json.dumps(LOGIN), (KEY_SECRET, "AWSCURRENT"): KEY}
        self.region = ""
        self.denied = 0  # times that the next reader is

    def client(self, service: str, region_name: str = "", **_: object):
        if service == "cloudformation":
            return self.stack_state
        assert service == "secretsmanager"
        self.region = region_name
        return self

    def put(self, arn: str, text: str, stage: str = "AWSCURRENT") -> None:
        self.versions[arn, stage] = text

    def get_secret_value(self, SecretId: str, VersionStage: str) -> dict[str, str]:  # noqa: N803
        if self.denied:
            self.denied -= 1
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetSecretValue")
        if (SecretId, VersionStage) not in self.versions or self.region not in SecretId:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetSecretValue")
        return {"SecretString": self.versions[SecretId, VersionStage]}


@pytest.fixture
def secrets(monkeypatch, stack_state):
    account = Secrets()
    monkeypatch.setattr(app.boto3, "client", account.client)
    account.stack_state = stack_state
    return account


STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/bird-webhooks/1"
# The function's environment by the words of these tests.
ENVIRONMENT = {
    "ApiKeySecretArn": "BIRD_API_KEY_SECRET_ARN",
    "ApiUrl": "BIRD_API_URL",
    "Subaccount": "BIRD_SUBACCOUNT",
    "Name": "WEBHOOK_NAME",
    "Target": "WEBHOOK_URL",
    "EventTypes": "EVENT_TYPES",
    "WebhookAuth": "WEBHOOK_AUTH",
    "WebhookHeader": "WEBHOOK_HEADER",
    "WebhookSecretArn": "WEBHOOK_SECRET_ARN",
    "Adopt": "ADOPT_EXISTING",
    "DeleteWithStack": "DELETE_WITH_STACK",
}
MARK = "bird-webhooks/eu-west-1/688208a544712ee7"  # of STACK_ID
MARKED = {"x-bird-webhooks-stack": MARK}
ANOTHERS = {"x-bird-webhooks-stack": "old/eu-central-1/0123456789abcdef"}


@pytest.fixture
def ask(secrets, bird, cloudformation, pauses, lambda_context, stack_state, caplog, monkeypatch):
    """`ask("Create", Name="…")`: what CloudFormation is answered; no secret ever stands in it or in the log."""
    url, answers = cloudformation
    caplog.set_level(logging.INFO)

    def request(kind: str, webhook_id: str | None = None, old: dict | None = None, seconds: float = 600, **changes):
        settings = {
            "ApiKeySecretArn": KEY_SECRET,
            "ApiUrl": bird.url,
            "Subaccount": "",
            "Name": "bird-webhooks",
            "Target": TARGET,
            "EventTypes": "",
            "WebhookAuth": "BASIC",
            "WebhookHeader": "x-webhook-token",
            "WebhookSecretArn": WEBHOOK_SECRET,
            "Adopt": "false",
            "DeleteWithStack": "true",
        }
        monkeypatch.setenv("STACK_ID", STACK_ID)
        for name, value in (settings | changes).items():
            monkeypatch.setenv(ENVIRONMENT[name], value)
        event = {"RequestType": kind, "ResponseURL": url, "StackId": STACK_ID, "RequestId": "r"}
        event |= {"LogicalResourceId": "BirdWebhook", "ResourceProperties": {"Settings": {"WEBHOOK_URL": "not used"}}}
        if kind == "Update":
            before = {ENVIRONMENT[name]: value for name, value in (settings | (old or {})).items()}
            event["OldResourceProperties"] = {"Settings": before}
        if webhook_id:
            event["PhysicalResourceId"] = webhook_id
        return invoke(event, seconds)

    def invoke(event: dict, seconds: float = 600):
        lambda_context.seconds = seconds
        app.lambda_handler(event, lambda_context)
        said = json.dumps(answers) + "".join(str(vars(record)) for record in caplog.records)
        pairs = [base64.b64encode(f"bird:{word}".encode()).decode() for word in (PASSWORD, "another-password")]
        assert [secret for secret in (KEY, PASSWORD, "another-password", *pairs) if secret in said] == []
        return answers.pop()

    request.invoke, request.url = invoke, url
    return request


@pytest.fixture
def stack_goes(stack_state):
    stack_state.status = "DELETE_IN_PROGRESS"


def only(bird) -> tuple[str, dict]:
    [item] = bird.webhooks.items()
    return item


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


# --- create, adopt ---


def test_create_makes_a_webhook_that_sends_the_stacks_credentials(ask, bird, target):
    answer = ask("Create")
    webhook_id, webhook = only(bird)
    assert (answer["Status"], answer["PhysicalResourceId"], answer["Data"]) == (
        "SUCCESS",
        webhook_id,
        {"Outcome": "created"},
    )
    assert webhook == {
        "name": "bird-webhooks",
        "target": TARGET,
        "events": ALL_TYPES,
        "active": True,
        "auth_type": "basic",
        "auth_credentials": LOGIN,
        "auth_token": "",
        "custom_headers": MARKED,
    }
    assert len(ALL_TYPES) == 27
    assert bird.probes == [TARGET]
    assert [request["authorization"] for request in target.came] == [basic("bird", PASSWORD)]


def test_types_that_are_named_are_the_only_ones(ask, bird):
    ask("Create", EventTypes="bounce, click")
    assert only(bird)[1]["events"] == ["bounce", "click"]
    assert "GET /webhooks/events/documentation" not in bird.requests


def test_a_long_name_of_a_stack_is_cut(ask, bird):
    ask("Create", Name="a-stack-with-a-name-for-everybody")
    assert only(bird)[1]["name"] == "a-stack-with-a-name-for-"


def test_a_header_carries_the_secret_in_mode_header(ask, bird, target):
    ask("Create", WebhookAuth="HEADER")
    assert only(bird)[1]["auth_type"] == "none"
    assert only(bird)[1]["custom_headers"] == {"x-webhook-token": PASSWORD, **MARKED}
    assert target.came[0]["x-webhook-token"] == PASSWORD


def test_no_secret_of_the_stack_is_read_in_mode_none(ask, bird):
    assert ask("Create", WebhookAuth="NONE", WebhookSecretArn="arn:::::none")["Status"] == "SUCCESS"
    assert "auth_credentials" not in only(bird)[1]


def test_the_form_is_left_to_the_user_in_mode_oauth2(ask, bird):
    answer = ask("Create", WebhookAuth="OAUTH2")
    assert answer["Reason"] == "WebhookAuth OAUTH2 is for you to type into Bird's form: see the output BirdForm"
    assert bird.webhooks == {}


BY_HAND = {
    "name": "by hand",
    "target": "https://Webhooks.example.com:443/bird",
    "events": ["bounce", "gone_type"],
    "active": False,
    "custom_headers": {"x-tenant": "a-secret-value"},
    "auth_type": "basic",
    "auth_credentials": {"username": "theirs", "password": "another-password"},
    "auth_token": "",
    "subaccount_id": 5,
}


def test_a_webhook_that_the_stack_did_not_create_is_named_with_each_change_and_left_alone(ask, bird):
    other = {"name": "other", "target": "https://elsewhere.example.com/bird", "events": ["bounce"]}
    bird.webhooks = {"other": other, "by-hand": dict(BY_HAND)}
    answer = ask("Create")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "not-registered")
    assert answer["Reason"] == (
        "Nothing was changed: Bird has a webhook for https://webhooks.example.com/bird already, "
        '"by hand" (id by-hand), and this stack did not create it. '
        'To take it over would change: name "by hand" to "bird-webhooks"; '
        "events 2 types to 27 (+ab_test_cancelled ab_test_completed amp_click amp_initial_open amp_open and 21 more, "
        "-gone_type); auth_credentials to those of this stack's secret; active false to true. "
        "It would keep: custom headers x-tenant; subaccount_id 5. "
        "Whatever receives its batches until now must accept that. If you mean it, set AdoptBirdWebhook to true. "
        "Otherwise delete that webhook at Bird, or give this stack another DomainName or WebhookPath."
    )
    assert bird.webhooks == {"other": other, "by-hand": BY_HAND}
    assert {request.split()[0] for request in bird.requests} == {"GET"}


def test_told_to_the_stack_adopts_it(ask, bird):
    other = {"name": "other", "target": "https://elsewhere.example.com/bird", "events": ["bounce"]}
    bird.webhooks = {"other": other, "by-hand": BY_HAND | {"events": ["bounce"]}}
    answer = ask("Create", Adopt="true")
    assert (answer["PhysicalResourceId"], answer["Data"]["Outcome"]) == ("by-hand", "adopted, because it existed")
    assert sorted(bird.webhooks) == ["by-hand", "other"]
    adopted = bird.webhooks["by-hand"]
    assert (adopted["name"], adopted["target"], adopted["events"]) == ("bird-webhooks", TARGET, ALL_TYPES)
    assert (adopted["auth_credentials"], adopted["active"]) == (LOGIN, True)
    assert adopted["custom_headers"] == {"x-tenant": "a-secret-value", "x-bird-webhooks-stack": f"{MARK} adopted"}


def test_what_was_adopted_is_not_let_go_when_the_setting_goes_back_to_its_default(ask, bird):
    bird.webhooks = {"by-hand": BY_HAND | {"events": ["bounce"]}}
    ask("Create", Adopt="true")
    answer = ask("Update", "by-hand", {"Adopt": "true"}, EventTypes="bounce")
    assert (answer["PhysicalResourceId"], answer["Data"]["Outcome"]) == ("by-hand", "updated")
    assert (bird.webhooks["by-hand"]["events"], bird.webhooks["by-hand"]["auth_credentials"]) == (["bounce"], LOGIN)


def test_a_sixth_header_is_not_added_because_bird_would_refuse_it(ask, bird):
    five = {f"x-tenant-{number}": "7" for number in range(5)}
    bird.webhooks = {"by-hand": BY_HAND | {"events": ["bounce"], "custom_headers": five}}
    assert ask("Create", Adopt="true")["Status"] == "SUCCESS"
    assert bird.webhooks["by-hand"]["custom_headers"] == five


DELETED_STACKS = {"auth_credentials": {"username": "bird", "password": "another-password"}, "active": False}
OURS = [
    pytest.param({"custom_headers": MARKED, **DELETED_STACKS}, id="created by a deleted stack of the same name"),
    pytest.param({"custom_headers": {"X-Bird-Webhooks-Stack": MARK}}, id="header in other case"),
    pytest.param({"custom_headers": {"x-bird-webhooks-stack": f"{MARK} adopted"}}, id="adopted before"),
    pytest.param({"name": "bird-webhooks", "events": ALL_TYPES, "auth_credentials": LOGIN}, id="nothing would change"),
]


@pytest.mark.parametrize("there", OURS)
def test_the_stacks_own_webhook_is_taken_without_asking(ask, bird, there):
    plain = {"name": "old name", "target": TARGET, "events": ["open"], "auth_type": "basic"}
    bird.webhooks = {"own": plain | there}
    answer = ask("Create")
    assert (answer["PhysicalResourceId"], answer["Data"]["Outcome"]) == ("own", "found again, it is the stack's own")
    own = bird.webhooks["own"]
    assert (own["name"], own["events"], own["auth_credentials"]) == ("bird-webhooks", ALL_TYPES, LOGIN)
    assert (own["active"], own.get("custom_headers")) == (True, there.get("custom_headers"))


def test_the_stacks_own_webhook_is_found_among_others_with_the_target(ask, bird):
    theirs = {"name": "theirs", "target": TARGET, "events": ["open"]}
    bird.webhooks = {"theirs": theirs, "own": theirs | {"custom_headers": MARKED}}
    assert ask("Create", Adopt="true")["PhysicalResourceId"] == "own"
    assert bird.webhooks["theirs"] == theirs


@pytest.mark.parametrize("known", [None, "gone"], ids=["Create", "the known one is gone"])
def test_another_stacks_webhook_is_not_taken_even_if_all_else_is_equal(ask, bird, known):
    equal = {"name": "bird-webhooks", "target": TARGET, "events": ALL_TYPES, "auth_type": "basic"}
    bird.webhooks = {"old": equal | {"auth_credentials": LOGIN, "custom_headers": ANOTHERS}}
    answer = ask("Update" if known else "Create", known)
    assert answer["Status"] == "FAILED"
    assert "(id old), created by stack old in eu-central-1, and this stack did not create it" in answer["Reason"]
    assert "To take it over would change: the mark of stack old in eu-central-1." in answer["Reason"]
    assert ask("Update" if known else "Create", known, Adopt="true")["PhysicalResourceId"] == "old"
    assert bird.webhooks["old"]["custom_headers"] == {"x-bird-webhooks-stack": f"{MARK} adopted"}


def test_a_webhook_that_another_stack_has_taken_over_is_left_to_it(ask, bird, registered, stack_goes):
    taken = {"auth_credentials": {"username": "bird", "password": "another-password"}, "custom_headers": ANOTHERS}
    bird.webhooks[registered] |= taken
    before = dict(bird.webhooks[registered])
    answer = ask("Update", registered, Name="renamed")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", registered)
    assert answer["Data"]["Outcome"] == "left alone, because stack old in eu-central-1 has taken it over"
    assert ask("Delete", registered)["Status"] == "SUCCESS"
    assert bird.webhooks == {registered: before}
    # WHEN the first stack is to have it back
    assert ask("Update", registered, Adopt="true")["Data"]["Outcome"] == "taken back"
    assert bird.webhooks[registered]["auth_credentials"] == LOGIN
    assert bird.webhooks[registered]["custom_headers"] == {"x-bird-webhooks-stack": f"{MARK} adopted"}


@pytest.mark.parametrize(
    ("status", "changed", "left"),
    [
        pytest.param("ROLLBACK_IN_PROGRESS", {}, True, id="a rolled back creation leaves it"),
        pytest.param("DELETE_IN_PROGRESS", {}, False, id="the stack's deletion takes it, as told"),
        pytest.param("DELETE_IN_PROGRESS", {"auth_credentials": {}}, True, id="unless it has other credentials now"),
    ],
)
def test_an_adopted_webhook_is_deleted_only_with_the_stack(ask, bird, stack_state, status, changed, left):
    bird.webhooks = {"by-hand": {"name": "by hand", "target": TARGET, "events": ["open"]}}
    ask("Create", Adopt="true")
    bird.webhooks["by-hand"] |= changed
    stack_state.status = status
    assert ask("Delete", "by-hand")["Status"] == "SUCCESS"
    assert list(bird.webhooks) == ["by-hand"] * left


def test_webhooks_with_odd_targets_are_passed_over(ask, bird):
    odd = {"none": None, "port": "https://webhooks.example.com:99999/bird", "brackets": "https://[x/bird"}
    bird.webhooks = {name: {"name": name, "target": target, "events": ["open"]} for name, target in odd.items()}
    bird.webhooks["without"] = {"name": "without", "events": ["open"]}
    assert ask("Create")["Data"]["Outcome"] == "created"
    assert len(bird.webhooks) == 5


def test_headers_that_bird_does_not_show_are_not_taken_away(ask, bird, monkeypatch):
    bird.webhooks["by-hand"] = {"name": "by hand", "target": TARGET, "events": ["open"]}
    updates = []
    monkeypatch.setattr(bird, "update", lambda known, content: updates.append(content))
    ask("Create", Adopt="true")
    ask("Update", "by-hand")
    ask("Update", "by-hand", {"WebhookAuth": "HEADER"})
    assert ["custom_headers" in content for content in updates] == [False, False, True]
    assert updates[2]["custom_headers"] == {}


def test_of_several_the_first_is_adopted_and_it_is_said(ask, bird):
    bird.webhooks = {name: {"name": name, "target": TARGET, "events": ["open"]} for name in ("one", "two")}
    answer = ask("Create", Adopt="true")
    assert answer["PhysicalResourceId"] == "one"
    assert answer["Data"]["Outcome"] == "adopted, because it existed, the first of 2 with this target"
    assert bird.webhooks["two"] == {"name": "two", "target": TARGET, "events": ["open"]}


@pytest.mark.parametrize(
    "secret",
    [KEY, f"  {KEY}\n", json.dumps({"api_key": KEY, "note": "EU"}), json.dumps({"whatever": KEY})],
    ids=["plain", "white space", "api_key", "only member"],
)
def test_the_key_may_be_kept_in_these_ways(ask, secrets, bird, secret):
    secrets.put(KEY_SECRET, secret)
    assert ask("Create")["Status"] == "SUCCESS"
    assert {headers["authorization"] for headers in bird.headers} == {KEY}


@pytest.mark.parametrize(
    "secret",
    [json.dumps({"one": KEY, "two": KEY}), f"{{{KEY}", "two words", "\n", json.dumps({"api_key": 7})],
    ids=["two members", "broken JSON", "words", "empty", "number"],
)
def test_a_secret_that_holds_no_key_is_said(ask, secrets, bird, secret):
    secrets.put(KEY_SECRET, secret)
    answer = ask("Create")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "not-registered")
    assert answer["Reason"].startswith("The secret of BirdApiKeySecretArn holds no API key")
    assert bird.requests == []


def test_a_secret_that_is_not_there_is_said(ask):
    answer = ask("Create", ApiKeySecretArn="arn:aws:secretsmanager:eu-west-1:123456789012:secret:none-abcdef")
    assert answer["Reason"] == "The secret of BirdApiKeySecretArn was not readable: ResourceNotFoundException"


def test_a_role_that_may_read_the_secret_since_seconds_is_waited_for(ask, secrets, bird, pauses):
    secrets.denied = 3
    assert ask("Create")["Status"] == "SUCCESS"
    assert pauses == [2, 4, 8]
    assert len(bird.webhooks) == 1


def test_a_role_that_may_not_read_the_secret_is_said(ask, secrets, pauses):
    secrets.denied = 100
    assert ask("Create")["Reason"] == ("The secret of BirdApiKeySecretArn was not readable: AccessDeniedException")
    assert sum(pauses) == 46


def test_a_subaccount_is_named_in_each_request(ask, bird):
    ask("Create", Subaccount="42")
    assert {headers["x-msys-subaccount"] for headers in bird.headers} == {"42"}


def test_no_subaccount_is_named_otherwise(ask, bird):
    ask("Create")
    assert not [headers for headers in bird.headers if "x-msys-subaccount" in headers]


# --- patience ---


def test_a_name_that_does_not_resolve_yet_is_tried_again(ask, bird, pauses):
    address = bird.dns.pop(TARGET)
    bird.reach = lambda name: address if len(pauses) >= 5 else None
    assert ask("Create")["Status"] == "SUCCESS"
    assert pauses == [2, 5, 10, 20, 30]
    assert len(bird.probes) == 6
    assert len(bird.webhooks) == 1


def test_a_target_that_never_answers_fails_in_time_with_birds_words(ask, bird, target, pauses):
    target.status = 502
    answer = ask("Create", seconds=600)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "Bird failed at every attempt: POST to webhook target URL failed (the target answered 502) (HTTP 400)"
    )
    assert 450 < sum(pauses) <= 500
    assert bird.webhooks == {}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])  # 15-answers-once.txt: 408
def test_a_bird_that_is_busy_is_asked_again(ask, bird, pauses, status):
    bird.fail(3, status, "Too many requests")
    assert ask("Create")["Status"] == "SUCCESS"
    assert pauses == [2, 5, 10]


def test_a_bird_that_is_not_there_is_said(ask, pauses):
    answer = ask("Create", ApiUrl="http://127.0.0.1:9/api/v1", seconds=130)
    assert answer["Reason"].startswith("Bird failed at every attempt: Bird was not reached")
    assert pauses == [2, 5, 10]


def test_a_webhook_whose_answer_was_lost_is_found_and_not_made_twice(ask, bird, monkeypatch):
    create = bird.create
    lost = []

    def create_and_lose(content):
        known = create(content)
        if not lost:
            lost.append(known)
            raise bird_api.Answer(504, "Gateway Timeout")
        return known

    monkeypatch.setattr(bird, "create", create_and_lose)
    assert ask("Create")["PhysicalResourceId"] == lost[0]
    assert list(bird.webhooks) == lost


# --- refuse ---


def test_a_wrong_key_is_refused_at_once_in_birds_words(ask, bird, pauses):
    bird.key = "another"
    answer = ask("Create")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "not-registered")
    assert answer["Reason"] == "Bird refused: Unauthorized. (HTTP 401)"
    assert pauses == []


def test_a_type_that_bird_does_not_know_is_refused_in_birds_words(ask, bird, pauses):
    answer = ask("Create", EventTypes="bounce,bonuce")
    assert answer["Reason"] == "Bird refused: Invalid event type: bonuce (HTTP 400)"
    assert pauses == []


def test_long_words_are_cut_and_secrets_in_them_covered(ask, bird):
    bird.fail(1, 400, f"no good: {KEY} bird:{PASSWORD} " + "x" * 10_000)
    answer = ask("Create", EventTypes="bounce")
    assert answer["Reason"].startswith("Bird refused: no good: [secret] [secret] xxx")
    assert len(answer["Reason"]) == 503
    assert len(json.dumps(answer)) < 4096


SPELLINGS = {
    "plain": "bird:{password}",
    "Authorization": "Authorization: Basic {basic}",
    "base64 of the password": "{base64}",
    "base64 of more": "{json}",
    "base64 for URLs": "{urlsafe}",
    "URL": "https://bird:{quoted}@webhooks.example.com/bird",
    "JSON": "{escaped}",
    "hexadecimal": "{hex}",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("password", ["Sn7UcMZVJ4gxSy5NmWexample", 'p"ä ss&word/+?>>>??', "abc"])
def test_no_spelling_of_the_credentials_passes_into_events_or_logs(password, spelling):
    pair = f"bird:{password}".encode()
    words = {
        "password": password,
        "basic": base64.b64encode(pair).decode(),
        "base64": base64.b64encode(password.encode()).decode(),
        "json": base64.b64encode(b'{"user":"bird","password":"' + password.encode() + b'","x":1}').decode(),
        "urlsafe": base64.urlsafe_b64encode(pair).decode(),
        "quoted": quote(password, safe=""),
        "escaped": json.dumps(password)[1:-1],
        "hex": password.encode().hex(),
    }
    if password == "abc" and spelling == "{json}":
        return  # four characters of base64 in a longer text: nothing to tell them by, and no password of ours
    text = redacted(f"no good: {spelling.format(**words)} (HTTP 400)", [password, pair.decode()])
    assert text.startswith("no good: ")
    assert text.endswith(" (HTTP 400)")
    assert "[secret]" in text
    told = [
        password,
        words["basic"],
        words["base64"],
        words["urlsafe"],
        words["quoted"],
        words["escaped"],
        words["hex"],
    ]
    assert [word for word in told if word in text] == []
    for part in re.findall(r"[A-Za-z0-9+/_-]{8,}=*", text):
        with suppress(ValueError):
            assert password.encode() not in base64.b64decode(part + "===", altchars=b"-_")


def test_birds_echo_of_the_authorization_is_covered(ask, bird):
    bird.fail(1, 400, f"no good: {{Authorization: {basic('bird', PASSWORD)}}}")
    assert ask("Create", EventTypes="bounce")["Reason"] == (
        "Bird refused: no good: {Authorization: Basic [secret]} (HTTP 400)"
    )


def test_the_key_does_not_follow_a_redirection(ask, bird, target, monkeypatch):
    class Redirected(bird_api.Answer):
        pass

    def redirect(*request):
        raise Redirected(302, "moved")

    monkeypatch.setattr(bird, "answer", redirect)
    assert ask("Create")["Reason"] == "Bird refused: moved (HTTP 302)"
    assert target.came == []


def test_an_answer_that_is_not_birds_is_said(ask, bird, monkeypatch):
    monkeypatch.setattr(bird, "answer", lambda *request: (200, {"hello": "I am a proxy"}))
    assert ask("Create")["Reason"] == "Bird refused: an answer that is not Bird's (HTTP 200)"


@pytest.mark.parametrize("results", [{}, [], None, {"message_event": {"events": {}}}, {"message_event": None}])
def test_no_webhook_is_left_without_types(ask, bird, registered, monkeypatch, results):
    """Bird would send nothing any more, and all would look well."""
    told = bird.answer

    def answer(method, path, *rest):
        return (200, {"results": results}) if path.endswith("/documentation") else told(method, path, *rest)

    monkeypatch.setattr(bird, "answer", answer)
    assert ask("Update", registered)["Reason"] == (
        "Bird refused: its documentation names no types of events, name them in BirdEventTypes (HTTP 200)"
    )
    assert only(bird)[1]["events"] == ALL_TYPES


@pytest.mark.parametrize(
    "error",
    ["POST to webhook target URL failed", {"message": "POST to webhook target URL failed", "response": "refused"}],
    ids=["text", "response is text"],
)
def test_birds_words_are_understood_in_other_shapes_too(ask, bird, pauses, monkeypatch, error):
    refused = bird_api.Answer(400, "")
    refused.error = error
    bird.failures = [refused]
    assert ask("Create")["Status"] == "SUCCESS"
    assert pauses == [2]


# --- update ---


@pytest.fixture
def registered(ask, bird):
    ask("Create")
    bird.requests.clear()
    bird.probes.clear()
    return only(bird)[0]


def test_an_update_changes_name_and_types_without_trying_the_target(ask, bird, registered):
    answer = ask("Update", registered, Name="renamed", EventTypes="bounce")
    assert (answer["PhysicalResourceId"], answer["Data"]["Outcome"]) == (registered, "updated")
    assert (only(bird)[1]["name"], only(bird)[1]["events"]) == ("renamed", ["bounce"])
    assert bird.probes == []


def test_another_target_is_tried(ask, bird, registered):
    other = "https://new.example.com/bird"
    bird.dns[other] = bird.dns[TARGET]
    assert ask("Update", registered, Target=other)["PhysicalResourceId"] == registered
    assert only(bird)[1]["target"] == other
    assert bird.probes == [other]


def test_new_credentials_reach_bird(ask, secrets, bird, target, registered):
    new = json.dumps({"username": "bird", "password": "another-password"})
    secrets.put(WEBHOOK_SECRET, new)
    ask("Update", registered)
    assert bird.send(registered, b"[1]", "batch") == 200
    assert target.came[-1]["authorization"] == basic("bird", "another-password")


def test_a_version_that_is_only_pending_stays_away_from_bird(ask, secrets, bird, registered):
    new = json.dumps({"username": "bird", "password": "another-password"})
    secrets.put(WEBHOOK_SECRET, new, "AWSPENDING")
    ask("Update", registered)
    assert only(bird)[1]["auth_credentials"] == LOGIN


def test_what_was_set_at_bird_by_hand_stays(ask, bird, registered):
    bird.webhooks[registered] |= {"active": False, "custom_headers": {"x-tenant": "7"}}
    ask("Update", registered, WebhookAuth="HEADER")
    assert only(bird)[1]["active"] is False
    assert only(bird)[1]["custom_headers"] == {"x-tenant": "7", "x-webhook-token": PASSWORD}
    # WHEN the header gets another name, and then none
    ask("Update", registered, {"WebhookAuth": "HEADER"}, WebhookAuth="HEADER", WebhookHeader="x-other")
    assert only(bird)[1]["custom_headers"] == {"x-tenant": "7", "x-other": PASSWORD}
    ask("Update", registered, {"WebhookAuth": "HEADER", "WebhookHeader": "x-other"})
    assert only(bird)[1]["custom_headers"] == {"x-tenant": "7"}
    assert only(bird)[1]["auth_credentials"] == LOGIN


def test_a_webhook_deleted_at_bird_is_made_anew(ask, bird, registered, stack_state):
    bird.webhooks.clear()
    answer = ask("Update", registered)
    assert answer["Data"]["Outcome"] == "recreated, because it was gone"
    new = only(bird)[0]
    assert answer["PhysicalResourceId"] == new != registered
    # THEN CloudFormation deletes the old id, and that does not touch the new one
    stack_state.status = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    assert ask("Delete", registered)["Status"] == "SUCCESS"
    assert list(bird.webhooks) == [new]


def test_an_update_that_is_refused_keeps_its_id_so_that_nothing_is_deleted(ask, bird, registered):
    answer = ask("Update", registered, EventTypes="bonuce")
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", registered)
    assert ask("Update", registered)["Status"] == "SUCCESS"  # CloudFormation rolls back
    assert only(bird)[1]["events"] == ALL_TYPES


# --- delete ---


def test_delete_takes_the_webhook_and_no_other(ask, bird, registered, stack_goes):
    bird.webhooks["other"] = {"name": "other", "target": TARGET, "events": ["open"]}
    assert ask("Delete", registered)["Status"] == "SUCCESS"
    assert list(bird.webhooks) == ["other"]


def test_a_webhook_already_gone_is_fine(ask, bird, registered, stack_goes):
    bird.webhooks.clear()
    assert ask("Delete", registered)["Status"] == "SUCCESS"


def test_delete_leaves_the_webhook_if_told_so(ask, bird, registered, stack_goes):
    assert ask("Delete", registered, DeleteWithStack="false")["Status"] == "SUCCESS"
    assert list(bird.webhooks) == [registered]
    assert bird.requests == []


def test_what_was_never_made_is_not_deleted(ask, bird, stack_goes):
    assert ask("Delete", "not-registered")["Status"] == "SUCCESS"
    assert bird.requests == []


@pytest.mark.parametrize("failure", ["key revoked", "Bird down", "secret gone"])
def test_a_delete_that_fails_lets_the_stack_go_and_says_why_in_the_log(
    ask, secrets, bird, registered, pauses, caplog, stack_goes, failure
):
    match failure:
        case "key revoked":
            bird.key, reason = "another", "Bird refused: Unauthorized. (HTTP 401)"
        case "Bird down":
            bird.fail(100, 503, "Service Unavailable")
            reason = "Bird failed at every attempt: Service Unavailable (HTTP 503)"
        case _:
            del secrets.versions[KEY_SECRET, "AWSCURRENT"]
            reason = "The secret of BirdApiKeySecretArn was not readable: ResourceNotFoundException"
    answer = ask("Delete", registered)
    assert answer["Status"] == "SUCCESS"
    assert sum(pauses) <= 60
    [said] = [record for record in caplog.records if record.msg == "webhook not deleted"]
    assert (said.reason, said.webhook_id) == (reason, registered)
    assert list(bird.webhooks) == [registered]


@pytest.mark.parametrize(
    ("status", "left"),
    [
        pytest.param("DELETE_IN_PROGRESS", False, id="the stack is deleted"),
        pytest.param("ROLLBACK_IN_PROGRESS", False, id="its creation is rolled back"),
        pytest.param("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", True, id="an update emptied the key"),
        pytest.param(
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", True, id="an update that registered is rolled back"
        ),
        pytest.param("", True, id="CloudFormation does not tell"),
    ],
)
def test_only_the_end_of_the_stack_deletes_the_webhook(ask, bird, registered, stack_state, caplog, status, left):
    """An update from SAR empties BirdApiKeySecretArn if it is not typed in again: Bird must go on sending."""
    stack_state.status, stack_state.denied = status, not status
    assert ask("Delete", registered)["Status"] == "SUCCESS"
    assert list(bird.webhooks) == [registered] * left
    assert ("webhook left at Bird" in caplog.messages) is left


# --- an id that CloudFormation made up: it got no answer to the Create ---

MADE_UP = json.loads((Path(__file__).parents[1] / "data/inputs2/12-delete-event.json").read_text())[
    "PhysicalResourceId"
]


@pytest.mark.parametrize("auth", ["BASIC", "HEADER", "NONE"])
@pytest.mark.parametrize("status", ["ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"])
def test_a_webhook_whose_create_was_given_up_is_found_by_target_and_mark(ask, bird, stack_state, caplog, status, auth):
    ask("Create", WebhookAuth=auth)
    stack_state.status = status
    theirs = {"name": "theirs", "target": TARGET, "events": ["open"], "auth_type": "basic"}
    # An adoption without an answer leaves our credentials: it is still the webhook that somebody had before.
    bird.webhooks["theirs"] = theirs | {"auth_credentials": LOGIN, "custom_headers": ANOTHERS}
    bird.webhooks["elsewhere"] = {**only_of(bird, "bird-webhooks"), "target": "https://elsewhere.example.com/bird"}
    answer = ask("Delete", MADE_UP, WebhookAuth=auth)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", MADE_UP)
    assert list(bird.webhooks) == ["theirs", "elsewhere"]
    [left] = [record for record in caplog.records if record.msg == "webhook left at Bird, not created by this stack"]
    assert left.webhook_id == "theirs"


def only_of(bird, name: str) -> dict:
    [webhook] = [webhook for webhook in bird.webhooks.values() if webhook["name"] == name]
    return webhook


@pytest.mark.parametrize("status", ["DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"])
def test_a_create_that_still_waits_when_its_delete_comes_makes_nothing(ask, bird, target, pauses, stack_state, status):
    target.status = 502
    told = bird.reach

    def reach(name: str) -> str | None:
        if len(pauses) == 3:  # the deployment is given up while this attempt runs; the target answers from now on
            stack_state.status, target.status = status, 200
            return None
        return told(name)

    bird.reach = reach
    answer = ask("Create")
    assert answer["Reason"] == "The webhook was not created: the stack is being deleted or rolled back"
    assert len(pauses) == 4
    assert bird.webhooks == {}


# --- other callers of the function ---


def test_an_event_chooses_no_address_and_no_secret(ask, bird, target, secrets):
    """lambda:InvokeFunction must not become secretsmanager:GetSecretValue."""
    ask("Create")
    stranger = f"http://127.0.0.1:{target.server.server_port}"
    came = len(target.came)
    properties = {
        "ApiUrl": stranger,
        "ApiKeySecretArn": WEBHOOK_SECRET,
        "Target": stranger,
        "Settings": {"BIRD_API_URL": stranger, "BIRD_API_KEY_SECRET_ARN": WEBHOOK_SECRET, "WEBHOOK_URL": stranger},
    }
    event = {"RequestType": "Create", "ResponseURL": ask.url, "StackId": STACK_ID, "RequestId": "r"}
    event |= {"LogicalResourceId": "BirdWebhook", "ResourceProperties": properties}
    assert ask.invoke(event)["Data"]["Outcome"] == "found again, it is the stack's own"
    assert only(bird)[1]["target"] == TARGET
    assert len(target.came) == came
    assert {headers["authorization"] for headers in bird.headers} == {KEY}


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_another_stack_is_refused(ask, bird, registered, stack_goes, kind):
    event = {"RequestType": kind, "ResponseURL": ask.url, "StackId": STACK_ID.replace("bird", "another")}
    event |= {"RequestId": "r", "LogicalResourceId": "BirdWebhook", "ResourceProperties": {}}
    answer = ask.invoke(event | {"PhysicalResourceId": registered})
    assert (answer["Status"], answer["Reason"]) == (
        "FAILED",
        "The webhook was left alone: this function serves another stack",
    )
    assert list(bird.webhooks) == [registered]
    assert bird.requests == []
