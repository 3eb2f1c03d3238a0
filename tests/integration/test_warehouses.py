"""The recipes of docs/downstream/warehouses.md, as the documents have them, against what table maintenance writes.

One consumer merges small files as they come, another replaces dates that are closed. The lake, both topics and both
consumers crash, repeat, come late and out of order, by fixed seeds; at the end both have each event once, and of it the
copy that the view chooses.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from local_aws import postgres as local_postgres
from process import close_day, maintenance
from process.close_day import Limits
from tests.integration import test_maintenance
from tests.integration.test_maintenance import LAKE, NOW, DyingClient, DyingLake, Killed, LakeUnderTest, numbered

PAGE = (Path(__file__).parents[2] / "docs/downstream/warehouses.md").read_text()
lake = test_maintenance.lake
DAYS = [NOW.date() - timedelta(days=number) for number in (2, 3, 20)]
STEPS = 30
# A queue keeps a message 14 days.
QUEUE_KEEPS = timedelta(days=13)


def recipes(engine: str) -> list[list[str]]:
    """The statements of each recipe for the engine, in the order of the page."""
    blocks = re.findall(rf"```sql\n-- {engine}\n(.*?)```", PAGE, re.DOTALL)
    return [[one.strip() for one in block.split(";") if one.strip()] for block in blocks]


# The page has the insert of dates that are not exact before the recipes that it belongs to.
INSERT_ONE_COPY, AS_THEY_COME, CLOSED_DAYS = recipes("DuckDB")


def with_insert(recipe: list[str], insert: list[str]) -> list[str]:
    """The recipe for closed days with this one statement in the place of its own."""
    [other] = insert
    return [other if one.startswith("INSERT") else one for one in recipe]


class CrashedError(Exception):
    pass


class Warehouse:
    """A DuckDB that runs a recipe over copies of the lake's objects, and may crash before or after its commit."""

    def __init__(self, lake: LakeUnderTest, folder: Path, chance: random.Random) -> None:
        self.lake, self.folder, self.chance = lake, folder, chance
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")

    def copy(self, key: str) -> str:
        """Errors: NoSuchKey, which no consumer may ever see."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.lake.s3.get_object(Bucket=LAKE, Key=key)["Body"].read())
        return str(path)

    def run(self, recipe: list[str], *, crashes: bool, **variables: Any) -> None:
        before, after = (crashes and self.chance.random() < 0.3 for _ in range(2))
        if before:
            *steps, last = recipe
            recipe = [*steps, "ROLLBACK"] if last == "COMMIT" else [*steps, "BEGIN TRANSACTION", last, "ROLLBACK"]
        for statement in recipe:
            name = re.match(r"SET VARIABLE (\w+) = ['\[D]", statement)
            if name and name[1] in variables:
                self.connection.execute(f"SET VARIABLE {name[1]} = {variables[name[1]]}")
            else:
                self.connection.execute(statement)
        if before or after:
            raise CrashedError

    def merge(self, keys: list[str], *, crashes: bool = True) -> None:
        self.run(AS_THEY_COME, crashes=crashes, files=repr([self.copy(key) for key in keys]))

    def replace(self, message: dict[str, Any], *, crashes: bool = True) -> None:
        manifest = json.loads(Path(self.copy(message["manifest"].removeprefix(f"s3://{LAKE}/"))).read_text())
        for file in manifest["current"]["files"]:
            self.copy(manifest["location"] + file["name"])
        recipe = CLOSED_DAYS if manifest["current"]["exact"] else with_insert(CLOSED_DAYS, INSERT_ONE_COPY)
        day = f"DATE '{message['event_date']}'"
        self.run(recipe, crashes=crashes, lake=repr(str(self.folder)), event_date=day)

    def events(self) -> list[tuple[date, str, str]]:
        return self.connection.execute("SELECT event_date, event_key, batch_id FROM events ORDER BY ALL").fetchall()


class Queue:
    """Delivers in no order, repeats, and delivers again what was not finished."""

    def __init__(self, chance: random.Random) -> None:
        self.messages: list[tuple[Any, datetime]] = []
        self.chance = chance

    def send(self, message: Any, now: datetime) -> None:
        self.messages += [(message, now)] * self.chance.choice((1, 1, 1, 2))

    def deliver(self, consume: Callable[[Any], None], share: float, older_than: datetime) -> None:
        """So many of the messages, and all that are older."""
        self.chance.shuffle(self.messages)
        waiting, self.messages = self.messages, []
        for message, sent in waiting:
            if sent > older_than and self.chance.random() > share:
                self.messages.append((message, sent))
                continue
            try:
                consume(message)
            except CrashedError:
                self.messages.append((message, sent))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 10))])
def test_both_ways_end_with_each_event_once_whatever_happens(lake, tmp_path, monkeypatch, seed):
    chance = random.Random(seed)  # noqa: S311
    merging, replacing = (Warehouse(lake, tmp_path / name, chance) for name in ("merging", "replacing"))
    rows_topic, closed_topic = Queue(chance), Queue(chance)
    best: dict[tuple[date, str], tuple[int, str]] = {}
    files: list[tuple[date, str, list[str], str, int]] = []
    now = NOW

    def put(day: date, name: str, keys: list[str], batch: str, received: int) -> None:
        lake.put(day, name, keys, batch=batch, received=received)
        rows_topic.send([f"events/event_date={day}/{name}.parquet"], now)
        for key in keys:
            best[day, key] = min(best.get((day, key), (received, batch)), (received, batch))

    def maintain(*, dies_at: int = 0) -> None:
        dying = type("Dying", (DyingLake,), {"dies_at": dies_at, "after": chance.random() < 0.5, "changes": 0})(
            LAKE, True
        )
        glue = DyingClient(lake.glue, dying, ("batch_create_partition", "batch_update_partition"))
        sns = DyingClient(maintenance.sns(), dying, ("publish",))
        with monkeypatch.context() as patched:
            patched.setattr(maintenance, "glue", lambda: glue)
            patched.setattr(maintenance, "sns", lambda: sns)
            with suppress(Killed):
                lake.run(now, files=dying)
        for message in lake.messages():
            closed_topic.send(message, now)

    for step in range(STEPS):
        match chance.choice(("new", "new", "new", "late", "replay", "maintain", "maintain", "die", "time", "consume")):
            case "new" | "late":
                first, count, day = chance.randrange(30), chance.randrange(1, 9), chance.choice(DAYS)
                files.append((day, f"{step:03}", numbered(count, first), f"b{step:03}", chance.randrange(4)))
                put(*files[-1])
            case "replay" if files:
                day, name, *rest = chance.choice(files)
                put(day, chance.choice((name, f"{name}-again")), *rest)
            case "maintain":
                maintain()
            case "die":
                maintain(dies_at=chance.randrange(1, 20))
            case "time":
                now += timedelta(hours=chance.choice((1, 30, 24 * 6)))
        kept = now - QUEUE_KEEPS + timedelta(days=6)  # time passes by no more than that in a step
        rows_topic.deliver(merging.merge, 0.3, kept)
        closed_topic.deliver(replacing.replace, 0.3, kept)

    maintain()
    now += timedelta(hours=30)
    maintain()
    while rows_topic.messages or closed_topic.messages:
        rows_topic.deliver(merging.merge, 1, now)
        closed_topic.deliver(replacing.replace, 1, now)

    expected = sorted((day, key, batch) for (day, key), (_, batch) in best.items())
    assert len(expected) > 20
    assert sum(lake.state(day).number for day in DAYS) > len(DAYS), "no date had a second version"
    assert merging.events() == expected
    assert replacing.events() == expected


def test_an_old_message_of_a_closed_date_does_no_harm(lake, tmp_path):
    warehouse = Warehouse(lake, tmp_path, random.Random(0))  # noqa: S311
    lake.put(DAYS[0], "a", numbered(2))
    lake.run()
    lake.put(DAYS[0], "b", numbered(2, first=2))
    lake.run()
    old, new = lake.messages()
    assert old["version"] < new["version"]
    for message in (new, old):
        warehouse.replace(message, crashes=False)
        assert len(warehouse.events()) == 4


def test_a_date_that_is_not_exact_ends_with_each_event_once(lake, tmp_path, monkeypatch):
    """By messages that are repeated, with crashes; and after it a version that is exact."""
    monkeypatch.setattr(close_day, "JOINED_AT_ONCE", 8)
    chance = random.Random(4)  # noqa: S311
    warehouse, closed_topic = Warehouse(lake, tmp_path, chance), Queue(chance)
    best: dict[str, tuple[int, str]] = {}

    def put(name: str, first: int, received: int) -> None:
        keys = numbered(10, first=first)
        lake.put(DAYS[0], name, keys, batch=f"b{name}", received=received)
        for key in keys:
            best[key] = min(best.get(key, (received, f"b{name}")), (received, f"b{name}"))

    def replaced() -> list[tuple[date, str, str]]:
        for message in lake.messages():
            closed_topic.send(message, NOW)
        while closed_topic.messages:
            closed_topic.deliver(warehouse.replace, 1, NOW)
        return warehouse.events()

    def once() -> list[tuple[date, str, str]]:
        return sorted((DAYS[0], key, batch) for key, (_, batch) in best.items())

    for number in range(16):
        put(f"{number:03}", (number * 7) % 40, number % 5)
    lake.run(limits=Limits(held_bytes=50_000, slice_bytes=10**9, part_bytes=30_000))
    assert not lake.state(DAYS[0]).current.exact
    assert lake.state(DAYS[0]).rows > len(best)
    assert replaced() == once()
    put("late", 35, 0)
    lake.run()
    assert lake.state(DAYS[0]).current.exact
    assert replaced() == once()


@pytest.fixture(scope="module")
def database() -> Iterator[psycopg.Connection]:
    with local_postgres.running() as server, closing(server.connect()) as connection:
        yield connection


def test_the_recipes_for_postgresql(database):
    insert_one_copy, as_they_come, closed_days = recipes("PostgreSQL")
    columns = "event_date date, customer_id text, event_class text, type text, event_key text, received_at timestamptz"
    for table in ("events", "landing"):
        database.execute(f"CREATE TEMPORARY TABLE {table} ({columns}, batch_id text)")
    database.execute(
        "CREATE UNIQUE INDEX ON events (event_date, customer_id, event_class, type, event_key) NULLS NOT DISTINCT"
    )

    def load(recipe: list[str], *rows: tuple[str, str | None, str, str]) -> list[tuple[str, str]]:
        database.execute("TRUNCATE landing")
        for day, customer, key, batch in rows:
            values = [day, customer, "message_event", "bounce", key, f"2026-11-23 12:00:0{batch}Z", batch]
            database.execute("INSERT INTO landing VALUES (%s, %s, %s, %s, %s, %s, %s)", values)
        for statement in recipe:
            database.execute(statement)
        return database.execute("SELECT event_key, batch_id FROM events ORDER BY 1, 2").fetchall()

    day = "2026-11-23"
    rows = [(day, None, "1", "2"), (day, None, "1", "1"), (day, "7", "1", "3"), (day, "7", "2", "3")]
    for _ in range(2):
        assert load(as_they_come, *rows) == [("1", "1"), ("1", "3"), ("2", "3")]
    for _ in range(2):
        assert load(closed_days, (day, "7", "2", "3"), (day, "7", "3", "4")) == [("2", "3"), ("3", "4")]
    assert load(closed_days, ("2026-11-24", "7", "2", "5")) == [("2", "3"), ("2", "5"), ("3", "4")]
    not_exact = with_insert(closed_days, insert_one_copy)
    for _ in range(2):
        assert load(not_exact, (day, None, "1", "2"), (day, None, "1", "1")) == [("1", "1"), ("2", "5")]
