"""Unit tests touch no network."""

import pytest
from pytest_socket import disable_socket


@pytest.fixture(autouse=True)
def no_sockets() -> None:
    disable_socket()
