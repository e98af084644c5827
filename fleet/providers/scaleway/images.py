"""Which image a machine starts from: by a label of the marketplace, since ids differ by zone and change each month."""

from __future__ import annotations

import uuid

from fleet.providers.base import InvalidSpec, Location, NotFound
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import text
from fleet.providers.scaleway.exchange import Json


def image_id(account: Account, image: str, *, instance_type: str, location: Location) -> str:
    """The id to create a server from. `image`: a label, or an id, which is taken as it is."""
    if _is_id(image):
        return image
    for local in _local_images(account, image, location):
        if _fits(local, instance_type, location):
            return text(local.get("id"))
    raise InvalidSpec(
        f"the image {image!r} is not made for {instance_type or 'block volumes'} in {location.zone}: "
        "name another label of Scaleway's marketplace, or the id of an image of your own"
    )


def _local_images(account: Account, label: str, location: Location) -> list[Json]:
    params = {"image_label": label, "zone": location.zone, "type": "instance_sbs"}
    found = listing.take(
        account.marketplace, "/marketplace/v2/local-images", key="local_images", size="page_size", params=params
    )
    try:
        return list(found.whole().values())
    except NotFound as error:
        raise InvalidSpec(
            f"Scaleway's marketplace has no image labelled {label!r} in {location.zone}: "
            "check the spelling, or name the id of an image of your own"
        ) from error


def _fits(local: Json, instance_type: str, location: Location) -> bool:
    """The arguments of the listing are not relied on; what it leaves unsaid is no obstacle."""
    if local.get("type", "instance_sbs") != "instance_sbs" or local.get("zone", location.zone) != location.zone:
        return False
    types = local.get("compatible_commercial_types")
    return not instance_type or not isinstance(types, list) or not types or instance_type in types


def _is_id(image: str) -> bool:
    try:
        return str(uuid.UUID(image)) == image.lower()
    except ValueError:
        return False
