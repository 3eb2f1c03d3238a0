"""What is odd in a stored batch or in an answer of Bird's ends no run."""

import io

import pytest

from reconcile.app import Raw
from reconcile.events_api import CallBudget, EventsApi, UntrustedError

GOOD = b'{"msys":{"message_event":{"type":"delivery","event_id":"1","rcpt_to":"jane@example.com"}}}'
FIELDS = {"type": "delivery", "event_id": "1", "rcpt_to": "jane@example.com"}


class Stored:
    """An S3 whose every object is this."""

    def __init__(self, body):
        self.body = body

    def get_object(self, **names):
        return {"Body": io.BytesIO(self.body)}


@pytest.mark.parametrize(
    "odd", [b'{"msys":null}', b'{"msys":[]}', b'{"msys":"x"}', b'{"msys":{"x":null}}', b"{}", b"[]", b"null", b"7"]
)
def test_an_odd_element_of_a_batch_hides_none_of_its_events(odd):
    raw = Raw(Stored(b"[" + odd + b"," + GOOD + b"]"), "raw-bucket", "raw")
    assert raw.events_of("b") == {("delivery", "1"): FIELDS}


@pytest.mark.parametrize("body", [b"[" * 100_000, b"null", b"{", b"", b"\x1f\x8bno gzip", b"\xff"])
def test_a_batch_that_cannot_be_read_has_no_events(body):
    assert Raw(Stored(body), "raw-bucket", "raw").events_of("b") == {}


@pytest.mark.parametrize(
    ("following", "reason"),
    [
        ("/api/v1/events/message?cursor=a&cursor=b", "a next page without a cursor, or with several"),
        ("/api/v1/events/message?cursor=", "a next page without a cursor, or with several"),
        ("/api/v1/events/message", "a next page without a cursor, or with several"),
        ("http://[", "a next page in a form that is not known"),
        ("https://[x]/events/message?cursor=a", "a next page in a form that is not known"),
        (7, "a next page in a form that is not known"),
    ],
)
def test_a_next_page_in_an_odd_form_is_not_trusted(following, reason):
    api = EventsApi("https://api.sparkpost.com/api/v1", "the-key", CallBudget(1))
    with pytest.raises(UntrustedError, match=reason):
        api._cursor("/events/message", {"next": following})
