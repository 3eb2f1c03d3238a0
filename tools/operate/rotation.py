"""A new credential for Bird while the old one stays valid: begun, then finished or aborted.

Where a rotation stands is told by the labels of the secret's versions and by the stack's AcceptPreviousCredentials, so
that a command that was interrupted can be given again. ingest accepts what the last update of the stack read:

    start    new version AWSPENDING; the stack accepts current and pending; the new version becomes AWSCURRENT
    finish   the stack accepts the current one alone; the old version loses its label
    abort    the old version becomes AWSCURRENT again; the stack accepts it alone; the new version loses its label

In no order of failures does an update, or its rollback, leave out what Bird has.

Where the stack has registered its webhook at Bird itself, each of its updates gives Bird the current version. Therefore
`start` and `abort` update the stack once more while both versions are accepted, after the other one became current.
"""

import json
import secrets
import string
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from tools.operate.target import OperateError, Target, confirm, say

ALPHABET = string.ascii_letters + string.digits
PASSWORD_CHARACTERS = 43  # of 62: 256 bits, as the template makes it
CURRENT, PENDING, PREVIOUS, ABORTED = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "ROTATION_ABORTED"
UPDATE_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Rotation:
    """Where a rotation stands. `versions` is the id of the secret's version by its label."""

    accepts_previous: bool
    versions: dict[str, str]

    @property
    def words(self) -> str:
        if ABORTED in self.versions:
            return "an abort was interrupted: `rotate abort` again"
        if PENDING in self.versions:
            return "a start was interrupted: `rotate start` again, or `rotate abort`"
        if self.accepts_previous:
            return "open, old and new credentials are accepted: then `rotate finish`, or `rotate abort`"
        return "none is open"


def state(target: Target) -> Rotation:
    found = target.client("secretsmanager").describe_secret(SecretId=target.output("WebhookSecretArn"))
    versions = {
        label: version for version, labels in found.get("VersionIdsToStages", {}).items() for label in sorted(labels)
    }
    return Rotation(target.parameters()["AcceptPreviousCredentials"] == "true", versions)


def start(target: Target, *, show: bool) -> None:
    require_rotatable(target)
    rotation = state(target)
    if ABORTED in rotation.versions:
        raise OperateError("an abort was interrupted: `rotate abort` again first")
    if PENDING not in rotation.versions:
        if rotation.accepts_previous:
            raise OperateError("a rotation is open: `rotate finish` or `rotate abort` first")
        if PREVIOUS in rotation.versions:  # dropped long ago: it must not be let in again
            move(target, PREVIOUS, source=rotation.versions[PREVIOUS])
        rotation.versions[PENDING] = put_new_version(target)
        say("new credentials made")
    if not rotation.accepts_previous:
        update_stack(target, accept_previous=True)
    pending = rotation.versions[PENDING]
    if rotation.versions[CURRENT] != pending:
        move(target, CURRENT, source=rotation.versions[CURRENT], destination=pending)
    registered = is_registered(target)
    if registered:  # still pending, so that a start which ends here is taken up again
        update_stack(target, accept_previous=True)
    move(target, PENDING, source=pending)
    if registered:
        print("Old and new credentials are accepted, and Bird has the new ones. Wait a little, then `rotate finish`.")
    else:
        print("Old and new credentials are accepted. Change them in Bird now, then `rotate finish`.")
    if show:
        show_credentials(target)
    elif not registered:
        print("`rotate show` prints the new ones.")


def finish(target: Target, *, quiet: timedelta, force: bool) -> None:
    require_rotatable(target)
    rotation = state(target)
    if ABORTED in rotation.versions or PENDING in rotation.versions:
        raise OperateError(rotation.words)
    if not rotation.accepts_previous:
        raise OperateError("no rotation is open: `rotate start` begins one")
    if not force:
        require_old_unused(target, quiet)
    update_stack(target, accept_previous=False)
    if previous := rotation.versions.get(PREVIOUS):
        move(target, PREVIOUS, source=previous)
    print("Only the new credentials are accepted.")


def abort(target: Target, *, yes: bool) -> None:
    require_rotatable(target)
    rotation = state(target)
    versions = rotation.versions
    pending = versions.get(PENDING)
    if pending is not None and pending != versions[CURRENT]:  # Bird cannot have them yet
        if rotation.accepts_previous:
            update_stack(target, accept_previous=False)
        move(target, PENDING, source=pending)
        print("The new credentials were dropped; the old ones are accepted as before.")
        return
    if not rotation.accepts_previous and ABORTED not in versions:
        raise OperateError("no rotation is open: there is nothing to abort")
    if ABORTED not in versions:
        if PREVIOUS not in versions:
            raise OperateError("the secret has no previous version to go back to")
        if is_registered(target):
            confirm("Bird gets its old credentials back. Drop the new ones?", yes=yes)
        else:
            confirm("Bird must have its old credentials back before. Drop the new ones?", yes=yes)
        move(target, ABORTED, destination=versions[CURRENT])
        versions[ABORTED] = versions[CURRENT]
        if pending is not None:
            move(target, PENDING, source=pending)
    if versions[CURRENT] == versions[ABORTED]:
        move(target, CURRENT, source=versions[CURRENT], destination=versions[PREVIOUS])
    if rotation.accepts_previous:
        if is_registered(target):
            update_stack(target, accept_previous=True)
        update_stack(target, accept_previous=False)
    if state(target).versions.get(PREVIOUS) == versions[ABORTED]:
        move(target, PREVIOUS, source=versions[ABORTED])
    move(target, ABORTED, source=versions[ABORTED])
    print("The new credentials were dropped; only the old ones are accepted.")


def show_credentials(target: Target) -> None:
    found = target.client("secretsmanager").get_secret_value(
        SecretId=target.output("WebhookSecretArn"), VersionStage=CURRENT
    )
    secret = json.loads(found["SecretString"])
    parameters = target.parameters()
    if parameters["WebhookAuth"] == "HEADER":
        print(f"{parameters['WebhookHeader']}: {secret['password']}")
    else:
        print(f"username: {secret['username']}\npassword: {secret['password']}")


def is_registered(target: Target) -> bool:
    """Whether the stack itself made the webhook at Bird. Stacks of older versions know no such parameter."""
    return bool(target.parameters().get("BirdApiKeySecretArn"))


def require_rotatable(target: Target) -> None:
    parameters = target.parameters()
    if parameters["WebhookAuth"] not in ("BASIC", "HEADER"):
        raise OperateError(f"WebhookAuth is {parameters['WebhookAuth']}: there are no credentials of ours to rotate")
    status = target.description()["StackStatus"]
    if not status.endswith("_COMPLETE"):
        raise OperateError(f"stack {target.name} is {status}: wait until it is at rest, or mend it first")


def require_old_unused(target: Target, quiet: timedelta) -> None:
    """Errors: OperateError while Bird still sends the old credentials, or has not sent the new ones."""
    _, group = target.resources["IngestLogGroup"]
    minutes = round(quiet.total_seconds() / 60)
    if logged(target, group, '{ $.message = "previous credentials used" }', quiet):
        raise OperateError(
            f"the old credentials were used within {minutes} minutes: change them in Bird and wait, or --force"
        )
    stored = '{ ($.message = "batch stored") || ($.message = "batch was a duplicate") }'
    if not logged(target, group, stored, quiet):
        raise OperateError(
            f"no batch came within {minutes} minutes, so the new credentials are unproven: wait, or --force"
        )


def logged(target: Target, group: str, pattern: str, within: timedelta) -> bool:
    since = int((datetime.now(UTC) - within).timestamp() * 1000)
    pages = target.client("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=group, filterPattern=pattern, startTime=since)
    return any(page["events"] for page in found)


def put_new_version(target: Target) -> str:
    """The id of a version that has all of the current one but the password."""
    client, arn = target.client("secretsmanager"), target.output("WebhookSecretArn")
    secret = json.loads(client.get_secret_value(SecretId=arn, VersionStage=CURRENT)["SecretString"])
    secret["password"] = "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_CHARACTERS))
    made = client.put_secret_value(
        SecretId=arn, SecretString=json.dumps(secret), VersionStages=[PENDING], ClientRequestToken=str(uuid.uuid4())
    )
    return str(made["VersionId"])


def move(target: Target, label: str, *, source: str | None = None, destination: str | None = None) -> None:
    """A label of the secret's, from one version and to another."""
    ends = {"RemoveFromVersionId": source, "MoveToVersionId": destination}
    target.client("secretsmanager").update_secret_version_stage(
        SecretId=target.output("WebhookSecretArn"),
        VersionStage=label,
        **{name: version for name, version in ends.items() if version},
    )


def update_stack(target: Target, *, accept_previous: bool) -> None:
    """The same template and parameters but for the two of a rotation, with each resource said as it is done."""
    client = target.client("cloudformation")
    before = target.parameters()
    new = {
        "AcceptPreviousCredentials": str(accept_previous).lower(),
        "CredentialsVersion": str(int(before["CredentialsVersion"]) + 1),
    }
    seen = {event["EventId"] for event in recent_events(target)}
    client.update_stack(
        StackName=target.name,
        UsePreviousTemplate=True,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": new[name]}
            if name in new
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in before
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],  # the second for the SAM transform
    )
    say(f"updating stack {target.name}")
    deadline = time.monotonic() + UPDATE_TIMEOUT_SECONDS
    reason = ""
    while True:
        status = target.description()["StackStatus"]
        for event in reversed(recent_events(target)):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            say(f"  {event['LogicalResourceId']}: {event['ResourceStatus']}")
            if event["ResourceStatus"].endswith("_FAILED"):
                reason = reason or f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        if status == "UPDATE_COMPLETE":  # not before its clean-up is over: CloudFormation refuses another update
            return
        if not status.endswith("_IN_PROGRESS"):
            raise OperateError(f"the update ended as {status} ({reason}); what Bird has is still accepted")
        if time.monotonic() > deadline:
            raise OperateError(f"the update is still {status} after {UPDATE_TIMEOUT_SECONDS // 60} minutes")
        time.sleep(target.poll_seconds)


def recent_events(target: Target) -> list[dict[str, Any]]:
    """Newest first."""
    try:
        events = target.client("cloudformation").describe_stack_events(StackName=target.name)["StackEvents"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            return []  # they are for the eyes alone
        raise
    return list(events)
