"""The operator's program, `bird-webhooks`: the same as `python -m bird_webhooks`.

    bird-webhooks --stack-name bird-webhooks --region eu-west-1 status
    bird-webhooks status --local

Each command has its --help; docs/operating.md has examples, what they cost, and the permissions they need.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from bird_webhooks import report_page
from bird_webhooks.arguments import STACK_NAME, parser
from bird_webhooks.errors import OperateError
from bird_webhooks.moving import compare, importing, sources
from bird_webhooks.operate import (
    accepting,
    backfill,
    batches,
    check_lake,
    close,
    completeness,
    erase,
    files,
    lists,
    quarantine,
    redrive,
    reload,
    replay,
    rotation,
    status,
    tombstone,
    verify,
)
from bird_webhooks.simulator import simulate
from bird_webhooks.stack import Stack, deployed, local
from report.athena import QueryFailedError

LOOK_BACK = ("backfill", "batches", "replay", "quarantine", "completeness", "compare")
PERMISSIONS = "docs/operating.md lists the permissions"


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 not done or something failed, 2 wrong usage, 130 interrupted."""
    try:
        options = parsed(arguments)
        return run(options)
    except BrokenPipeError:  # what reads the answer has closed, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except NoCredentialsError:
        return failed("no AWS credentials found: set AWS_PROFILE or give --profile")
    except EndpointConnectionError as error:
        return failed("the local AWS does not answer: `make local` starts it" if options.local else str(error))
    except ClientError as error:
        said = error.response["Error"]
        if "AccessDenied" in said["Code"] or "Unauthorized" in said["Code"]:
            return failed(f"not allowed: {error.operation_name} ({PERMISSIONS})")
        return failed(f"{error.operation_name}: {said['Code']}: {said.get('Message', '')}")
    except (OperateError, QueryFailedError, BotoCoreError, psycopg.Error, OSError) as error:
        return failed(str(error))
    except KeyboardInterrupt:
        return 130


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    known = parser()
    options = known.parse_args(arguments)
    in_aws = options.stack_name or options.region or options.profile
    if options.local and in_aws:
        known.error("--local is a stack of its own: leave out --stack-name, --region and --profile")
    if options.command == "simulate":
        if options.url and (options.local or options.stack_name):
            known.error("--url is in place of a stack: leave out --local and --stack-name")
        if not (options.url or options.local or options.stack_name):
            known.error("simulate sends events: name the webhook with --local, --stack-name or --url")
    now = datetime.now(UTC)
    since, until = getattr(options, "since", None), getattr(options, "until", None)
    if options.command in LOOK_BACK and since and since >= now:
        known.error("--since is in the future")
    if options.command in LOOK_BACK and since and until and until <= since:
        known.error("--until is not after --since")
    if options.command == "quarantine" and options.full and not options.bodies:
        known.error("--full is for --bodies")
    if options.command == "status" and options.watch and (options.json or options.check):
        known.error("--watch shows a screen again and again: leave out --json and --check")
    if options.command == "replay":
        if not (options.batch or options.quarantined or options.since):
            known.error("which batches? give --since, --batch or --quarantined")
        if options.force and not options.batch:
            known.error("--force is for batches named with --batch")
    if options.command == "close" and not (options.date or options.register):
        known.error("close what? give --date, or --register")
    if options.command in ("files", "check-lake", "reload") and since and until and until < since:
        known.error("--until is before --since")
    return options


def failed(reason: str) -> int:
    print(f"bird-webhooks: {' '.join(reason.split())}", file=sys.stderr)
    return 1


def the_stack(options: argparse.Namespace) -> Stack:
    return local() if options.local else deployed(options.stack_name or STACK_NAME, options.region, options.profile)


def run(options: argparse.Namespace) -> int:
    """The exit status of the commands that judge; what goes wrong otherwise is an error."""
    now = datetime.now(UTC)
    since, until = getattr(options, "since", None), getattr(options, "until", None) or now
    match options.command:
        case "status":
            return status.show(the_stack(options), as_json=options.json, check=options.check, watch=options.watch)
        case "verify":
            return 0 if verify.verify(the_stack(options), token=options.token, as_json=options.json) else 1
        case "batches":
            batches.show(
                the_stack(options),
                since or now - timedelta(days=1),
                until,
                by_list=options.list,
                keys=options.keys,
                as_json=options.json,
            )
        case "replay":
            stack = the_stack(options)
            if options.batch:
                keys = replay.keys_by_id(stack, options.batch)
            elif options.quarantined:
                keys = replay.keys_quarantined(stack, since or now - timedelta(days=7), until)
            else:
                keys = replay.keys_by_time(stack, options.since, until, options.limit)
            replay.replay(
                stack,
                keys,
                limit=options.limit,
                force=options.force,
                dry_run=options.dry_run,
                yes=options.yes,
                as_json=options.json,
            )
        case "redrive":
            stack = the_stack(options)
            redrive.redrive(stack, options.queue, dry_run=options.dry_run, yes=options.yes, as_json=options.json)
        case "quarantine":
            quarantine.show(
                the_stack(options),
                since or now - timedelta(days=7),
                until,
                details=options.details,
                bodies=options.bodies,
                full=options.full,
                limit=options.limit,
                as_json=options.json,
            )
        case "erase" if options.forget:
            tombstone.forget(the_stack(options), given_address(options.forget), yes=options.yes)
        case "erase":
            erase.erase(
                the_stack(options),
                given_address(options.address),
                since=since,
                postgres=options.postgres,
                schema=options.schema,
                hash_keys=options.hash_key,
                dry_run=options.dry_run,
                yes=options.yes,
                settle_seconds=options.settle,
                thorough=options.thorough,
                as_json=options.json,
            )
        case "rotate":
            rotate(the_stack(options), options)
        case "accept":
            accept(the_stack(options), options)
        case "close":
            close.close(the_stack(options), options.date, register=options.register, as_json=options.json)
        case "completeness":
            completeness.show(the_stack(options), since, until, run=options.run, as_json=options.json)
        case "files":
            files.show(the_stack(options), options.since, options.until, as_json=options.json)
        case "check-lake":
            check_lake.check(
                the_stack(options),
                options.since,
                options.until,
                repair=options.repair,
                limit=options.limit,
                yes=options.yes,
                as_json=options.json,
            )
        case "reload":
            return reload.reload(
                the_stack(options),
                since=options.since,
                until=options.until,
                postgres=options.postgres,
                schema=options.schema,
                wait_seconds=options.wait,
                dry_run=options.dry_run,
                yes=options.yes,
                as_json=options.json,
            )
        case "backfill":
            backfill.backfill(
                the_stack(options),
                options.since,
                options.until,
                options.types,
                now,
                limit=options.limit,
                calls=options.calls,
                dry_run=options.dry_run,
                yes=options.yes,
                as_json=options.json,
            )
        case "list-export":
            lists.export(
                the_stack(options),
                output=options.output,
                since=since,
                subaccount=options.subaccount,
                account=options.account,
                of_list=options.list,
                bird=options.bird,
                postgres=options.postgres,
                schema=options.schema,
            )
        case "report":
            report(options)
        case "import":
            stack = the_stack(options)
            importing.run(
                stack,
                sources.source(options.source, source_s3(stack, options)),
                importing.Choice(
                    account=options.account,
                    publish=options.publish,
                    beyond_retention=options.beyond_retention,
                    dry_run=options.dry_run,
                    wait=not options.no_wait,
                    as_json=options.json,
                ),
            )
        case "compare":
            stack = the_stack(options)
            source = sources.source(options.source, source_s3(stack, options))
            same = compare.run(stack, source, options.since, until, account=options.account, as_json=options.json)
            return 0 if same else 1
        case "simulate":
            return 0 if simulate.simulate(None if options.url else the_stack(options), options) else 1
    return 0


def source_s3(stack: Stack, options: argparse.Namespace) -> Callable[[], Any]:
    """For the bucket that old batches come from, which may be of another account or region."""
    if options.source_profile:
        other = deployed("", options.source_region or options.region, options.source_profile)
        return lambda: other.s3
    return lambda: stack.client("s3", options.source_region) if options.source_region else stack.s3


def given_address(text: str) -> str:
    """`-` reads it from the standard input, where no list of commands or processes keeps it."""
    address = (sys.stdin.readline() if text == "-" else text).strip()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
        raise OperateError("not an email address: give one such as name@example.com")
    return address


def rotate(stack: Stack, options: argparse.Namespace) -> None:
    match options.step:
        case "start":
            rotation.start(stack, show=options.show, username=options.username)
        case "finish":
            rotation.finish(stack, quiet=options.quiet, force=options.force, yes=options.yes)
        case "abort":
            rotation.abort(stack, yes=options.yes)
        case "show":
            rotation.show_credentials(stack, as_json=options.json)
        case "status":
            rotation.show_state(stack, as_json=options.json)


def accept(stack: Stack, options: argparse.Namespace) -> None:
    match options.step:
        case "start":
            accepting.start(stack, username=options.username, header=options.header, secret=options.secret)
        case "end":
            accepting.end(stack, quiet=options.quiet, force=options.force, yes=options.yes)
        case "status":
            accepting.show_state(stack, as_json=options.json)


def report(options: argparse.Namespace) -> None:
    if options.action == "link":
        report_page.link(the_stack(options), hours=options.expires)
        return
    # A database can be asked without a stack; its secret is still in an account.
    alone = options.postgres is not None and not (options.local or options.stack_name)
    report_page.make(
        deployed("", options.region, options.profile) if alone else the_stack(options),
        report_page.Asked(options.days, options.until, options.timezone, tuple(options.by), options.thresholds),
        postgres=options.postgres,
        schema=options.schema,
        output=options.output,
    )


if __name__ == "__main__":
    sys.exit(main())
