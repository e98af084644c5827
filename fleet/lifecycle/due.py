"""Whose time has come. The clock that publishes commands, `manage.py reconcile` and the simulation choose alike.

What is chosen is put off by a moment: a look that comes before the work is done does not choose it a second time, and
a wake-up that comes to nothing is repeated.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Q, QuerySet

from fleet.lifecycle import places
from fleet.models import Instance, Leak, Sweep
from fleet.models.lease import Leased
from fleet.states import BEING_DESTROYED, Status

_BATCH = 500
_KEPT_FOR_RISING = 4  # one of so many: what is stuck on its way down must not keep everybody from coming up
_AGAIN = timedelta(seconds=10)
# An end that was asked for is one, whatever state it begins in.
_ENDING = Q(status__in=sorted(BEING_DESTROYED)) | Q(termination_requested_at__isnull=False)
# Not one that boots: it is only watched over, and a thousand of them would keep everybody else waiting.
_BEGUN = Q(status=Status.PROVISIONING, provider_instance_id__isnull=False)
_Row = TypeVar("_Row", bound=Leased)


@dataclass(frozen=True, slots=True)
class Instances:
    rising: tuple[uuid.UUID, ...]
    being_destroyed: tuple[uuid.UUID, ...]


def instances(now: datetime, *, most: int = _BATCH) -> Instances:
    """At most `most`. Those whose machines cost money for nothing go first, then those that were begun: a machine that
    waits to be looked at costs money too, and one that is not made yet does not."""
    due = Instance.objects.due(now).order_by("next_attempt_at", "pk")
    destroyed = _ids(due.filter(_ENDING), most - most // _KEPT_FOR_RISING)
    begun_first = due.exclude(_ENDING).alias(begun=_BEGUN).order_by("-begun", "next_attempt_at")
    rising = _ids(begun_first, most - len(destroyed))
    Instance.objects.due(now).filter(pk__in=[*destroyed, *rising]).update(next_attempt_at=now + _AGAIN)
    return Instances(rising=rising, being_destroyed=destroyed)


def sweeps(now: datetime) -> Sequence[uuid.UUID]:
    """Places to be swept, new ones at once."""
    places.refresh(now)
    return _choose(Sweep.due(now), now)


def leaks(now: datetime) -> Sequence[uuid.UUID]:
    return _choose(Leak.due(now).filter(ended_at=None), now)


def _ids(due: QuerySet[Instance], most: int) -> tuple[uuid.UUID, ...]:
    return tuple(due.values_list("pk", flat=True)[:most])


def _choose(due: QuerySet[_Row], now: datetime) -> Sequence[uuid.UUID]:
    ids: list[uuid.UUID] = list(due.order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:_BATCH])
    due.filter(pk__in=ids).update(next_attempt_at=now + _AGAIN)
    return ids
