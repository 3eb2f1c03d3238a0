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

from bird_webhooks.errors import OperateError
from bird_webhooks.stack import Stack, parameters_of
from bird_webhooks.terminal import confirm, print_json, say

ALPHABET = string.ascii_letters + string.digits
PASSWORD_CHARACTERS = 43  # of 62: 256 bits, as the template makes it
CURRENT, PENDING, PREVIOUS, ALSO = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "ALSO_ACCEPTED"
USERNAME = r"[A-Za-z0-9._-]{1,64}"  # no colon: it ends the user name in Basic authentication
UPDATE_TIMEOUT_SECONDS = 1800
STORED = '{ ($.message = "batch stored") || ($.message = "batch was a duplicate") }'  # in the log of ingest
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
            return "the last step was interrupted: `rotate finish` completes it, or `rotate start` begins again"
        return "none is open"


def state(stack: Stack) -> Rotation:
    found = stack.client("secretsmanager").describe_secret(SecretId=stack.output("WebhookSecretArn"))
    return Rotation(
        {label: version for version, labels in found.get("VersionIdsToStages", {}).items() for label in sorted(labels)}
    )


def start(stack: Stack, *, show: bool, username: str | None = None) -> None:
    """Errors: OperateError, also for a user name that cannot be one, or is not that of a start to be taken up."""
    require_rotatable(stack)
    require_username(stack, username)
    rotation = state(stack)
    if rotation.is_open:
        raise OperateError("a rotation is open: `rotate finish` or `rotate abort` first")
    current, pending = rotation.versions[CURRENT], rotation.pending
    if pending is not None and username not in (None, read_version(stack, PENDING)["username"]):
        raise OperateError("a start with another user name was interrupted: `rotate abort` first")
    if ALSO not in rotation.versions:
        move(stack, ALSO, destination=current)
    if pending is None:
        pending = put_new_version(stack, username)
        say("new credentials made")
    if current != pending:
        update_stack(stack)
        move(stack, CURRENT, source=current, destination=pending)
    registered = is_registered(stack)
    if registered:  # still pending, so that a start which ends here is taken up again
        update_stack(stack)
    move(stack, PENDING, source=pending)
    if registered:
        print("Old and new credentials are accepted, and Bird has the new ones. Wait a little, then `rotate finish`.")
    else:
        print("Old and new credentials are accepted. Change them in Bird now, then `rotate finish`.")
    if show:
        show_credentials(stack)
    elif not registered:
        print("`rotate show` prints the new ones.")


def finish(stack: Stack, *, quiet: timedelta, force: bool, yes: bool = False) -> None:
    require_rotatable(stack)
    rotation = state(stack)
    if rotation.pending is not None:
        raise OperateError(rotation.words)
    if ALSO not in rotation.versions:
        raise OperateError("no rotation is open: `rotate start` begins one")
    if rotation.is_open:
        try:
            require_old_unused(stack, quiet)
        except OperateError as error:
            if not force:
                raise OperateError(f"{error}: wait, or --force") from None
            say(f"{error}. Batches that Bird sends with the old credentials from now on are answered 401, and lost")
            say("after 8 hours. Put the new ones into Bird's form before that; `rotate show` prints them.")
            confirm("Drop the old credentials nevertheless?", yes=yes)
        move(stack, ALSO, source=rotation.versions[ALSO], destination=rotation.versions[CURRENT])
    accept_current_alone(stack)
    print("Only the current credentials are accepted.")


def abort(stack: Stack, *, yes: bool) -> None:
    require_rotatable(stack)
    rotation = state(stack)
    versions, registered = rotation.versions, is_registered(stack)
    if rotation.pending is None and ALSO not in versions:
        raise OperateError("no rotation is open: there is nothing to abort")
    old, new = versions.get(ALSO, versions[CURRENT]), versions[CURRENT]
    if new != old:  # Bird may have the new ones
        if registered:
            confirm("Bird gets its old credentials back. Drop the new ones?", yes=yes)
        else:
            confirm("Bird must have its old credentials back before. Drop the new ones?", yes=yes)
        if PENDING not in versions:
            move(stack, PENDING, destination=new)
        move(stack, CURRENT, source=new, destination=old)
        pending: str | None = new
    else:
        pending = rotation.pending
    if pending is not None:
        if registered:  # while both are accepted
            update_stack(stack)
        move(stack, PENDING, source=pending)
    accept_current_alone(stack)
    print("The new credentials were dropped; only the old ones are accepted.")


def accept_current_alone(stack: Stack) -> None:
    """The end of a rotation: ALSO_ACCEPTED is at the current version, or nowhere."""
    update_stack(stack)
    versions = state(stack).versions
    for label in (PREVIOUS, ALSO):  # the second is what tells that this is not done yet
        if label in versions:
            move(stack, label, source=versions[label])


def show_state(stack: Stack, *, as_json: bool) -> None:
    rotation = state(stack)
    if as_json:
        print_json({"open": rotation.is_open, "state": rotation.words})
    else:
        print(f"rotation: {rotation.words}")


def show_credentials(stack: Stack, *, as_json: bool = False) -> None:
    secret = read_version(stack, CURRENT)
    parameters = stack.parameters
    if parameters["WebhookAuth"] == "HEADER":
        shown = {parameters["WebhookHeader"]: secret["password"]}
    else:
        shown = {"username": secret["username"], "password": secret["password"]}
    if as_json:
        print_json(shown)
    else:
        print("\n".join(f"{name}: {value}" for name, value in shown.items()))


def read_version(stack: Stack, label: str) -> dict[str, str]:
    client, arn = stack.client("secretsmanager"), stack.output("WebhookSecretArn")
    secret: dict[str, str] = json.loads(client.get_secret_value(SecretId=arn, VersionStage=label)["SecretString"])
    return secret


def is_registered(stack: Stack) -> bool:
    """Whether the stack itself made the webhook at Bird. Stacks of older versions know no such parameter."""
    return bool(stack.parameters.get("BirdApiKeySecretArn"))


def require_rotatable(stack: Stack) -> None:
    parameters = stack.parameters
    if parameters["WebhookAuth"] not in ("BASIC", "HEADER"):
        raise OperateError(f"WebhookAuth is {parameters['WebhookAuth']}: there are no credentials of ours to rotate")
    if "AcceptPreviousCredentials" in parameters:  # its function goes by that, not by our label
        raise OperateError(
            f"stack {stack.name} was deployed by an older version of the template: deploy this version first"
        )
    status = stack.description()["StackStatus"]
    if not status.endswith("_COMPLETE"):
        raise OperateError(f"stack {stack.name} is {status}: wait until its update has ended, or fix it first")


def require_username(stack: Stack, username: str | None) -> None:
    if username is None:
        return
    if stack.parameters["WebhookAuth"] != "BASIC":
        raise OperateError("--username is for WebhookAuth BASIC: a header carries no user name")
    if not re.fullmatch(USERNAME, username):
        raise OperateError("--username takes 1 to 64 letters, digits, dots, hyphens and underscores")


def require_old_unused(stack: Stack, quiet: timedelta) -> None:
    """Errors: OperateError while Bird still sends the old credentials, or has not sent the new ones."""
    _, group = stack.resources["IngestLogGroup"]
    minutes = round(quiet.total_seconds() / 60)
    if logged(stack, group, '{ $.message = "previous credentials used" }', quiet):
        raise OperateError(f"the old credentials were used within {minutes} minutes, so Bird's form still has them")
    if not logged(stack, group, STORED, quiet):
        raise OperateError(f"no batch came within {minutes} minutes, so the new credentials are unproven")


def logged(stack: Stack, group: str, pattern: str, within: timedelta) -> bool:
    since = int((datetime.now(UTC) - within).timestamp() * 1000)
    pages = stack.client("logs").get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=group, filterPattern=pattern, startTime=since)
    return any(page["events"] for page in found)


def put_new_version(stack: Stack, username: str | None) -> str:
    """The id of a version that has all of the current one but the password, and the user name if one is given."""
    client, arn = stack.client("secretsmanager"), stack.output("WebhookSecretArn")
    secret = read_version(stack, CURRENT)
    if username is not None:
        secret["username"] = username
    secret["password"] = "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_CHARACTERS))
    made = client.put_secret_value(
        SecretId=arn, SecretString=json.dumps(secret), VersionStages=[PENDING], ClientRequestToken=str(uuid.uuid4())
    )
    return str(made["VersionId"])


def move(stack: Stack, label: str, *, source: str | None = None, destination: str | None = None) -> None:
    """A label of the secret's, from one version and to another."""
    ends = {"RemoveFromVersionId": source, "MoveToVersionId": destination}
    stack.client("secretsmanager").update_secret_version_stage(
        SecretId=stack.output("WebhookSecretArn"),
        VersionStage=label,
        **{name: version for name, version in ends.items() if version},
    )


def update_stack(stack: Stack) -> None:
    """The same template and parameters but for CredentialsVersion, with each resource said as it is done."""
    client = stack.client("cloudformation")
    before = parameters_of(stack.description())  # as they are now, for CredentialsVersion counts up
    new = {"CredentialsVersion": str(int(before["CredentialsVersion"]) % MOST_VERSION + 1)}
    seen: set[str] = set()
    new_events(stack, seen)
    client.update_stack(
        StackName=stack.name,
        UsePreviousTemplate=True,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": new[name]}
            if name in new
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in before
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],  # the second for the SAM transform
    )
    say(f"updating stack {stack.name}")
    deadline = time.monotonic() + UPDATE_TIMEOUT_SECONDS
    reason = ""
    while True:
        status = stack.description()["StackStatus"]
        for event in new_events(stack, seen):
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
        time.sleep(stack.poll_seconds)


def new_events(stack: Stack, seen: set[str]) -> list[dict[str, Any]]:
    """What happened since the events that are `seen`, oldest first; then they are seen too."""
    found: dict[str, dict[str, Any]] = {}
    pages = stack.client("cloudformation").get_paginator("describe_stack_events")
    try:
        # A hundred a page, newest first: an update of this stack may have more between two looks.
        for page in pages.paginate(StackName=stack.name):
            new = {event["EventId"]: event for event in page["StackEvents"] if event["EventId"] not in seen}
            found |= new
            if len(new) < len(page["StackEvents"]):
                break
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException"):
            raise
        # Without that right there is less to read, and nothing else.
    seen.update(found)
    return [*found.values()][::-1]
