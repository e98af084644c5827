"""From one offer of the plan to the next: at most one attempt at a time, and each refusal kept with its reason."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction

from catalog.placement import Plan, RankedOffer
from fleet import placing
from fleet.lifecycle import user_data
from fleet.lifecycle.attempts import close, location_of
from fleet.lifecycle.world import POLL, World
from fleet.models import Attempt, Instance
from fleet.providers.base import ProviderError, QuotaError

log = logging.getLogger(__name__)


def next_attempt(instance: Instance, world: World) -> Attempt | None:
    """Open an attempt on the best offer of the plan that is not ruled out; None if none is left."""
    tried = list(instance.attempts.select_related("instance_type__provider", "zone").order_by("ordinal"))
    for ranked in Plan.from_json(instance.deployment.request.plan).ranked:
        if not _ruled_out(ranked, tried):
            return _open(instance, ranked, ordinal=len(tried) + 1, world=world)
    return None


def reject(instance: Instance, attempt: Attempt, error: ProviderError, world: World) -> datetime:
    """Record the provider's refusal. Returns when the next step is due."""
    log.warning("%s: offer rejected (%s): %s", instance, error.code, error)
    if not attempt.server_id:
        close(instance, attempt, world, code=error.code, detail=str(error))
        return world.now()
    # Refused at power-on: the machine exists, stopped. It goes before another offer is tried.
    attempt.error_code, attempt.detail = error.code, str(error)
    attempt.save(update_fields=["error_code", "detail"])
    return world.now()


def clear_away(instance: Instance, attempt: Attempt, world: World) -> datetime:
    """Destroy what a rejected attempt left. Returns when the next step is due."""
    result = world.provider(instance.provider.name).destroy_step(attempt.handle(location_of(attempt)))
    if result.is_complete:
        close(instance, attempt, world, code=attempt.error_code, detail=attempt.detail)
    return world.now() + (timedelta(0) if result.is_complete else POLL)


def no_offer_left(instance: Instance) -> str:
    """Why, in words: each offer that was tried with what became of it."""
    refusals = [
        f"{attempt.instance_type.name} in {attempt.zone.name}: {attempt.error_code}"
        for attempt in instance.attempts.select_related("instance_type", "zone").order_by("ordinal")
    ]
    return "every offer of the plan was refused (" + "; ".join(refusals) + ")"


def _ruled_out(ranked: RankedOffer, tried: list[Attempt]) -> bool:
    offer = ranked.offer
    for attempt in tried:
        if (attempt.instance_type.provider.name, attempt.instance_type.name) != (offer.provider, offer.instance_type):
            continue
        # A quota counts the type in the whole account, a stockout only in its zone.
        if attempt.zone.name == offer.zone or attempt.error_code == QuotaError.code:
            return True
    return False


def _open(instance: Instance, ranked: RankedOffer, *, ordinal: int, world: World) -> Attempt:
    columns = placing.columns(ranked)
    with transaction.atomic():
        instance.write(provider_instance_id=None, **columns)
        attempt = Attempt(
            instance=instance,
            ordinal=ordinal,
            instance_type=instance.instance_type,
            zone=instance.zone,
            price_per_hour=instance.price_per_hour,
            currency=instance.currency,
            started_at=world.now(),
        )
        attempt.bootstrap_sha256 = user_data.bootstrap_sha256(attempt)
        attempt.save(force_insert=True)
    return attempt
