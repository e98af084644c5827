"""Accounts at providers, for admins: who pays for what. Credentials go in by the admin's pages, and nowhere out."""

from __future__ import annotations

from django.db.models import Count, Q
from django_filters import rest_framework as filters
from rest_framework import mixins, serializers, viewsets

from fleet.models import ProviderAccount
from fleet.models.attempt import MAY_BILL


class ProviderAccountSerializer(serializers.ModelSerializer[ProviderAccount]):
    provider = serializers.CharField(source="provider.name")
    live_machines = serializers.IntegerField(help_text="That may cost money now")

    class Meta:
        model = ProviderAccount
        fields = ["id", "provider", "name", "is_active", "live_machines", "created_at", "updated_at"]
        read_only_fields = fields


class ProviderAccountFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="provider__name")

    class Meta:
        model = ProviderAccount
        fields = ["provider", "is_active"]


class ProviderAccountViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ProviderAccount]
):
    """The accounts beside those of the settings."""

    queryset = ProviderAccount.objects.select_related("provider").annotate(
        live_machines=Count("attempts", filter=Q(attempts__outcome__in=sorted(MAY_BILL)))
    )
    serializer_class = ProviderAccountSerializer
    filterset_class = ProviderAccountFilters
    ordering_fields = ["name", "created_at"]
    lookup_value_converter = "uuid"
