"""DRAINING and FAILED: let what runs end, destroy the machine, and believe only the provider that it is gone."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import redis
from django.conf import settings

from fleet.lifecycle import index
from fleet.lifecycle.attempts import close, destroy_step, live_attempt, location_of, provider_of, remember
from fleet.lifecycle.world import ORCHESTRATOR, World, next_look
from fleet.models import Attempt, Instance
from fleet.states import Status

log = logging.getLogger(__name__)

# A heartbeat that comes this long after the drain began has seen every request that was routed before it.
_SETTLING = timedelta(seconds=2)
# Between two steps of a destruction that gets nowhere. It is never given up.
_LONGEST_WAIT = timedelta(minutes=5)


def begin(instance: Instance, world: World) -> datetime:
    """From the intent to DRAINING. Routing stops before anything is destroyed."""
    now = world.now()
    # Only a worker that took requests has something to finish.
    drain = instance.drain and instance.status == Status.READY
    # No heartbeat that could end the drain comes sooner.
    due = now + _SETTLING if drain else now
    moved = instance.move(
        Status.DRAINING,
        reason=instance.termination_reason or "termination requested",
        actor=instance.termination_actor or ORCHESTRATOR,
        at=now,
        lease=instance.lock_token,
        next_attempt_at=due,
        drain=drain,
    )
    if moved:
        index.publish(instance, world)
    return due


def step(instance: Instance, world: World) -> datetime | None:
    if instance.status == Status.DRAINING and not _drained(instance, world):
        return next_look(world.now(), since=instance.status_changed_at)
    attempt = live_attempt(instance)
    if attempt is not None and not _destroyed(instance, attempt, world):
        _alarm_if_stuck(instance, world)
        # Sooner than elsewhere: until it is seen to be gone, the ledger counts.
        return next_look(world.now(), since=_destroying_since(instance, world), share=10, latest=_LONGEST_WAIT)
    now = world.now()
    moved = instance.move(
        Status.TERMINATED,
        reason="the provider says that nothing of it remains" if attempt else "no machine was left",
        actor=ORCHESTRATOR,
        at=now,
        lease=instance.lock_token,
        terminated_at=now,
        next_attempt_at=None,
    )
    if moved:
        index.withdraw(instance, world)
    return None


def _drained(instance: Instance, world: World) -> bool:
    if not instance.drain:
        return True
    if world.now() >= _drains_until(instance):
        log.warning("%s: still busy at the end of its time, ending it anyway", instance)
        return True
    try:
        # Published anew each time: Redis may have been away, or flushed, when the drain began.
        index.publish_or_raise(instance, world)
        pulse = world.publisher.pulses([str(instance.pk)]).get(str(instance.pk))
    except redis.RedisError as error:
        log.warning("%s: can't see whether it is drained: %s", instance, error)
        return False
    if pulse is None:
        return False
    settled_at = (instance.status_changed_at + _SETTLING).timestamp()
    return pulse.last_heartbeat >= settled_at and pulse.worker_load == 0 and pulse.current_load == 0


def _drains_until(instance: Instance) -> datetime:
    """At the latest when its provider takes the machine back, if it has announced that."""
    limit = instance.status_changed_at + timedelta(seconds=settings.DRAIN_TIMEOUT)
    return limit if instance.interrupted_at is None else min(limit, instance.interrupted_at)


def _destroying_since(instance: Instance, world: World) -> datetime:
    """About: how long the drain took is not written down."""
    return min(world.now(), _drains_until(instance)) if instance.drain else instance.status_changed_at


def _destroyed(instance: Instance, attempt: Attempt, world: World) -> bool:
    """Take the next step; True once the provider has said that nothing of the attempt exists."""
    if attempt.server_id or _found(instance, attempt, world):
        gone = destroy_step(attempt, world).is_complete
    else:
        lag = provider_of(attempt, world).listing_lag
        gone = attempt.asked_at is None or world.now() >= attempt.asked_at + lag
    if gone:
        close(instance, attempt, world)
    return gone


def _found(instance: Instance, attempt: Attempt, world: World) -> bool:
    """A machine whose create was never answered is looked for by its tag."""
    view = provider_of(attempt, world).find_attempt(str(attempt.pk), location_of(attempt))
    if view is None:
        return False
    remember(instance, attempt, view, world)
    return True


def _alarm_if_stuck(instance: Instance, world: World) -> None:
    limit = timedelta(seconds=settings.DESTROY_ALARM_AFTER)
    if world.now() > instance.status_changed_at + limit:
        log.error("ALARM %s: its machine is still not gone after %s, and may bill", instance, limit)
