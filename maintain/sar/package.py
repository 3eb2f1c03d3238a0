"""`sam package` of SAR's template: uploads code, readme and licence, and writes a template that names them."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import boto3

from local_aws.deploy import ARTEFACT_BUCKET, BUILT_TEMPLATE, make_artefact_bucket, one_at_a_time, sam
from local_aws.emulator import ROOT, Emulator
from local_aws.yaml_text import yaml_parse
from maintain.check_template import Template, transformed_template
from maintain.sar.checks import METADATA, Candidate
from maintain.sar.generate import generate, written

# In the folder of the built template, so that relative paths work.
GENERATED = BUILT_TEMPLATE.with_name("sar.yaml")
LOGIN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
PACKAGED = ROOT / ".aws-sam/sar/packaged.yaml"


def package(environment: Mapping[str, str], bucket: str, path: Path = PACKAGED) -> Candidate:
    """Make SAR's template from the built one, and package it into `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time():
        template = generate(yaml_parse(BUILT_TEMPLATE.read_text()))
        GENERATED.write_text(written(template))
        options = ["--template-file", str(GENERATED), "--output-template-file", str(path), "--s3-bucket", bucket]
        sam("package", [*options, "--no-progressbar"], environment)
    about = template["Metadata"][METADATA]
    documents = {key: (GENERATED.parent / about[key]).resolve() for key in ("ReadmeUrl", "LicenseUrl")}
    packaged = yaml_parse(path.read_text())
    return Candidate(path, packaged, transformed_template(path), documents, artefact_bytes(environment, packaged))


def artefact_bytes(environment: Mapping[str, str], packaged: Template) -> int:
    """The size of all functions' code in S3, each file counted once."""
    login = {name.lower(): environment[name] for name in LOGIN if name in environment}
    s3 = boto3.client(
        "s3", endpoint_url=environment.get("AWS_ENDPOINT_URL"), verify=environment.get("AWS_CA_BUNDLE"), **login
    )  # type: ignore[call-overload]
    functions = [r for r in packaged["Resources"].values() if r["Type"] == "AWS::Serverless::Function"]
    places = {urlsplit(function["Properties"]["CodeUri"]) for function in functions}
    return sum(s3.head_object(Bucket=at.netloc, Key=at.path.lstrip("/"))["ContentLength"] for at in places)


def package_locally(emulator: Emulator) -> Candidate:
    """Package into the local AWS, to deploy from there."""
    make_artefact_bucket(emulator)
    environment = {**emulator.environment(), "SAM_CLI_TELEMETRY": "0"}
    return package(environment, ARTEFACT_BUCKET, emulator.directory / "sar.yaml")
