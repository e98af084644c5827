"""What is known of an attempt's machine, written under the instance's lease."""

from __future__ import annotations

from django.db import transaction

from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance, Outcome
from fleet.models.attempt import MAY_BILL
from fleet.providers.base import Location, ServerView


def live_attempt(instance: Instance) -> Attempt | None:
    """The attempt whose machine may exist. There is at most one (a database constraint)."""
    return (
        instance.attempts.filter(outcome__in=sorted(MAY_BILL))
        .select_related("instance_type__provider", "zone__region")
        .first()
    )


def location_of(attempt: Attempt) -> Location:
    return Location(region=attempt.zone.region.name, zone=attempt.zone.name)


def remember(instance: Instance, attempt: Attempt, view: ServerView) -> ServerView:
    """Commit the machine's ids. Raises LeaseLost if another worker has taken over; it will find the tag."""
    with transaction.atomic():
        instance.write(provider_instance_id=view.handle.server_id)
        attempt.server_id = view.handle.server_id
        attempt.volume_ids = list(view.handle.volume_ids)
        attempt.ip_ids = list(view.handle.ip_ids)
        attempt.outcome = Outcome.CREATED
        attempt.save(update_fields=["server_id", "volume_ids", "ip_ids", "outcome"])
    return view


def close(instance: Instance, attempt: Attempt, world: World, *, code: str, detail: str) -> None:
    """Record that nothing of the attempt exists (any more)."""
    with transaction.atomic():
        instance.write(provider_instance_id=None)
        attempt.outcome = Outcome.DESTROYED if attempt.server_id else Outcome.REJECTED
        attempt.error_code, attempt.detail = code, detail
        attempt.ended_at = world.now()
        attempt.save(update_fields=["outcome", "error_code", "detail", "ended_at"])
