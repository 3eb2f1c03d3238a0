"""Data outlives stacks: one is deleted, another takes its buckets, by the commands of docs/existing-buckets.md."""

import os
import shlex
import uuid
from datetime import date
from string import Template
from typing import Any

import pytest

from bird_webhooks.operate import tombstone, unannounced
from local_aws import deploy as local_stack
from local_aws.deploy import Deployed
from local_aws.emulator import ROOT
from local_aws.query import maintain, query
from tests.e2e.webhook import batch, post, rows_of

PAGE = ROOT / "docs/existing-buckets.md"
OPEN, CLOSED = date(2016, 4, 18), date(2016, 4, 17)
FRONT_DOOR = {"FrontDoor": "HTTP_API", "CertificateArn": "", "DomainName": ""}
ALL_ROWS = (
    "SELECT event_date, type, rcpt_to, batch_id, received_at FROM events_deduplicated "
    "WHERE event_date < DATE '2017-01-01' ORDER BY event_date, event_key"
)
# What a company has in its bucket: one for another folder, whose queue is gone; and EventBridge.
OTHERS = {
    "QueueConfigurations": [
        {
            "Id": "invoices",
            "QueueArn": "arn:aws:sqs:eu-west-1:000000000000:gone",
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "invoices/"}]}},
        }
    ],
    "EventBridgeConfiguration": {},
}


def commands(section: str, stack: Deployed) -> list[Any]:
    """Those of the page's section in their order: `sam deploy` as the stack's name and its parameters."""
    shell = PAGE.read_text().partition(f"## {section}\n")[2].partition("```sh\n")[2].partition("```")[0]
    found: list[Any] = []
    for line in shell.replace("\\\n", " ").splitlines():
        words = shlex.split(Template(line).substitute(stack.outputs))
        if words[0] == "sam":
            given = dict(word.split("=", 1) for word in words[words.index("--parameter-overrides") + 1 :])
            found.append((words[words.index("--stack-name") + 1], given))
        else:
            found.append(words[1:])
    return found


def announced(stack: Deployed, bucket: str) -> dict:
    found = stack.emulator.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def files(stack: Deployed) -> list[tuple[str, str]]:
    """Of rows, with their ETags: what reprocessing would write again."""
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    return [
        (item["Key"], item["ETag"])
        for prefix in ("events/", "closed/")
        for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    ]


@pytest.mark.nightly  # what is checked before: tests/integration/test_storage_app.py
def test_a_stack_over_kept_buckets_has_all_rows_and_leaves_others_entries_alone(emulator, run):
    first = local_stack.create_or_update(emulator, "bird-first", FRONT_DOOR)
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    both_days = (
        batch({"type": "bounce", "event_id": "1", "rcpt_to": "ann@example.com"})[:-1]
        + ","
        + batch({"type": "click", "event_id": "2", "rcpt_to": "bob@example.com", "timestamp": "1460903107"})[1:]
    )
    assert post(first, both_days, batch_id=one)[:2] == (200, "stored")
    assert post(first, both_days, batch_id=other)[:2] == (200, "stored")  # each event twice
    rows_of(first, one, "type", 2)
    rows_of(first, other, "type", 2)
    assert maintain(first, {"close": [str(CLOSED)]})["failed"] == 0
    assert run(first, "erase", "--address", "carl@example.com", "--yes", "--settle", "0")[0] == 0
    rows, there = query(first, ALL_ROWS), files(first)
    assert [(row["event_date"], row["type"]) for row in rows] == [(str(CLOSED), "click"), (str(OPEN), "bounce")]
    local_stack.delete(first)

    raw, lake = first.outputs["RawBucketName"], first.outputs["LakeBucketName"]
    assert announced(first, raw) == announced(first, lake) == {}
    s3 = emulator.client("s3")
    s3.put_bucket_notification_configuration(
        Bucket=raw, NotificationConfiguration=OTHERS, SkipDestinationValidation=True
    )
    [(name, kept), status, _] = commands("After a deleted stack", first)
    second = local_stack.create_or_update(emulator, name, {**kept, **FRONT_DOOR})
    assert list(second.stack.athena().stream(ALL_ROWS)) == rows  # at once, without the hour's maintenance
    assert files(second) == there
    assert len(tombstone.read_all(second.stack).erased_at) == 1
    assert unannounced.unannounced(second.stack) == ([], [], [], True)
    assert announced(second, raw)["QueueConfigurations"][0] == OTHERS["QueueConfigurations"][0]
    said = run(second, *status)[1]
    assert f"\nbuckets       raw {raw} was there before, its policy does not refuse plain HTTP" in said
    # WHEN batches come in, THEN they are announced, and the old ones can be listed and replayed
    fresh = str(uuid.uuid4())
    assert post(second, batch({"type": "open", "event_id": "3"}), batch_id=fresh)[:2] == (200, "stored")
    assert [row["type"] for row in rows_of(second, fresh, "type", 1)] == ["open"]
    assert f"raw/{one}.json" in run(second, "replay", "--dry-run", "--batch", one)[1]
    if os.environ.get("NIGHTLY"):  # an update takes ten seconds
        second = moved(second, run)
    local_stack.delete(second)
    assert (announced(second, raw), announced(second, lake)) == (OTHERS, {})


def moved(stack: Deployed, run: Any) -> Deployed:
    """WHEN the prefix changes, THEN a batch under the old one is processed, listed and replayed as before."""
    [(name, given), replay] = commands("Another bucket or prefix for a stack that runs", stack)
    stack = local_stack.create_or_update(stack.emulator, name, given)
    late = str(uuid.uuid4())
    body = batch({"type": "click", "event_id": "4"})
    stack.emulator.client("s3").put_object(Bucket=stack.outputs["RawBucketName"], Key=f"raw/{late}.json", Body=body)
    assert [row["type"] for row in rows_of(stack, late, "type", 1)] == ["click"]
    assert run(stack, *replay)[:2] == (0, "4 batches replayed\n")
    return stack
