"""Where a machine is plugged in, and who may open connections to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_network
from typing import TYPE_CHECKING

from fleet.providers.aws.errors import AlreadyThere, translated
from fleet.providers.aws.servers import tags_of
from fleet.providers.base import TAG_OWNER, Conflict, Ingress, InvalidSpec, Location, NotFound

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import (
        DescribeSubnetsResultTypeDef,
        IpPermissionTypeDef,
        SecurityGroupRuleTypeDef,
        SecurityGroupTypeDef,
    )

_SSH = 22  # the one port that may be open to the world: it asks for a key


@dataclass(frozen=True, slots=True)
class Subnet:
    id: str
    vpc_id: str


def subnet_of(ec2: EC2Client, location: Location, subnets: Mapping[str, str]) -> Subnet:
    """The subnet named for the zone, else the zone's default one. Raises InvalidSpec where there is none."""
    named = subnets.get(location.zone)
    try:
        with translated():
            answer = ec2.describe_subnets(SubnetIds=[named]) if named else _default_subnets(ec2, location)
    except NotFound as error:
        raise InvalidSpec(f"{location.region} has no subnet {named}") from error
    if not answer.get("Subnets"):
        raise InvalidSpec(
            f"{location.zone} has no default subnet: make one (aws ec2 create-default-subnet) or name one for the zone"
        )
    found = answer["Subnets"][0]
    return Subnet(id=found.get("SubnetId", ""), vpc_id=found.get("VpcId", ""))


def check_ingress(ingress: Iterable[Ingress]) -> frozenset[Ingress]:
    """The rules in the form in which AWS keeps them. Raises InvalidSpec for one that opens an engine to the world."""
    return frozenset(_checked(rule) for rule in ingress)


def ensure_group(ec2: EC2Client, *, vpc_id: str, owner: str, rules: frozenset[Ingress]) -> str:
    """The installation's security group in the VPC, with these rules for what comes in and no others."""
    group = _find_group(ec2, vpc_id, owner)
    if group is None:
        group_id, present = _make_group(ec2, vpc_id, owner), {}
    else:
        group_id = group.get("GroupId", "")
        present = _rules_of(ec2, group_id)
    for rule in sorted(rules - set(present.values()), key=str):
        _allow(ec2, group_id, rule)
    _revoke(ec2, group_id, [rule_id for rule_id, rule in present.items() if rule not in rules])
    return group_id


def _default_subnets(ec2: EC2Client, location: Location) -> DescribeSubnetsResultTypeDef:
    return ec2.describe_subnets(
        Filters=[
            {"Name": "availability-zone", "Values": [location.zone]},
            {"Name": "default-for-az", "Values": ["true"]},
        ]
    )


def _checked(rule: Ingress) -> Ingress:
    try:
        network = ip_network(rule.cidr, strict=False)
    except ValueError as error:
        raise InvalidSpec(f"{rule.cidr!r} is no range of addresses") from error
    if network.prefixlen == 0 and rule.port != _SSH:
        raise InvalidSpec(f"port {rule.port} may not be open to the whole world ({network})")
    return Ingress(port=rule.port, cidr=str(network))


def _find_group(ec2: EC2Client, vpc_id: str, owner: str) -> SecurityGroupTypeDef | None:
    with translated():
        answer = ec2.describe_security_groups(
            Filters=[{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": [_name(owner)]}]
        )
    group = next(iter(answer.get("SecurityGroups", [])), None)
    if group is not None and tags_of(group.get("Tags", [])).get(TAG_OWNER) != owner:
        raise InvalidSpec(f"{vpc_id} has a security group {_name(owner)} that is not ours: rename the installation")
    return group


def _make_group(ec2: EC2Client, vpc_id: str, owner: str) -> str:
    try:
        with translated():
            made = ec2.create_security_group(
                GroupName=_name(owner),
                Description="Inventiv: who may reach its workers",
                VpcId=vpc_id,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": TAG_OWNER, "Value": owner}]}],
            )
    except AlreadyThere:
        group = _find_group(ec2, vpc_id, owner)
        if group is None:
            raise Conflict(f"the security group {_name(owner)} was made a moment ago and is not listed yet") from None
        return group.get("GroupId", "")
    return made["GroupId"]


def _name(owner: str) -> str:
    return f"inventiv-{owner}"


def _rules_of(ec2: EC2Client, group_id: str) -> dict[str, Ingress | None]:
    """What may come in, by the rule's id; None for a rule of another kind than ours."""
    pages = ec2.get_paginator("describe_security_group_rules").paginate(
        Filters=[{"Name": "group-id", "Values": [group_id]}]
    )
    with translated():
        rules = [rule for page in pages for rule in page.get("SecurityGroupRules", []) if not rule.get("IsEgress")]
    return {rule.get("SecurityGroupRuleId", ""): _ingress_of(rule) for rule in rules}


def _ingress_of(rule: SecurityGroupRuleTypeDef) -> Ingress | None:
    cidr = rule.get("CidrIpv4") or rule.get("CidrIpv6")
    port = rule.get("FromPort", -1)
    if rule.get("IpProtocol") != "tcp" or port != rule.get("ToPort") or not cidr:
        return None
    return Ingress(port=port, cidr=cidr)


def _allow(ec2: EC2Client, group_id: str, rule: Ingress) -> None:
    # One rule a call: of several, one that somebody else has just added would refuse them all.
    with suppress(AlreadyThere), translated():
        ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[_permission(rule)])


def _permission(rule: Ingress) -> IpPermissionTypeDef:
    permission: IpPermissionTypeDef = {"IpProtocol": "tcp", "FromPort": rule.port, "ToPort": rule.port}
    if isinstance(ip_network(rule.cidr), IPv6Network):
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule.cidr}]
    else:
        permission["IpRanges"] = [{"CidrIp": rule.cidr}]
    return permission


def _revoke(ec2: EC2Client, group_id: str, rule_ids: list[str]) -> None:
    for rule_id in rule_ids:
        with suppress(NotFound), translated():
            ec2.revoke_security_group_ingress(GroupId=group_id, SecurityGroupRuleIds=[rule_id])
