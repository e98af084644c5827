"""Deployments: ask for a model, look what it would take, and see what came of it."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from fleet import commands
from fleet.api.actors import actor_of
from fleet.api.filters import DeploymentFilters
from fleet.api.links import link
from fleet.api.orders import DeploymentOrderSerializer
from fleet.api.plans import PlanSerializer, shown
from fleet.api.refusals import refusals
from fleet.api.serializers import AcceptedRequestSerializer, DeploymentDetailSerializer, DeploymentSerializer
from fleet.models import Deployment, DeploymentRequest, Transition

_IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="The same key with the same body never rents twice: the first answer is given again.",
)
_PRINTABLE = re.compile(r"[!-~]{1,255}")


class DeploymentViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Deployment]):
    queryset = Deployment.objects.select_related(
        "model", "request", "instance__provider", "instance__zone", "instance__instance_type"
    )
    serializer_class = DeploymentSerializer
    filterset_class = DeploymentFilters
    ordering_fields = ["created_at"]
    lookup_value_converter = "uuid"
    required_permissions = {"plan": "fleet.view_deployment", "retry": "fleet.add_deployment"}

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return DeploymentDetailSerializer if self.action == "retrieve" else DeploymentSerializer

    @extend_schema(
        request=DeploymentOrderSerializer,
        responses={202: AcceptedRequestSerializer},
        parameters=[_IDEMPOTENCY_KEY],
    )
    def create(self, request: Request) -> Response:
        """Ask for a model on `replicas` instances. They are recorded at once and come up in the background."""
        order, key, now = _order(request), _idempotency_key(request), timezone.now()
        with refusals():
            made = commands.request_deployment(order, actor=actor_of(request), now=now, idempotency_key=key)
        return self._accepted(made, asked_at=now)

    @extend_schema(request=DeploymentOrderSerializer, responses={200: PlanSerializer})
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def plan(self, request: Request) -> Response:
        """The dry run: where the model would go, and of every other offer why not. Nothing is written."""
        with refusals():
            plan = commands.plan_deployment(_order(request))
        return Response(shown(plan))

    @extend_schema(request=None, responses={202: AcceptedRequestSerializer}, parameters=[_IDEMPOTENCY_KEY])
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: uuid.UUID) -> Response:
        """Ask again, with a fresh plan, for what a deployment whose instance is over had asked for."""
        deployment, key, now = self.get_object(), _idempotency_key(request), timezone.now()
        with refusals():
            made = commands.retry_deployment(deployment.pk, actor=actor_of(request), now=now, idempotency_key=key)
        return self._accepted(made, asked_at=now)

    def _accepted(self, made: DeploymentRequest, *, asked_at: datetime) -> Response:
        row = _accepted_requests().get(pk=made.pk)
        answer = AcceptedRequestSerializer(row, context=self.get_serializer_context()).data
        headers = {"Location": self._location(row)}
        if made.idempotency_key is not None and not _made_at(made, asked_at):
            headers["Idempotent-Replayed"] = "true"
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers=headers)

    def _location(self, made: DeploymentRequest) -> str:
        deployments = made.deployments.all()
        if len(deployments) == 1:
            return link(self.request, "deployment-detail", deployments[0].pk)
        return link(self.request, "deployment-list", query={"request_id": made.pk})


def _accepted_requests() -> QuerySet[DeploymentRequest]:
    return DeploymentRequest.objects.select_related("model").prefetch_related("deployments__instance")


def _order(request: Request) -> commands.DeploymentOrder:
    body = DeploymentOrderSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    return body.to_order()


def _idempotency_key(request: Request) -> str | None:
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and not _PRINTABLE.fullmatch(key):
        raise ValidationError({"Idempotency-Key": "It has 1 to 255 printable ASCII characters, without spaces."})
    return key


def _made_at(made: DeploymentRequest, now: datetime) -> bool:
    # The first transition bears the instant at which it was asked for: of an earlier request, another one.
    return Transition.objects.filter(instance__deployment__request=made, from_status="", at=now).exists()
