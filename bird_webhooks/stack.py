"""A stack of this application, in AWS or on this machine, and how to talk to its account. Nothing here changes it."""

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from load_postgres import connection
from report.athena import Athena

Client = Callable[..., Any]
LOCAL_POLL_SECONDS = 0.1
STORAGE_RECORD = "maintenance/storage.json"  # as functions/storage writes it
OUTPUTS = Path(".local/outputs.json")  # written by `make local`
# boto3 signs links by SigV2 in the older regions, which S3 refuses for buckets made after 24 June 2020. And it sends
# them to us-east-1, which redirects in the first hours of a bucket elsewhere: the signature is then of another host.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html,
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
LINKS = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
LOCAL_LINKS = Config(signature_version="s3v4")
# A run of the table's maintenance that the operator asks for may take five minutes, and must not be asked for twice.
INVOCATIONS = Config(read_timeout=360, retries={"mode": "standard", "total_max_attempts": 1})


class RawPlace(NamedTuple):
    """Where raw batches lie. `prefix` without slashes at its ends."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}/"

    def holds(self, bucket: str, key: str) -> bool:
        return bucket == self.bucket and key.startswith(f"{self.prefix}/")


@dataclass(frozen=True)
class Stack:
    """`client` gives a boto3 client by its service, and by region if it is another; the same one each time."""

    name: str
    client: Client
    poll_seconds: float = 3
    reached_at: str | None = None  # where this machine reaches the webhook, if by another address than Bird's
    certificate: str | None = None  # a file to trust when sending there, beside the system's

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
    def described(self) -> dict[str, Any]:
        """What CloudFormation said when first asked. Much of a command needs it, and AWS limits how often one asks."""
        return self.description()

    @cached_property
    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.described.get("Outputs", [])}

    def output(self, name: str) -> str:
        if name not in self.outputs:
            raise OperateError(f"stack {self.name} has no output {name}: is it one of this application, and complete?")
        return self.outputs[name]

    @cached_property
    def parameters(self) -> dict[str, str]:
        return parameters_of(self.described)

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
        return self.parameters["RawPrefix"].strip("/")

    @cached_property
    def former_raw_places(self) -> list[RawPlace]:
        """Where raw batches lay before the bucket or the prefix was changed; without buckets that are gone."""
        given = self.parameters.get("FormerRawPlaces", "").split(",")
        places = [RawPlace(bucket, prefix.strip("/")) for bucket, _, prefix in (one.partition("/") for one in given)]
        return [place for place in dict.fromkeys(places) if place.prefix and self._exists(place.bucket)]

    def _exists(self, bucket: str) -> bool:
        try:
            self.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            return False
        return True

    @cached_property
    def storage_record(self) -> dict[str, Any]:
        """What the lake bucket says of the stacks that were over it (functions/storage); empty before 0.3.0."""
        try:
            found = self.s3.get_object(Bucket=self.output("LakeBucketName"), Key=STORAGE_RECORD)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return {}
            raise
        return dict(json.loads(found["Body"].read()))

    @cached_property
    def former_lakes(self) -> list[str]:
        """Buckets that have rows which were this stack's, or those of one over the same lake bucket, and that exist."""
        return [lake for lake in self.storage_record.get("lakes", []) if self._exists(lake)]

    @property
    def raw_places(self) -> list[RawPlace]:
        """All places of raw batches; new ones are stored in the first."""
        return [RawPlace(self.output("RawBucketName"), self.raw_prefix), *self.former_raw_places]

    def raw_object(self, name: str) -> tuple[str, str]:
        """Bucket and key of a raw batch, which is named by its key, or by its address in another bucket."""
        if not name.startswith("s3://"):
            return self.output("RawBucketName"), name
        bucket, _, key = name.removeprefix("s3://").partition("/")
        return bucket, key

    def raw_name(self, bucket: str, key: str) -> str:
        """As `raw_object` takes it."""
        return key if bucket == self.output("RawBucketName") else f"s3://{bucket}/{key}"

    @property
    def webhook_url(self) -> str:
        """Where this machine sends batches to."""
        return self.reached_at or self.output("WebhookUrl")

    @property
    def trust(self) -> ssl.SSLContext | None:
        """What the webhook's certificate is checked with; None for the system's authorities."""
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else None

    def credentials(self) -> tuple[str, str]:
        """The webhook's user name and password, from the stack's own secret."""
        login = json.loads(self.secret_text(self.output("WebhookSecretArn")))
        return login["username"], login["password"]

    def athena(self, timeout_seconds: float = 240) -> Athena:
        """The stack's workgroup and database."""
        return Athena(
            self.client("athena"),
            self.output("AthenaWorkGroupName"),
            self.output("GlueDatabaseName"),
            timeout_seconds=timeout_seconds,
            poll_seconds=min(0.5, self.poll_seconds),
        )


def parameters_of(description: dict[str, Any]) -> dict[str, str]:
    return {given["ParameterKey"]: given["ParameterValue"] for given in description.get("Parameters", [])}


def deployed(stack_name: str, region: str | None, profile: str | None) -> Stack:
    """The stack of that name in an AWS account."""
    # boto3 reads AWS_DEFAULT_REGION alone; every other tool of AWS reads AWS_REGION too, and first.
    session = boto3.session.Session(region_name=region or os.environ.get("AWS_REGION"), profile_name=profile)
    config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=16)

    connect: Client = session.client  # its own type knows the names of all services

    @cache
    def client(service: str, region: str | None = None) -> Any:
        if (region or session.region_name) is None:
            raise OperateError("which region? give --region, or set AWS_REGION")
        own = {"s3": LINKS, "lambda": INVOCATIONS}.get(service, Config())
        return connect(service, region_name=region, config=config.merge(own))

    return Stack(stack_name, client)


def local() -> Stack:
    """The stack of `make local`, from any folder of that clone."""
    here = Path.cwd()
    path = next((path for folder in (here, *here.parents) if (path := folder / OUTPUTS).is_file()), None)
    if path is None:
        raise OperateError("the local AWS is not running: `make local` starts it, in a clone of the repository")
    outputs = json.loads(path.read_text())
    session = boto3.session.Session(
        aws_access_key_id=outputs["access_key_id"], aws_secret_access_key=outputs["secret_access_key"]
    )
    connect: Client = session.client

    @cache
    def client(service: str, region: str | None = None) -> Any:
        return connect(
            service,
            region_name=region or outputs["region"],
            endpoint_url=outputs["endpoint_url"],
            verify=outputs["ca_bundle"] or None,
            config={"s3": LOCAL_LINKS, "lambda": INVOCATIONS}.get(service),
        )

    return Stack(outputs["StackName"], client, LOCAL_POLL_SECONDS, outputs["WebhookUrl"], outputs["ca_bundle"] or None)
