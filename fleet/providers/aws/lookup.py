"""One instance, by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.providers.aws.errors import translated
from fleet.providers.base import NotFound, Unavailable

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import InstanceTypeDef


def find_instance(ec2: EC2Client, server_id: str) -> InstanceTypeDef | None:
    """None on InvalidInstanceID.NotFound, and on nothing else: an answer without it is no answer."""
    try:
        with translated():
            answer = ec2.describe_instances(InstanceIds=[server_id])
    except NotFound:
        return None
    for reservation in answer.get("Reservations", []):
        for instance in reservation.get("Instances", []):
            if instance.get("InstanceId") == server_id:
                return instance
    raise Unavailable(f"AWS answered without {server_id}, and without saying that it does not exist")
