"""Destroying: the instance, then what of it has outlived it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from fleet.providers.aws import listing, servers
from fleet.providers.aws.errors import translated
from fleet.providers.aws.lookup import find_address, find_instance, find_volume
from fleet.providers.base import TAG_ATTEMPT, Conflict, Destruction, Handle, NotFound

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import InstanceTypeDef

# An available volume is idle; one in error is billed all the same. In the other states a delete is refused.
_DELETABLE = frozenset({"available", "error"})


def step(ec2: EC2Client, handle: Handle) -> Destruction:
    instance = find_instance(ec2, handle.server_id) if handle.server_id else None
    if handle.server_id and not _is_ended(ec2, handle.server_id, instance):
        return Destruction(_all_of(handle, instance))
    attempt_id = servers.tags_of(instance.get("Tags", [])).get(TAG_ATTEMPT, "") if instance else ""
    volume_ids = {*handle.volume_ids, *_volumes_of(ec2, attempt_id)}
    return Destruction(
        frozenset(
            {
                *(volume_id for volume_id in volume_ids if not _volume_is_gone(ec2, volume_id)),
                *(address_id for address_id in handle.ip_ids if not _address_is_gone(ec2, address_id)),
                *_delete_interfaces(ec2, attempt_id),
            }
        )
    )


def _all_of(handle: Handle, instance: InstanceTypeDef | None) -> frozenset[str]:
    """What the handle names and what hangs on the instance: the answer to a create often names no volume yet."""
    named = {handle.server_id, *handle.volume_ids, *handle.ip_ids}
    if instance is None:
        return frozenset(named)
    attached = servers.view_of(instance, handle.location)
    return frozenset({*named, *attached.handle.volume_ids, *(thing.id for thing in attached.attachments)})


def _is_ended(ec2: EC2Client, server_id: str, instance: InstanceTypeDef | None) -> bool:
    """Whether AWS says so. Asks it to end the instance if not."""
    state = servers.state_of(instance) if instance else ""
    if state == servers.TERMINATED:
        return True
    if state == servers.SHUTTING_DOWN:
        return False
    try:
        with translated():
            ec2.terminate_instances(InstanceIds=[server_id])
    except NotFound:
        # Reads lag behind writes: an instance that was made a moment ago may be unknown to the one, not to the other.
        # Only if both don't know it is it gone.
        return instance is None
    return False


def _volumes_of(ec2: EC2Client, attempt_id: str) -> Iterable[str]:
    if not attempt_id:
        return ()
    return [volume["VolumeId"] for volume in listing.volumes(ec2, {f"tag:{TAG_ATTEMPT}": attempt_id}).whole()]


def _volume_is_gone(ec2: EC2Client, volume_id: str) -> bool:
    """Whether AWS says so. Deletes it if it can be deleted."""
    volume = find_volume(ec2, volume_id)
    if volume is None or volume.get("State") == "deleted":
        return True
    if volume.get("State") in _DELETABLE:
        # Somebody else may have deleted it, or taken it into use: the next look tells.
        with suppress(NotFound, Conflict), translated():
            ec2.delete_volume(VolumeId=volume_id)
    return False


def _address_is_gone(ec2: EC2Client, allocation_id: str) -> bool:
    if server_id := servers.was_given_with(allocation_id):
        instance = find_instance(ec2, server_id)
        return instance is None or servers.state_of(instance) == servers.TERMINATED
    address = find_address(ec2, allocation_id)
    if address is None:
        return True
    with suppress(NotFound, Conflict), translated():
        if address.get("AssociationId"):
            ec2.disassociate_address(AssociationId=address["AssociationId"])
        ec2.release_address(AllocationId=allocation_id)
    return False


def _delete_interfaces(ec2: EC2Client, attempt_id: str) -> Iterable[str]:
    """Those that are not gone yet. They cost nothing, and use up the subnet's addresses."""
    if not attempt_id:
        return ()
    with translated():
        answer = ec2.describe_network_interfaces(Filters=[{"Name": f"tag:{TAG_ATTEMPT}", "Values": [attempt_id]}])
    left = answer.get("NetworkInterfaces", [])
    for interface in left:
        if interface.get("Status") == "available":
            _delete_interface(ec2, interface["NetworkInterfaceId"])
    return [interface["NetworkInterfaceId"] for interface in left]


def _delete_interface(ec2: EC2Client, interface_id: str) -> None:
    with suppress(NotFound, Conflict), translated():
        ec2.delete_network_interface(NetworkInterfaceId=interface_id)
