"""Lake files into PostgreSQL: load_postgres compared with plain COPY of the same rows, and with simple loaders.

python -m benchmarks.postgres '{"files": […], "arrivals": […], "rounds": 3}'

One real server on this machine, one connection each, the same rows into the same table with its indexes, emptied before
each turn. The server does not wait for the disk (fsync off), which helps all contenders equally. COPY gets finished
CSV, and would fail at the first event that exists already.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.events import Input, prepare
from benchmarks.measure import BUILT, Measures, Run, child, environment, goal

OURS = "ours: from Parquet to committed rows"
STAGED = "ours, one row of each file there already: staging, ON CONFLICT"
KNOWN_ROWS = "ours, every row there already, in other files"
AGAIN = "ours, the same files again"
COPY = "plain COPY of ready-made CSV"
COPY_BARE = "the same, no index on the table"
WRITE_ROW = "Python rows by write_row, staging, ON CONFLICT"
EXECUTEMANY = "executemany, ON CONFLICT"
OF_COPY = 0.75
CONTENDERS = [OURS, STAGED, KNOWN_ROWS, AGAIN, COPY, COPY_BARE, WRITE_ROW, EXECUTEMANY]


def measure(run: Run) -> list[Measures]:
    wanted = Input(batches=3, days=1) if run.quick else Input(batches=100, days=1)
    files = prepare(wanted)
    run.progress(f"postgres: {wanted.batches * wanted.events:,} events")
    arguments = {
        "files": [str(path) for path in files],
        "arrivals": [wanted.arrival(number) * 1000 for number in range(wanted.batches)],
        "rounds": run.rounds(2),
    }
    # process makes the files and load_postgres loads them, so both artefacts; their packages have the same versions.
    env = environment("LoadPostgresFunction")
    env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{BUILT / 'ProcessFunction'}"
    got = child("postgres", arguments, env)
    measures = Measures("postgres")
    for name in CONTENDERS:
        for seconds in got["seconds"][name]:
            note = f"{got['rows']:,} rows in {got['files']} files, one connection; server and client share the cores"
            measures.add("events a second", "events", name, got["rows"] / seconds, higher_is_better=True, note=note)
    times = {name: median(got["seconds"][name]) for name in CONTENDERS}
    run.goals.append(goal(times[COPY] / times[OURS], OF_COPY, f"postgres: speed beside {COPY}"))
    run.goals.append(
        f"{'no goal':12} {times[COPY] / times[AGAIN]:8.0f}  postgres: the same for {AGAIN.removeprefix('ours, ')}"
    )
    return [measures]


def main() -> None:
    from local_aws import postgres as local_postgres

    wanted = json.load(sys.stdin)
    files = lake_files(wanted["files"], wanted["arrivals"])
    with local_postgres.running() as server:
        bench = Bench(server, files)
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for number in range(wanted["rounds"]):
            for position in range(len(CONTENDERS)):
                name = CONTENDERS[(position + number) % len(CONTENDERS)]
                seconds[name].append(bench.time(name))
        bench.close()
    rows = sum(count for _, _, count in files)
    print(json.dumps({"rows": rows, "files": len(files), "seconds": seconds}))


def lake_files(paths: list[str], arrivals: list[int]) -> list[tuple[date, bytes, int]]:
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


class Bench:
    def __init__(self, server: Any, files: list[tuple[date, bytes, int]]) -> None:
        from load_postgres.database import Database
        from load_postgres.rows import rows_of

        secret = server.secret()
        self.files = files
        self.database = Database(lambda: secret, "bench", verify=True)
        self.csv = [(day, rows_of(key_of(day, 0), body)) for day, body, _ in files]
        self.database.load(*self.csv[0])  # makes the table
        self.connection = server.connect()
        self.columns = self.csv[0][1].columns[:-1]  # without event_date, which is not in the files
        self.names = ", ".join(self.columns)
        self.connection.execute("CREATE TABLE bench.bare (LIKE bench.events)")
        self.connection.execute("CREATE TEMPORARY TABLE staging (LIKE bench.events) ON COMMIT DELETE ROWS")
        self.connection.execute("ALTER TABLE staging ALTER event_date DROP NOT NULL")

    def close(self) -> None:
        self.database.close()
        self.connection.close()

    def time(self, name: str) -> float:
        """Seconds for all files, into a table that is empty but for what the name says."""
        self.connection.execute("TRUNCATE bench.events, bench.bare, bench.files_loaded")
        if name in (AGAIN, KNOWN_ROWS):
            self.ours()
        if name == STAGED:
            self.last_rows()
        if name != AGAIN:
            self.connection.execute("TRUNCATE bench.files_loaded")
        run: dict[str, Callable[[], None]] = {
            OURS: self.ours,
            STAGED: self.ours,
            KNOWN_ROWS: self.ours,
            AGAIN: self.ours,
            COPY: partial(self.copy, "bench.events"),
            COPY_BARE: partial(self.copy, "bench.bare"),
            WRITE_ROW: self.write_row,
            EXECUTEMANY: self.executemany,
        }
        began = time.perf_counter()
        run[name]()
        return time.perf_counter() - began

    def ours(self) -> None:
        """As the handler does, with the files at hand."""
        from load_postgres.rows import rows_of
        from load_postgres.table import Mark

        for number, (day, body, _) in enumerate(self.files):
            mark = Mark(key_of(day, number), "etag")
            if not self.database.is_loaded(day, mark):
                self.database.load(day, rows_of(mark.file, body), mark=mark)

    def last_rows(self) -> None:
        """The last row of each file alone: the most expensive place for one that is there already."""
        from load_postgres.rows import from_table, read_table

        for day, body, count in self.files:
            self.database.load(day, from_table(read_table(body).slice(count - 1, 1), day))

    def copy(self, table: str) -> None:
        for _, rows in self.csv:
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
