"""What questions of the lake read: days, columns, row groups; and what one of them takes in DuckDB. A child.

python -m benchmarks.questions     reads {"do": "scans" | "count" | "run" | "report", …} from its standard input

DuckDB's plan tells the days, columns and event types of each scan of `events`. Each mention of a CTE is a scan of its
own, as in Athena (Trino, "WITH clause": it "will be inlined anywhere the named relation is used"). The files' own
footers tell how many bytes these columns have, in row groups whose smallest and largest `type` allow one of the types.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

BOUNCES = "bounces by day"
BOUNCES_SQL = """
    SELECT event_date, count(*) FROM events_deduplicated
    WHERE event_date >= current_date - interval '30' day AND type = 'bounce' GROUP BY event_date"""
# What these do depends on the data, which here is one file.
NOT_WANTED = "statistics_propagation,common_subplan,empty_result_pullup"
_TYPES = re.compile(r"\(*\"?type\"? (?:=|IN) (\(?'[^()]*'\)?)\)*")


def main() -> None:
    wanted = json.load(sys.stdin)
    print(json.dumps({"scans": scans, "count": count, "run": run, "report": report}[wanted.pop("do")](**wanted)))


def connection(glob: str, views: dict[str, str], today: str) -> Any:
    import duckdb

    found = duckdb.connect()
    found.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{glob}', hive_partitioning = true)")  # noqa: S608
    for name, sql in views.items():
        found.execute(f"CREATE VIEW {name} AS {at(sql, today)}")
    return found


def at(sql: str, today: str) -> str:
    return sql.replace("current_date", f"DATE '{today}'")


def scans(glob: str, views: dict[str, str], today: str, questions: dict[str, str]) -> dict[str, Any]:
    """The columns, types and days of each scan of `events`, by question; no days are all there are."""
    asked = connection(glob, {name: inlined(sql) for name, sql in views.items()}, today)
    asked.execute(f"SET disabled_optimizers = '{NOT_WANTED}'")
    answer = {}
    for name, sql in questions.items():
        [(_, plan)] = asked.execute(f"EXPLAIN (FORMAT json) {at(inlined(sql), today)}").fetchall()
        answer[name] = [scan for root in json.loads(plan) for scan in leaves(root, [])]
    return answer


def inlined(sql: str) -> str:
    """Athena runs a CTE as often as it is named; DuckDB would keep its rows."""
    return re.sub(r"(\bWITH|,)(\s+\w+ AS) \(", r"\1\2 NOT MATERIALIZED (", sql)


def leaves(node: dict[str, Any], filters: list[str]) -> Iterator[dict[str, Any]]:
    info = node.get("extra_info", {})
    if node["name"].strip() == "READ_PARQUET":
        own = info.get("Filters", [])
        conditions = [*filters, *([own] if isinstance(own, str) else own)]
        projected = info.get("Projections", [])
        columns = {projected} if isinstance(projected, str) else set(projected)
        columns |= {"type"} if types_in(conditions) else set()
        read = info.get("Scanning Files", "").partition("/")[0]
        yield {
            "columns": sorted(columns - {"event_date"}),
            "types": types_in(conditions),
            "days": int(read) if read else None,
        }
    below = [*filters, info["Expression"]] if node["name"] == "FILTER" and "Expression" in info else []
    for inner in node["children"]:
        yield from leaves(inner, below)


def types_in(conditions: list[str]) -> list[str] | None:
    """The types that all conditions allow; None for any."""
    allowed: set[str] | None = None
    for condition in conditions:
        for part in re.split(r" AND ", condition):
            found = _TYPES.fullmatch(part.strip().lstrip("(").removeprefix("optional: "))
            if found:
                some = set(re.findall(r"'([^']*)'", found[1]))
                allowed = some if allowed is None else allowed & some
    return None if allowed is None else sorted(allowed)


def count(files: list[str], scans: list[dict[str, Any]]) -> list[dict[str, int]]:
    """For each scan: bytes of the footers and of the columns that are read of these files, and row groups read."""
    import pyarrow.parquet as pq

    answer = [{"footers": 0, "columns": 0, "row_groups": 0} for _ in scans]
    for file in files:
        metadata = pq.read_metadata(file)
        place = {metadata.schema.column(index).name: index for index in range(metadata.num_columns)}
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        sizes = [{name: group.column(index).total_compressed_size for name, index in place.items()} for group in groups]
        limits = [group.column(place["type"]).statistics for group in groups]
        for one, scan in zip(answer, scans, strict=True):
            one["footers"] += metadata.serialized_size + 8
            for columns, limit in zip(sizes, limits, strict=True):
                if allows(limit, scan["types"]):
                    one["row_groups"] += 1
                    one["columns"] += sum(columns[name] for name in scan["columns"])
    return answer


def allows(limits: Any, types: list[str] | None) -> bool:
    if types is None or limits is None or not limits.has_min_max:
        return True
    return any(limits.min <= one <= limits.max for one in types)


def report(days: int, today: str) -> dict[str, str]:
    """The report's own queries, for a period of so many days."""
    from report.queries import Period, queries
    from report.rules import Thresholds

    until = datetime.fromisoformat(today)
    statements = queries(Period(until - timedelta(days=days), until), Thresholds().least_volume)
    return {f"report: {name}": sql for name, sql in statements.items()}


def run(glob: str, views: dict[str, str], today: str, sql: str) -> dict[str, float]:
    """Once in this process, which has read nothing before; the files may be in the system's cache."""
    asked = connection(glob, views, today)
    before, wall = cpu(), time.perf_counter()
    rows = asked.execute(at(sql, today)).fetchall()
    return {
        "cpu": cpu() - before,
        "wall": time.perf_counter() - wall,
        "rows": len(rows),
        "sum": sum(r[1] for r in rows),
    }


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
