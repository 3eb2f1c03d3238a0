"""ingest and process in a real container, by `sam local invoke`, storing into a local S3. Needs a container engine."""

import json

import pytest

from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws import invoke
from local_aws.webhook import EVENTS

BATCH_27 = "00000000-0000-4000-8000-000000000027"
BATCH_350 = "00000000-0000-4000-8000-000000000350"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    local_emulator.forget_real_aws()
    invoke.require_engine()
    local_stack.build()


@pytest.mark.parametrize(
    ("event", "status", "objects"),
    [
        pytest.param("alb_all_types", "stored", [f"s3://local-raw/raw/{BATCH_27}.json"], id="27 types"),
        pytest.param(
            "alb_batch_of_350",
            "stored",
            [f"s3://local-raw/raw/{BATCH_350}.json"],
            id="350 events",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "alb_batch_gzip", "stored", ["s3://local-raw/raw/gzip-batch.json"], id="gzip", marks=pytest.mark.nightly
        ),
        pytest.param(
            "alb_multi_value_headers",
            "stored",
            ["s3://local-raw/raw/multi-value-batch.json"],
            id="multi-value",
            marks=pytest.mark.nightly,
        ),
        pytest.param("http_api_batch", "stored", ["s3://local-raw/raw/http-api-batch.json"], id="HTTP API"),
        pytest.param("alb_probe", "ping", [], id="probe", marks=pytest.mark.nightly),
        pytest.param("alb_health_check", "ok", [], id="health check", marks=pytest.mark.nightly),
        pytest.param("alb_wrong_credentials", "rejected", [], id="wrong credentials"),
    ],
)
def test_ingest_answers_in_a_container(event, status, objects):
    result = invoke.invoke("ingest", EVENTS / f"{event}.json")
    assert json.loads(result.answer["body"]) == {"status": status}
    assert result.objects == objects


@pytest.mark.parametrize(
    ("event", "files"),
    [
        pytest.param("s3_raw_batch_created", 1, id="bare S3 event"),
        pytest.param("s3_key_with_spaces", 1, id="key with spaces", marks=pytest.mark.nightly),
        pytest.param("sqs_raw_batches_created", 1, id="queue's batch"),
        pytest.param("sqs_test_event", 0, id="S3's test event", marks=pytest.mark.nightly),
    ],
)
def test_process_writes_rows_in_a_container(event, files):
    result = invoke.invoke("process", EVENTS / f"{event}.json")
    assert result.answer == {"batchItemFailures": []}
    # Beside rows, process names batches with repeats, for `erase`.
    rows = [address for address in result.objects if not address.startswith("s3://local-lake/maintenance/unshown/")]
    assert len(rows) == files
    for address in rows:
        assert address.startswith("s3://local-lake/events/event_date=2016-04-18/")
