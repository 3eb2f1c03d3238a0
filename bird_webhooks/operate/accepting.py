"""A second accepted credential: that of a webhook which moves here by DNS and brings its own along.

A version of the webhook's secret holds it under a label of ours, so that no parameter has it and no deployment ends it:
`{"username": …, "password": …}` for Basic authentication, `{"header": …, "value": …}` for a header. Each update of the
stack puts its digest into ingest (functions/webhook_credentials).

    start    the version made, with the label; update
    end      ENDING_LABEL to the version; the label removed; update; ENDING_LABEL removed

A step that was interrupted is given again. A rotation does not touch the label, and this does not touch a rotation.
"""

import getpass
import json
import os
import re
import sys
import uuid
from datetime import timedelta

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import rotation
from bird_webhooks.stack import Stack
from bird_webhooks.terminal import confirm, print_json, say

OTHER_LABEL, ENDING_LABEL = "OTHER_WEBHOOK", "OTHER_WEBHOOK_ENDING"
INTERRUPTED = "an `accept end` was interrupted: give it again"
USED = "credentials of another webhook used"  # ingest logs it
HEADER = r"[A-Za-z0-9-]{1,64}"
USERNAME = r"[^:\x00-\x1f]{1,255}"  # a colon would end it


def start(stack: Stack, *, username: str | None, header: str | None, secret: str | None) -> None:
    """Errors: OperateError, also while other credentials are accepted already."""
    require_possible(stack)
    wanted = credential(stack, username, header, secret)
    state = rotation.state(stack)
    if ENDING_LABEL in state.versions:
        raise OperateError(INTERRUPTED)
    if not is_open(state):
        put(stack, wanted)
    elif rotation.read_version(stack, OTHER_LABEL) != wanted:
        raise OperateError("the credentials of another webhook are accepted already: `accept end` first")
    rotation.update_stack(stack)
    kind = f"header {wanted['header']}" if "header" in wanted else f"user name {wanted['username']}"
    print(f"Accepted beside the stack's own, until `accept end`: {kind}.")


def end(stack: Stack, *, quiet: timedelta, force: bool, yes: bool) -> None:
    require_possible(stack)
    versions = rotation.state(stack).versions
    other = versions.get(OTHER_LABEL)
    if other is not None:
        try:
            require_unused(stack, quiet)
        except OperateError as error:
            if not force:
                raise OperateError(f"{error}: wait, or --force") from None
            say(f"{error}. Batches that Bird sends with them from now on are answered 401, and lost after 8 hours.")
            confirm("Refuse them nevertheless?", yes=yes)
        if ENDING_LABEL not in versions:
            rotation.move(stack, ENDING_LABEL, destination=other)
        rotation.move(stack, OTHER_LABEL, source=other)
    elif ENDING_LABEL not in versions:
        raise OperateError("no credentials of another webhook are accepted")
    rotation.update_stack(stack)
    rotation.move(stack, ENDING_LABEL, source=other or versions[ENDING_LABEL])
    print("Only the stack's own credentials are accepted.")


def show_state(stack: Stack, *, as_json: bool) -> None:
    state = rotation.state(stack)
    if as_json:
        print_json({"also_accepted": is_open(state)})
    else:
        print(words(state) or "only the stack's own credentials are accepted")


def is_open(state: rotation.Rotation) -> bool:
    """Also while an end was interrupted, because ingest may still accept them."""
    return OTHER_LABEL in state.versions or ENDING_LABEL in state.versions


def words(state: rotation.Rotation) -> str:
    """'' if only the stack's own are accepted."""
    if ENDING_LABEL in state.versions:
        return INTERRUPTED
    return "also accepted: the credentials of another webhook, until `accept end`" if is_open(state) else ""


def require_possible(stack: Stack) -> None:
    parameters = stack.parameters
    match parameters["WebhookAuth"]:
        case "NONE":
            raise OperateError("WebhookAuth is NONE: every sender is accepted already")
        case "OAUTH2":
            raise OperateError(
                "WebhookAuth is OAUTH2: the load balancer refuses a request without a token before ingest"
            )
    rotation.require_rotatable(stack)
    if "AdoptBirdWebhook" not in parameters:  # its function would ignore the label
        raise OperateError(
            f"stack {stack.name} was deployed by an older version of the template: deploy this version first"
        )


def credential(stack: Stack, username: str | None, header: str | None, secret: str | None) -> dict[str, str]:
    """The credential in the shape of the secret's version; its password from `secret`, an ARN, or asked for."""
    if secret is not None:
        try:
            members = json.loads(stack.secret_text(secret))
        except ValueError:
            members = None
        if not isinstance(members, dict) or not isinstance(members.get("password"), str):
            raise OperateError("--secret: it holds no JSON object with the member password")
        password = members["password"]
        username = username or (None if header else members.get("username"))
    else:
        password = given_password()
    if not password.strip(" \t"):
        raise OperateError("an empty password would let any sender in")
    if header is not None:
        if not re.fullmatch(HEADER, header) or header.lower() == "authorization":
            raise OperateError("--header takes the name of a header, such as X-MessageSystems-Webhook-Token")
        return {"header": header, "value": password.strip(" \t")}
    if not isinstance(username, str) or not re.fullmatch(USERNAME, username):
        raise OperateError("--username takes a user name without a colon, up to 255 characters")
    return {"username": username, "password": password}


def given_password() -> str:
    """From BIRD_SECRET, the terminal or the standard input: never from the command line, which others can see."""
    if "BIRD_SECRET" in os.environ:
        return os.environ["BIRD_SECRET"]
    if sys.stdin.isatty():
        return getpass.getpass("Password or value of the header: ")
    return sys.stdin.readline().rstrip("\r\n")


def put(stack: Stack, content: dict[str, str]) -> None:
    stack.client("secretsmanager").put_secret_value(
        SecretId=stack.output("WebhookSecretArn"),
        SecretString=json.dumps(content),
        VersionStages=[OTHER_LABEL],
        ClientRequestToken=str(uuid.uuid4()),
    )


def require_unused(stack: Stack, quiet: timedelta) -> None:
    """Errors: OperateError while Bird still sends them, or nothing shows that it sends the stack's own."""
    _, group = stack.resources["IngestLogGroup"]
    minutes = round(quiet.total_seconds() / 60)
    if rotation.logged(stack, group, f'{{ $.message = "{USED}" }}', quiet):
        raise OperateError(f"they were used within {minutes} minutes, so Bird still sends them")
    if not rotation.logged(stack, group, rotation.STORED, quiet):
        raise OperateError(f"no batch came within {minutes} minutes, so nothing shows that Bird sends the stack's own")
