"""What carries the tag of an installation in one zone.

Its addresses are the Elastic IPs, of which the driver makes none. The address that a machine is given goes with it, and
is an attachment of its view.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fleet.providers.aws import listing, servers, zones
from fleet.providers.aws.errors import translated
from fleet.providers.base import TAG_OWNER, Location, OwnedResources, ProviderError, Resource, ServerView

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import AddressTypeDef


def of(ec2: EC2Client, location: Location, owner: str) -> OwnedResources:
    ours = {f"tag:{TAG_OWNER}": owner, "availability-zone": location.zone}
    instances = listing.instances(ec2, ours)
    if instances.error is not None and not instances.items:
        raise instances.error
    volumes = listing.volumes(ec2, ours)
    resources = tuple(servers.volume_of(volume, location) for volume in volumes.items)
    views = tuple(
        servers.view_of(instance, location, _attached(resources, instance["InstanceId"]))
        for instance in instances.items
        if servers.state_of(instance) != servers.TERMINATED
    )
    addresses, all_addresses = _addresses(ec2, location, owner, views)
    return OwnedResources(
        servers=views,
        volumes=resources,
        ips=addresses,
        complete=instances.error is None and volumes.error is None and all_addresses,
    )


def _attached(resources: Iterable[Resource], server_id: str) -> tuple[Resource, ...]:
    return tuple(resource for resource in resources if resource.server_id == server_id)


def _addresses(
    ec2: EC2Client, location: Location, owner: str, views: Iterable[ServerView]
) -> tuple[tuple[Resource, ...], bool]:
    """Elastic IPs, and whether these are all.

    They belong to a region: one that hangs on a server is reported in its zone, an idle one in the region's first zone,
    so that it is reported once.
    """
    try:
        with translated():
            answer = ec2.describe_addresses(Filters=[{"Name": f"tag:{TAG_OWNER}", "Values": [owner]}])
        here = {view.handle.server_id for view in views}
        found = [
            address
            for address in answer.get("Addresses", [])
            if (address.get("InstanceId") in here if _is_in_use(address) else zones.is_first(ec2, location))
        ]
    except ProviderError:
        return (), False
    return tuple(_resource(address, location) for address in found), True


def _is_in_use(address: AddressTypeDef) -> bool:
    return bool(address.get("InstanceId"))


def _resource(address: AddressTypeDef, location: Location) -> Resource:
    return servers.address_resource(
        address.get("AllocationId", ""),
        location,
        server_id=address.get("InstanceId", ""),
        tags=servers.tags_of(address.get("Tags", [])),
    )
