"""The last release, updated to the template of today while batches come in."""

import ssl
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import Lake, verify
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.emulator import ROOT, Emulator
from local_aws.load import shorten_visibility
from local_aws.query import poll, query

ROWS_TIMEOUT_SECONDS = 90
BATCHES_BEFORE = 12


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """The built template of the newest release that is not this version itself."""
    current = yaml.load(local_stack.TEMPLATE.read_text(), yaml.BaseLoader)["Metadata"]  # noqa: S506
    version = current["AWS::ServerlessRepo::Application"]["SemanticVersion"]
    kept = {path.name.removesuffix(".tar.gz"): path for path in (ROOT / "releases").glob("*.tar.gz")}
    newest = max(set(kept) - {version}, key=lambda name: [int(part) for part in name.split(".")])
    directory = tmp_path_factory.mktemp("release")
    with tarfile.open(kept[newest]) as archive:
        archive.extractall(directory, filter="data")
    return local_stack.build(directory / f"bird-webhooks-{newest}/template.yaml")


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    """One whose new roles work at once: the release does not wait for IAM, and may be rolled back on AWS for that."""
    local_emulator.forget_real_aws()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRICT_AWS_ROLE", "0")
        with local_emulator.running(auth=True) as started:
            local_stack.build()
            yield started


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.ndjson")) as opened:
        yield opened


def test_update_from_the_last_release_loses_no_batch(aws, released, ledger):
    old = local_stack.create_or_update(aws, "bird-upgrade", template=released)
    shorten_visibility(old)  # the local AWS ends what runs when a function is updated; its message comes back then
    trust = ssl.create_default_context(cafile=aws.certificate)
    login = Basic(*old.credentials())
    sender = Sender(old.outputs["WebhookUrl"], login, ledger, connections=4, time_scale=100, trust=trust)
    sender.probe()
    maker = BatchMaker(7, datetime.now(UTC))
    batches = [maker.batch(number, events=5) for number in range(BATCHES_BEFORE)]
    assert sender.run(batches).accepted == BATCHES_BEFORE
    rows = "SELECT count(DISTINCT event_key) AS rows FROM events"
    assert poll(lambda: query(old, rows), lambda found: found == [{"rows": "60"}], ROWS_TIMEOUT_SECONDS)

    updated = threading.Event()

    def until_updated() -> Iterator[Batch]:
        for number in range(BATCHES_BEFORE, 2000):
            if updated.is_set():
                return
            yield maker.batch(number, events=1 + number % 5)

    sender.batches_per_second = 4
    reports = []
    thread = threading.Thread(target=lambda: reports.append(sender.run(until_updated())))
    thread.start()
    try:
        new = local_stack.create_or_update(aws, "bird-upgrade")
    finally:
        updated.set()
        thread.join()

    [report] = reports
    assert report.batches > 10
    assert (report.accepted, report.given_up) == (report.batches, 0)
    kept = ["RawBucketName", "LakeBucketName", "WebhookSecretArn", "WebhookUrl"]
    assert {name: new.outputs[name] for name in kept} == {name: old.outputs[name] for name in kept}
    databases = [database["Name"] for database in aws.client("glue").get_databases()["DatabaseList"]]
    assert new.outputs["GlueDatabaseName"] in databases
    assert old.outputs["GlueDatabaseName"] not in databases, "0.1.0 named it after the stack, capital letters and all"
    assert new.credentials() == old.credentials()
    assert sender.run([maker.batch(9999, events=3)]).accepted == 1
    result = verify(ledger, Lake.of(new.stack), wait_seconds=ROWS_TIMEOUT_SECONDS, alone=True)
    assert result.closes, str(result)
    assert result.found == result.accepted > BATCHES_BEFORE * 5
