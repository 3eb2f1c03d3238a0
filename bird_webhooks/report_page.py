"""A page of what Bird did with the mail: one HTML file, from Athena or from PostgreSQL."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import psycopg
from botocore.exceptions import ClientError
from psycopg.rows import dict_row

from bird_webhooks.errors import OperateError
from bird_webhooks.postgres import connected
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import say, step
from report import completeness, quarantine
from report.athena import QueryFailedError
from report.figures import Figures, figures
from report.page import render
from report.queries import Period, latest_day, queries
from report.rules import DEFAULTS, Thresholds

HOUR = timedelta(hours=1)
UTC_ZONE = ZoneInfo("UTC")
# As of one moment; nothing is written.
POSTGRES_OPTIONS = (
    "-c TimeZone=UTC -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
)

Rows = Sequence[Mapping[str, Any]]


class Engine(Protocol):
    """What answers the statements. `name` is what the page says."""

    name: str

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]: ...


class AthenaEngine:
    name = "Athena"

    def __init__(self, stack: Stack) -> None:
        self.athena = stack.athena()

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]:
        return self.athena.rows(statements, done=answered)


class PostgresEngine:
    name = "PostgreSQL"

    def __init__(self, stack: Stack, where: str, schema: str) -> None:
        self.stack, self.where, self.schema = stack, where, schema

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]:
        """One after the other over one connection."""
        answers = {}
        options = {"options": POSTGRES_OPTIONS, "row_factory": dict_row, "connect_timeout": 10}
        with connected(self.stack, self.where, **options) as database:
            database.execute("SELECT set_config('search_path', %s, true)", [self.schema])
            for name, sql in statements.items():
                answers[name] = database.execute(sql.encode()).fetchall()
                answered(name)
        return answers


def answered(name: str) -> None:
    say(f"    {name}")


@dataclass(frozen=True)
class Asked:
    """`until`: `now`, `latest`, or the day whose midnight in `zone` ends the period. `by`: tables beside the usual."""

    days: int = 7
    until: str | date = "now"
    zone: ZoneInfo = UTC_ZONE
    by: tuple[str, ...] = ()
    thresholds: Thresholds = DEFAULTS


def make(stack: Stack, asked: Asked, *, postgres: str | None, schema: str, output: Path) -> None:
    """`postgres`: the database to ask in place of Athena; the stack may then have no name, and be an account alone."""
    began = time.monotonic()
    engine = AthenaEngine(stack) if postgres is None else PostgresEngine(stack, postgres, schema)
    write(engine, asked_period(engine, asked), stack, output, by=asked.by, thresholds=asked.thresholds)
    step(f"{time.monotonic() - began:.1f} s in all")
    print(output.resolve())


def write(
    engine: Engine,
    period: Period,
    stack: Stack,
    output: Path,
    *,
    by: tuple[str, ...] = (),
    thresholds: Thresholds = DEFAULTS,
) -> Figures:
    """The page as a file; `stack`, if it has a name, gives the page its title and the quarantine to count."""
    step(f"asking {engine.name} about {period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M %Z}")
    answers = engine.rows(queries(period, thresholds.least_volume, by))
    set_aside = None
    if stack.name:
        step("counting what is in quarantine")
        set_aside = quarantine.count(stack.s3, stack.output("LakeBucketName"), period)
    found = figures(period, answers, set_aside, by=by, thresholds=thresholds)
    now = datetime.now(UTC)
    complete = compared_with_bird(engine, period, now)
    page = render(found, made_at=now, title=stack.name or engine.name, source=engine.name, completeness=complete)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page)
    step(f"{found.events:,} events, {len(page.encode()) / 1000:,.0f} kB")
    return found


def compared_with_bird(engine: Engine, period: Period, now: datetime) -> completeness.Section | None:
    """None where nothing was compared, or where an older release made the database."""
    try:
        rows = engine.rows({"completeness": completeness.query(period.since, now)})["completeness"]
    except (QueryFailedError, psycopg.errors.UndefinedTable):
        return None
    return completeness.section(rows, period.since, now)


def link(stack: Stack, *, hours: int) -> None:
    """A presigned address of the newest page that the daily function wrote."""
    where = {"Bucket": stack.output("LakeBucketName"), "Key": "reports/latest.html"}
    try:
        written = stack.s3.head_object(**where)["LastModified"]
    except ClientError as error:
        raise OperateError("there is no report: is DailyReport true, and has it run (at 06:00 UTC)?") from error
    say(
        f"written {written:%Y-%m-%d %H:%M} UTC; everyone who has this link can read the page, for {hours} hours at most"
    )
    say("and no longer than your credentials last: those of a role end within hours, and the link with them")
    print(stack.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=hours * 3600))


def last_days(count: int, zone: ZoneInfo = UTC_ZONE) -> Period:
    """Up to the end of this hour."""
    end = datetime.now(zone).replace(minute=0, second=0, microsecond=0) + HOUR
    return Period(end - timedelta(days=count), end)


def asked_period(engine: Engine, asked: Asked) -> Period:
    """Up to the end of this hour, to a midnight, or to that after the newest event."""
    if asked.until == "now":
        return last_days(asked.days, asked.zone)
    if isinstance(asked.until, date):
        last = asked.until
    else:
        step("looking for the newest day")
        [row] = engine.rows({"newest day": latest_day()})["newest day"]
        if row["latest"] is None:
            raise OperateError("there are no events at all")
        newest = row["latest"] if isinstance(row["latest"], date) else date.fromisoformat(row["latest"][:10])
        last = newest + timedelta(days=1)
    end = datetime.combine(last, datetime.min.time(), asked.zone)
    return Period(end - timedelta(days=asked.days), end)
