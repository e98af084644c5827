"""An EC2 instance as the provider interface sees a server.

Of an instance only the id is taken for granted: what else is missing, or new to us, is tolerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from fleet.providers.aws import prices
from fleet.providers.base import Handle, Location, Resource, ResourceKind, ServerState, ServerView

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceTypeDef, TagTypeDef, VolumeTypeDef

TERMINATED = "terminated"  # still listed for about an hour, and no longer billed
SHUTTING_DOWN = "shutting-down"
STOPPED = "stopped"

_STATES = {
    "pending": ServerState.STARTING,
    "running": ServerState.RUNNING,
    "stopping": ServerState.STOPPING,
    SHUTTING_DOWN: ServerState.STOPPING,
    STOPPED: ServerState.STOPPED,
}


def state_of(instance: InstanceTypeDef) -> str:
    """EC2's word for it; empty if it gives none."""
    return str(instance.get("State", {}).get("Name", ""))


def why_it_changed(instance: InstanceTypeDef) -> str:
    """The code of the reason for the latest change of state, such as Server.InsufficientInstanceCapacity."""
    return instance.get("StateReason", {}).get("Code", "")


def tags_of(tags: Iterable[TagTypeDef]) -> dict[str, str]:
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags}


def zone_of(instance: InstanceTypeDef) -> str:
    return instance.get("Placement", {}).get("AvailabilityZone", "")


def volume_ids_of(instance: InstanceTypeDef) -> tuple[str, ...]:
    """The volumes that were made with it.

    Not one that somebody attached to it later: such a volume stays when the instance goes, and is not ours to delete.
    """
    mappings = [mapping.get("Ebs", {}) for mapping in instance.get("BlockDeviceMappings", [])]
    return tuple(sorted(ebs.get("VolumeId", "") for ebs in mappings if ebs.get("DeleteOnTermination")))


def view_of(instance: InstanceTypeDef, location: Location, volumes: Iterable[Resource] = ()) -> ServerView:
    """`volumes` are those that hang on the instance, where they have been looked up."""
    handle = Handle(server_id=instance["InstanceId"], location=location, volume_ids=volume_ids_of(instance))
    return ServerView(
        handle=handle,
        state=_STATES.get(state_of(instance), ServerState.UNKNOWN),
        ip_address=instance.get("PublicIpAddress"),
        tags=tags_of(instance.get("Tags", [])),
        created_at=instance.get("LaunchTime"),
        instance_type=instance.get("InstanceType", ""),
        attachments=(*volumes, *_address_of(instance, location)),
    )


def root_volume_of(instance: InstanceTypeDef, location: Location, *, gigabytes: int) -> tuple[Resource, ...]:
    """The volume that a create has just made, as far as the answer names it: it often does not yet."""
    return tuple(
        Resource(
            kind=ResourceKind.VOLUME,
            id=volume_id,
            location=location,
            price_per_hour=prices.volume_per_hour(gigabytes),
            currency=prices.CURRENCY,
            tags=tags_of(instance.get("Tags", [])),
            created_at=instance.get("LaunchTime"),
            server_id=instance["InstanceId"],
        )
        for volume_id in volume_ids_of(instance)
    )


def volume_of(volume: VolumeTypeDef, location: Location) -> Resource:
    return Resource(
        kind=ResourceKind.VOLUME,
        id=volume["VolumeId"],
        location=location,
        price_per_hour=prices.volume_per_hour(volume.get("Size", 0)),
        currency=prices.CURRENCY,
        tags=tags_of(volume.get("Tags", [])),
        created_at=volume.get("CreateTime"),
        server_id=next((one.get("InstanceId", "") for one in volume.get("Attachments", [])), ""),
    )


def _address_of(instance: InstanceTypeDef, location: Location) -> tuple[Resource, ...]:
    address = instance.get("PublicIpAddress")
    if not address:
        return ()
    server_id = instance["InstanceId"]
    launched_at = instance.get("LaunchTime")  # it came with the machine, and goes with it
    return (address_resource(given_with(server_id, address), location, server_id=server_id, created_at=launched_at),)


def given_with(server_id: str, address: str) -> str:
    """What we call the address that a machine was given: AWS has no id for it, and gives it to others afterwards."""
    return f"{server_id}/{address}"


def was_given_with(address_id: str) -> str:
    """The machine that the address was given with; empty for one that has an id of its own, an Elastic IP."""
    return address_id.rpartition("/")[0]


def address_resource(
    identity: str,
    location: Location,
    *,
    server_id: str,
    tags: Mapping[str, str] | None = None,
    created_at: datetime | None = None,
) -> Resource:
    return Resource(
        kind=ResourceKind.IP,
        id=identity,
        location=location,
        price_per_hour=prices.ADDRESS_PER_HOUR,
        currency=prices.CURRENCY,
        tags=tags or {},
        created_at=created_at,
        server_id=server_id,
    )
