"""Flexible addresses: they outlive their server. Dynamic ones don't, and are not in this listing."""

from __future__ import annotations

import logging

from fleet.providers.base import Conflict, Location, NotFound
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.listing import Listing

log = logging.getLogger(__name__)


def of_project(account: Account, location: Location) -> Listing:
    return listing.take(
        account.instance,
        f"/instance/v1/zones/{location.zone}/ips",
        key="ips",
        size="per_page",
        params={"project": account.project_id},
    )


def is_gone(account: Account, address_id: str, location: Location) -> bool:
    """Take the next step towards its end. Only the API's "not found" makes it True."""
    try:
        account.instance.delete_ip(ip=address_id, zone=location.zone)
    except NotFound:
        return True
    except Conflict as error:
        log.warning("address %s can't be deleted yet: %s", address_id, error)
    return False
