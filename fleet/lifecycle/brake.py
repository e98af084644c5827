"""The brake: so many machines that nobody claims at once are more likely our own fault, a database from an old backup.

Leaks are destroyed one by one, by any worker, so there is no moment at which "a pass" could be counted. The rule is
about what stands in the table instead, and each leak's first step asks it:

* A leak waits while it is open, nobody has approved it and no step of its destruction has been taken.
* In a place (an account in a zone) more than RECONCILE_MAX_DESTROYS waiting machines hold the brake; so do more than
  RECONCILE_MAX_DESTROYS_IN_ALL of them anywhere, since an old backup knows nothing of any place.
* While it is held, no waiting leak there is started on, volumes and addresses neither. What has been started on goes
  on: it was few then, and a half-destroyed machine serves nobody.
* It comes off by itself when fewer wait, since some have gone or were claimed after all, or for each leak that an
  operator approves. An approval speaks for the approved alone: it goes on counting for those that were found with
  it or before, and does not let them through.

A sweep writes down all that it finds in one transaction, so that no step sees the first few of many.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db.models import Count, Min, Q

from fleet.models import Leak
from fleet.models.rental import Kind

# Leaks whose destruction has not begun, and that the brake may hold.
WAITING = Q(ended_at=None, steps=0, approved_by="")


def holds(leak: Leak) -> str:
    """In words, why the leak must wait for an operator; empty if it need not."""
    if leak.steps or leak.approved_by:
        return ""
    return on(account_id=leak.rental.account_id, zone_id=leak.rental.zone_id)


def on(*, account_id: uuid.UUID | None, zone_id: uuid.UUID) -> str:
    """In words, why nothing new is destroyed in that place; empty if the brake is off."""
    here = Q(rental__account=account_id, rental__zone=zone_id)
    if not Leak.objects.filter(WAITING, here).exists():
        return ""
    for where, place, limit in (
        ("here", here, settings.RECONCILE_MAX_DESTROYS),
        ("in all", Q(), settings.RECONCILE_MAX_DESTROYS_IN_ALL),
    ):
        count = _counted(place)
        if count > limit:
            return f"{count} machines are nobody's {where}, more than {limit} at once: an operator must approve"
    return ""


def _counted(place: Q) -> int:
    machines = Q(rental__kind=Kind.SERVER)
    here = Leak.objects.filter(WAITING, machines, place).aggregate(count=Count("pk"), first=Min("found_at"))
    if not here["count"]:
        return 0
    approved = Leak.objects.filter(machines, place, found_at__gte=here["first"]).exclude(approved_by="").count()
    return int(here["count"]) + approved
