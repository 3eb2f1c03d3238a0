"""The operator's program against a deployed stack."""

import json
import uuid
from urllib.parse import quote_plus

from local_aws.query import poll, query
from local_aws.webhook import basic
from tests.e2e.webhook import post_one

TIMEOUT_SECONDS = 60


def rows(stack, batch_id: str) -> int:
    sql = f"SELECT count(DISTINCT event_key) AS events FROM events WHERE batch_id = '{batch_id}'"  # noqa: S608
    return int(query(stack, sql)[0]["events"] or 0)


def purge_rows(stack) -> None:
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    for item in s3.list_objects_v2(Bucket=bucket, Prefix="events/").get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=item["Key"])


def test_replay_repairs_the_rows_that_are_missing_and_adds_none(stack, run):
    batch_id = str(uuid.uuid4())
    assert post_one(stack, basic(stack.credentials()), batch_id=batch_id) == 200
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    purge_rows(stack)
    assert rows(stack, batch_id) == 0
    assert run(stack, "replay", "--batch", batch_id)[:2] == (0, "1 batches replayed\n")
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    assert run(stack, "replay", "--since", "1h", "--yes")[0] == 0
    assert rows(stack, batch_id) == 1

    def counts() -> tuple[str, int, int]:
        [found] = query(stack, "SELECT count(DISTINCT batch_id) AS batches FROM events")  # the stack is new
        counted = json.loads(run(stack, "batches", "--since", "1h", "--json")[1])
        return counted["counted"], counted["batches"], int(found["batches"] or 0)

    # The second replay brings back what other tests sent, one after the other.
    counted, batches, all_of_them = poll(counts, lambda found: found[1] == found[2], TIMEOUT_SECONDS)
    assert (counted, batches) == ("with rows", all_of_them)


def test_dead_letters_go_back_and_become_rows(stack, run):
    batch_id = str(uuid.uuid4())
    sqs = stack.emulator.client("sqs")
    assert post_one(stack, basic(stack.credentials()), batch_id=batch_id) == 200
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    purge_rows(stack)
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": stack.outputs["RawBucketName"]}}}
    record["s3"]["object"] = {"key": quote_plus(f"raw/{batch_id}.json")}
    dead = stack.outputs["ProcessDeadLetterQueueUrl"]
    sqs.send_message(QueueUrl=dead, MessageBody=json.dumps({"Records": [record]}))
    status, printed, _ = run(stack, "redrive", "--dry-run")
    assert (status, printed.splitlines()[0]) == (0, f"raw/{batch_id}.json")
    assert rows(stack, batch_id) == 0
    assert run(stack, "redrive")[:2] == (0, "1 dead letters moved back to their queue\n")
    assert poll(lambda: rows(stack, batch_id), bool, TIMEOUT_SECONDS) == 1
    assert run(stack, "redrive")[:2] == (0, "no dead letters\n")


def test_status_is_one_screen(stack, run):
    post_one(stack, basic(stack.credentials()), batch_id=str(uuid.uuid4()))
    status, printed, said = run(stack, "status")
    assert (status, said) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines() if not line.startswith(" "))
    assert lines["stack"].startswith(f"{stack.name} ")
    assert lines["credentials"] == "BASIC; rotation: none is open"
    assert lines["last"].startswith("batch    stored 20")
    assert "not known" not in printed
