"""Give an instance up. What is left of it is destroyed by the termination stage, for as long as that takes."""

from __future__ import annotations

import logging
from datetime import datetime

from fleet.lifecycle import index
from fleet.lifecycle.world import ORCHESTRATOR, World
from fleet.models import Instance
from fleet.states import Status

log = logging.getLogger(__name__)


def fail(instance: Instance, world: World, reason: str) -> datetime:
    """Move to FAILED and stop routing to it. Returns when its destruction is due: now."""
    now = world.now()
    moved = instance.move(
        Status.FAILED,
        reason=reason,
        actor=ORCHESTRATOR,
        at=now,
        lease=instance.lock_token,
        next_attempt_at=now,
    )
    if moved:
        log.error("%s failed: %s", instance, reason)
        index.withdraw(instance, world)
    return now
