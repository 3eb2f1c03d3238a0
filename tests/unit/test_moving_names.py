"""Names of imported batches, and what the names of a source's objects say."""

from datetime import UTC, datetime

import pytest

from bird_webhooks.moving import names
from bird_webhooks.moving.sources import Entry

AT = datetime(2025, 11, 3, 9, 31, 1, tzinfo=UTC)
UUID = "3f1c2f0e-7a53-4d3b-9a64-0c2c1d5e6f70"


def test_a_name_says_the_batch_the_time_and_the_content():
    made = names.name(UUID, "2025-11-03", AT, [b"{}"], publish=False)
    assert made.text == f"import/{UUID}/20251103T093101Z-{made.identity}"
    assert names.received_at(made.text) == AT
    assert names.identity(made.text) == made.identity


@pytest.mark.parametrize("batch_id", [None, "", "..", "a/b", "é", "x" * 129])
def test_without_a_usable_id_the_date_of_the_events_stands_for_it(batch_id):
    assert names.name(batch_id, "2025-11-03", AT, [b"{}"], publish=False).text.startswith("import/2025-11-03/")


def test_the_same_events_have_the_same_identity_whenever_they_came():
    made = {names.name(UUID, "2025-11-03", at, [b"a", b"b"], publish=False).identity for at in (AT, datetime.now(UTC))}
    assert len(made) == 1
    assert names.name(UUID, "2025-11-03", AT, [b"ab"], publish=False).identity not in made
    assert names.name(UUID, "2025-11-03", AT, [b"a", b"b"], publish=True).identity == f"{made.pop()}.publish"


@pytest.mark.parametrize("name", ["live", f"import/{UUID}", "import/a/20251399T000000Z-" + "0" * 32, "import/a/b/c"])
def test_other_names_are_not_of_imported_batches(name):
    assert names.received_at(name) is None


@pytest.mark.parametrize(
    ("name", "batch_id", "time"),
    [
        (f"s3://old/B Event Data/{UUID}", UUID, None),
        (f"s3://old/raw/{UUID}.json", UUID, None),
        (f"s3://old/raw/{UUID}.json.gz", UUID, None),
        (f"folder/1762162261_{UUID}.json", UUID, AT),
        ("s3://old/SP Event Data/None", None, None),
        ("folder/events_2025-11-03T09-31-01.json", None, AT),
        ("folder/events-20251103093101.ndjson", None, AT),
        ("folder/2025-11.csv", None, None),
        ("folder/0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef", None),
        ("folder/events_2025-13-40T09-31-01.json", None, None),
    ],
)
def test_what_the_name_of_an_object_says(name, batch_id, time):
    entry = Entry(name, 1, None, "")
    assert (entry.batch_id, entry.time_in_name) == (batch_id, time)
