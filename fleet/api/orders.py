"""What `POST /deployments` takes."""

from __future__ import annotations

from decimal import Decimal

from rest_framework import serializers

from catalog.placement import Limits
from fleet.commands import DeploymentOrder
from fleet.orders import MAX_REPLICAS
from routing.api.strict import StrictSerializer

_LARGEST = 2**31 - 1  # of an integer column


class NamesField(serializers.ListField):
    child = serializers.CharField(max_length=50)

    def __init__(self, **kwargs: object) -> None:
        super().__init__(required=False, max_length=100, **kwargs)  # type: ignore[arg-type]


class LimitsSerializer(StrictSerializer):
    """Where the model may be placed; what is left out, or empty, does not limit."""

    providers = NamesField(help_text='"scaleway", "aws", "mock"')
    regions = NamesField(help_text='"fr-par"')
    zones = NamesField(help_text='"fr-par-2"')
    instance_types = NamesField(help_text='"H100-1-80G"')
    max_price_per_hour = serializers.DecimalField(
        max_digits=12,
        decimal_places=6,
        min_value=Decimal(0),
        required=False,
        allow_null=True,
        help_text="Of one instance",
    )
    currency = serializers.RegexField("^[A-Z]{3}$", required=False, help_text="Of the price; ISO 4217")
    spot = serializers.BooleanField(
        required=False, help_text="Only machines that the provider may take back, at their lower price"
    )


class DeploymentOrderSerializer(StrictSerializer):
    model = serializers.CharField(max_length=255, help_text="The Hugging Face id")
    replicas = serializers.IntegerField(
        min_value=1, max_value=MAX_REPLICAS, default=1, help_text="Deployments to make, each on its own instance"
    )
    context_length = serializers.IntegerField(
        min_value=1, max_value=_LARGEST, required=False, allow_null=True, help_text="Tokens that a sequence may have"
    )
    concurrency = serializers.IntegerField(
        min_value=1,
        max_value=_LARGEST,
        required=False,
        allow_null=True,
        help_text="Sequences of that length which the KV cache must hold at once",
    )
    limits = LimitsSerializer(required=False)

    def to_order(self) -> DeploymentOrder:
        """The validated body as the value that the commands take."""
        asked = self.validated_data
        return DeploymentOrder(
            model_id=asked["model"],
            replicas=asked["replicas"],
            context_length=asked.get("context_length"),
            concurrency=asked.get("concurrency"),
            limits=Limits.from_json(asked.get("limits", {})),
        )
