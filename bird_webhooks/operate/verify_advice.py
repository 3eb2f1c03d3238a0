"""What a failed check of `verify` means, what to do about it, and which section says more."""

from bird_webhooks.operate.findings import Advice
from bird_webhooks.operate.verify_settings import ADVICE as OF_SETTINGS

RUNBOOK = "docs/runbook.md"
NAME_AND_CERTIFICATE = f"{RUNBOOK}#name-and-certificate"
ADVICE = {
    "stack": Advice(
        "The last deployment has not ended well, or has not ended: what is there is not what was asked for",
        "wait while it is in progress; else read the first failure among the stack's events, fix it and deploy again",
        f"{RUNBOOK}#a-deployment-that-failed",
    ),
    "name": Advice(
        "Bird cannot find the webhook: its batches wait at Bird for 8 hours and are then lost",
        "point the name at the output LoadBalancerDnsName or HttpApiDnsName, and wait until it has spread",
        NAME_AND_CERTIFICATE,
    ),
    "certificate": Advice(
        "Bird refuses to send over a connection that it cannot trust; its batches wait for 8 hours and are then lost",
        "give the stack a valid certificate for this very name (CertificateArn), or see why ACM did not renew it",
        NAME_AND_CERTIFICATE,
    ),
    "probe": Advice(
        "Bird tries the address like this before it takes a webhook, and takes nothing but 200",
        "see the log of ingest; without a line there, the request has not come so far: see name and listener rule",
        f"{RUNBOOK}#ingesterrorsalarm",
    ),
    "stranger": Advice(
        "Every person who knows the address can write events into your data",
        "set WebhookAuth to BASIC or HEADER, deploy with CredentialsVersion raised, and look at what was stored",
        f"{RUNBOOK}#requestsrejectedalarm",
    ),
    "other path": Advice(
        "More of the load balancer or API leads to ingest, or to something else, than WebhookPath",
        "look for listener rules or routes that were added by hand",
        NAME_AND_CERTIFICATE,
    ),
    "batch stored": Advice(
        "Bird's batches are not stored either: Bird repeats them for 8 hours, then they are lost",
        "see the log of ingest, `batch not stored` or `request rejected`, with its reason",
        f"{RUNBOOK}#batchesnotstoredalarm",
    ),
    "row in events": Advice(
        "Batches are stored, and do not become rows in time; nothing is lost",
        "see the lines about notifications, event sources and queues, then the log of process",
        f"{RUNBOOK}#batches-without-rows",
    ),
    "view": Advice(
        "Questions to this view fail; what is stored is not touched",
        "put the view back as the template has it; if it still fails, report Athena's words",
        f"{RUNBOOK}#a-view-or-query-that-fails",
    ),
    "query": Advice(
        "This saved query fails; what is stored is not touched",
        "put it back as the template has it; if it still fails, report Athena's words",
        f"{RUNBOOK}#a-view-or-query-that-fails",
    ),
    "row in PostgreSQL": Advice(
        "Rows do not reach PostgreSQL in time; they are in the lake and wait for 13 days",
        "see the log of load_postgres, `file not loaded yet`, with its reason",
        f"{RUNBOOK}#postgresqueueagealarm",
    ),
    "alarms are heard": Advice(
        "Alarms fire and no person is told",
        "confirm the subscription by the link in AWS's mail, or subscribe another address to the topic AlarmTopic",
        f"{RUNBOOK}#alarms-that-are-not-heard",
    ),
    "no alarm fires": Advice(
        "Something is wrong with the stack already, or was within the alarm's period",
        "follow the sections of these alarms",
        RUNBOOK,
    ),
    **{
        f"queue {reader}": Advice(
            "What waits here does not get less: its reader fails, is disabled, or is too slow",
            "see the log of its reader and the line about event sources",
            f"{RUNBOOK}#{alarm}",
        )
        for reader, alarm in (
            ("Process", "queueagealarm"),
            ("PublishEvents", "eventslatealarm"),
            ("Postgres", "postgresqueueagealarm"),
            ("", "queueagealarm"),
        )
    },
    **{
        f"dead letters {reader}": Advice(
            "Messages failed in every try; batches and rows themselves are safe",
            "fix the cause that the reader's log names, then move them back, within 14 days",
            f"{RUNBOOK}#{alarm}",
        )
        for reader, alarm in (
            ("Process", "deadlettersalarm"),
            ("PublishEvents", "eventsnotpublishedalarm"),
            ("Postgres", "postgresdeadlettersalarm"),
            ("", "deadlettersalarm"),
        )
    },
    "report": Advice(
        "The link to the daily report does not open",
        "run `bird-webhooks report link` and see what S3 says: a policy or a key of yours may deny it",
        f"{RUNBOOK}#reporterrorsalarm",
    ),
    "webhook at Bird": Advice(
        "Bird sends its events elsewhere, or not at all, or is refused",
        "deploy with CredentialsVersion raised, which gives Bird address and credentials again; activate it there",
        f"{RUNBOOK}#the-webhook-at-bird",
    ),
    "completeness": Advice(
        "Bird and this stack do not have the same events",
        "see `bird-webhooks completeness`; missing events are fetched by themselves, or by `backfill`",
        "docs/completeness.md",
    ),
    "test data removed": Advice(
        "A test event has stayed in the raw bucket, in the rows or in PostgreSQL; no view, list or rate counts it",
        "run `verify` again: it removes what earlier runs have left",
        "docs/operating.md#verify",
    ),
    **OF_SETTINGS,
}

ALARMS_CHANGED = Advice(
    "Alarms were deleted or their actions disabled: when they should fire, no person is told",
    "enable them (`aws cloudwatch enable-alarm-actions`); detect drift of the stack for deleted ones",
    f"{RUNBOOK}#alarms-that-are-not-heard",
)


def advice_for(check: str) -> Advice:
    """By the beginning of its name: views, queries and queues have one each."""
    return next(advice for name, advice in ADVICE.items() if check.startswith(name))
