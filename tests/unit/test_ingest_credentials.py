"""Who gets in."""

import base64
import hashlib

import pytest

from ingest.credentials import challenge, refusal
from ingest.settings import Settings
from ingest.webhook import Request


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest().encode()


def settings(auth: str = "BASIC", *credentials: str) -> Settings:
    return Settings("raw-bucket", "raw", auth, "x-api-key", tuple(map(digest, credentials)))


def request(**headers: str) -> Request:
    return Request("POST", {name.replace("_", "-"): [value] for name, value in headers.items()}, b"")


def basic(credential: bytes, scheme: str = "Basic") -> Request:
    return request(authorization=f"{scheme} {base64.b64encode(credential).decode()}")


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_right_credentials_get_in_whatever_the_case_of_the_scheme(scheme):
    assert refusal(basic(b"bird:secret", scheme), settings("BASIC", "bird:secret")) is None


@pytest.mark.parametrize("credential", ["bird:", "bird:with:colons", "bird:pässword"])
def test_empty_colon_and_unicode_passwords_are_legal(credential):
    assert refusal(basic(credential.encode()), settings("BASIC", credential)) is None


def test_two_credentials_are_valid_at_once():
    both = settings("BASIC", "bird:new", "bird:old")
    assert refusal(basic(b"bird:new"), both) is None
    assert refusal(basic(b"bird:old"), both) is None
    assert refusal(basic(b"bird:older"), both) == "wrong credentials"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(basic(b"bird:wrong"), "wrong credentials", id="wrong password"),
        pytest.param(basic(b"bird"), "no readable credentials", id="no colon"),
        pytest.param(basic(b"bird:\xff"), "no readable credentials", id="not UTF-8"),
        pytest.param(request(authorization="Basic %%%"), "no readable credentials", id="not base64"),
        pytest.param(request(authorization="Bearer abc"), "no readable credentials", id="other scheme"),
        pytest.param(request(authorization="Bäsic ä"), "no readable credentials", id="not ASCII"),
        pytest.param(request(), "no readable credentials", id="no header"),
    ],
)
def test_wrong_credentials_are_refused(asked, reason):
    assert refusal(asked, settings("BASIC", "bird:secret")) == reason


@pytest.mark.parametrize("auth", ["", "basic", "SOMETHING"])
def test_unconfigured_means_refused(auth):
    assert refusal(basic(b"bird:secret"), settings(auth, "bird:secret")) == "authentication is not configured"


def test_no_digest_means_refused():
    assert refusal(basic(b"bird:secret"), settings("BASIC")) == "no credentials are configured"


def test_header_mode_compares_the_headers_value():
    assert refusal(request(x_api_key="token"), settings("HEADER", "token")) is None
    assert refusal(request(x_api_key="other"), settings("HEADER", "token")) == "wrong credentials"
    assert refusal(request(), settings("HEADER", "token")) == "no readable credentials"


def test_none_has_to_be_said():
    assert refusal(request(), settings("NONE")) is None


def test_oauth2_needs_the_token_that_the_load_balancer_verified():
    assert refusal(request(authorization="Bearer abc"), settings("OAUTH2")) is None
    assert refusal(request(), settings("OAUTH2")) == "no token"


def test_basic_refusal_says_how_to_authenticate():
    assert challenge(settings("BASIC")) == 'Basic realm="bird-webhooks", charset="UTF-8"'
    assert challenge(settings("HEADER")) is None
