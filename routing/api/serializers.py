"""API keys as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from routing.api.strict import StrictSerializer
from routing.models import ApiKey
from routing.models.api_key import LIMITS, Scope


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """Never the key itself: it is not kept."""

    owner = serializers.CharField(source="owner.email", help_text="The owner's e-mail address")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "prefix",
            "scopes",
            "owner",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
            *LIMITS,
        ]
        read_only_fields = fields


class IssuedApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(help_text="The key itself. It is shown this once and not kept: save it now.")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


class ChangedApiKeySerializer(StrictSerializer, serializers.ModelSerializer[ApiKey]):
    name = serializers.CharField(max_length=100, help_text="What it is for")

    class Meta:
        model = ApiKey
        fields = ["name", *LIMITS]

    def validate_allowed_models(self, ids: list[str]) -> list[str]:
        return sorted(set(ids))


class NewApiKeySerializer(ChangedApiKeySerializer):
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), min_length=1, max_length=len(Scope.values)
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Null: never")

    class Meta(ChangedApiKeySerializer.Meta):
        fields = ["name", "scopes", "expires_at", *LIMITS]

    def validate_scopes(self, scopes: list[str]) -> list[str]:
        return sorted(set(scopes))

    def validate_expires_at(self, expires_at: datetime | None) -> datetime | None:
        if expires_at is not None and expires_at <= timezone.now():
            raise serializers.ValidationError("This instant has passed.", code="past")
        return expires_at

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        made_with = self.context["request"].auth
        ceiling = made_with.expires_at if isinstance(made_with, ApiKey) else None
        asked = attrs.get("expires_at")
        if ceiling is not None and (asked is None or asked > ceiling):
            words = f"A key made with a key must not outlive it: {ceiling.isoformat()} at the latest."
            raise serializers.ValidationError({"expires_at": [words]}, code="outlives")
        return attrs
