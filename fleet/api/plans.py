"""A plan as the API shows it: the offer chosen, all that fit, and the rest with the reasons."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.models.instance_type import Stock
from catalog.placement import Plan


def shown(plan: Plan) -> dict[str, Any]:
    """The plan as JSON, with the best offer called by its role."""
    rows = plan.to_json()
    ranked = rows["ranked"]
    return {"chosen": ranked[0] if ranked else None, "ranked": ranked, "rejected": rows["rejected"]}


class OfferSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    region = serializers.CharField()
    zone = serializers.CharField()
    instance_type = serializers.CharField()
    gpu_name = serializers.CharField()
    gpu_count = serializers.IntegerField()
    vram_per_gpu_gb = serializers.IntegerField()
    price_per_hour = serializers.DecimalField(max_digits=12, decimal_places=6)
    currency = serializers.CharField(help_text="ISO 4217")
    stock = serializers.ChoiceField(choices=Stock.choices)
    spot = serializers.BooleanField(help_text="The provider may take the machine back")
    spot_price_per_hour = serializers.DecimalField(
        max_digits=12, decimal_places=6, allow_null=True, help_text="Null: it rents none"
    )
    vanished_at = serializers.DateTimeField(allow_null=True, help_text="Since when the provider no longer lists it")
    last_success_at = serializers.DateTimeField(
        allow_null=True, help_text="When we last rented it, as known to the plan"
    )
    last_stockout_at = serializers.DateTimeField(
        allow_null=True, help_text="When it was last out of stock at our own try"
    )


class RankedOfferSerializer(serializers.Serializer[Any]):
    offer = OfferSerializer()
    tensor_parallel_size = serializers.IntegerField(help_text="GPUs over which the engine splits the model")
    vram_needed_gb = serializers.FloatField(help_text="Weights and KV cache")
    weights_gb = serializers.FloatField()
    kv_cache_gb = serializers.FloatField(help_text="For `concurrency` sequences of `context_length` tokens")
    vram_available_gb = serializers.FloatField()


class RejectedOfferSerializer(serializers.Serializer[Any]):
    offer = OfferSerializer()
    reason = serializers.CharField()
    code = serializers.CharField()


class PlanSerializer(serializers.Serializer[Any]):
    """Where a model can be placed."""

    chosen = RankedOfferSerializer(allow_null=True, help_text="The first of `ranked`; null: nothing fits")
    ranked = RankedOfferSerializer(many=True, help_text="What fits, best first")
    rejected = RejectedOfferSerializer(many=True, help_text="What does not, each with the reason")
