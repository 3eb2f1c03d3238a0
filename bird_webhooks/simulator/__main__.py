"""Send batches to a webhook as Bird does, then check that every event is in the lake exactly once.

    python -m bird_webhooks.simulator --local                       the stack of `make local`
    python -m bird_webhooks.simulator --stack bird-webhooks         a deployed stack, with your AWS credentials
    python -m bird_webhooks.simulator --url https://… --user bird   any webhook; it cannot look into its lake

Passwords and secrets come from the environment (BIRD_SECRET) or from the stack's secret, never from the command line.
"""

import argparse
import json
import os
import ssl
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import boto3

from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import Ledger
from bird_webhooks.simulator.sender import (
    Basic,
    Credentials,
    Header,
    NoCredentials,
    OAuth2,
    ProbeRefusedError,
    Report,
    Sender,
)
from bird_webhooks.simulator.verify import Lake, verify
from local_aws import emulator as local_emulator
from local_aws.deploy import Stack
from local_aws.emulator import LOCAL


class Target(NamedTuple):
    url: str
    login: tuple[str, str] | None
    lake: Lake | None
    trust: ssl.SSLContext | None = None


def main() -> int:
    options = parser().parse_args()
    try:
        return run(options)
    except (OSError, ProbeRefusedError, LookupError) as error:
        print(f"bird_simulator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bird_webhooks.simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", action="store_true", help="the stack that `make local` left running")
    where.add_argument("--stack", metavar="NAME", help="a deployed stack of this application")
    where.add_argument("--url", help="a webhook's URL")
    made.add_argument("--auth", choices=["basic", "header", "oauth2", "none"], default="basic")
    made.add_argument("--user", default="bird", help="user name (basic) or client id (oauth2); default %(default)s")
    made.add_argument("--header", default="x-webhook-token", help="header of the secret; default %(default)s")
    made.add_argument("--token-url", help="where a token is fetched with the client credentials (oauth2)")
    made.add_argument("--ca-file", help="certificate to trust beside the system's")
    made.add_argument("--database", help="Glue database to verify in, with --url")
    made.add_argument("--workgroup", help="Athena workgroup to verify with, with --url")
    made.add_argument("--batches", type=int, default=100, help="how many; default %(default)s")
    made.add_argument("--rate", type=float, help="batches per second; default as fast as they are taken")
    made.add_argument("--connections", type=int, default=16, help="at once; default %(default)s")
    made.add_argument("--seed", type=int, default=1, help="the same seed and start give the same batches")
    made.add_argument("--start", type=datetime.fromisoformat, help="newest time of an event, ISO 8601; default now")
    made.add_argument("--days", type=float, default=2, help="before it, in which the events happened; default 2")
    made.add_argument("--like-a-sender", action="store_true", help="types as often as in real mail, for pictures")
    made.add_argument("--time-scale", type=float, default=1, help="1000: retry after 14 ms instead of 14 s")
    made.add_argument("--sent-twice", type=float, default=0.02, help="share of accepted batches sent again")
    made.add_argument("--no-line-breaks", action="store_true", help="in no value: Athena cannot read them from CSV")
    made.add_argument("--ledger", type=Path, help="file to keep, and to go on with if it is there")
    made.add_argument("--verify-only", action="store_true", help="send nothing, verify the ledger's batches")
    made.add_argument("--no-verify", action="store_true", help="send only")
    made.add_argument("--wait", type=float, default=300, help="seconds to wait for the rows; default %(default)s")
    return made


def run(options: argparse.Namespace) -> int:
    target = find_target(options)
    path = options.ledger or Path(tempfile.mkdtemp(prefix="bird-simulator-")) / "ledger.ndjson"
    if options.verify_only and not path.exists():
        raise FileNotFoundError(f"no ledger to verify: {path}")
    ledger = Ledger(path)
    if not options.verify_only:
        send(options, target, ledger)
    given_up = sum(outcome != "accepted" for outcome in ledger.outcomes.values())
    if options.no_verify or target.lake is None:
        print(f"not verified; ledger in {path}")
        return 1 if given_up else 0
    verification = verify(ledger, target.lake, wait_seconds=options.wait, progress=say)
    print(verification)
    print(f"ledger in {path}")
    return 0 if verification.closes and not given_up else 1


def send(options: argparse.Namespace, target: Target, ledger: Ledger) -> None:
    start = options.start or datetime.now(UTC).replace(microsecond=0)
    say(f"{options.batches} batches to {target.url}; repeat with --seed {options.seed} --start {start.isoformat()}")
    sender = Sender(
        target.url,
        credentials(options, target),
        ledger,
        connections=options.connections,
        time_scale=options.time_scale,
        sent_twice_share=options.sent_twice,
        batches_per_second=options.rate,
        seed=options.seed,
        trust=target.trust,
        progress=Progress(),
    )
    sender.probe()
    maker = BatchMaker(
        options.seed,
        start,
        line_breaks=not options.no_line_breaks,
        spread_seconds=int(options.days * 86_400),
        like_a_sender=options.like_a_sender,
    )
    print(sender.run(maker.batches(options.batches)))


class Progress:
    """A line every few seconds."""

    def __init__(self, every_seconds: float = 5) -> None:
        self._every, self._next = every_seconds, time.monotonic() + every_seconds

    def __call__(self, report: Report) -> None:
        if time.monotonic() >= self._next:
            self._next += self._every
            refused = report.refused_attempts.total()
            say(f"{report.batches} sent, {report.accepted} accepted, {refused} attempts to repeat")


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def find_target(options: argparse.Namespace) -> Target:
    if options.local:
        return local_target()
    trust = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    secret = os.environ.get("BIRD_SECRET")
    login = None if secret is None else (options.user, secret)
    if options.stack is None:
        lake = None
        if options.database and options.workgroup:
            lake = Lake(boto3.client("athena"), boto3.client("s3"), options.database, options.workgroup)
        return Target(options.url, login, lake, trust)
    [stack] = boto3.client("cloudformation").describe_stacks(StackName=options.stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    if login is None and options.auth in ("basic", "header"):
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=outputs["WebhookSecretArn"])
        stored: dict[str, str] = json.loads(answer["SecretString"])
        login = stored["username"], stored["password"]
    lake = Lake(boto3.client("athena"), boto3.client("s3"), outputs["GlueDatabaseName"], outputs["AthenaWorkGroupName"])
    return Target(outputs["WebhookUrl"], login, lake, trust)


def local_target() -> Target:
    local_emulator.forget_real_aws()
    emulator = local_emulator.recall()
    outputs = LOCAL / "outputs.json"
    if emulator is None or not outputs.exists():
        raise LookupError("no local stack is running: `make local` first")
    stack = Stack(emulator, json.loads(outputs.read_text())["StackName"], json.loads(outputs.read_text()))
    trust = ssl.create_default_context(cafile=emulator.certificate) if emulator.auth else None
    return Target(stack.outputs["WebhookUrl"], stack.credentials(), lake_of(stack), trust)


def lake_of(stack: Stack) -> Lake:
    """The lake of a local stack."""
    names = stack.outputs["GlueDatabaseName"], stack.outputs["AthenaWorkGroupName"]
    return Lake(
        stack.emulator.client("athena"),
        stack.emulator.client("s3"),
        *names,
        result_key=lambda key: f"{key}/{key.rpartition('/')[2]}",
    )


def credentials(options: argparse.Namespace, target: Target) -> Credentials:
    if options.auth == "none":
        return NoCredentials()
    if target.login is None:
        raise LookupError("no secret: set BIRD_SECRET")
    user, secret = target.login
    match options.auth:
        case "header":
            return Header(options.header, secret)
        case "oauth2":
            if not options.token_url:
                raise LookupError("--auth oauth2 needs --token-url")
            return OAuth2(options.token_url, user, secret, target.trust)
    return Basic(user, secret)


if __name__ == "__main__":
    sys.exit(main())
