"""PROVISIONING: walk the plan's offers until a machine runs.

The order is what keeps money safe: the attempt is committed before the provider is asked, the machine carries the
attempt's id, its ids are committed before power-on, and an unclear create is settled before another offer is tried.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta

from fleet.lifecycle import boot, index, server_spec, ssh_keys, stock, termination, user_data, walk
from fleet.lifecycle.attempts import live_attempt, location_of, note_asked, provider_of, remember
from fleet.lifecycle.failing import fail
from fleet.lifecycle.world import ORCHESTRATOR, World, next_look
from fleet.models import Attempt, Instance
from fleet.providers.base import (
    ABSENT,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidSpec,
    NotFound,
    Provider,
    ProviderError,
    QuotaError,
    ServerState,
    ServerView,
)
from fleet.states import Status, deadline

log = logging.getLogger(__name__)

_GRACE_OF_A_NEW_MACHINE = timedelta(minutes=2)  # how long "not found" after a create means "not yet visible"


def step(instance: Instance, world: World) -> datetime | None:
    if instance.termination_requested_at is not None:
        return termination.begin(instance, world)
    limit = deadline(Status.PROVISIONING)
    if limit and world.now() > instance.status_changed_at + limit:
        last = instance.last_error or instance.status_reason
        return fail(instance, world, f"no running machine within {limit}; last: {last}")
    attempt = live_attempt(instance) or walk.next_attempt(instance, world)
    if attempt is None:
        return fail(instance, world, walk.no_offer_left(instance))
    if isinstance(attempt, walk.Pause):
        until = f"{attempt.until:%H:%M:%S} UTC"
        instance.write(status_reason=f"every offer that is left was refused a moment ago; next try at {until}")
        return attempt.until
    if attempt.error_code:
        return walk.clear_away(instance, attempt, world)
    try:
        return _bring_up(instance, attempt, world)
    except (CapacityError, QuotaError) as error:
        return walk.reject(instance, attempt, error, world)
    except (AuthError, InvalidSpec) as error:
        walk.reject(instance, attempt, error, world)
        log.error("ALARM %s: the provider refuses (%s): %s", instance, error.code, error)
        return fail(instance, world, f"the provider refused ({error.code}): {error}")


def _bring_up(instance: Instance, attempt: Attempt, world: World) -> datetime | None:
    provider = provider_of(attempt, world)
    view = _machine(instance, attempt, provider, world)
    if view is not None and view.state is ServerState.STOPPED:
        view = _switch_on(instance, attempt, provider, view)
    if view is not None:
        # Its address is billed by itself, and came with the power: whatever happens to the machine from here on.
        remember(instance, attempt, view, world)
    if view is None or view.state is not ServerState.RUNNING or view.ip_address is None:
        return next_look(world.now(), since=attempt.asked_at or attempt.started_at)
    now = world.now()
    stock.succeeded(attempt, now=now)
    moved = instance.move(
        Status.BOOTING,
        reason=f"{instance.instance_type.name} runs in {instance.zone.name} at {view.ip_address}",
        actor=ORCHESTRATOR,
        at=now,
        lease=instance.lock_token,
        ip_address=view.ip_address,
    )
    if moved:
        index.publish(instance, world)
    return now + boot.POLL


def _switch_on(instance: Instance, attempt: Attempt, provider: Provider, view: ServerView) -> ServerView:
    provider.configure(view.handle, user_data.of(instance, attempt))
    provider.start(view.handle)
    seen = provider.get(view.handle)
    return view if seen is ABSENT else seen


def _machine(instance: Instance, attempt: Attempt, provider: Provider, world: World) -> ServerView | None:
    """The attempt's machine, made if it is not there; None while that is not clear."""
    if attempt.server_id:
        return _look_again(instance, attempt, provider, world)
    if attempt.asked_at is not None:
        # Asked before, and the answer was lost with the caller or on the way. Settle that first.
        view = provider.find_attempt(str(attempt.pk), location_of(attempt))
        if view is not None:
            return remember(instance, attempt, view, world)
        if world.now() < attempt.asked_at + provider.listing_lag:
            return None
    spec = server_spec.of(instance, attempt, ssh_key_ids=ssh_keys.registered(attempt, provider))
    note_asked(instance, attempt, at=world.now())
    try:
        view = provider.ensure_server(spec)
    except AmbiguousOutcome as error:
        log.warning("%s: unclear whether a machine was made, settling: %s", instance, error)
        note_asked(instance, attempt, at=world.now(), detail=str(error))
        return None
    except ProviderError:
        # An answer, and a clear one: nothing was made, so there is nothing to settle.
        note_asked(instance, attempt, at=None)
        raise
    return remember(instance, attempt, view, world)


def _look_again(instance: Instance, attempt: Attempt, provider: Provider, world: World) -> ServerView | None:
    handle = attempt.handle(location_of(attempt))
    seen = provider.get(handle)
    if seen is not ABSENT:
        return seen
    with suppress(NotFound):
        # Where a create is a start too, only the start knows that the machine ended for want of capacity.
        provider.start(handle)
    if world.now() > attempt.started_at + _GRACE_OF_A_NEW_MACHINE:
        # Its volumes may be left: they go before another offer is tried.
        walk.give_up(instance, attempt, code="vanished", detail="the provider no longer knows the machine")
    return None
