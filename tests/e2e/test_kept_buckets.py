"""Data outlives stacks: one is deleted, another is deployed over the buckets that it has left."""

import uuid
from datetime import date

from bird_webhooks.operate import tombstone
from local_aws import deploy as local_stack
from local_aws.deploy import Deployed
from local_aws.query import maintain, query
from tests.e2e.webhook import batch, post, rows_of

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
    kept = {
        "ExistingRawBucket": raw,
        "ExistingLakeBucket": lake,
        "ExistingTombstoneKeyArn": first.outputs["TombstoneKeyArn"],
    }
    second = local_stack.create_or_update(emulator, "bird-second", {**FRONT_DOOR, **kept})
    assert list(second.stack.athena().stream(ALL_ROWS)) == rows  # at once, without the hour's maintenance
    assert files(second) == there
    assert len(tombstone.read_all(second.stack).erased_at) == 1
    assert announced(second, raw)["QueueConfigurations"][0] == OTHERS["QueueConfigurations"][0]
    # WHEN batches come in, THEN they are announced, and the old ones can be replayed
    fresh = str(uuid.uuid4())
    assert post(second, batch({"type": "open", "event_id": "3"}), batch_id=fresh)[:2] == (200, "stored")
    assert [row["type"] for row in rows_of(second, fresh, "type", 1)] == ["open"]
    assert f"raw/{one}.json" in run(second, "replay", "--dry-run", "--batch", one)[1]
    assert "3 batches" in run(second, "batches", "--list", "--since", "1h")[1]
    said = run(second, "status")[1]
    assert f"buckets       raw {raw} was there before, its policy does not refuse plain HTTP" in said
    # WHEN the prefix changes, THEN what lies under the old one is processed as before
    moved = {"RawPrefix": "B Event Data", "FormerRawPlaces": f"{raw}/raw"}
    second = local_stack.create_or_update(emulator, "bird-second", moved)
    s3.delete_object(Bucket=lake, Key=next(key for key, _ in files(second) if f"event_date={OPEN}" in key))
    assert run(second, "replay", "--batch", fresh)[0] == 0
    assert [row["type"] for row in rows_of(second, fresh, "type", 1)] == ["open"]
    local_stack.delete(second)
    assert (announced(second, raw), announced(second, lake)) == (OTHERS, {})
