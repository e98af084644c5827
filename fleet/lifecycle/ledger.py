"""What is billed, since when and until when: a row for each machine, volume and address of an attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from fleet.models import Attempt, Leak, Rental
from fleet.providers.base import ResourceKind, ServerView


def record(attempt: Attempt, view: ServerView, *, now: datetime) -> None:
    """Write down what the machine is billed for, once. A disk or an address that comes later has a row of its own.

    An address counts from the look that first shows it, if its cloud does not say since when it is there: right after
    the start, unless the worker ended just then.
    """
    known = set(Rental.objects.filter(attempt=attempt).values_list("kind", "resource_id"))
    Rental.objects.bulk_create(
        [rental for rental in _rentals(attempt, view, now) if (rental.kind, rental.resource_id) not in known],
        ignore_conflicts=True,
    )


def end(attempt: Attempt, *, remaining: Collection[str], now: datetime) -> None:
    """What the provider says to be gone has stopped costing; what it says to be there again has not.

    Nothing stops before its machine: an address that goes with it is in no handle, so that no answer names it.
    Not what leaks: a second machine with the attempt's tag is another one, and its own destruction ends it.
    """
    leaking = Leak.objects.filter(ended_at=None).values("rental")
    ours = Rental.objects.filter(attempt=attempt).exclude(pk__in=leaking)
    ours.filter(resource_id__in=remaining).exclude(until=None).update(until=None)
    if attempt.server_id not in remaining:
        ours.filter(until=None).exclude(resource_id__in=remaining).update(until=now)


def _rentals(attempt: Attempt, view: ServerView, now: datetime) -> Iterable[Rental]:
    place = {
        "provider": attempt.instance_type.provider,
        "account_id": attempt.account_id,
        "zone": attempt.zone,
        "attempt": attempt,
    }
    yield Rental(
        **place,
        kind=ResourceKind.SERVER,
        resource_id=view.handle.server_id,
        price_per_hour=attempt.price_per_hour,
        currency=attempt.currency,
        since=view.created_at or attempt.asked_at or now,
    )
    for thing in view.attachments:
        yield Rental(
            **place,
            kind=thing.kind,
            resource_id=thing.id,
            price_per_hour=thing.price_per_hour,
            currency=thing.currency,
            since=thing.created_at or now,
        )
