"""`bird-webhooks compare`: whether an old source and the stack have the same events of a time, and the same values.

What process would make of the source is held against the rows of the lake, by hour and type of the events' own time, so
that it does not matter when either of them got an event. Both are kept on the disk meanwhile.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bird_webhooks.moving import forms, splitting
from bird_webhooks.moving.accounts import OnlyAccount
from bird_webhooks.moving.erased import is_erased
from bird_webhooks.moving.forms import Found, Refusal
from bird_webhooks.moving.lake_rows import ORIGIN, LakeRows, Row, canonical
from bird_webhooks.moving.sources import STACK_ERRORS, Entry, NotReadError, Source, shown
from bird_webhooks.operate import tombstone
from bird_webhooks.operate.quarantine import clean
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, print_json
from process.columns import COLUMNS, JSON, TEXT
from report.figures import masked

SHOWN = 20
MAX_SHOWN_CHARACTERS = 150
ROWS_AT_ONCE = 500
HOUR = timedelta(hours=1)
WITHOUT = (*ORIGIN, "event_key")
OLD, NEW = "old", "new"
# Numbers, flags and times are shown too, but for a place. A value of any other column, also of those that Bird will
# add, may say who the recipient is: their address, number or metadata, what they read, where they were.
_HARMLESS = {
    *("event_class", "type", "customer_id", "subaccount_id", "message_id", "transmission_id", "campaign_id"),
    *("template_id", "ab_test_id", "rcpt_type", "recipient_domain", "routing_domain", "mailbox_provider"),
    *("mailbox_provider_region", "recv_method", "delv_method", "ip_pool", "sending_ip", "error_code", "reason"),
    *("fbtype", "relay_id", "origination", "stat_type", "stat_state", "ingest_batch_id", "error_type", "list_id"),
}
_PLACE = "geo_ip_"
SHOWN_COLUMNS = _HARMLESS | {
    column.name
    for column in COLUMNS
    if column.type not in (TEXT, JSON) and not column.name.startswith((_PLACE, "sms_"))
}


class Missing(NamedTuple):
    """An event that one side alone has; `batch` as that side names it."""

    hour: str
    type: str
    event: str
    batch: str


class Differing(NamedTuple):
    event: str
    column: str
    old: str
    new: str


@dataclass
class Answer:
    both: Counter[tuple[str, str]] = field(default_factory=Counter)
    only_old: list[Missing] = field(default_factory=list)
    only_new: list[Missing] = field(default_factory=list)
    differing: list[Differing] = field(default_factory=list)
    # Values that one side alone has, by column: a connector lacks some, and Bird's API has one more than the webhook.
    values_only_old: Counter[str] = field(default_factory=Counter)
    values_only_new: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)
    untimed: int = 0
    erased: int = 0  # events of persons who were erased, which the stack must not have

    @property
    def equal(self) -> bool:
        """A stack that lacks a value, an event that was not looked at, and an empty comparison prove nothing."""
        unequal = self.only_old or self.only_new or self.differing or self.values_only_old
        return not (unequal or self.refused or self.untimed) and bool(self.both)

    @property
    def sentence(self) -> str:
        both = sum(self.both.values())
        erased = f"; {self.erased:,} events of erased persons are left out" if self.erased else ""
        if self.equal:
            return f"equal: both have the same {both:,} events{erased}"
        if not (both or self.only_old or self.only_new or self.refused or self.untimed):
            return "nothing to compare: neither has an event of this time; look at the source's prefix and the time"
        parts = [f"{both:,} events are in both", f"{len(self.only_old):,} only in the old source"]
        parts += [f"{len(self.only_new):,} only in the stack", f"{len(self.differing):,} values differ"]
        more = {
            "values that the old source has are missing in the stack": self.values_only_old.total(),
            "events of the source have no time of their own, and are not compared": self.untimed,
            "objects or events of the source cannot be compared": len(self.refused),
        }
        said = [f"not equal: {', '.join(parts)}", *(f"{n:,} {what}" for what, n in more.items() if n)]
        return "; ".join(said) + erased


def run(stack: Stack, source: Source, since: datetime, until: datetime, *, account: str | None, as_json: bool) -> bool:
    """Whether both are equal; the answer is printed."""
    answer = compared(stack, source, since, until, account)
    if as_json:
        print_json(document(answer))
    else:
        for line in lines(answer):
            print(line)
    return answer.equal


def compared(stack: Stack, source: Source, since: datetime, until: datetime, account: str | None) -> Answer:
    answer, lake = Answer(), LakeRows(stack)
    with closing(sqlite3.connect("")) as database:
        for side in (OLD, NEW):
            columns = "id BLOB PRIMARY KEY, hour TEXT, type TEXT, event TEXT, batch TEXT, said TEXT, rank TEXT"
            database.execute(f"CREATE TABLE {side} ({columns})")
        _fill(database, OLD, _of_source(stack, source, since, until, account, answer))
        days = range((until.date() - since.date()).days + 1)
        rows = (row for number in days for row in lake.of_date(since.date() + timedelta(days=number)))
        inside = (row for row in rows if row.get("timestamp") and since <= row["timestamp"] < until)
        _fill(database, NEW, ((row, row["batch_id"] or "") for row in inside))
        _judge(database, answer)
    return answer


def _of_source(
    stack: Stack, source: Source, since: datetime, until: datetime, account: str | None, answer: Answer
) -> Iterator[tuple[Row, str]]:
    """Rows of the source, with the object that each is in. An object is written after its events happened."""
    only, lake, progress = OnlyAccount(stack, account), LakeRows(stack), Progress()
    erased = tombstone.read_all(stack)
    for number, entry in enumerate(source.entries(), 1):
        progress.show(f"reading the source: {number:,} objects")
        if entry.is_marker or (entry.modified and entry.modified < since - HOUR):
            continue
        some: list[bytes] = []
        name = shown(entry.name)
        for found in _events(source, entry, only, answer):
            if found.timestamp is None:
                answer.untimed += 1
            elif since.timestamp() <= found.timestamp / 1000 < until.timestamp():
                if is_erased(found, erased):
                    answer.erased += 1
                else:
                    some.append(found.element)
            if len(some) == ROWS_AT_ONCE:
                yield from ((row, name) for row in lake.of_elements(some, until))
                some = []
        yield from ((row, name) for row in lake.of_elements(some, until))
    progress.done()


def _events(source: Source, entry: Entry, only: OnlyAccount, answer: Answer) -> Iterator[Found]:
    try:
        opened = source.open(entry)
        for item in forms.read(opened.chunks, only, splitting.row_of(opened.metadata, entry.batch_id)):
            if isinstance(item, Found):
                yield item
            elif isinstance(item, Refusal):
                answer.refused.append((shown(entry.name), item.reason))
    except NotReadError as error:
        answer.refused.append((shown(entry.name), str(error)))
    except STACK_ERRORS:
        raise
    except Exception as error:
        answer.refused.append((shown(entry.name), forms.fault(error).reason))


def _fill(database: sqlite3.Connection, side: str, rows: Iterable[tuple[Row, str]]) -> None:
    """Of several copies of an event the one that the deduplicating view shows."""
    sql = (
        f"INSERT INTO {side} VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, "  # noqa: S608
        "said = excluded.said, rank = excluded.rank WHERE excluded.rank < rank"
    )
    for row, batch in rows:
        said = {name: _text(value) for name, value in canonical(row, WITHOUT).items()}
        key = row["event_id"] or hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        parts = (row["customer_id"] or "", row["event_class"], row["type"] or "", key)
        values = (
            hashlib.sha256("\n".join(parts).encode()).digest()[:16],
            f"{row['timestamp']:%Y-%m-%dT%H}",
            row["type"] or "",
            key,
            batch,
            json.dumps(said),
            json.dumps([_text(row["received_at"]), row["batch_id"], "extra" in said, row.get("extra")]),
        )
        database.execute(sql, values)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _judge(database: sqlite3.Connection, answer: Answer) -> None:
    for side, other, found in ((OLD, NEW, answer.only_old), (NEW, OLD, answer.only_new)):
        sql = f"SELECT hour, type, event, batch FROM {side} WHERE id NOT IN (SELECT id FROM {other}) ORDER BY 1, 2, 3"  # noqa: S608
        found += [Missing(hour, *map(shown, rest)) for hour, *rest in database.execute(sql)]
    sql = "SELECT old.hour, old.type, old.event, old.said, new.said FROM old JOIN new USING (id) ORDER BY 1, 2, 3"
    for hour, kind, event, old, new in database.execute(sql):
        answer.both[hour, kind] += 1
        if old != new:
            _compare_values(event, json.loads(old), json.loads(new), answer)


def _compare_values(event: str, old: dict[str, str], new: dict[str, str], answer: Answer) -> None:
    answer.values_only_old.update(old.keys() - new.keys())
    answer.values_only_new.update(new.keys() - old.keys())
    for column in sorted(old.keys() & new.keys()):
        if old[column] != new[column]:
            values = (_shown(column, side[column]) for side in (old, new))
            answer.differing.append(Differing(shown(event), column, *values))


def _shown(column: str, text: str) -> str:
    """Nothing personal; of what may be, its length, which tells a value that was cut."""
    if column not in SHOWN_COLUMNS:
        return f"(not shown, {len(text):,} characters)"
    return masked(text)[:MAX_SHOWN_CHARACTERS]


def by_hour(answer: Answer) -> list[dict[str, Any]]:
    old = Counter((one.hour, one.type) for one in answer.only_old)
    new = Counter((one.hour, one.type) for one in answer.only_new)
    return [
        {
            "hour": hour,
            "type": kind,
            "both": answer.both[hour, kind],
            "only_old": old[hour, kind],
            "only_new": new[hour, kind],
        }
        for hour, kind in sorted({*answer.both, *old, *new})
    ]


def lines(answer: Answer) -> Iterator[str]:
    found = by_hour(answer)
    if found:
        yield f"{'hour (UTC)':<14}{'type':<22}{'both':>12}{'only old':>12}{'only new':>12}"
    for line in found:
        counts = f"{line['both']:>12,}{line['only_old']:>12,}{line['only_new']:>12,}"
        yield f"{line['hour']:<14}{line['type']:<22}{counts}"
    for where, missing in (("old source", answer.only_old), ("stack", answer.only_new)):
        for one in missing[:SHOWN]:
            yield f"only in the {where}: {one.event} ({one.type}, {one.hour}) in {one.batch}"
        if len(missing) > SHOWN:
            yield f"and {len(missing) - SHOWN:,} more only in the {where}: --json lists all"
    for value in answer.differing[:SHOWN]:
        both = f"{clean(value.old)} in the old source, {clean(value.new)} in the stack"
        yield f"{value.column} of {value.event} differs: {both}"
    for where, columns in (("old source", answer.values_only_old), ("stack", answer.values_only_new)):
        for column, count in sorted(columns.items()):
            yield f"{column}: {count:,} values only in the {where}"
    for name, reason in answer.refused[:SHOWN]:
        yield f"not compared: {name}: {reason}"
    yield answer.sentence


def document(answer: Answer) -> dict[str, Any]:
    return {
        "equal": answer.equal,
        "sentence": answer.sentence,
        "by_hour": by_hour(answer),
        "only_old": [one._asdict() for one in answer.only_old],
        "only_new": [one._asdict() for one in answer.only_new],
        "differing": [one._asdict() for one in answer.differing],
        "values_only_old": dict(answer.values_only_old),
        "values_only_new": dict(answer.values_only_new),
        "not_compared": [{"object": name, "reason": reason} for name, reason in answer.refused],
        "untimed": answer.untimed,
        "erased": answer.erased,
    }
