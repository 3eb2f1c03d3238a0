"""A stack for each format with the same mail, and three engines to ask about it: Trino, DuckDB and PostgreSQL."""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import itemgetter
from typing import Any

import psycopg
import pytest

from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import Basic, Sender
from bird_webhooks.stack import Stack
from load_postgres.database import Database
from load_postgres.rows import rows_of
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws import postgres as local_postgres
from local_aws import trino as local_trino
from local_aws.deploy import Deployed
from local_aws.emulator import ROOT, Emulator
from local_aws.query import maintain, query
from local_aws.trino import Trino
from local_aws.webhook import Request, basic, send
from reconcile.proved import Cell, State
from reconcile.verdicts import encoded, key_of, row
from tests.known_events import known_events
from tests.trino.athena import TrinoAthena

# Capital letters in the one of them: Glue knows none, and Trino refuses them in the schema of a view.
STACKS = {"PARQUET": "bird-trino", "CSV": "Bird-Trino-CSV"}
SIMULATED_BATCHES = 60
SETTLE_TIMEOUT_SECONDS = 90
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)  # of the report's period
VERDICTS = [
    Cell(HOUR, "delivery", State.PROVED, 4182, 4182, "types", HOUR, note="-1 at the edge of the hour"),
    Cell(HOUR, "bounce", State.FILLED, 35, 35, "day 2", HOUR, filled=3, filled_at=HOUR, proof="ids"),
    Cell(HOUR, "*", State.UNKNOWN, 0, None, "total", HOUR),
]
SHOWN = 3

Value = object
Rows = list[tuple[Value, ...]]
questions: Counter[str] = Counter()  # asked, agreed


def pytest_terminal_summary(terminalreporter: Any) -> None:
    agreed = f"{questions['agreed']} of {questions['asked']} questions agreed"
    terminalreporter.write_line(f"Trino {local_trino.VERSION}: {agreed}")


@dataclass
class Lake:
    """A deployed stack with its mail, and who answers questions about it."""

    output_format: str
    stack: Deployed
    engine: Trino
    ledger: Ledger
    postgres: psycopg.Connection[Any] | None = None
    athena: TrinoAthena = field(init=False)

    def __post_init__(self) -> None:
        self.athena = TrinoAthena(self.engine, self.stack)

    @cached_property
    def target(self) -> Stack:
        """The stack for the tools that operate on it, with Trino for its Athena."""
        return Stack(self.stack.name, lambda name: self.athena if name == "athena" else self.client(name), 0)

    def client(self, service: str) -> Any:
        return self.stack.emulator.client(service)

    def ask(self, sql: str, *, postgres: bool = False, ordered: bool = False) -> Rows:
        """Trino's rows, after they were found equal to DuckDB's; and to PostgreSQL's, if it has the same view.

        `ordered`: in the same order too, where the statement leaves no choice of it.
        """
        questions["asked"] += 1
        columns, rows = self.athena.answer(sql)
        types = [kind for _, kind in columns]
        found = [tuple(typed(value, kind) for value, kind in zip(row, types, strict=True)) for row in rows]
        theirs = self.from_duckdb(sql, types)
        if self.output_format == "CSV" and re.search(r" FROM events\b", sql):
            # A field without a value is empty text to Athena's serde, as to Trino's; DuckDB reads it as null.
            found, theirs = ([tuple(value or None for value in row) for row in rows] for rows in (found, theirs))
        names = [name for name, _ in columns]
        same(sql, names, found, theirs, "DuckDB", ordered=ordered)
        if postgres and self.postgres is not None:
            others = self.postgres.execute(sql.encode()).fetchall()
            theirs = [
                tuple(from_postgres(value, kind) for value, kind in zip(row, types, strict=True)) for row in others
            ]
            same(sql, names, found, theirs, "PostgreSQL", ordered=ordered)
        questions["agreed"] += 1
        return found

    def from_duckdb(self, sql: str, types: list[str]) -> Rows:
        """By way of the local Athena."""
        rows = query(self.stack, sql)
        return [tuple(typed(value, kind) for value, kind in zip(row.values(), types, strict=True)) for row in rows]


def typed(value: Any, kind: str) -> Value:
    """A value of Trino's, or a text of DuckDB's, as the Python value of Trino's type."""
    if value is None:
        return None
    kind = kind.partition("(")[0]
    match kind:
        case "varchar":
            assert isinstance(value, str)
            return value
        case "bigint" | "integer":
            return int(value)
        case "double":
            return float(value)
        case "decimal":
            return Decimal(value)
        case "boolean":
            return {"true": True, "false": False}[str(value).lower()]
        case "date":
            return value if isinstance(value, date) else date.fromisoformat(value)
        case "timestamp":
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    raise AssertionError(f"no question had a column of type {kind} yet")


def from_postgres(value: Any, kind: str) -> Value:
    return typed(value, kind) if kind != "varchar" or value is None or isinstance(value, str) else json.dumps(value)


def same(sql: str, names: list[str], ours: Rows, theirs: Rows, engine: str, *, ordered: bool) -> None:
    """A failure shows a few rows that only one of them has. They are made up, all of them."""
    if not ordered:
        ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
    if ours == theirs:
        return
    only_ours, only_theirs = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
    lines = [f"Trino {len(ours)} rows, {engine} {len(theirs)}: {sql[:300]}"]
    for one, other in list(zip([*only_ours, ()], [*only_theirs, ()], strict=False))[:SHOWN]:
        pairs = zip(names, one or [None] * len(names), other or [None] * len(names), strict=True)
        lines.append(str({name: (left, right) for name, left, right in pairs if left != right}))
    raise AssertionError("\n".join(lines))


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRICT_AWS_IDLE", "0")  # Trino's client of S3 is not what is tried here
        with local_emulator.running() as started:
            local_stack.build()
            yield started


@pytest.fixture(scope="session")
def engine(emulator: Emulator) -> Iterator[Trino]:
    with local_trino.running(emulator, unchanging=True) as started:
        yield started


@pytest.fixture(scope="session", params=["PARQUET", pytest.param("CSV", marks=pytest.mark.nightly)])
def lake(
    request: pytest.FixtureRequest, emulator: Emulator, engine: Trino, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    output_format = request.param
    stack = local_stack.create_or_update(emulator, STACKS[output_format], {"OutputFormat": output_format})
    with closing(Ledger(tmp_path_factory.mktemp("ledger") / "ledger.ndjson")) as ledger:
        fill(stack, ledger, line_breaks=output_format != "CSV")
        lake = Lake(output_format, stack, engine, ledger)
        if output_format != "PARQUET":
            yield lake
            return
        with local_postgres.running() as server:
            load(stack, server)
            with server.connect() as connection:
                connection.execute("SET search_path TO bird; SET timezone TO 'UTC'")
                lake.postgres = connection
                yield lake


def fill(stack: Deployed, ledger: Ledger, *, line_breaks: bool) -> None:
    """Simulated mail, the vendor's samples, awkward bodies, known events; the last once more when all of it is rows.

    Of Parquet's dates the newest twenty are closed, so that readers meet both kinds.
    """
    known = json.dumps(known_events()).encode()
    for body, headers in [(known, {}), *recorded()]:
        # Athena cannot read a line break from CSV, and Bird puts none between the members of a JSON value.
        post(stack, body if line_breaks else without_white_space(body), headers)
    sender = Sender(stack.outputs["WebhookUrl"], Basic(*stack.credentials()), ledger, connections=4, time_scale=1000)
    maker = BatchMaker(13, datetime.now(UTC), line_breaks=line_breaks, like_a_sender=True)
    assert sender.run(maker.batches(SIMULATED_BATCHES)).accepted == SIMULATED_BATCHES
    settle(stack)
    maintain(stack)
    post(stack, known, {})
    settle(stack)
    maintain(stack)
    cells = {"Bucket": stack.outputs["LakeBucketName"], "Key": key_of(HOUR.date()), "Body": encoded(VERDICTS)}
    stack.emulator.client("s3").put_object(**cells)


def post(stack: Deployed, body: bytes, headers: dict[str, str]) -> None:
    given = {"content-type": "application/json", "x-messagesystems-batch-id": str(uuid.uuid4()), **headers}
    assert send(stack, Request("POST", {**given, **basic(stack.credentials())}, body)).status == 200


def recorded() -> Iterator[tuple[bytes, dict[str, str]]]:
    """(body, headers) of each."""
    for path in sorted([*(ROOT / "events/samples").iterdir(), *(ROOT / "tests/data").glob("inputs*/*")]):
        if path.suffix in (".json", ".bin"):
            yield path.read_bytes(), {}
        if path.suffix == ".gz":
            yield path.read_bytes(), {"content-encoding": "gzip"}


def without_white_space(body: bytes) -> bytes:
    """JSON without what is between its tokens."""
    return body if body.startswith(b"\x1f\x8b") else re.sub(rb'("(?:[^"\\]|\\.)*")|\s+', rb"\1", body)


def settle(stack: Deployed) -> None:
    """Until process has nothing to do any more."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    deadline, quiet = time.monotonic() + SETTLE_TIMEOUT_SECONDS, 0
    while quiet < 3:
        url = stack.outputs["ProcessQueueUrl"]
        found = stack.emulator.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        quiet = 0 if any(int(found[name]) for name in names) else quiet + 1
        assert time.monotonic() < deadline, f"still in the process queue: {found}"
        time.sleep(0.5)


def load(stack: Deployed, server: local_postgres.Postgres) -> None:
    """Each file of rows, as load_postgres loads it, in the order of writing: the first copy of an event stays."""
    s3, bucket = stack.emulator.client("s3"), stack.outputs["LakeBucketName"]
    with closing(Database(server.secret, "bird", verify=True)) as database:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="events")
        for item in sorted((item for page in pages for item in page["Contents"]), key=itemgetter("LastModified")):
            body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            day = date.fromisoformat(item["Key"].partition("event_date=")[2][:10])
            database.load(day, rows_of(item["Key"], body))
        database.write_verdicts([row(cell) for cell in VERDICTS])
