"""One local AWS with enforced IAM policies for the whole suite, the real template deployed to it by `sam deploy`."""

from collections.abc import Iterator

import pytest

from tools import local_emulator, local_stack
from tools.local_emulator import Emulator
from tools.local_stack import Stack


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    local_emulator.forget_real_aws()
    with local_emulator.running(auth=True) as started:
        local_stack.build()
        yield started


@pytest.fixture(scope="session")
def stack(emulator: Emulator) -> Stack:
    """With every part that is optional, so that every role is there; `localhost` stands for Bird's sending name."""
    return local_stack.deploy(emulator, "bird-e2e", {"SenderHostName": "localhost", "DailyReport": "true"})
