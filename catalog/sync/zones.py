"""A sync of one zone, and of the list of zones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction

from catalog.models import InstanceAvailability, Zone
from catalog.sync import records
from catalog.sync.offers import take_over_offers
from catalog.sync.types import mark_types, take_over_types
from catalog.sync.values import Notes, Place, Report, SeenOffer


def sync_zone(place: Place, seen: Sequence[SeenOffer], *, now: datetime, dry_run: bool = False) -> Report:
    """Take over what a provider lists in a zone, from a listing that succeeded: what is not in it has vanished.

    One transaction and a fixed number of queries, however much is listed. What can't be taken over (a currency that the
    catalogue does not know, no GPU) is skipped and reported. A dry run does everything but commit.
    """
    notes = Notes()
    with transaction.atomic():
        provider = records.locked_provider(place.provider)
        zone = records.zone_of(provider, place)
        listed = {offer.instance_type: offer for offer in seen}
        sound = {name: offer for name, offer in listed.items() if not _is_faulty(offer, notes)}
        types = take_over_types(provider, sound, notes)
        take_over_offers(zone, types, sound, listed=listed.keys(), now=now, notes=notes)
        mark_types(provider, now=now)
        report = notes.report(place.provider, zone=place.zone, listed=len(listed))
        records.note_success(provider, zone, report, now=now)
        transaction.set_rollback(dry_run)
    return report


def sync_zones(provider_name: str, named: Collection[Place], *, now: datetime, dry_run: bool = False) -> Report:
    """Mark the offers of zones that the provider no longer names, from a list that is complete.

    The zones themselves are created with their first offers' sync, and are never deleted.
    """
    notes = Notes()
    with transaction.atomic():
        provider = records.locked_provider(provider_name)
        names = {(place.region, place.zone) for place in named}
        zones = Zone.objects.filter(region__provider=provider).select_related("region")
        gone = [zone for zone in zones if (zone.region.name, zone.name) not in names]
        offers = InstanceAvailability.objects.filter(zone__in=gone, vanished_at=None)
        names_of_gone = offers.order_by("zone__name", "instance_type__name").values_list(
            "instance_type__name", "zone__name"
        )
        notes.vanished += [f"{kind} in {zone}" for kind, zone in names_of_gone]
        offers.update(vanished_at=now, updated_at=now)
        mark_types(provider, now=now)
        report = notes.report(provider_name, listed=len(names))
        records.note_success(provider, None, report, now=now)
        transaction.set_rollback(dry_run)
    return report


def _is_faulty(offer: SeenOffer, notes: Notes) -> bool:
    fault = offer.fault()
    if fault is not None:
        notes.skipped.append(f"{offer.instance_type}: {fault}")
    return fault is not None
