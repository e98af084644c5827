"""The offers of a plan: those that can be rented, and one as the columns of the instance that is placed on it."""

from __future__ import annotations

from typing import Any

from catalog.models import InstanceType, Zone
from catalog.placement import Plan, RankedOffer, RejectedOffer
from fleet import accounts


def rentable(plan: Plan) -> Plan:
    """The plan without the offers of providers where nobody may rent: `no_account`."""
    without = {provider for provider in {row.offer.provider for row in plan.ranked} if not accounts.usable(provider)}
    refused = [row.offer for row in plan.ranked if row.offer.provider in without]
    return Plan(
        ranked=tuple(row for row in plan.ranked if row.offer.provider not in without),
        rejected=(
            *plan.rejected,
            *(RejectedOffer(offer, accounts.none_usable(offer.provider), "no_account") for offer in refused),
        ),
    )


def columns(ranked: RankedOffer) -> dict[str, Any]:
    """What an instance records of its offer: where, what, at which price, and a snapshot of the GPUs."""
    offer = ranked.offer
    instance_type = InstanceType.objects.select_related("provider").get(
        provider__name=offer.provider, name=offer.instance_type
    )
    zone = Zone.objects.select_related("region").get(
        region__provider=instance_type.provider, region__name=offer.region, name=offer.zone
    )
    return {
        "provider": instance_type.provider,
        "zone": zone,
        "instance_type": instance_type,
        "price_per_hour": offer.price_per_hour,
        "currency": offer.currency,
        "gpu_profile": _gpu_profile(ranked),
    }


def _gpu_profile(ranked: RankedOffer) -> dict[str, Any]:
    """`name` and `vram` (GB per GPU) are the schema's; the rest is what the engine is started with."""
    return {
        "name": ranked.offer.gpu_name,
        "vram": ranked.offer.vram_per_gpu_gb,
        "count": ranked.offer.gpu_count,
        "tensor_parallel_size": ranked.tensor_parallel_size,
        "weights_gb": ranked.weights_gb,
        "kv_cache_gb": ranked.kv_cache_gb,
    }
