"""Where something of ours may be: every account in every zone that can be rented in, or was."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from catalog.models import InstanceAvailability, Zone
from fleet.models import Attempt, ProviderAccount, Rental, Sweep
from fleet.models.attempt import MAY_BILL
from fleet.providers.base import Location

# An account (None: that of the settings) and a zone.
Place = tuple[uuid.UUID | None, uuid.UUID]


def known() -> set[Place]:
    """Every account of an enabled provider, switched-off ones too, in each of its zones that has (or had) an offer or
    something rented; and wherever something may bill, whatever is configured today."""
    rented = {*_attempts_that_may_bill(), *_running_rentals()}
    used = {zone for _, zone in rented}
    accounts = _accounts()
    return rented | {(account, zone) for zone, provider in _zones(used) for account in accounts.get(provider, ())}


def refresh(now: datetime) -> None:
    """Give each place its row, due at once, and drop the rows of what is a place no longer."""
    places = known()
    rows = {(account, zone): pk for pk, account, zone in Sweep.objects.values_list("pk", "account_id", "zone_id")}
    Sweep.objects.bulk_create(
        [
            Sweep(account_id=account, zone_id=zone, known_since=now, next_attempt_at=now)
            for account, zone in places - rows.keys()
        ],
        ignore_conflicts=True,
    )
    if gone := rows.keys() - places:
        Sweep.objects.filter(pk__in=[rows[place] for place in gone]).delete()


def unsaved() -> Sequence[Sweep]:
    """The places as rows that are not written, for a look that changes nothing."""
    places = known()
    zones = Zone.objects.select_related("region__provider").in_bulk([zone for _, zone in places])
    accounts = ProviderAccount.objects.in_bulk([account for account, _ in places if account])
    return [Sweep(account=accounts.get(account) if account else None, zone=zones[zone]) for account, zone in places]


def location_of(zone: Zone) -> Location:
    return Location(region=zone.region.name, zone=zone.name)


def name_of(place: Sweep) -> str:
    """ "scaleway fr-par-2", and the account where it is not that of the settings."""
    name = f"{place.zone.region.provider} {place.zone}"
    return f"{name} ({place.account})" if place.account else name


def _zones(used: Iterable[uuid.UUID]) -> Iterable[tuple[uuid.UUID, str]]:
    """Zones of enabled providers, with the provider's name."""
    offered = Exists(InstanceAvailability.objects.filter(zone=OuterRef("pk")))
    return Zone.objects.filter(
        Q(offered) | Q(pk__in=list(used)), region__provider__name__in=settings.ENABLED_PROVIDERS
    ).values_list("pk", "region__provider__name")


def _accounts() -> dict[str, list[uuid.UUID | None]]:
    accounts: dict[str, list[uuid.UUID | None]] = {name: [None] for name in settings.PROVIDER_OPTIONS}
    for provider, account in ProviderAccount.objects.values_list("provider__name", "pk"):
        accounts.setdefault(provider, []).append(account)
    return accounts


def _attempts_that_may_bill() -> Iterable[Place]:
    return Attempt.objects.filter(outcome__in=sorted(MAY_BILL)).values_list("account_id", "zone_id").distinct()


def _running_rentals() -> Iterable[Place]:
    return Rental.objects.filter(until=None).values_list("account_id", "zone_id").distinct()
