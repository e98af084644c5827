"""Who am I, and what may I do?"""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey
from routing.models.api_key import Scope


class MeSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        allow_null=True,
        help_text="Of the API key in use; null in a session, which nothing but the role limits",
    )


class MeView(APIView):
    required_permissions = {"get": None}

    @extend_schema(responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who is logged in, and with which rights."""
        scopes = request.auth.scopes if isinstance(request.auth, ApiKey) else None
        user = cast("User", request.user)  # RolePermission lets nobody else pass
        return Response(MeSerializer({"id": user.pk, "email": user.email, "role": user.role, "scopes": scopes}).data)
