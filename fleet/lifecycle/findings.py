"""Write down what a sweep found: into the ledger, since it costs money, and as a leak, since nobody claims it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import Q

from catalog.models import InstanceAvailability
from fleet.lifecycle import brake
from fleet.lifecycle.inventory import Thing, Unowned, attempt_id
from fleet.lifecycle.places import name_of
from fleet.models import Attempt, Leak, Rental, Sweep
from fleet.models.attempt import MAY_BILL
from fleet.providers.base import Resource, ResourceKind, ServerView
from fleet.states import FINAL

log = logging.getLogger(__name__)

_Key = tuple[str, str]  # kind, id at the provider


@dataclass(frozen=True, slots=True)
class _Found:
    thing: Thing
    reason: str
    volume_ids: Sequence[str] = ()  # of a machine: what goes with it
    ip_ids: Sequence[str] = ()


def record(place: Sweep, found: Sequence[Unowned], *, listed_at: datetime, lag: timedelta, now: datetime) -> None:
    """Open a leak for each thing that nobody claims, and for each that the ledger says to bill for nobody.

    In the sweep's transaction, under its lease. Two sweeps that reach the same thing through two accounts
    with the same credentials record it once.
    """
    rentals = _rentals(place, found, now)
    for unowned in found:
        rental = rentals[unowned.thing.kind, unowned.thing.id]
        # A listing from before its end, or one that is behind, proves nothing against the provider's own word.
        if rental.until is None or listed_at > rental.until + lag:
            _open(place, rental, _of_listing(unowned), now)
    for rental in _billing_for_nobody(place):
        _open(place, rental, _of_ledger(rental), now)


def alarm_if_braked(place: Sweep) -> None:
    held = brake.on(account_id=place.account_id, zone_id=place.zone_id)
    if held:
        log.error("ALARM %s: %s", name_of(place), held)


def _of_listing(unowned: Unowned) -> _Found:
    if isinstance(unowned.resource, Resource):
        return _Found(unowned.thing, unowned.reason)
    handle = unowned.resource.handle
    return _Found(unowned.thing, unowned.reason, handle.volume_ids, handle.ip_ids)


def _of_ledger(rental: Rental) -> _Found:
    thing = Thing(ResourceKind(rental.kind), rental.resource_id, str(rental.attempt_id or ""))
    reason = "its attempt is over, and the provider has not said that it is gone"
    if rental.attempt is None or thing.kind is not ResourceKind.SERVER:
        return _Found(thing, reason)
    return _Found(thing, reason, rental.attempt.volume_ids, rental.attempt.ip_ids)


def _rentals(place: Sweep, found: Sequence[Unowned], now: datetime) -> dict[_Key, Rental]:
    """The ledger's rows of what was found, written where there is none."""
    attempts = Attempt.objects.select_related("instance_type").in_bulk(
        {known for unowned in found if (known := attempt_id(unowned.thing.tag))}
    )
    rows = [_rental(place, unowned, attempts.get(attempt_id(unowned.thing.tag)), now) for unowned in found]
    # In one order, whoever writes: two sweeps that meet wait for each other, and never in a circle.
    Rental.objects.bulk_create(sorted(rows, key=lambda row: (row.kind, row.resource_id)), ignore_conflicts=True)
    written = Rental.objects.filter(
        provider=place.zone.region.provider_id, resource_id__in=[row.resource_id for row in rows]
    )
    return {(rental.kind, rental.resource_id): rental for rental in written}


def _rental(place: Sweep, unowned: Unowned, attempt: Attempt | None, now: datetime) -> Rental:
    price, currency = _price(place, unowned.resource, attempt)
    return Rental(
        provider_id=place.zone.region.provider_id,
        account_id=place.account_id,
        zone_id=place.zone_id,
        kind=unowned.thing.kind,
        resource_id=unowned.thing.id,
        attempt=attempt,
        price_per_hour=price,
        currency=currency,
        since=unowned.created_at or now,
    )


def _price(place: Sweep, resource: ServerView | Resource, attempt: Attempt | None) -> tuple[Decimal | None, str]:
    if isinstance(resource, Resource):
        return resource.price_per_hour, resource.currency
    if attempt is not None and resource.instance_type in ("", attempt.instance_type.name):
        return attempt.price_per_hour, attempt.currency
    offer = InstanceAvailability.objects.filter(
        zone=place.zone_id,
        instance_type__name=resource.instance_type,
        instance_type__provider=place.zone.region.provider_id,
    ).first()
    return (offer.price_per_hour, offer.currency) if offer else (None, "")


def _billing_for_nobody(place: Sweep) -> Iterable[Rental]:
    """What a listing need not show, an untagged disk: in the ledger as billing, for an attempt that nobody works on."""
    nobody = Q(attempt=None) | ~Q(attempt__outcome__in=sorted(MAY_BILL)) | Q(attempt__instance__status__in=FINAL)
    return (
        Rental.objects.filter(nobody, until=None, account=place.account_id, zone=place.zone_id)
        .exclude(pk__in=Leak.objects.filter(ended_at=None).values("rental"))
        .select_related("attempt")
    )


def _open(place: Sweep, rental: Rental, found: _Found, now: datetime) -> None:
    """One leak per thing, ever: what is listed again after it was said to be gone leaks again."""
    beginning = {
        "reason": found.reason,
        "found_at": now,
        "next_attempt_at": now + timedelta(seconds=settings.RECONCILE_GRACE),
        "ended_at": None,
        "done": "",
        "steps": 0,
        "last_error": "",
        "approved_by": "",
    }
    leak, new = Leak.objects.select_for_update().get_or_create(rental=rental, defaults=beginning)
    news = beginning if leak.ended_at else {}
    Leak.objects.filter(pk=leak.pk).update(
        **news,
        tag=found.thing.tag or leak.tag,
        # Kept when its machine has gone first: it was that one's, whatever its own tag says.
        server_id=found.thing.server_id or leak.server_id,
        volume_ids=sorted({*leak.volume_ids, *found.volume_ids}),
        ip_ids=sorted({*leak.ip_ids, *found.ip_ids}),
    )
    if new or news:
        Rental.objects.filter(pk=rental.pk).update(until=None)
        log.error("%s: %s is nobody's, and costs money: %s", name_of(place), rental, found.reason)
