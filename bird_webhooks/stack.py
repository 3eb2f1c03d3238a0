"""The stack to operate on, and how to talk to its account. Nothing here changes anything."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from psycopg.conninfo import make_conninfo

from load_postgres import connection
from load_postgres.errors import UnavailableError
from local_aws import emulator as local_emulator

Client = Callable[..., Any]
# boto3 signs links by SigV2 in the older regions, which S3 refuses for buckets made after 24 June 2020. And it sends
# them to us-east-1, which redirects in the first hours of a bucket elsewhere: the signature is then of another host.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html,
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
LINKS = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class OperateError(Exception):
    """Something that the operator can act on, said in one line."""


@dataclass(frozen=True)
class Target:
    """A deployed stack. `client` gives a boto3 client by its service, and region if another; the same one each time."""

    name: str
    client: Client
    poll_seconds: float = 3
    reached_at: str | None = None  # where this machine reaches the webhook, if by another address than Bird's

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self.client("sqs")

    def description(self) -> dict[str, Any]:
        """What CloudFormation says of the stack now."""
        try:
            [stack] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" in str(error):
                raise OperateError(f"there is no stack {self.name} in this region and account") from error
            raise
        return dict(stack)

    @cached_property
    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.description().get("Outputs", [])}

    def output(self, name: str) -> str:
        if name not in self.outputs:
            raise OperateError(f"stack {self.name} has no output {name}: is it one of this application, and complete?")
        return self.outputs[name]

    def parameters(self) -> dict[str, str]:
        given = self.description().get("Parameters", [])
        return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in given}

    @cached_property
    def resources(self) -> dict[str, tuple[str, str]]:
        """Type and physical id by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        return {
            resource["LogicalResourceId"]: (resource["ResourceType"], resource["PhysicalResourceId"])
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource.get("PhysicalResourceId")
        }

    def physical_ids(self, kind: str) -> list[str]:
        return [physical_id for resource_type, physical_id in self.resources.values() if resource_type == kind]

    def secret_text(self, name: str) -> str:
        """What a secret holds, by name or ARN, in the region that the ARN names."""
        return connection.secret_text(name, self.secrets_in)

    def secrets_in(self, region: str | None) -> Any:
        ours = self.client("secretsmanager")
        return ours if region in (None, ours.meta.region_name) else self.client("secretsmanager", region)

    @cached_property
    def raw_prefix(self) -> str:
        return self.parameters()["RawPrefix"].strip("/")


def deployed(stack_name: str, region: str | None, profile: str | None) -> Target:
    session = boto3.session.Session(region_name=region, profile_name=profile)
    config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=16)

    connect: Callable[..., Any] = session.client  # its own type knows the names of all services

    @cache
    def client(service: str, region: str | None = None) -> Any:
        if (region or session.region_name) is None:
            raise OperateError("which region? give --region, or set AWS_REGION")
        return connect(service, region_name=region, config=config.merge(LINKS) if service == "s3" else config)

    return Target(stack_name, client)


def local() -> Target:
    """The stack of `make local`."""
    path = local_emulator.LOCAL / "outputs.json"
    emulator = local_emulator.recall() if path.exists() else None
    if emulator is None:
        raise OperateError("the local AWS is not running: `make local` starts it")
    outputs = json.loads(path.read_text())
    client = cache(emulator.client)
    return Target(outputs["StackName"], client, 0.3, reached_at=outputs["WebhookUrl"])


def postgres_connection(target: Target, where: str) -> str:
    """What psycopg connects with. `where`: a connection string, or the name or ARN of a secret as load_postgres has.

    The server of a secret has to prove who it is, as the stack's function asks of it. Errors: OperateError.
    """
    if not where.startswith("arn:") and ("=" in where or "://" in where or not where):
        return connection.guarded(where)
    try:
        secret = connection.settings_of(target.secret_text(where))
        return make_conninfo(**connection.parameters(secret, verify=verifies_postgres(target)))
    except UnavailableError as error:
        raise OperateError(str(error)) from error


def verifies_postgres(target: Target) -> bool:
    """Unless the stack says otherwise; where there is no stack to ask, the server has to prove who it is."""
    try:
        return not target.name or target.parameters().get("PostgresTls") != "REQUIRE"
    except OperateError:
        return True


def moment(text: str) -> datetime:
    """`2h` ago (m, h, d), `2026-11-24`, or `2026-11-24T10:30`; UTC unless it says otherwise. Errors: ValueError."""
    if text[-1:] in UNITS and text[:-1].isdigit():
        return datetime.now(UTC) - int(text[:-1]) * UNITS[text[-1]]
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`. Errors: OperateError if the answer is no, or nobody is there to answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperateError(f"{question} Say --yes where nobody can answer")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise OperateError("nothing was done")


def say(text: str) -> None:
    """For the eyes; what is asked for goes to the standard output."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """One line that is written over on a terminal, and now and then a line elsewhere."""

    def __init__(self) -> None:
        self.on_terminal = sys.stderr.isatty()
        self.every_seconds = 0.2 if self.on_terminal else 10
        self.last = time.monotonic()

    def show(self, text: str) -> None:
        if time.monotonic() - self.last >= self.every_seconds:
            self.last = time.monotonic()
            print(
                f"\r\x1b[K{text}" if self.on_terminal else text, end="" if self.on_terminal else "\n", file=sys.stderr
            )

    def done(self) -> None:
        if self.on_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def in_tens[T](items: list[T]) -> Iterator[list[T]]:
    """SQS takes ten messages at a time."""
    for start in range(0, len(items), 10):
        yield items[start : start + 10]
