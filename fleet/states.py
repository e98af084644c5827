"""The states of an instance, the edges between them and how long a state may last, as data.

Everything that knows about states asks here: the models' constraints, the lifecycle, the admin, the API.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models


class Status(models.TextChoices):
    PROVISIONING = "PROVISIONING", "Provisioning"
    BOOTING = "BOOTING", "Booting"
    READY = "READY", "Ready"
    DRAINING = "DRAINING", "Draining"
    TERMINATED = "TERMINATED", "Terminated"
    FAILED = "FAILED", "Failed"


DEFINITIONS: dict[Status, str] = {
    Status.PROVISIONING: "The intent is recorded; the provider has been or will be asked.",
    Status.BOOTING: "The machine exists and runs; its worker is not ready.",
    Status.READY: "The worker is healthy and takes requests.",
    Status.DRAINING: "It takes no new request; it is being shut down.",
    Status.TERMINATED: "The provider has said that nothing of it remains.",
    Status.FAILED: "It can't be brought up or has been lost; what is left of it is being destroyed.",
}

EDGES: frozenset[tuple[Status, Status]] = frozenset(
    {
        (Status.PROVISIONING, Status.BOOTING),
        (Status.PROVISIONING, Status.DRAINING),
        (Status.PROVISIONING, Status.FAILED),
        (Status.BOOTING, Status.READY),
        (Status.BOOTING, Status.DRAINING),
        (Status.BOOTING, Status.FAILED),
        (Status.READY, Status.DRAINING),
        (Status.READY, Status.FAILED),
        (Status.DRAINING, Status.TERMINATED),
        (Status.FAILED, Status.TERMINATED),
    }
)

# A machine may exist, and cost money, in every state but the final one.
FINAL: frozenset[Status] = frozenset({Status.TERMINATED})
LIVE: frozenset[Status] = frozenset(Status) - FINAL
RISING: frozenset[Status] = frozenset({Status.PROVISIONING, Status.BOOTING})
WITH_WORKER: frozenset[Status] = frozenset({Status.BOOTING, Status.READY, Status.DRAINING})
OVER: frozenset[Status] = frozenset({Status.TERMINATED, Status.FAILED})  # what was asked for may be asked for again
BEING_DESTROYED: frozenset[Status] = frozenset({Status.DRAINING, Status.FAILED})


def may_move(old: Status, new: Status) -> bool:
    return (old, new) in EDGES


def deadline(status: Status) -> timedelta | None:
    """How long an instance may stay in `status` before it is given up (or, for what is being destroyed,
    before an alarm is raised); None where a state may last for ever."""
    seconds = {
        Status.PROVISIONING: settings.PROVISIONING_DEADLINE,
        Status.BOOTING: settings.BOOT_DEADLINE,
        Status.DRAINING: settings.DESTROY_ALARM_AFTER,
        Status.FAILED: settings.DESTROY_ALARM_AFTER,
    }.get(status)
    return None if seconds is None else timedelta(seconds=seconds)
