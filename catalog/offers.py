"""The catalogue's rows as the values that `placement` plans with."""

from __future__ import annotations

from django.conf import settings

from catalog import fit
from catalog.fit import ModelNeed
from catalog.models import InstanceAvailability, LlmModel
from catalog.placement import Offer


def current_offers() -> tuple[Offer, ...]:
    """Every offer of the catalogue, those that can't be rented now too: the plan says why they are left out."""
    rows = InstanceAvailability.objects.select_related("instance_type__provider", "zone__region")
    return tuple(_offer(row) for row in rows)


def need(llm_model: LlmModel, context_length: int | None = None, concurrency: int | None = None) -> ModelNeed:
    """What the model needs under this load. Raises `fit.InvalidRequest` for a load that the model can't have.

    By default the load is `fit.DEFAULT_CONCURRENCY` sequences of `fit.DEFAULT_CONTEXT_LENGTH` tokens, or of the
    model's own context where that is shorter.
    """
    context = min(llm_model.context_length, fit.DEFAULT_CONTEXT_LENGTH) if context_length is None else context_length
    sequences = fit.DEFAULT_CONCURRENCY if concurrency is None else concurrency
    fit.check_load(context_length=context, concurrency=sequences, model_context_length=llm_model.context_length)
    return ModelNeed(
        model_id=llm_model.model_id,
        parameters=llm_model.parameters,
        precision=llm_model.precision,
        context_length=context,
        concurrency=sequences,
        layers=llm_model.layers,
        attention_heads=llm_model.attention_heads,
        kv_heads=llm_model.kv_heads,
        head_dim=llm_model.head_dim,
        required_vram_gb=llm_model.required_vram_gb,
    )


def _offer(row: InstanceAvailability) -> Offer:
    kind, zone = row.instance_type, row.zone
    return Offer(
        provider=kind.provider.name,
        region=zone.region.name,
        zone=zone.name,
        instance_type=kind.name,
        gpu_name=kind.gpu_name,
        gpu_count=kind.gpu_count,
        vram_per_gpu_gb=kind.vram_per_gpu_gb,
        price_per_hour=row.price_per_hour,
        currency=row.currency,
        stock=row.stock,
        active=kind.is_active,
        enabled=kind.provider.name in settings.ENABLED_PROVIDERS,
        spot_price_per_hour=row.spot_price_per_hour,
        vanished_at=row.vanished_at or kind.vanished_at,
        last_success_at=row.last_success_at,
        last_stockout_at=row.last_stockout_at,
    )
