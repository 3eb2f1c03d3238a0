"""Fields that the settings name never reach the lake; what is wrong with the settings keeps rows waiting."""

import csv
import json
from io import BytesIO, StringIO

import pytest
from arro3.io import read_parquet

from maintain.generate.events import created, sqs
from process.app import lambda_handler
from process.protection import UnknownFieldError
from tests.integration.moto_server import client

RAW_BUCKET, LAKE_BUCKET = "raw-bucket", "lake-bucket"
KEY = "the-key-of-a-test"
# printf '%s' person@example.com | openssl dgst -sha256 -hmac the-key-of-a-test
HASH_OF_PERSON = "6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3"
# Wherever a sender or a mailbox provider may have written the address.
PERSON = {
    "rcpt_to": "person@example.com",
    "raw_rcpt_to": "Person@Example.com",
    "rcpt_meta": {"mail": "person@example.com"},
    "rcpt_tags": ["person@example.com"],
    "subject": "For person@example.com",
    "raw_reason": "550 5.1.1 <Person@Example.com> unknown",
    "target_link_url": "https://www.example.com/?to=person@example.com",
    "geo_ip": {"city": "Person@example.com", "continent": "person@example.com"},
    "user_str": "person@example.com",
    "msg_size": "person@example.com",
}
DROP = "rcpt_meta,rcpt_tags,subject,raw_reason,target_link_url,geo_ip,msg_size,extra.user_str"


@pytest.fixture
def protected(s3, moto_endpoint, monkeypatch):
    """Settings for a handler whose key is in Secrets Manager."""
    secrets = client("secretsmanager", moto_endpoint)
    arn = secrets.create_secret(Name="hash-key", SecretString=KEY)["ARN"]

    def use(drop: str, hashed: str, output_format: str = "PARQUET") -> None:
        monkeypatch.setenv("DROP_FIELDS", drop)
        monkeypatch.setenv("HASH_FIELDS", hashed)
        monkeypatch.setenv("HASH_KEY_ARN", arn)
        monkeypatch.setenv("OUTPUT_FORMAT", output_format)

    yield use
    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    secrets.close()


def store(s3, *events: dict) -> dict:
    """One batch of them; the message that announces it."""
    elements = [{"msys": {"message_event": {"type": "bounce", "timestamp": "1460989507", **one}}} for one in events]
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/batch.json", Body=json.dumps(elements).encode())
    return sqs({"Records": [created("raw/batch.json")]})


def rows(s3) -> list[dict]:
    found = []
    for item in s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="events").get("Contents", []):
        body = s3.get_object(Bucket=LAKE_BUCKET, Key=item["Key"])["Body"].read()
        if item["Key"].endswith(".csv"):
            found += list(csv.DictReader(StringIO(body.decode())))
        else:
            found += read_parquet(BytesIO(body)).read_all().combine_chunks().to_struct_array().to_pylist()
    return found


@pytest.mark.parametrize("output_format", ["PARQUET", "CSV"])
def test_an_address_is_nowhere_in_the_rows(s3, protected, output_format, caplog):
    protected(DROP, "rcpt_to", output_format)
    again = {**PERSON, "rcpt_to": "other@example.com", "raw_rcpt_to": "other@example.com"}
    events = [{**PERSON, "event_id": "1"}, {**again, "event_id": "2"}, {**PERSON, "event_id": "1"}]
    assert lambda_handler(store(s3, *events), None) == {"batchItemFailures": []}
    found = rows(s3)
    assert [row["event_id"] for row in found] == ["1", "2"]
    assert "person@" not in str(found).lower()
    assert "other@" not in str(found).lower()
    assert (found[0]["rcpt_to"], found[0]["raw_rcpt_to"]) == (HASH_OF_PERSON, HASH_OF_PERSON)
    assert found[1]["rcpt_to"] not in (HASH_OF_PERSON, "", None)
    assert "person@" not in caplog.text.lower()


def test_the_raw_batch_keeps_what_the_rows_do_not(s3, protected):
    protected(DROP, "rcpt_to")
    lambda_handler(store(s3, {**PERSON, "event_id": "1"}), None)
    body = s3.get_object(Bucket=RAW_BUCKET, Key="raw/batch.json")["Body"].read()
    assert json.loads(body)[0]["msys"]["message_event"]["rcpt_to"] == "person@example.com"


def test_no_row_is_written_while_a_setting_names_no_field(s3, protected):
    protected("rcpt_meta,subjct", "")
    with pytest.raises(UnknownFieldError, match="subjct is no field that can be dropped"):
        lambda_handler(store(s3, {**PERSON, "event_id": "1"}), None)
    assert rows(s3) == []


def test_no_row_is_written_while_the_key_cannot_be_read(s3, protected, monkeypatch):
    protected("", "rcpt_to")
    monkeypatch.setenv("HASH_KEY_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:gone")
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        lambda_handler(store(s3, {**PERSON, "event_id": "1"}), None)
    assert rows(s3) == []


def test_the_key_is_not_asked_for_when_nothing_is_hashed(s3, protected, monkeypatch):
    protected("subject", "")
    monkeypatch.delenv("HASH_KEY_ARN")
    assert lambda_handler(store(s3, {**PERSON, "event_id": "1"}), None) == {"batchItemFailures": []}
    assert [(row["rcpt_to"], row["subject"]) for row in rows(s3)] == [("person@example.com", None)]
