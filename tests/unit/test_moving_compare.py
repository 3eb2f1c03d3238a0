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
        ("rcpt_to", "gone@example.com", "(not shown, 16 characters)"),
        ("rcpt_meta", '{"phone":"15550100"}', "(not shown, 20 characters)"),
        ("rcpt_subs", '{"name":"Ada"}', "(not shown, 14 characters)"),
        ("subject", "Dear Ada", "(not shown, 8 characters)"),
        ("target_link_url", "https://example.com/?user=ada", "(not shown, 29 characters)"),
        ("raw_reason", "550 15550100", "(not shown, 12 characters)"),
        ("ip_address", "192.0.2.1", "(not shown, 9 characters)"),
        ("geo_ip_latitude", "52.5", "(not shown, 4 characters)"),
        ("sms_dst", "15550100", "(not shown, 8 characters)"),
        ("sms_text", "Hello", "(not shown, 5 characters)"),
        ("extra", '{"new":"15550100"}', "(not shown, 18 characters)"),
        ("a_column_of_tomorrow", "15550100", "(not shown, 8 characters)"),
        ("reason", "x" * 300, "x" * 150),
        ("reason", "<gone@example.com> unknown", "<<address>> unknown"),
        ("bounce_class", "10", "10"),
        ("timestamp", "2025-11-03T09:00:00+00:00", "2025-11-03T09:00:00+00:00"),
    ],
)
def test_no_value_that_may_say_who_the_recipient_is_is_printed(column, old, shown):
    answer = Answer()
    _compare_values("1", {column: old}, {column: "away"}, answer)
    new = "(not shown, 4 characters)" if shown.startswith("(not") else "away"
    assert answer.differing == [Differing("1", column, shown, new)]
