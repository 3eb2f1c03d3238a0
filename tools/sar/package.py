"""`sam package` of SAR's template: code, readme and licence into a bucket, and the template that names them there."""

from collections.abc import Mapping
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tools.check_template import transformed_template
from tools.local_emulator import ROOT, Emulator
from tools.local_stack import ARTEFACT_BUCKET, BUILT_TEMPLATE, make_artefact_bucket, one_at_a_time, sam
from tools.sar.checks import METADATA, Candidate
from tools.sar.generate import generate, written

# Beside the built one, whose relative paths then hold for it as well.
GENERATED = BUILT_TEMPLATE.with_name("sar.yaml")
PACKAGED = ROOT / ".aws-sam/sar/packaged.yaml"


def package(environment: Mapping[str, str], bucket: str, path: Path = PACKAGED) -> Candidate:
    """Make SAR's template of the one that `sam build` left, and package it into `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time():
        template = generate(yaml_parse(BUILT_TEMPLATE.read_text()))
        GENERATED.write_text(written(template))
        options = ["--template-file", str(GENERATED), "--output-template-file", str(path), "--s3-bucket", bucket]
        sam("package", [*options, "--no-progressbar"], environment)
    about = template["Metadata"][METADATA]
    documents = {key: (GENERATED.parent / about[key]).resolve() for key in ("ReadmeUrl", "LicenseUrl")}
    return Candidate(path, yaml_parse(path.read_text()), transformed_template(path), documents)


def package_locally(emulator: Emulator) -> Candidate:
    """Into the local AWS, to be deployed there."""
    make_artefact_bucket(emulator)
    environment = {**emulator.environment(), "SAM_CLI_TELEMETRY": "0"}
    return package(environment, ARTEFACT_BUCKET, emulator.directory / "sar.yaml")
