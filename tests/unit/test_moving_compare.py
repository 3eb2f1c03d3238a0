"""When `compare` says "equal", and what it prints of a value."""

from collections import Counter

import pytest

from bird_webhooks.moving.compare import Answer, Differing, _compare_values

BOTH = Counter({("2026-11-24T10", "delivery"): 5})
COUNTS = "not equal: 5 events are in both, 0 only in the old source, 0 only in the stack, 0 values differ"


@pytest.mark.parametrize(
    ("answer", "equal", "sentence"),
    [
        (Answer(BOTH), True, "equal: both have the same 5 events"),
        # Bird's API has a value that the webhook does not send.
        (Answer(BOTH, values_only_new=Counter({"subject": 5})), True, "equal: both have the same 5 events"),
        (
            Answer(BOTH, values_only_old=Counter({"rcpt_meta": 5, "subject": 1})),
            False,
            f"{COUNTS}; 6 values that the old source has are missing in the stack",
        ),
        (
            Answer(BOTH, untimed=3),
            False,
            f"{COUNTS}; 3 events of the source have no time of their own, and are not compared",
        ),
        (
            Answer(),
            False,
            "nothing to compare: neither has an event of this time; look at the source's prefix and the time",
        ),
    ],
)
def test_equal_is_said_only_of_events_that_were_compared_with_all_their_values(answer, equal, sentence):
    assert (answer.equal, answer.sentence) == (equal, sentence)


@pytest.mark.parametrize(
    ("column", "old", "shown"),
    [
        ("rcpt_to", "gone@example.com", "<address>"),
        ("target_link_url", "https://example.com/?e=gone%40example.com", "https:<address>"),
        ("target_link_url", "https://example.com/?e=gone%2540example.com", "https:<address>"),
        ("sms_dst", "15550100", "(not shown)"),
        ("sms_text", "Hello", "(not shown)"),
        ("reason", "x" * 300, "x" * 150),
    ],
)
def test_no_address_and_no_telephone_number_is_printed(column, old, shown):
    answer = Answer()
    _compare_values("1", {column: old}, {column: "away"}, answer)
    new = "(not shown)" if column.startswith("sms_") else "away"
    assert answer.differing == [Differing("1", column, shown, new)]
