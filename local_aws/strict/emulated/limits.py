"""Sizes that AWS refuses. docs/local-aws.md says what MiniStack refuses by itself (SQS, SNS, templates, parameters)."""

import json
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import alb, apigateway, lambda_svc
from ministack.services.cloudformation import provisioners

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule

MEGABYTE = 1024 * 1024
MAX_BY_LOAD_BALANCER = 1 * MEGABYTE
MAX_BY_HTTP_API = 10 * MEGABYTE
MAX_BY_LAMBDA = 6 * MEGABYTE
MAX_ENVIRONMENT_BYTES = 4096
JSON = {"Content-Type": "application/json"}


@rule("https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html", RULES)
def load_balancers_pass_one_megabyte() -> None:
    """A load balancer answers 413 to a body above 1 MB, and 502 if a function's answer is above 1 MB."""
    invoke = alb._invoke_lambda_target

    async def invoking(function: Any, group: Any, method: Any, path: Any, headers: Any, body: bytes, *rest: Any) -> Any:
        if len(body or b"") > MAX_BY_LOAD_BALANCER:
            return 413, {"Content-Type": "text/html"}, b"<html><h1>413 Request Entity Too Large</h1></html>"
        answer = await invoke(function, group, method, path, headers, body, *rest)
        if len(answer[2] or b"") > MAX_BY_LOAD_BALANCER:
            return 502, {"Content-Type": "text/html"}, b"<html><h1>502 Bad Gateway</h1></html>"
        return answer

    alb._invoke_lambda_target = invoking


@rule("https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html", RULES)
def http_apis_pass_what_lambda_takes() -> None:
    """An HTTP API answers 413 to a body above 10 MB, and to one that does not fit into Lambda's 6 MB."""
    proxy = apigateway._invoke_lambda_proxy

    async def proxying(
        integration: Any,
        api: Any,
        stage: Any,
        path: Any,
        method: Any,
        headers: Any,
        body: bytes,
        *rest: Any,
        **named: Any,
    ) -> Any:
        # The function's event holds it as a JSON string, or in base64, which is a third longer.
        size = len(body or b"")
        if size > MAX_BY_HTTP_API or (size > MAX_BY_LAMBDA / 2 and carried(body, headers) > MAX_BY_LAMBDA):
            return 413, JSON, b'{"message":"Request Entity Too Large"}'
        return await proxy(integration, api, stage, path, method, headers, body, *rest, **named)

    apigateway._invoke_lambda_proxy = proxying


def carried(body: bytes, headers: Any) -> int:
    if apigateway._v2_request_body_is_text(headers.get("content-type")):
        return len(json.dumps(body.decode(errors="replace"), ensure_ascii=False).encode())
    return len(body) * 4 // 3


@rule("https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html", RULES)
def invocations_carry_six_megabytes() -> None:
    """Lambda refuses an invocation with an event above 6 MB."""
    invoke = lambda_svc._invoke

    async def invoking(name: str, event: Any, *rest: Any) -> Any:
        if len(json.dumps(event)) > MAX_BY_LAMBDA:
            words = f"Request must be smaller than {MAX_BY_LAMBDA} bytes for the InvokeFunction operation"
            return error_response_json("RequestTooLargeException", words, 413)
        return await invoke(name, event, *rest)

    lambda_svc._invoke = invoking


@rule("https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html", RULES)
def environments_hold_four_kilobytes() -> None:
    """The environment variables of a function may have 4 KB in all, names included."""
    create, update = lambda_svc._create_function, lambda_svc._update_config
    of_stacks = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create_by_stack = of_stacks["create"]
    words = (
        "Lambda was unable to configure your environment variables because the environment variables you have "
        "provided exceeded the 4KB limit."
    )

    def creating(data: dict[str, Any]) -> Any:
        return error_response_json("InvalidParameterValueException", words, 400) if too_much(data) else create(data)

    def updating(name: str, data: dict[str, Any]) -> Any:
        if too_much(data):
            return error_response_json("InvalidParameterValueException", words, 400)
        return update(name, data)

    def creating_by_stack(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        if too_much(properties):
            raise ValueError(words)
        return create_by_stack(logical_id, properties, stack_name)

    lambda_svc._create_function, lambda_svc._update_config = creating, updating
    of_stacks["create"] = creating_by_stack


def too_much(described: dict[str, Any]) -> bool:
    variables = (described.get("Environment") or {}).get("Variables") or {}
    return sum(len(str(text).encode()) for pair in variables.items() for text in pair) > MAX_ENVIRONMENT_BYTES
