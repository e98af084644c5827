"""Instances: what is rented, and the wish that one of them end."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from fleet import commands
from fleet.api.actors import actor_of
from fleet.api.filters import InstanceFilters
from fleet.api.serializers import InstanceDetailSerializer, InstanceSerializer
from fleet.models import Instance
from routing.api.strict import StrictSerializer


class EndSerializer(StrictSerializer):
    """The query of `DELETE /instances/{id}`."""

    drain = serializers.BooleanField(default=True)


class InstanceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Instance]):
    queryset = Instance.objects.select_related("provider", "zone__region", "instance_type", "deployment__model")
    serializer_class = InstanceSerializer
    filterset_class = InstanceFilters
    ordering_fields = ["created_at", "status", "price_per_hour"]
    lookup_value_converter = "uuid"
    required_permissions = {"destroy": "fleet.terminate_instance"}

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return InstanceDetailSerializer if self.action == "retrieve" else InstanceSerializer

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        if self.action != "retrieve":
            return rows
        return rows.prefetch_related(
            "transitions",
            "attempts__instance_type",
            "attempts__zone",
            "attempts__account",
            "attempts__rentals",
            "heartbeat_refusals",
        )

    @extend_schema(
        parameters=[
            OpenApiParameter("drain", bool, default=True, description="Whether requests that run may end first")
        ],
        responses={202: InstanceSerializer},
    )
    def destroy(self, request: Request, pk: uuid.UUID) -> Response:
        """Ask for the end of an instance. Safe to repeat; it is over when its status is TERMINATED."""
        instance = self.get_object()
        query = EndSerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        commands.request_termination(
            instance.pk,
            actor=actor_of(request),
            reason="asked for through the API",
            now=timezone.now(),
            drain=query.validated_data["drain"],
        )
        return Response(self.get_serializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED)
