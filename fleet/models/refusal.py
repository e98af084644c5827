"""Refusals that are remembered: of a provider, for its quota; of a worker, by the router."""

from __future__ import annotations

from django.db import models

from catalog.models import InstanceType
from fleet.models.account import ProviderAccount
from fleet.models.instance import Instance


class QuotaRefusal(models.Model):
    """The account may not have more of the type: it is not asked again for a while."""

    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="quota_refusals", null=True)
    instance_type = models.ForeignKey(InstanceType, on_delete=models.CASCADE, related_name="quota_refusals")
    refused_at = models.DateTimeField()

    class Meta:
        db_table = "quota_refusals"
        ordering = ["-refused_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "instance_type"], nulls_distinct=False, name="quota_refusals_account_type"
            )
        ]

    def __str__(self) -> str:
        return f"no quota for {self.instance_type}"


class HeartbeatRefusal(models.Model):
    """Somebody spoke for an instance with a token, or from an address, that is not its own."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="heartbeat_refusals")
    reason = models.CharField(
        max_length=20, help_text="token or address (of a heartbeat), or bootstrap (from elsewhere)"
    )
    address = models.GenericIPAddressField(help_text="Where it came from")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    times = models.IntegerField(default=1)

    class Meta:
        db_table = "heartbeat_refusals"
        ordering = ["-last_at"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "reason", "address"], name="heartbeat_refusals_once")
        ]

    def __str__(self) -> str:
        return f"heartbeat from {self.address} refused"
