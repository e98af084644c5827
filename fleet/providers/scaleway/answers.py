"""Scaleway's JSON as values of `base`. Nothing in it is relied on: a null, an unknown word, a new field is no error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fleet.providers.base import Handle, Location, Resource, ResourceKind, ServerState, ServerView
from fleet.providers.scaleway import prices
from fleet.providers.scaleway.exchange import Json

# On the wire "stopped in place", in the SDK's enum "stopped_in_place".
_STATES = {
    "stopped": ServerState.STOPPED,
    "starting": ServerState.STARTING,
    "running": ServerState.RUNNING,
    "stopping": ServerState.STOPPING,
    "stopped in place": ServerState.STOPPED,
    "stopped_in_place": ServerState.STOPPED,
}

_ENDS_WITH_THE_SERVER = frozenset({"scratch", "l_ssd"})


def server_view(server: Json, *, location: Location, volumes: Sequence[Json]) -> ServerView:
    """`volumes`: what the Block API says of the server's block volumes."""
    server_id = text(server.get("id"))
    addresses = public_addresses(server)
    return ServerView(
        handle=handle(server, location=location),
        state=state(server),
        ip_address=_reachable_at(addresses),
        tags=tags(server),
        created_at=instant(server.get("creation_date")),
        instance_type=text(server.get("commercial_type")),
        attachments=(
            *(volume_resource(volume, location=location, server_id=server_id) for volume in volumes),
            *(address_resource(address, location=location, server_id=server_id) for address in addresses),
        ),
    )


def state(server: Json) -> ServerState:
    return _STATES.get(text(server.get("state")), ServerState.UNKNOWN)


def handle(server: Json, *, location: Location) -> Handle:
    return Handle(
        server_id=text(server.get("id")),
        location=location,
        volume_ids=block_volume_ids(server),
        ip_ids=tuple(text(address.get("id")) for address in public_addresses(server) if not address.get("dynamic")),
    )


def block_volume_ids(server: Json) -> tuple[str, ...]:
    """The volumes that outlive the server, or may: an unknown kind is taken for one that does."""
    return tuple(
        text(volume.get("id"))
        for volume in _objects(server.get("volumes"))
        if text(volume.get("volume_type")) not in _ENDS_WITH_THE_SERVER and text(volume.get("id"))
    )


def public_addresses(server: Json) -> list[Json]:
    addresses = _objects(server.get("public_ips")) or _objects([server.get("public_ip")])
    return [address for address in addresses if text(address.get("id"))]


def volume_resource(volume: Json, *, location: Location, server_id: str = "") -> Resource:
    size = volume.get("size")
    return Resource(
        kind=ResourceKind.VOLUME,
        id=text(volume.get("id")),
        location=location,
        price_per_hour=prices.of_volume(size) if isinstance(size, int) else prices.FREE,
        currency=prices.CURRENCY,
        tags=tags(volume),
        created_at=instant(volume.get("created_at")),
        server_id=server_id or _referring_server(volume),
    )


def address_resource(address: Json, *, location: Location, server_id: str = "") -> Resource:
    """Of an entry in a server's `public_ips`, or in the listing of addresses."""
    is_ipv6 = address.get("family") == "inet6" or text(address.get("type")).endswith("ipv6")
    return Resource(
        kind=ResourceKind.IP,
        id=text(address.get("id")),
        location=location,
        price_per_hour=prices.FREE if is_ipv6 else prices.IPV4,
        currency=prices.CURRENCY,
        tags=tags(address),
        server_id=server_id or _id_of(address.get("server")),
    )


def tags(thing: Json) -> Mapping[str, str]:
    """Ours are `name=value`; somebody else's may be just a name."""
    listed = thing.get("tags")
    pairs = [tag.partition("=") for tag in listed if isinstance(tag, str)] if isinstance(listed, list) else []
    return {name: value for name, _, value in pairs}


def as_tags(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def instant(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _reachable_at(addresses: Sequence[Json]) -> str | None:
    """IPv4 before IPv6. `pending` is good enough: `attached` may come long after the machine answers there."""
    ranked = sorted(addresses, key=lambda address: address.get("family") == "inet6")
    return next(filter(None, (text(address.get("address")) for address in ranked)), None)


def _referring_server(volume: Json) -> str:
    return next(
        (
            text(reference.get("product_resource_id"))
            for reference in _objects(volume.get("references"))
            if reference.get("product_resource_type") == "instance_server"
        ),
        "",
    )


def _id_of(thing: object) -> str:
    return text(thing.get("id")) if isinstance(thing, dict) else ""


def _objects(value: object) -> list[Json]:
    """What is an object in an array, or in an object of numbered ones."""
    found = list(value.values()) if isinstance(value, dict) else value
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
