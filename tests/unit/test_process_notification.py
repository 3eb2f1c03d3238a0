"""Which objects a message announces."""

import json

import pytest

from process.notification import Message, RawObject, UnreadableMessageError, messages, raw_objects


def objects(event):
    return [(message.message_id, raw_objects(message)) for message in messages(event)]


def test_queue_messages_and_bare_events_are_understood(load_event):
    assert objects(load_event("sqs_raw_batches_created")) == [
        ("00000000-0000-4000-8000-000000000001", [RawObject("raw-bucket", "raw/batch-1.json")]),
        ("00000000-0000-4000-8000-000000000002", [RawObject("raw-bucket", "raw/batch-2.json")]),
    ]
    assert objects(load_event("s3_raw_batch_created")) == [(None, [RawObject("raw-bucket", "raw/batch-1.json")])]


def test_key_with_spaces_is_decoded_as_s3_encodes_it(load_event):
    assert objects(load_event("s3_key_with_spaces")) == [(None, [RawObject("raw-bucket", "B Event Data/batch-1.json")])]


def test_s3_test_event_announces_nothing(load_event):
    assert [found for _, found in objects(load_event("sqs_test_event"))] == [[]]


@pytest.mark.parametrize("body", ["x", "[]", "{}", "[" * 100_000, '{"Records":[{}]}', '{"Records":null}'])
def test_other_messages_are_not_understood(body):
    with pytest.raises(UnreadableMessageError):
        raw_objects(Message("1", body))


def test_empty_key_is_not_understood():
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": ""}}}
    with pytest.raises(UnreadableMessageError):
        raw_objects(Message("1", json.dumps({"Records": [record]})))


def test_folder_of_the_console_is_no_batch():
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "B+Event+Data/"}}}
    assert raw_objects(Message("1", json.dumps({"Records": [record]}))) == []


@pytest.mark.parametrize(("count", "expected"), [("1", 1), ("7", 7), (None, 1), ("", 1), ("many", 1)])
def test_how_often_a_message_was_received(load_event, count, expected):
    event = load_event("sqs_raw_batches_created")
    event["Records"][0]["attributes"] = None if count is None else {"ApproximateReceiveCount": count}
    first, second = messages(event)
    assert (first.receive_count, second.receive_count) == (expected, 1)
