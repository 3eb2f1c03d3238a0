"""Send batches to a webhook as Bird does, then check that every event is in the lake exactly once.

To a stack, with its own credentials; or to any webhook, whose secret comes from BIRD_SECRET, never from the command
line.
"""

import argparse
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3

from bird_webhooks.errors import OperateError
from bird_webhooks.simulator.batches import BatchMaker
from bird_webhooks.simulator.ledger import ACCEPTED, Ledger
from bird_webhooks.simulator.sender import Basic, Credentials, Header, NoCredentials, OAuth2, Report, Sender
from bird_webhooks.simulator.verify import QUERY_TIMEOUT_SECONDS, Lake, verify
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, print_json, say, step
from report.athena import Athena


@dataclass(frozen=True)
class Webhook:
    """Where batches are sent to, and the lake to check them in, if it is known."""

    url: str
    login: tuple[str, str] | None
    lake: Lake | None
    trust: ssl.SSLContext | None = None


def simulate(stack: Stack | None, options: argparse.Namespace) -> bool:
    """Whether every batch was accepted and every event found. `stack` is None for the webhook of --url."""
    webhook = webhook_of(stack, options)
    path = options.ledger or Path(tempfile.mkdtemp(prefix="bird-simulator-")) / "ledger.ndjson"
    if options.verify_only and not path.exists():
        raise OperateError(f"no ledger to verify: {path}")
    ledger = Ledger(path)
    report = None if options.verify_only else send(options, webhook, ledger)
    show: Callable[[str], None] = say if options.json else print
    if report:
        show(str(report))
    verification = None
    if not options.no_verify and webhook.lake is not None:
        verification = verify(ledger, webhook.lake, wait_seconds=options.wait, progress=step)
    show(str(verification) if verification else "not verified")
    show(f"ledger in {path}")
    if options.json:
        print_json(
            {
                "sent": report and report.figures(),
                "verified": verification and verification.figures(),
                "ledger": str(path),
            }
        )
    all_accepted = all(outcome == ACCEPTED for outcome in ledger.outcomes.values())
    return all_accepted and (verification is None or verification.closes)


def send(options: argparse.Namespace, webhook: Webhook, ledger: Ledger) -> Report:
    start = options.start or datetime.now(UTC).replace(microsecond=0)
    step(f"{options.batches} batches to {webhook.url}; repeat with --seed {options.seed} --start {start.isoformat()}")
    progress = Progress()
    sender = Sender(
        webhook.url,
        credentials(options, webhook),
        ledger,
        connections=options.connections,
        time_scale=options.time_scale,
        sent_twice_share=options.sent_twice,
        batches_per_second=options.rate,
        seed=options.seed,
        trust=webhook.trust,
        progress=lambda report: progress.show(report.progress),
    )
    sender.probe()
    maker = BatchMaker(
        options.seed,
        start,
        line_breaks=not options.no_line_breaks,
        spread_seconds=int(options.days * 86_400),
        like_a_sender=options.like_a_sender,
    )
    report = sender.run(maker.batches(options.batches))
    progress.done()
    return report


def webhook_of(stack: Stack | None, options: argparse.Namespace) -> Webhook:
    trust = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    secret = os.environ.get("BIRD_SECRET")
    login = None if secret is None else (options.user, secret)
    if stack is not None:
        if login is None and options.auth in ("basic", "header"):
            login = stack.credentials()
        return Webhook(stack.webhook_url, login, Lake.of(stack), trust or stack.trust)
    lake = None
    if options.database and options.workgroup:
        session = boto3.session.Session(region_name=options.region, profile_name=options.profile)
        athena = Athena(
            session.client("athena"), options.workgroup, options.database, timeout_seconds=QUERY_TIMEOUT_SECONDS
        )
        lake = Lake(athena, session.client("s3"))
    return Webhook(options.url, login, lake, trust)


def credentials(options: argparse.Namespace, webhook: Webhook) -> Credentials:
    if options.auth == "none":
        return NoCredentials()
    if webhook.login is None:
        raise OperateError("no secret: set BIRD_SECRET")
    user, secret = webhook.login
    match options.auth:
        case "header":
            return Header(options.header, secret)
        case "oauth2":
            if not options.token_url:
                raise OperateError("--auth oauth2 needs --token-url")
            return OAuth2(options.token_url, user, secret, webhook.trust)
    return Basic(user, secret)
