"""RunInstances: one machine, its volume and its address, tagged in the same call that makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.providers.aws.errors import translated
from fleet.providers.aws.images import Image
from fleet.providers.aws.network import Subnet
from fleet.providers.base import AmbiguousOutcome, InvalidSpec, NotFound, ServerSpec

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.literals import ResourceTypeType
    from types_boto3_ec2.type_defs import (
        InstanceTypeDef,
        RunInstancesRequestTypeDef,
        TagSpecificationTypeDef,
    )

_USER_DATA_LIMIT = 16 * 1024  # bytes, before base64


def request_of(
    spec: ServerSpec, *, image: Image, subnet: Subnet, group_ids: Sequence[str]
) -> RunInstancesRequestTypeDef:
    """A pure function of its input: with the same token, AWS wants the same bytes."""
    if len(spec.user_data.encode()) > _USER_DATA_LIMIT:
        raise InvalidSpec(f"the user data is longer than the {_USER_DATA_LIMIT} bytes that AWS takes")
    request: RunInstancesRequestTypeDef = {
        "ClientToken": client_token(spec),
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": image.id,
        "InstanceType": spec.instance_type,  # type: ignore[typeddict-item]  # the stubs list the types of their day
        "Placement": {"AvailabilityZone": spec.location.zone},
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet.id,
                "Groups": group_ids,
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "BlockDeviceMappings": image.mappings(spec.root_volume_gb),
        "UserData": spec.user_data,
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 2,  # a container on the machine is one hop away
        },
        # A dead man's switch: a machine that shuts itself down is gone, and bills no more.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": _tag_specifications(spec),
    }
    if spec.ssh_key_ids:
        request["KeyName"] = spec.ssh_key_ids[0]
    if spec.spot:
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return request


def client_token(spec: ServerSpec) -> str:
    """64 ASCII characters, which is what AWS takes.

    A token holds for one zone only: in another it would make a second machine, so another zone is another token.
    """
    parts = (spec.attempt_id, spec.location.region, spec.location.zone, spec.instance_type)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def run(ec2: EC2Client, request: RunInstancesRequestTypeDef) -> InstanceTypeDef:
    """`ec2` must be a client that never repeats a request. Raises TokenUsedOtherwise, and any ProviderError."""
    try:
        with translated(unclear=AmbiguousOutcome):
            answer = ec2.run_instances(**request)
    except NotFound as error:
        raise InvalidSpec(str(error)) from error  # the image, the key pair or the subnet; a machine is not asked for
    for instance in answer.get("Instances", []):
        if instance.get("InstanceId"):
            return instance
    raise AmbiguousOutcome("RunInstances was answered without an instance")


def _tag_specifications(spec: ServerSpec) -> list[TagSpecificationTypeDef]:
    kinds: list[ResourceTypeType] = ["instance", "volume", "network-interface"]
    if spec.spot:
        kinds.append("spot-instances-request")
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in spec.tags.items()]}
        for kind in kinds
    ]
