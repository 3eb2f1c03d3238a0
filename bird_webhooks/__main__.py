"""Operate a deployed stack.

    python -m bird_webhooks --stack-name bird-webhooks --region eu-west-1 status
    python -m bird_webhooks --local status

Each command has its --help; docs/operating.md has examples, what they cost, and the permissions they need.
"""

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from bird_webhooks.operate import batches, erase, lists, quarantine, redrive, replay, rotation, status, verify
from bird_webhooks.stack import OperateError, Target, deployed, local, moment
from local_aws.emulator import LocalAwsError

DEFAULT_LIMIT = 10_000


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        target = local() if options.local else deployed(options.stack_name, options.region, options.profile)
        succeeded = run(target, options)
    except (OperateError, LocalAwsError) as error:
        return failed(str(error))
    except NoCredentialsError:
        return failed("no AWS credentials found: set AWS_PROFILE or give --profile")
    except ClientError as error:
        said = error.response["Error"]
        if "AccessDenied" in said["Code"] or "Unauthorized" in said["Code"]:
            return failed(f"not allowed: {error.operation_name} (docs/operating.md lists the permissions)")
        return failed(f"{error.operation_name}: {said['Code']}: {said.get('Message', '')}")
    except BotoCoreError as error:
        return failed(str(error))
    except KeyboardInterrupt:
        return 130
    return 0 if succeeded else 1


def failed(reason: str) -> int:
    print(f"operate: {' '.join(reason.split())}", file=sys.stderr)
    return 1


def run(target: Target, options: argparse.Namespace) -> bool:
    """Whether all is well, for the commands that judge; what goes wrong otherwise is an error."""
    now = datetime.now(UTC)
    since, until = getattr(options, "since", None), getattr(options, "until", None) or now
    match options.command:
        case "status":
            status.show(target)
        case "verify":
            return verify.verify(target, token=options.token, as_json=options.json)
        case "batches":
            batches.show(target, since or moment("1d"), until, keys=options.keys)
        case "replay":
            if options.batch:
                keys = replay.keys_by_id(target, options.batch)
            elif options.quarantined:
                keys = replay.keys_quarantined(target, since or moment("7d"), until)
            elif since is not None:
                keys = replay.keys_by_time(target, since, until)
            else:
                raise OperateError("which batches? give --since, --batch or --quarantined")
            if options.force and not options.batch:
                raise OperateError("--force is for batches named with --batch")
            replay.replay(
                target, keys, limit=options.limit, force=options.force, dry_run=options.dry_run, yes=options.yes
            )
        case "redrive":
            redrive.redrive(target, dry_run=options.dry_run, yes=options.yes)
        case "quarantine":
            quarantine.show(
                target,
                since or moment("7d"),
                until,
                details=options.details,
                bodies=options.bodies,
                limit=options.limit,
            )
        case "erase":
            erase.erase(
                target,
                given_address(options.address),
                since=since,
                postgres=options.postgres,
                schema=options.schema,
                hash_keys=options.hash_key,
                dry_run=options.dry_run,
                yes=options.yes,
                settle_seconds=options.settle,
            )
        case "rotate":
            rotate(target, options)
        case "list-export":
            lists.export(
                target,
                output=options.output,
                since=since,
                subaccount=options.subaccount,
                account=options.account,
                of_list=options.list,
                bird=options.bird,
                postgres=options.postgres,
                schema=options.schema,
            )
    return True


def given_address(text: str) -> str:
    """`-` reads it from the standard input, where no list of commands or processes keeps it."""
    address = (sys.stdin.readline() if text == "-" else text).strip()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
        raise OperateError("that is no e-mail address")
    return address


def rotate(target: Target, options: argparse.Namespace) -> None:
    match options.step:
        case "start":
            rotation.start(target, show=options.show, username=options.username)
        case "finish":
            rotation.finish(target, quiet=datetime.now(UTC) - options.quiet, force=options.force)
        case "abort":
            rotation.abort(target, yes=options.yes)
        case "show":
            rotation.show_credentials(target)
        case "status":
            print(f"rotation: {rotation.state(target).words}")


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="python -m bird_webhooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--stack-name", default="bird-webhooks", help="default: bird-webhooks")
    whole.add_argument("--region", help="default: that of the AWS configuration")
    whole.add_argument("--profile", help="of the AWS configuration")
    whole.add_argument("--local", action="store_true", help="the stack of `make local`")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")

    commands.add_parser("status", help="the state of the stack in one screen")

    proof = commands.add_parser("verify", help="proof that the stack works, by a test batch: first after a deployment")
    proof.add_argument("--json", action="store_true", help="also one JSON document, without secrets and addresses")
    proof.add_argument("--token", help="with OAUTH2: a token of your issuer, so that the load balancer is tried too")

    listing = commands.add_parser(
        "batches", help="count raw batches by time, or list them; reads all keys of the bucket"
    )
    times(listing, "24 hours ago")
    listing.add_argument("--keys", action="store_true", help="print each batch instead of counts")

    again = commands.add_parser("replay", help="raw batches through process again; repairs rows, adds none")
    which = again.add_mutually_exclusive_group()
    which.add_argument("--batch", nargs="+", metavar="ID", help="by the batch id that Bird gave")
    which.add_argument("--quarantined", action="store_true", help="those of which something was quarantined")
    force_help = "with --batch: store a batch beyond the limits of process as parts within them, and process those"
    again.add_argument("--force", action="store_true", help=force_help)
    times(again, "7 days ago with --quarantined; must be given otherwise")
    again.add_argument("--limit", type=positive, default=DEFAULT_LIMIT, help="refuse more than this (%(default)s)")
    dry_run_and_yes(again)

    back = commands.add_parser("redrive", help="dead letters back to the process queue; mend their cause first")
    dry_run_and_yes(back)

    aside = commands.add_parser("quarantine", help="what was no event, by reason")
    times(aside, "7 days ago")
    aside.add_argument("--details", action="store_true", help="where each one came from")
    aside.add_argument("--bodies", action="store_true", help="the original text too: it may hold personal data")
    aside.add_argument("--limit", type=positive, default=20, help="most that is shown of each reason (%(default)s)")

    gone = commands.add_parser("erase", help="all events of one address, from every place, and proof of it")
    gone.add_argument("--address", required=True, help="such as person@example.com; - reads it from the standard input")
    gone.add_argument(
        "--since", type=time_argument, metavar="TIME", help="only what was stored from then on; default: all"
    )
    gone.add_argument("--postgres", metavar="SECRET", help="name or ARN of its secret, or a connection string")
    gone.add_argument("--schema", default="bird", help="of the table events there (%(default)s)")
    gone.add_argument(
        "--hash-key", nargs="+", default=[], metavar="SECRET", help="other keys that rows were hashed with"
    )
    gone.add_argument(
        "--settle", type=float, default=erase.SETTLE_SECONDS, metavar="SECONDS", help="between two looks (%(default)s)"
    )
    dry_run_and_yes(gone)

    credentials = commands.add_parser("rotate", help="new credentials for Bird, without a refused batch")
    steps = credentials.add_subparsers(dest="step", required=True, metavar="step")
    begin = steps.add_parser("start", help="make new credentials; old and new are accepted")
    begin.add_argument("--show", action="store_true", help="print the new credentials")
    begin.add_argument("--username", metavar="NAME", help="give Bird another user name too (WebhookAuth BASIC)")
    end = steps.add_parser("finish", help="drop the old ones, once Bird sends the new ones")
    end.add_argument("--quiet", type=time_argument, default="15m", help="time without the old ones (%(default)s)")
    end.add_argument("--force", action="store_true", help="whatever Bird sends")
    undo = steps.add_parser("abort", help="drop the new ones")
    undo.add_argument("--yes", action="store_true", help="do not ask")
    steps.add_parser("show", help="print the credentials that Bird shall have")
    steps.add_parser("status", help="where a rotation stands")

    export = commands.add_parser("list-export", help="who must not be mailed any more, as CSV; personal data")
    export.add_argument("--output", type=Path, metavar="FILE", help="default: the standard output")
    form = "30m, 2h, 3d ago, or 2026-11-24T10:30 (UTC)"
    export.add_argument("--since", type=time_argument, metavar="TIME", help=f"added since; {form}; default: all")
    export.add_argument("--subaccount", type=subaccount, metavar="ID", help="of that one alone; 0: the primary account")
    export.add_argument(
        "--account",
        type=account,
        metavar="ID",
        help="of that account at Bird alone (customer_id); '': of events that name none",
    )
    export.add_argument("--list", metavar="ID", help="those who left this one list (list_id), and no others")
    export.add_argument("--bird", action="store_true", help="recipient, type, description, as Bird's upload wants them")
    export.add_argument("--postgres", metavar="WHERE", help="name or ARN of its secret, or a connection string")
    export.add_argument("--schema", default="bird", help="of the views in PostgreSQL (%(default)s)")
    return whole


def times(command: argparse.ArgumentParser, default: str) -> None:
    form = "30m, 2h, 3d ago, or 2026-11-24T10:30 (UTC)"
    command.add_argument("--since", type=time_argument, metavar="TIME", help=f"{form}; default: {default}")
    command.add_argument("--until", type=time_argument, metavar="TIME", help="default: now")


def dry_run_and_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only show what would be done")
    command.add_argument("--yes", action="store_true", help="do not ask, even for many")


def time_argument(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no time: {text}") from error


def account(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", text):
        raise argparse.ArgumentTypeError(f"not an account: {text}")
    return text


def subaccount(text: str) -> str:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"no number of a subaccount: {text}")
    return text


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"no positive number: {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
