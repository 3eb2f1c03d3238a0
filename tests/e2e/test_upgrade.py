"""The last release, updated to the template of today while batches come in and queries are asked."""

import copy
import json
import ssl
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import Lake, verify
from bird_webhooks.stack import Stack
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.emulator import ROOT, Emulator
from local_aws.load import shorten_visibility
from local_aws.query import poll, query
from process.normalise import StoredBatch
from process.rows import Rows
from process.table import to_parquet
from report.athena import QueryFailedError

ROWS_TIMEOUT_SECONDS = 90
ASK_TIMEOUT_SECONDS = 300
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


class Reader:
    """Asks how many events there are, again and again, in the database that the stack's output names at that time."""

    def __init__(self, aws: Emulator, stack_name: str) -> None:
        self.aws, self.stack_name = aws, stack_name
        self.counts: list[int] = []
        self.failures: list[str] = []

    def ask(self) -> None:
        stack = self._stack()
        try:
            [row] = stack.athena(ASK_TIMEOUT_SECONDS).stream("SELECT count(DISTINCT event_key) AS events FROM events")
        except QueryFailedError as error:
            if self._stack().outputs["GlueDatabaseName"] == stack.outputs["GlueDatabaseName"]:
                self.failures.append(str(error))
            return
        self.counts.append(int(row["events"] or 0))

    def _stack(self) -> Stack:
        return Stack(self.stack_name, self.aws.client, 0.05)

    @contextmanager
    def asking(self) -> Iterator[None]:
        ended = threading.Event()

        def ask() -> None:
            while not ended.wait(0.2):
                self.ask()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.ask()


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
    reader = Reader(aws, "bird-upgrade")

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
        with reader.asking():
            new = local_stack.create_or_update(aws, "bird-upgrade")
    finally:
        updated.set()
        thread.join()

    assert reader.failures == []
    assert len(reader.counts) > 3
    assert reader.counts == sorted(reader.counts), "a query got fewer rows than one before it"
    assert reader.counts[0] >= 60
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


DAYS = [date(2016, 4, 18), date(2026, 11, 1)]


@pytest.mark.nightly
def test_a_table_that_projects_its_partitions_is_switched_to_registered_ones_without_losing_a_row(aws):
    """Where the database keeps its name: the table itself changes, between the two steps that register dates."""
    before = local_stack.BUILT_TEMPLATE.with_name("projecting.yaml")
    before.write_text(json.dumps(projecting(local_stack.read_template(local_stack.BUILT_TEMPLATE))))
    old = local_stack.create_or_update(aws, "bird-projecting", {"FrontDoor": "HTTP_API"}, before)
    for day in DAYS:
        put_events(old, day)
    glue, table = aws.client("glue"), {"DatabaseName": old.outputs["GlueDatabaseName"], "TableName": "events"}
    assert glue.get_partitions(**table)["Partitions"] == []
    reader = Reader(aws, "bird-projecting")
    with reader.asking():
        new = local_stack.create_or_update(aws, "bird-projecting")
    assert new.outputs["GlueDatabaseName"] == old.outputs["GlueDatabaseName"]
    assert reader.failures == []
    assert {*reader.counts} == {3 * len(DAYS)}
    parameters = glue.get_table(DatabaseName=table["DatabaseName"], Name="events")["Table"]["Parameters"]
    assert [name for name in parameters if name.startswith("projection.")] == []
    registered = {one["Values"][0] for one in glue.get_partitions(**table)["Partitions"]}
    assert {str(day) for day in DAYS} <= registered
    assert len(registered) >= 63


def projecting(template: dict) -> dict:
    """The template as before dates were registered."""
    made = copy.deepcopy(template)
    resources = made["Resources"]
    for name in ("DatesRegistered", "DatesRegisteredBefore"):
        del resources[name]
    table = resources["EventsTable"]
    table["DependsOn"] = "SettingsGuard"
    table["Properties"]["TableInput"]["Parameters"] |= {
        "projection.enabled": "true",
        "projection.event_date.type": "date",
        "projection.event_date.format": "yyyy-MM-dd",
        "projection.event_date.range": "2014-01-01,NOW+1DAYS",
        "storage.location.template": {"Fn::Sub": "s3://${LakeBucket}/events/event_date=${!event_date}"},
    }
    return made


def put_events(stack: local_stack.Deployed, day: date) -> None:
    """Three, as process would write them."""
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    kind = {"type": "delivery", "customer_id": "7", "timestamp": str(noon)}
    events = [{"msys": {"message_event": {**kind, "event_id": f"{noon}{number}"}}} for number in range(3)]
    rows = Rows()
    rows.add(StoredBatch("batch", "raw/batch.json", (noon + 60) * 1000, json.dumps(events).encode()))
    [(_, table, _)] = rows.take_days()
    key = f"events/event_date={day}/{noon}.parquet"
    stack.stack.client("s3").put_object(Bucket=stack.outputs["LakeBucketName"], Key=key, Body=to_parquet(table))
