"""An account at a provider beside the one of the settings: whose machines they are, and who pays."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now

from catalog.models import Provider


class ProviderAccount(models.Model):
    """Where an attempt has no account, it is that of the settings."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="accounts")
    name = models.CharField(max_length=100, help_text="For people: a project, a department")
    credentials = models.TextField(editable=False, help_text="A JSON object, sealed with ENCRYPTION_KEYS")
    is_active = models.BooleanField(default=True, help_text="Whether new machines may be rented from it")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "provider_accounts"
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["provider", "name"], name="provider_accounts_provider_name")]

    def __str__(self) -> str:
        return self.name
