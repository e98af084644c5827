"""What an installation has in a zone: its servers, what is billed beside them, and what one of them left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleet.providers.base import TAG_OWNER, Location, OwnedResources, Resource, ResourceKind, ServerView
from fleet.providers.scaleway import addresses, answers, servers, volumes
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.exchange import Json


def take(account: Account, location: Location, owner: str) -> OwnedResources:
    """Raises if not even a part of the servers could be listed."""
    listed = servers.with_tag(account, TAG_OWNER, owner, location)
    machines = listed.part().values()
    disks, flexible = volumes.of_project(account, location), addresses.of_project(account, location)
    views = tuple(_view(server, disks.items, location) for server in machines)
    return OwnedResources(
        servers=views,
        volumes=_volumes(views, disks.items, location, owner),
        ips=_addresses(views, flexible.items, location, owner),
        complete=not (listed.failure or disks.failure or flexible.failure),
    )


def _view(server: Json, disks: Mapping[str, Json], location: Location) -> ServerView:
    attached = [disks[id_] for id_ in answers.block_volume_ids(server) if id_ in disks]
    return answers.server_view(server, location=location, volumes=attached)


def _volumes(
    views: Iterable[ServerView], disks: Mapping[str, Json], location: Location, owner: str
) -> tuple[Resource, ...]:
    """Attached ones by their server, whatever their tags; others by their tag."""
    attached = {resource.id: resource for resource in _attached(views, ResourceKind.VOLUME)}
    listed = (answers.volume_resource(disk, location=location) for disk in disks.values())
    machines = {view.handle.server_id for view in views}
    ours = {
        volume.id: volume for volume in listed if volume.tags.get(TAG_OWNER) == owner or volume.server_id in machines
    }
    return tuple((ours | attached).values())


def _addresses(
    views: Iterable[ServerView], flexible: Mapping[str, Json], location: Location, owner: str
) -> tuple[Resource, ...]:
    """Those of our servers, dynamic ones too, and those that carry our tag."""
    attached = {resource.id: resource for resource in _attached(views, ResourceKind.IP)}
    listed = (answers.address_resource(address, location=location) for address in flexible.values())
    ours = {address.id: address for address in listed if address.tags.get(TAG_OWNER) == owner}
    return tuple((ours | attached).values())


def _attached(views: Iterable[ServerView], kind: ResourceKind) -> list[Resource]:
    return [resource for view in views for resource in view.attachments if resource.kind is kind]
