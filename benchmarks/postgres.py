"""Lake files into PostgreSQL: load_postgres compared with plain COPY of the same rows, and with simple loaders.

python -m benchmarks.postgres '{"files": […], "arrivals": […], "rounds": 3}'

One real server on this machine, one connection each, the same rows into the same table with its indexes, emptied before
each turn. The server does not wait for the disk (fsync off), which helps all contenders equally. COPY gets finished
CSV, and would fail at the first event that exists already.

Ours and COPY take their turns next to each other, after one turn each that is not counted: the first one waits for
files and caches to be made. What is compared is the two of each round, since a busy machine slows both.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.events import Input, prepare
from benchmarks.measure import BUILT, Measures, Run, child, environment, goal

OURS = "ours: from Parquet to committed rows"
STAGED = "ours, one row of each file there already: staging, ON CONFLICT"
KNOWN_ROWS = "ours, every row there already, in other files"
AGAIN = "ours, the same files again"
OURS_SMALL = "ours, a file for each batch"
COPY = "plain COPY of ready-made CSV"
COPY_BARE = "the same, no index on the table"
COPY_SMALL = "plain COPY, of each batch by itself"
WRITE_ROW = "Python rows by write_row, staging, ON CONFLICT"
EXECUTEMANY = "executemany, ON CONFLICT"
OF_COPY = 0.75
ONCE = [STAGED, KNOWN_ROWS, AGAIN, COPY_BARE, WRITE_ROW, EXECUTEMANY]
CONTENDERS = [OURS, STAGED, KNOWN_ROWS, AGAIN, OURS_SMALL, COPY, COPY_BARE, COPY_SMALL, WRITE_ROW, EXECUTEMANY]

type File = tuple[date, bytes, int]


class Turn(NamedTuple):
    """In seconds: by the clock, and of the processor on both sides of the connection."""

    clock: float
    client: float
    server: float


def measure(run: Run) -> list[Measures]:
    wanted = Input(batches=3, days=1) if run.quick else Input(batches=100, days=1)
    files = prepare(wanted)
    run.progress(f"postgres: {wanted.batches * wanted.events:,} events")
    arguments = {
        "files": [str(path) for path in files],
        "arrivals": [wanted.arrival(number) * 1000 for number in range(wanted.batches)],
        "rounds": run.rounds(4),
    }
    # process makes the files and load_postgres loads them, so both artefacts; their packages have the same versions.
    env = environment("LoadPostgresFunction")
    env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{BUILT / 'ProcessFunction'}"
    got = child("postgres", arguments, env)
    turns = {name: [Turn(*turn) for turn in got["turns"][name]] for name in CONTENDERS}
    measures = Measures("postgres")
    note = f"{got['rows']:,} rows in {got['files']} files, one connection; server and client share the cores"
    for name in CONTENDERS:
        for turn in turns[name]:
            measures.add("events a second", "events", name, got["rows"] / turn.clock, higher_is_better=True, note=note)
            for side in ("client", "server"):
                spent = getattr(turn, side) / got["rows"] * 1e6
                measures.add(f"processor time an event, {side}", "µs", name, spent)
    ratios = beside(turns[OURS], turns[COPY], lambda turn: turn.clock)
    low, high = got["load"]
    spread = f"{len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f}, at a load of {low:.1f} to {high:.1f}"
    run.goals.append(goal(median(ratios), OF_COPY, f"postgres: speed beside {COPY}; {spread}"))
    others = {
        "the same by processor time, client and server together": beside(
            turns[OURS], turns[COPY], lambda turn: turn.client + turn.server
        ),
        f"speed of {OURS_SMALL}, beside {COPY_SMALL}": beside(
            turns[OURS_SMALL], turns[COPY_SMALL], lambda turn: turn.clock
        ),
        f"speed of {AGAIN}, beside {COPY}": beside(turns[AGAIN], turns[COPY], lambda turn: turn.clock),
    }
    for what, values in others.items():
        run.goals.append(f"{'no goal':12} {median(values):8.2f}  postgres: {what}")
    return [measures]


def beside(ours: list[Turn], copies: list[Turn], seconds: Callable[[Turn], float]) -> list[float]:
    """How fast ours was beside COPY, round by round."""
    return [seconds(copy) / seconds(our) for our, copy in zip(ours, copies, strict=False)]


def main() -> None:
    from local_aws import postgres as local_postgres

    wanted = json.load(sys.stdin)
    files = lake_files(wanted["files"], wanted["arrivals"])
    pairs = list(zip(wanted["files"], wanted["arrivals"], strict=True))
    small = [file for path, arrival in pairs for file in lake_files([path], [arrival])]
    loads = []
    with local_postgres.running() as server:
        bench = Bench(server, files, small)
        turns: dict[str, list[Turn]] = {name: [] for name in CONTENDERS}
        for name in (OURS, COPY):
            bench.turn(name)
        for number in range(wanted["rounds"]):
            for name in (OURS, COPY) if number % 2 else (COPY, OURS):
                turns[name].append(bench.turn(name))
            loads.append(os.getloadavg()[0])
        for name in (OURS_SMALL, COPY_SMALL) * min(2, wanted["rounds"]):
            turns[name].append(bench.turn(name))
        for name in ONCE:
            turns[name].append(bench.turn(name))
        bench.close()
    rows = sum(count for _, _, count in files)
    print(json.dumps({"rows": rows, "files": len(files), "turns": turns, "load": [min(loads), max(loads)]}))


def lake_files(paths: list[str], arrivals: list[int]) -> list[File]:
    """(day, Parquet, rows) as process writes them."""
    from arro3.io import read_parquet

    from benchmarks import ours

    batches = [(Path(path).stem, at, Path(path).read_bytes()) for path, at in zip(paths, arrivals, strict=True)]
    return [
        (datetime.fromtimestamp(day * 86_400, UTC).date(), body, read_parquet(BytesIO(body)).read_all().num_rows)
        for day, body in ours.files(batches, "parquet")
    ]


def key_of(day: date, number: int) -> str:
    return f"events/event_date={day}/{number}.parquet"


def csv_of(files: list[File]) -> list[tuple[date, Any]]:
    from load_postgres.rows import rows_of

    return [(day, rows_of(key_of(day, 0), body).whole()) for day, body, _ in files]


def processor_seconds(processes: list[int]) -> float:
    """What they have used so far: utime and stime of proc_pid_stat(5)."""
    stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in processes]
    return sum(int(ticks) for stat in stats for ticks in stat[11:13]) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, server: Any, files: list[File], small: list[File]) -> None:
        from load_postgres.database import Database

        secret = server.secret()
        self.files, self.small = files, small
        self.database = Database(lambda: secret, "bench", verify=True)
        self.csv, self.small_csv = csv_of(files), csv_of(small)
        self.database.load(*self.csv[0])  # makes the table
        self.connection = server.connect()
        connections = (self.database._connection, self.connection)
        self.backends = [one.info.backend_pid for one in connections if one]
        self.columns = self.csv[0][1].columns[:-1]  # without event_date, which is not in the files
        self.names = ", ".join(self.columns)
        self.connection.execute("CREATE TABLE bench.bare (LIKE bench.events)")
        self.connection.execute("CREATE TEMPORARY TABLE staging (LIKE bench.events) ON COMMIT DELETE ROWS")
        self.connection.execute("ALTER TABLE staging ALTER event_date DROP NOT NULL")

    def close(self) -> None:
        self.database.close()
        self.connection.close()

    def turn(self, name: str) -> Turn:
        """All files, into a table that is empty but for what the name says."""
        self.connection.execute("TRUNCATE bench.events, bench.bare, bench.files_loaded")
        if name in (AGAIN, KNOWN_ROWS):
            self.ours(self.files)
        if name == STAGED:
            self.last_rows()
        if name != AGAIN:
            self.connection.execute("TRUNCATE bench.files_loaded")
        run: dict[str, Callable[[], None]] = {
            OURS_SMALL: partial(self.ours, self.small),
            COPY: partial(self.copy, self.csv, "bench.events"),
            COPY_BARE: partial(self.copy, self.csv, "bench.bare"),
            COPY_SMALL: partial(self.copy, self.small_csv, "bench.events"),
            WRITE_ROW: self.write_row,
            EXECUTEMANY: self.executemany,
        }
        began, client, server = time.perf_counter(), time.process_time(), processor_seconds(self.backends)
        run.get(name, partial(self.ours, self.files))()
        clock, client = time.perf_counter() - began, time.process_time() - client
        return Turn(clock, client, processor_seconds(self.backends) - server)

    def ours(self, files: list[File]) -> None:
        """As the handler does, with the files at hand."""
        from load_postgres.rows import rows_of
        from load_postgres.table import Mark

        for number, (day, body, _) in enumerate(files):
            mark = Mark(key_of(day, number), "etag")
            if not self.database.is_loaded(day, mark):
                self.database.load(day, rows_of(mark.file, body), mark=mark)

    def last_rows(self) -> None:
        """The last row of each file alone: the most expensive place for one that is there already."""
        from load_postgres.rows import from_table, read_table

        for day, body, count in self.files:
            self.database.load(day, from_table(read_table(body).slice(count - 1, 1), day))

    def copy(self, csv: list[tuple[date, Any]], table: str) -> None:
        for _, rows in csv:
            statement = f"COPY {table} ({', '.join(rows.columns)}) FROM STDIN (FORMAT csv, NULL '{rows.null}')"
            with self.connection.cursor().copy(statement) as to_server:
                to_server.write(rows.copy_data)

    def write_row(self) -> None:
        for day, values in self.values():
            with self.connection.transaction():
                with self.connection.cursor().copy(f"COPY staging ({self.names}) FROM STDIN") as to_server:
                    for row in values:
                        to_server.write_row(row)
                new = f"SELECT {self.names}, '{day}' FROM staging ON CONFLICT DO NOTHING"  # noqa: S608
                self.connection.execute(f"INSERT INTO bench.events ({self.names}, event_date) {new}")

    def executemany(self) -> None:
        for day, values in self.values():
            places = ", ".join(["%s"] * len(self.columns))
            new = f"VALUES ({places}, '{day}') ON CONFLICT DO NOTHING"
            statement = f"INSERT INTO bench.events ({self.names}, event_date) {new}"
            with self.connection.transaction():
                self.connection.cursor().executemany(statement, values)

    def values(self) -> Iterator[tuple[date, list[tuple[Any, ...]]]]:
        from arro3.io import read_parquet

        for day, body, _ in self.files:
            table = read_parquet(BytesIO(body)).read_all()
            yield day, list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


if __name__ == "__main__":
    main()
