"""When the inventory of each account and zone was last compared with the rows."""

from __future__ import annotations

import uuid

from django.db import models

from catalog.models import Zone
from fleet.models.account import ProviderAccount


class Sweep(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="sweeps", null=True)
    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="sweeps")
    swept_at = models.DateTimeField(null=True, help_text="The last listing, whole or not")
    complete_at = models.DateTimeField(null=True, help_text="The last listing that was whole")
    servers = models.IntegerField(default=0, help_text="Servers of ours in the last whole listing")
    last_error = models.TextField(blank=True)

    next_attempt_at = models.DateTimeField()
    lock_token = models.UUIDField(null=True)
    lock_expires_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sweeps"
        ordering = ["zone"]
        constraints = [
            models.UniqueConstraint(fields=["account", "zone"], nulls_distinct=False, name="sweeps_account_zone")
        ]

    def __str__(self) -> str:
        return f"sweep of {self.zone}"
