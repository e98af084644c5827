"""When what was synced (`CatalogSync`), when it is due, and the rows of places."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from catalog.models import CatalogSync, Provider, Region, Zone
from catalog.sync.values import Place, Report

_COUNTED = ("created", "updated", "kept", "vanished")  # columns of `CatalogSync`


def request(providers: Collection[str], *, actor: str, now: datetime) -> None:
    """Record that somebody wants these providers to be synced: they are due from now on."""
    with transaction.atomic():
        for name in providers:
            provider, _ = Provider.objects.get_or_create(name=name)
            _write(provider, None, requested_at=now, requested_by=actor)


def due(providers: Collection[str], *, every: timedelta | None, now: datetime) -> Sequence[str]:
    """Of these providers those that were asked for, or not synced within `every` (None: only those asked for)."""
    rows = CatalogSync.objects.filter(provider__name__in=providers, zone=None).select_related("provider")
    known = {row.provider.name: row for row in rows}
    return [name for name in providers if _is_due(known.get(name), every=every, now=now)]


def note_success(provider: Provider, zone: Zone | None, report: Report, *, now: datetime) -> None:
    counts = {what: count for what, count in report.counts().items() if what in _COUNTED}
    _write(
        provider,
        zone,
        tried_at=now,
        succeeded_at=now,
        error="",
        listed=report.listed,
        skipped="\n".join(report.skipped),
        **counts,
    )


def note_failure(
    provider_name: str, error: str, *, now: datetime, place: Place | None = None, dry_run: bool = False
) -> Report:
    """Record that the provider could not be asked for a zone's offers, or for its zones. Nothing else is changed."""
    with transaction.atomic():
        provider = locked_provider(provider_name)
        zone = None if place is None else zone_of(provider, place)
        _write(provider, zone, tried_at=now, error=error)
        transaction.set_rollback(dry_run)
    return Report(provider_name, zone="" if place is None else place.zone, error=error)


def locked_provider(name: str) -> Provider:
    """Two syncs of a provider take turns: their types are the same rows. Machines may be recorded meanwhile."""
    return Provider.objects.select_for_update(no_key=True).get_or_create(name=name)[0]


def zone_of(provider: Provider, place: Place) -> Zone:
    """The zone of the catalogue, created with its region if it is new."""
    zones = Zone.objects.select_related("region")
    known = zones.filter(region__provider=provider, region__name=place.region, name=place.zone).first()
    if known is not None:
        return known
    region, _ = Region.objects.get_or_create(provider=provider, name=place.region)
    return Zone.objects.create(region=region, name=place.zone)


def _is_due(row: CatalogSync | None, *, every: timedelta | None, now: datetime) -> bool:
    if row is None or row.tried_at is None:
        return every is not None or (row is not None and row.requested_at is not None)
    if row.requested_at is not None and row.requested_at > row.tried_at:
        return True
    return every is not None and row.tried_at <= now - every


def _write(provider: Provider, zone: Zone | None, **columns: Any) -> None:
    """One query, whether the row is there or not."""
    CatalogSync.objects.bulk_create(
        [CatalogSync(provider=provider, zone=zone, **columns)],
        update_conflicts=True,
        unique_fields=["provider", "zone"],
        update_fields=list(columns),
    )
