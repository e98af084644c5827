"""What the catalogue's lists can be narrowed by."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters

from catalog.models import InstanceType, LlmModel, Precision, Provider, Region, SshKey, Zone


class ProviderFilters(filters.FilterSet):
    class Meta:
        model = Provider
        fields = ["name"]


class RegionFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="provider__name", help_text="The provider's name")

    class Meta:
        model = Region
        fields = ["provider", "name"]


class ZoneFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="region__provider__name", help_text="The provider's name")
    region = filters.CharFilter(field_name="region__name", help_text="The region's name")

    class Meta:
        model = Zone
        fields = ["provider", "region", "name"]


class InstanceTypeFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="provider__name", help_text="The provider's name")
    zone = filters.CharFilter(
        field_name="availabilities__zone__name", distinct=True, help_text="The name of a zone that has it"
    )
    vanished = filters.BooleanFilter(
        field_name="vanished_at",
        lookup_expr="isnull",
        exclude=True,
        help_text="Whether its provider no longer lists it anywhere",
    )

    class Meta:
        model = InstanceType
        fields = ["provider", "zone", "name", "gpu_name", "gpu_count", "is_active", "vanished"]


class SshKeyFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="provider__name", help_text="The provider's name")

    class Meta:
        model = SshKey
        fields = ["provider", "name"]


class ModelFilters(filters.FilterSet):
    model_id = filters.CharFilter(help_text="The whole Hugging Face id")
    search = filters.CharFilter(method="having", help_text="A part of the name or of the Hugging Face id")
    precision = filters.ChoiceFilter(choices=Precision.choices)

    class Meta:
        model = LlmModel
        fields = ["model_id", "search", "precision", "is_active"]

    def having(self, rows: QuerySet[LlmModel], name: str, text: str) -> QuerySet[Any]:
        return rows.filter(Q(name__icontains=text) | Q(model_id__icontains=text))
