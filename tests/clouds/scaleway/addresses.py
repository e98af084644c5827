"""`/instance/v1/zones/{zone}/ips`: flexible addresses. A dynamic one is seen at its server alone."""

from __future__ import annotations

from typing import Any

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.state import Address, Books, new_id

_KINDS = frozenset({"routed_ipv4", "routed_ipv6"})


def create(books: Books, request: Request, zone: str) -> Answer:
    body = request.json()
    kind = body.get("type") or "routed_ipv4"
    if kind not in _KINDS:
        raise errors.invalid_argument("type", "unknown")
    one = Address(new_id(), zone, _free(books, kind), kind, books.stamp(), tags=list(body.get("tags") or []))
    books.addresses[one.id] = one
    if body.get("server"):
        one.server_id = books.server(body["server"], zone).id
    location = f"https://api.scaleway.com{request.path}/{one.id}"
    return Answer(201, {"ip": as_json(books, one)}, {"Location": location})


def listing(books: Books, request: Request, zone: str) -> Answer:
    wanted = set(request.tags())
    found = [one for one in books.listed(books.addresses.values(), zone) if not one.dynamic and wanted <= set(one.tags)]
    found.sort(key=lambda one: one.created_at, reverse=True)
    page = [as_json(books, one) for one in page_of(request, found, books.faults)]
    return Answer(200, {"ips": page}, {"X-Total-Count": str(total_of(found, books.faults))})


def read(books: Books, request: Request, zone: str, id_: str) -> Answer:
    return Answer(200, {"ip": as_json(books, books.address(id_, zone))})


def update(books: Books, request: Request, zone: str, id_: str) -> Answer:
    one, body = books.address(id_, zone), request.json()
    one.tags = list(body.get("tags", one.tags))
    if "server" in body:
        one.server_id = books.server(body["server"], zone).id if body["server"] else None
    return Answer(200, {"ip": as_json(books, one)})


def delete(books: Books, request: Request, zone: str, id_: str) -> Answer:
    one = books.address(id_, zone)
    if not books.faults.held_deletes:
        one.ended_at = max(books.now(), one.created_at)
    return Answer(204)


def as_json(books: Books, one: Address) -> dict[str, Any]:
    server = books.servers.get(one.server_id or "")
    is_ipv6 = one.type == "routed_ipv6"
    return {
        "id": one.id,
        "address": None if is_ipv6 else one.address,
        "prefix": one.address if is_ipv6 else None,
        "reverse": None,
        "server": {"id": server.id, "name": server.name} if server else None,
        "organization": books.project,
        "project": books.project,
        "zone": one.zone,
        "type": one.type,
        "state": "attached" if server else "detached",
        "tags": one.tags,
        "ipam_id": one.id,
    }


def _free(books: Books, kind: str) -> str:
    return f"2001:bc8:710:{len(books.addresses):x}::/64" if kind == "routed_ipv6" else books.free_address()
