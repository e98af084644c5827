"""One try at creating an instance's machine from one offer."""

from __future__ import annotations

import uuid

from django.db import models

from catalog.models import InstanceType, Zone
from fleet.models.account import ProviderAccount
from fleet.models.instance import Instance
from fleet.providers.base import Handle, Location


class Outcome(models.TextChoices):
    OPEN = "open", "Open: the provider has been or will be asked"
    CREATED = "created", "Created: the machine exists"
    REJECTED = "rejected", "Rejected: the provider refused, nothing exists"
    DESTROYED = "destroyed", "Destroyed: the provider says that nothing of it remains"


# While an attempt is in one of these, a machine of it may exist.
MAY_BILL = frozenset({Outcome.OPEN, Outcome.CREATED})


class Attempt(models.Model):
    # The id is the tag on the machine and the idempotency key of its creation.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="attempts")
    ordinal = models.IntegerField(help_text="1 for the first try")
    instance_type = models.ForeignKey(InstanceType, on_delete=models.PROTECT, related_name="+")
    zone = models.ForeignKey(Zone, on_delete=models.PROTECT, related_name="+")
    account = models.ForeignKey(
        ProviderAccount,
        on_delete=models.PROTECT,
        related_name="attempts",
        null=True,
        help_text="Whose machine it is; empty: the account of the settings",
    )
    account_name = models.CharField(
        max_length=100, blank=True, help_text="Whose machine it was, where that account has been removed since"
    )
    spot = models.BooleanField(default=False, help_text="Cheaper, and the provider may take it back")
    price_per_hour = models.DecimalField(max_digits=12, decimal_places=6)
    currency = models.CharField(max_length=3)

    outcome = models.CharField(max_length=20, choices=Outcome.choices, default=Outcome.OPEN)
    error_code = models.CharField(max_length=50, blank=True, help_text="The provider error's code")
    detail = models.TextField(blank=True, help_text="What the provider said")
    # Committed before each create: with no server_id, somebody asked and the answer is not known.
    asked_at = models.DateTimeField(null=True, blank=True)

    server_id = models.CharField(max_length=255, blank=True, help_text="The machine's id at the provider")
    volume_ids = models.JSONField(default=list)
    ip_ids = models.JSONField(default=list)
    missed_listings = models.IntegerField(default=0, help_text="Whole listings in a row that did not have its machine")
    authorized_keys = models.JSONField(default=list, blank=True, help_text="The public SSH keys that it takes")
    bootstrap_sha256 = models.CharField(max_length=64, blank=True)
    bootstrap_used_at = models.DateTimeField(null=True, blank=True)

    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "attempts"
        ordering = ["instance", "ordinal"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "ordinal"], name="attempts_instance_ordinal"),
            # At most one machine per instance: no second try while the first may still exist.
            models.UniqueConstraint(
                fields=["instance"], condition=models.Q(outcome__in=sorted(MAY_BILL)), name="attempts_one_live"
            ),
            models.CheckConstraint(condition=models.Q(outcome__in=Outcome.values), name="attempts_outcome_known"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.ordinal}"

    def was_in(self, account_id: uuid.UUID | None) -> bool:
        """Whether it was made in that account (None: in that of the settings)."""
        return self.account_id == account_id and not self.account_name

    @property
    def account_in_words(self) -> str:
        if self.account is not None:
            return self.account.name
        return f"{self.account_name} (removed)" if self.account_name else "settings"

    def handle(self, location: Location) -> Handle:
        return Handle(
            server_id=self.server_id,
            location=location,
            volume_ids=tuple(self.volume_ids),
            ip_ids=tuple(self.ip_ids),
        )
