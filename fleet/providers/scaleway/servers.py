"""Servers at the Instance API: found, made, configured, told what to do."""

from __future__ import annotations

from scaleway.instance.v1.marshalling import marshal_CreateServerRequest
from scaleway.instance.v1.types import CreateServerRequest, VolumeServerTemplate, VolumeVolumeType

from fleet.providers.base import AmbiguousOutcome, Location, NotFound, ServerSpec, Unavailable
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import as_tags, tags
from fleet.providers.scaleway.exchange import Json
from fleet.providers.scaleway.listing import Listing

_BYTES_PER_GB = 10**9  # a volume's size goes in steps of this
_CLOUD_INIT = "cloud-init"


def read(account: Account, server_id: str, location: Location) -> Json:
    server = account.instance.ask("GET", f"{_path(location)}/{server_id}").payload.get("server")
    if not isinstance(server, dict):
        raise Unavailable(f"the answer to a look at server {server_id} has no server in it")
    return server


def with_tag(account: Account, name: str, value: str, location: Location) -> Listing:
    """Our servers of the zone that have this tag. The cloud's own filter is not relied on."""
    found = listing.take(
        account.instance,
        _path(location),
        key="servers",
        size="per_page",
        params={"project": account.project_id, "tags": f"{name}={value}"},
    )
    found.items = {id_: server for id_, server in found.items.items() if tags(server).get(name) == value}
    return found


def create(account: Account, spec: ServerSpec, *, image_id: str, security_group_id: str, scratch_bytes: int) -> Json:
    request = CreateServerRequest(
        commercial_type=spec.instance_type,
        name=f"inv-{spec.attempt_id}",
        image=image_id,
        volumes=_volumes(spec.root_volume_gb * _BYTES_PER_GB, scratch_bytes),
        dynamic_ip_required=True,  # goes with the server; a flexible one would have to be rented and given back
        tags=as_tags(spec.tags),
        security_group=security_group_id,
        project=account.project_id,
        protected=False,  # a protected server can't be terminated
    )
    body = marshal_CreateServerRequest(request, account.instance.client)
    server = account.instance.ask("POST", _path(spec.location), body=body).payload.get("server")
    if not isinstance(server, dict) or not isinstance(server.get("id"), str):
        raise AmbiguousOutcome("the answer to a create has no server in it")
    return server


def act(account: Account, server_id: str, action: str, location: Location) -> None:
    account.instance.ask("POST", f"{_path(location)}/{server_id}/action", body={"action": action})


def delete(account: Account, server_id: str, location: Location) -> None:
    account.instance.delete_server(server_id=server_id, zone=location.zone)


def user_data(account: Account, server_id: str, location: Location) -> str | None:
    """What the server has for its cloud-init; None: nothing."""
    try:
        response = account.instance.get_server_user_data(server_id, _CLOUD_INIT, zone=location.zone)
    except NotFound:
        return None
    return response.content.decode("utf-8", errors="replace")


def set_user_data(account: Account, server_id: str, content: str, location: Location) -> None:
    account.instance.set_server_user_data(server_id, _CLOUD_INIT, content.encode(), zone=location.zone)


def _volumes(root_bytes: int, scratch_bytes: int) -> dict[str, VolumeServerTemplate]:
    # Sizes are always said: the SDK sends 0 for one that is not.
    volumes = {"0": VolumeServerTemplate(volume_type=VolumeVolumeType.SBS_VOLUME, size=root_bytes)}
    if scratch_bytes:
        volumes["1"] = VolumeServerTemplate(volume_type=VolumeVolumeType.SCRATCH, size=scratch_bytes)
    return volumes


def _path(location: Location) -> str:
    return f"/instance/v1/zones/{location.zone}/servers"
