"""The custom resource's digests, and that CloudFormation is always answered."""

import hashlib
import json

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

import webhook_credentials.app as app
import webhook_credentials.cloudformation as cloudformation_module

KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "GetSecretValue")


class Secrets:
    """Versions of a secret by label, as Secrets Manager would give them; `denied` times the reader is refused first."""

    def __init__(self, versions: dict[str, dict], denied: int = 0) -> None:
        self.versions, self.denied = versions, denied

    def get_secret_value(self, SecretId: str, VersionStage: str) -> dict:  # noqa: N803
        if self.denied:
            self.denied -= 1
            raise refusal("AccessDeniedException")
        if VersionStage not in self.versions:
            raise refusal("ResourceNotFoundException")
        return {"SecretString": json.dumps(self.versions[VersionStage])}


NEW, OLD = {"username": "bird", "password": "new"}, {"username": "bird", "password": "old"}


@pytest.fixture
def secrets(monkeypatch, stack_state):
    def use(denied: int = 0, **versions: dict) -> None:
        clients = {"secretsmanager": Secrets(versions, denied), "cloudformation": stack_state}
        monkeypatch.setattr(app.boto3, "client", lambda service, **_: clients[service])

    return use


@pytest.fixture
def pauses(monkeypatch):
    """Time that passes only while the function pauses; and the pauses."""
    slept: list[float] = []
    monkeypatch.setattr(cloudformation_module.time, "sleep", slept.append)
    monkeypatch.setattr(cloudformation_module.time, "monotonic", lambda: float(sum(slept)))
    return slept


def properties(auth: str = "BASIC") -> dict:
    return {"SecretArn": "arn", "WebhookAuth": auth}


ACCEPTED = [
    pytest.param({"AWSCURRENT": NEW}, "new", id="at rest"),
    pytest.param({"AWSCURRENT": NEW, "AWSPREVIOUS": OLD}, "new", id="what was dropped does not come back"),
    pytest.param({"AWSCURRENT": OLD, "ALSO_ACCEPTED": OLD, "AWSPENDING": NEW}, "new,old", id="a rotation begins"),
    pytest.param({"AWSCURRENT": NEW, "ALSO_ACCEPTED": OLD, "AWSPENDING": NEW}, "new,old", id="Bird gets the new"),
    pytest.param({"AWSCURRENT": NEW, "ALSO_ACCEPTED": OLD, "AWSPREVIOUS": OLD}, "new,old", id="a rotation is open"),
    pytest.param({"AWSCURRENT": NEW, "ALSO_ACCEPTED": NEW, "AWSPREVIOUS": OLD}, "new", id="a rotation ends"),
    pytest.param({"AWSCURRENT": OLD, "AWSPENDING": NEW}, "new,old", id="pending only"),
]


@pytest.mark.parametrize(("versions", "accepted"), ACCEPTED)
def test_what_is_accepted_is_told_by_the_labels_alone_the_new_first(secrets, versions, accepted):
    """ingest takes the first for the new one: a batch with another is `previous credentials used`."""
    secrets(**versions)
    expected = ",".join(sha256(f"bird:{password}") for password in accepted.split(","))
    assert app.digests(properties(), 60) == expected


def test_user_name_and_password_both_count(secrets):
    secrets(AWSCURRENT={"username": "bird-2", "password": "new"}, ALSO_ACCEPTED=NEW)
    assert app.digests(properties(), 60) == f"{sha256('bird-2:new')},{sha256('bird:new')}"


OTHERS = [
    pytest.param({"username": "old", "password": "weak"}, f",authorization={sha256('old:weak')}", id="Basic"),
    pytest.param({"header": "X-Old-Token", "value": " t "}, f",x-old-token={sha256('t')}", id="header"),
]


@pytest.mark.parametrize("auth", ["BASIC", "HEADER"])
@pytest.mark.parametrize(("other", "added"), OTHERS)
def test_another_webhooks_credentials_are_the_last_with_the_name_of_their_header(secrets, other, added, auth):
    secrets(AWSCURRENT=NEW, OTHER_WEBHOOK=other)
    assert app.digests(properties(auth), 60) == sha256("bird:new" if auth == "BASIC" else "new") + added


def test_header_mode_digests_the_password_alone(secrets):
    secrets(AWSCURRENT=NEW)
    assert app.digests(properties("HEADER"), 60) == sha256("new")


def test_an_empty_password_is_legal_for_basic_but_no_secret_for_a_header(secrets):
    secrets(AWSCURRENT={"username": "bird", "password": ""})
    assert app.digests(properties(), 60) == sha256("bird:")
    with pytest.raises(app.EmptyPasswordError):
        app.digests(properties("HEADER"), 60)


@pytest.fixture
def ask(cloudformation, lambda_context):
    """`ask("Create", properties)`: what CloudFormation is answered."""
    url, answers = cloudformation

    def request(kind: str, asked: dict, old: dict | None = None) -> dict:
        event = {"RequestType": kind, "ResponseURL": url, "StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
        event["ResourceProperties"] = asked
        if old is not None:
            event["OldResourceProperties"] = old
        app.lambda_handler(event, lambda_context)
        return answers.pop()

    return request


@pytest.mark.parametrize(
    ("request_type", "versions", "status", "data"),
    [
        pytest.param("Create", {"AWSCURRENT": NEW}, "SUCCESS", {"Digests": sha256("bird:new")}, id="create"),
        pytest.param("Update", {"AWSCURRENT": OLD}, "SUCCESS", {"Digests": sha256("bird:old")}, id="update"),
        pytest.param("Delete", {}, "SUCCESS", {}, id="delete"),
        pytest.param("Create", {}, "FAILED", None, id="no secret"),
    ],
)
def test_cloudformation_is_always_answered(secrets, ask, request_type, versions, status, data):
    secrets(**versions)
    answer = ask(request_type, properties())
    assert (answer["Status"], answer.get("Data")) == (status, data)
    assert answer["PhysicalResourceId"] == "webhook-credentials"
    if status == "FAILED":
        assert answer["Reason"] == "The webhook's secret could not be read: ResourceNotFoundException"


def test_a_role_that_may_read_the_secret_since_seconds_is_waited_for(secrets, ask, pauses):
    secrets(denied=4, AWSCURRENT=NEW)
    assert ask("Create", properties())["Data"] == {"Digests": sha256("bird:new")}
    assert pauses == [2, 4, 8, 16]


def test_a_role_that_may_not_read_the_secret_is_said_in_time(secrets, ask, pauses):
    secrets(denied=100, AWSCURRENT=NEW)
    answer = ask("Create", properties())
    assert answer["Reason"] == "The webhook's secret could not be read: AccessDeniedException"
    assert sum(pauses) <= 60  # of the 90 s that the function has


def test_a_key_that_the_functions_may_not_use_is_named_as_the_reason(secrets, ask, pauses):
    """Before the buckets use the key: they depend on this answer."""
    secrets(denied=100, AWSCURRENT=NEW)
    answer = ask("Update", {**properties(), "KmsKeyArn": KEY})
    assert answer["Reason"] == (
        "The webhook's secret could not be read: AccessDeniedException. The policy of the key in KmsKeyArn must let "
        "IAM policies of this account allow its use"
    )


def test_a_network_without_a_route_to_the_secret_is_named_in_time(ask, monkeypatch):
    """As in a subnet without route or endpoint: no packet comes back."""
    given = []

    class NoAnswer:
        def get_secret_value(self, **_: str) -> dict:
            raise ConnectTimeoutError(endpoint_url="https://secretsmanager.eu-west-1.amazonaws.com/")

    monkeypatch.setattr(app.boto3, "client", lambda service, config: given.append(config) or NoAnswer())
    answer = ask("Create", properties())
    assert answer["Reason"] == (
        "The webhook's secret could not be read: ConnectTimeoutError. FunctionSubnetIds needs a route or an endpoint "
        "to Secrets Manager"
    )
    [limits] = given  # botocore's own are 60 s and five tries, in the 90 s that the function has
    assert limits.connect_timeout * limits.retries["total_max_attempts"] <= 15


# --- the guard of settings ---


def settings(**values: str) -> dict:
    defaults = {"HashFields": "", "OutputFormat": "PARQUET", "WebhookAuth": "BASIC"}
    given = {name: {"Value": values.get(name, default), "Default": default} for name, default in defaults.items()}
    return {"SettingsToReset": values.get("SettingsToReset", ""), "Settings": given}


SET = settings(HashFields="rcpt_to", OutputFormat="CSV")
UPDATES = [
    pytest.param(SET, SET, [], id="nothing changes"),
    pytest.param(settings(), SET, [], id="set"),
    pytest.param(SET, settings(HashFields="rcpt_to,subject", OutputFormat="OTHER"), [], id="set to something else"),
    pytest.param(SET, settings(), ["HashFields", "OutputFormat"], id="both lost"),
    pytest.param(SET, settings(OutputFormat="CSV"), ["HashFields"], id="one lost"),
    pytest.param(SET, settings(SettingsToReset="HashFields, OutputFormat"), [], id="meant"),
    pytest.param(SET, settings(SettingsToReset="HashFields"), ["OutputFormat"], id="one meant"),
    pytest.param({}, settings(), [], id="from a version without the guard"),
]


@pytest.mark.parametrize(("old", "new", "refused"), UPDATES)
def test_an_update_that_loses_settings_is_refused_by_name(secrets, ask, stack_state, old, new, refused):
    secrets()
    stack_state.status = "UPDATE_IN_PROGRESS"
    answer = ask("Update", new, old)
    assert answer["PhysicalResourceId"] == "settings-guard"
    assert answer["Status"] == ("FAILED" if refused else "SUCCESS")
    if refused:
        assert answer["Reason"].startswith(
            f"Refused, because these settings would go back to their defaults: {', '.join(refused)}. "
        )
        assert answer["Reason"].endswith("If you mean it, name them in SettingsToReset, with commas between them.")
        assert "rcpt_to" not in answer["Reason"]


def test_an_update_that_takes_a_key_away_is_refused_by_its_arn(secrets, ask, stack_state):
    """Every object and secret that was stored under it would be lost to the functions."""
    secrets()
    stack_state.status = "UPDATE_IN_PROGRESS"
    old = {"Settings": {"KmsKeyArn": {"Value": KEY, "Default": ""}}}
    new = {"Settings": {"KmsKeyArn": {"Value": KEY.replace("0a1b", "9999"), "Default": ""}}}
    assert ask("Update", new, old)["Reason"] == (
        f"Refused, because what is encrypted under {KEY} could not be read any more. Name the key in KmsReadKeyArns, "
        "with commas between several. If nothing is encrypted under it, name KmsReadKeyArns in SettingsToReset."
    )
    new["Settings"]["KmsReadKeyArns"] = {"Value": KEY, "Default": ""}
    assert ask("Update", new, old)["Status"] == "SUCCESS"


def test_an_update_that_leaves_a_place_of_batches_unnamed_is_refused_before_s3_announces_another(
    secrets, ask, stack_state
):
    secrets()
    stack_state.status = "UPDATE_IN_PROGRESS"
    prefix = {"Value": "raw", "Default": "raw"}
    old, new = ({"Settings": {"RawPrefix": prefix | {"Value": value}}} for value in ("raw", "bird"))
    assert ask("Update", new, old)["Reason"] == (
        "Refused, because raw batches lie in (the output RawBucketName)/raw, where this stack would not look: no "
        "replay, no erasure, and batches that wait would fail. Add the place to FormerRawPlaces, with commas between "
        "several, and after the update run bird-webhooks replay --since 1h, for what was stored there meanwhile. To "
        "forget the place, name FormerRawPlaces in SettingsToReset."
    )
    new["Settings"]["FormerRawPlaces"] = {"Value": "bird-rawbucket-1/raw", "Default": ""}
    assert ask("Update", new, old)["Status"] == "SUCCESS"
    stack_state.status = "UPDATE_ROLLBACK_IN_PROGRESS"
    assert ask("Update", old, new)["Status"] == "SUCCESS"


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", ""])
def test_a_rollback_may_restore_defaults(secrets, ask, stack_state, status):
    """Else an update that set HashFields and failed elsewhere would end as UPDATE_ROLLBACK_FAILED."""
    secrets()
    stack_state.status, stack_state.denied = status, not status
    assert ask("Update", settings(), SET)["Status"] == "SUCCESS"


@pytest.mark.parametrize("kind", ["Create", "Delete"])
def test_the_guard_has_nothing_against_the_first_and_the_last_deployment(secrets, ask, kind):
    secrets()
    assert ask(kind, settings())["Status"] == "SUCCESS"
