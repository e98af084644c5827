"""BOOTING and READY, by the provider's word: does the machine still run, and did its worker come up in time?

What the worker says of itself is read by `liveness`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings

from fleet.lifecycle import index, termination
from fleet.lifecycle.attempts import live_attempt, location_of, provider_of
from fleet.lifecycle.failing import fail
from fleet.lifecycle.world import World, next_look
from fleet.models import Instance
from fleet.providers.base import ABSENT, ServerState
from fleet.states import Status, deadline

POLL, _LONGEST_POLL = timedelta(seconds=15), timedelta(minutes=1)  # between two looks at a machine that runs
_DEAD = frozenset({ServerState.STOPPED, ServerState.STOPPING})
# Over this many GB of weights, pulling and loading them takes more than twice as long (docs: providers).
_LARGE_MODEL_GB = 70


def step(instance: Instance, world: World) -> datetime | None:
    """BOOTING."""
    if instance.termination_requested_at is not None:
        return termination.begin(instance, world)
    limit = boot_deadline(instance)
    if world.now() > instance.status_changed_at + limit:
        return fail(instance, world, f"its worker was not ready within {limit}: {instance.worker_detail or 'silent'}")
    trouble = _machine_trouble(instance, world)
    if trouble:
        return fail(instance, world, trouble)
    index.publish(instance, world)
    return next_look(world.now(), since=instance.status_changed_at, soonest=POLL, latest=_LONGEST_POLL)


def check_ready(instance: Instance, world: World) -> datetime | None:
    """READY: due when an end is requested, or while the worker is silent."""
    if instance.termination_requested_at is not None:
        return termination.begin(instance, world)
    trouble = _machine_trouble(instance, world)
    if trouble:
        # Only of what has served: a machine that dies while it boots could do so for ever.
        return fail(instance, world, trouble, replace_spot=True)
    stale_since = world.now() - timedelta(seconds=settings.HEARTBEAT_STALE_AFTER)
    silent = instance.last_heartbeat_at is None or instance.last_heartbeat_at < stale_since
    return world.now() + POLL if silent else None


def boot_deadline(instance: Instance) -> timedelta:
    limit = deadline(Status.BOOTING) or timedelta.max
    large = instance.deployment.model.required_vram_gb > _LARGE_MODEL_GB
    return limit * 2.25 if large else limit


def _machine_trouble(instance: Instance, world: World) -> str:
    """In words, what is wrong with the machine by its provider's word; empty if it runs."""
    attempt = live_attempt(instance)
    if attempt is None:
        return "no machine is recorded for it"
    seen = provider_of(attempt, world).get(attempt.handle(location_of(attempt)))
    if seen is ABSENT:
        return "the provider no longer knows its machine"
    if seen.state in _DEAD:
        return f"its machine is {seen.state} by the provider's word, though nobody asked for that"
    if seen.ip_address and seen.ip_address != instance.ip_address:
        instance.write(ip_address=seen.ip_address)
        index.publish(instance, world)
    return ""
