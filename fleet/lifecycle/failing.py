"""Give an instance up. What is left of it is destroyed by the termination stage, for as long as that takes."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction

from fleet.lifecycle import index, replacement
from fleet.lifecycle.world import ORCHESTRATOR, World
from fleet.models import Instance
from fleet.states import Status

log = logging.getLogger(__name__)


def fail(instance: Instance, world: World, reason: str, *, replace_spot: bool = False) -> datetime:
    """Move to FAILED and stop routing to it. Returns when its destruction is due: now.

    `replace_spot`: its machine is gone by the provider's word, so that a spot one is stood in for.
    """
    now = world.now()
    with transaction.atomic():
        moved = instance.move(
            Status.FAILED,
            reason=reason,
            actor=ORCHESTRATOR,
            at=now,
            lease=instance.lock_token,
            next_attempt_at=now,
        )
        if moved and replace_spot:
            replacement.start(instance, now=now)
    if moved:
        log.error("%s failed: %s", instance, reason)
        index.withdraw(instance, world)
    return now
