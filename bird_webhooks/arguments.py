"""The command line of `bird-webhooks`: what each command takes, and what the words of a value mean."""

import argparse
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from math import isfinite, nan
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import shtab

from report.queries import DIMENSIONS
from report.rules import Thresholds, thresholds

STACK_NAME = "bird-webhooks"
MAX_BATCHES = 10_000
MAX_FILLED, MAX_CALLS = 10_000_000, 10_000
SETTLE_SECONDS = 300  # an invocation of process or a loader that read the old data has ended by then
RELOAD_WAIT_SECONDS = 900  # longer than load_postgres waits after some failed tries
REPORT = Path("report.html")
MAX_REPORT_DAYS = 90
REPORT_BY = tuple(name for name in DIMENSIONS if name not in ("campaign", "provider"))  # those two are always there
LINK_HOURS = 7 * 24  # the longest that S3 allows
QUEUES = ("process", "import", "postgres", "events")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
TIME_FORMAT = "30m, 2h or 3d ago, or 2026-11-24T10:30 in UTC"

DESCRIPTION = "Operate a stack of bird-webhooks: check it, repair it, and use what it has stored."
EPILOG = """\
The stack is chosen by --stack-name, --region, --profile or --local, before or after the command.
The answer goes to the standard output, as text, or as one JSON document with --json. Progress and errors go to the
standard error.

exit codes:
  0    done; for verify and simulate: nothing failed
  1    not done, or not completely: one line says why and what to do; for verify and simulate: something failed
  2    the command line is wrong; nothing was done; for status --check: critical (1: warning)
  130  interrupted (Ctrl-C); every command can be given again

shell completion:
  eval "$(bird-webhooks --print-completion bash)"    in ~/.bashrc; or zsh in ~/.zshrc

docs/operating.md shows examples of every command, their costs, and the permissions they need."""


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="bird-webhooks",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_stack(whole)
    whole.add_argument("--version", action="version", version=f"%(prog)s {version('bird-webhooks')}")
    shtab.add_argument_to(whole, "--print-completion", help="print a completion script for this shell and exit")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    status(commands)
    verify(commands)
    batches(commands)
    replay(commands)
    redrive(commands)
    quarantine(commands)
    erase(commands)
    rotate(commands)
    accept(commands)
    close(commands)
    files(commands)
    completeness(commands)
    check_lake(commands)
    reload(commands)
    backfill(commands)
    list_export(commands)
    report(commands)
    import_(commands)
    compare(commands)
    simulate(commands)
    return whole


# --- The commands -----------------------------------------------------------------------------------------------------

type Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def command(commands: Commands, name: str, text: str, *, json: bool = False) -> argparse.ArgumentParser:
    """A command that takes the stack's options too. With `json`, its answer can be had as JSON."""
    made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_stack(made, given_only=True)
    if json:
        made.add_argument("--json", action="store_true", help="answer with one JSON document")
    return made


def add_stack(to: argparse.ArgumentParser, *, given_only: bool = False) -> None:
    """`given_only`: without a default, so that what was given before the command stays."""
    none = argparse.SUPPRESS if given_only else None
    off = argparse.SUPPRESS if given_only else False
    options = to.add_argument_group("which stack")
    options.add_argument("--stack-name", metavar="NAME", default=none, help=f"default: {STACK_NAME}")
    options.add_argument("--region", default=none, help="default: the region of the AWS configuration")
    options.add_argument("--profile", default=none, help="a profile of the AWS configuration")
    options.add_argument("--local", action="store_true", default=off, help="the stack of `make local`, not one in AWS")


def status(commands: Commands) -> None:
    to = command(commands, "status", "show the state of the stack in one screen", json=True)
    to.add_argument("--check", action="store_true", help="exit status by health: 0 ok, 1 warning, 2 critical")
    to.add_argument(
        "--watch",
        type=above_zero,
        nargs="?",
        const=10,
        metavar="SECONDS",
        help="show it again every 10 seconds, or so many, until Ctrl-C",
    )


def verify(commands: Commands) -> None:
    to = command(commands, "verify", "prove with a test batch that every part of the stack works", json=True)
    to.add_argument("--token", help="with WebhookAuth OAUTH2: a token of your issuer, to test the load balancer too")


def batches(commands: Commands) -> None:
    to = command(commands, "batches", "count the stored raw batches by time, by their rows", json=True)
    add_times(to, "24 hours ago")
    to.add_argument(
        "--list",
        action="store_true",
        help="list all keys of the bucket instead: counts batches without rows too, and bytes",
    )
    to.add_argument("--keys", action="store_true", help="list each batch instead of counts")


def replay(commands: Commands) -> None:
    text = "process stored raw batches again: missing rows are written, no event is doubled"
    to = command(commands, "replay", text, json=True)
    which = to.add_mutually_exclusive_group()
    which.add_argument("--batch", nargs="+", metavar="ID", help="these batches, by the id that Bird gave them")
    which.add_argument("--quarantined", action="store_true", help="batches of which process quarantined something")
    to.add_argument(
        "--force",
        action="store_true",
        help="with --batch: split a batch that exceeds the limits of process into parts, and process those",
    )
    add_times(to, "7 days ago with --quarantined; otherwise required")
    to.add_argument("--limit", type=positive, default=MAX_BATCHES, help="refuse more batches (default: %(default)s)")
    add_dry_run_and_yes(to)


def redrive(commands: Commands) -> None:
    to = command(commands, "redrive", "move dead letters back to their queue; fix their cause first", json=True)
    to.add_argument(
        "--queue",
        choices=QUEUES,
        default="process",
        help="whose: of process, of imports, of the load into PostgreSQL, or of the event bus (default: %(default)s)",
    )
    add_dry_run_and_yes(to)


def quarantine(commands: Commands) -> None:
    to = command(commands, "quarantine", "show what was quarantined instead of becoming a row, by reason", json=True)
    add_times(to, "7 days ago")
    to.add_argument("--details", action="store_true", help="show where each record came from")
    to.add_argument("--bodies", action="store_true", help="show the original text too; it may hold personal data")
    to.add_argument("--full", action="store_true", help="with --bodies: do not cut long texts")
    to.add_argument("--limit", type=positive, default=20, help="records shown per reason (default: %(default)s)")


def erase(commands: Commands) -> None:
    to = command(commands, "erase", "erase all events of one address everywhere, and prove it", json=True)
    whose = to.add_mutually_exclusive_group(required=True)
    whose.add_argument("--address", help="such as person@example.com; - reads it from the standard input")
    whose.add_argument(
        "--forget",
        metavar="ADDRESS",
        help="erase nothing; remove the tombstone that keeps this person's earlier events from coming in again",
    )
    to.add_argument(
        "--thorough",
        action="store_true",
        help="look through every object, instead of asking the rows which objects hold the address",
    )
    to.add_argument("--since", type=time, metavar="TIME", help="only what was stored since then; default: everything")
    add_postgres(to, "erase there too")
    to.add_argument(
        "--hash-key", nargs="+", default=[], metavar="SECRET", help="former keys of HashFields: secrets by name or ARN"
    )
    to.add_argument(
        "--settle",
        type=seconds,
        default=SETTLE_SECONDS,
        metavar="SECONDS",
        help="wait before each check, until functions and queries that use old data have ended (default: %(default)s)",
    )
    add_dry_run_and_yes(to)


def rotate(commands: Commands) -> None:
    to = command(commands, "rotate", "change the webhook's credentials without refusing a batch")
    steps = to.add_subparsers(dest="step", required=True, metavar="step")
    start = command(steps, "start", "make new credentials; the old ones stay valid")
    start.add_argument("--show", action="store_true", help="print the new credentials")
    start.add_argument("--username", metavar="NAME", help="a new user name too; for WebhookAuth BASIC")
    finish = command(steps, "finish", "drop the old credentials, once Bird sends the new ones")
    finish.add_argument(
        "--quiet",
        type=duration,
        default="15m",
        metavar="TIME",
        help="how long the old credentials must have been unused: 15m, 2h or 1d (default: %(default)s)",
    )
    finish.add_argument("--force", action="store_true", help="drop them even if Bird still sends the old ones")
    finish.add_argument("--yes", action="store_true", help="with --force: do not ask")
    abort = command(steps, "abort", "drop the new credentials")
    abort.add_argument("--yes", action="store_true", help="do not ask")
    command(steps, "show", "print the credentials that Bird must send", json=True)
    command(steps, "status", "show how far a rotation is", json=True)


def accept(commands: Commands) -> None:
    to = command(commands, "accept", "accept the credentials of another webhook too, while its host name moves here")
    steps = to.add_subparsers(dest="step", required=True, metavar="step")
    start = command(steps, "start", "accept them; the password comes from BIRD_SECRET, the terminal or standard input")
    kind = start.add_mutually_exclusive_group()
    kind.add_argument("--username", metavar="NAME", help="user name of Basic authentication")
    kind.add_argument("--header", metavar="NAME", help="header with a secret, such as X-MessageSystems-Webhook-Token")
    text = "name or ARN of a secret with the password, such as WebhookSecretArn of the old stack"
    start.add_argument("--secret", metavar="ARN", help=text)
    end = command(steps, "end", "refuse them, once Bird sends the stack's own")
    end.add_argument(
        "--quiet",
        type=duration,
        default="15m",
        metavar="TIME",
        help="how long they must have been unused: 15m, 2h or 1d (default: %(default)s)",
    )
    end.add_argument("--force", action="store_true", help="refuse them even if Bird still sends them")
    end.add_argument("--yes", action="store_true", help="with --force: do not ask")
    command(steps, "status", "show whether some are accepted", json=True)


def close(commands: Commands) -> None:
    text = "close dates of the table at once, or register those that it does not have; what runs every hour does both"
    to = command(commands, "close", text, json=True)
    to.add_argument(
        "--date",
        type=day,
        nargs="+",
        action="extend",
        default=[],
        metavar="DATE",
        help="write this date, which has ended, into few large files; or take in what came late; 2026-11-24, or 2d ago",
    )
    to.add_argument(
        "--register", action="store_true", help="give each date that has rows its partition, so that they are visible"
    )


def files(commands: Commands) -> None:
    text = "print the current files of rows by event date, for programs that read them by path"
    to = command(commands, "files", text, json=True)
    to.add_argument("--since", type=day, required=True, metavar="DATE", help="first event date: 2026-11-24, or 7d ago")
    to.add_argument("--until", type=day, metavar="DATE", help="last event date, included; default: the newest")


def completeness(commands: Commands) -> None:
    text = "show how far it is proved that all that Bird has is here, hour by hour"
    to = command(commands, "completeness", text, json=True)
    add_times(to, "48h ago")
    to.add_argument("--run", action="store_true", help="compare with Bird now what is due, as the schedule does")


def check_lake(commands: Commands) -> None:
    text = "find files of rows that are damaged, each of which fails every query of its date; and rebuild their rows"
    to = command(commands, "check-lake", text, json=True)
    to.add_argument("--since", type=day, metavar="DATE", help="first event date: 2026-11-24, or 7d ago; default: all")
    to.add_argument("--until", type=day, metavar="DATE", help="last event date, included; default: the newest")
    to.add_argument(
        "--repair",
        action="store_true",
        help="replay the raw batches whose rows are missing, and remove each damaged file once its rows are there",
    )
    to.add_argument(
        "--limit", type=positive, default=MAX_BATCHES, help="read no more raw batches for a date (default: %(default)s)"
    )
    to.add_argument("--yes", action="store_true", help="with --repair: do not ask")


def reload(commands: Commands) -> None:
    text = "load days of the table in PostgreSQL from the lake again, and prove by counts that it has them"
    to = command(commands, "reload", text, json=True)
    to.add_argument("--since", type=day, required=True, metavar="DATE", help="first event date: 2026-11-24, or 7d ago")
    to.add_argument("--until", type=day, metavar="DATE", help="last event date, included; default: the newest")
    to.add_argument(
        "--postgres",
        metavar="WHERE",
        help="a connection string, or the name or ARN of its secret; default: the secret that the stack loads by",
    )
    to.add_argument("--schema", help="schema of the table in PostgreSQL; default: the stack's PostgresSchema")
    to.add_argument(
        "--wait",
        type=seconds,
        default=RELOAD_WAIT_SECONDS,
        metavar="SECONDS",
        help="give up when no row has come for so long (default: %(default)s)",
    )
    add_dry_run_and_yes(to)


def backfill(commands: Commands) -> None:
    text = "fetch from Bird what the stack lacks of the last ten days, and store it; nothing is stored twice"
    to = command(commands, "backfill", text, json=True)
    to.add_argument("--since", type=time, required=True, metavar="TIME", help=TIME_FORMAT)
    to.add_argument(
        "--until", type=time, metavar="TIME", help="default: 80 minutes ago, because the webhook may bring later events"
    )
    to.add_argument(
        "--types",
        type=event_types,
        default=[],
        metavar="TYPES",
        help="such as delivery,bounce; default: all that the webhook sends",
    )
    to.add_argument(
        "--limit", type=positive, default=MAX_FILLED, help="stop after so many stored events (default: %(default)s)"
    )
    to.add_argument(
        "--calls", type=positive, default=MAX_CALLS, help="stop after so many calls to Bird (default: %(default)s)"
    )
    add_dry_run_and_yes(to)


def list_export(commands: Commands) -> None:
    text = "write the addresses that must not receive mail any more as CSV; it is personal data"
    to = command(commands, "list-export", text)
    to.add_argument("--output", type=Path, metavar="FILE", help="default: the standard output")
    to.add_argument(
        "--since", type=time, metavar="TIME", help=f"only what was added since; {TIME_FORMAT}; default: everything"
    )
    to.add_argument("--subaccount", type=subaccount, metavar="ID", help="only this subaccount; 0 is the main account")
    to.add_argument(
        "--account",
        type=account,
        metavar="ID",
        help="only this account at Bird (customer_id); '': only events without one",
    )
    to.add_argument("--list", metavar="ID", help="only recipients who left this list (list_id)")
    to.add_argument(
        "--bird", action="store_true", help="columns recipient, type, description, as Bird's upload expects"
    )
    add_postgres(to, "read the view there instead of asking Athena")


def report(commands: Commands) -> None:
    to = command(commands, "report", "write an HTML page of volumes, rates and reasons")
    add_postgres(to, "ask this database instead of Athena; '' is the one that PGHOST names")
    to.add_argument(
        "--days", type=report_days, default=7, help=f"length in days, 1 to {MAX_REPORT_DAYS} (default: %(default)s)"
    )
    to.add_argument(
        "--until",
        type=report_end,
        default="now",
        help="end: now (default), a date (its midnight), or `latest` for the day of the newest event",
    )
    to.add_argument(
        "--timezone",
        type=time_zone,
        default="UTC",
        metavar="NAME",
        help="for hours and days, such as Europe/Berlin (default: %(default)s)",
    )
    to.add_argument(
        "--by",
        type=dimension,
        action="append",
        default=[],
        metavar="WHAT",
        help=f"one table more, can be repeated: {', '.join(name.replace('_', '-') for name in REPORT_BY)}",
    )
    to.add_argument(
        "--thresholds",
        type=report_thresholds,
        default="",
        metavar="TEXT",
        help="what needs attention, such as 'least_volume=1000 blocked=2/10': watch and act, in percent",
    )
    to.add_argument("--output", type=Path, default=REPORT, metavar="FILE", help="default: %(default)s")
    actions = to.add_subparsers(dest="action", metavar="[link]")
    link = command(actions, "link", "print a link to the newest page that the stack itself has written (DailyReport)")
    link.add_argument(
        "--expires", type=link_hours, default=LINK_HOURS, metavar="HOURS", help="default and maximum: %(default)s"
    )


def import_(commands: Commands) -> None:
    text = (
        "bring in what was stored before: old raw batches, exports, pages of Bird's Events API; each event counts once"
    )
    to = command(commands, "import", text, json=True)
    add_source(to, "source")
    to.add_argument(
        "--account",
        type=account,
        metavar="ID",
        help="the account at Bird (customer_id) of events that do not name it; default: the only one in the rows",
    )
    to.add_argument("--publish", action="store_true", help="publish the events on the bus too, if they are not too old")
    to.add_argument(
        "--beyond-retention",
        action="store_true",
        help="also bring in batches older than RawRetentionDays; their copies are kept for as long again",
    )
    to.add_argument("--no-wait", action="store_true", help="end when all is handed over, before it is rows")
    to.add_argument("--dry-run", action="store_true", help="read everything and say what would be done; change nothing")


def compare(commands: Commands) -> None:
    text = "compare the events of a time in an old source with the rows of the stack, event by event and value by value"
    to = command(commands, "compare", text, json=True)
    add_source(to, "--with")
    to.add_argument(
        "--since", type=time, required=True, metavar="TIME", help=f"of the events themselves; {TIME_FORMAT}"
    )
    to.add_argument("--until", type=time, metavar="TIME", help="default: now")
    to.add_argument("--account", type=account, metavar="ID", help="as with import")


def simulate(commands: Commands) -> None:
    text = "send batches as Bird does, then check that every event arrived exactly once"
    to = command(commands, "simulate", text, json=True)
    where = to.add_argument_group("another webhook, in place of a stack; its secret is in the variable BIRD_SECRET")
    where.add_argument("--url", help="the address of the webhook")
    where.add_argument("--database", help="Glue database to check the rows in")
    where.add_argument("--workgroup", help="Athena workgroup to check the rows with")
    where.add_argument("--ca-file", metavar="FILE", help="a certificate to trust beside the system's")
    login = to.add_argument_group("credentials")
    login.add_argument("--auth", choices=["basic", "header", "oauth2", "none"], default="basic", help="%(default)s")
    login.add_argument("--user", default="bird", help="user name, or client id with oauth2 (default: %(default)s)")
    login.add_argument("--header", default="x-webhook-token", help="header with the secret (default: %(default)s)")
    login.add_argument("--token-url", metavar="URL", help="with oauth2: where to fetch a token")
    sent = to.add_argument_group("what is sent")
    sent.add_argument("--batches", type=positive, default=100, help="number of batches (default: %(default)s)")
    sent.add_argument("--rate", type=above_zero, help="batches per second; default: as fast as the webhook answers")
    sent.add_argument("--connections", type=positive, default=16, help="connections at once (default: %(default)s)")
    sent.add_argument("--seed", type=int, default=1, help="the same seed and start give the same batches")
    sent.add_argument("--start", type=time, metavar="TIME", help="of the newest event; default: now")
    sent.add_argument(
        "--days", type=above_zero, default=2, help="events are spread over so many days (default: %(default)s)"
    )
    sent.add_argument("--like-a-sender", action="store_true", help="event types as frequent as in real mail")
    sent.add_argument("--time-scale", type=above_zero, default=1, help="1000: 14 ms to a retry, not 14 s as Bird")
    sent.add_argument(
        "--sent-twice",
        type=share,
        default=0.02,
        help="share of accepted batches to send once more (default: %(default)s)",
    )
    sent.add_argument("--no-line-breaks", action="store_true", help="no line breaks in values: for OutputFormat CSV")
    checked = to.add_argument_group("the check")
    checked.add_argument("--ledger", type=Path, metavar="FILE", help="record of what was sent; continued if it exists")
    checked.add_argument("--verify-only", action="store_true", help="send nothing; check what the ledger lists")
    checked.add_argument("--no-verify", action="store_true", help="only send")
    checked.add_argument("--wait", type=seconds, default=300, help="seconds to wait for rows (default: %(default)s)")


# --- Options that several commands have -------------------------------------------------------------------------------


def add_times(to: argparse.ArgumentParser, default: str) -> None:
    to.add_argument("--since", type=time, metavar="TIME", help=f"{TIME_FORMAT}; default: {default}")
    to.add_argument("--until", type=time, metavar="TIME", help="default: now")


def add_source(to: argparse.ArgumentParser, name: str) -> None:
    text = "s3://bucket/prefix, a folder, a file, or - for the standard input; it is only read"
    required = {"required": True, "dest": "source"} if name.startswith("-") else {}
    to.add_argument(name, metavar="SOURCE", help=text, **required)  # type: ignore[arg-type]
    to.add_argument("--source-profile", metavar="NAME", help="a profile for the bucket of another account")
    to.add_argument("--source-region", metavar="REGION", help="the region of that bucket; default: that of the stack")


def add_dry_run_and_yes(to: argparse.ArgumentParser) -> None:
    to.add_argument("--dry-run", action="store_true", help="show what would be done; change nothing")
    to.add_argument("--yes", action="store_true", help="do not ask, even for many")


def add_postgres(to: argparse.ArgumentParser, text: str) -> None:
    what = "PostgreSQL: a connection string, or the name or ARN of its secret"
    to.add_argument("--postgres", metavar="WHERE", help=f"{what}; {text}")
    to.add_argument("--schema", default="bird", help="schema of the tables in PostgreSQL (default: %(default)s)")


# --- Values -----------------------------------------------------------------------------------------------------------


def time(text: str) -> datetime:
    """`2h` ago (m, h, d), `2026-11-24`, or `2026-11-24T10:30`; UTC unless it names a zone. In UTC, as dates are taken
    from it."""
    with suppress(ValueError, OverflowError):
        if text[-1:] in UNITS and text[:-1].isdigit():
            return datetime.now(UTC) - int(text[:-1]) * UNITS[text[-1]]
        parsed = datetime.fromisoformat(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    raise argparse.ArgumentTypeError(f"not a time: {text} (give {TIME_FORMAT})")


def day(text: str) -> date:
    """`2026-11-24`, or `7d` ago; in UTC."""
    with suppress(ValueError, OverflowError):
        if text[-1:] == "d" and text[:-1].isdigit():
            return datetime.now(UTC).date() - timedelta(days=int(text[:-1]))
        return date.fromisoformat(text)
    raise argparse.ArgumentTypeError(f"not a date: {text} (give 2026-11-24, or 7d ago)")


def duration(text: str) -> timedelta:
    with suppress(OverflowError):
        if text[-1:] in UNITS and text[:-1].isdigit():
            return int(text[:-1]) * UNITS[text[-1]]
    raise argparse.ArgumentTypeError(f"not a duration: {text} (give 30m, 2h or 3d)")


def event_types(text: str) -> list[str]:
    found = [kind.strip() for kind in text.split(",")]
    if not all(re.fullmatch(r"[a-z_]{1,40}", kind) for kind in found):
        raise argparse.ArgumentTypeError(f"not types of events: {text} (give delivery,bounce)")
    return found


def account(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", text):
        raise argparse.ArgumentTypeError(f"not an account id: {text}")
    return text


def subaccount(text: str) -> str:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a subaccount number: {text}")
    return text


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a positive whole number: {text}")
    return int(text)


def above_zero(text: str) -> float:
    if (value := number(text)) > 0:
        return value
    raise argparse.ArgumentTypeError(f"not a number above 0: {text}")


def seconds(text: str) -> float:
    if (value := number(text)) >= 0:
        return value
    raise argparse.ArgumentTypeError(f"not a number of seconds, 0 or more: {text}")


def share(text: str) -> float:
    if 0 <= (value := number(text)) <= 1:
        return value
    raise argparse.ArgumentTypeError(f"not a share from 0 to 1: {text}")


def number(text: str) -> float:
    """NaN, which no comparison is true of, for what is not a finite number."""
    with suppress(ValueError):
        if isfinite(value := float(text)):
            return value
    return nan


def report_days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_REPORT_DAYS:
        raise argparse.ArgumentTypeError(f"not a number of days from 1 to {MAX_REPORT_DAYS}: {text}")
    return int(text)


def time_zone(text: str) -> ZoneInfo:
    with suppress(ValueError, OSError, ZoneInfoNotFoundError):
        return ZoneInfo(text)
    raise argparse.ArgumentTypeError(f"not a time zone, such as Europe/Berlin: {text}")


def dimension(text: str) -> str:
    name = text.replace("-", "_")
    if name not in REPORT_BY:
        raise argparse.ArgumentTypeError(f"not one of {', '.join(one.replace('_', '-') for one in REPORT_BY)}: {text}")
    return name


def report_thresholds(text: str) -> Thresholds:
    try:
        return thresholds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def report_end(text: str) -> str | date:
    if text in ("now", "latest"):
        return text
    with suppress(ValueError):
        return date.fromisoformat(text)
    raise argparse.ArgumentTypeError(f"not a date, `now` or `latest`: {text}")


def link_hours(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= LINK_HOURS:
        raise argparse.ArgumentTypeError(f"not a number of hours from 1 to {LINK_HOURS}: {text}")
    return int(text)
