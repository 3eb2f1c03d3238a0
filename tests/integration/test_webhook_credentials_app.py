"""The custom resource's digests, and that CloudFormation is always answered."""

import hashlib
import json

import pytest

import webhook_credentials.app as app


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Secrets:
    """Two versions of a secret, as Secrets Manager would give them."""

    class exceptions:  # noqa: N801  (boto3's name)
        class ResourceNotFoundException(Exception):  # noqa: N818
            pass

    def __init__(self, **versions: dict) -> None:
        self.versions = versions

    def get_secret_value(self, SecretId: str, VersionStage: str) -> dict:  # noqa: N803
        if VersionStage not in self.versions:
            raise self.exceptions.ResourceNotFoundException
        return {"SecretString": json.dumps(self.versions[VersionStage])}


NEW, OLD = {"username": "bird", "password": "new"}, {"username": "bird", "password": "old"}


@pytest.fixture
def secrets(monkeypatch):
    def use(**versions: dict) -> None:
        monkeypatch.setattr(app.boto3, "client", lambda service: Secrets(**versions))

    return use


def properties(auth: str = "BASIC", previous: str = "false") -> dict:
    return {"SecretArn": "arn", "WebhookAuth": auth, "AcceptPreviousCredentials": previous}


def test_digest_is_of_username_and_password(secrets):
    secrets(AWSCURRENT=NEW, AWSPREVIOUS=OLD)
    assert app.digests(properties()) == sha256("bird:new")


def test_previous_credentials_are_accepted_when_asked_for(secrets):
    secrets(AWSCURRENT=NEW, AWSPREVIOUS=OLD)
    assert app.digests(properties(previous="true")) == f"{sha256('bird:new')},{sha256('bird:old')}"


def test_a_first_secret_has_no_previous_version(secrets):
    secrets(AWSCURRENT=NEW)
    assert app.digests(properties(previous="true")) == sha256("bird:new")


def test_a_rotation_that_begins_brings_its_new_version_in_beside_the_current_one(secrets):
    secrets(AWSCURRENT=OLD, AWSPENDING=NEW)
    assert app.digests(properties(previous="true")) == f"{sha256('bird:old')},{sha256('bird:new')}"
    assert app.digests(properties()) == sha256("bird:old")  # and an update rolled back finds what Bird has


def test_a_version_with_two_stages_counts_once(secrets):
    secrets(AWSCURRENT=NEW, AWSPENDING=NEW, AWSPREVIOUS=OLD)
    assert app.digests(properties(previous="true")) == f"{sha256('bird:new')},{sha256('bird:old')}"


def test_header_mode_digests_the_password_alone(secrets):
    secrets(AWSCURRENT=NEW)
    assert app.digests(properties("HEADER")) == sha256("new")


def test_an_empty_password_is_legal_for_basic_but_no_secret_for_a_header(secrets):
    secrets(AWSCURRENT={"username": "bird", "password": ""})
    assert app.digests(properties()) == sha256("bird:")
    with pytest.raises(app.EmptyPasswordError):
        app.digests(properties("HEADER"))


@pytest.mark.parametrize(
    ("request_type", "versions", "status", "data"),
    [
        pytest.param("Create", {"AWSCURRENT": NEW}, "SUCCESS", {"Digests": sha256("bird:new")}, id="create"),
        pytest.param("Update", {"AWSCURRENT": OLD}, "SUCCESS", {"Digests": sha256("bird:old")}, id="update"),
        pytest.param("Delete", {}, "SUCCESS", {}, id="delete"),
        pytest.param("Create", {}, "FAILED", None, id="no secret"),
    ],
)
def test_cloudformation_is_always_answered(secrets, cloudformation, request_type, versions, status, data):
    secrets(**versions)
    url, answers = cloudformation
    event = {"RequestType": request_type, "ResponseURL": url, "StackId": "s", "RequestId": "r"}
    app.lambda_handler({**event, "LogicalResourceId": "l", "ResourceProperties": properties()}, None)
    [answer] = answers
    assert (answer["Status"], answer.get("Data")) == (status, data)
    assert answer["PhysicalResourceId"] == "webhook-credentials"
    if status == "FAILED":
        assert answer["Reason"] == "The webhook's secret could not be read: ResourceNotFoundException"
