"""One deployed stack for all faults; each test has a ledger and a run of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.simulator.verify import Lake, Verification, verify
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.deploy import Deployed
from local_aws.emulator import Emulator
from local_aws.faults import FaultProxy
from tests import deployed
from tests.faults.harness import FunctionProcess

ROWS_TIMEOUT_SECONDS = 90
seeds = count(1)

postgres, postgres_secret = deployed.postgres, deployed.postgres_secret


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with local_emulator.running() as started:
        local_stack.build()
        yield started


@pytest.fixture(scope="session")
def stack(emulator: Emulator) -> Deployed:
    return local_stack.create_or_update(emulator, "bird-faults")


@pytest.fixture
def maker() -> BatchMaker:
    """Of today: a file and a query less for each day before."""
    return BatchMaker(next(seeds), datetime.now(UTC), spread_seconds=1)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.ndjson")
    yield made
    made.close()


@pytest.fixture
def s3(stack: Deployed) -> Iterator[FaultProxy]:
    """The way to the stack's S3, for faults."""
    with FaultProxy(stack.emulator.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def process(stack: Deployed, s3: FaultProxy) -> Iterator[FunctionProcess]:
    """process, where a test can kill it."""
    made = FunctionProcess(stack, "process", s3.url)
    yield made
    made.end()


@pytest.fixture
def sender(stack: Deployed, ledger: Ledger) -> Sender:
    """Bird, a thousand times as impatient; to the deployed webhook unless a test says otherwise."""
    login = Basic(*stack.credentials())
    return Sender(stack.outputs["WebhookUrl"], login, ledger, connections=8, time_scale=1000, sent_twice_share=0)


@pytest.fixture
def judge(stack: Deployed, ledger: Ledger):
    """The ledger against the lake. A failed assertion shows what is wrong."""

    def verified() -> Verification:
        return verify(ledger, Lake.of(stack.stack), wait_seconds=ROWS_TIMEOUT_SECONDS, progress=lambda text: None)

    return verified
