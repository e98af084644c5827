"""`/block/v1/zones/{zone}/volumes`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.state import Books, Volume, new_id


def create(books: Books, request: Request, zone: str) -> Answer:
    body, at = request.json(), books.stamp()
    size = (body.get("from_empty") or {}).get("size")
    if not size:
        raise errors.invalid_argument("size", "required")
    name, tags = body.get("name") or "volume", list(body.get("tags") or [])
    volume = Volume(new_id(), zone, name, size, created_at=at, updated_at=at, tags=tags)
    volume.ready_at = at + timedelta(seconds=books.timing.create_volume)
    books.volumes[volume.id] = volume
    return Answer(200, as_json(books, volume))


def listing(books: Books, request: Request, zone: str) -> Answer:
    wanted, server_id = set(request.tags()), request.argument("product_resource_id")
    found = [
        volume
        for volume in books.listed(books.volumes.values(), zone)
        if (not wanted or wanted & set(volume.tags)) and server_id in {None, volume.server_id}
    ]
    found.sort(key=lambda volume: volume.created_at)
    page = [as_json(books, volume) for volume in page_of(request, found, books.faults)]
    return Answer(200, {"volumes": page, "total_count": total_of(found, books.faults)})


def read(books: Books, request: Request, zone: str, id_: str) -> Answer:
    return Answer(200, as_json(books, books.volume(id_, zone)))


def update(books: Books, request: Request, zone: str, id_: str) -> Answer:
    volume, body = books.volume(id_, zone), request.json()
    volume.tags = list(body.get("tags", volume.tags))
    volume.name = body.get("name", volume.name)
    volume.updated_at = books.now()
    return Answer(200, as_json(books, volume))


def delete(books: Books, request: Request, zone: str, id_: str) -> Answer:
    volume = books.volume(id_, zone)
    status = _status(books, volume)
    if status == "creating":
        raise errors.transient_state("volume", id_, status)
    if status != "available":
        raise errors.precondition_failed("resource_still_in_use", "volume is attached")
    if not books.faults.held_deletes:
        volume.ended_at = max(books.now(), volume.created_at)
    return Answer(204)


def as_json(books: Books, volume: Volume) -> dict[str, Any]:
    status = _status(books, volume)
    return {
        "id": volume.id,
        "name": volume.name,
        "type": "sbs_5k",
        "size": volume.size,
        "project_id": books.project,
        "created_at": _instant(volume.created_at),
        "updated_at": _instant(volume.updated_at),
        "references": [_reference(volume)] if status == "in_use" else [],
        "parent_snapshot_id": None,
        "status": status,
        "tags": volume.tags,
        "specs": {"perf_iops": 5000, "class": "sbs"},
        "last_detached_at": _instant(volume.detached_at) if volume.detached_at and status == "available" else None,
        "zone": volume.zone,
    }


def _status(books: Books, volume: Volume) -> str:
    if volume.server_id is not None:
        return "in_use"
    return "creating" if volume.ready_at is not None and books.now() < volume.ready_at else "available"


def _reference(volume: Volume) -> dict[str, Any]:
    return {
        "id": volume.reference_id,
        "product_resource_type": "instance_server",
        "product_resource_id": volume.server_id,
        "created_at": _instant(volume.attached_at or volume.created_at),
        "type": "exclusive",
        "status": "detaching" if volume.detached_at else "attached",
    }


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
