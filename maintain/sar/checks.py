"""SAR's requirements for a template, each as a check; NEWER_PROPERTIES lists what only `sam publish` can check.

Sources: the SAR developer guide (supported resources, capabilities, limits), SAM's reference of the metadata, and the
102 SAR templates among SAM CLI's smoke tests (aws/aws-sam-cli, tests/smoke/templates/sar), counted in November 2026.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.strict import template as strict_aws
from maintain import check_template
from maintain.check_template import SAR_TYPES, Template

PARAMETER_TYPES = {"String", "Number", "List<Number>", "CommaDelimitedList"}
METADATA = "AWS::ServerlessRepo::Application"
SEMANTIC_VERSION = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?"
# Each metadata value must match; with SAR's own limits if it documents them.
METADATA_PATTERNS = {
    "Name": r"[a-zA-Z0-9-]{1,140}",
    "Description": r".{1,256}",
    "Author": r"(?=.{1,127}$)[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?",
    "SpdxLicenseId": r"Apache-2\.0",
    "LicenseUrl": r"s3://.+",
    "ReadmeUrl": r"s3://.+",
    "HomePageUrl": r"https://.+",
    "SourceCodeUrl": r"https://.+",
    "SemanticVersion": SEMANTIC_VERSION,
}
# A placeholder: the publisher sets the real repository, because the project has not registered this one.
PLACEHOLDER = "github.com/bird-webhooks/bird-webhooks"
PLACEHOLDER_KEYS = ("HomePageUrl", "SourceCodeUrl")
MAX_LABELS = 10
LABEL = r"[a-zA-Z0-9+\-_:/@]{1,127}"
MAX_DOCUMENT_BYTES = 5_000_000
MAX_TEMPLATE_BYTES = 1_000_000  # CloudFormation's, which deploys it
# SAR accepts 104,857,600 bytes for a version (aws/serverless-application-model 1653); the rest is room for growth.
MAX_ARTEFACT_BYTES = 95_000_000
MAX_COUNTS = {"Parameters": 200, "Resources": 500, "Outputs": 200}

# Seen in at least one of those 102 templates. SAR checks SAM's own types with a SAM of its own, which lags: it refused
# FunctionUrlConfig, SnapStart, ScheduleV2, DurableConfig while they were new (aws-sam-cli 3987, 4531, 4543, 8622).
KNOWN_PROPERTIES = {
    "AWS::Serverless::Function": {
        *("CodeUri", "Runtime", "Handler", "Timeout", "Description", "Environment", "MemorySize", "Policies", "Events"),
        *("FunctionName", "Tags", "Role", "Layers", "VpcConfig", "Tracing", "ReservedConcurrentExecutions"),
        *("KmsKeyArn", "DeadLetterQueue", "AutoPublishAlias"),
    },
}
KNOWN_EVENTS = {
    "Api": {"Path", "Method", "RestApiId"},
    "S3": {"Bucket", "Events", "Filter"},
    "Schedule": {"Schedule"},
    "SNS": {"Topic"},
    "SQS": {"Queue", "BatchSize"},
    "CloudWatchEvent": {"Pattern"},
    "Kinesis": {"Stream", "BatchSize", "StartingPosition"},
}
# The sections of SAM's own schema (samtranslator/validator/sam_schema), which refuses others.
KNOWN_SECTIONS = {
    *("AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Parameters", "Conditions", "Mappings"),
    *("Globals", "Resources", "Outputs"),
}
# Newer than those templates, but used here, each with its reason.
NEWER_PROPERTIES = {
    "LoggingConfig": "logs go to a group of the stack's, with a retention, deleted with it; in SAM since 2023",
}

BLOCKED_ACTIONS = {"iam:attachrolepolicy", "iam:putrolepolicy", "iam:*", "iam:passrole", "*"}
BLOCKED_POLICY = "AWSLambda_FullAccess"
RESOURCE_POLICIES = {
    *("AWS::Lambda::Permission", "AWS::Lambda::LayerVersionPermission", "AWS::Events::EventBusPolicy"),
    *("AWS::IAM::Policy", "AWS::ApplicationAutoScaling::ScalingPolicy", "AWS::S3::BucketPolicy"),
    *("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"),
}


@dataclass(frozen=True)
class Candidate:
    """A packaged template, as it is and after the SAM transform."""

    path: Path
    template: Template
    transformed: Template
    documents: dict[str, Path]  # readme and licence, by their name in the metadata
    artefact_bytes: int = 0  # of all functions' code in S3


def resource_types(candidate: Candidate) -> Iterator[str]:
    """each resource type is on SAR's list, after the SAM transform too"""
    allowed = set(SAR_TYPES.read_text().split())
    for name, resource in {**candidate.template["Resources"], **candidate.transformed["Resources"]}.items():
        if resource["Type"] not in allowed:
            yield f"{name} is of type {resource['Type']}, which SAR does not take"


def custom_resources(candidate: Candidate) -> Iterator[str]:
    """each custom resource is of type AWS::CloudFormation::CustomResource"""
    for name, resource in candidate.template["Resources"].items():
        if resource["Type"].startswith("Custom::"):
            yield f"{name} is of type {resource['Type']}"


def parameters(candidate: Candidate) -> Iterator[str]:
    """each parameter has a type that SAR shows, a description and a default"""
    for name, parameter in candidate.template["Parameters"].items():
        if parameter["Type"] not in PARAMETER_TYPES:
            yield f"parameter {name} is of type {parameter['Type']}"
        if "Default" not in parameter:
            yield f"parameter {name} has no default"
        if not parameter.get("Description"):
            yield f"parameter {name} has no description"


def sam_properties(candidate: Candidate) -> Iterator[str]:
    """SAM's own properties are among those that SAR is known to accept, or have a reason"""
    for section in candidate.template.keys() - KNOWN_SECTIONS:
        yield f"section {section} is not known to be taken"
    if candidate.template.get("Transform") != "AWS::Serverless-2016-10-31":
        yield f"transform is {candidate.template.get('Transform')}, not SAM's alone"
    functions = {"Globals": candidate.template.get("Globals", {}).get("Function", {})}
    for name, resource in candidate.template["Resources"].items():
        if resource["Type"] in KNOWN_PROPERTIES:
            functions[name] = resource["Properties"]
        elif resource["Type"].startswith("AWS::Serverless::"):
            yield f"{name} is of type {resource['Type']}, whose properties are not checked here"
    for name, properties in functions.items():
        for key in properties.keys() - KNOWN_PROPERTIES["AWS::Serverless::Function"] - NEWER_PROPERTIES.keys():
            yield f"{name} has {key}, which is not known to be taken"
        for event in properties.get("Events", {}).values():
            for key in event.get("Properties", {}).keys() - KNOWN_EVENTS.get(event["Type"], set()):
                yield f"{name} has an event {event['Type']} with {key}, which is not known to be taken"


def artefacts(candidate: Candidate) -> Iterator[str]:
    """all code is in S3 and of AWS::Serverless::Function, which is what SAR copies into its own buckets"""
    for name, resource in candidate.template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            if not str(resource["Properties"].get("CodeUri")).startswith("s3://"):
                yield f"{name} has its code at {resource['Properties'].get('CodeUri')}"
        elif resource["Type"] in ("AWS::Lambda::Function", "AWS::Serverless::StateMachine"):
            yield f"{name} is of type {resource['Type']}, whose code would stay in the publisher's bucket"


def blocked_iam(candidate: Candidate) -> Iterator[str]:
    """no policy allows what SAR blocks: AWSLambda_FullAccess, or changes of IAM roles and policies on everything"""
    for name, resource in candidate.transformed["Resources"].items():
        if BLOCKED_POLICY in str(resource):
            yield f"{name} has {BLOCKED_POLICY}"
        for statement in statements(resource):
            actions = {str(action).lower() for action in as_list(statement.get("Action"))}
            everywhere = any(target == "*" for target in as_list(statement.get("Resource")))
            if everywhere and statement.get("Effect") == "Allow" and (blocked := actions & BLOCKED_ACTIONS):
                yield f"{name} allows {', '.join(sorted(blocked))} on everything"


def metadata(candidate: Candidate) -> Iterator[str]:
    """metadata is complete, within SAR's limits, and plain text"""
    given = candidate.template.get("Metadata", {}).get(METADATA, {})
    for key, pattern in METADATA_PATTERNS.items():
        value = given.get(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            yield f"{key} is {value!r}"
    labels = given.get("Labels")
    if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_LABELS:
        yield f"Labels are {labels!r}, one to {MAX_LABELS} are wanted"
    elif wrong := [label for label in labels if not re.fullmatch(LABEL, str(label))]:
        yield f"Labels {wrong} are none"


def document_sizes(candidate: Candidate) -> Iterator[str]:
    """readme and licence exist and are below 5 MB"""
    for name, path in candidate.documents.items():
        if not path.is_file():
            yield f"{name} is not there: {path}"
        elif not 0 < path.stat().st_size <= MAX_DOCUMENT_BYTES:
            yield f"{name} has {path.stat().st_size} bytes"


def template_size(candidate: Candidate) -> Iterator[str]:
    """the template is below CloudFormation's limits"""
    if (size := candidate.path.stat().st_size) > MAX_TEMPLATE_BYTES:
        yield f"the template has {size} bytes"
    for section, most in MAX_COUNTS.items():
        if (count := len(candidate.transformed.get(section, {}))) > most:
            yield f"{count} {section.lower()}, at most {most} are allowed"


def artefact_size(candidate: Candidate) -> Iterator[str]:
    """the code of all functions is below 95 MB of the 105 MB that SAR accepts for a version"""
    if candidate.artefact_bytes > MAX_ARTEFACT_BYTES:
        yield f"the code has {candidate.artefact_bytes} bytes"


def rules_of_aws(candidate: Candidate) -> Iterator[str]:
    """the template keeps AWS's rules in local_aws/strict"""
    yield from strict_aws.findings(candidate.transformed)


def cycles(candidate: Candidate) -> Iterator[str]:
    """there are no circular dependencies"""
    yield from check_template.cycles(candidate.transformed)


def lint(candidate: Candidate) -> Iterator[str]:
    """cfn-lint has no findings"""
    yield from check_template.lint(candidate.path)


CHECKS: list[Callable[[Candidate], Iterator[str]]] = [
    *(resource_types, custom_resources, parameters, sam_properties, artefacts, blocked_iam, metadata),
    *(document_sizes, template_size, artefact_size, rules_of_aws, cycles, lint),
]


def capabilities(candidate: Candidate) -> list[str]:
    """The capabilities that a deployment must acknowledge."""
    resources = candidate.transformed["Resources"].values()
    types = {resource["Type"] for resource in resources}
    named = any(key in resource.get("Properties", {}) for resource in resources for key in ("RoleName", "UserName"))
    found = []
    if "AWS::IAM::Role" in types:
        found.append("CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM")
    if types & RESOURCE_POLICIES:
        found.append("CAPABILITY_RESOURCE_POLICY")
    if "AWS::Serverless::Application" in {r["Type"] for r in candidate.template["Resources"].values()}:
        found.append("CAPABILITY_AUTO_EXPAND")
    return found


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement within a resource."""
    match value:
        case {"Effect": _}:
            yield value
        case dict():
            for part in value.values():
                yield from statements(part)
        case list():
            for part in value:
                yield from statements(part)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
