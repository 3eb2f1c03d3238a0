"""What a month costs after a year, for the three senders: counts of `make bench ONLY=lake` (counts.json) times prices.

python -m benchmarks.monthly [.local/bench/counts.json]

writes the tables of docs/cost.md, and that of what questions read in docs/performance.md; with a file, counts.json
first. What is assumed and not counted stands below in capitals, and in docs/cost.md.
"""

import json
import sys
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.costs import (
    LCU_BYTES,
    LCU_CONNECTIONS,
    MEGABYTES_OF_ONE_PROCESSOR,
    MESSAGES_A_REQUEST,
    MILLION,
    PRICES,
)
from benchmarks.events import ROOT
from benchmarks.senders import SENDERS, Sender

COUNTS = Path(__file__).with_name("counts.json")
PAGE, READS = ROOT / "docs/cost.md", ROOT / "docs/performance.md"
BEGIN, END = "<!-- python -m benchmarks.monthly -->\n", "<!-- end -->\n"
# Questions of the documents, as the benchmark names them.
SPAN = "90"
PRICED = {
    "bounces by day": "bounces by day",
    "`complaint_rate_by_campaign`": "complaint_rate_by_campaign",
    "`recipient_engagement`": "recipient_engagement",
    "`list_export`": "list-export",
    "the report, all queries": "the report, all queries",
}
READ = {
    "bounces by day": "bounces by day",
    "`by_campaign`": "by_campaign",
    "`list_export`": "list-export",
    "the report, all queries": "the report, all queries",
}

HOURS = 730
DAYS = HOURS / 24
YEAR = 365
# Assumed: an answer of S3 or Glue, which a function waits for.
ANSWER_SECONDS = 0.1
# Assumed: lines of a function and of Lambda for each invocation.
LOG_BYTES = 1500
# Assumed: of ingest, process and the maintenance without faults, and of a sender with eleven types of event.
METRICS = 3 + 7 + 1 + 11
# Read and written at once: process.app, process.close_day.
PROCESS_READS, CLOSING_READS = 8, 16
# Lambda's long polling: each poller asks as often if nothing comes.
POLL_SECONDS = 20
# Days for which small files stay after their date was closed, and the date itself until then (process.day_state).
SMALL_FILES_STAY = 15
OPEN_DAYS = 1.5
LIST_PAGE = 1000
# Batches whose requests are computed: events in each, for the same senders by their events a day.
BATCH_SIZES = 20, 100, 350
# Of S3's requests to KMS under a key of the sender's own, Bucket Keys leave at best so many (AWS: "up to 99 %" fewer).
WITH_BUCKET_KEYS = 0.01
# Pollers to which Lambda reduces its own at little traffic, if there is no maximum concurrency.
FEWEST_POLLERS = 2
# States written besides one for each part and slice: begin, commit, announce, and one after the deletion.
SAVES = 4
KEPT = {
    "day": ("rows", "batches", "invocations", "files", "body_bytes", "small_bytes", "process_cpu"),
    "closed": ("files", "bytes", "slices", "parts", "cpu", "idle_cpu", "requests", "idle_requests"),
}


def main() -> None:
    if len(sys.argv) > 1:
        counts = kept(json.loads(Path(sys.argv[1]).read_text()))
        COUNTS.write_text(json.dumps(counts, indent=1) + "\n")
    counts = json.loads(COUNTS.read_text())
    rewrite(PAGE, [tables(counts), settings(counts["settings"]), priced(counts)])
    rewrite(READS, [read(counts)])


def rewrite(page: Path, written: list[str]) -> None:
    """Put each text between the next pair of marks."""
    done, rest = "", page.read_text()
    for text in written:
        before, _, rest = rest.partition(BEGIN)
        done += before + BEGIN + text + END
        rest = rest.partition(END)[2]
    page.write_text(done + rest)


def kept(counts: Mapping[str, Any]) -> dict[str, Any]:
    """What the tables need, without figures that no reader can tell apart."""
    days = {
        sender: {part: {name: rounded(day[part][name]) for name in names} for part, names in KEPT.items()}
        for sender, day in counts["days"].items()
    }
    for sender, day in counts["days"].items():
        days[sender]["closed"]["sample_pages"] = ceil(day["made"]["files"] / LIST_PAGE)
    wanted = {*PRICED.values(), *READ.values()}
    questions = {
        sender: {name: rounded_all(spans[SPAN][name]) for name in sorted(wanted)}
        for sender, spans in counts["questions"].items()
    }
    return {"settings": counts["settings"], "days": days, "questions": questions}


def rounded_all(layouts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {layout: {what: rounded(value) for what, value in one.items()} for layout, one in layouts.items()}


def rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and not value.is_integer() else value


# --- The model --------------------------------------------------------------------------------------------------------


def requests(day: Mapping[str, Any], closed: Mapping[str, Any], *, closing: bool) -> dict[str, float]:
    """Of a day: of S3 by ingest and process, and of S3 and Glue by the maintenance."""
    idle = closed["idle_requests"]
    pages = ceil(day["files"] / LIST_PAGE)
    found = {
        "puts": day["batches"] + day["files"],
        "gets": day["batches"],
        # Of an hour in which one date had a state and small files; without closing, dates have neither read.
        "maintenance puts": 24 * idle["put"],
        "maintenance gets": 24 * (idle["get"] - 1),
        "maintenance lists": 24 * (idle["list"] - closed["sample_pages"]),
        "maintenance glue": 24 * idle["glue"],
    }
    if closing:
        found["maintenance gets"] += 24 * SMALL_FILES_STAY
        found["maintenance lists"] += 24 * SMALL_FILES_STAY * pages
        found["maintenance glue"] += 1
        found["closing puts"] = closed["files"] + 2 * closed["parts"] + closed["slices"] + SAVES
        found["closing gets"] = day["files"] + closed["files"] + closed["parts"] * closed["slices"]
    return found


def seconds(day: Mapping[str, Any], closed: Mapping[str, Any], memory: Mapping[str, int], *, closing: bool) -> Any:
    """How long each function runs in a day; processor time as measured, slower where a function has less of one."""
    asked = requests(day, closed, closing=closing)
    slower = {name: max(1, MEGABYTES_OF_ONE_PROCESSOR / megabytes) for name, megabytes in memory.items()}
    waits = day["invocations"] * (1 + ceil(day["batches"] / day["invocations"] / PROCESS_READS))
    hours = sum(count for name, count in asked.items() if name.startswith("maintenance"))
    found = {
        "ingest": day["batches"] * ANSWER_SECONDS,
        "process": day["process_cpu"] * slower["process"] + waits * ANSWER_SECONDS,
        "maintenance": (24 * closed["idle_cpu"]) * slower["maintenance"] + hours * ANSWER_SECONDS,
    }
    if closing:
        others = asked["closing gets"] - day["files"] + asked["closing puts"]
        waited = day["files"] / CLOSING_READS + others
        found["maintenance"] += closed["cpu"] * slower["maintenance"] + waited * ANSWER_SECONDS
    return found


def month(one: Mapping[str, Any], settings: Mapping[str, Any], prices: Mapping[str, Any], *, closing: bool) -> Any:
    """US dollars by what is paid for, a year after the first event."""
    price = {name: value["price"] for name, value in prices.items()}
    day, closed, memory = one["day"], one["closed"], settings["memory_megabytes"]
    asked = requests(day, closed, closing=closing)
    took = seconds(day, closed, memory, closing=closing)

    def function(name: str, invocations: float) -> float:
        gigabyte_seconds = took[name] * memory[name] / 1024
        return DAYS * (invocations * price["lambda_request"] + gigabyte_seconds * price["lambda_gb_second_x86_64"])

    def of(kind: str) -> float:
        return sum(count for name, count in asked.items() if name.endswith(kind))

    receives = 2 * max(day["invocations"], day["batches"] / MESSAGES_A_REQUEST)
    empty = settings["pollers"] * 86_400 / POLL_SECONDS
    lcu_hours = max(day["body_bytes"] / LCU_BYTES, day["batches"] / LCU_CONNECTIONS)
    small_days = SMALL_FILES_STAY + OPEN_DAYS if closing else YEAR
    rows_bytes = day["small_bytes"] * small_days + (closed["bytes"] * YEAR if closing else 0)
    logs = (day["batches"] + day["invocations"] + 24) * LOG_BYTES
    return {
        "load balancer, hours": HOURS * price["alb_hour"],
        "alarms, metrics, secrets": settings["alarms"] * price["alarm_month"]
        + METRICS * price["metric_month"]
        + settings["secrets"] * price["secret_month"],
        "load balancer, bytes": DAYS * lcu_hours * price["alb_lcu_hour"],
        "ingest": function("ingest", day["batches"]),
        "process": function("process", day["invocations"]),
        "maintenance": function("maintenance", 24),
        "S3 puts": DAYS * of("puts") * price["s3_put"],
        "S3 gets": DAYS * of("gets") * price["s3_get"],
        "S3 lists": DAYS * of("lists") * price["s3_list"],
        "Glue": DAYS * of("glue") * price["glue_request"],
        "queue": DAYS * (day["batches"] + receives + empty) * price["sqs_request"],
        "RowsTopic": DAYS * day["files"] * price["sns_publish"],
        "logs": DAYS * logs / 2**30 * price["logs_gb"],
        "raw batches, stored": day["body_bytes"] * YEAR / 2**30 * price["s3_gb_month"],
        "rows, stored": rows_bytes / 2**30 * price["s3_gb_month"],
    }


def small_batches(sender: Sender, size: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """US dollars for a million events in batches of `size`, by what is paid for and by what is saved (below zero)."""
    price = {name: one["price"] for name, one in json.loads(PRICES.read_text())["prices"].items()}
    batches = MILLION / size
    # What comes while a poller's window is open, if batches come evenly through the day.
    more = sender.events / size / 86_400 * settings["window_seconds"] / settings["pollers"]
    invocations = batches / min(settings["batch_size"], 1 + more)
    days = MILLION / sender.events
    polls = 86_400 / POLL_SECONDS * days * price["sqs_request"]
    # Each raw batch and each small file is written once and read once.
    of_kms = 2 * (batches + invocations) * price["kms_request"]
    return {
        "put of each batch, before its 200": batches * price["s3_put"],
        "its announcement: S3 asks nothing, the queue a request": batches * price["sqs_request"],
        "its receipt and deletion, up to ten at a time": 2
        * max(invocations, batches / MESSAGES_A_REQUEST)
        * price["sqs_request"],
        "put of each small file": invocations * price["s3_put"],
        "*saved by the window*: a file for each batch": -(batches - invocations) * price["s3_put"],
        "empty receives, each after 20 s": settings["pollers"] * polls,
        "*would be saved without a maximum concurrency*: two pollers": -(settings["pollers"] - FEWEST_POLLERS) * polls,
        "*saved by 20 s of long polling*, beside 1 s": -settings["pollers"] * polls * (POLL_SECONDS - 1),
        "encryption: S3's and the queue's own keys": 0.0,
        "encryption: `KmsKeyArn`, requests to KMS": of_kms * WITH_BUCKET_KEYS,
        "*saved by Bucket Keys*": -of_kms * (1 - WITH_BUCKET_KEYS),
        "lifecycle: expiry of batches and of old versions": 0.0,
    }


# --- The tables -------------------------------------------------------------------------------------------------------


def tables(counts: Mapping[str, Any]) -> str:
    prices = json.loads(PRICES.read_text())["prices"]
    settings = counts["settings"]
    how = (
        f"Counted with a window of {settings['window_seconds']} s and at most {settings['batch_size']} messages for an "
        f"invocation of process, {settings['pollers']} pollers, {settings['alarms']} alarms and "
        f"{settings['secrets']} secrets."
    )
    return f"\n{how}\n\n{counted(counts)}\n{paid(counts, prices)}\n"


def counted(counts: Mapping[str, Any]) -> str:
    days = counts["days"]
    lines = row("A day", days) + row("---", ["--:"] * len(days))
    of_day = {
        "batches = invocations of ingest = puts of raw batches": "batches",
        "invocations of process": "invocations",
        "puts of rows (small files)": "files",
    }
    for what, name in of_day.items():
        lines += row(what, [whole(one["day"][name]) for one in days.values()])
    for what, closing in (("with closing", True), ("without", False)):
        asked = [requests(one["day"], one["closed"], closing=closing) for one in days.values()]
        for kind in ("puts", "gets", "lists", "glue"):
            totals = [sum(count for name, count in one.items() if name.endswith(kind)) for one in asked]
            lines += row(f"{kind if kind != 'glue' else 'requests of Glue'} in all, {what}", map(whole, totals))
        took = [
            seconds(one["day"], one["closed"], counts["settings"]["memory_megabytes"], closing=closing)
            for one in days.values()
        ]
        lines += row(f"seconds that the maintenance runs, {what}", [whole(one["maintenance"]) for one in took])
    lines += row("objects of a closed day", [whole(one["closed"]["files"]) for one in days.values()])
    lines += row("MB of rows as small files", [whole(one["day"]["small_bytes"] / 1e6) for one in days.values()])
    lines += row("MB of rows when closed", [amount(one["closed"]["bytes"] / 1e6) for one in days.values()])
    return lines


def paid(counts: Mapping[str, Any], prices: Mapping[str, Any]) -> str:
    days, settings = counts["days"], counts["settings"]
    both = {
        closing: [month(one, settings, prices, closing=closing) for one in days.values()] for closing in (True, False)
    }
    lines = row("USD a month, after a year", days) + row("---", ["--:"] * len(days))
    for name in both[True][0]:
        with_closing, without = ([amount(one[name]) for one in both[closing]] for closing in (True, False))
        lines += row(name, with_closing)
        if with_closing != without:
            lines += row(f"{name}, without closing", without)
    lines += row("**in all**", [f"**{amount(sum(one.values()))}**" for one in both[True]])
    return lines + row("**in all, without closing**", [f"**{amount(sum(one.values()))}**" for one in both[False]])


def settings(of_template: Mapping[str, Any]) -> str:
    """For each size of a batch, the three senders; one figure where they are equal."""
    lines = row("USD for a million events, computed", [f"{size} events a batch" for size in BATCH_SIZES])
    lines += row("---", ["--:"] * len(BATCH_SIZES))
    found = {size: [small_batches(one, size, of_template) for one in SENDERS] for size in BATCH_SIZES}
    for what in found[BATCH_SIZES[0]][0]:
        cells = ([thousandths(abs(one[what])) for one in found[size]] for size in BATCH_SIZES)
        lines += row(what, [" / ".join(cell if len(set(cell)) > 1 else cell[:1]) for cell in cells])
    return f"\n{lines}\n"


def thousandths(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 or not value else f"{value:.0e}".replace("e-0", "e-")


def priced(counts: Mapping[str, Any]) -> str:
    questions = counts["questions"]
    lines = row("USD a question, before closing → after", questions) + row("---", ["--:"] * len(questions))
    for shown, name in PRICED.items():
        lines += row(shown, [arrow(one[name], lambda read: dollars(read["price"])) for one in questions.values()])
    return f"\n{lines}\n"


def read(counts: Mapping[str, Any]) -> str:
    columns = ["scans", "objects", "MB read", "requests"]
    lines = row(f"{SPAN} days, computed: before → after", columns) + row("---", ["--:"] * len(columns))
    for sender, found in counts["questions"].items():
        for shown, name in READ.items():
            first = f"{sender.removesuffix(' a day')}: {shown}" if shown == next(iter(READ)) else shown
            one = found[name]
            cells = [
                arrow(one, lambda read: whole(read["objects"])),
                arrow(one, lambda read: whole(read["bytes"] / 1e6)),
                arrow(one, lambda read: whole(read["gets"] + read["lists"])),
            ]
            lines += row(first, [whole(next(iter(one.values()))["scans"]), *cells])
    return f"\n{lines}\n"


def arrow(layouts: Mapping[str, Any], shown: Callable[[Mapping[str, float]], str]) -> str:
    """Of small files and of closed ones, in this order."""
    return " → ".join(shown(one) for one in layouts.values())


def dollars(value: float) -> str:
    return f"{value:.2f}" if value >= 0.02 else f"{value:.1g}"


def row(first: str, rest: Any) -> str:
    return "| " + " | ".join([first, *rest]) + " |\n"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.01 else f"{value:.4f}"


if __name__ == "__main__":
    main()
