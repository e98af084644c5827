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

from django.db.models import QuerySet

from fleet.lifecycle import places
from fleet.models import Instance, Leak, Sweep
from fleet.models.lease import Leased
from fleet.states import BEING_DESTROYED

_BATCH = 500
_AGAIN = timedelta(seconds=10)
_Row = TypeVar("_Row", bound=Leased)


@dataclass(frozen=True, slots=True)
class Instances:
    rising: tuple[uuid.UUID, ...]
    being_destroyed: tuple[uuid.UUID, ...]


def instances(now: datetime) -> Instances:
    due = list(Instance.objects.due(now).order_by("next_attempt_at").values_list("pk", "status")[:_BATCH])
    Instance.objects.due(now).filter(pk__in=[pk for pk, _ in due]).update(next_attempt_at=now + _AGAIN)
    return Instances(
        rising=tuple(pk for pk, status in due if status not in BEING_DESTROYED),
        being_destroyed=tuple(pk for pk, status in due if status in BEING_DESTROYED),
    )


def sweeps(now: datetime) -> Sequence[uuid.UUID]:
    """Places to be swept, new ones at once."""
    places.refresh(now)
    return _choose(Sweep.due(now), now)


def leaks(now: datetime) -> Sequence[uuid.UUID]:
    return _choose(Leak.due(now).filter(ended_at=None), now)


def _choose(due: QuerySet[_Row], now: datetime) -> Sequence[uuid.UUID]:
    ids: list[uuid.UUID] = list(due.order_by("next_attempt_at").values_list("pk", flat=True)[:_BATCH])
    due.filter(pk__in=ids).update(next_attempt_at=now + _AGAIN)
    return ids
