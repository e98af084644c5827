"""A key with which a program calls the control plane or, with the scope `inference`, the router."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

PREFIX = "inv_"
_SHOWN = 12  # characters of a key that may be shown again: enough to tell two keys apart, useless to guess the rest


class Scope(models.TextChoices):
    INFERENCE = "inference", "Inference: call models through the router"
    READ = "read", "Read: see what the owner may see"
    WRITE = "write", "Write: do what the owner may do"


def hash_key(key: str) -> str:
    """SHA-256 in hex. A key has 256 random bits, so a plain fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def usable(self, now: datetime) -> ApiKeyQuerySet:
        not_expired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now)
        return self.filter(not_expired, revoked_at__isnull=True, owner__is_active=True)


class ApiKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=_SHOWN, editable=False)
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=20, choices=Scope.choices))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        db_table = "api_keys"
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(
        cls, *, owner_id: uuid.UUID, name: str, scopes: list[str], expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key. Returns the row and the key itself, which is not kept: show it once."""
        key = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            owner_id=owner_id,
            name=name,
            prefix=key[:_SHOWN],
            sha256=hash_key(key),
            scopes=scopes,
            expires_at=expires_at,
        )
        return row, key
