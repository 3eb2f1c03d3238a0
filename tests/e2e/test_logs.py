"""What the deployed functions log, as CloudWatch Logs keeps it, holds nothing private."""

import uuid

from local_aws.query import poll
from local_aws.webhook import EVENTS, recorded_request
from tests.e2e.webhook import post

LOGS_TIMEOUT_SECONDS = 60
ROLES = ("Ingest", "Process", "LoadPostgres", "PublishEvents", "WebhookCredentials", "BirdWebhook")
ADDRESS = "jane.doe@example.com"


def test_logs_of_the_deployed_functions_hold_nothing_private(stack):
    username, password = stack.credentials()
    batch = recorded_request(EVENTS / "alb_all_types.json").body
    odd = (
        f'[{{"msys":{{"message_event":{{"type":"bounce","rcpt_to":"{ADDRESS}","{ADDRESS}":1}}}}}},"{ADDRESS}"]'.encode()
    )
    for body, login in [(batch, (username, password)), (odd, (username, password)), (odd, ("jane", "hunter2"))]:
        post(stack, body, credentials=login, batch_id=str(uuid.uuid4()))
    logs = stack.emulator.client("logs")
    names = [stack.resources()[f"{role}LogGroup"] for role in ROLES]

    def logged() -> str:
        pages = [logs.get_paginator("filter_log_events").paginate(logGroupName=name) for name in names]
        return "\n".join(event["message"] for paginator in pages for page in paginator for event in page["events"])

    # These two are the last words on the above.
    text = poll(logged, lambda text: "request rejected" in text and "events quarantined" in text, LOGS_TIMEOUT_SECONDS)
    private = [password, "hunter2", "example.com", "jane", '"msys\\"', "Basic "]
    assert [word for word in private if word in text] == []
