"""`/marketplace/v2/local-images`: the id of a labelled image in a zone."""

from __future__ import annotations

import uuid
from typing import Any

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.machine_types import in_zone
from tests.clouds.scaleway.state import Books

_ORGANIZATION = "51b656e3-4865-41e8-adbc-0c45bdd780db"
_MADE = "2026-05-12T15:05:46.087080+00:00"
_NAMES = {
    "ubuntu_noble_gpu_os_13_nvidia": "Ubuntu Noble GPU OS 13",
    "ubuntu_noble_gpu_os_12": "Ubuntu Noble GPU OS 12",
    "ubuntu_jammy_gpu_os_12": "Ubuntu Jammy GPU OS 12",
    "ubuntu_jammy": "Ubuntu 22.04 Jammy Jellyfish",
}
_TYPES = ("instance_sbs", "instance_local")


def listing(books: Books, request: Request) -> Answer:
    label, zone = request.argument("image_label") or "", request.argument("zone")
    if label not in _NAMES:
        raise errors.not_found("image", label)
    kinds = [kind for kind in _TYPES if request.argument("type") in {None, kind}]
    found = [_local_image(label, zone or "fr-par-1", kind) for kind in kinds]
    return Answer(
        200, {"local_images": page_of(request, found, books.faults), "total_count": total_of(found, books.faults)}
    )


def image(id_: str, zone: str) -> dict[str, Any] | None:
    """As a server made from it shows it. Ids that the marketplace does not have are taken for older images."""
    for label, name in _NAMES.items():
        for kind in _TYPES:
            if _id(label, zone, kind) == id_:
                return _image(id_, name, zone, kind)
    return _image(id_, "Ubuntu 20.04 Focal Fossa", zone, "instance_local") if _is_id(id_) else None


def _local_image(label: str, zone: str, kind: str) -> dict[str, Any]:
    types = [name for name, entry in in_zone(zone).items() if bool(entry.gpus) == ("gpu" in label)]
    return {
        "id": _id(label, zone, kind),
        "arch": "x86_64",
        "zone": zone,
        "compatible_commercial_types": types,
        "label": label,
        "type": kind,
    }


def _image(id_: str, name: str, zone: str, kind: str) -> dict[str, Any]:
    root_id = str(uuid.uuid5(uuid.NAMESPACE_OID, id_))
    local = {"id": root_id, "name": name, "volume_type": "l_ssd", "size": 10000000000}
    block = {"id": root_id, "name": "", "volume_type": "sbs_snapshot", "size": 0}
    return {
        "id": id_,
        "name": name,
        "organization": _ORGANIZATION,
        "project": _ORGANIZATION,
        "root_volume": block if kind == "instance_sbs" else local,
        "extra_volumes": {},
        "public": True,
        "arch": "x86_64",
        "creation_date": _MADE,
        "modification_date": _MADE,
        "default_bootscript": None,
        "from_server": "",
        "state": "available",
        "tags": [],
        "zone": zone,
    }


def _id(label: str, zone: str, kind: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{label}.{zone}.{kind}"))


def _is_id(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False
