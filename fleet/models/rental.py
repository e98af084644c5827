"""The ledger: each thing that a provider bills us for, from its creation to its confirmed absence."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

from django.db import models

from catalog.models import Provider, Zone
from fleet.models.account import ProviderAccount
from fleet.models.attempt import Attempt
from fleet.providers.base import ResourceKind

_SECONDS_PER_HOUR = 3600


class Kind(models.TextChoices):
    SERVER = ResourceKind.SERVER.value, "Server"
    VOLUME = ResourceKind.VOLUME.value, "Volume"
    IP = ResourceKind.IP.value, "Address"


class Rental(models.Model):
    """A server, a volume or an address. All that a fleet costs is the sum of these rows."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    account = models.ForeignKey(ProviderAccount, on_delete=models.PROTECT, related_name="rentals", null=True)
    account_name = models.CharField(
        max_length=100, blank=True, help_text="Who paid, where that account has been removed since"
    )
    zone = models.ForeignKey(Zone, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    resource_id = models.CharField(max_length=255, help_text="Its id at the provider")
    attempt = models.ForeignKey(
        Attempt,
        on_delete=models.PROTECT,
        related_name="rentals",
        null=True,
        help_text="The try that it was made for; empty for what a sweep found and no row knows",
    )
    price_per_hour = models.DecimalField(
        max_digits=14, decimal_places=8, null=True, help_text="Empty: the catalogue has no price for it"
    )
    currency = models.CharField(max_length=3, blank=True)
    since = models.DateTimeField(help_text="When the provider made it, by its own word where it says so")
    until = models.DateTimeField(null=True, help_text="When the provider said that it is gone; empty: it bills")

    class Meta:
        db_table = "rentals"
        ordering = ["-since"]
        indexes = [models.Index(fields=["zone"], condition=models.Q(until=None), name="rentals_running")]
        constraints = [
            models.UniqueConstraint(fields=["provider", "kind", "resource_id"], name="rentals_resource"),
            models.CheckConstraint(condition=models.Q(kind__in=Kind.values), name="rentals_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.resource_id}"

    def cost(self, now: datetime) -> Decimal:
        """What it has cost up to `now`, in its currency; an unknown price counts as nothing."""
        seconds = Decimal(((self.until or now) - self.since).total_seconds())
        return (self.price_per_hour or Decimal(0)) * max(seconds, Decimal(0)) / _SECONDS_PER_HOUR
