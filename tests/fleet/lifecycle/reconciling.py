"""What the tests of the reconciliation do: sweep the stage's places, and take the due steps of leaks."""

from __future__ import annotations

import uuid

from django.conf import settings

from catalog.models import Zone
from fleet.lifecycle import due, leaks, sweep
from fleet.models import Leak, Sweep
from fleet.providers.base import TAG_ATTEMPT, TAG_INSTANCE, TAG_OWNER, Location, ServerView
from tests.fleet.stage import Stage

HERE = Location("eu", "eu-1")
ELSEWHERE = Location("eu", "eu-2")


def tags(attempt: object = None, *, owner: str = "") -> dict[str, str]:
    """Ours; of an attempt that no row knows unless one is given."""
    return {
        TAG_OWNER: owner or settings.INSTALLATION,
        TAG_INSTANCE: str(uuid.uuid4()),
        TAG_ATTEMPT: str(attempt or uuid.uuid4()),
    }


def stray(stage: Stage, count: int = 1, *, at: Location = HERE) -> list[ServerView]:
    """Machines with our tags that no row claims."""
    return [stage.cloud.add_server(at, tags()) for _ in range(count)]


def sweep_all(stage: Stage) -> None:
    due.sweeps(stage.clock())
    for pk in Sweep.objects.values_list("pk", flat=True):
        sweep.sweep(pk, stage.world)


def place(zone: str = "eu-1") -> Sweep:
    return Sweep.objects.get(zone=Zone.objects.get(name=zone))


def tick(stage: Stage) -> None:
    """What CLOCK:RECONCILE does, its messages delivered at once."""
    for leak in due.leaks(stage.clock()):
        leaks.collect(leak, stage.world)
    for pk in due.sweeps(stage.clock()):
        sweep.sweep_if_due(pk, stage.world)


def let_pass(stage: Stage, seconds: int, *, every: int = 2) -> None:
    """Time passes, and the clock ticks."""
    for _ in range(0, seconds, every):
        stage.clock.forward(seconds=every)
        tick(stage)


def leak_of(resource_id: str) -> Leak:
    return Leak.objects.select_related("rental").get(rental__resource_id=resource_id)
