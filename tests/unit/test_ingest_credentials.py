"""Who gets in."""

import base64
import hashlib

import pytest

from ingest.credentials import challenge, refusal, uses_other, uses_previous
from ingest.settings import Settings, load_settings
from ingest.webhook import Request

OWN_TARGET_GROUP = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/ingest-0a1b2c3d/"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest().encode()


def settings(auth: str = "BASIC", *credentials: str) -> Settings:
    return Settings("raw-bucket", "raw", auth, "x-api-key", tuple(map(digest, credentials)), OWN_TARGET_GROUP)


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
    return Request("POST", {name: list(values)}, b"", OWN_TARGET_GROUP + "0123456789abcdef")


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


OTHER_BASIC = ("authorization", digest("old:weak"))
OTHER_TOKEN = ("x-messagesystems-webhook-token", digest("old-token"))
TOKEN = request(x_messagesystems_webhook_token=" old-token")
OTHERS = [
    pytest.param("BASIC", OTHER_BASIC, basic(b"old:weak"), None, id="another user name and password"),
    pytest.param("BASIC", OTHER_TOKEN, TOKEN, None, id="the old token header beside Basic"),
    pytest.param("HEADER", OTHER_BASIC, basic(b"old:weak"), None, id="Basic beside a header"),
    pytest.param("BASIC", None, basic(b"old:weak"), "wrong credentials", id="ended"),
    pytest.param("BASIC", None, TOKEN, "no readable credentials", id="ended, token"),
    pytest.param("BASIC", OTHER_BASIC, basic(b"old:other"), "wrong credentials", id="wrong password"),
    pytest.param("BASIC", OTHER_TOKEN, basic(b"old:old-token"), "wrong credentials", id="as another kind"),
    pytest.param("HEADER", OTHER_BASIC, request(x_api_key="old:weak"), "wrong credentials", id="in our header"),
    pytest.param("BASIC", OTHER_BASIC, request(), "no readable credentials", id="a stranger"),
    pytest.param("", OTHER_BASIC, basic(b"old:weak"), "authentication is not configured", id="unconfigured"),
    pytest.param("OAUTH2", OTHER_BASIC, basic(b"old:weak"), "not by the load balancer", id="OAuth2"),
]


@pytest.mark.parametrize(("auth", "other", "asked", "reason"), OTHERS)
def test_another_webhooks_credentials_are_accepted_beside_ours_until_that_ends(auth, other, asked, reason):
    given = settings(auth, "bird:secret" if auth == "BASIC" else "token")._replace(other_credential=other)
    assert refusal(asked, given) == reason
    assert refusal(basic(b"bird:secret"), given) is None or auth != "BASIC"


def test_another_webhooks_credentials_are_told_from_ours_and_from_those_of_a_rotation():
    rotating = settings("BASIC", "bird:new", "bird:old")._replace(other_credential=OTHER_TOKEN)
    both_sent = request(
        authorization=f"Basic {base64.b64encode(b'bird:new').decode()}", x_messagesystems_webhook_token="old-token"
    )
    assert [uses_other(one, rotating) for one in (TOKEN, both_sent, basic(b"bird:old"), request())] == [
        True,
        False,
        False,
        False,
    ]
    assert uses_previous(basic(b"bird:old"), rotating)
    assert not uses_other(TOKEN, settings("BASIC", "bird:new"))


def test_the_environment_names_another_webhooks_header(monkeypatch):
    monkeypatch.setenv("RAW_BUCKET", "raw-bucket")
    monkeypatch.setenv("RAW_PREFIX", "raw")
    monkeypatch.setenv("CREDENTIAL_DIGESTS", "aa,bb,x-messagesystems-webhook-token=cc")
    assert load_settings().credential_digests == (b"aa", b"bb")
    assert load_settings().other_credential == ("x-messagesystems-webhook-token", b"cc")
    monkeypatch.setenv("CREDENTIAL_DIGESTS", "aa")
    assert load_settings().other_credential is None


def by_oauth2(target_group_arn: str | None, own: str = OWN_TARGET_GROUP) -> str | None:
    came = request(authorization="Bearer abc")._replace(target_group_arn=target_group_arn)
    return refusal(came, settings("OAUTH2")._replace(target_group=own))


def test_oauth2_needs_the_token_that_the_load_balancer_verified():
    assert by_oauth2(OWN_TARGET_GROUP + "0123456789abcdef") is None
    assert refusal(both("x", "y"), settings("OAUTH2")) == "no token"


@pytest.mark.parametrize(
    ("target_group_arn", "own"),
    [
        pytest.param(None, OWN_TARGET_GROUP, id="HTTP API or function URL"),
        pytest.param(OWN_TARGET_GROUP.replace("0a1b2c3d", "99999999") + "1", OWN_TARGET_GROUP, id="alb.yaml's"),
        pytest.param(OWN_TARGET_GROUP.replace("1234", "4321") + "1", OWN_TARGET_GROUP, id="another account's"),
        pytest.param("x" + OWN_TARGET_GROUP + "1", OWN_TARGET_GROUP, id="ARN in the middle"),
        pytest.param(OWN_TARGET_GROUP + "1", "", id="own one not known"),
        pytest.param("", "", id="neither"),
    ],
)
def test_oauth2_takes_the_word_of_the_stacks_own_load_balancer_only(target_group_arn, own):
    assert by_oauth2(target_group_arn, own) == "not by the load balancer"


def test_basic_refusal_says_how_to_authenticate():
    assert challenge(settings("BASIC")) == 'Basic realm="bird-webhooks", charset="UTF-8"'
    assert challenge(settings("HEADER")) is None
