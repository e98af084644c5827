"""API keys: whoever may use them makes, lists, limits and revokes their own; an admin sees everybody's."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from routing import key_index
from routing.api.serializers import (
    ApiKeySerializer,
    ChangedApiKeySerializer,
    IssuedApiKeySerializer,
    NewApiKeySerializer,
)
from routing.models import ApiKey


class Revoked(APIException):
    status_code = 409
    default_code = "revoked"
    default_detail = "This key is revoked for good: make another one."


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiKey]):
    queryset = ApiKey.objects.select_related("owner")
    serializer_class = ApiKeySerializer
    ordering_fields = ["created_at", "name", "expires_at"]
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[ApiKey]:
        keys = super().get_queryset()
        return keys if self.request.user.is_superuser else keys.filter(owner_id=self.request.user.pk)

    @extend_schema(request=NewApiKeySerializer, responses={201: IssuedApiKeySerializer})
    def create(self, request: Request) -> Response:
        """Make a key. The answer holds the key itself, this once."""
        _refuse_a_limited_key(request)
        asked = NewApiKeySerializer(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        with transaction.atomic():
            row, key = ApiKey.issue(owner_id=_own_id(request), **asked.validated_data)
            transaction.on_commit(lambda: key_index.publish(row), robust=True)
        answer: dict[str, Any] = {**self.get_serializer(row).data, "key": key}
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    @extend_schema(request=ChangedApiKeySerializer, responses=ApiKeySerializer)
    def partial_update(self, request: Request, pk: uuid.UUID) -> Response:
        """Change a key's name or limits. The routers keep to them at once; null takes a limit away."""
        _refuse_a_limited_key(request)
        self.get_object()  # whether it is the caller's to change
        with transaction.atomic():
            row = self.queryset.select_for_update(of=("self",)).get(pk=pk)
            if row.revoked_at is not None:
                raise Revoked
            asked = ChangedApiKeySerializer(row, data=request.data, partial=True)
            asked.is_valid(raise_exception=True)
            asked.save()
            transaction.on_commit(lambda: key_index.publish(row), robust=True)
        return Response(self.get_serializer(row).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: uuid.UUID) -> Response:
        """Revoke a key. Safe to repeat; the row stays, so that it can be seen whose it was."""
        row = self.get_object()
        with transaction.atomic():
            ApiKey.objects.filter(pk=row.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
            transaction.on_commit(lambda: key_index.publish(row), robust=True)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _refuse_a_limited_key(request: Request) -> None:
    """Whoever holds a limited key must not come by another one, or by other limits, with it."""
    if isinstance(request.auth, ApiKey) and request.auth.is_limited:
        raise PermissionDenied("This API key is limited: it makes no keys and changes none.", code="limited_key")


def _own_id(request: Request) -> uuid.UUID:
    return uuid.UUID(str(request.user.pk))
