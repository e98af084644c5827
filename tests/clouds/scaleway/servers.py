"""`/instance/v1/zones/{zone}/servers`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from tests.clouds.scaleway import errors, marketplace, security_groups
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.machine_types import MachineType, in_zone
from tests.clouds.scaleway.server_json import allowed_actions, as_json
from tests.clouds.scaleway.state import GONE, Books, LocalVolume, Server, Volume, new_id

_USUAL_ROOT = 20 * 10**9
_IN_BETWEEN = frozenset({"starting", "stopping"})


def create(books: Books, request: Request, zone: str) -> Answer:
    books.faults.strike_create()
    body = request.json()
    entry = _machine_type(body, zone)
    image = _image(body, zone)
    templates = _templates(body, entry, image)
    if (entry.name, zone) in books.faults.sold_out_at_create:
        raise errors.out_of_stock("instance_server")
    server = _make(books, zone, body, image)
    for key, template in templates.items():
        server.volumes[key] = _volume(books, server, template)
    books.faults.strike_answer_of_create()
    location = f"https://api.scaleway.com{request.path}/{server.id}"
    return Answer(201, {"server": as_json(books, server)}, {"Location": location})


def listing(books: Books, request: Request, zone: str) -> Answer:
    wanted, name = set(request.tags()), request.argument("name") or ""
    found = [
        server
        for server in books.listed(books.servers.values(), zone)
        if wanted <= set(server.tags) and name in server.name and request.argument("state") in {None, server.state}
    ]
    found.sort(key=lambda server: server.created_at, reverse=True)
    page = [as_json(books, server) for server in page_of(request, found, books.faults)]
    return Answer(200, {"servers": page}, {"X-Total-Count": str(total_of(found, books.faults))})


def read(books: Books, request: Request, zone: str, id_: str) -> Answer:
    return Answer(200, {"server": as_json(books, books.server(id_, zone))})


def update(books: Books, request: Request, zone: str, id_: str) -> Answer:
    server, body = books.server(id_, zone), request.json()
    server.tags = list(body.get("tags", server.tags))
    server.name = body.get("name", server.name)
    server.modified_at = books.now()
    return Answer(200, {"server": as_json(books, server)})


def delete(books: Books, request: Request, zone: str, id_: str) -> Answer:
    server = books.server(id_, zone)
    _refuse_in_between(server)
    if server.state != "stopped":
        raise errors.precondition_failed("resource_not_usable", "instance should be powered off")
    if not books.faults.held_deletes:
        books.end(server, max(books.now(), server.created_at))
    return Answer(204)


def act(books: Books, request: Request, zone: str, id_: str) -> Answer:
    server, action = books.server(id_, zone), request.json().get("action")
    if action not in _ACTIONS:
        raise errors.invalid_argument("action", "unknown")
    _refuse_in_between(server)
    if action not in allowed_actions(server):
        raise errors.precondition_failed("resource_not_usable", f"server is {server.state}")
    _ACTIONS[action](books, server)
    server.modified_at = books.now()
    return Answer(202, {"task": _task(books, server)})


def attach_volume(books: Books, request: Request, zone: str, id_: str) -> Answer:
    server, volume = books.server(id_, zone), books.volume(request.json().get("volume_id", ""), zone)
    if volume.server_id is not None:
        raise errors.precondition_failed("resource_still_in_use", "volume is attached")
    _attach(books, server, volume)
    key = next(str(number) for number in range(16) if str(number) not in server.volumes)
    server.volumes[key] = volume
    return Answer(200, {"server": as_json(books, server)})


def detach_volume(books: Books, request: Request, zone: str, id_: str) -> Answer:
    server, volume_id = books.server(id_, zone), request.json().get("volume_id", "")
    found = {key: one for key, one in server.volumes.items() if one.id == volume_id}
    if not found:
        raise errors.not_found("instance_volume", volume_id)
    for key, volume in found.items():
        del server.volumes[key]
        if isinstance(volume, Volume):
            books.detach(volume, books.now())
    return Answer(200, {"server": as_json(books, server)})


def list_user_data(books: Books, request: Request, zone: str, id_: str) -> Answer:
    return Answer(200, {"user_data": sorted(books.server(id_, zone).user_data)})


def read_user_data(books: Books, request: Request, zone: str, id_: str, key: str) -> Answer:
    content = books.server(id_, zone).user_data.get(unquote(key))
    if content is None:
        raise errors.not_found("instance_user_data", unquote(key))
    return Answer(200, content)


def set_user_data(books: Books, request: Request, zone: str, id_: str, key: str) -> Answer:
    if not request.headers.get("content-type", "").startswith("text/plain"):
        raise errors.invalid_argument("content-type")
    books.server(id_, zone).user_data[unquote(key)] = request.body
    return Answer(204)


def switch_off(books: Books, server: Server) -> None:
    _change(books, server, "stopping", "stopped", books.timing.stop)


# --- making -------------------------------------------------------------------------------------------------------


def _machine_type(body: dict[str, Any], zone: str) -> MachineType:
    entry = in_zone(zone).get(body.get("commercial_type", ""))
    if entry is None:
        raise errors.invalid_argument("commercial_type", "unknown")
    return entry


def _image(body: dict[str, Any], zone: str) -> dict[str, Any] | None:
    if not body.get("image"):
        return None
    image = marketplace.image(body["image"], zone)
    if image is None:
        raise errors.not_found("instance_image", body["image"])
    return image


def _templates(body: dict[str, Any], entry: MachineType, image: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    templates: dict[str, dict[str, Any]] = dict(body.get("volumes") or {})
    if image is not None and "0" not in templates:
        kind = "l_ssd" if entry.has_local_disks else "sbs_volume"
        templates["0"] = {"volume_type": kind, "size": _USUAL_ROOT}
    for template in templates.values():
        _check(template, entry)
    return templates


def _check(template: dict[str, Any], entry: MachineType) -> None:
    kind, size = template.get("volume_type"), template.get("size", _USUAL_ROOT)
    if kind not in {"l_ssd", "sbs_volume", "scratch"}:
        raise errors.invalid_argument("volumes", "format")
    if not size:
        raise errors.invalid_argument("volumes", "constraint", "size must be greater than 0")
    if kind == "l_ssd" and not entry.has_local_disks:
        raise errors.invalid_argument("volumes", "constraint", f"{entry.name} has no local volumes")
    if kind == "scratch" and size > entry.scratch_bytes:
        raise errors.invalid_argument("volumes", "constraint", f"scratch is limited to {entry.scratch_bytes}")


def _make(books: Books, zone: str, body: dict[str, Any], image: dict[str, Any] | None) -> Server:
    at = books.stamp()
    group_id = body.get("security_group") or security_groups.default(books, zone).id
    server = Server(
        id=new_id(),
        zone=zone,
        name=body.get("name") or "cli-srv",
        commercial_type=body["commercial_type"],
        project=body.get("project") or books.project,
        created_at=at,
        modified_at=at,
        number=len(books.servers) + 1,
        image=image,
        security_group_id=books.group(group_id, zone).id,
        tags=list(body.get("tags") or []),
        dynamic_ip_required=body.get("dynamic_ip_required", True),
    )
    books.servers[server.id] = server
    return server


def _volume(books: Books, server: Server, template: dict[str, Any]) -> LocalVolume | Volume:
    size = template.get("size", _USUAL_ROOT)
    name = server.image["name"] if server.image else "volume"
    if template["volume_type"] != "sbs_volume":
        return LocalVolume(new_id(), template["volume_type"], size, name, server.created_at)
    at = books.stamp()
    volume = Volume(new_id(), server.zone, name, size, created_at=at, updated_at=at)
    books.volumes[volume.id] = volume
    _attach(books, server, volume)
    return volume


def _attach(books: Books, server: Server, volume: Volume) -> None:
    volume.server_id, volume.reference_id = server.id, new_id()
    volume.attached_at, volume.detached_at = books.now(), None
    volume.updated_at = books.now()


# --- power --------------------------------------------------------------------------------------------------------


def _refuse_in_between(server: Server) -> None:
    if server.state in _IN_BETWEEN:
        raise errors.transient_state("instance_server", server.id, server.state)


def _power_on(books: Books, server: Server) -> None:
    if (server.commercial_type, server.zone) in books.faults.sold_out_at_start:
        raise errors.out_of_stock("instance_server")
    _change(books, server, "starting", "running", books.timing.start)
    server.state_detail = "allocating node"
    books.give_dynamic_address(server)


def _stop_in_place(books: Books, server: Server) -> None:
    _change(books, server, "stopping", "stopped in place", books.timing.stop)


def _reboot(books: Books, server: Server) -> None:
    _change(books, server, "starting", "running", books.timing.start)


def _terminate(books: Books, server: Server) -> None:
    _change(books, server, "stopping", GONE, books.timing.terminate)
    server.state_detail = "terminating"
    if books.faults.held_deletes:
        server.next_at = None


_ACTIONS = {
    "poweron": _power_on,
    "poweroff": switch_off,
    "stop_in_place": _stop_in_place,
    "reboot": _reboot,
    "terminate": _terminate,
}


def _change(books: Books, server: Server, now: str, then: str, seconds: float) -> None:
    server.state, server.next_state = now, then
    server.next_at = books.now() + timedelta(seconds=seconds)


def _task(books: Books, server: Server) -> dict[str, Any]:
    return {
        "id": "00000000-0000-0000-0000-000000000000",
        "description": "fake task",  # the API's own words
        "status": "pending",
        "href_from": f"/servers/{server.id}/action",
        "href_result": f"/servers/{server.id}",
        "started_at": books.now().isoformat(),
        "terminated_at": None,
        "progress": 0,
        "zone": server.zone,
    }
