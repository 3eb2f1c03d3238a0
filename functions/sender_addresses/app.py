"""The addresses of the sender's host name -> ingress rules of one security group. Bird publishes a name, not a list.

Runs on a schedule, and once when the stack is deployed, so that the load balancer's group is never empty. It must not
lock the sender out. If the name does not resolve, it changes nothing and fails, and an alarm fires. It allows new
addresses before it removes old ones, and removes those only when DNS has not returned them for a week, because one DNS
answer may contain only some of the addresses. Rules that others added to the group stay.
"""

import logging
import os
import socket
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.exceptions import ClientError

from sender_addresses.cloudformation import AWS_LIMITS, answer_to, seconds_left, send, when_allowed

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import IpPermissionTypeDef

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

LOOKUPS = 3  # a name server may return other addresses each time
GRACE_PERIOD = timedelta(days=7)
ANSWER_RESERVE_SECONDS = 30
# The description of our rules: this text, and the day on which DNS last returned the address.
SEEN = "Sender, seen "


class NoAddressError(Exception):
    """The name did not resolve, or has no address."""


class Rule(NamedTuple):
    """An ingress rule of the group. `seen` is None for a rule that is not ours."""

    address: str
    seen: date | None


def lambda_handler(event: Mapping[str, Any], context: Any) -> None:
    if "RequestType" in event:
        answer_cloudformation(event, context)
    else:
        update()


def update() -> None:
    """Allow the name's addresses; remove those not returned for a week. Errors pass, so that the alarm fires."""
    try:
        change_rules()
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidPermission.Duplicate":
            raise
        change_rules()  # schedule and deployment ran at the same time: now it sees the other's rules


def change_rules() -> None:
    found = resolve(os.environ["SENDER_HOST_NAME"])
    group = os.environ["SECURITY_GROUP_ID"]
    today = datetime.now(UTC).date()
    client = boto3.client("ec2", config=AWS_LIMITS)
    rules = read_rules(client, group)
    new = sorted(found - {rule.address for rule in rules})
    ours = {rule.address: rule.seen for rule in rules if rule.seen}
    seen_again = sorted(address for address, seen in ours.items() if address in found and seen != today)
    gone = {address: seen for address, seen in ours.items() if address not in found}
    expired = sorted(address for address, seen in gone.items() if seen < today - GRACE_PERIOD)
    if new:
        client.authorize_security_group_ingress(GroupId=group, IpPermissions=permission(new, today))
    if seen_again:
        client.update_security_group_rule_descriptions_ingress(
            GroupId=group, IpPermissions=permission(seen_again, today)
        )
    if expired:
        client.revoke_security_group_ingress(GroupId=group, IpPermissions=permission(expired))
    logger.info(
        "sender addresses updated",
        extra={"resolved": len(found), "added": len(new), "removed": len(expired), "kept": len(gone) - len(expired)},
    )


def resolve(name: str) -> set[str]:
    """All IPv4 addresses from several lookups, as CIDRs. Errors: NoAddressError."""
    found: set[str] = set()
    for _ in range(LOOKUPS):
        try:
            answers = socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise NoAddressError(f"{name} did not resolve: {error}") from error
        found |= {f"{answer[4][0]}/32" for answer in answers}
    if not found:
        raise NoAddressError(f"{name} has no address")
    return found


def read_rules(client: "EC2Client", group: str) -> list[Rule]:
    pages = client.get_paginator("describe_security_group_rules").paginate(
        Filters=[{"Name": "group-id", "Values": [group]}]
    )
    return [
        Rule(rule["CidrIpv4"], seen_on(rule.get("Description", "")))
        for page in pages
        for rule in page["SecurityGroupRules"]
        if not rule["IsEgress"] and rule.get("CidrIpv4")
    ]


def seen_on(description: str) -> date | None:
    try:
        return date.fromisoformat(description.removeprefix(SEEN)) if description.startswith(SEEN) else None
    except ValueError:
        return None


def permission(addresses: list[str], seen: date | None = None) -> "list[IpPermissionTypeDef]":
    described = {"Description": f"{SEEN}{seen.isoformat()}"} if seen else {}
    return [
        {
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 443,
            "IpRanges": [{"CidrIp": address, **described} for address in addresses],  # type: ignore[typeddict-item]
        }
    ]


def answer_cloudformation(event: Mapping[str, Any], context: Any) -> None:
    """Update, then answer with the group's id. The load balancer needs that id, so it is created after the update."""
    data = {"SecurityGroupId": os.environ["SECURITY_GROUP_ID"]}
    answer = {**answer_to(event, "sender-addresses"), "Status": "SUCCESS", "Data": data}
    try:
        if event["RequestType"] != "Delete":
            when_allowed(update, seconds_left(context) - ANSWER_RESERVE_SECONDS)
    except Exception as error:  # the stack's events must show any error
        logger.exception("sender addresses not updated")
        answer |= {"Status": "FAILED", "Reason": f"The sender's addresses were not found or not let in: {error}"}
    send(event["ResponseURL"], answer, context)
