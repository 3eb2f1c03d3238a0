"""Events that Bird has and the stack has not, of up to the last ten days, fetched and stored by hand.

The same as what the stack does by itself for gaps that it has found (functions/reconcile): what is absent becomes raw
batches, of which process makes rows. Nothing is stored twice, so a run may end anywhere and be given again.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import completeness, tombstone
from bird_webhooks.operate.verify import BIRD_APIS
from bird_webhooks.simulator.verify import Lake
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import Progress, confirm, print_json, say
from reconcile.as_webhook import CLASS_OF_TYPE, NOT_IN_EVENTS_API, WITHOUT_ID
from reconcile.athena import Athena, QueryFailedError
from reconcile.counting import AthenaOurs, Whose
from reconcile.events_api import (
    CallBudget,
    CallsSpentError,
    EventsApi,
    NoAnswerError,
    NoGrantError,
    RefusedError,
    UntrustedError,
    Webhook,
)
from reconcile.filling import Covers, Filled, Limits, Store, fill
from reconcile.raw_batches import NothingStored, RawBatches
from reconcile.tombstones import Erased, Tombstones, UnknownKeyError
from reconcile.verdicts import Verdicts
from register_webhook.webhook import UnusableSettingError, api_key

RETENTION = timedelta(days=10)  # of Bird's Events API
SETTLED = timedelta(minutes=80)  # by then the webhook has brought what it brings without a failure
VISIBLE = timedelta(minutes=1)  # Bird's own default leaves out the last minute
QUERY_TIMEOUT_SECONDS = 300
# Bird's pauses are Bird's; what stands in for it on this machine needs none.
LOCAL_PAUSE_SECONDS = 0.01


def backfill(
    stack: Stack,
    since: datetime,
    until: datetime | None,
    types: Sequence[str],
    now: datetime,
    *,
    limit: int,
    calls: int,
    dry_run: bool,
    yes: bool,
    as_json: bool = False,
) -> None:
    """Errors: OperateError, also if a bound was reached or events were held; what was stored stays."""
    begin, end = window(since, until, now)
    api = events_api(stack, calls)
    began = time.monotonic()
    try:
        webhook = api.webhook(stack.output("BirdWebhookId"))
        chosen = chosen_types(webhook, types)
        say("started by hand: this does not wait until the stack's own comparison with Bird has passed")
        if not dry_run:
            confirm(f"Store what stack {stack.name} lacks of {shown(begin)} to {shown(end)} UTC?", yes=yes)
        filled = run(stack, api, begin, end, chosen, webhook, limit, dry_run=dry_run)
    except NoGrantError as error:
        raise OperateError(f"{error}: add it in Bird's list of API keys, then give the command again") from None
    except NoAnswerError as error:
        raise OperateError(f"{error}: give the command again later, and it goes on from there") from None
    except UntrustedError as error:
        raise OperateError(f"Bird's answer fails a check and was not used: {error}; give the command again") from None
    except RefusedError as error:
        raise OperateError(f"Bird refused: {error}") from None
    except QueryFailedError as error:
        raise OperateError(f"{error}: what was stored until then stays; give the command again") from None
    except UnknownKeyError as error:
        raise OperateError(f"{error}: who was erased cannot be told, so nothing is filled in") from None
    seconds = time.monotonic() - began
    if not (dry_run or types or filled.left):
        # From here on the stack compares with Bird what is older than its webhook, too.
        whole = Verdicts(completeness.LakeFiles(stack)).write_imported(begin, None if until is None else end)
        if not whole:
            say("these hours are not compared with Bird: those from --until to what is compared were left out")
    if as_json:
        facts: dict[str, Any] = {**vars(filled), "calls": api.calls.spent, "seconds": round(seconds, 1)}
        print_json({"since": begin, "until": end, "types": chosen, "dry_run": dry_run, **facts})
    else:
        print(text(filled, begin, end, api.calls.spent, seconds, dry_run=dry_run))
    if filled.held:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in filled.held.items())
        raise OperateError(f"of a type whose class is not known, and not stored: {kinds}")
    if filled.left:
        raise OperateError("stopped at --limit or --calls: give the command again, and it goes on")


def window(since: datetime, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """In whole minutes, within what Bird keeps. Errors: OperateError."""
    oldest = now - RETENTION + VISIBLE
    if since < oldest:
        say(f"Bird keeps events for ten days: from {shown(oldest)} UTC")
    begin = max(since, oldest) + timedelta(minutes=1) - timedelta.resolution
    end = now - SETTLED if until is None else min(until, now - VISIBLE)
    begin, end = (moment.replace(second=0, microsecond=0) for moment in (begin, end))
    if begin >= end:
        newest = (
            "80 minutes ago, because the webhook still brings later events; or give --until" if until is None else ""
        )
        raise OperateError(f"nothing to fetch: --until is not after --since {newest}".strip())
    if until is not None and end > now - SETTLED:
        say("the webhook may still bring events of the last 80 minutes: those would be stored twice, and shown once")
    return begin, end


def events_api(stack: Stack, calls: int) -> EventsApi:
    """Errors: OperateError if the stack has no API key."""
    parameters = stack.parameters
    if not parameters.get("BirdApiKeySecretArn") or "BirdWebhookId" not in stack.outputs:
        raise OperateError("the stack has no API key of Bird's: deploy it with BirdApiKeySecretArn first")
    try:
        key = api_key(stack.secret_text(parameters["BirdApiKeySecretArn"]))
    except UnusableSettingError as error:
        raise OperateError(str(error)) from None
    url = parameters.get("BirdApiUrl") or BIRD_APIS[parameters.get("BirdRegion", "US")]
    subaccount = parameters.get("BirdSubaccount", "")
    account = Verdicts(completeness.LakeFiles(stack)).calibration().get("account")  # whose events were the webhook's
    return EventsApi(url, key, CallBudget(calls), pause(stack), account, subaccount)


def chosen_types(webhook: Webhook, types: Sequence[str]) -> list[str]:
    """Of the webhook's types those to be filled in. Errors: OperateError."""
    if strange := sorted(set(types) - set(webhook.types)):
        raise OperateError(f"the webhook does not send {', '.join(strange)}: it sends {', '.join(webhook.types)}")
    cannot = NOT_IN_EVENTS_API | WITHOUT_ID
    if never := sorted(cannot & set(types or webhook.types)):
        say(f"Bird's Events API cannot give these back: {', '.join(never)}")
    return [kind for kind in types or webhook.types if kind not in cannot]


def run(
    stack: Stack,
    api: EventsApi,
    begin: datetime,
    end: datetime,
    types: Sequence[str],
    webhook: Webhook,
    limit: int,
    *,
    dry_run: bool,
) -> Filled:
    store: Store = NothingStored()
    if not dry_run:
        store = RawBatches(stack.s3, stack.output("RawBucketName"), stack.raw_prefix)
    progress = Progress()
    here = ours(stack)
    if api.account is None:
        with suppress(CallsSpentError):  # which fill says
            api.count(begin, end, [kind for kind in types if kind in CLASS_OF_TYPE])  # an event names the account
    # Events of another account or subaccount, such as imported ones, would hide as many that are missing.
    here.whose = Whose(api.account, webhook.subaccount, webhook.exceptions)

    def tell(filled: Filled, until: datetime) -> None:
        progress.show(
            f"up to {shown(until)} UTC: {filled.stored:,} events absent of {filled.compared:,} fetched, "
            f"{api.calls.spent:,} calls"
        )

    try:
        return fill(api, here, store, erased(stack), begin, end, types, Limits(limit), webhook, tell)
    finally:
        progress.done()


def ours(stack: Stack) -> AthenaOurs:
    athena = Athena(
        stack.client("athena"),
        stack.output("AthenaWorkGroupName"),
        stack.output("GlueDatabaseName"),
        timeout_seconds=QUERY_TIMEOUT_SECONDS,
        poll_seconds=min(0.5, stack.poll_seconds),
    )
    lake = Lake.of(stack)

    def read(address: str) -> bytes:
        return bytes(stack.s3.get_object(**lake.result_file(address))["Body"].read())

    return AthenaOurs(athena, read, of_text=stack.parameters.get("OutputFormat") == "CSV")


def erased(stack: Stack) -> Callable[[], Covers]:
    """Read again every minute. A stack from before there were tombstones has none."""
    if not tombstone.has_key(stack):
        return lambda: Tombstones(b"", {})
    key = stack.secret_text(stack.output("TombstoneKeyArn")).encode()
    return Erased(stack.s3, stack.output("LakeBucketName"), key)


def pause(stack: Stack) -> Callable[[float], None]:
    if stack.reached_at is None:
        return time.sleep
    return lambda seconds: time.sleep(min(seconds, LOCAL_PAUSE_SECONDS))


def text(filled: Filled, begin: datetime, end: datetime, calls: int, seconds: float, *, dry_run: bool) -> str:
    lines = [
        f"period    {shown(begin)} to {shown(end)} UTC",
        f"{'absent' if dry_run else 'stored':10}{filled.stored:,} events, in {filled.batches:,} raw batches",
    ]
    if filled.waiting:
        lines.append(
            f"waiting   {filled.waiting:,} stored by an earlier run, and not rows yet: `replay` if it stays so"
        )
    if filled.erased:
        lines.append(f"erased    {filled.erased:,} of persons who were erased: left out")
    lines.append(f"fetched   {filled.compared:,} events, by {calls:,} calls in {seconds:,.0f} s")
    return "\n".join(lines)


def shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
