"""A plan as a table that an operator can read."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from catalog.admin import columns
from catalog.placement import Offer, Plan, RankedOffer

_SHOWN_AT_ONCE = 5  # offers that fit; the others are behind a click


def plan_table(plan: Plan, *, headline: str = "", intro: str = "") -> SafeString:
    """`headline`: what the plan comes to; by default only that nothing fits, where nothing does."""
    context = {
        "best": [_ranked_row(ranked) for ranked in plan.ranked[:_SHOWN_AT_ONCE]],
        "others": [_ranked_row(ranked) for ranked in plan.ranked[_SHOWN_AT_ONCE:]],
        "rejected": [{**_offer_row(rejected.offer), "reason": rejected.reason} for rejected in plan.rejected],
        "headline": headline if plan.ranked else "No offer fits.",
        "intro": intro,
    }
    return render_to_string("admin/catalog/plan.html", context)


def _ranked_row(ranked: RankedOffer) -> dict[str, Any]:
    return {
        **_offer_row(ranked.offer),
        "needed": f"{ranked.vram_needed_gb:.1f} GB",
        "parts": f"{ranked.weights_gb:.1f} GB of weights, {ranked.kv_cache_gb:.1f} GB of KV cache",
        "available": f"{ranked.vram_available_gb:.1f} GB",
        "tensor_parallel_size": ranked.tensor_parallel_size,
    }


def _offer_row(offer: Offer) -> dict[str, Any]:
    return {
        "provider": offer.provider,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "gpus": f"{offer.gpu_count} x {offer.gpu_name} {offer.vram_per_gpu_gb} GB",
        "price": columns.price(offer.price_per_hour, offer.currency) + (" (spot)" if offer.spot else ""),
        "stock": columns.stock_badge(offer.stock),
        "learned": columns.learned(offer.last_success_at, offer.last_stockout_at),
    }
