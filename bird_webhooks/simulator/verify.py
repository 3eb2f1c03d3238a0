"""The ledger against the lake: every accepted event once in the deduplicating view, each value equal, nothing else.

What a row should hold is worked out here once more from what was sent, in the simplest way, with nothing of process.
"""

import csv
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import close
from bird_webhooks.simulator.batches import Batch
from bird_webhooks.simulator.ledger import ACCEPTED, Ledger
from bird_webhooks.stack import Stack
from report.athena import Athena

VIEW = "events_deduplicated"
QUERY_TIMEOUT_SECONDS = 300
RESULT_FILE_SECONDS = 30
VISIBLE_AFTER_SECONDS = 60  # later than rows take to be written
ROWS_AT_A_TIME = 20_000  # more come day by day, for the machine's sake
MAX_EXAMPLES = 20
NULL = r"\N"  # Athena's result files do not tell null from an empty text

NUMBERS = {"template_version", "ab_test_version", "msg_size", "queue_time", "num_retries", "outbound_tls"}
NUMBERS |= {"bounce_class", "geo_ip_latitude", "geo_ip_longitude", "geo_ip_zip", "sms_segments", "dr_latency"}
NUMBERS |= {"number_succeeded", "number_duplicates", "number_failed"}
FLAGS = {"transactional", "open_tracking", "click_tracking", "initial_pixel", "amp_enabled", "retryable"}
FLAGS |= {"user_agent_parsed_is_mobile", "user_agent_parsed_is_proxy", "user_agent_parsed_is_prefetched"}
TIMES = {"timestamp", "injection_time", "scheduled_time", "expiration_timestamp"}
JSON = {"ab_test", "rcpt_meta", "rcpt_tags", "rcpt_subs", "sms_remoteids"}
FLATTENED = {"geo_ip", "user_agent_parsed"}
OURS = {"event_class", "event_key", "batch_id", "received_at", "event_date", "extra"}

Row = dict[str, str | None]
Key = tuple[str | None, str, str, str]  # account, class, type, event key


@dataclass(frozen=True)
class Lake:
    """Where the rows are, and the Athena that reads them."""

    athena: Athena
    s3: Any
    stack: Stack | None = None  # whose maintenance is asked to make rows visible before its next hour

    @classmethod
    def of(cls, stack: Stack) -> "Lake":
        return cls(stack.athena(QUERY_TIMEOUT_SECONDS), stack.s3, stack)

    def make_visible(self, days: Iterable[date]) -> None:
        """Rows of dates that are closed, or more than a month away. Without the right to, they are waited for."""
        if self.stack and "TableMaintenanceFunctionArn" in self.stack.outputs:
            with suppress(ClientError, OperateError):
                close.make_visible(self.stack, days)

    def columns(self) -> list[tuple[str, str]]:
        """The view's (name, type)."""
        answer = self.athena.client.get_table_metadata(
            CatalogName="AwsDataCatalog", DatabaseName=self.athena.database, TableName=VIEW
        )
        return [(column["Name"], column.get("Type", "")) for column in answer["TableMetadata"]["Columns"]]

    def query(self, sql: str) -> Iterator[Row]:
        """The rows of one statement, from the result file, which is far quicker to read than page by page."""
        file = self.result_file(self.athena.result_file(sql))
        text = self.s3.get_object(**file)["Body"].read().decode()
        csv.field_size_limit(sys.maxsize)
        yield from csv.DictReader(StringIO(text, newline=""))

    def result_file(self, location: str) -> dict[str, str]:
        """Bucket and key. The local Athena puts the file a folder deeper, and a moment after it said SUCCEEDED."""
        place = urlsplit(location)
        bucket, name = place.netloc, place.path.rpartition("/")[2]
        deadline = time.monotonic() + RESULT_FILE_SECONDS
        while time.monotonic() < deadline:
            listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=place.path.lstrip("/")).get("Contents", [])
            for item in listed:
                if item["Key"].endswith(name):
                    return {"Bucket": bucket, "Key": item["Key"]}
            time.sleep(0.2)
        raise OperateError(f"Athena has put no result file at {location}")


@dataclass
class Verification:
    """Events, counted. It `closes` if nothing is lost, doubled, made up or altered."""

    sent: int = 0
    accepted: int = 0
    found: int = 0
    lost: int = 0
    duplicated: int = 0
    invented: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def closes(self) -> bool:
        return not (self.lost or self.duplicated or self.invented or self.different)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {"closes": self.closes, **vars(self)}

    def note(self, text: str) -> None:
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(text)

    def __str__(self) -> str:
        counts = f"{self.lost} lost, {self.duplicated} duplicated, {self.invented} invented, {self.different} altered"
        lines = [
            f"events        {self.sent} sent, {self.accepted} of them in accepted batches, {self.found} found",
            f"ledger        {'closes' if self.closes else 'DOES NOT CLOSE'}: {counts}",
        ]
        return "\n".join(lines + [f"              {example}" for example in self.examples])


def verify(
    ledger: Ledger, lake: Lake, *, wait_seconds: float, alone: bool = False, progress: Callable[[str], None] = print
) -> Verification:
    """Wait for the rows, then compare them all. `alone`: the lake holds nothing but this ledger's events."""
    result = Verification()
    sent: dict[Key, tuple[str, str, bool]] = {}  # (batch id, the event as sent, whether its batch was accepted)
    customers: set[str | None] = set()
    for batch in ledger.batches():
        accepted = ledger.outcomes[batch.batch_id] == ACCEPTED
        for event_class, event in events_of(batch):
            key = key_of(event_class, event)
            customers.add(key[0])
            sent[key] = (batch.batch_id, compact(event), accepted)
            result.accepted += accepted
    result.sent = len(sent)
    scope = (
        "TRUE" if alone else f"coalesce(customer_id, '') IN ({', '.join(sorted(literal(c or '') for c in customers))})"
    )
    if not alone:
        scope += f" AND event_date BETWEEN DATE {literal(first_day(sent))} AND DATE {literal(days_from_now(1))}"
    days = wait_for(lake, scope, result.accepted, wait_seconds, progress, days_of(sent))
    seen: Counter[Key] = Counter()
    by_day = [f"{scope} AND event_date = DATE {literal(day)}" for day in sorted(days)]
    for part in by_day if sum(days.values()) > ROWS_AT_A_TIME else [scope]:
        for row in rows_of(lake, part):
            key = row["customer_id"], str(row["event_class"]), str(row["type"]), str(row["event_key"])
            seen[key] += 1
            if key not in sent:
                result.invented += 1
                result.note(f"not sent: {key}")
                continue
            batch_id, text, _ = sent[key]
            wrong = list(differences(row, batch_id, key[1], json.loads(text)))
            if wrong:
                result.different += 1
                result.note(f"altered: {key}: {', '.join(wrong)}")
    result.found = seen.total()
    for key, (_, _, accepted) in sent.items():
        if accepted and key not in seen:
            result.lost += 1
            result.note(f"lost: {key}")
    for key, times in seen.items():
        if times > 1:
            result.duplicated += 1
            result.note(f"{times} times: {key}")
    return result


def wait_for(
    lake: Lake, scope: str, wanted: int, wait_seconds: float, progress: Callable[[str], None], dates: set[date]
) -> dict[str, int]:
    """Rows by day, as soon as there are as many as wanted, or when the time is over. `dates`: of the events."""
    deadline = time.monotonic() + wait_seconds
    visible_at = time.monotonic() + VISIBLE_AFTER_SECONDS
    while True:
        began = time.monotonic()
        sql = f"SELECT event_date, count(*) AS rows_found FROM {VIEW} WHERE {scope} GROUP BY event_date"  # noqa: S608
        days = {str(row["event_date"]): int(row["rows_found"] or 0) for row in lake.query(sql)}
        progress(f"{sum(days.values())} of {wanted} events found")
        if sum(days.values()) >= wanted or time.monotonic() > deadline:
            return days
        if time.monotonic() > visible_at:
            lake.make_visible(dates)
            visible_at = time.monotonic() + VISIBLE_AFTER_SECONDS
        time.sleep(max(1, time.monotonic() - began))  # as long as it took: the rows need the machine too


def rows_of(lake: Lake, scope: str) -> Iterator[Row]:
    columns = lake.columns()
    chosen = [f"coalesce({name}, '{NULL}') AS {name}" if kind == "string" else name for name, kind in columns]
    texts = {name for name, kind in columns if kind == "string"}
    for row in lake.query(f"SELECT {', '.join(chosen)} FROM {VIEW} WHERE {scope}"):  # noqa: S608
        yield {name: None if value == (NULL if name in texts else "") else value for name, value in row.items()}


def events_of(batch: Batch) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events in a batch; what is none belongs to quarantine and not into rows."""
    try:
        elements = json.loads(batch.body)
    except (ValueError, RecursionError):
        return
    for element in elements if isinstance(elements, list) else []:
        match element:
            case {"msys": dict(classes)} if len(classes) == 1:
                [(event_class, event)] = classes.items()
                if isinstance(event, dict):
                    yield event_class, event


def key_of(event_class: str, event: dict[str, Any]) -> Key:
    account = event.get("customer_id")
    event_key = event.get("event_id") or hashlib.sha256(compact(event).encode()).hexdigest()
    return None if account is None else str(account), event_class, str(event["type"]), event_key


def compact(value: Any) -> str:
    """JSON as the simulator writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def differences(row: Row, batch_id: str, event_class: str, event: dict[str, Any]) -> Iterator[str]:
    """The columns that do not hold what was sent."""
    fields = {"ingest_batch_id" if name == "batch_id" else name: value for name, value in event.items()}
    extra: dict[str, Any] = {}
    for name in FLATTENED & fields.keys():
        for member, value in fields.pop(name).items():
            if f"{name}_{member}" in row:
                fields[f"{name}_{member}"] = value
            else:
                extra.setdefault(name, {})[member] = value
    extra |= {name: value for name, value in fields.items() if name not in row or name in OURS}
    safe = re.fullmatch(r"[A-Za-z0-9._-]{1,128}", batch_id) and batch_id.strip(".")
    expected_batch = batch_id if safe else "sha256-" + hashlib.sha256(batch_id.encode()).hexdigest()
    if row["event_class"] != event_class:
        yield "event_class"
    if row["batch_id"] != expected_batch:
        yield "batch_id"
    if json.loads(row["extra"] or "{}") != extra:
        yield "extra"
    if moment_of(row["received_at"]) is None:
        yield "received_at"
    if "timestamp" in event and row["event_date"] != moment(event["timestamp"]).date().isoformat():
        yield "event_date"
    for name, value in row.items():
        if name not in OURS and not equal(name, fields.get(name), value):
            yield name


def equal(name: str, sent: Any, found: str | None) -> bool:
    if sent is None or found is None:
        return sent is None and found is None
    if name in NUMBERS:
        return float(sent) == float(found)
    if name in FLAGS:
        return (sent in (True, "1", 1, "true")) == (found.lower() == "true")
    if name in TIMES:
        return moment(sent) == moment_of(found)
    if name in JSON:
        return compact(sent) == found
    return str(sent) == found


def moment(sent: str | float) -> datetime:
    """From Unix seconds or ISO 8601."""
    if isinstance(sent, str) and "T" in sent:
        return datetime.fromisoformat(sent)
    return datetime.fromtimestamp(float(sent), UTC)


def moment_of(found: str | None) -> datetime | None:
    """A timestamp as Athena writes it: UTC, said or not."""
    if found is None:
        return None
    parsed = datetime.fromisoformat(found.removesuffix(" UTC"))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def first_day(sent: dict[Key, tuple[str, str, bool]]) -> str:
    return min(days_of(sent), default=datetime.now(UTC).date()).isoformat()


def days_of(sent: dict[Key, tuple[str, str, bool]]) -> set[date]:
    moments = [json.loads(event).get("timestamp") for _, event, _ in sent.values()]
    return {moment(value).date() for value in moments if value}


def days_from_now(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
