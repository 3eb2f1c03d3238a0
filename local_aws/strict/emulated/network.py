"""Lambda in a VPC: MiniStack's CloudFormation drops the network of a function without a word."""

from typing import Any

from ministack.services import ec2, lambda_svc
from ministack.services.cloudformation import provisioners

from local_aws.strict.emulated import RULES
from local_aws.strict.rules import rule


@rule("https://docs.aws.amazon.com/lambda/latest/api/API_VpcConfig.html", RULES)
def functions_join_networks_that_are_there() -> None:
    """A function of a stack is in its subnets and groups; one that does not exist fails the stack."""
    of_stacks = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create, update = of_stacks["create"], of_stacks["update"]

    def creating(logical_id: str, properties: dict[str, Any], stack_name: str) -> Any:
        config = joined(properties)
        made = create(logical_id, properties, stack_name)
        lambda_svc._functions[made[0]]["config"]["VpcConfig"] = config
        return made

    def updating(physical_id: str, old: Any, new: dict[str, Any], stack_name: str, logical_id: str = "") -> Any:
        config = joined(new)
        made = update(physical_id, old, new, stack_name, logical_id)
        lambda_svc._functions[made[0]]["config"]["VpcConfig"] = config
        return made

    of_stacks |= {"create": creating, "update": updating}


def joined(properties: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = properties.get("VpcConfig") or {}
    for kind, asked, there in (
        ("subnet", config.get("SubnetIds", []), ec2._subnets),
        ("security group", config.get("SecurityGroupIds", []), ec2._security_groups),
    ):
        if unknown := [each for each in asked if each not in there]:
            raise ValueError(f"The {kind} ID '{unknown[0]}' does not exist (InvalidParameterValueException)")
    found: dict[str, Any] = lambda_svc._vpc_config_with_id(config)
    return found
