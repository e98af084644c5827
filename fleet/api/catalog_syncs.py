"""When the catalogue was last brought in line with the providers, and the wish that it be done now."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.models import CatalogSync
from fleet import commands
from fleet.api.actors import actor_of
from fleet.api.orders import NamesField
from fleet.api.refusals import refusals
from routing.api.strict import StrictSerializer


class CatalogSyncOrderSerializer(StrictSerializer):
    """What `POST /catalog/sync` takes."""

    providers = NamesField(help_text="Left out or empty: all that are enabled")


class AcceptedCatalogSyncSerializer(serializers.Serializer[Any]):
    providers = serializers.ListField(child=serializers.CharField(), help_text="Those that will be asked")


class CatalogSyncSerializer(serializers.ModelSerializer[CatalogSync]):
    provider = serializers.CharField(source="provider.name")
    zone = serializers.CharField(
        source="zone.name", allow_null=True, help_text="Null: the list of zones, with which a provider's sync begins"
    )

    class Meta:
        model = CatalogSync
        fields = [
            "id",
            "provider",
            "zone",
            "requested_at",
            "requested_by",
            "tried_at",
            "succeeded_at",
            "error",
            "listed",
            "created",
            "updated",
            "kept",
            "vanished",
            "skipped",
        ]
        read_only_fields = fields


class CatalogSyncFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="provider__name", help_text="The provider's name")
    failed = filters.BooleanFilter(method="having_failed", help_text="Whether the last try failed")

    class Meta:
        model = CatalogSync
        fields = ["provider", "failed"]

    def having_failed(self, rows: QuerySet[CatalogSync], name: str, failed: bool) -> QuerySet[CatalogSync]:
        return rows.exclude(error="") if failed else rows.filter(error="")


class CatalogSyncViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[CatalogSync]):
    """What came of the last sync with each provider: a row for each zone, and one for the list of zones."""

    queryset = CatalogSync.objects.select_related("provider", "zone")
    serializer_class = CatalogSyncSerializer
    filterset_class = CatalogSyncFilters
    ordering_fields = ["tried_at", "succeeded_at"]
    required_permissions = {"create": "catalog.change_instancetype"}

    @extend_schema(request=CatalogSyncOrderSerializer, responses={202: AcceptedCatalogSyncSerializer})
    def create(self, request: Request) -> Response:
        """Ask the providers now for their zones, types, prices and stock. What came of it is in the list."""
        body = CatalogSyncOrderSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data.get("providers", ())
        with refusals():
            providers = commands.request_catalog_sync(asked, actor=actor_of(request), now=timezone.now())
        return Response({"providers": providers}, status=status.HTTP_202_ACCEPTED)
