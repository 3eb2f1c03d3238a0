"""`make sar`: package and check the template for the Serverless Application Repository.

    make sar                   package into a temporary local S3, to see whether it can be published
    make sar BUCKET=my-bucket  package into your bucket, for `sam publish`

Prints each check, and at the end `publishable` or the number of findings. docs/publishing.md has the rest.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from bird_webhooks.terminal import step
from local_aws import deploy as local_stack
from local_aws.deploy import ARTEFACT_BUCKET
from local_aws.emulator import REGION, ROOT, LocalAwsError
from maintain.sar.checks import (
    CHECKS,
    METADATA,
    NEWER_PROPERTIES,
    PLACEHOLDER,
    PLACEHOLDER_KEYS,
    Candidate,
    capabilities,
)
from maintain.sar.generate import GenerateError
from maintain.sar.package import package


def main() -> int:
    bucket = os.environ.get("BUCKET", "")
    try:
        step("building the functions (sam build)")
        local_stack.build()
        if bucket:
            step(f"packaging into {bucket} (sam package)")
            candidate = package(os.environ, bucket)
        else:
            step("packaging into a local S3 (sam package); BUCKET= names one of yours")
            with local_s3() as environment:
                candidate = package(environment, ARTEFACT_BUCKET)
    except (LocalAwsError, GenerateError) as error:
        print(f"sar: {error}", file=sys.stderr)
        return 1
    return report(candidate)


def report(candidate: Candidate) -> int:
    """Print one line for each check. Returns the exit status."""
    about = candidate.template["Metadata"].get(METADATA, {})
    print(f"{candidate.path.relative_to(ROOT)}: {about.get('Name')} {about.get('SemanticVersion')}")
    found = 0
    for check in CHECKS:
        findings = list(check(candidate))
        found += len(findings)
        print(f"  {'NOT ' if findings else 'ok  '} {check.__doc__}")
        for finding in findings:
            print(f"         {finding}")
    for key in PLACEHOLDER_KEYS:
        if PLACEHOLDER in str(about.get(key)):
            print(f"  before `sam publish`: {key} is the placeholder {about[key]}, set it to your repository")
    counted = f"{len(candidate.template['Parameters'])} parameters, {len(candidate.transformed['Resources'])} resources"
    sizes = f"{candidate.path.stat().st_size} bytes and {candidate.artefact_bytes} of code"
    print(f"  {counted}, {sizes}; to acknowledge: {', '.join(capabilities(candidate))}")
    for name, reason in NEWER_PROPERTIES.items():
        print(f"  only `sam publish` can tell whether SAR takes {name}: {reason}")
    print(f"not publishable: {found} findings" if found else "publishable")
    return 1 if found else 0


@contextmanager
def local_s3() -> Iterator[dict[str, str]]:
    """A temporary S3; yields the environment in which programs use it and no other."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        login = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        endpoint = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        real = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client: Any = boto3.client("s3", REGION, endpoint_url=endpoint["AWS_ENDPOINT_URL"], **keys)  # type: ignore[call-overload]
        client.create_bucket(Bucket=ARTEFACT_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield {**real, **login, **endpoint, **files}
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
