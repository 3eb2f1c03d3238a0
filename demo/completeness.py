"""The demo's part about completeness (RECONCILE=1): two batches are lost on purpose, found missing, and fetched."""

import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bird_webhooks.operate import completeness
from bird_webhooks.simulator import bird_api
from bird_webhooks.simulator.batches import Batch, BatchMaker
from bird_webhooks.simulator.bird_api import Bird
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import DROPPED, TOO_LARGE, Basic, Sender
from bird_webhooks.terminal import step
from local_aws.deploy import Deployed, scale_time
from local_aws.emulator import Emulator
from reconcile.proved import LOOK_BACK, Cell, State, proved_until

API_KEY = "0123456789abcdef0123456789abcdef01234567"
BATCHES, EVENTS_A_BATCH, HOURS = 60, 50, 6
LOST = {7: TOO_LARGE, 23: DROPPED}  # by the number of the batch
# An hour settles 3 seconds after its end, and not 9 hours and 10 minutes.
TIME_SCALE = 10_000
TIMEOUT_SECONDS = 180
HOUR = timedelta(hours=1)
CUSTOMER_ID = "101"


@dataclass(frozen=True)
class Account:
    """A stand-in for Bird, and the parameters of a stack that registers its webhook there."""

    bird: Bird
    parameters: Mapping[str, str]


@contextmanager
def running(emulator: Emulator) -> Iterator[Account]:
    step("starting a stand-in for Bird's API, and a secret with its key")
    trust = ssl.create_default_context(cafile=emulator.certificate) if emulator.auth else None
    # The load balancer's targets are registered after the deployment only, so its probe goes elsewhere.
    with bird_api.running(API_KEY, lambda target: f"{emulator.endpoint_url}/_ministack/health", trust) as bird:
        secret = emulator.client("secretsmanager").create_secret(Name="demo-bird-api-key", SecretString=API_KEY)
        yield Account(bird, {"BirdApiKeySecretArn": secret["ARN"], "BirdApiUrl": bird.url})


def show(account: Account, stack: Deployed) -> bool:
    """Lose two batches of some hours, and show how they are found and fetched. Whether all was proved complete."""
    scale_time(stack, TIME_SCALE)
    with tempfile.TemporaryDirectory() as directory, closing(Ledger(Path(directory) / "ledger.ndjson")) as ledger:
        account.bird.recording.follow(ledger.path)
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        send(stack, ledger, end)
        began = time.monotonic()
        step("comparing every hour with Bird: what is missing, and where")
        found, fetched = compared(stack, lambda cells: any(cell.state is State.GAP for cell in cells))
        print("\n" + "\n".join(completeness.table(found)) + "\n", flush=True)
        gap_seconds = time.monotonic() - began
        step("comparing again, after the missing events were fetched and became rows")
        done, more = compared(stack, lambda cells: (proved_until(cells, datetime.now(UTC)) or end - HOUR) >= end)
        completeness.show(stack.stack, end - HOURS * HOUR, datetime.now(UTC), run=False, as_json=False)
        print(flush=True)
    # By what the runs say: an event that a lost batch's minutes brought may be a row before its hour is filled.
    filled = fetched + more
    missing = sum(cell.missing for cell in found if cell.state is State.GAP)
    step(
        f"{missing} events of {len(LOST)} batches were missing and {filled} were fetched: "
        f"found after {gap_seconds:.0f} s, proved after {time.monotonic() - began:.0f} s"
    )
    return missing == filled > 0 and (proved_until(done, datetime.now(UTC)) or end - HOUR) >= end


def send(stack: Deployed, ledger: Ledger, end: datetime) -> None:
    batches = []
    for hour in range(HOURS):
        start = end - hour * HOUR - timedelta(seconds=1)
        maker = BatchMaker(1, start, line_breaks=False, spread_seconds=3600, like_a_sender=True)
        maker.customer_id = CUSTOMER_ID  # of one account
        batches += [maker.batch(number, events=EVENTS_A_BATCH) for number in range(BATCHES // HOURS)]
    ways = {batches[number].batch_id: way for number, way in LOST.items()}

    def lose(batch: Batch) -> str | None:
        return ways.get(batch.batch_id)

    step(
        f"sending {BATCHES} batches of the last {HOURS} hours; two are lost: one is refused as too large (413), "
        "and one is dropped after a 200"
    )
    login = Basic(*stack.credentials())
    Sender(stack.outputs["WebhookUrl"], login, ledger, connections=4, time_scale=TIME_SCALE, lose=lose).run(batches)


def compared(stack: Deployed, enough: Callable[[list[Cell]], bool]) -> tuple[list[Cell], int]:
    """Run the function, as its schedule does every 15 minutes, until this holds. With the number of events fetched."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    fetched = 0
    while True:
        facts = completeness.invoked(stack.stack)
        step(f"  {completeness.said_of_run(facts)}")
        fetched += (facts or {}).get("filled_events", 0)
        now = datetime.now(UTC)
        cells, state, _ = completeness.known(stack.stack, now - LOOK_BACK, now)
        if enough(cells) or time.monotonic() > deadline:
            return cells, fetched
        if state.get("held_by"):
            step(f"  nothing is judged yet: {state['held_by']}")
        time.sleep(1)
