"""docs/moving-in.md, played as it is printed, from a bucket as Bird's guide fills it."""

import json
import re
import shlex
import time
import uuid
from pathlib import Path

from local_aws.query import poll, query

PAGE = Path(__file__).resolve().parents[2] / "docs" / "moving-in.md"
BUCKET, PREFIX = "old-bucket", "B Event Data"
TIMEOUT_SECONDS = 60


def commands() -> list[list[str]]:
    """Those of the page's way, in their order."""
    way = PAGE.read_text().partition("## The way")[2].partition("\n## ")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^ +(bird-webhooks .+)$", way, re.MULTILINE)]


def bounce(event_id: str, account: str) -> dict:
    moment = str(int(time.time()) - 3 * 86400)
    fields = {"type": "bounce", "customer_id": account, "event_id": event_id, "timestamp": moment}
    return {"msys": {"message_event": fields}}


def test_the_commands_of_the_page_lead_from_the_guides_bucket_to_equal_figures(stack, run):
    s3, account, batch_id = stack.emulator.client("s3"), uuid.uuid4().hex[:8], str(uuid.uuid4())
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    batch = [bounce(f"{account}-{number}", account) for number in range(5)]
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{batch_id}", Body=json.dumps(batch))
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/None", Body=b'[{"msys":{}}]')
    said = {}
    for command in commands():
        status, out, err = run(stack, *command)
        said[command[0]] = out
        assert command[0] == "compare" or status == 0, (command, out, err)
    assert "2 objects: 1 imported, 0 here already, 1 probes or empty, 0 refused" in said["import"]
    # Other tests have put rows into the stack that the old bucket lacks; of its own nothing is missing.
    assert "only in the old source:" not in said["compare"]
    sql = (
        f"SELECT count(*) AS found FROM events WHERE customer_id = '{account}' AND batch_id LIKE 'import/{batch_id}/%'"  # noqa: S608
    )
    assert poll(lambda: int(query(stack, sql)[0]["found"] or 0), bool, TIMEOUT_SECONDS) == 5
    assert run(stack, "replay", "--batch", batch_id)[:2] == (0, "1 batches replayed\n")
    assert run(stack, *commands()[2])[1].startswith(
        "2 objects: 0 imported, 1 here already, 1 probes or empty, 0 refused"
    )
