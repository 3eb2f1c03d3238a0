"""CloudFormation: the state after an update, and the answers of custom resources."""

import asyncio
import json
from typing import Any

from ministack.services import cloudformation
from ministack.services.cloudformation import changesets, custom_resource, handlers, stacks

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule, seconds

MAX_ANSWER_BYTES = 4096
SUFFIX = "_CLEANUP_IN_PROGRESS"


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html", RULES)
def updates_end_with_a_clean_up() -> None:
    """After an update or its rollback a stack is in *_CLEANUP_IN_PROGRESS, and accepts no other update meanwhile."""
    length = seconds("CLEANUP", 2)
    if not length:
        return
    deploy, create_change_set = stacks._deploy_stack_async, handlers._ACTION_HANDLERS["CreateChangeSet"]

    async def deploying(name: str, stack_id: str, *rest: Any, **named: Any) -> None:
        await deploy(name, stack_id, *rest, **named)
        stack = cloudformation._stacks[name]
        final = stack["StackStatus"]
        if final not in ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
            return
        # MiniStack reports the end, but AWS would not yet.
        cloudformation._stack_events[stack_id].pop()
        say(stack, name, stack_id, final + SUFFIX)
        await asyncio.sleep(length)
        say(stack, name, stack_id, final)

    def changing(params: Any) -> Any:
        stack = cloudformation._stacks.get(handlers._p(params, "StackName"))
        if stack and stack["StackStatus"].endswith(SUFFIX):
            words = f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not be updated."
            return handlers._error("ValidationError", words)
        return create_change_set(params)

    stacks._deploy_stack_async = changesets._deploy_stack_async = handlers._deploy_stack_async = deploying
    handlers._ACTION_HANDLERS["CreateChangeSet"] = changing


def say(stack: dict[str, Any], name: str, stack_id: str, status: str) -> None:
    stack["StackStatus"] = status
    kind = "AWS::CloudFormation::Stack"
    events = cloudformation._stack_events[stack_id]
    if not events or events[-1]["ResourceStatus"] != status:
        stacks._add_event(stack_id, name, name, kind, status, physical_id=stack_id)


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html", RULES)
def long_answers_of_custom_resources_fail() -> None:
    """A custom resource's answer may have 4,096 bytes; a longer one is a failure."""
    deliver = custom_resource.deliver_response

    def delivering(token: str, answer: dict[str, Any]) -> Any:
        if len(json.dumps(answer)) > MAX_ANSWER_BYTES:
            answer = {"Status": "FAILED", "Reason": "Response object is too long."}
        return deliver(token, answer)

    custom_resource.deliver_response = delivering


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html", RULES)
def rollbacks_restore_conditions() -> None:
    """A rollback restores a stack as it was. MiniStack keeps the failed update's conditions, and the next update then
    deletes a custom resource's function before the custom resource."""
    roll_back = stacks._roll_back_operation

    async def rolling_back(name: str, stack_id: str, stack: dict[str, Any], operation: dict[str, Any]) -> None:
        await roll_back(name, stack_id, stack, operation)
        if previous := operation.get("previous_stack"):
            stack["_conditions"] = previous.get("_conditions", {})

    stacks._roll_back_operation = rolling_back
