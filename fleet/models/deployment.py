"""A model placed on an instance, and the request that asked for it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from catalog.models import LlmModel
from fleet.models.instance import Instance


class DeploymentRequest(models.Model):
    """What was asked, by whom, and the plan that was chosen: one row per accepted `POST /deployments`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(LlmModel, on_delete=models.PROTECT, related_name="requests")
    replicas = models.IntegerField(default=1)
    context_length = models.IntegerField(help_text="Tokens that one sequence may have")
    concurrency = models.IntegerField(help_text="Sequences of that length that the KV cache must hold at once")
    limits = models.JSONField(default=dict, help_text="providers, regions, zones, instance_types, max_price_per_hour")
    plan = models.JSONField(help_text="The ranked offers and, for every offer left out, the reason")
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    actor = models.CharField(max_length=255, help_text="In words: an e-mail, a key's name, a command")
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of what was asked")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "deployment_requests"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["requested_by", "idempotency_key"], name="deployment_requests_rent_once"),
            models.CheckConstraint(condition=models.Q(replicas__gte=1), name="deployment_requests_replicas"),
        ]

    def __str__(self) -> str:
        return f"request {str(self.id)[:8]}"


class Deployment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request = models.ForeignKey(DeploymentRequest, on_delete=models.PROTECT, related_name="deployments")
    model = models.ForeignKey(LlmModel, on_delete=models.PROTECT, related_name="deployments")
    instance = models.OneToOneField(Instance, on_delete=models.PROTECT, related_name="deployment")
    replaces = models.OneToOneField(
        Instance,
        on_delete=models.PROTECT,
        related_name="replacement",
        null=True,
        help_text="The instance that the provider took back, or that was lost, and that this one stands in for",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "deployments"
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["-created_at"], name="deployments_newest")]

    def __str__(self) -> str:
        return f"deployment {str(self.id)[:8]}"
