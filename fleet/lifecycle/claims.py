"""The claims that stand in the rows now: of the attempts whose machine may exist, and why others claim nothing."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.db.models import Q

from catalog.models import Region
from fleet.lifecycle.inventory import Claimant, Claims
from fleet.models import Attempt
from fleet.models.attempt import MAY_BILL
from fleet.states import FINAL


def read(region: Region, *, tagged: Collection[uuid.UUID], server_ids: Collection[str]) -> Claims:
    """All claims that may concern things of a region, of the attempts named by their tags, or of those machines."""
    live = Q(outcome__in=sorted(MAY_BILL))
    attempts = Attempt.objects.filter(
        Q(pk__in=tagged)
        | live & Q(zone__region=region)
        | live & Q(server_id__in=server_ids, instance_type__provider=region.provider_id)
    ).select_related("instance")
    return Claims.of(_claimant(attempt) for attempt in attempts)


def _claimant(attempt: Attempt) -> Claimant:
    return Claimant(
        attempt_id=str(attempt.pk),
        over=_why_over(attempt),
        server_id=attempt.server_id,
        attached=frozenset([*attempt.volume_ids, *attempt.ip_ids]),
    )


def _why_over(attempt: Attempt) -> str:
    if attempt.outcome not in MAY_BILL:
        return f"its attempt is over ({attempt.outcome})"
    if attempt.instance.status in FINAL:
        # Can't be, and nobody would ever destroy it.
        return "its instance is terminated"
    return ""
