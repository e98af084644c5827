"""API keys: whoever may use them makes, lists and revokes their own; an admin sees everybody's."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from routing import key_index
from routing.api.serializers import ApiKeySerializer, IssuedApiKeySerializer, NewApiKeySerializer
from routing.models import ApiKey


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
        asked = NewApiKeySerializer(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        with transaction.atomic():
            row, key = ApiKey.issue(owner_id=_own_id(request), **asked.validated_data)
            transaction.on_commit(lambda: key_index.publish(row), robust=True)
        answer: dict[str, Any] = {**self.get_serializer(row).data, "key": key}
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: uuid.UUID) -> Response:
        """Revoke a key. Safe to repeat; the row stays, so that it can be seen whose it was."""
        row = self.get_object()
        with transaction.atomic():
            ApiKey.objects.filter(pk=row.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
            transaction.on_commit(lambda: key_index.withdraw(row), robust=True)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _own_id(request: Request) -> uuid.UUID:
    return uuid.UUID(str(request.user.pk))
