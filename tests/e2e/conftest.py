"""One local AWS with enforced IAM policies for the whole suite, the real template deployed to it by `sam deploy`."""

from collections.abc import Iterator

import pytest

from tools import local_emulator, local_stack
from tools.local_emulator import Emulator
from tools.local_stack import Stack
from tools.sar.package import package_locally


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with local_emulator.running(auth=True) as started:
        local_stack.build()
        yield started


@pytest.fixture(scope="session")
def stack(emulator: Emulator) -> Stack:
    """With every part that is optional, so that every role is there; `localhost` stands for Bird's sending name."""
    optional = {"SenderHostName": "localhost", "DropFields": "sms_text", "HashFields": "remote_addr"}
    return local_stack.deploy(emulator, "bird-e2e", optional)


@pytest.fixture(scope="session")
def sar_stack(emulator: Emulator) -> Stack:
    """SAR's template as it is published, with nothing but its defaults."""
    return local_stack.deploy(emulator, "serverlessrepo-bird", template=package_locally(emulator).path)


@pytest.fixture(params=["stack", "sar_stack"])
def each_stack(request: pytest.FixtureRequest) -> Stack:
    """Both ways in: the contract is one."""
    stack: Stack = request.getfixturevalue(request.param)
    return stack
