"""A public key that is put on the machines of a provider."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now

from catalog.models.provider import Provider


class SshKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=50)
    public_key = models.TextField(help_text="One line, as in id_ed25519.pub")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="ssh_keys")
    provider_key_id = models.CharField(max_length=255, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "ssh_keys"
        ordering = ["name"]
        verbose_name = "SSH key"

    def __str__(self) -> str:
        return self.name
