"""One thing, by its id. None is AWS's own "not found", and nothing else: an answer without it is no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.providers.aws.errors import translated
from fleet.providers.base import NotFound, Unavailable

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import AddressTypeDef, InstanceTypeDef, VolumeTypeDef


def find_instance(ec2: EC2Client, server_id: str) -> InstanceTypeDef | None:
    try:
        with translated():
            answer = ec2.describe_instances(InstanceIds=[server_id])
    except NotFound:
        return None
    for reservation in answer.get("Reservations", []):
        for instance in reservation.get("Instances", []):
            if instance.get("InstanceId") == server_id:
                return instance
    raise _no_answer(server_id)


def find_volume(ec2: EC2Client, volume_id: str) -> VolumeTypeDef | None:
    try:
        with translated():
            answer = ec2.describe_volumes(VolumeIds=[volume_id])
    except NotFound:
        return None
    for volume in answer.get("Volumes", []):
        return volume
    raise _no_answer(volume_id)


def find_address(ec2: EC2Client, allocation_id: str) -> AddressTypeDef | None:
    try:
        with translated():
            answer = ec2.describe_addresses(AllocationIds=[allocation_id])
    except NotFound:
        return None
    for address in answer.get("Addresses", []):
        return address
    raise _no_answer(allocation_id)


def _no_answer(identity: str) -> Unavailable:
    return Unavailable(f"AWS answered without {identity}, and without saying that it does not exist")
