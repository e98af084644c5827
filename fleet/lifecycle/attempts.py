"""What is known of an attempt's machine, written under the instance's lease."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from fleet.lifecycle import ledger, places
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance, Outcome
from fleet.models.attempt import MAY_BILL
from fleet.providers.base import Destruction, Location, Provider, ServerView


def live_attempt(instance: Instance) -> Attempt | None:
    """The attempt whose machine may exist. There is at most one (a database constraint)."""
    return (
        instance.attempts.filter(outcome__in=sorted(MAY_BILL))
        .select_related("instance_type__provider", "zone__region")
        .first()
    )


def location_of(attempt: Attempt) -> Location:
    return places.location_of(attempt.zone)


def provider_of(attempt: Attempt, world: World) -> Provider:
    return world.provider(attempt.instance_type.provider.name, attempt.account_id)


def note_asked(instance: Instance, attempt: Attempt, *, at: datetime | None, detail: str = "") -> None:
    """Commit that the provider is about to be asked for the machine, or (None) that it answered, and made none.

    Raises LeaseLost if another worker has taken over: what it has noted stands, and this one must not ask.
    """
    with transaction.atomic():
        instance.write(lock_token=instance.lock_token)
        attempt.asked_at, attempt.detail = at, detail
        attempt.save(update_fields=["asked_at", "detail"])


def remember(instance: Instance, attempt: Attempt, view: ServerView, world: World) -> ServerView:
    """Commit the machine's ids, and that it bills. Raises LeaseLost if another worker has taken over; it will find
    the tag."""
    with transaction.atomic():
        instance.write(provider_instance_id=view.handle.server_id)
        attempt.server_id = view.handle.server_id
        # Never fewer: a disk that is no longer attached is still to be destroyed.
        attempt.volume_ids = list(dict.fromkeys([*attempt.volume_ids, *view.handle.volume_ids]))
        attempt.ip_ids = list(dict.fromkeys([*attempt.ip_ids, *view.handle.ip_ids]))
        attempt.outcome = Outcome.CREATED
        attempt.save(update_fields=["server_id", "volume_ids", "ip_ids", "outcome"])
        ledger.record(attempt, view, now=world.now())
    return view


def destroy_step(attempt: Attempt, world: World) -> Destruction:
    """One step towards nothing being left of the attempt's machine; what is gone stops costing."""
    provider = provider_of(attempt, world)
    result = provider.destroy_step(attempt.handle(location_of(attempt)))
    ledger.end(attempt, remaining=result.remaining, now=world.now())
    if result.is_complete and attempt.asked_at and world.now() < attempt.asked_at + provider.listing_lag:
        # So soon after the create "not found" may mean "not yet visible": all of it is asked for again.
        return Destruction(frozenset({attempt.server_id, *attempt.volume_ids, *attempt.ip_ids}))
    return result


def close(instance: Instance, attempt: Attempt, world: World, *, code: str = "", detail: str = "") -> None:
    """Record that nothing of the attempt exists (any more)."""
    with transaction.atomic():
        instance.write(provider_instance_id=None)
        attempt.outcome = Outcome.DESTROYED if attempt.server_id else Outcome.REJECTED
        attempt.error_code, attempt.detail = code or attempt.error_code, detail or attempt.detail
        attempt.ended_at = world.now()
        attempt.save(update_fields=["outcome", "error_code", "detail", "ended_at"])
