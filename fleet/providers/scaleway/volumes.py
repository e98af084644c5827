"""Block volumes (SBS): known to the Block API alone, untagged at birth, and outliving their server."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from fleet.providers.base import Conflict, Location, NotFound
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import as_tags, tags, text
from fleet.providers.scaleway.exchange import Json
from fleet.providers.scaleway.listing import Listing

log = logging.getLogger(__name__)

_DELETABLE = frozenset({"available", "error"})


def read_all(account: Account, ids: Iterable[str], location: Location) -> list[Json]:
    """Those of them that the Block API knows: a new one may not be there yet."""
    found = []
    for id_ in ids:
        try:
            found.append(_read(account, id_, location))
        except NotFound:
            log.info("volume %s in %s is not known to the Block API", id_, location.zone)
    return found


def tag(account: Account, volumes: Iterable[Json], wanted: Mapping[str, str], location: Location) -> list[Json]:
    """Put our tags on those that lack them, so that a volume without a server is still known for ours."""
    return [_tagged(account, volume, wanted, location) for volume in volumes]


def of_project(account: Account, location: Location) -> Listing:
    """All of them: asking for ours by their tag would miss one whose maker crashed before it was tagged."""
    return listing.take(
        account.block,
        _path(location),
        key="volumes",
        size="page_size",
        params={"project_id": account.project_id, "include_deleted": False},
    )


def is_gone(account: Account, volume_id: str, location: Location) -> bool:
    """Take the next step towards its end. Only the Block API's "not found" makes it True."""
    try:
        volume = _read(account, volume_id, location)
        if not volume.get("references") and text(volume.get("status")) in _DELETABLE:
            account.block.delete_volume(volume_id=volume_id, zone=location.zone)
    except NotFound:
        return True
    except Conflict as error:
        log.warning("volume %s can't be deleted yet: %s", volume_id, error)
    return False


def _read(account: Account, volume_id: str, location: Location) -> Json:
    return account.block.ask("GET", f"{_path(location)}/{volume_id}").payload


def _tagged(account: Account, volume: Json, wanted: Mapping[str, str], location: Location) -> Json:
    present = tags(volume)
    if wanted.items() <= present.items():
        return volume
    foreign = {name: value for name, value in present.items() if name not in wanted}
    body = {"tags": as_tags({**foreign, **wanted})}
    return account.block.ask("PATCH", f"{_path(location)}/{text(volume.get('id'))}", body=body).payload


def _path(location: Location) -> str:
    return f"/block/v1/zones/{location.zone}/volumes"
