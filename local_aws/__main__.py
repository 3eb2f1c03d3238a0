"""`make local` and `make local-down`: the stack on a local AWS, left running. `make build`: what it is made of.

    python -m local_aws build   build and compile the functions into .aws-sam
    python -m local_aws up      the same; deploy, write .local/outputs.json, leave it running
    python -m local_aws down    stop it and remove everything

LOCAL_AWS_PORT names the port (default: a free one); AUTH=true makes the emulator enforce IAM policies.
"""

import argparse
import os
import sys

from bird_webhooks.stack import OUTPUTS
from bird_webhooks.terminal import step
from local_aws import deploy as local_stack
from local_aws import emulator as local_emulator
from local_aws.emulator import LOCAL, LocalAwsError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["build", "up", "down"])
    command = parser.parse_args().command
    local_emulator.forget_real_aws()
    try:
        {"build": build, "up": up, "down": down}[command]()
    except LocalAwsError as error:
        print(f"local AWS: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def build() -> None:
    step("building (sam build)")
    step(f"built {local_stack.build().relative_to(local_emulator.ROOT)}")


def up() -> None:
    """Start the emulator unless it is running, then build and deploy; run it again to deploy a change."""
    emulator = local_emulator.recall()
    if emulator is None:
        port = port_from_environment() or local_emulator.free_port()
        step(f"starting MiniStack on port {port}")
        emulator = local_emulator.start(port, auth=auth_from_environment())
        local_emulator.remember(emulator)
    elif port_from_environment() not in (None, emulator.port) or auth_from_environment() != emulator.auth:
        raise LocalAwsError(f"one with other settings is running on port {emulator.port}: run `make local-down` first")
    try:
        step("building (sam build)")
        local_stack.build()
        step("deploying (sam deploy)")
        stack = local_stack.deploy(emulator)
    except BaseException:
        stop(emulator)
        raise
    path = local_stack.write_outputs(stack)
    step(f"ready: {stack.outputs.get('WebhookUrl')}")
    step(f"outputs in {path.relative_to(local_emulator.ROOT)}; `make local-down` stops it")
    step(f"for other programs: export AWS_ENDPOINT_URL={emulator.endpoint_url} AWS_REGION={local_emulator.REGION}")
    step(f"  export AWS_ACCESS_KEY_ID={emulator.access_key} AWS_SECRET_ACCESS_KEY={local_emulator.SECRET_KEY}")


def down() -> None:
    emulator = local_emulator.recall()
    if emulator is None:
        step("the local AWS is not running")
    else:
        stop(emulator)
        step("the local AWS has stopped")


def stop(emulator: local_emulator.Emulator) -> None:
    local_emulator.stop(emulator)
    local_emulator.forget()
    (LOCAL / OUTPUTS.name).unlink(missing_ok=True)


def port_from_environment() -> int | None:
    text = os.environ.get("LOCAL_AWS_PORT", "")
    if text and not text.isdigit():
        raise LocalAwsError(f"LOCAL_AWS_PORT is not a port number: {text}")
    return int(text) if text else None


def auth_from_environment() -> bool:
    return os.environ.get("AUTH", "").lower() in ("1", "true")


if __name__ == "__main__":
    sys.exit(main())
