"""Destroy what nobody claims: after a grace, by steps, for ever, and only the provider's own word ends it."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from fleet.lifecycle import brake, claims, inventory
from fleet.lifecycle.inventory import Claims, Thing
from fleet.lifecycle.places import location_of
from fleet.lifecycle.world import POLL, World, next_look
from fleet.models import Leak, LeaseLost, Rental
from fleet.models.rental import Kind
from fleet.providers.base import Destruction, Handle, ProviderError, ResourceKind

log = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(minutes=1)
_LOOK_AT_THE_MACHINE = timedelta(seconds=5)
_LOOK_AT_THE_BRAKE = timedelta(seconds=30)


def collect(leak_id: uuid.UUID, world: World) -> None:
    """Take one step. Nothing happens if the leak is over or somebody else works on it.

    A provider's error makes the next step come later, for ever: nothing gives up on what may bill.
    """
    leak = Leak.lease(leak_id, now=world.now(), seconds=settings.LEASE_SECONDS)
    if leak is None:
        return
    try:
        leak.release(due=_step(leak, world))
    except LeaseLost:
        log.info("%s: lease lost, what was learned is discarded", leak)
    except ProviderError as error:
        _put_off(leak, world, f"{error.code}: {error}")
    except Exception as error:
        _put_off(leak, world, f"{type(error).__name__}: {error}")
        raise


def _step(leak: Leak, world: World) -> datetime | None:
    """Returns when the next one is due; None: it is over."""
    now = world.now()
    if leak.ended_at is not None:
        return None
    # A machine that is being destroyed goes on until what hung on it is gone too.
    if leak.rental.until is not None and not leak.steps:
        _end(leak, "gone, with the machine that it hung on", now)
        return None
    grace_over: datetime = leak.found_at + timedelta(seconds=settings.RECONCILE_GRACE)
    if now < grace_over:
        return grace_over
    if machine := _machine_before_it(leak):
        return _wait(leak, f"waits until the machine {machine} is gone", now + _LOOK_AT_THE_MACHINE)
    if held := brake.holds(leak):
        return _wait(leak, held, now + _LOOK_AT_THE_BRAKE)
    # Last, for a claim may have come in meanwhile.
    claimed = _claims(leak)
    if not claimed.why_unowned(_thing(leak)):
        _give_back(leak, claimed, now)
        return None
    # Committed before the provider is asked: the fence, and it counts as started on from here.
    leak.write(steps=leak.steps + 1)
    return _destroy(leak, _handle(leak, claimed), world)


def _destroy(leak: Leak, handle: Handle, world: World) -> datetime | None:
    """Ask, and write down how far it has come; what is gone stops costing."""
    result = world.provider(leak.rental.provider.name, leak.rental.account_id).destroy_step(handle)
    now = world.now()
    with transaction.atomic():
        leak.write(last_error="", done=f"step {leak.steps}: still there: {', '.join(sorted(result.remaining))}")
        _stop_the_clock(leak, handle, result, now)
        if handle.server_id not in result.remaining:
            # What waited for the machine need wait no longer: the sooner it is asked for, the truer the ledger.
            Leak.objects.filter(ended_at=None, server_id=leak.rental.resource_id).update(next_attempt_at=now)
        if result.is_complete:
            _end(leak, f"gone, by the provider's word (step {leak.steps})", now)
            return None
    _alarm_if_overdue(leak, now, leak.done)
    # Soon: the look that finds it gone is what ends its costs. One that the brake held for long has taken no time yet.
    begun = leak.found_at + timedelta(seconds=settings.RECONCILE_GRACE)
    soon = next_look(now, since=begun, share=10, latest=_LONGEST_WAIT)
    return min(soon, now + _backoff(leak.steps))


def _stop_the_clock(leak: Leak, handle: Handle, result: Destruction, now: datetime) -> None:
    gone = {handle.server_id, *handle.volume_ids, *handle.ip_ids} - result.remaining
    with_it = Q(pk=leak.rental_id)
    if leak.rental.kind == Kind.SERVER:
        with_it |= Q(provider=leak.rental.provider_id, kind__in=[Kind.VOLUME, Kind.IP])
    Rental.objects.filter(with_it, resource_id__in=gone, until=None).update(until=now)


def _give_back(leak: Leak, claimed: Claims, now: datetime) -> None:
    """From here on it is its attempt's, whose end will end its costs too."""
    with transaction.atomic():
        _end(leak, "claimed after all", now)
        Rental.objects.filter(pk=leak.rental_id).update(attempt=claimed.claimant_of(_thing(leak)))


def _end(leak: Leak, done: str, now: datetime) -> None:
    leak.write(ended_at=now, done=done, last_error="")
    log.warning("%s: %s", leak, done)


def _wait(leak: Leak, why: str, until: datetime) -> datetime:
    leak.write(done=why)
    return until


def _put_off(leak: Leak, world: World, error: str) -> None:
    now = world.now()
    wait = _backoff(leak.steps)
    log.warning("%s: step failed, again in %s: %s", leak, wait, error)
    _alarm_if_overdue(leak, now, error)
    leak.release(due=now + wait, last_error=error[:2000])


def _alarm_if_overdue(leak: Leak, now: datetime, what: str) -> None:
    if now > leak.found_at + timedelta(seconds=settings.DESTROY_ALARM_AFTER):
        log.error("ALARM %s since %s, and can't be destroyed: %s", leak, leak.found_at, what)


def _backoff(steps: int) -> timedelta:
    doubled: int = 2 ** min(max(steps - 1, 0), 10)
    return min(POLL * doubled, _LONGEST_WAIT)


# --- what is asked for, and whose it is -------------------------------------------------------------------------------


def _thing(leak: Leak) -> Thing:
    return Thing(ResourceKind(leak.rental.kind), leak.rental.resource_id, leak.tag, leak.server_id)


def _claims(leak: Leak) -> Claims:
    tag = inventory.attempt_id(leak.tag)
    machine = leak.rental.resource_id if leak.rental.kind == Kind.SERVER else leak.server_id
    return claims.read(leak.rental.zone.region, tagged=[tag] if tag else [], server_ids=[machine] if machine else [])


def _machine_before_it(leak: Leak) -> str:
    """The machine that a volume or an address goes with, while that one leaks itself; empty: it goes alone."""
    if leak.rental.kind == Kind.SERVER:
        return ""
    named = "volume_ids" if leak.rental.kind == Kind.VOLUME else "ip_ids"
    # An address that a machine was given with it is in no handle, and can't be had without it either.
    goes_with = Q(rental__resource_id=leak.server_id, rental__until=None)
    goes_after = Q(**{f"{named}__contains": [leak.rental.resource_id]})
    machines = Leak.objects.filter(
        goes_with | goes_after, ended_at=None, rental__provider=leak.rental.provider_id, rental__kind=Kind.SERVER
    )
    return machines.values_list("rental__resource_id", flat=True).first() or ""


def _handle(leak: Leak, claimed: Claims) -> Handle:
    """The thing alone, or the machine with all that goes with it and is nobody else's."""
    rental = leak.rental
    where = location_of(rental.zone)
    match rental.kind:
        case Kind.VOLUME:
            return Handle("", where, volume_ids=(rental.resource_id,))
        case Kind.IP:
            return Handle("", where, ip_ids=(rental.resource_id,))
    return Handle(
        rental.resource_id,
        where,
        volume_ids=tuple(volume for volume in leak.volume_ids if not claimed.holds(volume)),
        ip_ids=tuple(address for address in leak.ip_ids if not claimed.holds(address)),
    )
