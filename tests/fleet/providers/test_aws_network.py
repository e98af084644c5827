"""Who may reach a machine at AWS."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fleet.providers.base import Ingress, InvalidSpec, ServerSpec
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.fleet.providers.conformance import a_spec

ROUTER = Ingress(port=8000, cidr="203.0.113.7/32")
OPERATOR = Ingress(port=22, cidr="198.51.100.0/24")


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def a_spec_with(cloud: AwsCloud, *rules: Ingress, owner: str = "inventiv") -> ServerSpec:
    return replace(a_spec(cloud), ingress=rules, owner=owner)


def open_ports(cloud: AwsCloud, owner: str = "inventiv") -> set[tuple[int, str]]:
    """What the installation's group lets in, as AWS has it."""
    ec2 = cloud.driver().clients.ec2(cloud.location.region)
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"inventiv-{owner}"]}])[
        "SecurityGroups"
    ]
    return {
        (permission.get("FromPort", -1), cidr)
        for permission in group["IpPermissions"]
        for cidr in (
            *(one["CidrIp"] for one in permission["IpRanges"]),
            *(one["CidrIpv6"] for one in permission["Ipv6Ranges"]),
        )
    }


def test_it_lets_in_what_is_asked_for_and_nothing_else(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER, OPERATOR))

    assert open_ports(cloud) == {(8000, "203.0.113.7/32"), (22, "198.51.100.0/24")}


def test_without_a_rule_nobody_gets_in(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))

    assert open_ports(cloud) == set()


def test_the_machine_is_in_that_group_alone(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER))

    request = cloud.aws.calls_to("RunInstances")[0].parameters
    group = cloud.aws.machines.region("us-east-1").get_security_group_from_id(
        request["NetworkInterface.1.SecurityGroupId.1"]
    )
    assert group is not None
    assert group.group_name == "inventiv-inventiv"
    assert "NetworkInterface.1.SecurityGroupId.2" not in request


def test_what_is_no_longer_asked_for_is_closed(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER, OPERATOR))

    cloud.driver().ensure_server(a_spec_with(cloud, Ingress(8000, "203.0.113.8/32"), OPERATOR))

    assert open_ports(cloud) == {(8000, "203.0.113.8/32"), (22, "198.51.100.0/24")}


def test_what_somebody_opened_by_hand_is_closed(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER))
    ec2 = cloud.driver().clients.ec2(cloud.location.region)
    group_id = cloud.aws.calls_to("RunInstances")[0].parameters["NetworkInterface.1.SecurityGroupId.1"]
    ec2.authorize_security_group_ingress(
        GroupId=group_id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )

    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER))

    assert open_ports(cloud) == {(8000, "203.0.113.7/32")}


def test_many_at_once_share_one_group(cloud: AwsCloud) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cloud.driver().ensure_server(a_spec_with(cloud, ROUTER, OPERATOR)), range(8)))

    assert open_ports(cloud) == {(8000, "203.0.113.7/32"), (22, "198.51.100.0/24")}
    assert cloud.servers() == 8


def test_two_installations_have_a_group_each(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, ROUTER))
    cloud.driver().ensure_server(a_spec_with(cloud, OPERATOR, owner="another"))

    assert open_ports(cloud) == {(8000, "203.0.113.7/32")}
    assert open_ports(cloud, "another") == {(22, "198.51.100.0/24")}


def test_a_group_of_somebody_else_is_left_alone(cloud: AwsCloud) -> None:
    ec2 = cloud.driver().clients.ec2(cloud.location.region)
    ec2.create_security_group(GroupName="inventiv-inventiv", Description="theirs")

    with pytest.raises(InvalidSpec, match="not ours"):
        cloud.driver().ensure_server(a_spec_with(cloud, ROUTER))

    assert cloud.billed() == 0


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0"])
def test_the_engines_port_is_never_open_to_the_world(cloud: AwsCloud, cidr: str) -> None:
    with pytest.raises(InvalidSpec, match="port 8000"):
        cloud.driver().ensure_server(a_spec_with(cloud, Ingress(8000, cidr)))

    assert cloud.aws.calls == []


def test_ssh_may_be_open_to_the_world(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec_with(cloud, Ingress(22, "0.0.0.0/0"), Ingress(22, "::/0")))

    assert open_ports(cloud) == {(22, "0.0.0.0/0"), (22, "::/0")}


@pytest.mark.parametrize("cidr", ["", "somewhere", "203.0.113.7/33"])
def test_it_refuses_what_is_no_range_of_addresses(cloud: AwsCloud, cidr: str) -> None:
    with pytest.raises(InvalidSpec, match="range of addresses"):
        cloud.driver().ensure_server(a_spec_with(cloud, Ingress(22, cidr)))


def test_a_range_is_compared_as_aws_keeps_it(cloud: AwsCloud) -> None:
    for _ in range(2):
        cloud.driver().ensure_server(a_spec_with(cloud, Ingress(22, "198.51.100.9/24")))

    assert open_ports(cloud) == {(22, "198.51.100.0/24")}
    assert len(cloud.aws.calls_to("AuthorizeSecurityGroupIngress")) == 1


def test_a_zone_may_have_a_subnet_of_its_own_choosing(cloud: AwsCloud) -> None:
    backend = cloud.aws.machines.region("us-east-1")
    subnet = backend.create_subnet(backend.default_vpc.id, "172.31.200.0/24", availability_zone="us-east-1a")

    cloud.driver(subnets={"us-east-1a": subnet.id}).ensure_server(a_spec(cloud))

    assert cloud.aws.calls_to("RunInstances")[0].parameters["NetworkInterface.1.SubnetId"] == subnet.id


def test_a_subnet_that_does_not_exist_is_refused(cloud: AwsCloud) -> None:
    with pytest.raises(InvalidSpec, match="subnet-12345678"):
        cloud.driver(subnets={"us-east-1a": "subnet-12345678"}).ensure_server(a_spec(cloud))


def test_a_zone_without_a_default_subnet_is_refused(cloud: AwsCloud) -> None:
    backend = cloud.aws.machines.region("us-east-1")
    backend.delete_subnet(backend.get_default_subnets()["us-east-1a"].id)

    with pytest.raises(InvalidSpec, match="no default subnet"):
        cloud.driver().ensure_server(a_spec(cloud))
