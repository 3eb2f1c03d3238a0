"""A look at what Bird did with the mail: one HTML file, from Athena or PostgreSQL.

    python -m bird_webhooks.report_page --local  the stack of `make local`
    python -m bird_webhooks.report_page --stack-name bird-webhooks  a deployed stack, by Athena
    python -m bird_webhooks.report_page --postgres "$DSN"  the PostgreSQL that a stack loads
    python -m bird_webhooks.report_page --postgres-secret ARN  the same, its address and login from Secrets Manager
    python -m bird_webhooks.report_page link --stack-name bird-webhooks  a link to the page of each day

With --postgres the stack may be named too: then what is in quarantine is counted as well. The password of PostgreSQL
comes from PGPASSWORD or ~/.pgpass, never from the command line.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from psycopg.rows import dict_row

from bird_webhooks.stack import OperateError, Target, deployed, local, postgres_connection, say
from load_postgres.connection import guarded
from report import quarantine
from report.app import MAX_DAYS
from report.athena import Athena, QueryFailedError
from report.figures import Figures, figures
from report.page import render
from report.queries import Period, latest_day, queries

OUTPUT = Path(".local/report.html")
SCHEMA = "bird"  # the template's default
LINK_DAYS = 7  # the longest that S3 takes
HOUR = timedelta(hours=1)

Rows = Sequence[Mapping[str, Any]]


class Engine:
    """Whatever answers the statements. `name` is what the page says."""

    name: str

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]:
        raise NotImplementedError


class AthenaEngine(Engine):
    name = "Athena"

    def __init__(self, target: Target) -> None:
        self.athena = Athena(
            target.client("athena"),
            target.output("AthenaWorkGroupName"),
            target.output("GlueDatabaseName"),
            poll_seconds=min(0.5, target.poll_seconds),
        )

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]:
        return self.athena.rows(statements, done=lambda name: say(f"    {name}"))


class PostgresEngine(Engine):
    name = "PostgreSQL"

    def __init__(self, connection: str, schema: str = SCHEMA) -> None:
        self.connection = connection
        self.schema = schema

    def rows(self, statements: Mapping[str, str]) -> Mapping[str, Rows]:
        """One after the other over one connection, as of one moment; nothing is written."""
        answers = {}
        options = (
            "-c TimeZone=UTC -c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
        )
        with psycopg.connect(self.connection, options=options, row_factory=dict_row, connect_timeout=10) as database:
            database.execute("SELECT set_config('search_path', %s, true)", [self.schema])
            for name, sql in statements.items():
                answers[name] = database.execute(sql.encode()).fetchall()
                say(f"    {name}")
        return answers


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        link(options) if options.command == "link" else make(options)
    except (OperateError, QueryFailedError, OSError, psycopg.Error, BotoCoreError, ClientError) as error:
        print(f"report: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bird_webhooks.report_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("command", nargs="?", choices=["make", "link"], default="make", help="default: make")
    where = made.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="the stack that `make local` left running")
    where.add_argument("--stack-name", metavar="NAME", help="a deployed stack of this application")
    made.add_argument("--region", help="default: as the AWS configuration says")
    made.add_argument("--profile", help="of the AWS configuration")
    database = made.add_mutually_exclusive_group()
    database.add_argument("--postgres", metavar="DSN", help="ask this PostgreSQL; '' for that of PGHOST")
    database.add_argument("--postgres-secret", metavar="ARN", help="ask the PostgreSQL of this secret")
    made.add_argument(
        "--postgres-schema", metavar="NAME", default=SCHEMA, help="that has the views; default %(default)s"
    )
    made.add_argument("--days", type=days, default=7, help=f"how many, 1 to {MAX_DAYS}; default %(default)s")
    made.add_argument(
        "--until",
        type=until,
        default="now",
        help="now (default), a date (its midnight, UTC), or latest: the newest event's",
    )
    made.add_argument("--output", type=Path, default=OUTPUT, help="default %(default)s")
    made.add_argument(
        "--expires", type=int, default=LINK_DAYS * 24, help="hours that a link lasts; default %(default)s"
    )
    return made


def days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MAX_DAYS}")
    return int(text)


def until(text: str) -> str | datetime:
    if text in ("now", "latest"):
        return text
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    raise argparse.ArgumentTypeError(f"{text} is neither a date nor `now` nor `latest`")


def make(options: argparse.Namespace) -> None:
    began = time.monotonic()
    target = stack(options)
    engine = chosen_engine(options, target)
    period = asked_period(options, engine)
    write(engine, period, target, options.output)
    say(f"==> {time.monotonic() - began:.1f} s in all")
    print(options.output.resolve())


def write(engine: Engine, period: Period, target: Target | None, output: Path) -> Figures:
    """The page as a file; `target` is the stack whose quarantine is counted and whose name it has."""
    say(f"==> asking {engine.name} about {period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M} UTC")
    answers = engine.rows(queries(period))
    set_aside = None
    if target is not None:
        say("==> counting what is in quarantine")
        set_aside = quarantine.count(target.s3, target.output("LakeBucketName"), period)
    found = figures(period, answers, set_aside)
    title = target.name if target else "PostgreSQL"
    page = render(found, made_at=datetime.now(UTC), title=title, source=engine.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page)
    say(f"==> {found.events:,} events, {len(page.encode()) / 1000:,.0f} kB")
    return found


def link(options: argparse.Namespace) -> None:
    """A presigned address of the newest page that the daily function wrote."""
    target = stack(options)
    if target is None:
        raise OperateError("which stack? give --stack-name, or --local")
    where = {"Bucket": target.output("LakeBucketName"), "Key": "reports/latest.html"}
    try:
        written = target.s3.head_object(**where)["LastModified"]
    except ClientError as error:
        raise OperateError("there is no report: is DailyReport true, and has it run (at 06:00 UTC)?") from error
    say(
        f"written {written:%Y-%m-%d %H:%M} UTC; whoever has this link can read it, for {options.expires} hours at most,"
    )
    say("and no longer than your credentials last: those of a role end within hours, and the link with them")
    print(target.s3.generate_presigned_url("get_object", Params=where, ExpiresIn=options.expires * 3600))


def stack(options: argparse.Namespace) -> Target | None:
    if options.local:
        return local()
    return deployed(options.stack_name, options.region, options.profile) if options.stack_name else None


def chosen_engine(options: argparse.Namespace, target: Target | None) -> Engine:
    if options.postgres is not None:
        return PostgresEngine(guarded(options.postgres), options.postgres_schema)
    if options.postgres_secret:
        owner = target or deployed("", options.region, options.profile)
        return PostgresEngine(postgres_connection(owner, options.postgres_secret), options.postgres_schema)
    if target is None:
        raise OperateError("where from? give --stack-name, --local, --postgres or --postgres-secret")
    return AthenaEngine(target)


def last_days(count: int) -> Period:
    """Up to the end of this hour."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
    return Period(end - timedelta(days=count), end)


def asked_period(options: argparse.Namespace, engine: Engine) -> Period:
    """Up to the end of this hour, to a midnight, or to that after the newest event; in UTC."""
    end = options.until
    if end == "now":
        return last_days(options.days)
    if end == "latest":
        say("==> looking for the newest day")
        [row] = engine.rows({"newest day": latest_day()})["newest day"]
        if row["latest"] is None:
            raise OperateError("there are no events at all")
        newest = row["latest"] if isinstance(row["latest"], date) else date.fromisoformat(row["latest"][:10])
        end = datetime.combine(newest + timedelta(days=1), datetime.min.time(), UTC)
    return Period(end - timedelta(days=options.days), end)


if __name__ == "__main__":
    sys.exit(main())
