"""The catalogue's rows from outside. `provider`, `region`, `zone` are names; what ends in `_id` is a UUID."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog import hand_edits, model_names
from catalog.api.fields import ByName, RowSerializer
from catalog.hand_edits import SyncedRow
from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone


class ProviderSerializer(RowSerializer):
    class Meta:
        model = Provider
        fields = ["id", "name", "description"]


class RegionSerializer(RowSerializer):
    fixed = ("provider",)
    provider = ByName(queryset=Provider.objects.all(), help_text="The provider's name")

    class Meta:
        model = Region
        fields = ["id", "provider", "name"]


class ZoneSerializer(RowSerializer):
    fixed = ("region_id",)
    provider = serializers.CharField(source="region.provider.name", read_only=True)
    region = serializers.CharField(source="region.name", read_only=True)
    region_id = serializers.PrimaryKeyRelatedField(queryset=Region.objects.all(), source="region")

    class Meta:
        model = Zone
        fields = ["id", "provider", "region", "region_id", "name"]


class SyncedRowSerializer(RowSerializer):
    edited_by_hand = serializers.SerializerMethodField(help_text="The columns that a sync with the provider keeps")

    def get_edited_by_hand(self, row: SyncedRow) -> list[str]:
        return hand_edits.edited(row)


class AvailabilitySerializer(SyncedRowSerializer):
    """Where a type is to be had, and at what price."""

    zone_id = serializers.UUIDField(read_only=True)
    zone = serializers.CharField(source="zone.name", read_only=True)
    region = serializers.CharField(source="zone.region.name", read_only=True)

    class Meta:
        model = InstanceAvailability
        fields = [
            "zone_id",
            "zone",
            "region",
            "price_per_hour",
            "currency",
            "spot_price_per_hour",
            "stock",
            "vanished_at",
            "last_success_at",
            "last_stockout_at",
            "edited_by_hand",
            "updated_at",
        ]
        read_only_fields = ["vanished_at", "last_success_at", "last_stockout_at"]


class InstanceTypeSerializer(SyncedRowSerializer):
    fixed = ("provider",)
    provider = ByName(queryset=Provider.objects.all(), help_text="The provider's name")
    vram_gb = serializers.IntegerField(read_only=True, help_text="Of all its GPUs")
    availability = AvailabilitySerializer(
        source="availabilities", many=True, read_only=True, help_text="Its offers: one per zone that has it"
    )

    class Meta:
        model = InstanceType
        fields = [
            "id",
            "provider",
            "name",
            "gpu_name",
            "gpu_count",
            "vram_per_gpu_gb",
            "vram_gb",
            "relative_speed",
            "is_active",
            "vanished_at",
            "edited_by_hand",
            "availability",
        ]
        read_only_fields = ["vanished_at"]


class SshKeySerializer(RowSerializer):
    fixed = ("provider", "public_key")
    provider = ByName(queryset=Provider.objects.all(), help_text="The provider's name")
    provider_key_id = serializers.CharField(read_only=True, allow_null=True, help_text="The key's id at the provider")

    class Meta:
        model = SshKey
        fields = ["id", "provider", "name", "public_key", "provider_key_id", "created_at"]


_NAMES = ("model_id", "aliases", "fallbacks")


class ModelSerializer(RowSerializer):
    class Meta:
        model = LlmModel
        fields = [
            "id",
            "name",
            "model_id",
            "is_active",
            "context_length",
            "parameters",
            "precision",
            "required_vram_gb",
            "layers",
            "attention_heads",
            "kv_heads",
            "head_dim",
            "aliases",
            "fallbacks",
            "routing",
            "max_concurrency",
            "first_byte_timeout",
            "input_price_per_million",
            "output_price_per_million",
            "updated_at",
        ]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Must run in the transaction that then writes (see `model_names`)."""
        attrs = super().validate(attrs)
        known = {name: getattr(self.instance, name) for name in ("pk", *_NAMES)} if self.instance else {}
        model_names.check(LlmModel(**{**known, **{name: attrs[name] for name in _NAMES if name in attrs}}))
        return attrs
