"""When the inventory of each account and zone was last compared with the rows."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now

from catalog.models import Zone
from fleet.models.account import ProviderAccount
from fleet.models.lease import Leased


class Sweep(Leased):
    """A place that is swept: an account (none: that of the settings) in a zone."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="sweeps", null=True)
    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="sweeps")
    known_since = models.DateTimeField(db_default=Now(), help_text="Since when there is something to sweep")
    swept_at = models.DateTimeField(null=True, help_text="When the last listing began, whole or not")
    complete_at = models.DateTimeField(null=True, help_text="When the last listing that was whole began")
    servers = models.IntegerField(default=0, help_text="Servers of ours in the last whole listing")
    last_error = models.TextField(blank=True)

    next_attempt_at = models.DateTimeField()

    class Meta:
        db_table = "sweeps"
        ordering = ["zone"]
        constraints = [
            models.UniqueConstraint(fields=["account", "zone"], nulls_distinct=False, name="sweeps_account_zone")
        ]

    def __str__(self) -> str:
        return f"sweep of {self.zone}" + (f" in {self.account}" if self.account else "")
