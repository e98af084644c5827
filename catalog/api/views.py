"""The catalogue: everybody reads it, operators keep it up to date. What is in use can't be deleted (409)."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.api import filters
from catalog.api.serializers import (
    AvailabilitySerializer,
    InstanceTypeSerializer,
    ModelSerializer,
    ProviderSerializer,
    RegionSerializer,
    SshKeySerializer,
    ZoneSerializer,
)
from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone


class ModelViewSet(viewsets.ModelViewSet[LlmModel]):
    queryset = LlmModel.objects.all()
    serializer_class = ModelSerializer
    filterset_class = filters.ModelFilters
    ordering_fields = ["name", "model_id", "parameters", "required_vram_gb", "context_length", "updated_at"]
    lookup_value_converter = "uuid"

    # In one transaction each: the names that were found free must be so when they are written.

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            return super().create(request, *args, **kwargs)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with transaction.atomic():
            return super().update(request, *args, **kwargs)


class ProviderViewSet(viewsets.ModelViewSet[Provider]):
    queryset = Provider.objects.all()
    serializer_class = ProviderSerializer
    filterset_class = filters.ProviderFilters
    ordering_fields = ["name"]
    lookup_value_converter = "uuid"


class RegionViewSet(viewsets.ModelViewSet[Region]):
    queryset = Region.objects.select_related("provider")
    serializer_class = RegionSerializer
    filterset_class = filters.RegionFilters
    ordering_fields = ["name"]
    lookup_value_converter = "uuid"


class ZoneViewSet(viewsets.ModelViewSet[Zone]):
    queryset = Zone.objects.select_related("region__provider")
    serializer_class = ZoneSerializer
    filterset_class = filters.ZoneFilters
    ordering_fields = ["name"]
    lookup_value_converter = "uuid"


class InstanceTypeViewSet(viewsets.ModelViewSet[InstanceType]):
    queryset = InstanceType.objects.select_related("provider").prefetch_related(
        Prefetch(
            "availabilities",
            InstanceAvailability.objects.select_related("zone__region").order_by("price_per_hour", "zone__name"),
        )
    )
    serializer_class = InstanceTypeSerializer
    filterset_class = filters.InstanceTypeFilters
    ordering_fields = ["name", "gpu_name", "gpu_count", "vram_per_gpu_gb"]
    lookup_value_converter = "uuid"
    required_permissions = {
        "offer": "catalog.change_instanceavailability",
        "withdraw": "catalog.delete_instanceavailability",
    }

    @extend_schema(request=AvailabilitySerializer, responses=AvailabilitySerializer)
    @action(detail=True, methods=["put"], url_path="availability/<uuid:zone_id>")
    def offer(self, request: Request, pk: uuid.UUID, zone_id: uuid.UUID) -> Response:
        """Say that a zone has the type, at what price and with what stock."""
        instance_type: InstanceType = self.get_object()
        zone = get_object_or_404(Zone.objects.select_related("region"), pk=zone_id)
        if zone.region.provider_id != instance_type.provider_id:
            raise serializers.ValidationError({"zone_id": ["This zone is another provider's."]}, code="mismatch")
        row = InstanceAvailability.objects.filter(instance_type=instance_type, zone=zone).first()
        serializer = AvailabilitySerializer(row, data=request.data)
        serializer.is_valid(raise_exception=True)
        serializer.save(instance_type=instance_type, zone=zone)
        return Response(serializer.data, status=status.HTTP_200_OK)

    @extend_schema(responses={204: None})
    @offer.mapping.delete
    def withdraw(self, request: Request, pk: uuid.UUID, zone_id: uuid.UUID) -> Response:
        """Say that a zone does not have the type any more. Machines that run there go on."""
        get_object_or_404(InstanceAvailability, instance_type=self.get_object(), zone_id=zone_id).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class SshKeyViewSet(viewsets.ModelViewSet[SshKey]):
    queryset = SshKey.objects.select_related("provider")
    serializer_class = SshKeySerializer
    filterset_class = filters.SshKeyFilters
    ordering_fields = ["name", "created_at"]
    lookup_value_converter = "uuid"

    def perform_create(self, serializer: serializers.BaseSerializer[Any]) -> None:
        # The database sets created_at.
        serializer.save().refresh_from_db()
