"""Erases one address everywhere and leaves all other events untouched, whatever happens meanwhile."""

import csv
import gzip
import hashlib
import json
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path

import psycopg
import pytest
from arro3.io import read_parquet
from botocore.exceptions import ClientError

from bird_webhooks import __main__ as operate
from bird_webhooks.operate import erase, lease, row_search, tombstone
from bird_webhooks.operate.batches import Listing
from bird_webhooks.operate.mentions import Person
from bird_webhooks.operate.replay import keys_by_time
from bird_webhooks.operate.status import last_batch
from bird_webhooks.operate.stored import RAW as RAW_PLACE
from bird_webhooks.operate.stored import Stored
from bird_webhooks.stack import Stack
from load_postgres import schema as tables
from local_aws import postgres as local_postgres
from maintain.generate.events import created, sqs
from process import day_state, tombstones, unshown
from process.app import lambda_handler
from process.app import protection as process_protection
from process.close_day import CloseDay, small_folder
from process.lake import Lake as ProcessLake
from process.lake import StorageUnavailableError
from process.lake_files import LakeFiles
from tests.integration.lake_table import LakeTable
from tests.integration.moto_server import client
from tests.integration.stored import stored_objects, stored_versions

RAW, LAKE = "raw-bucket", "lake-bucket"
PERSON = "person@example.com"
OTHER = "jo.person@example.com"  # ends as the other one does
KEY = "the-key-of-a-test"


def event(event_id: str | None, of: str = PERSON, **fields) -> dict:
    found = {"type": "bounce", "event_id": event_id, "timestamp": "1460989507", "rcpt_to": of, **fields}
    return {"msys": {"message_event": {name: value for name, value in found.items() if value is not None}}}


MINE = {
    "raw/plain.json": [event("1"), event("2", OTHER), event("3", OTHER, raw_reason="<Person@Example.com> unknown")],
    "raw/zipped.json": [event("4", OTHER), event(None, OTHER, type="sms_status", rcpt_meta={"a": [PERSON]})],
    "raw/odd.json": [event("5", OTHER), {"no msys": PERSON}],
    "raw/alone.json": [event("6")],
}
OTHERS = {"raw/others.json": [event("7", OTHER), event("8", OTHER, rcpt_meta={"likes": "100 %"})]}
IDS_OF_OTHERS = ["2", "4", "5", "7", "8"]


class Aws:
    """The account; a test can make its clients fail."""

    def __init__(self, endpoint: str) -> None:
        self.real = partial(client, endpoint_url=endpoint)
        self.wrapped = {}

    def client(self, service: str):
        return self.wrapped.get(service) or self.real(service)


# The tests of what is found and taken out are of both; of the others the second mode is asked by night.
BOTH = pytest.mark.parametrize("mode", ["by the rows", "thorough"], indirect=True)


@pytest.fixture(params=["by the rows", pytest.param("thorough", marks=pytest.mark.nightly)])
def mode(request):
    return request.param


@pytest.fixture
def aws(s3, moto_endpoint, monkeypatch):
    s3.put_bucket_versioning(Bucket=RAW, VersioningConfiguration={"Status": "Enabled"})
    account = Aws(moto_endpoint)
    secrets = account.real("secretsmanager")
    tombstone_key = secrets.create_secret(Name="tombstone-key", SecretString=KEY)["ARN"]
    outputs = {"RawBucketName": RAW, "LakeBucketName": LAKE, "GlueDatabaseName": "bird"}
    outputs["TombstoneKeyArn"] = tombstone_key
    sqs_client = account.real("sqs")
    for output, name in (("ProcessQueueUrl", "process-queue"), ("ProcessDeadLetterQueueUrl", "process-dead-letters")):
        outputs[output] = sqs_client.create_queue(QueueName=name)["QueueUrl"]
        sqs_client.purge_queue(QueueUrl=outputs[output])
    account.table = LakeTable(s3, LAKE)
    account.parameters = {"RawPrefix": "raw"}
    account.wrapped["glue"] = account.table
    monkeypatch.setattr(Stack, "outputs", outputs)
    monkeypatch.setattr(Stack, "parameters", property(lambda stack: account.parameters))
    monkeypatch.setattr(Stack, "athena", lambda stack, seconds: account.table)
    # All that the tests store is stored lately.
    monkeypatch.setattr(row_search, "FRESH", timedelta(hours=-1))
    s3.put_object(Bucket=LAKE, Key=unshown.SINCE, Body=b"")
    monkeypatch.setattr(operate, "deployed", lambda *names: Stack("bird-webhooks", account.client, 0))
    account.outputs = outputs
    yield account
    secrets.delete_secret(SecretId=tombstone_key, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def run(aws, mode, capsys):
    """`run("--yes")`: exit status, standard output, standard error. Neither output has the address."""
    thorough = ["--thorough"] * (mode == "thorough")

    def command(*arguments: str, address: str = PERSON) -> tuple[int, str, str]:
        status = operate.main(["erase", "--address", address, "--settle", "0", *thorough, *arguments])
        said = capsys.readouterr()
        assert not any("person" in sql or "example" in sql for sql in aws.table.asked)
        assert "person@" not in said.out + said.err
        return status, said.out, said.err

    return command


def fill(s3, *, output_format: str = "PARQUET") -> None:
    """Store and process batches; also an older version, a quarantined part, a query's result."""
    s3.put_object(Bucket=RAW, Key="raw/plain.json", Body=json.dumps([event("0"), event("9", OTHER)]).encode())
    for key, elements in (MINE | OTHERS).items():
        body, more = json.dumps(elements, indent=1).encode(), {}
        if key == "raw/zipped.json":
            body, more = gzip.compress(body, mtime=0), {"ContentEncoding": "gzip"}
        metadata = {"batch-id": key, "received-at": "2016-04-18T15:00:00.000+00:00"}
        s3.put_object(Bucket=RAW, Key=key, Body=body, Metadata=metadata, ContentType="application/json", **more)
    s3.put_object(Bucket=RAW, Key="raw/broken.json", Body=f"no JSON, but {PERSON}".encode())
    s3.put_object(Bucket=RAW, Key="raw/deleted.json", Body=json.dumps([event("10")]).encode())
    s3.delete_object(Bucket=RAW, Key="raw/deleted.json")
    process()
    s3.put_object(Bucket=LAKE, Key="athena-results/1.csv", Body=f'"rcpt_to"\n"{PERSON}"\n'.encode())
    s3.put_object(Bucket=LAKE, Key="athena-results/2.csv", Body=f'"rcpt_to"\n"{OTHER}"\n'.encode())
    s3.put_object(Bucket=LAKE, Key="athena-results/unload/3", Body=b"\x1f\x8b compressed")


def process() -> None:
    records = [{"Records": [created(key)]} for key in stored_objects(RAW)]
    assert lambda_handler(sqs(*records), None) == {"batchItemFailures": []}


def contents() -> dict[tuple[str, str], bytes]:
    """Every version of every object, as readable text; by key and version."""
    found = {}
    for bucket in (RAW, LAKE):
        for key, version, body in stored_versions(bucket):
            if body.startswith(b"PAR1"):
                body = str(parquet_rows(body)).encode()
            elif body.startswith(b"\x1f\x8b") and key.startswith("raw/") and b"cut" not in body:
                body = gzip.decompress(body)
            found[key, version] = body
    return found


def parquet_rows(body: bytes) -> list[dict]:
    return read_parquet(BytesIO(body)).read_all().combine_chunks().to_struct_array().to_pylist()


def holders(text: str = PERSON) -> list[str]:
    """Keys of the objects that hold the person's address, not the other one's."""
    return [
        key for (key, _), body in contents().items() if text in body.decode(errors="replace").replace(OTHER, "").lower()
    ]


def rows() -> list[dict]:
    found = []
    for key, body in stored_objects(LAKE, "events").items():
        if key.endswith(".csv"):
            found += list(csv.DictReader(StringIO(body.decode())))
        else:
            found += parquet_rows(body)
    return found


def ids() -> list[str]:
    return sorted(row["event_id"] for row in rows() if row["event_id"])


@BOTH
@pytest.mark.parametrize("output_format", ["PARQUET", pytest.param("CSV", marks=pytest.mark.nightly)])
def test_an_address_is_erased_everywhere_and_nobody_else(s3, aws, run, monkeypatch, output_format):
    monkeypatch.setenv("OUTPUT_FORMAT", output_format)
    aws.table.csv = output_format == "CSV"
    fill(s3)
    assert ids() == ["1", "2", "3", "4", "5", "6", "7", "8"]
    before = {key: s3.get_object(Bucket=RAW, Key=key) for key in OTHERS}
    status, printed, _ = run("--yes")
    assert status == 0
    assert holders() == []
    assert ids() == IDS_OF_OTHERS
    first, second = printed.split("checked again")
    assert first.splitlines()[:6] == [
        "rows                              1 objects  1 with the address, 4 events",
        "quarantine                        1 objects  1 with the address, 2 events",
        "query results                     3 objects  2 with the address",
        "other files of the lake           2 objects  0 with the address",
        "raw batches                       8 objects  7 with the address, 8 events",
        "PostgreSQL                                    not checked",
    ]
    assert second.count(" 0 with the address") == 5
    assert "Nothing is left of the address in what was checked." in second
    assert "Give --postgres" in second
    # AND what had nothing of it was not touched
    for key, was in before.items():
        assert s3.get_object(Bucket=RAW, Key=key)["VersionId"] == was["VersionId"]
    results = s3.list_objects_v2(Bucket=LAKE, Prefix="athena-results/")["Contents"]
    assert [item["Key"] for item in results] == ["athena-results/2.csv"]


def close_dates(s3) -> None:
    """As the table's maintenance does, without a table: the date of the events becomes one large file."""
    files = LakeFiles(LAKE, True)
    for day in files.dates("events/"):
        found = files.state(day)
        work = CloseDay(files, found.value, found.etag, float("inf"), lambda: datetime.now(UTC))
        work.close(day_state.late(found.value, files.small_files(small_folder(day))))


def rows_of_lake(prefix: str) -> set[str | None]:
    bodies = stored_objects(LAKE, prefix).values()
    return {event_id for body in bodies for event_id in read_parquet(body).read_all()["event_id"].to_pylist()}


def test_an_address_is_erased_from_closed_dates_and_does_not_come_back(s3, run):
    fill(s3)
    close_dates(s3)
    assert "1" in rows_of_lake("closed/")
    assert run("--yes")[0] == 0
    assert rows_of_lake("closed/") == set(IDS_OF_OTHERS)
    close_dates(s3)  # the small files were written again, and so are late
    assert rows_of_lake("closed/") == set(IDS_OF_OTHERS)
    assert run("--yes")[0] == 0


@pytest.mark.nightly
def test_an_address_is_erased_where_raw_batches_lay_before(s3, aws, run):
    """findings/bugs-2.md F4: RawBucketName was changed, and the old bucket has everything."""
    fill(s3)
    s3.create_bucket(Bucket="raw-after", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.outputs["RawBucketName"] = "raw-after"
    aws.parameters = {"RawPrefix": "raw", "FormerRawPlaces": f"gone-bucket/raw,{RAW}/raw"}
    status, printed, _ = run("--yes")
    assert (status, holders(), ids()) == (0, [], IDS_OF_OTHERS)
    assert "raw batches                       8 objects  7 with the address, 8 events" in printed


def test_what_others_have_in_an_existing_bucket_is_not_touched(s3, aws, run):
    fill(s3)
    s3.put_object(Bucket=RAW, Key="invoices/1.json", Body=json.dumps([event("1")]).encode())
    aws.parameters = {"RawPrefix": "raw", "ExistingRawBucket": RAW}
    status, printed, _ = run("--yes")
    assert (status, holders()) == (0, ["invoices/1.json"])
    assert f"what others have in that bucket outside of s3://{RAW}/raw/." in printed


def test_a_former_lake_bucket_is_named_and_not_called_clean(s3, run):
    s3.create_bucket(Bucket="lake-before", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    record = json.dumps({"raw": [f"{RAW}/raw"], "lakes": ["lake-before", "gone"]}).encode()
    s3.put_object(Bucket=LAKE, Key="maintenance/storage.json", Body=record)
    status, printed, said = run("--yes")
    assert status == 1
    assert "Nothing is left" not in printed
    assert "Not checked either: s3://lake-before/, in which this stack's rows lay before." in printed
    assert "the former lake bucket lake-before may hold the address: delete it, or deploy a stack over it" in said


@pytest.mark.nightly
def test_parts_of_a_date_that_is_being_closed_go_whole(s3, run):
    fill(s3)
    s3.put_object(Bucket=LAKE, Key="maintenance/work/event_date=2016-04-18/1/00000.arrows", Body=b"compressed")
    assert run("--yes")[0] == 0
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="maintenance/work/")["KeyCount"] == 0


def test_an_erasure_waits_until_the_maintenance_has_ended(s3, run, monkeypatch):
    fill(s3)
    files = LakeFiles(LAKE, True)
    etag = files.take_lease("maintenance", datetime.now(UTC), 60)
    waited = []

    def ends(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            files.give_back_lease("maintenance", datetime.now(UTC), etag)

    monkeypatch.setattr(lease.time, "sleep", ends)
    assert run("--yes")[0] == 0
    assert waited[:2] == [5, 5]
    assert files.take_lease("maintenance", datetime.now(UTC), 60), "given back"


def test_a_batch_stays_what_it_was_but_for_the_events(s3, run):
    fill(s3)
    run("--yes")
    kept = s3.get_object(Bucket=RAW, Key="raw/zipped.json")
    other = json.dumps(MINE["raw/zipped.json"], indent=1)[2:].split("},\n {")[0].strip()
    assert gzip.decompress(kept["Body"].read()).decode().startswith(f"[{other}")
    assert (kept["ContentEncoding"], kept["ContentType"]) == ("gzip", "application/json")
    before = gzip.compress(json.dumps(MINE["raw/zipped.json"], indent=1).encode(), mtime=0)
    assert kept["Metadata"] == {
        "batch-id": "raw/zipped.json",
        "received-at": "2016-04-18T15:00:00.000+00:00",
        "body-sha256": hashlib.sha256(before).hexdigest(),
    }
    # An empty batch stays, so that Bird cannot deliver it again; so does one that was no JSON.
    assert s3.get_object(Bucket=RAW, Key="raw/alone.json")["Body"].read() == b"[]"
    assert s3.get_object(Bucket=RAW, Key="raw/broken.json")["Body"].read() == b"[]"


@pytest.mark.nightly
def test_rows_stay_in_order_and_in_their_file(s3, run):
    fill(s3)
    [key] = [item["Key"] for item in s3.list_objects_v2(Bucket=LAKE, Prefix="events/")["Contents"]]
    before = s3.get_object(Bucket=LAKE, Key=key)["Body"].read()
    run("--yes")
    after = s3.get_object(Bucket=LAKE, Key=key)["Body"].read()
    assert read_parquet(BytesIO(after)).schema == read_parquet(BytesIO(before)).schema
    assert parquet_rows(after) == [row for row in parquet_rows(before) if row["event_id"] in IDS_OF_OTHERS]


def stored_at(s3, aws, key: str) -> datetime:
    stack = Stack("bird-webhooks", aws.client, 0)
    long_ago, far_ahead = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    [found] = [batch.stored_at for batch in Listing(stack, long_ago, far_ahead) if batch.key == key]
    return found


@pytest.mark.nightly
def test_a_batch_keeps_its_time_however_often_it_is_put_back(s3, aws, run):
    fill(s3)
    before = {item["Key"]: item["LastModified"] for item in s3.list_objects_v2(Bucket=RAW)["Contents"]}
    time.sleep(1.1)  # S3 tells whole seconds
    assert run("--yes")[0] == 0
    time.sleep(1.1)
    assert run("--yes", address=OTHER)[0] == 0
    assert s3.head_object(Bucket=RAW, Key="raw/plain.json")["LastModified"] > before["raw/plain.json"]
    assert {key: stored_at(s3, aws, key) for key in before} == before
    # What replays of the hours before and after find.
    first_erased = max(before.values()) + timedelta(seconds=1)
    stack = Stack("bird-webhooks", aws.client, 0)
    assert {*keys_by_time(stack, datetime(2000, 1, 1, tzinfo=UTC), first_erased)} == before.keys()
    assert [*keys_by_time(stack, first_erased, datetime(2100, 1, 1, tzinfo=UTC))] == []
    found = {"stored_at": max(before.values()), "batches": len(before), "copied_in_parts": 0}
    assert last_batch(stack).facts == found


def test_a_replay_does_not_bring_the_address_back(s3, run):
    fill(s3)
    run("--yes")
    process()
    assert holders() == []
    assert set(ids()) == set(IDS_OF_OTHERS)
    assert {row["received_at"].isoformat() for row in rows()} == {"2016-04-18T15:00:00+00:00"}
    assert run("--yes")[0] == 0


@pytest.mark.parametrize(
    ("output_format", "is_set"),
    [
        ("PARQUET", True),
        pytest.param("CSV", True, marks=pytest.mark.nightly),
        pytest.param("PARQUET", False, id="emptied"),
    ],
)
def test_rows_that_hold_a_hash_or_nothing_of_the_address_go_too(s3, aws, run, monkeypatch, output_format, is_set):
    """Also once HashFields is emptied, or in a stack over a kept lake that was given none: the lake knows the key."""
    secrets = aws.real("secretsmanager")
    arn = secrets.create_secret(Name="hash-key", SecretString=KEY)["ARN"]
    settings = {"OUTPUT_FORMAT": output_format, "HASH_FIELDS": "rcpt_to", "HASH_KEY_ARN": arn}
    aws.table.csv = output_format == "CSV"
    for name, value in {**settings, "DROP_FIELDS": "rcpt_meta,raw_reason"}.items():
        monkeypatch.setenv(name, value)
    try:
        fill(s3)
        # Of this one, whose raw batch is gone, only the hash is there.
        expired = {"Bucket": RAW, "Key": "raw/expired.json"}
        version = s3.put_object(**expired, Body=json.dumps([event("11")]).encode())["VersionId"]
        process()
        s3.delete_object(**expired, VersionId=version)
        if is_set:
            aws.outputs["HashKeyArn"] = arn
        record = {"lakes": [], "hash_key": arn}
        s3.put_object(Bucket=LAKE, Key="maintenance/storage.json", Body=json.dumps(record).encode())
        assert run("--yes")[0] == 0
    finally:
        secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert set(ids()) == set(IDS_OF_OTHERS)
    # printf '%s' person@example.com | openssl dgst -sha256 -hmac the-key-of-a-test
    assert holders("6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3") == []


def test_a_dry_run_changes_nothing(s3, run):
    fill(s3)
    before = contents()
    status, printed, _ = run("--dry-run")
    assert (status, printed.splitlines()[-1]) == (0, "nothing was changed")
    assert "7 with the address, 8 events" in printed
    assert contents() == before


def test_nothing_is_erased_without_a_yes(s3, run):
    fill(s3)
    before = contents()
    assert run()[0] == 1
    assert contents() == before


def test_nothing_to_erase_needs_no_yes_and_is_proof(s3, run):
    s3.put_object(Bucket=RAW, Key="raw/others.json", Body=json.dumps(OTHERS["raw/others.json"]).encode())
    status, printed, _ = run()
    assert (status, printed.count("objects")) == (0, 6)
    assert "Nothing is left of the address in what was checked." in printed


class Interrupted(Exception):  # noqa: N818
    """What a closed laptop is to a command."""


CHANGES = ("create_multipart_upload", "complete_multipart_upload", "delete_object")


class Fragile:
    """An S3 of which the `last` change is never made."""

    def __init__(self, s3, last: int) -> None:
        self.s3, self.left = s3, last

    def __getattr__(self, name: str):
        real = getattr(self.s3, name)

        def change(**request):
            self.left -= 1
            if self.left <= 0:
                raise Interrupted
            return real(**request)

        return change if name in CHANGES else real


@pytest.mark.parametrize("last", [3, *(pytest.param(last, marks=pytest.mark.nightly) for last in (1, 6, 12, 18, 22))])
def test_an_erase_cut_short_anywhere_is_taken_up_again(s3, aws, run, monkeypatch, last):
    monkeypatch.setenv("DROP_FIELDS", "rcpt_meta,raw_reason")
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    fill(s3)
    aws.wrapped["s3"] = Fragile(aws.real("s3"), last)
    with pytest.raises(Interrupted):
        run("--yes")
    del aws.wrapped["s3"]
    assert set(ids()) >= set(IDS_OF_OTHERS)
    assert run("--yes")[0] == 0
    assert holders() == []
    assert ids() == IDS_OF_OTHERS
    assert s3.list_multipart_uploads(Bucket=RAW).get("Uploads", []) == []


class Moved:
    """An S3 where the first object that is to be replaced has changed since it was read."""

    def __init__(self, s3) -> None:
        self.s3, self.refused = s3, 0

    def __getattr__(self, name: str):
        return getattr(self.s3, name)

    def complete_multipart_upload(self, **request):
        assert request["IfMatch"] == self.s3.head_object(Bucket=request["Bucket"], Key=request["Key"])["ETag"]
        if not self.refused:
            self.refused += 1
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "CompleteMultipartUpload")
        return self.s3.complete_multipart_upload(**request)


class Strict:
    """An S3 that refuses a part whose checksum is of an algorithm that its upload has not declared, as S3 did.

    boto3 sends a CRC32 with every part. https://github.com/boto/botocore/issues/3216
    """

    def __init__(self, s3) -> None:
        self.s3, self.declared = s3, dict[str, str | None]()

    def __getattr__(self, name: str):
        return getattr(self.s3, name)

    def create_multipart_upload(self, **request):
        answer = self.s3.create_multipart_upload(**request)
        self.declared[answer["UploadId"]] = request.get("ChecksumAlgorithm")
        return answer

    def upload_part(self, **request):
        if self.declared[request["UploadId"]] != "CRC32":
            raise ClientError({"Error": {"Code": "InvalidRequest", "Message": "Checksum Type mismatch"}}, "UploadPart")
        return self.s3.upload_part(**request)

    def complete_multipart_upload(self, **request):
        assert [len(part["ChecksumCRC32"]) for part in request["MultipartUpload"]["Parts"]] == [8]
        return self.s3.complete_multipart_upload(**request)


def test_a_part_has_the_checksum_that_its_upload_declares(s3, aws, run):
    fill(s3)
    aws.wrapped["s3"] = Strict(aws.real("s3"))
    assert run("--yes")[0] == 0
    assert holders() == []


def test_what_changed_meanwhile_is_looked_at_again(s3, aws, run, monkeypatch):
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    fill(s3)
    aws.wrapped["s3"] = Moved(aws.real("s3"))
    status, printed, _ = run("--yes")
    assert (status, printed.count("checked again")) == (0, 2)
    assert holders() == []


def test_what_cannot_be_erased_is_named_and_is_status_1(s3, run):
    s3.put_object(Bucket=LAKE, Key="exports/list.csv", Body=f"{PERSON}\n".encode())
    status, printed, said = run("--yes")
    assert (status, said.splitlines()[-1]) == (
        1,
        "bird-webhooks: the address is still there: see above, then run the command again",
    )
    assert "left: s3://lake-bucket/exports/list.csv\n" in printed


@pytest.mark.parametrize("mode", ["by the rows"], indirect=True)
def test_a_row_in_a_file_that_is_not_listed_is_no_proof(s3, run, monkeypatch):
    """As when the table reads a place that this program does not know: the row would stay."""
    fill(s3)
    take = row_search.RowSearch._take
    elsewhere = "s3://lake-bucket/events/event_date=2016-04-18/elsewhere.parquet"
    monkeypatch.setattr(row_search.RowSearch, "_take", lambda self, row: take(self, {**row, "path": elsewhere}))
    status, _, said = run("--yes")
    assert status == 1
    assert said.splitlines()[-1] == (
        "bird-webhooks: 1 files with rows of the person are not listed in the lake: run the command again, or "
        "give --thorough"
    )


@pytest.mark.parametrize("mode", ["thorough"], indirect=True)  # Athena fails over a damaged file of rows
def test_what_cannot_be_read_is_named_and_is_status_1(s3, run, monkeypatch):
    monkeypatch.setattr(erase, "MAX_UNZIPPED_BYTES", 1_000_000)
    bomb = gzip.compress(b" " * (erase.MAX_UNZIPPED_BYTES + 1) + json.dumps([event("30")]).encode())
    s3.put_object(Bucket=RAW, Key="raw/odd.json", Body=bomb, ContentEncoding="gzip")
    s3.put_object(Bucket=LAKE, Key="events/event_date=2016-04-18/odd.parquet", Body=b"?")
    s3.put_object(Bucket=LAKE, Key="exports/list.csv.gz", Body=b"?")
    assert run("--dry-run")[1].splitlines()[-2:] == ["3 objects could not be read", "nothing was changed"]
    status, printed, said = run("--yes")
    assert (status, said.splitlines()[-1]) == (
        1,
        "bird-webhooks: 3 objects could not be read: they may hold the address",
    )
    assert "unreadable: s3://raw-bucket/raw/odd.json\n" in printed


@pytest.mark.nightly
def test_an_encoding_that_nobody_reads_stops_no_erasure(s3, run, monkeypatch):
    monkeypatch.setattr(erase, "MAX_UNZIPPED_BYTES", 1_000_000)
    fill(s3)
    s3.put_object(Bucket=RAW, Key="raw/odd.json", Body=b"\x8b\x03\x80?\x03", ContentEncoding="br")
    s3.put_object(Bucket=RAW, Key="raw/bomb.json", Body=gzip.compress(b" " * (erase.MAX_UNZIPPED_BYTES + 1)))
    assert run("--yes")[0] == 0
    assert holders() == []


@pytest.mark.nightly
def test_damaged_gzip_is_searched_and_what_does_not_decompress_is_named(s3, run):
    of_both = gzip.compress(json.dumps([event("31"), event("32", OTHER)]).encode())
    wrong_checksum = of_both[:-8] + bytes(4) + of_both[-4:]
    no_method = b"\x1f\x8b cut"
    fill(s3)
    s3.put_object(Bucket=RAW, Key="raw/checksum.json", Body=wrong_checksum, ContentEncoding="gzip")
    s3.put_object(Bucket=RAW, Key="raw/cut.json", Body=no_method, ContentEncoding="gzip")
    process()  # both are quarantined as they are
    status, printed, said = run("--yes")
    assert (status, said.splitlines()[-1]) == (
        1,
        "bird-webhooks: 2 objects could not be read: they may hold the address",
    )
    assert "unreadable: s3://raw-bucket/raw/cut.json\n" in printed
    assert "unreadable: s3://lake-bucket/quarantine/" in printed
    assert holders() == []
    kept = s3.get_object(Bucket=RAW, Key="raw/checksum.json")["Body"].read()
    assert json.loads(gzip.decompress(kept)) == [event("32", OTHER)]
    assert s3.get_object(Bucket=RAW, Key="raw/cut.json")["Body"].read() == no_method


def test_a_compressed_file_is_named_whatever_it_is_called(s3, run):
    s3.put_object(Bucket=LAKE, Key="exports/list", Body=gzip.compress(PERSON.encode()))
    status, printed, _ = run("--yes")
    assert (status, "unreadable: s3://lake-bucket/exports/list\n" in printed) == (1, True)


def test_an_object_that_is_not_shown_is_counted(s3, run):
    for number in range(erase.SHOWN + 2):
        s3.put_object(Bucket=RAW, Key=f"raw/{number}.json", Body=b"\x1f\x8b")
    status, printed, _ = run("--yes")
    assert (status, printed.count("unreadable: "), "... and 2 more\n" in printed) == (1, erase.SHOWN, True)


HIDDEN = {
    "escaped": (json.dumps([event("20"), event("21", OTHER)]).replace('"person', '"p\\u0065rson'), {}),
    "percent": ([event("22", OTHER, target_link_url="https://www.example.com/?to=%70erson%40example.com")], {}),
    "entity": ([event("23", OTHER, raw_reason="550 &lt;person&#64;example.com&gt;")], {}),
    "quoted": ([event("24", '"person"@example.com')], {}),
    "verp": ([event("25", OTHER, msg_from="bounces+7-person=example.com@lists.example.com")], {}),
    # As ingest names a batch whose id could be no key; what the sender wrote is in the metadata.
    "sha256-metadata": ([event("26", OTHER)], {"batch-id-original": f"mail of {PERSON}", "batch-id": "sha256-1"}),
}


@BOTH
def test_every_spelling_is_found_in_raw_batches_and_rows(s3, run):
    for name, (elements, metadata) in HIDDEN.items():
        body = elements if isinstance(elements, str) else json.dumps(elements)
        s3.put_object(Bucket=RAW, Key=f"raw/{name}.json", Body=body.encode(), Metadata=metadata)
    two = gzip.compress(json.dumps([event("27", OTHER)]).encode()) + gzip.compress(json.dumps([event("28")]).encode())
    s3.put_object(Bucket=RAW, Key="raw/members.json", Body=two, ContentEncoding="gzip")
    tail = gzip.compress(json.dumps([event("29", OTHER)]).encode()) + PERSON.encode()
    s3.put_object(Bucket=RAW, Key="raw/tail.json", Body=tail)
    process()
    assert run("--yes")[0] == 0
    process()  # and no replay brings the person back
    assert not set(ids()) & {"20", "22", "23", "24", "25", "28"}
    assert set(ids()) == {"21", "26", "27", "29"}
    kept = s3.get_object(Bucket=RAW, Key="raw/sha256-metadata.json")
    assert json.loads(kept["Body"].read()) == HIDDEN["sha256-metadata"][0]
    assert kept["Metadata"]["batch-id"] == "sha256-1"
    assert "batch-id-original" not in kept["Metadata"]


def test_nobody_else_is_erased(s3, run):
    inputs = Path(__file__).parents[1] / "data/inputs/03-erase-apostrophe.json"
    s3.put_object(Bucket=RAW, Key="raw/brien.json", Body=inputs.read_bytes())
    process()
    assert run("--yes", address="brien@example.com")[0] == 0
    assert {row["rcpt_to"] for row in rows()} == {"o'brien@example.com", "tom&brien@example.com"}


@pytest.mark.nightly
def test_it_says_that_athena_keeps_the_text_of_queries(s3, run):
    """A query with `WHERE rcpt_to = ...` leaves the address there."""
    fill(s3)
    assert "Athena's history, which keeps the text of each query" in run("--yes")[1]


def test_what_was_stored_before_is_left_out_and_said(s3, run):
    fill(s3)
    status, printed, _ = run("--yes", "--since", "2999-01-01")
    assert status == 0
    assert "Not checked either: what was stored before 2999-01-01T00:00 UTC." in printed
    assert "raw/plain.json" in holders()


@pytest.mark.nightly
def test_an_address_can_come_by_the_standard_input(s3, run, monkeypatch):
    fill(s3)
    monkeypatch.setattr("sys.stdin", StringIO(f"{PERSON}\n"))
    assert run("--yes", address="-")[0] == 0
    assert holders() == []


def test_the_answer_for_programs_counts_each_place(s3, run):
    s3.put_object(Bucket=RAW, Key="raw/plain.json", Body=json.dumps([event("0"), event("9", OTHER)]).encode())
    status, printed, said = run("--dry-run", "--json")
    found = json.loads(printed)
    assert (status, found["clean"], found["postgres_rows"]) == (0, False, None)
    assert found["places"]["raw batches"] == {"objects": 1, "found": 1, "events": 1}
    assert "nothing was changed" in said
    status, printed, said = run("--yes", "--json")
    found = json.loads(printed)
    assert (status, found["clean"], found["found"], found["unreadable"]) == (0, True, [], [])
    assert "Nothing is left of the address" in said


def test_what_is_no_address_is_refused(run):
    assert run(address="nobody")[2] == "bird-webhooks: not an email address: give one such as name@example.com\n"


# --- By the rows ---


def by_the_rows(run) -> tuple[int, str, str]:
    status, printed, said = run("--yes")
    assert "looking through every object" not in said
    return status, printed, said


@pytest.mark.parametrize("mode", ["by the rows"], indirect=True)
def test_only_what_the_rows_name_is_opened(s3, aws, run):
    fill(s3)
    for number in range(50):
        key = f"raw/other-{number}.json"
        s3.put_object(Bucket=RAW, Key=key, Body=json.dumps([event(f"o{number}", OTHER)]).encode())
    process()
    opened = []
    aws.wrapped["s3"] = Watched(aws.real("s3"), opened)
    status, _, said = run("--yes")
    assert status == 0
    assert holders() == []
    assert not [key for key in opened if "raw/other-" in key]
    assert "raw/plain.json" in opened
    assert said.count("asking Athena") == 2


class Watched:
    def __init__(self, s3, opened: list[str]) -> None:
        self.s3, self.opened = s3, opened

    def __getattr__(self, name: str):
        return getattr(self.s3, name)

    def get_object(self, **request):
        self.opened.append(request["Key"])
        return self.s3.get_object(**request)


ROWS_ONLY = pytest.mark.parametrize("mode", ["by the rows"], indirect=True)


def store(s3, key: str, *elements: dict) -> None:
    s3.put_object(Bucket=RAW, Key=f"raw/{key}.json", Body=json.dumps(elements).encode())


def handle(*keys: str) -> None:
    """One invocation of process."""
    answer = lambda_handler(sqs(*({"Records": [created(f"raw/{key}.json")]} for key in keys)), None)
    assert answer == {"batchItemFailures": []}


@ROWS_ONLY
def test_a_repeat_that_process_left_out_is_found_in_its_raw_batch(s3, run):
    store(s3, "a", event("1"), event("2", OTHER))
    store(s3, "b", event("1"), event("3", OTHER))
    handle("a", "b")
    assert ids() == ["1", "2", "3"]
    assert by_the_rows(run)[0] == 0
    assert holders() == []


@pytest.mark.nightly
@ROWS_ONLY
def test_a_repeat_is_found_in_a_batch_that_was_put_back_and_so_outlives_what_names_it(s3, run):
    third = "third@example.com"
    store(s3, "a", event("1"), event("2", OTHER))
    store(s3, "b", event("1"), event("3", OTHER), event("4", third))
    handle("a", "b")
    assert by_the_rows(lambda *arguments: run(*arguments, address=third))[0] == 0
    for item in s3.list_objects_v2(Bucket=LAKE, Prefix=f"{unshown.PREFIX}2")["Contents"]:
        s3.delete_object(Bucket=LAKE, Key=item["Key"])  # as S3 does, RawRetentionDays after it was written
    assert by_the_rows(run)[0] == 0
    assert holders() == []


@ROWS_ONLY
@pytest.mark.parametrize(("days_later", "answered"), [(29, True), (31, False)])
def test_a_batch_that_s3_has_not_deleted_in_time_is_opened(s3, aws, mode, days_later, answered):
    aws.parameters["RawRetentionDays"] = "30"
    store(s3, "a", event("2", OTHER))
    handle("a")
    stack = Stack("bird-webhooks", aws.client, 0)
    search = row_search.RowSearch(stack, _now=lambda: datetime.now(UTC) + timedelta(days=days_later))
    search.ask(Person(PERSON, frozenset()))
    [item] = s3.list_object_versions(Bucket=RAW, Prefix="raw/a.json")["Versions"]
    assert search.answers_for(Stored.listed(RAW_PLACE, RAW, item)) == answered


@pytest.mark.nightly
@ROWS_ONLY
def test_a_repeat_that_closing_left_out_is_found_in_its_raw_batch(s3, run):
    """Bird's repeat under another batch id, hours later: only the first copy's row stays when the date is closed."""
    for key, other in (("a", "2"), ("b", "3")):
        store(s3, key, event("1"), event(other, OTHER))
        handle(key)
    close_dates(s3)
    lose_small_files(s3)
    assert rows_of_lake("closed/") == {"1", "2", "3"}
    assert by_the_rows(run)[0] == 0
    assert holders() == []
    assert rows_of_lake("closed/") == {"2", "3"}


@pytest.mark.nightly
@ROWS_ONLY
def test_a_repeat_with_other_texts_takes_its_row_along(s3, run):
    """The row that stays does not name the person, the copy that gave way does."""
    store(s3, "a", event("1", OTHER), event("2", OTHER))
    store(s3, "b", event("1", OTHER, raw_reason=f"of {PERSON}"), event("3", OTHER))
    handle("a", "b")
    assert by_the_rows(run)[0] == 0
    assert holders() == []
    assert ids() == ["2", "3"]


@pytest.mark.nightly
@ROWS_ONLY
def test_what_an_erasure_that_was_cut_short_had_found_is_looked_at_again(s3, aws, run, monkeypatch):
    """The rows are gone by then, so they tell of no raw batch."""
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    store(s3, "a", event("1"), event("2", OTHER))
    handle("a")
    aws.wrapped["s3"] = Fragile(aws.real("s3"), 9)  # the rows are rewritten, the raw batch is not
    with pytest.raises(Interrupted):
        run("--yes")
    del aws.wrapped["s3"]
    assert ids() == ["2"]
    assert holders() == ["raw/a.json"]
    assert by_the_rows(run)[0] == 0
    assert holders() == []


@pytest.mark.nightly
@ROWS_ONLY
def test_a_small_file_of_a_closed_date_is_searched_where_the_person_is_in_the_date(s3, run):
    store(s3, "a", event("1"), event("2", OTHER))
    handle("a")
    close_dates(s3)
    assert by_the_rows(run)[0] == 0
    assert rows_of_lake("events/") == rows_of_lake("closed/") == {"2"}


@ROWS_ONLY
def test_a_late_file_of_a_closed_date_is_searched(s3, run):
    store(s3, "a", event("2", OTHER))
    handle("a")
    close_dates(s3)
    store(s3, "b", event("1"), event("3", OTHER))
    handle("b")
    assert by_the_rows(run)[0] == 0
    assert holders() == []
    assert rows_of_lake("events/") == {"2", "3"}


@ROWS_ONLY
def test_a_batch_from_before_this_was_counted_is_looked_at(s3, aws, run, monkeypatch):
    monkeypatch.setattr(row_search, "FRESH", timedelta(0))
    store(s3, "a", event("2", OTHER))
    handle("a")
    s3.put_object(Bucket=RAW, Key="raw/a.json", Body=json.dumps([event("1")]).encode())
    opened = []
    aws.wrapped["s3"] = Watched(aws.real("s3"), opened)
    run("--dry-run")
    assert "raw/a.json" in opened


@ROWS_ONLY
@pytest.mark.parametrize("setting", ["DropFields", "HashFields"])
def test_rows_without_some_fields_are_not_relied_on(s3, aws, run, setting):
    aws.parameters[setting] = "rcpt_to"
    fill(s3)
    status, _, said = run("--yes")
    assert status == 0
    assert (
        "looking through every object, because of this: DropFields or HashFields keeps fields out of the rows" in said
    )


@ROWS_ONLY
def test_rows_that_once_lacked_fields_are_not_relied_on(s3, run, monkeypatch):
    monkeypatch.setenv("DROP_FIELDS", "rcpt_to,raw_rcpt_to")
    process_protection.cache_clear()
    store(s3, "a", event("1"))
    handle("a")
    monkeypatch.delenv("DROP_FIELDS")
    process_protection.cache_clear()
    assert "has kept fields out of some rows" in run("--yes")[2]
    assert holders() == []


@pytest.mark.nightly
@ROWS_ONLY
def test_a_large_table_is_asked_in_parts_that_the_workgroup_allows(s3, aws, run):
    fill(s3)
    store(s3, "later", event("11", timestamp="1461000000"))
    handle("later")
    aws.parameters["AthenaScanLimitMegabytes"] = "0"
    assert by_the_rows(run)[0] == 0
    assert not [sql for sql in aws.table.asked if "event_date BETWEEN DATE" not in sql], "each in parts"
    assert sum("DISTINCT" in sql for sql in aws.table.asked) >= 2
    assert sum("event_key IN" in sql for sql in aws.table.asked) >= 2
    assert holders() == []


def fail_to_write(monkeypatch, day: str) -> None:
    """Process writes no file of that date."""
    write = ProcessLake.write

    def refused(lake: ProcessLake, key: str, body: bytes, content_type: str) -> None:
        if day in key:
            raise StorageUnavailableError("503")
        write(lake, key, body, content_type)

    monkeypatch.setattr(ProcessLake, "write", refused)


@ROWS_ONLY
@pytest.mark.parametrize(
    ("queue", "reason"),
    [
        ("ProcessDeadLetterQueueUrl", "process has dead letters (1): batches that may have only some of their rows"),
        ("ProcessQueueUrl", "a batch has waited for process for more than 12 hours"),
    ],
)
def test_a_batch_that_is_written_in_part_is_looked_at(s3, aws, run, monkeypatch, queue, reason):
    """Of its two dates one has a file; the other's could not be written, in five tries, or for a day."""
    store(s3, "b", event("1"), event("3", OTHER, timestamp="1461100000"))
    fail_to_write(monkeypatch, "2016-04-18")
    lambda_handler(sqs({"Records": [created("raw/b.json")]}), None)
    assert ids() == ["3"]
    aws.real("sqs").send_message(QueueUrl=aws.outputs[queue], MessageBody="of raw/b.json")
    age = 13 * 3600 if queue == "ProcessQueueUrl" else 5
    metric = {"MetricName": "ApproximateAgeOfOldestMessage", "Value": age}
    metric["Timestamp"] = datetime.now(UTC) - timedelta(minutes=6)
    aws.real("cloudwatch").put_metric_data(
        Namespace="AWS/SQS", MetricData=[metric | {"Dimensions": [{"Name": "QueueName", "Value": "process-queue"}]}]
    )
    assert f"looking through every object, because of this: {reason}" in run("--yes")[2]
    assert holders() == []


@ROWS_ONLY
def test_a_query_leaves_no_result_behind(s3, run):
    fill(s3)
    run("--dry-run")
    results = s3.list_objects_v2(Bucket=LAKE, Prefix="athena-results/")["Contents"]
    assert len(results) == 3, "those of the test"


def lose_small_files(s3) -> None:
    """What happens 15 days after a date was closed."""
    for item in s3.list_objects_v2(Bucket=LAKE, Prefix="events/")["Contents"]:
        s3.delete_object(Bucket=LAKE, Key=item["Key"])


@BOTH
def test_the_raw_batch_of_a_row_goes_with_it_however_old_it_is(s3, run):
    """The closed file is newer than the raw batch. Without its row the person's batch would look like any other."""
    store(s3, "a", event("1"), event("2", OTHER))
    handle("a")
    time.sleep(1.1)  # S3 keeps times to the second
    since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    close_dates(s3)
    lose_small_files(s3)
    _, printed, _ = run("--dry-run", "--since", since)
    assert "raw batches                       1 objects  1 with the address, 1 events" in printed
    assert run("--yes", "--since", since)[0] == 0
    assert holders() == []
    assert rows_of_lake("closed/") == {"2"}


@pytest.mark.nightly
def test_what_was_cut_short_is_looked_at_again_however_old_it_is(s3, aws, run, monkeypatch):
    monkeypatch.setattr(erase, "AT_ONCE", 1)
    store(s3, "a", event("1"), event("2", OTHER))
    handle("a")
    body = s3.get_object(Bucket=RAW, Key="raw/a.json")["Body"].read()
    assert run("--yes")[0] == 0
    s3.put_object(Bucket=RAW, Key="raw/a.json", Body=body)  # as if the raw batch had not been reached
    stack = Stack("bird-webhooks", aws.client, 0)
    tombstone.leave(stack, PERSON, datetime.now(UTC), [f"s3://{RAW}/raw/a.json"])
    assert holders() == ["raw/a.json"]
    assert run("--yes", "--since", "2999-01-01")[0] == 0
    assert holders() == []


@pytest.mark.nightly
@ROWS_ONLY
@pytest.mark.parametrize("output_format", ["PARQUET", pytest.param("CSV", marks=pytest.mark.nightly)])
def test_the_raw_batch_of_a_row_that_the_table_does_not_read_goes_with_it(s3, aws, run, monkeypatch, output_format):
    """A late small file of a closed date, or a date that is not registered; the batch has a row in another date."""
    monkeypatch.setenv("OUTPUT_FORMAT", output_format)
    aws.table.csv = output_format == "CSV"
    if output_format == "PARQUET":
        store(s3, "a", event("2", OTHER))
        handle("a")
        close_dates(s3)
    else:
        aws.table.unregistered = {"2016-04-18"}
    store(s3, "b", event("1"), event("3", OTHER, timestamp="1461100000"))
    handle("b")
    assert "raw/b.json" in holders()
    assert by_the_rows(run)[0] == 0
    assert holders() == []


@pytest.mark.nightly
@ROWS_ONLY
def test_rows_that_come_between_two_queries_hide_no_batch(s3, aws, run):
    store(s3, "a", event("2", OTHER))
    handle("a")
    store(s3, "b", event("1"), event("3", OTHER))
    answer, asked = aws.table.result_file, []

    def result_file(sql: str) -> str:
        asked.append(sql)
        if len(asked) == 2:
            handle("b")  # is replayed, for example
        return answer(sql)

    aws.table.result_file = result_file
    assert by_the_rows(run)[0] == 0
    assert holders() == []


# --- Tombstones ---

TOMBSTONE = "erased/6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3.json"


def test_a_tombstone_tells_when_and_not_who(s3, run):
    fill(s3)
    before = datetime.now(UTC)
    assert run("--yes")[0] == 0
    body = s3.get_object(Bucket=LAKE, Key=TOMBSTONE)["Body"].read()
    found = tombstones.read([(TOMBSTONE, body)], KEY.encode())
    assert before <= found.erased_at[TOMBSTONE] <= datetime.now(UTC)
    assert tombstones.decode(body).unfinished == []
    assert found.covers(PERSON, before)
    assert not found.covers(OTHER, before)
    assert not found.covers(PERSON, datetime.now(UTC))


def test_who_was_not_here_has_a_tombstone_too_and_a_dry_run_leaves_none(s3, run):
    run("--dry-run")
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="erased/")["KeyCount"] == 0
    run()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=LAKE, Prefix="erased/")["Contents"]] == [TOMBSTONE]


@ROWS_ONLY
def test_a_tombstone_is_forgotten_when_the_operator_says_so(s3, run, capsys):
    run()
    assert operate.main(["erase", "--forget", "Person@Example.com"]) == 1, "not without a yes"
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="erased/")["KeyCount"] == 1
    assert operate.main(["erase", "--forget", "Person@Example.com", "--yes"]) == 0
    assert s3.list_objects_v2(Bucket=LAKE, Prefix="erased/")["KeyCount"] == 0
    assert operate.main(["erase", "--forget", PERSON, "--yes"]) == 1
    assert "there is no tombstone of this address" in capsys.readouterr().err


@ROWS_ONLY
def test_of_two_erasures_at_once_each_keeps_the_later_time(s3, aws, run):
    stack = Stack("bird-webhooks", aws.client, 0)
    later, earlier = datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)

    class Slow:
        """Another erasure writes between this one's read and write."""

        def __init__(self) -> None:
            self.first = True

        def __getattr__(self, name: str):
            return getattr(aws.real("s3"), name)

        def put_object(self, **request):
            if self.first:
                self.first = False
                tombstone.leave(Stack("bird-webhooks", aws.real, 0), PERSON, later, [])
            return s3.put_object(**request)

    aws.wrapped["s3"] = Slow()
    tombstone.leave(stack, PERSON, earlier, [])
    body = s3.get_object(Bucket=LAKE, Key=TOMBSTONE)["Body"].read()
    assert tombstones.decode(body).erased_at == later


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgres():
    with local_postgres.running() as server:
        yield server


@pytest.fixture
def table(postgres):
    """bird.events as load_postgres makes it, twelve rows, eight of them of the person; the connection string."""
    told = [
        {"event_key": "1", "rcpt_to": PERSON},
        {"event_key": "2", "rcpt_to": OTHER},
        {"event_key": "3", "rcpt_meta": json.dumps({"deep": [f"{PERSON[0].upper()}{PERSON[1:]}"]})},
        {"event_key": "4", "target_link_url": "https://www.example.com/?a=1%26to%3Dperson%40example.com"},
        {"event_key": "5", "rcpt_to": "6e77cda37ef7ca4e6ef330d76ff49e71cb1aa17fb767e8f8e72dcc32d5de83a3"},
        {"event_key": "6", "raw_reason": 'of "person@example.community"'},
        {"event_key": "7", "raw_reason": "dropped before it was loaded"},
        # What stopped every erasure: a number of many digits, often, and a NUL in an id (as the loader writes it).
        {"event_key": "8", "rcpt_meta": f"[{','.join(['1e131071'] * 9000)}]", "rcpt_to": OTHER},
        {"event_key": "9", "rcpt_meta": '{"n": 1e131071, "person@example.com": 1}'},
        {"event_key": "\\u0000", "raw_reason": "dropped before it was loaded"},
        {"event_key": "11", "raw_reason": "550 p\\u0065rson@example.com"},
        {"event_key": "12", "rcpt_to": "o'person@example.com"},
    ]
    with postgres.connect() as connection:
        tables.prepare(connection, "bird")
        for number, row in enumerate(told):
            day = date(2025, 11 + number % 2, 1)
            tables.make_partition(connection, "bird", day)
            row = {"event_class": "message_event", "type": "bounce", "event_date": day, **row}
            names, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
            connection.execute(f"INSERT INTO bird.events ({names}) VALUES ({values})", row)  # noqa: S608
        yield psycopg.conninfo.make_conninfo(
            host=postgres.host,
            port=postgres.port,
            dbname=postgres.dbname,
            user=postgres.username,
            password=postgres.password,
        )
        connection.execute("DROP SCHEMA bird CASCADE")


def left(postgres) -> list[str]:
    with postgres.connect() as connection:
        return [key for (key,) in connection.execute("SELECT event_key FROM bird.events ORDER BY event_key")]


@BOTH
def test_rows_of_postgresql_go_with_the_others(s3, aws, run, postgres, table):
    secrets = aws.real("secretsmanager")
    key = secrets.create_secret(Name="hash-key", SecretString=KEY)["ARN"]
    database = secrets.create_secret(Name="database", SecretString=json.dumps(postgres.secret()))["ARN"]
    s3.put_object(
        Bucket=RAW,
        Key="raw/seventh.json",
        Body=json.dumps([event(key, raw_reason=PERSON) for key in ("7", "\0")]).encode(),
    )
    try:
        status, printed, _ = run("--dry-run", "--postgres", table)
        assert (status, printed.splitlines()[5].split()[1:3]) == (0, ["7", "rows"])
        assert len(left(postgres)) == 12
        status, printed, _ = run("--yes", "--postgres", database, "--hash-key", key)
        assert (status, printed.count("8 rows with the address"), printed.count(" 0 rows with the address")) == (
            0,
            1,
            1,
        )
        assert left(postgres) == ["12", "2", "6", "8"]
    finally:
        for secret in (key, database):
            secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def test_a_database_that_cannot_be_reached_stops_all_before_anything_is_erased(s3, run):
    fill(s3)
    before = contents()
    status, _, said = run("--yes", "--postgres", "host=127.0.0.1 port=1 dbname=none")
    assert (status, said.startswith("bird-webhooks: PostgreSQL: connection failed")) == (1, True)
    assert contents() == before
