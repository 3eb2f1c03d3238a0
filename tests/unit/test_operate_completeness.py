"""What `bird-webhooks completeness` says when the function's answer does not come in time."""

from types import SimpleNamespace

from botocore.exceptions import ReadTimeoutError

from bird_webhooks.operate import completeness


def test_a_run_that_takes_longer_than_the_connection_is_no_failure():
    def invoke(**names):
        raise ReadTimeoutError(endpoint_url="https://lambda.us-east-1.amazonaws.com")

    stack = SimpleNamespace(
        resources={"ReconcileFunction": ("AWS::Lambda::Function", "reconcile")},
        output=lambda name: "webhook",
        client=lambda service: SimpleNamespace(invoke=invoke),
    )
    assert completeness.invoked(stack) is None
