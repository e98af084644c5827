"""A spot machine that its provider took back is stood in for by a new instance of the same request, once."""

from __future__ import annotations

import logging
from datetime import datetime

from fleet import worker_keys
from fleet.lifecycle import stock
from fleet.lifecycle.attempts import live_attempt
from fleet.lifecycle.world import ORCHESTRATOR
from fleet.models import Deployment, Instance, Transition
from fleet.states import Status

log = logging.getLogger(__name__)


def start(instance: Instance, *, now: datetime) -> Instance | None:
    """Record, in the caller's transaction, that another instance is wanted in the place of `instance`.

    None, and nothing is written: its machine is not a spot one, it has a stand-in already, or somebody had asked for
    its end. The new row is due at once (CLOCK:WAKE finds it) and walks the plan of the request like any other; what
    was taken back counts as sold out there. It fails like any other too, when no offer is left: nothing is replaced
    that never had a machine taken from it.
    """
    # Locked: two looks at the same notice, or a notice and the end itself, come one after the other.
    gone = Instance.objects.select_for_update(of=("self",)).select_related("deployment").get(pk=instance.pk)
    attempt = live_attempt(gone)
    if attempt is None or not attempt.spot or gone.termination_requested_at is not None:
        return None
    if Deployment.objects.filter(replaces=gone).exists():
        return None
    stock.sold_out(attempt, now=now)
    return _record(gone, now=now)


def _record(gone: Instance, *, now: datetime) -> Instance:
    stand_in = Instance.objects.create(
        # Where it was, until the walk of the plan has found another place.
        provider_id=gone.provider_id,
        zone_id=gone.zone_id,
        instance_type_id=gone.instance_type_id,
        price_per_hour=gone.price_per_hour,
        currency=gone.currency,
        gpu_profile=gone.gpu_profile,
        api_key=worker_keys.new_engine_key(),
        status=Status.PROVISIONING,
        status_changed_at=now,
        status_reason="waiting for the orchestrator",
        next_attempt_at=now,
    )
    placed = gone.deployment
    Deployment.objects.create(request_id=placed.request_id, model_id=placed.model_id, instance=stand_in, replaces=gone)
    Transition.objects.create(
        instance=stand_in,
        from_status="",
        to_status=Status.PROVISIONING,
        reason=f"stands in for {gone}, whose spot machine the provider took back",
        actor=ORCHESTRATOR,
        at=now,
    )
    log.warning("%s stands in for %s", stand_in, gone)
    return stand_in
