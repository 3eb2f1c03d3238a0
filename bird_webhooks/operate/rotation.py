"""A new credential for Bird while the old one stays valid: begun, then finished or aborted.

Where a rotation stands is told by the labels of the secret's versions alone, so that a command that was interrupted can
be given again. Any update of the stack, a deployment by someone else included, has ingest accept the versions labelled
AWSPENDING, AWSCURRENT and ALSO_ACCEPTED (functions/webhook_credentials), and gives a registered Bird the current one:

    start    old: ALSO_ACCEPTED; new: AWSPENDING; update; new: AWSCURRENT (update, if registered); AWSPENDING removed
    finish   ALSO_ACCEPTED to the current version; update; ALSO_ACCEPTED and AWSPREVIOUS removed
    abort    new: AWSPENDING; old: AWSCURRENT (update, if registered); AWSPENDING removed; then as finish

In no order of failures does an update, or its rollback, leave out what Bird has.
"""

import json
import re
import secrets
import string
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from bird_webhooks.stack import OperateError, Target, confirm, say

ALPHABET = string.ascii_letters + string.digits
PASSWORD_CHARACTERS = 43  # of 62: 256 bits, as the template makes it
CURRENT, PENDING, PREVIOUS, ALSO = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "ALSO_ACCEPTED"
USERNAME = r"[A-Za-z0-9._-]{1,64}"  # no colon: it ends the user name in Basic authentication
UPDATE_TIMEOUT_SECONDS = 1800
MOST_VERSION = 1_000_000  # the bound of CredentialsVersion, of which only a change counts


@dataclass(frozen=True)
class Rotation:
    """Where a rotation stands. `versions` is the id of the secret's version by its label."""

    versions: dict[str, str]

    @property
    def pending(self) -> str | None:
        """The version that a start brings in or an abort takes out, while one of them is under way."""
        pending = self.versions.get(PENDING)
        # A rotation by Secrets Manager itself leaves the label on the current version.
        return None if pending == self.versions[CURRENT] and ALSO not in self.versions else pending

    @property
    def is_open(self) -> bool:
        return self.pending is None and self.versions.get(ALSO, self.versions[CURRENT]) != self.versions[CURRENT]

    @property
    def words(self) -> str:
        if self.is_open:
            return "open, old and new credentials are accepted: then `rotate finish`, or `rotate abort`"
        if self.pending is not None:
            return "a start or an abort was interrupted: `rotate start` goes on, or `rotate abort` goes back"
        if ALSO in self.versions:
            return "the last step was interrupted: `rotate finish` completes it, or `rotate start` begins anew"
        return "none is open"


def state(target: Target) -> Rotation:
    found = target.client("secretsmanager").describe_secret(SecretId=target.output("WebhookSecretArn"))
    return Rotation(
        {label: version for version, labels in found.get("VersionIdsToStages", {}).items() for label in sorted(labels)}
    )


def start(target: Target, *, show: bool, username: str | None = None) -> None:
    """Errors: OperateError, also for a user name that cannot be one, or is not that of a start to be taken up."""
    require_rotatable(target)
    require_username(target, username)
    rotation = state(target)
    if rotation.is_open:
        raise OperateError("a rotation is open: `rotate finish` or `rotate abort` first")
    current, pending = rotation.versions[CURRENT], rotation.pending
    if pending is not None and username not in (None, read_version(target, PENDING)["username"]):
        raise OperateError("a start with another user name was interrupted: `rotate abort` first")
    if ALSO not in rotation.versions:
        move(target, ALSO, destination=current)
    if pending is None:
        pending = put_new_version(target, username)
        say("new credentials made")
    if current != pending:
        update_stack(target)
        move(target, CURRENT, source=current, destination=pending)
    registered = is_registered(target)
    if registered:  # still pending, so that a start which ends here is taken up again
        update_stack(target)
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
    if rotation.pending is not None:
        raise OperateError(rotation.words)
    if ALSO not in rotation.versions:
        raise OperateError("no rotation is open: `rotate start` begins one")
    if rotation.is_open:
        if not force:
            require_old_unused(target, quiet)
        move(target, ALSO, source=rotation.versions[ALSO], destination=rotation.versions[CURRENT])
    accept_current_alone(target)
    print("Only the current credentials are accepted.")


def abort(target: Target, *, yes: bool) -> None:
    require_rotatable(target)
    rotation = state(target)
    versions, registered = rotation.versions, is_registered(target)
    if rotation.pending is None and ALSO not in versions:
        raise OperateError("no rotation is open: there is nothing to abort")
    old, new = versions.get(ALSO, versions[CURRENT]), versions[CURRENT]
    if new != old:  # Bird may have the new ones
        if registered:
            confirm("Bird gets its old credentials back. Drop the new ones?", yes=yes)
        else:
            confirm("Bird must have its old credentials back before. Drop the new ones?", yes=yes)
        if PENDING not in versions:
            move(target, PENDING, destination=new)
        move(target, CURRENT, source=new, destination=old)
        pending: str | None = new
    else:
        pending = rotation.pending
    if pending is not None:
        if registered:  # while both are accepted
            update_stack(target)
        move(target, PENDING, source=pending)
    accept_current_alone(target)
    print("The new credentials were dropped; only the old ones are accepted.")


def accept_current_alone(target: Target) -> None:
    """The end of a rotation: ALSO_ACCEPTED is at the current version, or nowhere."""
    update_stack(target)
    versions = state(target).versions
    for label in (PREVIOUS, ALSO):  # the second is what tells that this is not done yet
        if label in versions:
            move(target, label, source=versions[label])


def show_credentials(target: Target) -> None:
    secret = read_version(target, CURRENT)
    parameters = target.parameters()
    if parameters["WebhookAuth"] == "HEADER":
        print(f"{parameters['WebhookHeader']}: {secret['password']}")
    else:
        print(f"username: {secret['username']}\npassword: {secret['password']}")


def read_version(target: Target, label: str) -> dict[str, str]:
    client, arn = target.client("secretsmanager"), target.output("WebhookSecretArn")
    secret: dict[str, str] = json.loads(client.get_secret_value(SecretId=arn, VersionStage=label)["SecretString"])
    return secret


def is_registered(target: Target) -> bool:
    """Whether the stack itself made the webhook at Bird. Stacks of older versions know no such parameter."""
    return bool(target.parameters().get("BirdApiKeySecretArn"))


def require_rotatable(target: Target) -> None:
    parameters = target.parameters()
    if parameters["WebhookAuth"] not in ("BASIC", "HEADER"):
        raise OperateError(f"WebhookAuth is {parameters['WebhookAuth']}: there are no credentials of ours to rotate")
    if "AcceptPreviousCredentials" in parameters:  # its function goes by that, not by our label
        raise OperateError(
            f"stack {target.name} was deployed by an older version of the template: deploy this version first"
        )
    status = target.description()["StackStatus"]
    if not status.endswith("_COMPLETE"):
        raise OperateError(f"stack {target.name} is {status}: wait until it is at rest, or mend it first")


def require_username(target: Target, username: str | None) -> None:
    if username is None:
        return
    if target.parameters()["WebhookAuth"] != "BASIC":
        raise OperateError("--username is for WebhookAuth BASIC: a header carries no user name")
    if not re.fullmatch(USERNAME, username):
        raise OperateError("--username takes 1 to 64 letters, digits, dots, hyphens and underscores")


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


def put_new_version(target: Target, username: str | None) -> str:
    """The id of a version that has all of the current one but the password, and the user name if one is given."""
    client, arn = target.client("secretsmanager"), target.output("WebhookSecretArn")
    secret = read_version(target, CURRENT)
    if username is not None:
        secret["username"] = username
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


def update_stack(target: Target) -> None:
    """The same template and parameters but for CredentialsVersion, with each resource said as it is done."""
    client = target.client("cloudformation")
    before = target.parameters()
    new = {"CredentialsVersion": str(int(before["CredentialsVersion"]) % MOST_VERSION + 1)}
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
        # Not UPDATE_COMPLETE_CLEANUP_IN_PROGRESS, in which CloudFormation refuses the next update.
        if status == "UPDATE_COMPLETE":
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
