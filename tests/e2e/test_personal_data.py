"""The deployed stack drops and hashes what its parameters name, and one address is erased from it without a trace."""

import hashlib
import hmac
import json
import uuid

from bird_webhooks import __main__ as operate
from local_aws.query import poll, query
from tests.e2e.webhook import batch, post

TIMEOUT_SECONDS = 60


def bounces(*events: dict) -> str:
    return batch(*({"type": "bounce", **event} for event in events))


def rows(stack, batch_id: str) -> list[dict]:
    columns = "event_id, remote_addr, sms_text"
    return query(stack, f"SELECT {columns} FROM events WHERE batch_id = '{batch_id}' ORDER BY event_id")  # noqa: S608


def test_a_person_is_protected_and_then_erased(stack, monkeypatch, capsys):
    one, next_one = str(uuid.uuid4()), str(uuid.uuid4())
    address = f"person-{one}@example.com"
    mine = {"event_id": f"{one}-a", "raw_rcpt_to": address.upper(), "remote_addr": "192.0.2.1:25", "sms_text": "Hello"}
    others = {"event_id": f"{one}-b", "rcpt_to": "other@example.com", "remote_addr": "192.0.2.1:25"}
    assert post(stack, bounces(mine, others), batch_id=one).status == 200
    found = poll(lambda: rows(stack, one), lambda found: len(found) == 2, TIMEOUT_SECONDS)
    secret = stack.emulator.client("secretsmanager").get_secret_value(SecretId=stack.outputs["HashKeyArn"])
    hashed = hmac.new(secret["SecretString"].encode(), b"192.0.2.1:25", hashlib.sha256).hexdigest()
    assert len(secret["SecretString"]) == 43
    assert [row["remote_addr"] for row in found] == [hashed, hashed]
    assert not any(row["sms_text"] for row in found)

    monkeypatch.setattr(operate, "deployed", lambda *names: stack.stack)
    status = operate.main(["erase", "--address", address, "--settle", "0", "--yes"])
    said = capsys.readouterr()
    assert (status, said.out.count(" 1 with the address, 1 events")) == (0, 2), said
    assert [row["event_id"] for row in rows(stack, one)] == [f"{one}-b"]
    body = stack.emulator.client("s3").get_object(Bucket=stack.outputs["RawBucketName"], Key=f"raw/{one}.json")["Body"]
    assert [event["msys"]["message_event"] for event in json.load(body)] == [
        {"type": "bounce", "timestamp": "1460989507", **others}
    ]

    # The batch was written anew and announced to nobody: it was not processed again before the one that came later.
    assert post(stack, bounces({"event_id": next_one}), batch_id=next_one).status == 200
    poll(lambda: rows(stack, next_one), bool, TIMEOUT_SECONDS)
    assert [row["event_id"] for row in rows(stack, one)] == [f"{one}-b"]
