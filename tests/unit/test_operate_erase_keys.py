"""Which keys of hashes `erase` takes, and what it says where one cannot be read."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from bird_webhooks.errors import OperateError
from bird_webhooks.operate import erase

# printf person@example.com | openssl dgst -sha256 -hmac key
HASH = "7ac214eae42da6039b67ceae3cbe0ffcf6394073593d3c635b91113cdf91721e"


class OfAStack:
    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets, self.outputs, self.storage_record = secrets, {"HashKeyArn": "own"}, {"hash_key": "kept"}

    def secret_text(self, name: str) -> str:
        if name.endswith("Exception"):
            raise ClientError({"Error": {"Code": name}}, "GetSecretValue")
        return self.secrets[name]


def test_a_key_that_is_gone_is_said_and_the_others_are_taken(capsys):
    stack: Any = OfAStack({"own": "key"})
    stack.storage_record = {"hash_key": "ResourceNotFoundException"}
    assert list(erase.hashes(stack, "Person@example.com", [])) == [HASH]
    assert "because the key is gone: ResourceNotFoundException" in capsys.readouterr().err


def test_a_key_that_can_be_restored_is_not_passed_over():
    """Until it is deleted for good the hashes are the person's, and the command would say that nothing is left."""
    stack: Any = OfAStack({"own": "key"})
    stack.storage_record = {"hash_key": "InvalidRequestException"}
    with pytest.raises(OperateError, match=r"^nothing was erased: .* restore-secret --secret-id Invalid"):
        list(erase.hashes(stack, "person@example.com", []))
