"""`/instance/v1/zones/{zone}/security_groups`, and their rules."""

from __future__ import annotations

from typing import Any

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.state import Books, SecurityGroup, alive, new_id

_USUAL: dict[str, Any] = {
    "description": None,
    "stateful": True,
    "inbound_default_policy": "accept",
    "outbound_default_policy": "accept",
    "enable_default_security": True,
    "tags": [],
}
# Nobody sends mail from a new machine: the rules that `enable_default_security` puts before all others.
_BLOCKED = [("0.0.0.0/0", 25), ("0.0.0.0/0", 465), ("0.0.0.0/0", 587), ("::/0", 25), ("::/0", 465), ("::/0", 587)]


def default(books: Books, zone: str) -> SecurityGroup:
    """The project's own, which is there before anybody asks."""
    for group in books.groups.values():
        if group.zone == zone and group.settings.get("project_default"):
            return group
    return _make(books, zone, {**_USUAL, "name": "Default security group", "project_default": True})


def create(books: Books, request: Request, zone: str) -> Answer:
    books.faults.strike_group_create()
    group = _make(books, zone, {**_USUAL, **request.json()})
    location = f"https://api.scaleway.com{request.path}/{group.id}"
    return Answer(201, {"security_group": _as_json(books, group)}, {"Location": location})


def listing(books: Books, request: Request, zone: str) -> Answer:
    default(books, zone)
    name, wanted = request.argument("name") or "", set(request.tags())
    found = [
        group
        for group in books.groups.values()
        if group.zone == zone and name in group.name and wanted <= set(group.settings["tags"])
    ]
    page = [_as_json(books, group) for group in page_of(request, found, books.faults)]
    return Answer(200, {"security_groups": page}, {"X-Total-Count": str(total_of(found, books.faults))})


def read(books: Books, request: Request, zone: str, id_: str) -> Answer:
    return Answer(200, {"security_group": _as_json(books, books.group(id_, zone))})


def update(books: Books, request: Request, zone: str, id_: str) -> Answer:
    group = books.group(id_, zone)
    group.settings.update(request.json())
    return Answer(200, {"security_group": _as_json(books, group)})


def delete(books: Books, request: Request, zone: str, id_: str) -> Answer:
    group = books.group(id_, zone)
    if _members(books, group):
        raise errors.precondition_failed("resource_still_in_use", "group is in use. you cannot delete it.")
    del books.groups[group.id]
    return Answer(204)


def list_rules(books: Books, request: Request, zone: str, id_: str) -> Answer:
    rules = _rules(books.group(id_, zone))
    return Answer(
        200, {"rules": page_of(request, rules, books.faults)}, {"X-Total-Count": str(total_of(rules, books.faults))}
    )


def set_rules(books: Books, request: Request, zone: str, id_: str) -> Answer:
    """All at once. What is said not to be editable is passed over, as the API does."""
    group = books.group(id_, zone)
    asked = [rule for rule in request.json().get("rules", []) if rule.get("editable") is not False]
    group.rules = [_rule(zone, rule, position) for position, rule in enumerate(asked, start=1)]
    return Answer(200, {"rules": _rules(group)})


def _make(books: Books, zone: str, settings: dict[str, Any]) -> SecurityGroup:
    group = SecurityGroup(new_id(), zone, settings["name"], books.stamp(), settings)
    books.groups[group.id] = group
    return group


def _as_json(books: Books, group: SecurityGroup) -> dict[str, Any]:
    at = group.created_at.isoformat()
    return {
        "id": group.id,
        "creation_date": at,
        "modification_date": at,
        "name": group.name,
        **{name: group.settings[name] for name in _USUAL},
        "organization": books.project,
        "project": books.project,
        "servers": [{"id": server.id, "name": server.name} for server in _members(books, group)],
        "organization_default": False,
        "project_default": bool(group.settings.get("project_default")),
        "state": "available",
        "zone": group.zone,
    }


def _members(books: Books, group: SecurityGroup) -> list[Any]:
    return [server for server in alive(books.servers.values()) if server.security_group_id == group.id]


def _rules(group: SecurityGroup) -> list[dict[str, Any]]:
    blocked = [
        _rule(group.zone, {"ip_range": network, "dest_port_from": port}, position) | {"editable": False}
        for position, (network, port) in enumerate(_BLOCKED, start=1)
    ]
    return [*(blocked if group.settings["enable_default_security"] else []), *group.rules]


def _rule(zone: str, asked: dict[str, Any], position: int) -> dict[str, Any]:
    port, last = asked.get("dest_port_from"), asked.get("dest_port_to")
    return {
        "id": new_id(),
        "protocol": asked.get("protocol", "TCP"),
        "direction": asked.get("direction", "outbound"),
        "ip_range": _said_back(asked["ip_range"]),
        "dest_ip_range": None,
        "dest_port_from": port,
        "dest_port_to": None if last == port else last,
        "position": position,
        "editable": True,
        "action": asked.get("action", "drop"),
        "zone": zone,
    }


def _said_back(network: str) -> str:
    """A network of one address comes back as the address."""
    return network.removesuffix("/128" if ":" in network else "/32")
