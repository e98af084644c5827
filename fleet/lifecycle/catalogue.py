"""Asks the providers what they rent, and hands it to the catalogue (`catalog.sync`).

A provider is asked outside of any transaction. One that can't be asked changes nothing: its error is the report.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalog import sync
from catalog.sync import Place, Report, SeenOffer
from fleet import accounts
from fleet.lifecycle.world import World
from fleet.providers.base import Location, MachineOffer, ProviderError
from routing.discovery.sealing import SealBroken

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ZoneOfAccount:
    """A zone, and the first account that could rent there: the one to ask what there is."""

    location: Location
    account_id: uuid.UUID | None


def sync_provider(provider: str, world: World, *, dry_run: bool = False) -> Iterator[Report]:
    """The list of zones first, then one zone after the other. A zone that fails does not keep the others from it."""
    zones, report = find_zones(provider, world, dry_run=dry_run)
    yield report
    for zone in zones:
        yield sync_zone(provider, zone, world, dry_run=dry_run)


def find_zones(provider: str, world: World, *, dry_run: bool = False) -> tuple[Sequence[ZoneOfAccount], Report]:
    """The zones that any of the provider's accounts names.

    What is in none of the lists has vanished, but only where every account has answered.
    """
    found: dict[Location, uuid.UUID | None] = {}
    faults = []
    for account_id in accounts.usable(provider):
        try:
            locations = world.provider(provider, account_id).locations()
        except (ProviderError, SealBroken) as error:
            faults.append(f"account {account_id or 'of the settings'}: {_words(error)}")
            continue
        for location in locations:
            found.setdefault(location, account_id)
    zones = [ZoneOfAccount(location, account_id) for location, account_id in found.items()]
    if faults or not zones:
        return zones, _failed(provider, "; ".join(faults) or "no account names a zone", world, dry_run=dry_run)
    named = [_place(provider, zone.location) for zone in zones]
    return zones, _told(sync.sync_zones(provider, named, now=world.now(), dry_run=dry_run))


def sync_zone(provider: str, zone: ZoneOfAccount, world: World, *, dry_run: bool = False) -> Report:
    place = _place(provider, zone.location)
    try:
        offers = world.provider(provider, zone.account_id).list_offers(zone.location)
    except ProviderError as error:
        return _failed(provider, _words(error), world, place=place, dry_run=dry_run)
    return _told(sync.sync_zone(place, [_seen(offer) for offer in offers], now=world.now(), dry_run=dry_run))


def _words(error: ProviderError | SealBroken) -> str:
    return f"{error.code}: {error}" if isinstance(error, ProviderError) else str(error)


def _failed(provider: str, error: str, world: World, *, place: Place | None = None, dry_run: bool) -> Report:
    log.warning("catalogue sync of %s: %s", place.zone if place else provider, error)
    return sync.note_failure(provider, error, now=world.now(), place=place, dry_run=dry_run)


def _told(report: Report) -> Report:
    for line in report.lines():
        log.info("catalogue sync of %s %s: %s", report.provider, report.zone or "zones", line)
    return report


def _place(provider: str, location: Location) -> Place:
    return Place(provider, location.region, location.zone)


def _seen(offer: MachineOffer) -> SeenOffer:
    return SeenOffer(
        instance_type=offer.instance_type,
        gpu_name=offer.gpu_name,
        gpu_count=offer.gpu_count,
        vram_per_gpu_gb=offer.vram_per_gpu_gb,
        price_per_hour=offer.price_per_hour,
        currency=offer.currency,
        stock=offer.stock.value,
        spot_price_per_hour=offer.spot_price_per_hour,
    )
