"""Who gets in."""

import base64
import hashlib

import pytest

from ingest.credentials import challenge, refusal, uses_previous
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


@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_header_mode_takes_no_empty_secret_even_if_it_were_configured(value):
    assert refusal(request(x_api_key=value), settings("HEADER", "")) == "no readable credentials"


def test_header_mode_takes_a_value_with_spaces_around_it():
    assert refusal(request(x_api_key=" token\t"), settings("HEADER", "token")) is None


@pytest.mark.parametrize("value", ["t\u00f6ken", "a=b;c,d", '"quoted"', "\u4e2d\u6587", "two words"])
def test_header_mode_takes_a_value_of_odd_characters(value):
    assert refusal(request(x_api_key=value), settings("HEADER", value)) is None
    assert refusal(request(x_api_key=value), settings("HEADER", "token")) == "wrong credentials"


@pytest.mark.parametrize("value", ["\ud800", "token\udfff"])
def test_header_value_that_is_no_text_is_refused(value):
    assert refusal(request(x_api_key=value), settings("HEADER", "token")) == "no readable credentials"


def test_header_mode_without_a_header_name_refuses():
    unnamed = settings("HEADER", "token")._replace(webhook_header="")
    assert refusal(request(**{"": "token"}), unnamed) == "no readable credentials"


def both(name: str, *values: str) -> Request:
    return Request("POST", {name: list(values)}, b"", from_load_balancer=True)


def test_two_contradicting_credentials_are_refused_wherever_the_good_one_stands():
    good, bad = "Basic YmlyZDpzZWNyZXQ=", "Basic YmlyZDp3cm9uZw=="
    for values in [(good, bad), (bad, good), (good, "")]:
        assert refusal(both("authorization", *values), settings("BASIC", "bird:secret")) == "no readable credentials"
    assert refusal(both("authorization", good, good), settings("BASIC", "bird:secret")) is None
    assert refusal(both("x-api-key", "token", "other"), settings("HEADER", "token")) == "no readable credentials"
    assert refusal(both("authorization", "Bearer a", "Bearer b"), settings("OAUTH2")) == "no token"


def test_basic_credentials_in_the_wrong_mode_are_refused():
    assert refusal(basic(b"bird:secret"), settings("HEADER", "bird:secret")) == "no readable credentials"
    assert refusal(request(x_api_key="bird:secret"), settings("BASIC", "bird:secret")) == "no readable credentials"


def test_the_digest_itself_is_no_credential():
    stolen = digest("bird:secret").decode()
    assert refusal(basic(f"bird:{stolen}".encode()), settings("BASIC", "bird:secret")) == "wrong credentials"
    assert refusal(request(x_api_key=stolen), settings("HEADER", "token")) == "wrong credentials"


def test_the_previous_credentials_are_told_from_the_current_ones():
    rotating = settings("BASIC", "bird:new", "bird:old")
    assert not uses_previous(basic(b"bird:new"), rotating)
    assert uses_previous(basic(b"bird:old"), rotating)
    assert not uses_previous(basic(b"bird:old"), settings("BASIC", "bird:old"))
    assert not uses_previous(request(), settings("NONE", "bird:new", "bird:old"))


def test_oauth2_needs_the_token_that_the_load_balancer_verified():
    by_alb = request(authorization="Bearer abc")._replace(from_load_balancer=True)
    assert refusal(by_alb, settings("OAUTH2")) is None
    assert refusal(by_alb._replace(headers={}), settings("OAUTH2")) == "no token"


def test_oauth2_refuses_whoever_comes_by_another_door():
    assert refusal(request(authorization="Bearer abc"), settings("OAUTH2")) == "not by the load balancer"


def test_basic_refusal_says_how_to_authenticate():
    assert challenge(settings("BASIC")) == 'Basic realm="bird-webhooks", charset="UTF-8"'
    assert challenge(settings("HEADER")) is None
