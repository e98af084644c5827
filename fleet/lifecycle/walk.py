"""From one offer of the plan to the next: at most one attempt at a time, and each refusal kept with its reason."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from catalog.placement import Offer, Plan, RankedOffer
from fleet import accounts, placing
from fleet.lifecycle import ssh_keys, stock, user_data
from fleet.lifecycle.attempts import close, destroy_step
from fleet.lifecycle.world import World, next_look
from fleet.models import Attempt, Instance
from fleet.providers.base import CapacityError, ProviderError, QuotaError

log = logging.getLogger(__name__)

_LONGEST_WAIT = timedelta(minutes=1)  # for what was given up to be gone


@dataclass(frozen=True, slots=True)
class Pause:
    """Every offer that is left was refused to somebody a moment ago: look again then."""

    until: datetime


def next_attempt(instance: Instance, world: World) -> Attempt | Pause | None:
    """Open an attempt on the first offer of the walk that is neither ruled out nor cooling; None if none is left."""
    tried = list(instance.attempts.select_related("instance_type__provider", "zone").order_by("ordinal"))
    left = [
        (ranked, account)
        for ranked, account in _ways(Plan.from_json(instance.deployment.request.plan))
        if not _ruled_out(ranked.offer, account, tried)
    ]
    if not left:
        return None
    now = world.now()
    cooling = stock.cooling([ranked.offer.instance_type for ranked, _ in left], now=now)
    for ranked, account in left:
        if cooling.until(ranked.offer, account) <= now:
            opened = _open(instance, ranked, account, ordinal=len(tried) + 1, now=now)
            return opened or Pause(now)
    return Pause(min(cooling.until(ranked.offer, account) for ranked, account in left))


def reject(instance: Instance, attempt: Attempt, error: ProviderError, world: World) -> datetime:
    """Record the provider's refusal, and what it teaches. Returns when the next step is due."""
    log.warning("%s: offer rejected (%s): %s", instance, error.code, error)
    if isinstance(error, CapacityError):
        stock.sold_out(attempt, now=world.now())
    if isinstance(error, QuotaError):
        stock.quota_refused(attempt, now=world.now())
    if attempt.server_id:
        # Refused at power-on: the machine exists, stopped. It goes before another offer is tried.
        give_up(instance, attempt, code=error.code, detail=str(error))
    elif attempt.asked_at is None:
        # Else it was asked for before, by a call whose answer was lost: the attempt stays open until that is settled.
        close(instance, attempt, world, code=error.code, detail=str(error))
    return world.now()


def give_up(instance: Instance, attempt: Attempt, *, code: str, detail: str) -> None:
    """Nothing will come of its machine: what is left of it is cleared away next. Raises LeaseLost if another worker
    has taken over, who may have brought it up after all."""
    with transaction.atomic():
        instance.write(lock_token=instance.lock_token)
        attempt.error_code, attempt.detail = code, detail
        attempt.save(update_fields=["error_code", "detail"])


def clear_away(instance: Instance, attempt: Attempt, world: World) -> datetime:
    """Destroy what an attempt left that was given up. Returns when the next step is due."""
    if not destroy_step(attempt, world).is_complete:
        since = attempt.asked_at or attempt.started_at
        return next_look(world.now(), since=since, share=10, latest=_LONGEST_WAIT)
    close(instance, attempt, world)
    return world.now()


def no_offer_left(instance: Instance) -> str:
    """Why, in words: each offer that was tried with what became of it."""
    refusals = [
        f"{attempt.instance_type.name} in {attempt.zone.name}: {attempt.error_code}"
        for attempt in instance.attempts.select_related("instance_type", "zone").order_by("ordinal")
    ]
    providers = {row.offer.provider for row in Plan.from_json(instance.deployment.request.plan).ranked}
    nobody = [accounts.none_usable(provider) for provider in sorted(providers) if not accounts.usable(provider)]
    refused = ["every offer of the plan was refused (" + "; ".join(refusals) + ")"] if refusals else []
    return "; ".join([*refused, *nobody]) or "the plan has no offer"


def _ways(plan: Plan) -> Iterator[tuple[RankedOffer, uuid.UUID | None]]:
    """The offers in the order of the walk, each in every account that may rent it."""
    known: dict[str, Sequence[uuid.UUID | None]] = {}
    for ranked in plan.walk():
        provider = ranked.offer.provider
        if provider not in known:
            known[provider] = accounts.usable(provider)
        for account in known[provider]:
            yield ranked, account


def _ruled_out(offer: Offer, account: uuid.UUID | None, tried: Sequence[Attempt]) -> bool:
    return any(_speaks_against(attempt, offer, account) for attempt in tried)


def _speaks_against(attempt: Attempt, offer: Offer, account: uuid.UUID | None) -> bool:
    """A try rules its own offer out; a stockout that of every account in the zone, a quota the type in the account."""
    kind = attempt.instance_type
    if (kind.provider.name, kind.name) != (offer.provider, offer.instance_type):
        return False
    if attempt.zone.name == offer.zone:
        return attempt.was_in(account) or attempt.error_code == CapacityError.code
    return attempt.was_in(account) and attempt.error_code == QuotaError.code


def _open(
    instance: Instance, ranked: RankedOffer, account: uuid.UUID | None, *, ordinal: int, now: datetime
) -> Attempt | None:
    """None: the account has been removed, or switched off, since it was chosen."""
    columns = placing.columns(ranked)
    with transaction.atomic():
        if not accounts.hold(account):
            return None
        instance.write(provider_instance_id=None, **columns)
        attempt = Attempt(
            instance=instance,
            ordinal=ordinal,
            instance_type=instance.instance_type,
            zone=instance.zone,
            account_id=account,
            spot=ranked.offer.spot,
            price_per_hour=instance.price_per_hour,
            currency=instance.currency,
            authorized_keys=ssh_keys.of_now(instance.provider),
            started_at=now,
        )
        attempt.bootstrap_sha256 = user_data.bootstrap_sha256(attempt)
        attempt.save(force_insert=True)
    return attempt
