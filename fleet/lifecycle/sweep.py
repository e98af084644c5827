"""Sweep a place: list what is ours there, and compare it with the rows in both directions.

1. The cloud is listed first, the rows are read after. A row is committed before its machine is asked for: what is
   listed and has no row now, had none. The other way round, every machine made in between would look like nobody's.
2. What no live row claims goes into the ledger and becomes a leak, which is destroyed after a grace (see `leaks`).
3. A row's machine that whole listings lack, twice in a row, is not believed lost: its instance is woken, asks the
   provider for this one machine, and believes only a typed "not found".

A listing that failed, or ended half-way, counts nobody as missing. What it does show exists all the same.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from fleet.lifecycle import claims, findings, inventory
from fleet.lifecycle.inventory import Machine, Roll, Unowned
from fleet.lifecycle.places import location_of, name_of
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance, LeaseLost, Outcome, Sweep
from fleet.providers.base import AuthError, OwnedResources, ProviderError
from fleet.states import BEING_DESTROYED, LIVE

log = logging.getLogger(__name__)

_MISSED = 2  # whole listings in a row that make us ask the provider for the machine itself


@dataclass(frozen=True, slots=True)
class Look:
    """One listing of a place, against the rows as they were after it."""

    at: datetime  # when the listing began
    lag: timedelta  # for how long the provider's listings may be behind
    owned: OwnedResources
    unowned: Sequence[Unowned]
    roll: Roll

    @property
    def trouble(self) -> str:
        """Why nobody is believed missing; empty if the listing is as good as any."""
        return self.roll.doubt if self.owned.complete else "the listing ended half-way: it proves nothing missing"


def sweep_if_due(sweep_id: uuid.UUID, world: World) -> None:
    """As `sweep`, but not if the place was swept a moment ago: a message may be doubled."""
    since = world.now() - timedelta(seconds=settings.RECONCILE_EVERY)
    if not Sweep.objects.filter(pk=sweep_id, swept_at__gt=since).exists():
        sweep(sweep_id, world)


def sweep(sweep_id: uuid.UUID, world: World) -> None:
    """Look at the place, and write down what is wrong. Nothing happens if somebody else is at it.

    A listing that fails is written down too, and repeated at the next period, for ever.
    """
    place = Sweep.lease(sweep_id, now=world.now(), seconds=settings.LEASE_SECONDS)
    if place is None:
        return
    at = world.now()
    try:
        _write_down(place, look(place, world), world)
    except LeaseLost:
        log.info("%s: lease lost, what was seen is discarded", place)
    except ProviderError as error:
        _put_off(place, at, f"{error.code}: {error}")
        _alarm(place, at, error)
    except Exception as error:
        _put_off(place, at, f"{type(error).__name__}: {error}")
        raise


def look(place: Sweep, world: World) -> Look:
    """Writes nothing. Raises ProviderError."""
    region = place.zone.region
    provider = world.provider(region.provider.name, place.account_id)
    at, lag = world.now(), provider.listing_lag
    owned = provider.list_owned(location_of(place.zone), settings.INSTALLATION)
    # Only now the rows, see above.
    claimed = claims.read(
        region,
        tagged=inventory.tags(owned),
        server_ids=[view.handle.server_id for view in owned.servers],
    )
    return Look(
        at=at,
        lag=lag,
        owned=owned,
        unowned=inventory.unowned(owned, settings.INSTALLATION, claimed),
        roll=inventory.call_roll(_machines(place), owned, at=at, lag=lag),
    )


def _machines(place: Sweep) -> Iterable[Machine]:
    """What the rows say to run there. One that is being destroyed may be missing, and rightly so."""
    attempts = Attempt.objects.filter(
        outcome=Outcome.CREATED,
        zone=place.zone_id,
        account=place.account_id,
        error_code="",
        instance__status__in=sorted(LIVE - BEING_DESTROYED),
    ).exclude(server_id="")
    for attempt in attempts:
        yield Machine(
            attempt_id=attempt.pk,
            instance_id=attempt.instance_id,
            server_id=attempt.server_id,
            asked_at=attempt.asked_at or attempt.started_at,
            missed=attempt.missed_listings,
        )


def _write_down(place: Sweep, seen: Look, world: World) -> None:
    now = world.now()
    whole = {"complete_at": seen.at, "servers": len(seen.owned.servers)} if seen.owned.complete else {}
    with transaction.atomic():
        # First, for it is the fence: another worker may have swept meanwhile, and this listing be hours old.
        place.write(swept_at=seen.at, last_error=seen.trouble, **whole)
        findings.record(place, seen.unowned, listed_at=seen.at, lag=seen.lag, now=now)
        _count(seen.roll, now)
        place.release(due=_next(seen.at))
    if seen.roll.doubt:
        log.error("ALARM %s: %s", name_of(place), seen.roll.doubt)
    findings.alarm_if_braked(place)


def _count(roll: Roll, now: datetime) -> None:
    back = [machine.attempt_id for machine in roll.present if machine.missed]
    Attempt.objects.filter(pk__in=back).update(missed_listings=0)
    missing = [machine.attempt_id for machine in roll.missing]
    Attempt.objects.filter(pk__in=missing).update(missed_listings=F("missed_listings") + 1)
    gone = [machine.instance_id for machine in roll.missing if machine.missed + 1 >= _MISSED]
    later = Q(next_attempt_at=None) | Q(next_attempt_at__gt=now)
    if woken := Instance.objects.live().filter(later, pk__in=gone).update(next_attempt_at=now):
        log.warning("%d machines are missing from listings: their provider is asked for each", woken)


def _put_off(place: Sweep, at: datetime, error: str) -> None:
    log.warning("%s: not swept, again in %s s: %s", name_of(place), settings.RECONCILE_EVERY, error)
    place.release(due=_next(at), swept_at=at, last_error=error[:2000])


def _alarm(place: Sweep, at: datetime, error: ProviderError) -> None:
    unseen_since = place.complete_at or place.known_since
    blind = at > unseen_since + timedelta(seconds=settings.DESTROY_ALARM_AFTER)
    if blind or isinstance(error, AuthError):
        log.error("ALARM %s: not seen whole since %s, money may leak there: %s", name_of(place), unseen_since, error)


def _next(at: datetime) -> datetime:
    period = timedelta(seconds=settings.RECONCILE_EVERY)
    return at + period
