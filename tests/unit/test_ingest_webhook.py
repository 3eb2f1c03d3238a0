"""The envelope of a request, its batch id, and what counts as a ping."""

import base64
import time

import pytest

from ingest.webhook import (
    Request,
    UnreadableRequestError,
    answer,
    batch_id,
    content_encoding,
    is_ping,
    parse_request,
)
from maintain.generate.events import TARGET_GROUP


@pytest.mark.parametrize("name", ["alb_all_types", "alb_multi_value_headers", "http_api_batch"])
def test_every_envelope_gives_method_headers_and_body(load_event, name):
    request = parse_request(load_event(name))
    assert request.method == "POST"
    assert request.header("content-type") == "application/json"
    assert request.body.startswith(b'[{"msys":{"')


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alb_all_types", TARGET_GROUP), ("alb_multi_value_headers", TARGET_GROUP), ("http_api_batch", None)],
)
def test_a_request_knows_by_which_target_group_it_came(load_event, name, expected):
    assert parse_request(load_event(name)).target_group_arn == expected


@pytest.mark.parametrize("elb", [None, {}, {"targetGroupArn": None}, {"targetGroupArn": ["arn"]}])
def test_a_context_without_a_target_group_has_none(elb):
    event = {"httpMethod": "POST", "headers": {}, "body": "", "requestContext": {"elb": elb}}
    assert parse_request(event).target_group_arn is None


def test_header_names_that_differ_in_case_are_one_header():
    event = {"httpMethod": "POST", "multiValueHeaders": {"Authorization": ["a"], "authorization": ["b"]}, "body": ""}
    assert parse_request(event).headers == {"authorization": ["a", "b"]}


@pytest.mark.parametrize("value", ["gzip", "GZIP", "deflate, gzip"])
def test_compression_is_kept(value):
    assert content_encoding(Request("POST", {"content-encoding": [value]}, b"")) == value


@pytest.mark.parametrize("value", ["", " ", "gz\nip", "gzip\r\nx-amz-acl: public-read", "\u00fc", "\ud800", "x" * 65])
def test_compression_that_s3_would_refuse_is_left_out(value):
    assert content_encoding(Request("POST", {"content-encoding": [value]}, b"")) is None


def test_base64_body_is_undone(load_event):
    assert parse_request(load_event("alb_batch_base64")).body == load_event("alb_all_types")["body"].encode()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({}, id="empty"),
        pytest.param({"httpMethod": "POST", "body": "%%%", "isBase64Encoded": True, "headers": {}}, id="bad base64"),
        pytest.param({"httpMethod": "POST", "headers": [], "body": ""} | {"headers": "x"}, id="headers no object"),
        pytest.param({"httpMethod": None, "headers": {}, "body": ""}, id="no method"),
        pytest.param({"httpMethod": "POST", "headers": {"Authorization": None}, "body": ""}, id="null"),
        pytest.param({"httpMethod": "POST", "multiValueHeaders": {"a": [1]}, "body": ""}, id="number"),
    ],
)
def test_unreadable_envelope_is_refused(event):
    with pytest.raises(UnreadableRequestError):
        parse_request(event)


@pytest.mark.parametrize(
    "body",
    [
        *(b'[{"msys":{}}]', b' [ { "msys" : { } } ]\r\n', b"[]", b"[ ]", b"", b"  \n", b" " * 5000),
        *(b'{"msys":{}}', b'\n{ "msys"\t: {\r\n} } ', b"[" + b"\n" * 5000 + b'{"msys":{}}]'),
    ],
)
def test_probe_in_any_white_space_is_a_ping(body):
    assert is_ping(body)


@pytest.mark.parametrize(
    "body",
    [
        *(b'[{"msys":{"a":{}}}]', b"[{}]", b"{}", b'[{"msys":{}},{"msys":{}}]', b"x", b'{"msys":{}}{"msys":{}}'),
        *(b'{"msys":{"a":{}}}', b'{"msys":{}} x', b'[{"msys":{}}', b'{"msys":[]}'),
    ],
)
def test_anything_else_is_no_ping(body):
    assert not is_ping(body)


@pytest.mark.parametrize("start", [b"", b"[", b"[{", b'{"msys":{'], ids=["nothing", "array", "object", "probe"])
def test_a_stranger_cannot_make_the_search_for_a_probe_slow(start):
    started = time.process_time()
    assert not is_ping(start + b" " * 6_000_000 + b"x")
    assert time.process_time() - started < 1


def request(*batch_ids: str, body: bytes = b"body") -> Request:
    return Request("POST", {"x-messagesystems-batch-id": list(batch_ids)} if batch_ids else {}, body)


def test_batch_id_names_the_object():
    assert batch_id(request("77c2b630-d712-11e4-9642-efc2723b99c1")) == (
        "77c2b630-d712-11e4-9642-efc2723b99c1",
        None,
    )


@pytest.mark.parametrize("original", ["../etc/passwd", "..", "with space", "x" * 129, "ünïcode", "a/b"])
def test_unsafe_batch_id_is_hashed_and_kept(original):
    name, kept = batch_id(request(original))
    assert name.startswith("sha256-")
    assert len(name) == 71
    assert kept == original


def test_batch_without_id_is_named_by_its_body():
    expected = "sha256-230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
    assert batch_id(request(body=b"body")) == (expected, None)


def test_two_contradicting_batch_ids_are_named_by_the_body():
    assert batch_id(request("one", "two")) == (batch_id(request()).name, "one, two")


def test_the_same_batch_id_twice_is_one():
    assert batch_id(request("one", "one")).name == "one"


def test_answer_takes_the_shape_of_its_envelope(load_event):
    single = answer(load_event("alb_all_types"), 200, "{}")
    assert single["statusDescription"] == "200 OK"
    assert single["headers"] == {"Content-Type": "application/json"}
    many = answer(load_event("alb_multi_value_headers"), 200, "{}")
    assert many["multiValueHeaders"] == {"Content-Type": ["application/json"]}
    assert "headers" not in many
    assert "statusDescription" not in answer(load_event("http_api_batch"), 200, "{}")


def test_body_is_kept_byte_for_byte():
    body = bytes(range(256))
    event = {"httpMethod": "POST", "headers": {}, "body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    assert parse_request(event).body == body
