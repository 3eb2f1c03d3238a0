"""`sam build` and `sam deploy` of the real template to the local AWS, and the stack's outputs."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZipFile, ZipInfo

from botocore.exceptions import ClientError

from bird_webhooks.stack import LOCAL_POLL_SECONDS, OUTPUTS, Stack
from local_aws.emulator import LOCAL, REGION, ROOT, SECRET_KEY, Emulator, LocalAwsError
from local_aws.yaml_text import yaml_parse

TEMPLATE = ROOT / "template.yaml"
BUILT_TEMPLATE = ROOT / ".aws-sam/build/template.yaml"
STACK_NAME = "bird-webhooks"
DOMAIN_NAME = "webhooks.example.com"
ARTEFACT_BUCKET = "local-artefacts"
DELETE_TIMEOUT_SECONDS = 60
AT_REST_TIMEOUT_SECONDS = 180
# Types that MiniStack's CloudFormation refuses and that nothing else refers to.
LEFT_OUT = ("AWS::Athena::NamedQuery",)


@dataclass(frozen=True)
class Deployed:
    """A deployed stack. `outputs`: the template's outputs, and those that exist only locally."""

    emulator: Emulator
    name: str
    outputs: dict[str, str]

    @cached_property
    def stack(self) -> Stack:
        """The same for the operator's program."""
        certificate = str(self.emulator.certificate) if self.emulator.auth else None
        return Stack(self.name, self.emulator.client, LOCAL_POLL_SECONDS, self.outputs["WebhookUrl"], certificate)

    def credentials(self) -> tuple[str, str]:
        return self.stack.credentials()

    def resources(self) -> dict[str, str]:
        """Physical ids by logical id."""
        return {name: resource["PhysicalResourceId"] for name, resource in described(self.emulator, self.name).items()}


def build(template: Path = TEMPLATE) -> Path:
    """Build and compile into .aws-sam beside the template, unless sources are unchanged. Returns the built template."""
    if not template.exists():
        raise LocalAwsError(f"there is no {template} to build")
    built = template.parent / ".aws-sam/build"
    options = ["--cached", "--parallel", "--template", str(template), "--build-dir", str(built)]
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": REGION}
    sources, built_from = digest(template), built / ".sources"
    with one_at_a_time():
        # A build removes the previous one for a moment, also for programs that are using it.
        if not built_from.exists() or built_from.read_text() != sources:
            sam("build", [*options, "--cache-dir", str(ROOT / ".aws-sam/cache")], environment)
            compile_modules(built)
            built_from.write_text(sources)
    return built / "template.yaml"


def compile_modules(built: Path) -> None:
    """Put bytecode beside the modules of built functions, because in Lambda each new process compiles those without it.

    Equal modules get equal bytecode, so that a package of two functions is uploaded once. Python checks it against the
    source's hash, and another version of Python ignores it.
    """
    functions = [path for path in sorted(built.iterdir()) if path.is_dir()]
    # -I -S: no variable or .pth file of this machine says where bytecode goes.
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    result = subprocess.run([*command, "-d", "/var/task", *functions], capture_output=True, text=True)
    if result.returncode:
        raise LocalAwsError(f"the built functions do not compile: {(result.stdout + result.stderr).strip()}")


def digest(template: Path) -> str:
    """A digest of everything that a build reads."""
    files = (path for path in sorted((template.parent / "functions").rglob("*")) if path.is_file())
    read = hashlib.sha256(template.read_bytes())
    for path in files:
        if path.parent.name != "__pycache__":
            read.update(f"{path.relative_to(template.parent)} {path.stat().st_size} ".encode() + path.read_bytes())
    return read.hexdigest()


def deploy(
    emulator: Emulator,
    stack_name: str = STACK_NAME,
    parameters: Mapping[str, str] | None = None,
    template: Path = BUILT_TEMPLATE,
) -> Deployed:
    """`sam deploy` of a built template, with a load balancer's name and certificate such as a user supplies.

    The code is in the artefact bucket before: SAM would compress it, which takes most of its time, though it stays on
    this machine. `make sar` has SAM package the same functions.
    """
    content = read_template(template)
    values = with_front_door(emulator, content, parameters or {})
    make_artefact_bucket(emulator)
    ready = template.with_name(f"local-{template.name}")
    options = ["--template", str(ready), "--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local"]
    options += ["--stack-name", stack_name, "--s3-bucket", ARTEFACT_BUCKET]
    options += ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    options += ["--capabilities", "CAPABILITY_IAM"]
    if values:
        options += ["--parameter-overrides", *(f'{name}="{value}"' for name, value in values.items())]
    with one_at_a_time():
        ready.write_text(json.dumps(packaged(emulator, template, content)))  # JSON is YAML too
        try:
            # The seconds between two looks at the stack; by default 5, though this one is there in 3.
            sam("deploy", options, {**emulator.environment(), "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.5"})
        except LocalAwsError as error:
            if reason := failure_reason(emulator, stack_name):
                raise LocalAwsError(f"stack {stack_name} failed: {reason}") from error
            raise
    register_targets(emulator, stack_name, content)
    fix_event_sources(emulator, stack_name)
    return Deployed(emulator, stack_name, local_outputs(emulator, stack_name))


def create_or_update(
    emulator: Emulator,
    stack_name: str,
    parameters: Mapping[str, str] | None = None,
    template: Path = BUILT_TEMPLATE,
) -> Deployed:
    """What `deploy` does, by CloudFormation's API: `sam deploy` takes 7 s of processor time each time, this 1 s.

    For tests that want one more stack. `template`: a built one, or one whose code is in a bucket already.
    """
    content = read_template(template)
    values = with_front_door(emulator, content, parameters or {})
    make_artefact_bucket(emulator)
    body = json.dumps(packaged(emulator, template, content))
    s3, cloudformation = emulator.client("s3"), emulator.client("cloudformation")
    key = hashlib.sha256(body.encode()).hexdigest()
    s3.put_object(Bucket=ARTEFACT_BUCKET, Key=key, Body=body.encode())
    there = stack_status(emulator, stack_name) != "DELETE_COMPLETE"
    before: list[str] = []
    if there:
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        before = [parameter["ParameterKey"] for parameter in stack.get("Parameters", [])]
    given: list[dict[str, Any]] = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    given += [
        {"ParameterKey": name, "UsePreviousValue": True}
        for name in before
        if name not in values and name in content["Parameters"]
    ]
    (cloudformation.update_stack if there else cloudformation.create_stack)(
        StackName=stack_name,
        TemplateURL=f"https://s3.{REGION}.amazonaws.com/{ARTEFACT_BUCKET}/{key}",
        Parameters=given,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    if (status := at_rest(emulator, stack_name)) not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise LocalAwsError(f"stack {stack_name} is {status}: {failure_reason(emulator, stack_name)}")
    register_targets(emulator, stack_name, content)
    fix_event_sources(emulator, stack_name)
    return Deployed(emulator, stack_name, local_outputs(emulator, stack_name))


def with_front_door(emulator: Emulator, content: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """The parameters, with what the account supplies for a load balancer if the template makes one."""
    if "FrontDoor" not in content["Parameters"] or given.get("FrontDoor") == "NONE":
        return dict(given)
    named = {} if given.get("FrontDoor") == "HTTP_API" else {"DomainName": DOMAIN_NAME}
    return {"CertificateArn": certificate_arn(emulator), **named, **given}


def packaged(emulator: Emulator, template: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The template with its code in the artefact bucket, without the types that the local AWS does not know."""
    resources = json.loads(json.dumps(known_resources(content)))
    for resource in resources.values():
        code = resource.get("Properties", {}).get("CodeUri")
        if isinstance(code, str) and not code.startswith("s3://"):
            resource["Properties"]["CodeUri"] = f"s3://{ARTEFACT_BUCKET}/{upload(emulator, template.parent / code)}"
    return {**content, "Resources": resources}


@cache
def upload(emulator: Emulator, folder: Path) -> str:
    """The key of a built function's code, the same for equal ones. Not compressed: it never leaves this machine."""
    file = BytesIO()
    with ZipFile(file, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                zipped.writestr(ZipInfo(str(path.relative_to(folder))), path.read_bytes())
    code = file.getvalue()
    key, s3 = hashlib.sha256(code).hexdigest(), emulator.client("s3")
    if not s3.list_objects_v2(Bucket=ARTEFACT_BUCKET, Prefix=key)["KeyCount"]:
        s3.put_object(Bucket=ARTEFACT_BUCKET, Key=key, Body=code)
    return key


def at_rest(emulator: Emulator, stack_name: str) -> str:
    """The stack's status once nothing is in progress. Errors: LocalAwsError after minutes."""
    deadline = time.monotonic() + AT_REST_TIMEOUT_SECONDS
    while (status := stack_status(emulator, stack_name)).endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise LocalAwsError(f"stack {stack_name} is still {status} after {AT_REST_TIMEOUT_SECONDS} s")
        time.sleep(0.2)
    return status


def read_template(path: Path) -> dict[str, Any]:
    """As written or as built, with CloudFormation's tags in their long form."""
    content: dict[str, Any] = yaml_parse(path.read_text())
    return content


def known_resources(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: resource for name, resource in content["Resources"].items() if resource["Type"] not in LEFT_OUT}


def delete(stack: Deployed) -> None:
    """Delete the stack and wait until it is gone."""
    client = stack.emulator.client("cloudformation")
    client.delete_stack(StackName=stack.name)
    deadline = time.monotonic() + DELETE_TIMEOUT_SECONDS
    while (status := stack_status(stack.emulator, stack.name)) != "DELETE_COMPLETE":
        if status == "DELETE_FAILED" or time.monotonic() > deadline:
            raise LocalAwsError(f"stack {stack.name} was not deleted: {failure_reason(stack.emulator, stack.name)}")
        time.sleep(0.2)


def sam(command: str, options: list[str], environment: Mapping[str, str]) -> None:
    """Run one SAM command from the repository's root; its output goes to .local/sam-<command>.log."""
    tools = Path(sys.executable).parent
    if not (tools / "sam").exists():
        raise LocalAwsError("the SAM CLI is not installed: run `make install` first")
    LOCAL.mkdir(exist_ok=True)
    log = LOCAL / f"sam-{command}.log"
    path = f"{tools}{os.pathsep}{environment.get('PATH', os.defpath)}"
    with log.open("wb") as output:
        result = subprocess.run(
            [tools / "sam", command, *options],
            cwd=ROOT,
            env={**environment, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if result.returncode:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output")
        raise LocalAwsError(f"sam {command} failed: {said} (full output in {log})")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Builds and deployments share .aws-sam: a second one waits for the first."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "sam.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def certificate_arn(emulator: Emulator) -> str:
    """A certificate like one in an AWS account; requested on the first call."""
    client = emulator.client("acm")
    for certificate in client.list_certificates()["CertificateSummaryList"]:
        if certificate["DomainName"] == DOMAIN_NAME:
            return str(certificate["CertificateArn"])
    return str(client.request_certificate(DomainName=DOMAIN_NAME, ValidationMethod="DNS")["CertificateArn"])


def make_artefact_bucket(emulator: Emulator) -> None:
    client = emulator.client("s3")
    if ARTEFACT_BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=ARTEFACT_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def described(emulator: Emulator, stack_name: str) -> dict[str, dict[str, Any]]:
    client = emulator.client("cloudformation")
    resources = client.describe_stack_resources(StackName=stack_name)["StackResources"]
    return {resource["LogicalResourceId"]: resource for resource in resources if "PhysicalResourceId" in resource}


def stack_status(emulator: Emulator, stack_name: str) -> str:
    try:
        [stack] = emulator.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError:
        return "DELETE_COMPLETE"
    return str(stack["StackStatus"])


def failure_reason(emulator: Emulator, stack_name: str) -> str | None:
    """The stack's reason for the first resource that failed."""
    try:
        events = emulator.client("cloudformation").describe_stack_events(StackName=stack_name)["StackEvents"]
    except ClientError:
        return None
    for event in reversed(events):  # oldest first: after the first failure the others are only cancelled
        if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason"):
            return f"{event['LogicalResourceId']} ({event['ResourceType']}): {event['ResourceStatusReason']}"
    return None


def register_targets(emulator: Emulator, stack_name: str, template: Mapping[str, Any]) -> None:
    """Register TargetGroup.Targets, which MiniStack's CloudFormation does not do."""
    deployed = described(emulator, stack_name)
    client = emulator.client("elbv2")
    for logical_id, resource in template["Resources"].items():
        if resource["Type"] != "AWS::ElasticLoadBalancingV2::TargetGroup" or logical_id not in deployed:
            continue
        group = deployed[logical_id]["PhysicalResourceId"]
        for target in resource["Properties"].get("Targets", []):
            arn = target_arn(emulator, stack_name, deployed, target["Id"])
            client.register_targets(TargetGroupArn=group, Targets=[{"Id": arn}])


def fix_event_sources(emulator: Emulator, stack_name: str) -> None:
    """Set numbers, because MiniStack's poller gets parameters as text; and a batching window of 1 s instead of 20 s."""
    client = emulator.client("lambda")
    for resource in described(emulator, stack_name).values():
        if resource["ResourceType"] == "AWS::Lambda::EventSourceMapping":
            client.update_event_source_mapping(
                UUID=resource["PhysicalResourceId"],
                ScalingConfig={"MaximumConcurrency": 5},
                MaximumBatchingWindowInSeconds=1,
            )


def scale_time(stack: Deployed, factor: float) -> None:
    """Let ReconcileFunction wait `factor` times less, for hours to settle and between calls. The template cannot."""
    client, function = stack.emulator.client("lambda"), stack.resources()["ReconcileFunction"]
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=function, Environment={"Variables": {**variables, "TIME_SCALE": str(factor)}}
    )


def target_arn(emulator: Emulator, stack_name: str, deployed: Mapping[str, dict[str, Any]], reference: Any) -> str:
    """The ARN behind `!GetAtt Function.Arn`, or behind `!Ref` of a parameter."""
    match reference:
        case {"Ref": parameter}:
            [stack] = emulator.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
            return next(str(p["ParameterValue"]) for p in stack["Parameters"] if p["ParameterKey"] == parameter)
        case {"Fn::GetAtt": [logical_id, "Arn"]}:
            name = deployed[logical_id]["PhysicalResourceId"]
            function = emulator.client("lambda").get_function(FunctionName=name)
            return str(function["Configuration"]["FunctionArn"])
    raise LocalAwsError(f"the function of this target is not known: {reference}")


def local_outputs(emulator: Emulator, stack_name: str) -> dict[str, str]:
    [stack] = emulator.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    outputs["PublicWebhookUrl"] = outputs["WebhookUrl"]
    outputs["WebhookUrl"] = local_front_door(emulator, stack_name) + urlsplit(outputs["WebhookUrl"]).path
    if secret_arn := outputs.get("WebhookSecretArn"):
        secret = emulator.client("secretsmanager").describe_secret(SecretId=secret_arn)
        outputs["WebhookSecretName"] = secret["Name"]
    return outputs | {"StackName": stack_name, "endpoint_url": emulator.endpoint_url, "region": REGION}


def local_front_door(emulator: Emulator, stack_name: str) -> str:
    """The local address of the stack's load balancer or HTTP API, without a path."""
    here = f"{emulator.scheme}://localhost:{emulator.port}"
    by_type = {
        resource["ResourceType"]: resource["PhysicalResourceId"]
        for resource in described(emulator, stack_name).values()
    }
    if arn := by_type.get("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        answer = emulator.client("elbv2").describe_load_balancers(LoadBalancerArns=[arn])
        return f"{here}/_alb/{answer['LoadBalancers'][0]['LoadBalancerName']}"
    return f"{here}/_aws/execute-api/{by_type['AWS::ApiGatewayV2::Api']}/$default"


def write_outputs(stack: Deployed, folder: Path = LOCAL) -> Path:
    """What `bird-webhooks --local` and other programs need to know."""
    path = folder / OUTPUTS.name
    path.touch(mode=0o600)
    path.chmod(0o600)  # the key of the local AWS, also in a file that an older version wrote
    login = {"access_key_id": stack.emulator.access_key, "secret_access_key": SECRET_KEY}
    trust = {"ca_bundle": str(stack.emulator.certificate) if stack.emulator.auth else ""}
    path.write_text(json.dumps({**stack.outputs, **login, **trust}, indent=2, sort_keys=True) + "\n")
    return path
