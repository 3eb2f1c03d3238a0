"""The handler with a stand-in for Bird, a local S3, process, and DuckDB in the place of Athena."""

import csv
import io
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus

import boto3
import duckdb
import pytest

import process.app
import reconcile.app
from bird_webhooks.simulator import bird_api
from bird_webhooks.simulator.batches import BatchMaker
from reconcile.proved import State, proved_until, sentence
from reconcile.verdicts import Verdicts
from tests.integration.conftest import LambdaContext

KEY = "0123456789abcdef0123456789abcdef01234567"
RAW_BUCKET, LAKE_BUCKET = "raw-bucket", "lake-bucket"
HOUR = timedelta(hours=1)
CUSTOMER_ID = "101"
BATCHES, EVENTS, HOURS = 6, 15, 3


class InDuckdb:
    """Of Athena what the function uses: a statement's result as a file."""

    def __init__(self, s3, folder):
        self.s3, self.folder, self.statements = s3, folder, 0

    def result_file(self, sql):
        self.statements += 1
        with duckdb.connect() as connection:
            connection.execute("SET timezone TO 'UTC'")
            self.files(connection)
            found = connection.execute(sql)
            lines = [[column[0] for column in found.description], *found.fetchall()]
        file = io.StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [f"{v:%Y-%m-%d %H:%M:%S}.000" if isinstance(v, datetime) else v for v in line] for line in lines
        )
        key = f"athena-results/{self.statements}.csv"
        self.s3.put_object(Bucket=LAKE_BUCKET, Key=key, Body=file.getvalue().encode())
        return f"s3://{LAKE_BUCKET}/{key}"

    def files(self, connection):
        for item in self.s3.list_objects_v2(Bucket=LAKE_BUCKET, Prefix="events/").get("Contents", []):
            path = self.folder / f"{item['Key'].removesuffix('.parquet')}-{item['ETag'].strip('"')}.parquet"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.s3.get_object(Bucket=LAKE_BUCKET, Key=item["Key"])["Body"].read())
        pattern = f"{self.folder}/events/*/*.parquet"
        connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{pattern}', hive_partitioning = true)")  # noqa: S608


class Lake:
    """The stack's parts around the function."""

    def __init__(self, s3, bird):
        self.s3, self.bird = s3, bird

    def store(self, name, body):
        self.s3.put_object(Bucket=RAW_BUCKET, Key=f"raw/{name}.json", Body=body)

    def process(self):
        """All raw batches, as their notifications come."""
        listed = self.s3.list_objects_v2(Bucket=RAW_BUCKET).get("Contents", [])
        records = [
            {
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": RAW_BUCKET}, "object": {"key": quote_plus(one["Key"])}},
            }
            for one in listed
        ]
        process.app.lambda_handler({"Records": records}, None)

    def compare(self, context):
        return reconcile.app.lambda_handler({"webhook_id": "webhook"}, context)

    def cells(self):
        now = datetime.now(UTC)
        files = reconcile.app.LakeFiles(self.s3, LAKE_BUCKET)
        return list(Verdicts(files).cells(now - timedelta(days=12), now).values())

    def sentence(self):
        return sentence(self.cells(), datetime.now(UTC))


@pytest.fixture
def lake(s3, monkeypatch, tmp_path):
    def client(service):
        return boto3.client(service, "eu-west-1", aws_access_key_id="test", aws_secret_access_key="test")

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    sqs, secrets = client("sqs"), client("secretsmanager")
    queues = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("process", "process-dead-letters")]
    name = f"bird-api-key-{tmp_path.name}"
    secret = secrets.create_secret(Name=name, SecretString=json.dumps({"api_key": KEY}))["ARN"]
    with bird_api.running(KEY, lambda target: None) as bird:
        types = sorted({kind for kinds in bird_api.event_types().values() for kind in kinds})
        bird.webhooks["webhook"] = {"name": "x", "target": "https://webhooks.example.com", "events": types}
        settings = {
            "BIRD_API_KEY_SECRET_ARN": secret,
            "BIRD_API_URL": bird.url,
            "BIRD_SUBACCOUNT": "",
            "ATHENA_WORKGROUP": "workgroup",
            "GLUE_DATABASE": "database",
            "PROCESS_QUEUE_URL": queues[0],
            "PROCESS_DEAD_LETTER_QUEUE_URL": queues[1],
            "PROCESS_FUNCTION": "process",
            "TOMBSTONE_KEY_ARN": secret,
            "LOAD_POSTGRES_FUNCTION": "",
            "TIME_SCALE": "10000",
        }
        for variable, value in settings.items():
            monkeypatch.setenv(variable, value)
        athena = InDuckdb(s3, tmp_path)
        monkeypatch.setattr(reconcile.app, "Athena", lambda *given: athena)
        reconcile.app.s3.cache_clear()
        yield Lake(s3, bird)
        reconcile.app.s3.cache_clear()


@pytest.fixture
def lambda_context():
    return LambdaContext(870)


@pytest.fixture
def end():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def sent(lake, end, lost=()):
    """Some hours of a sender's mail: Bird has all, and the raw bucket all but the lost batches."""
    batches = []
    for hour in range(HOURS):
        start = end - hour * HOUR - timedelta(seconds=1)
        maker = BatchMaker(7, start, line_breaks=False, spread_seconds=3600, like_a_sender=True)
        maker.customer_id = CUSTOMER_ID  # of one account
        batches += [maker.batch(number, EVENTS) for number in range(BATCHES // HOURS)]
    for number, batch in enumerate(batches):
        lake.bird.recording.record(batch)
        if number not in lost:
            lake.store(batch.batch_id, batch.body)
    lake.process()
    return batches


def test_all_that_is_here_is_proved(lake, end, lambda_context):
    sent(lake, end)
    facts = lake.compare(lambda_context)
    assert lake.sentence() == f"proved complete until {end.day} {end:%B}, {end:%H:%M} UTC"
    assert facts["missing_events"] == facts["surplus_events"] == 0
    assert {cell.proof for cell in lake.cells() if cell.ours and cell.state is State.PROVED} == {"ids"}


def test_a_lost_batch_is_found_filled_and_proved_and_nothing_is_there_twice(lake, end, lambda_context):
    batches = sent(lake, end, lost=[3])
    facts = lake.compare(lambda_context)
    missing = facts["missing_events"]
    assert 0 < missing <= EVENTS
    kept = lake.s3.get_object(Bucket=LAKE_BUCKET, Key="completeness/calibration.json")["Body"].read()
    assert json.loads(kept)["passed"] is True
    assert facts["filled_events"] == missing
    lake.process()
    facts = lake.compare(lambda_context)
    assert facts["missing_events"] == 0
    assert (proved_until(lake.cells(), datetime.now(UTC)) or end) >= end
    assert sum(cell.filled for cell in lake.cells() if cell.state is State.FILLED) == missing
    raw = [one["Key"] for one in lake.s3.list_objects_v2(Bucket=RAW_BUCKET)["Contents"]]
    filled = [key for key in raw if "/backfill-" in key]
    assert len(filled) == len(raw) - len(batches) + 1
    lake.compare(lambda_context)
    assert [one["Key"] for one in lake.s3.list_objects_v2(Bucket=RAW_BUCKET)["Contents"]] == raw


@contextmanager
def waiting(queue):
    sqs = boto3.client("sqs", "eu-west-1", aws_access_key_id="test", aws_secret_access_key="test")
    sqs.send_message(QueueUrl=queue, MessageBody="x")
    yield
    sqs.purge_queue(QueueUrl=queue)


def test_nothing_is_judged_while_there_are_dead_letters(lake, end, lambda_context, monkeypatch):
    sent(lake, end, lost=[3])
    with waiting(reconcile.app.os.environ["PROCESS_DEAD_LETTER_QUEUE_URL"]):
        facts = lake.compare(lambda_context)
    assert (lake.cells(), facts["held_by_process"]) == ([], 1)


def test_a_key_without_the_grant_compares_nothing_and_fires_no_alarm(lake, end, lambda_context):
    sent(lake, end)
    lake.bird.grants.discard("Events Search: Read-only")
    facts = lake.compare(lambda_context)
    assert (lake.cells(), facts["access_failures"], facts.get("proof_age_seconds")) == ([], 0, None)


def test_a_key_that_is_not_bird_s_is_an_alarm(lake, end, lambda_context, monkeypatch):
    monkeypatch.setattr(reconcile.app, "read_key", lambda: "another-key")
    assert lake.compare(lambda_context)["access_failures"] == 1


def test_a_batch_that_lies_where_batches_lay_before_is_not_lost(s3):
    """Bird tells of a day's batches: those before a change of the prefix or the bucket are among them."""
    s3.put_object(Bucket=RAW_BUCKET, Key="raw/old-1.json", Body=b"[]")
    places = reconcile.app.former_places({"FORMER_RAW_PLACES": f"not-ours/raw,{RAW_BUCKET}/raw"})
    raw = reconcile.app.Raw(s3, RAW_BUCKET, "B Event Data", places)
    assert (raw.is_stored("old-1"), raw.is_stored("old-2")) == (True, False)
    assert reconcile.app.former_places({}) == []
