"""The deployed stack registers itself with a stand-in for Bird's API, whose DNS leads to the local AWS."""

import base64
import json
import uuid

import pytest

from bird_webhooks.operate import rotation
from local_aws import deploy as local_stack
from local_aws.emulator import REGION


def update(stack, **changes: str) -> str:
    """The stack's status after an update of these parameters."""
    client = stack.emulator.client("cloudformation")
    [before] = client.describe_stacks(StackName=stack.name)["Stacks"]
    given = [
        {"ParameterKey": name, "ParameterValue": changes[name]}
        if name in changes
        else {"ParameterKey": name, "UsePreviousValue": True}
        for name in (parameter["ParameterKey"] for parameter in before["Parameters"])
    ]
    client.update_stack(
        StackName=stack.name,
        UsePreviousTemplate=True,
        Parameters=given,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    return local_stack.at_rest(stack.emulator, stack.name)


def send_as_bird(bird, webhook_id: str, stack) -> int:
    """Send one batch as Bird, with the webhook's credentials; 200 only if the raw bucket has it."""
    batch_id = str(uuid.uuid4())
    event = {"type": "bounce", "event_id": batch_id, "timestamp": "1460989507"}
    body = json.dumps([{"msys": {"message_event": event}}]).encode()
    status = bird.send(webhook_id, body, batch_id)
    if status == 200:
        bucket = stack.outputs["RawBucketName"]
        stored = stack.emulator.client("s3").get_object(Bucket=bucket, Key=f"raw/{batch_id}.json")["Body"].read()
        assert stored == body
    return status


@pytest.fixture(scope="module")
def registered(stack, registration):
    """A stack behind an HTTP API, which answers before the deployment is through; of the template deployed already."""
    emulator, name = stack.emulator, "bird-registers-itself-at-bird"
    client = emulator.client("cloudformation")
    template = client.get_template(StackName=stack.name, TemplateStage="Original")["TemplateBody"]
    bucket, key = local_stack.ARTEFACT_BUCKET, f"{name}.template"
    emulator.client("s3").put_object(Bucket=bucket, Key=key, Body=template.encode())
    parameters = {"FrontDoor": "HTTP_API", "DeleteBirdWebhook": "true", **registration}
    client.create_stack(
        StackName=name,
        TemplateURL=f"https://s3.{REGION}.amazonaws.com/{bucket}/{key}",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    assert local_stack.at_rest(emulator, name) == "CREATE_COMPLETE", local_stack.failure_reason(emulator, name)
    yield local_stack.Deployed(emulator, name, local_stack.local_outputs(emulator, name))
    if local_stack.stack_status(emulator, name) != "DELETE_COMPLETE":
        client.delete_stack(StackName=name)


def test_a_webhook_made_by_hand_is_adopted(stack, bird):
    assert stack.outputs["BirdWebhookId"] == "made-by-hand"
    assert stack.outputs["BirdWebhookOutcome"] == "adopted, because it existed"
    adopted = bird.webhooks["made-by-hand"]
    username, password = stack.credentials()
    assert adopted["auth_credentials"] == {"username": username, "password": password}
    assert (adopted["name"], adopted["target"]) == ("bird-e2e", "https://webhooks.example.com/bird")
    assert len(adopted["events"]) == 27


def test_the_webhook_lives_and_dies_with_its_stack(registered, registration, bird):
    webhook_id = registered.outputs["BirdWebhookId"]
    target = registered.outputs["PublicWebhookUrl"]
    username, old = registered.credentials()

    # created with the stack's credentials, after Bird called the target: a batch from Bird is stored
    assert registered.outputs["BirdWebhookOutcome"] == "created"
    assert "BirdForm" not in registered.outputs
    webhook = bird.webhooks[webhook_id]
    assert target in bird.probes
    assert (webhook["name"], webhook["target"]) == ("bird-registers-itself-at", target)
    assert webhook["auth_credentials"] == {"username": username, "password": old}
    assert send_as_bird(bird, webhook_id, registered) == 200

    # rotated: Bird has the new ones by itself, and no batch is refused at any step
    operated = registered.stack
    rotation.start(operated, show=False)
    _, new = registered.credentials()
    assert bird.webhooks[webhook_id]["auth_credentials"]["password"] == new != old
    assert send_as_bird(bird, webhook_id, registered) == 200
    rotation.finish(operated, quiet=rotation.timedelta(minutes=15), force=True, yes=True)
    assert send_as_bird(bird, webhook_id, registered) == 200
    bird.webhooks["old"] = {**bird.webhooks[webhook_id], "auth_credentials": {"username": username, "password": old}}
    assert send_as_bird(bird, "old", registered) == 401
    del bird.webhooks["old"]

    # updated in place
    assert update(registered, BirdWebhookName="Renamed", BirdEventTypes="bounce,click") == "UPDATE_COMPLETE"
    assert (bird.webhooks[webhook_id]["name"], bird.webhooks[webhook_id]["events"]) == ("Renamed", ["bounce", "click"])

    # refused: Bird's words are the stack's, and all is as it was
    assert update(registered, BirdEventTypes="bonuce") == "UPDATE_ROLLBACK_COMPLETE"
    client = registered.emulator.client("cloudformation")
    events = client.describe_stack_events(StackName=registered.name)["StackEvents"]
    reasons = [event.get("ResourceStatusReason") for event in events if event["ResourceStatus"] == "UPDATE_FAILED"]
    assert "Bird refused: Invalid event type: bonuce (HTTP 400)" in reasons
    assert bird.webhooks[webhook_id]["events"] == ["bounce", "click"]

    # an update that empties the key, as one from SAR does where it is not typed in again, is refused
    bucket = registered.outputs["RawBucketName"]
    assert update(registered, BirdApiKeySecretArn="") == "UPDATE_ROLLBACK_COMPLETE"
    events = client.describe_stack_events(StackName=registered.name)["StackEvents"]
    [guard] = [e for e in events if e["LogicalResourceId"] == "SettingsGuard" and "FAILED" in e["ResourceStatus"]]
    assert guard["ResourceStatusReason"].startswith(
        "Refused, because these settings would go back to their defaults: BirdApiKeySecretArn. "
    )
    assert webhook_id in bird.webhooks
    # meant, it is done, and the webhook goes on sending
    assert update(registered, BirdApiKeySecretArn="", SettingsToReset="BirdApiKeySecretArn") == "UPDATE_COMPLETE"
    assert send_as_bird(bird, webhook_id, registered) == 200
    again = {"BirdApiKeySecretArn": registration["BirdApiKeySecretArn"], "SettingsToReset": ""}
    assert update(registered, **again) == "UPDATE_COMPLETE"
    outputs = local_stack.local_outputs(registered.emulator, registered.name)
    assert (outputs["BirdWebhookId"], outputs["BirdWebhookOutcome"]) == (
        webhook_id,
        "found again, it is the stack's own",
    )
    assert outputs["RawBucketName"] == bucket

    # deleted with the stack, for DeleteBirdWebhook says so, and no other
    others = set(bird.webhooks) - {webhook_id}
    local_stack.delete(registered)
    assert set(bird.webhooks) == others
    secrets = [old, new, bird.key, base64.b64encode(f"{username}:{new}".encode()).decode()]
    assert [secret for secret in secrets if secret in json.dumps(events, default=str)] == []
