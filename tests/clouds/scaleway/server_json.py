"""A server as the Instance API shows it."""

from __future__ import annotations

from typing import Any

from tests.clouds.scaleway.state import Address, Books, LocalVolume, Server, Volume

_ALLOWED = {
    "stopped": ["poweron", "backup"],
    "running": ["poweroff", "terminate", "reboot", "stop_in_place", "backup"],
    "stopped in place": ["poweron", "poweroff", "terminate", "backup"],
}


def allowed_actions(server: Server) -> list[str]:
    return _ALLOWED.get(server.state, ["stop_in_place", "backup"])


def as_json(books: Books, server: Server) -> dict[str, Any]:
    addresses = [_address(one, server) for one in books.addresses_of(server)]
    group = books.groups[server.security_group_id]
    return {
        "id": server.id,
        "name": server.name,
        "arch": "x86_64",
        "commercial_type": server.commercial_type,
        "boot_type": "local",
        "organization": server.project,
        "project": server.project,
        "hostname": server.name,
        "image": server.image,
        "volumes": {key: _volume(volume, server) for key, volume in server.volumes.items()},
        "tags": server.tags,
        "state": server.state,
        "protected": False,
        "state_detail": server.state_detail,
        "public_ip": next((one for one in addresses if one["family"] == "inet"), None),
        "public_ips": addresses,
        "mac_address": "de:00:00:" + server.number.to_bytes(3, "big").hex(":"),
        "routed_ip_enabled": True,
        "ipv6": None,
        "extra_networks": [],
        "dynamic_ip_required": server.dynamic_ip_required,
        "enable_ipv6": False,
        "private_ip": None,
        "creation_date": server.created_at.isoformat(),
        "modification_date": server.modified_at.isoformat(),
        "bootscript": None,
        "security_group": {"id": group.id, "name": group.name},
        "location": None if server.state == "stopped" else _location(server),
        "maintenances": [],
        "allowed_actions": allowed_actions(server),
        "placement_group": None,
        "private_nics": [],
        "zone": server.zone,
        "filesystems": [],
        "end_of_service": False,
    }


def _volume(volume: LocalVolume | Volume, server: Server) -> dict[str, Any]:
    """Of a block volume the Instance API knows no more than this."""
    if isinstance(volume, Volume):
        return {"boot": False, "volume_type": "sbs_volume", "id": volume.id, "zone": server.zone}
    at = volume.created_at.isoformat()
    return {
        "boot": False,
        "id": volume.id,
        "name": volume.name,
        "volume_type": volume.volume_type,
        "export_uri": None,
        "organization": server.project,
        "project": server.project,
        "server": {"id": server.id, "name": server.name},
        "size": volume.size,
        "state": "available",
        "creation_date": at,
        "modification_date": at,
        "tags": [],
        "zone": server.zone,
    }


def _address(one: Address, server: Server) -> dict[str, Any]:
    is_ipv6 = one.type == "routed_ipv6"
    return {
        "id": one.id,
        "address": one.address,
        "dynamic": one.dynamic,
        "gateway": "fe80::dc00:ff:fec5:6ffa" if is_ipv6 else "62.210.0.1",
        "netmask": "64" if is_ipv6 else "32",
        "family": "inet6" if is_ipv6 else "inet",
        "provisioning_mode": "slaac" if is_ipv6 else "dhcp",
        "tags": one.tags,
        "state": "attached" if server.state == "running" else "pending",
        "ipam_id": one.id,
    }


def _location(server: Server) -> dict[str, str]:
    return {
        "zone_id": server.zone,
        "platform_id": "14",
        "cluster_id": "42",
        "hypervisor_id": "704",
        "node_id": str(server.number),
    }
