"""API keys as `Authorization: Bearer`. Only the key's hash is stored, so the lookup is by hash."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from routing.models import ApiKey
from routing.models.api_key import PREFIX, hash_key


class ApiKeyAuthentication(BaseAuthentication):
    """`request.user` is the key's owner and `request.auth` the key, whose scopes the permission checks."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, ApiKey] | None:
        scheme, _, credentials = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None  # another way of logging in, or none
        key = _key(credentials.strip())
        _check_usable(key, timezone.now())
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _key(credentials: bytes) -> ApiKey:
    text = credentials.decode("ascii", errors="replace")
    if not text.startswith(PREFIX):
        raise AuthenticationFailed(f"This is not an API key: one starts with {PREFIX}", code="invalid_key")
    key = ApiKey.objects.select_related("owner").filter(sha256=hash_key(text)).first()
    if key is None:
        raise AuthenticationFailed("This API key is unknown.", code="invalid_key")
    return key


def _check_usable(key: ApiKey, now: datetime) -> None:
    if key.revoked_at is not None:
        raise AuthenticationFailed("This API key has been revoked.", code="revoked_key")
    if key.expires_at is not None and key.expires_at <= now:
        raise AuthenticationFailed("This API key has expired.", code="expired_key")
    if not key.owner.is_active:
        raise AuthenticationFailed("The owner of this API key has been switched off.", code="inactive_owner")


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key with the scopes read and/or write"}
